import Glibc
public import HoldfastCrypto
public import HoldfastTPMWire

/// A sequence of commands to one TPM.
///
/// It builds commands, proves and checks sessions, gives every slot back, and trusts no byte of an
/// answer. Not Sendable: use it from one thread; a TPM executes one command at a time anyway.
///
/// TPM 2.0 Library, Part 1, section 18 "Command/Response Structure" and 19 "Authorizations".
public final class TPMConnection {
    private let transport: any TPMTransport
    let random: RandomSource
    /// What occupies a slot because of us.
    private var occupied: Set<TPMHandle> = []
    /// A response that should have named a handle could not be read.
    private var mayHaveLeaked = false
    /// The transport failed in this transaction: what it should have flushed may still be there.
    private var transportFailed = false
    /// In this transaction others' remains were flushed already; it helps once or not at all.
    private var hasMadeRoom = false
    /// The session in which the TPM vouches for what is read, if there is one.
    private(set) var vouching: [Authorization] = []

    /// - Parameter random: for nonces and salts.
    public init(_ transport: any TPMTransport, random: RandomSource) {
        self.transport = transport
        self.random = random
    }

    deinit { close() }

    /// How often a command is sent again that the TPM asked to send again.
    static let maximumResends = 40

    /// Runs a sequence of commands and gives the TPM back at its end.
    public func transaction<R: ~Copyable>(
        _ body: (TPMConnection) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        defer { endTransaction() }
        return try body(self)
    }

    /// Flushes what is left over and lets others use the TPM.
    public func endTransaction() {
        if transportFailed {
            // A transport that can find the TPM again does so for the next command.
            transport.endTransaction()
            transportFailed = false
        }
        for handle in occupied where !transportFailed { try? flush(handle) }
        occupied = []
        if mayHaveLeaked { reclaim() }
        mayHaveLeaked = false
        transportFailed = false
        hasMadeRoom = false
        transport.endTransaction()
    }

    /// Flushes what is left over and closes the way to the TPM.
    public func close() {
        endTransaction()
        transport.close()
    }

    /// Whether a resource manager keeps the objects of different users apart.
    public var hasResourceManager: Bool { transport.hasResourceManager }

    /// How many slots of the TPM are in use because of this connection.
    public var occupiedSlots: Int { occupied.count }

    /// Flushes every transient object and loaded session that a raw TPM lists.
    ///
    /// Done after an answer whose handle could not be trusted: that is the only way to a slot whose
    /// handle is lost. A resource manager takes everything back when the connection ends, and lists the
    /// sessions of others; saved sessions are of somebody who comes back for them.
    private func reclaim() {
        mayHaveLeaked = false
        guard !transport.hasResourceManager else { return }
        for first in [0x8000_0000, 0x0200_0000] as [UInt32] where !transportFailed {
            guard let page = try? run(GetCapabilityCommand(.handles, from: first, count: 64)),
                case .handles(let handles) = page.page
            else { continue }
            for handle in handles where !transportFailed { try? flush(handle) }
        }
    }

    /// Flushes what lies in a full TPM and is not ours.
    ///
    /// On a raw TPM that is what a process left that was killed, or what an answer hid that was
    /// turned into an error. While this process holds the TPM nobody else is in the middle of
    /// something. Saved sessions stay: they take no slot, and somebody may come back for them.
    ///
    /// - Returns: whether something was flushed.
    private func makeRoom() -> Bool {
        guard !transport.hasResourceManager, !hasMadeRoom else { return false }
        hasMadeRoom = true
        var flushed = false
        for first in [0x8000_0000, 0x0200_0000] as [UInt32] where !transportFailed {
            guard let page = try? run(GetCapabilityCommand(.handles, from: first, count: 64)),
                case .handles(let handles) = page.page
            else { continue }
            for handle in handles
            where (handle.isTransient || handle.isSession) && !occupied.contains(handle)
                && !transportFailed
            {
                if (try? run(FlushContextCommand(handle))) != nil { flushed = true }
            }
        }
        return flushed
    }

    // MARK: Slots

