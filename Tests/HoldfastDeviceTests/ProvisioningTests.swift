import HoldfastCrypto
import HoldfastDevice
import HoldfastProtocol
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// Spoils one answer of one command, which the TPM has executed.
private final class SpoilingTransport: TPMTransport {
    private let inner: any TPMTransport
    private let code: CommandCode
    /// How many of them are let through before.
    private var left: Int

    init(_ inner: any TPMTransport, _ code: CommandCode, after count: Int) {
        (self.inner, self.code, left) = (inner, code, count)
    }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        var response = try inner.exchange(command)
        if CommandCode(rawValue: command[6..<10].reduce(0) { $0 << 8 | UInt32($1) }) == code {
            if left == 0, let last = response.indices.last { response[last] ^= 1 }
            left -= 1
        }
        return response
    }

    func endTransaction() { inner.endTransaction() }
    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}

@Suite("provisioning", .timeLimit(.minutes(20)))
final class ProvisioningTests {
    private let tpm: TransientTPM
    private let vendor = VendorID(rootKey: Ed25519PrivateKey.generate(random: .system).publicKey)
    private let auth = RandomSource.system.bytes(32)
    private let salt = RandomSource.system.bytes(16)

    private var connection: TPMConnection { tpm.connection }
    private var provisioning: Provisioning { Provisioning(connection) }

    init() throws { tpm = try TransientTPM(.documented) }

