import HoldfastCrypto
import HoldfastStage
import HoldfastTPM
import HoldfastTPMWire
import Testing

extension SeededNumbers {
    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }

    /// Bytes with one to four changes: another octet, an octet less, an octet more.
    mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
        var result = bytes
        for _ in 0..<Int.random(in: 1...4, using: &self) {
            let position = Int.random(in: 0...result.count, using: &self)
            switch Int.random(in: 0..<5, using: &self) {
            case 0: result.insert(UInt8.random(in: 0...255, using: &self), at: position)
            case 1: if position < result.count { result.remove(at: position) }
            case 2: if position < result.count { result[position] = 0xFF }
            default:
                if position < result.count {
                    result[position] ^= 1 << UInt8.random(in: 0..<8, using: &self)
                }
            }
        }
        return result
    }
}

/// The decoder of a command's response, with what it is called.
private struct Decoder: Sendable, CustomTestStringConvertible {
    let code: CommandCode
    let returnsHandle: Bool
    private let body: @Sendable (TPMHandle, inout WireReader) throws(WireError) -> Void

    init<C: TPMCommand & SendableMetatype>(_: C.Type) {
        code = C.code
        returnsHandle = C.returnsHandle
        body = { (handle, reader) throws(WireError) in
            _ = try C.decode(handle: handle, parameters: &reader)
        }
    }

    /// - Returns: whether the whole was taken for a response.
    func accepts(_ parameters: [UInt8], handle: TPMHandle) -> Bool {
        var reader = WireReader(parameters)
        do throws(WireError) {
            try body(handle, &reader)
            try reader.finish()
            return true
        } catch {
            return false
        }
    }

    var testDescription: String { code.specificationName }

    static let all: [Decoder] = [
        Decoder(ActivateCredentialCommand.self), Decoder(CertifyCommand.self),
        Decoder(CreatePrimaryCommand.self), Decoder(EvictControlCommand.self),
        Decoder(FlushContextCommand.self), Decoder(GetCapabilityCommand.self),
        Decoder(GetRandomCommand.self), Decoder(ImportCommand.self), Decoder(LoadCommand.self),
        Decoder(LoadExternalCommand.self), Decoder(NVCertifyCommand.self),
        Decoder(NVDefineSpaceCommand.self), Decoder(NVIncrementCommand.self),
        Decoder(NVReadCommand.self), Decoder(NVReadPublicCommand.self),
        Decoder(NVUndefineSpaceCommand.self), Decoder(PCRExtendCommand.self),
        Decoder(PCRReadCommand.self), Decoder(PolicyAuthorizeCommand.self),
        Decoder(PolicyAuthValueCommand.self), Decoder(PolicyCommandCodeCommand.self),
        Decoder(PolicyCounterTimerCommand.self), Decoder(PolicyGetDigestCommand.self),
        Decoder(PolicyNVCommand.self), Decoder(PolicyNvWrittenCommand.self),
        Decoder(PolicyORCommand.self), Decoder(PolicyPCRCommand.self),
        Decoder(PolicySecretCommand.self), Decoder(QuoteCommand.self),
        Decoder(ReadClockCommand.self), Decoder(ReadPublicCommand.self),
        Decoder(ShutdownCommand.self), Decoder(StartAuthSessionCommand.self),
        Decoder(UnsealCommand.self), Decoder(VerifySignatureCommand.self),
    ]
}

/// A TPM that answers garbage: with a header that holds, and anything behind it.
private final class GarbageTransport: TPMTransport {
    private var generator: SeededNumbers
    let hasResourceManager = false
    /// Real answers, to be spoiled; without one for a command it is plain garbage.
    private let answers: [CommandCode: [[UInt8]]]

    init(seed: UInt64, answers: [CommandCode: [[UInt8]]] = [:]) {
        generator = SeededNumbers(seed)
        self.answers = answers
    }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        let code = CommandCode(rawValue: command[6..<10].reduce(0) { $0 << 8 | UInt32($1) })
        var response: [UInt8]
        if let real = answers[code]?.randomElement(using: &generator) {
            response = Bool.random(using: &generator) ? real : generator.mutated(real)
        } else {
            response = [command[0], command[1], 0, 0, 0, 0, 0, 0, 0, 0]
            response += generator.bytes(Int.random(in: 0..<200, using: &generator))
        }
        if response.count >= 6, Int.random(in: 0..<8, using: &generator) > 0 {
            response.replaceSubrange(
                2..<6, with: [0, 0, UInt8(response.count >> 8), UInt8(response.count & 0xFF)])
        }
        // A TPM that asks to send again for ever is another test: it takes time.
        if response.count == 10 { response[8] &= 0x01 }
        return response
    }

    func close() {}
}