    func occupy(_ handle: TPMHandle) { occupied.insert(handle) }

    func flush(_ handle: TPMHandle) throws(TPMError) {
        do throws(TPMError) {
            try run(FlushContextCommand(handle))
            occupied.remove(handle)
        } catch {
            // Whoever ends the transaction tries once more when nobody answered.
            if !transportFailed {
                // Nothing is there: the handle that we were told was not the one that was given.
                occupied.remove(handle)
                mayHaveLeaked = true
            }
            throw error
        }
    }

    func release(_ session: AuthSession) {
        if session.ended {
            occupied.remove(session.handle)
        } else {
            try? flush(session.handle)
        }
    }

    // MARK: Commands

    /// Executes a command.
    ///
    /// - Parameters:
    ///   - authorizations: one for each handle that needs one; further ones are sessions that only
    ///     protect.
    ///   - encryptingCommand: encrypts the first parameter in the first salted session; throws
    ///     `.invalidRequest` when there is none. There is no fallback to clear text.
    /// - Throws: ``TPMError``; `.refused` carries the TPM's code.
    @discardableResult
    public func run<C: TPMCommand>(
        _ command: C, _ authorizations: [Authorization] = [], encryptingCommand: Bool = false
    ) throws(TPMError) -> C.Response {
        if authorizations.isEmpty, C.authorizationCount == 0, !encryptingCommand {
            return try runBare(command)
        }
        let answer = try execute(
            command, authorizations, encryptCommand: encryptingCommand, encryptResponse: false)
        var reader = WireReader(answer.parameters)
        do throws(WireError) {
            let response = try C.decode(handle: answer.handle, parameters: &reader)
            try reader.finish()
            return response
        } catch {
            if C.returnsHandle { mayHaveLeaked = true }
            throw .malformed(error, command: C.code)
        }
    }

    /// Lets the TPM vouch for what is read meanwhile: PCRs, and the public areas of objects and
    /// indexes.
    ///
    /// - Parameter key: a decryption key whose Name is known, to salt the session to: the answers are as
    ///   good as that Name.
    ///
    /// Part 1, section 17.7 "Audit Session".
    func vouched<R: ~Copyable>(
        for key: LoadedObject, _ body: (TPMConnection) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        try withSession(.hmac, hash: .sha256, salt: .key(key)) { (session) throws(TPMError) in
            vouching = [.audit(session)]
            defer { vouching = [] }
            return try body(self)
        }
    }

    /// A command without any session: most policy commands, at the cost of a round trip.
    private func runBare<C: TPMCommand>(_ command: C) throws(TPMError) -> C.Response {
        var writer = WireWriter(capacity: 128)
        writer.uint16(0x8001)
        writer.uint32(0)
        writer.uint32(C.code.rawValue)
        for handle in command.handles { writer.uint32(handle.handle.rawValue) }
        command.encodeParameters(into: &writer)
        writer.patch(UInt32(writer.bytes.count), at: 2)
        let response = try send(writer.bytes, C.self)
        var reader = WireReader(response)
        do throws(WireError) {
            let handle = try openHeader(&reader, response, 0x8001, C.self)
            let value = try C.decode(handle: handle, parameters: &reader)
            try reader.finish()
            return value
        } catch {
            if C.returnsHandle { mayHaveLeaked = true }
            throw .malformed(error, command: C.code)
        }
    }

    /// Reads tag, size, code and handle of a successful response.
    private func openHeader<C: TPMCommand>(
        _ reader: inout WireReader, _ response: [UInt8], _ expectedTag: UInt16, _: C.Type
    ) throws(WireError) -> TPMHandle {
        let tag = try reader.uint16()
        guard tag == expectedTag else {
            throw .unknownValue(field: "tag", value: UInt64(tag))
        }
        guard Int(try reader.uint32()) == response.count else {
            throw .sizeMismatch(field: "responseSize")
        }
        _ = try reader.uint32()
        guard C.returnsHandle else { return .null }
        let handle = TPMHandle(rawValue: try reader.uint32())
        if handle.isTransient || handle.isSession { occupy(handle) }
        return handle
    }