    private func provision(_ vendor: VendorID? = nil) throws(TPMError) -> ProvisionedTPM {
        try connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try provisioning.provision(
                vendorID: vendor ?? self.vendor, salt: salt, counterAuth: auth, endorsementKey: ek)
        }
    }

    private func request(_ provisioned: ProvisionedTPM) throws -> EnrollmentRequest {
        let certificate = try #require(try connection.endorsementCertificate(.eccP384))
        let ek = try connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            ek.publicArea
        }
        return try provisioning.request(
            for: provisioned, vendorID: vendor, endorsementKey: ek, certificate: certificate,
            hardwareFacts: [[UInt8](repeating: 1, count: 32), [UInt8](repeating: 2, count: 32)])
    }

    @Test("parent and counters are what the templates say, and nothing is left over")
    func provisions() throws {
        let made = try provision()
        #expect(made.slot.number == 0)
        let unique = ProvisionedTPM.leaseParentUnique(
            vendorID: vendor, salt: made.leaseParentSalt)
        var template = KeyTemplate.leaseParent(unique: unique)
        guard case .ecc(let symmetric, let scheme, let curve, let x, let y) = made.leaseParent.kind
        else {
            Issue.record("a lease parent is an ECC key")
            return
        }
        template.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: x, y: y)
        #expect(template == made.leaseParent)
        #expect(made.epochCounter == KeyTemplate.counter(at: made.epochCounter.index).written)
        #expect(try connection.readCounter(made.epochCounter) > 0)
        #expect(try connection.readCounter(made.ledgerCounter) > 0)
        let pinned = try made.pinnedLeaseParent()
        #expect(try connection.object(at: pinned.handle, named: pinned.name) == pinned)
        connection.endTransaction()
        #expect(try connection.handles(from: 0x8000_0000).isEmpty)
        #expect(try connection.handles(from: 0x0200_0000).isEmpty)
    }

    @Test("a second vendor gets the next slot and other keys; a foreign object is left alone")
    func slots() throws {
        let first = try provision()
        // Somebody else's object at one handle of slot 1: the slot is not free.
        let foreign = KeyTemplate.leaseParent(unique: RandomSource.system.bytes(32))
        let stranger = try connection.withPrimary(foreign, in: .owner) { (made) throws(TPMError) in
            try connection.makePersistent(made, at: TPMHandle(rawValue: 0x8101_8001))
        }
        let other = VendorID(rootKey: Ed25519PrivateKey.generate(random: .system).publicKey)
        let second = try provision(other)
        #expect(second.slot.number == 2)
        #expect(second.attestationKey.name != first.attestationKey.name)
        #expect(second.leaseParent.name != first.leaseParent.name)
        #expect(try connection.object(at: stranger.handle) == stranger)
    }

    /// A key of a kind that we do not read, below the owner's hierarchy.
    private struct SymmetricPrimaryCommand: TPMCommand {
        static let code = CommandCode.createPrimary
        static let authorizationCount = 1
        static let returnsHandle = true
        var handles: [EntityReference] { [EntityReference(.owner)] }

        func encodeParameters(into writer: inout WireWriter) {
            writer.sized([0, 0, 0, 0])
            var area = WireWriter()
            area.uint16(0x0025)  // TPM_ALG_SYMCIPHER
            area.uint16(0x000B)
            area.uint32(0x0006_0072)
            area.sized([])
            area.uint16(0x0006)
            area.uint16(128)
            area.uint16(0x0043)
            area.sized([])
            writer.sized(area.bytes)
            writer.sized([])
            writer.uint32(0)
        }

        static func decode(
            handle: TPMHandle, parameters reader: inout WireReader
        ) throws(WireError) -> TPMHandle {
            _ = try reader.bytes(reader.remaining)
            return handle
        }
    }

    @Test("an object that we cannot read, in a slot before ours, keeps nobody from anything")
    func unreadable() throws {
        let made = try connection.run(SymmetricPrimaryCommand(), [.emptyAuth])
        let handle = TPMHandle(rawValue: 0x8101_8000)
        var name = WireWriter()
        name.uint32(made.rawValue)
        try connection.run(
            EvictControlCommand(
                object: EntityReference(made, name: TPMName(handle: made)), persistent: handle),
            [.emptyAuth])
        connection.endTransaction()
        #expect(throws: TPMError.self) { try connection.object(at: handle) }
        let mine = try provision()
        #expect(mine.slot.number == 1)
        #expect(
            try connection.object(
                named: mine.leaseParent.name,
                among: VendorSlot.all.prefix(3).map(\.leaseParent))?.handle
                == mine.slot.leaseParent)
        try provisioning.recover(vendorID: vendor, salt: mine.leaseParentSalt)
        #expect(try connection.nvPublicArea(at: mine.epochCounter.index) == nil)
        #expect(try connection.handles(from: 0x8100_0000).contains(handle))
    }

    @Test("removing gives the slot back, and only what is ours is removed")
    func removes() throws {
        let made = try provision()
        try provisioning.remove(made)
        #expect(try connection.nvPublicArea(at: made.epochCounter.index) == nil)
        #expect(try connection.nvPublicArea(at: made.ledgerCounter.index) == nil)
        #expect(throws: TPMError.self) { try provisioning.remove(made) }
        #expect(try provision().slot.number == 0)
    }

    @Test(
        "a counter whose definition was executed and not believed is not left behind",
        arguments: [0, 1])
    func spoiled(_ count: Int) throws {
        let spoiled = try TransientTPM(.documented) { inner in
            SpoilingTransport(inner, .nvDefineSpace, after: count)
        }
        #expect(throws: TPMError.self) {
            try spoiled.connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
                try Provisioning(spoiled.connection).provision(
                    vendorID: vendor, salt: salt, counterAuth: auth, endorsementKey: ek)
            }
        }
        let counters = try spoiled.connection.handles(from: 0x0100_0000)
            .filter { (0x0180_0100..<0x0180_0200).contains($0.rawValue) }
        #expect(counters.isEmpty)
        let parents = try spoiled.connection.handles(from: 0x8100_0000)
            .filter { (0x8101_8000..<0x8102_0000).contains($0.rawValue) }
        #expect(parents.isEmpty)
    }

    @Test("what an interrupted run left is found by its salt; other vendors' parts stay")
    func recovers() throws {
        let other = VendorID(rootKey: Ed25519PrivateKey.generate(random: .system).publicKey)
        let kept = try provision(other)
        let left = try provision()
        try provisioning.recover(vendorID: vendor, salt: RandomSource.system.bytes(16))
        #expect(try connection.nvPublicArea(at: left.ledgerCounter.index) == left.ledgerCounter)
        try provisioning.recover(vendorID: vendor, salt: salt)
        #expect(try connection.nvPublicArea(at: left.epochCounter.index) == nil)
        #expect(try connection.nvPublicArea(at: left.ledgerCounter.index) == nil)
        #expect(try connection.nvPublicArea(at: kept.epochCounter.index) == kept.epochCounter)
        #expect(
            try !connection.handles(from: 0x8100_0000).contains(
                left.pinnedLeaseParent().handle))
        #expect(
            try connection.handles(from: 0x8100_0000).contains(kept.pinnedLeaseParent().handle))
        #expect(try provision().slot == left.slot)
    }

    @Test("when the second counter does not fit, nothing of the first is left")
    func undoes() throws {
        // An index of ours in the place that the slot search does not see: defined in between.
        let blocked = TPMHandle(rawValue: 0x0180_0101)
        let failing = TransientFailure()
        let tpm = try TransientTPM(.documented) { failing.around($0) }
        let provisioning = Provisioning(tpm.connection)
        failing.refuseDefinition(2)
        let error = #expect(throws: TPMError.self) {
            try tpm.connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
                try provisioning.provision(
                    vendorID: self.vendor, salt: self.salt, counterAuth: self.auth,
                    endorsementKey: ek)
            }
        }
        #expect(error?.returnCode == .nvSpace)
        #expect(try tpm.connection.nvPublicArea(at: TPMHandle(rawValue: 0x0180_0100)) == nil)
        #expect(try tpm.connection.nvPublicArea(at: blocked) == nil)
        #expect(
            try !tpm.connection.handles(from: 0x8100_0000)
                .contains(TPMHandle(rawValue: 0x8101_8000)))
    }

    @Test("a request is read as it was written, and its certifications are over the rest of it")
    func request() throws {
        let provisioned = try provision()
        let made = try request(provisioned)
        let read = try EnrollmentRequest(decoding: made.encoded())
        #expect(read == made)
        let expected = try made.keys.qualifyingData()
        let key = try made.keys.attestationKey.ecPublicKey()
        for signed in [
            made.certifications.leaseParent, made.certifications.epochCounter,
            made.certifications.ledgerCounter,
        ] {
            #expect(signed.attestation.value.extraData == expected)
            guard case .ecdsa(let hash, let r, let s) = signed.signature.value else {
                Issue.record("an attestation key signs with ECDSA")
                return
            }
            try key.verifyECDSA(r: r, s: s, over: signed.attestation.bytes, hash: hash)
        }
        #expect(
            try made.certifications.epochCounter.attestation.value.counterValue(
                of: made.keys.epochCounter.name) == connection.readCounter(made.keys.epochCounter))
        #expect(
            made.certifications.leaseParent.attestation.value.attested
                == .certify(
                    name: made.keys.leaseParent.name,
                    qualifiedName: made.keys.leaseParent.name.qualified(
                        below: TPMName(handle: .owner), hash: .sha256)))
    }

    @Test("every part of a request is under the certifications")
    func bound() throws {
        let keys = try request(provision()).keys
        let bound = try keys.qualifyingData()
        var changed = keys
        changed.vendorID[0] ^= 1
        #expect(try changed.qualifyingData() != bound)
        changed = keys
        changed.endorsementCertificate.append(0)
        #expect(try changed.qualifyingData() != bound)
        changed = keys
        changed.leaseParentSalt[15] ^= 1
        #expect(try changed.qualifyingData() != bound)
        changed = keys
        swap(&changed.epochCounter, &changed.ledgerCounter)
        #expect(try changed.qualifyingData() != bound)
        changed = keys
        changed.hardwareFacts.removeLast()
        #expect(try changed.qualifyingData() != bound)
        changed = keys
        changed.hardwareFacts.reverse()
        #expect(try changed.qualifyingData() == bound, "facts have no order")
    }

    @Test("a request that is cut, longer or of another kind is refused")
    func malformed() throws {
        let bytes = try request(provision()).encoded()
        for length in stride(from: 0, to: bytes.count, by: 7) {
            #expect(throws: DocumentError.self) {
                try EnrollmentRequest(decoding: [UInt8](bytes[..<length]))
            }
        }
        #expect(throws: DocumentError.lengthWrong) {
            try EnrollmentRequest(decoding: bytes + [0])
        }
        var other = bytes
        other[6] = DocumentKind.evidence.rawValue
        #expect(throws: DocumentError.wrongKind(3)) { try EnrollmentRequest(decoding: other) }
        let note = try Container(.enrollmentRequest, [(.note, [1])]).encoded
        #expect(throws: DocumentError.unknownSection(SectionType.note.rawValue)) {
            try EnrollmentRequest(decoding: note)
        }
    }

    @Test("an envelope opens for the server alone")
    func envelope() throws {
        let bytes = try request(provision()).encoded()
        let server = SealingPrivateKey.generate(random: .system)
        let other = SealingPrivateKey.generate(random: .system)
        let envelope = try SealedEnvelope(
            sealing: bytes, to: server.publicKey, random: .system)
        let read = try SealedEnvelope(decoding: envelope.encoded)
        #expect(try read.open(with: server) == bytes)
        #expect(throws: CryptoError.authenticationFailed) { try read.open(with: other) }
        var changed = envelope.encoded
        changed[changed.count - 1] ^= 1
        let damaged = try SealedEnvelope(decoding: changed)
        #expect(throws: CryptoError.authenticationFailed) { try damaged.open(with: server) }
        #expect(throws: DocumentError.lengthWrong) {
            try SealedEnvelope(decoding: [UInt8](envelope.encoded[..<40]))
        }
        #expect(throws: DocumentError.notADocument) { try SealedEnvelope(decoding: bytes) }
    }
}

/// Lets a TPM refuse a definition of an NV index, as one without room does.
private final class TransientFailure {
    private var definitions = 0
    private var refused: Int?

    func refuseDefinition(_ number: Int) {
        definitions = 0
        refused = number
    }

    func around(_ transport: any TPMTransport) -> any TPMTransport {
        Refusing(inner: transport, owner: self)
    }

    private func mayDefine() -> Bool {
        definitions += 1
        return definitions != refused
    }

    private final class Refusing: TPMTransport {
        let inner: any TPMTransport
        let owner: TransientFailure

        init(inner: any TPMTransport, owner: TransientFailure) {
            self.inner = inner
            self.owner = owner
        }

        func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
            if Array(command[6..<10]) == [0, 0, 1, 0x2A], !owner.mayDefine() {
                return [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x4B]
            }
            return try inner.exchange(command)
        }
        func close() { inner.close() }
        var hasResourceManager: Bool { inner.hasResourceManager }
    }
}