@Suite("garbage in place of responses", .timeLimit(.minutes(20)))
struct GarbageTests {
    /// Everything that a TPM answered in a whole life of a lease.
    private static func recordedLife() throws -> [CommandCode: [[UInt8]]] {
        let scenario = try LeaseScenario()
        var recorded: [CommandCode: [[UInt8]]] = [:]
        scenario.tpm.interposer.alter = { code, response in
            recorded[code, default: []].append(response)
            return response
        }
        let connection = scenario.connection
        let lease = try scenario.seal(try scenario.leasePolicy().policy)
        _ = try scenario.open(lease)
        try scenario.raiseEpoch()
        _ = try connection.activeBanks()
        _ = try connection.properties()
        _ = try connection.commands()
        _ = try connection.endorsementCertificate(.eccP384)
        _ = try connection.object(at: scenario.parent.handle)
        try connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try scenario.withAttestationKey { (ak) throws(TPMError) in
                _ = try connection.quote(
                    scenario.selection, by: ak, nonce: [UInt8](repeating: 1, count: 32))
                _ = try connection.run(
                    CertifyCommand(
                        object: scenario.parent.reference, key: ak.reference,
                        qualifyingData: []), [.emptyAuth, .emptyAuth])
                _ = try connection.certifyCounter(
                    scenario.epoch, by: ak.reference, keyAuthorization: .emptyAuth,
                    qualifyingData: [])
                guard
                    let blob = try? CredentialBlob(
                        protecting: SecretBytes(copying: [1, 2, 3]), for: ak.name,
                        key: ek.publicArea, random: .system)
                else { throw TPMError(.invalidRequest, "no credential") }
                _ = try connection.activateCredential(
                    blob, for: ak, endorsementKey: ek, kind: .eccP384)
            }
        }
        _ = try connection.run(GetRandomCommand(count: 16))
        try connection.withSession(.policy, hash: .sha256, salt: .none) {
            (session) throws(TPMError) in
            _ = try connection.run(PolicyGetDigestCommand(session: session.handle))
        }
        scenario.tpm.interposer.alter = nil
        try scenario.expectClean()
        return recorded
    }

    private static func split(
        _ response: [UInt8], _ decoder: Decoder
    ) -> (handle: TPMHandle, parameters: [UInt8])? {
        guard response.count >= 10, response[6..<10] == [0, 0, 0, 0] else { return nil }
        var rest = response[10...]
        var handle = TPMHandle.null
        if decoder.returnsHandle {
            handle = TPMHandle(rawValue: rest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) })
            rest = rest.dropFirst(4)
        }
        if response[1] == 0x02 {
            let size = Int(rest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) })
            rest = rest.dropFirst(4).prefix(size)
        }
        return (handle, [UInt8](rest))
    }

    @Test("2,000 random answers for each command", arguments: Decoder.all)
    fileprivate func random(_ decoder: Decoder) {
        var generator = SeededNumbers(UInt64(decoder.code.rawValue))
        var accepted = 0
        for _ in 0..<2000 {
            let size = Int.random(in: 1...300, using: &generator)
            let handle = TPMHandle(rawValue: UInt32.random(in: 0 ... .max, using: &generator))
            if decoder.accepts(generator.bytes(size), handle: handle) { accepted += 1 }
        }
        // A clock is a clock: whatever 25 octets are, one in 128 ends in a legal flag.
        #expect(accepted < 20)
    }

    @Test("real answers decode; 2,000 mutants of them for each command do not crash")
    func mutants() throws {
        let recorded = try Self.recordedLife()
        for decoder in Decoder.all {
            var generator = SeededNumbers(UInt64(decoder.code.rawValue) << 8)
            // The content of a secret parameter never goes through a decoder.
            if decoder.code == .unseal || decoder.code == .activateCredential { continue }
            let parts = (recorded[decoder.code] ?? []).compactMap { Self.split($0, decoder) }
            for part in parts {
                #expect(
                    decoder.accepts(part.parameters, handle: part.handle),
                    "\(decoder.testDescription)")
            }
            guard !parts.isEmpty else { continue }
            for _ in 0..<2000 {
                guard let part = parts.randomElement(using: &generator) else { break }
                let mutant = generator.mutated(part.parameters)
                _ = decoder.accepts(mutant, handle: part.handle)
            }
            // Cut anywhere, none is complete.
            for part in parts.prefix(3) {
                for length in part.parameters.indices {
                    #expect(
                        !decoder.accepts(
                            [UInt8](part.parameters.prefix(length)), handle: part.handle),
                        "\(decoder.testDescription), \(length) bytes")
                }
                #expect(!decoder.accepts(part.parameters + [0], handle: part.handle))
            }
        }
    }

    @Test("a TPM that answers garbage to everything", arguments: [false, true])
    func whole(spoiled: Bool) throws {
        let answers = spoiled ? try Self.recordedLife() : [:]
        let area = KeyTemplate.counter(at: LeaseScenario.epochIndex)
        let selection = PCRSelection(.sha256, PCRIndex.all)
        let key = ECPrivateKey(curve: .p256, random: .system)
        let shown = Attacker.storageKey(key.publicKey)
        let parent = try LoadedObject(
            handle: LeaseScenario.parentHandle, publicArea: shown, name: shown.name)
        let vendorID = [UInt8](repeating: 7, count: 32)
        let blob = try ImportBlob(
            sealing: SecretBytes(copying: [1]), attributes: .noDA, policy: area.authPolicy,
            parent: shown, random: .system)
        for seed in 0..<150 as Range<UInt64> {
            let tpm = TPMConnection(
                GarbageTransport(seed: seed, answers: answers), random: .system)
            expectNothing { () throws(TPMError) in try tpm.readPCRs(selection) }
            expectNothing { () throws(TPMError) in try tpm.activeBanks() }
            expectNothing { () throws(TPMError) in try tpm.properties() }
            expectNothing { () throws(TPMError) in try tpm.commands() }
            expectNothing { () throws(TPMError) in try tpm.handles(from: 0x0200_0000) }
            expectNothing { () throws(TPMError) in try tpm.clock() }
            expectNothing { () throws(TPMError) in try tpm.endorsementCertificate(.eccP384) }
            expectNothing { () throws(TPMError) in try tpm.readCounter(area) }
            expectNothing { () throws(TPMError) in
                try tpm.object(at: LeaseScenario.parentHandle)
            }
            expectNothing { () throws(TPMError) in
                try tpm.withPrimary(
                    KeyTemplate.attestationKey(vendorID: vendorID), in: .endorsement
                ) { (ak) throws(TPMError) in
                    expectNothing { () throws(TPMError) in
                        try tpm.quote(selection, by: ak, nonce: vendorID).values
                    }
                    expectNothing { () throws(TPMError) in
                        try tpm.certifyCounter(
                            area, by: ak.reference, keyAuthorization: .emptyAuth,
                            qualifyingData: [])
                    }
                }
            }
            // These prove their answers: garbage never passes.
            expectNever { () throws(TPMError) in
                try tpm.increment(area, authValue: [1], salt: parent)
            }
            expectNever { () throws(TPMError) in
                _ = try tpm.unseal(
                    EntityReference(TPMHandle(rawValue: 0x8000_0000), name: shown.name),
                    policy: Policy(hash: .sha256, [.commandCode(.unseal)]), with: PolicyMeans(),
                    salt: parent)
            }
            expectNothing { () throws(TPMError) in
                let imported = try tpm.importBlob(blob, below: parent)
                try tpm.withLoaded(
                    privateBlob: imported, publicArea: blob.publicArea, below: parent
                ) { (_) throws(TPMError) in }
            }
            tpm.endTransaction()
            #expect(tpm.occupiedSlots == 0)
        }
    }

    /// What comes of it does not matter here, as long as something does.
    private func expectNothing<R>(_ body: () throws(TPMError) -> R) {
        do throws(TPMError) { _ = try body() } catch {
            #expect(error.code != .invalidRequest, "\(error)")
        }
    }

    private func expectNever(_ body: () throws(TPMError) -> Void) {
        do throws(TPMError) {
            try body()
            Issue.record("garbage was accepted")
        } catch {
            #expect(error.code != .invalidRequest, "\(error)")
        }
    }

    /// A page that ends at the highest value there is, and says that more follow.
    @Test("capabilities without an end are bounded")
    func endlessCapabilities() throws {
        for (last, pages) in [(UInt32.max, 1), (0x8000_0000, 1)] {
            let connection = TPMConnection(EndlessTransport(last: last), random: .system)
            #expect(
                try connection.capabilityPages(.handles, from: 0x8000_0000).count
                    == (last == .max ? pages : 2))
        }
        let growing = TPMConnection(EndlessTransport(last: nil), random: .system)
        #expect(try growing.capabilityPages(.handles, from: 0x8000_0000).count == 64)
    }
}

/// Always has one more handle to tell of.
private final class EndlessTransport: TPMTransport {
    let hasResourceManager = false
    private let last: UInt32?

    /// - Parameter last: the handle in every page; or the one that was asked for.
    init(last: UInt32?) { self.last = last }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        let asked = command[14..<18].reduce(0) { $0 << 8 | UInt32($1) }
        var writer = WireWriter()
        writer.uint16(0x8001)
        writer.uint32(10 + 1 + 4 + 4 + 4)
        writer.uint32(0)
        writer.uint8(1)
        writer.uint32(1)
        writer.uint32(1)
        writer.uint32(last ?? asked)
        return writer.bytes
    }

    func close() {}
}