    /// Executes a command whose first and only response parameter is a secret.
    ///
    /// The TPM encrypts it in the first salted session; there is no fallback to clear text.
    ///
    /// - Returns: the content of the `TPM2B`, in guarded memory from decryption on.
    public func runForSecret<C: TPMCommand>(
        _ command: C, _ authorizations: [Authorization]
    ) throws(TPMError) -> SecretBytes {
        let answer = try execute(
            command, authorizations, encryptCommand: false, encryptResponse: true)
        let bytes = answer.parameters
        guard let cipher = answer.cipher, bytes.count >= 2,
            Int(bytes[0]) << 8 | Int(bytes[1]) == bytes.count - 2
        else {
            throw .malformed(.sizeMismatch(field: "secret"), command: C.code)
        }
        do {
            return try AESCFB.decrypt([UInt8](bytes[2...]), key: cipher.key, iv: cipher.iv)
        } catch {
            throw TPMError(.invalidRequest, "the session has no cipher")
        }
    }

    private struct Answer {
        var handle = TPMHandle.null
        var parameters: [UInt8]
        var cipher: (key: SymmetricSecret, iv: [UInt8])?
    }

    /// A session in one command: who, with what, and its fresh nonce.
    private struct Use {
        let session: AuthSession?
        let authValue: SymmetricSecret
        let nonceCaller: [UInt8]
        var attributes: SessionAttributes
    }

    private func execute<C: TPMCommand>(
        _ command: C, _ authorizations: [Authorization], encryptCommand: Bool,
        encryptResponse: Bool
    ) throws(TPMError) -> Answer {
        guard authorizations.count >= C.authorizationCount, authorizations.count <= 3 else {
            throw TPMError(
                .invalidRequest, "the command needs \(C.authorizationCount) authorizations",
                command: C.code.specificationName)
        }
        var uses = authorizations.map(use)
        let cipherIndex = uses.firstIndex { $0.session?.isSalted == true }
        if encryptCommand || encryptResponse {
            guard let index = cipherIndex else {
                throw TPMError(
                    .invalidRequest, "a secret parameter needs a salted session",
                    command: C.code.specificationName)
            }
            if encryptResponse { uses[index].attributes.insert(.encrypt) }
            if encryptCommand { uses[index].attributes.insert(.decrypt) }
        }
        let parameters =
            encryptCommand ? try hidden(command, uses, cipherIndex) : encoded(command)
        let protecting = encryptCommand || encryptResponse ? cipherIndex : nil
        var request = assemble(command, parameters, uses, protecting: protecting)
        // A password stands in it as it is.
        defer { wipe(&request) }
        let response = try send(request, C.self)
        return try open(response, C.self, uses, protecting: protecting, encrypted: encryptResponse)
    }

    private func encoded(_ command: some TPMCommand) -> [UInt8] {
        var writer = WireWriter(capacity: 256)
        command.encodeParameters(into: &writer)
        return writer.bytes
    }

    private func use(_ authorization: Authorization) -> Use {
        switch authorization.kind {
        case .password(let value):
            return Use(
                session: nil, authValue: value, nonceCaller: [], attributes: .continueSession)
        case .session(let session, let authValue, let attributes):
            return Use(
                session: session, authValue: authValue,
                nonceCaller: session.isSalted || session.kind == .hmac
                    ? random.bytes(AuthSession.nonceSize) : [], attributes: attributes)
        }
    }

    /// The parameters, the first of them encrypted from guarded memory.
    private func hidden(
        _ command: some TPMCommand, _ uses: [Use], _ cipherIndex: Int?
    ) throws(TPMError) -> [UInt8] {
        guard let command = command as? any SecretParameterCommand, let cipherIndex,
            let session = uses[cipherIndex].session
        else {
            throw TPMError(.invalidRequest, "the command has no parameter to encrypt")
        }
        let use = uses[cipherIndex]
        let cipher = session.cipher(
            authValue: use.authValue, nonceNewer: use.nonceCaller, nonceOlder: session.nonceTPM)
        var writer = WireWriter(capacity: 512)
        do {
            writer.sized(
                try command.secretParameter.withBytes { (secret) throws(AESCFB.ParameterError) in
                    try AESCFB.encrypt(secret, key: cipher.key, iv: cipher.iv)
                })
        } catch {
            throw TPMError(.invalidRequest, "the session has no cipher")
        }
        command.encodeRest(into: &writer)
        return writer.bytes
    }

    private func assemble<C: TPMCommand>(
        _ command: C, _ parameters: [UInt8], _ uses: [Use], protecting: Int?
    ) -> [UInt8] {
        let handles = command.handles
        var writer = WireWriter(capacity: parameters.count + 256)
        writer.uint16(0x8002)
        writer.uint32(0)
        writer.uint32(C.code.rawValue)
        for handle in handles { writer.uint32(handle.handle.rawValue) }
        var digests: [HashAlgorithm: [UInt8]] = [:]
        var area = WireWriter(capacity: 160)
        for (index, use) in uses.enumerated() {
            let code: [UInt8]
            if let session = use.session {
                if session.needsHMAC(use.authValue) {
                    let digest =
                        digests[session.hash]
                        ?? commandDigest(C.code, handles, parameters, session.hash)
                    digests[session.hash] = digest
                    code = session.hash.hmac(
                        key: session.hmacKey(use.authValue), digest, use.nonceCaller,
                        session.nonceTPM,
                        otherNonce(uses, index, protecting), [use.attributes.rawValue])
                } else {
                    code = []
                }
                area.uint32(session.handle.rawValue)
            } else {
                code = use.authValue.copyBytes()
                area.uint32(TPMHandle.passwordSession.rawValue)
            }
            area.sized(use.nonceCaller)
            area.uint8(use.attributes.rawValue)
            area.sized(code)
        }
        writer.uint32(UInt32(area.bytes.count))
        writer.raw(area.bytes)
        writer.raw(parameters)
        writer.patch(UInt32(writer.bytes.count), at: 2)
        return writer.bytes
    }

    /// `cpHash`, Part 1, section 18.7.
    private func commandDigest(
        _ code: CommandCode, _ handles: [EntityReference], _ parameters: [UInt8],
        _ hash: HashAlgorithm
    ) -> [UInt8] {
        var head = WireWriter(capacity: 160)
        head.uint32(code.rawValue)
        for handle in handles { head.raw(handle.name.bytes) }
        return hash.digest(head.bytes, parameters)
    }

    /// The first session also covers the nonce of another session that encrypts.
    ///
    /// Part 1, section 19.6.5: nonceTPM_decrypt and nonceTPM_encrypt.
    private func otherNonce(_ uses: [Use], _ index: Int, _ protecting: Int?) -> [UInt8] {
        guard index == 0, let protecting, protecting != 0 else { return [] }
        return uses[protecting].session?.nonceTPM ?? []
    }

    private func send<C: TPMCommand>(
        _ request: [UInt8], _: C.Type
    ) throws(TPMError) -> [UInt8] {
        do throws(TPMError) {
            return try resending(request, C.code)
        } catch {
            // The TPM may have made what its mangled answer does not tell.
            if C.returnsHandle, error.code != .refused { mayHaveLeaked = true }
            throw error
        }
    }

    private func resending(
        _ request: [UInt8], _ code: CommandCode
    ) throws(TPMError) -> [UInt8] {
        for attempt in 0..<Self.maximumResends {
            let response: [UInt8]
            do {
                response = try transport.exchange(request)
            } catch {
                transportFailed = true
                throw TPMError(error, command: code)
            }
            guard response.count >= 10 else { throw .malformed(.truncated, command: code) }
            let returnCode = ReturnCode(
                rawValue: response[6..<10].reduce(0) { $0 << 8 | UInt32($1) })
            if returnCode == .success { return response }
            // An error has no parameters and no sessions, and nothing proves it.
            guard response.count == 10 else {
                throw .malformed(.trailingBytes(response.count - 10), command: code)
            }
            if case .below(let layer) = returnCode.layer {
                throw TPMError(
                    .unreachable, "layer \(layer) between us and the TPM failed",
                    command: code.specificationName, returnCode: returnCode)
            }
            if returnCode.saysFull, makeRoom() { continue }
            guard returnCode.asksToResend else { throw .refused(returnCode, by: code) }
            // Nothing was executed, the nonces did not move: the same bytes go again.
            if attempt >= 3 { usleep(UInt32(attempt) * 2000) }
        }
        throw TPMError(
            .timedOut, "the TPM kept asking to send the command again",
            command: code.specificationName)
    }

    private func open<C: TPMCommand>(
        _ response: [UInt8], _: C.Type, _ uses: [Use], protecting: Int?, encrypted: Bool
    ) throws(TPMError) -> Answer {
        var answer = Answer(parameters: [])
        var reader = WireReader(response)
        do throws(WireError) {
            answer.handle = try openHeader(&reader, response, 0x8002, C.self)
            let size = Int(try reader.uint32())
            answer.parameters = try reader.bytes(size)
        } catch {
            mayHaveLeaked = mayHaveLeaked || C.returnsHandle
            throw .malformed(error, command: C.code)
        }
        do throws(TPMError) {
            try checkSessions(&reader, answer.parameters, C.code, uses, protecting: protecting)
        } catch {
            mayHaveLeaked = mayHaveLeaked || C.returnsHandle
            throw error
        }
        if encrypted, let protecting, let session = uses[protecting].session {
            answer.cipher = session.cipher(
                authValue: uses[protecting].authValue, nonceNewer: session.nonceTPM,
                nonceOlder: uses[protecting].nonceCaller)
        }
        return answer
    }

    /// Checks every session of a response; nothing of it is used before.
    private func checkSessions(
        _ reader: inout WireReader, _ parameters: [UInt8], _ code: CommandCode, _ uses: [Use],
        protecting: Int?
    ) throws(TPMError) {
        for use in uses {
            let nonceTPM: [UInt8]
            let attributes: UInt8
            let code256: [UInt8]
            do throws(WireError) {
                nonceTPM = try reader.sized("nonceTPM", maximum: 64)
                attributes = try reader.uint8()
                code256 = try reader.sized("hmac", maximum: 64)
            } catch {
                throw .malformed(error, command: code)
            }
            guard let session = use.session else { continue }
            if session.needsHMAC(use.authValue) {
                // rpHash, Part 1, section 18.8; the return code is zero here.
                var head = WireWriter(capacity: 8)
                head.uint32(0)
                head.uint32(code.rawValue)
                let digest = session.hash.digest(head.bytes, parameters)
                let expected = session.hash.hmac(
                    key: session.hmacKey(use.authValue), digest, nonceTPM, use.nonceCaller,
                    [attributes])
                // Of an audit session the TPM says whether it is the only one: Part 2, section 8.4.
                let said = SessionAttributes(rawValue: attributes)
                let isAsSent =
                    said == use.attributes
                    || use.attributes.contains(.audit)
                        && said == use.attributes.union(.auditExclusive)
                guard isAsSent,
                    nonceTPM.count >= AuthSession.nonceSize,
                    constantTimeEqual(expected, code256)
                else {
                    throw TPMError(
                        .responseNotAuthentic, "the TPM's answer is not authentic",
                        command: code.specificationName)
                }
            }
            session.nonceTPM = nonceTPM
            if !use.attributes.contains(.continueSession) {
                session.ended = true
                occupied.remove(session.handle)
            }
        }
        do throws(WireError) { try reader.finish() } catch {
            throw .malformed(error, command: code)
        }
    }
}

extension TPMError {
    /// The same failure, with the command that met it.
    ///
    /// Where no TPM is there, the command says nothing.
    init(_ error: TPMError, command: CommandCode) {
        guard error.code != .unreachable, error.code != .busy else {
            self = error
            return
        }
        self = TPMError(
            error.code, error.detailText, command: command.specificationName,
            returnCode: error.returnCode)
    }
}
