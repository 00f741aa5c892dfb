import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// A TPM that does not list a command.
private final class LackingTransport: TPMTransport {
    private let inner: any TPMTransport
    private let lacked: CommandCode

    init(_ inner: any TPMTransport, lacking code: CommandCode) {
        self.inner = inner
        lacked = code
    }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        var response = try inner.exchange(command)
        let isCommandList =
            command[6..<14] == [0, 0, 0x01, 0x7A, 0, 0, 0, 0x02] && response.count > 19
        guard isCommandList else { return response }
        for place in stride(from: 19, to: response.count - 3, by: 4) {
            let code = UInt32(response[place + 2]) << 8 | UInt32(response[place + 3])
            // A number that no command has.
            if code == lacked.rawValue {
                response.replaceSubrange(place + 2..<place + 4, with: [3, 3])
            }
        }
        return response
    }

    func endTransaction() { inner.endTransaction() }
    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}

@Suite("enrollment by file, the device's first half", .timeLimit(.minutes(20)))
final class EnrollmentTests {
    private let tpm: TransientTPM
    private let path = "/tmp/hf-state-" + String(UInt64.random(in: 0 ... .max), radix: 16)
    private let root = Ed25519PrivateKey.generate(random: .system)
    private let sealing = SealingPrivateKey.generate(random: .system)

    init() throws { tpm = try TransientTPM(.documented) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    private func trust(
        sequence: UInt64 = 1, kind: String = "ecc-p384",
        rules: [TrustStatement.EndorsementKeyRule] = []
    ) throws -> [UInt8] {
        let statement = TrustStatement(
            rootKey: root.publicKey, sequence: sequence,
            issuerKeys: [root.publicKey], sealingKeys: [sealing.publicKey],
            approvalKey: ECPrivateKey(curve: .p256, random: .system).publicKey, tlsKeys: [],
            endorsementKeys: rules + [
                .init(manufacturer: "id:00001014", model: "swtpm", kind: kind)
            ],
            factSalt: [UInt8](repeating: 1, count: 16), urls: [],
            selection: try #require(PCRSelection(text: "sha256:7")))
        return Array((try statement.signed(with: root).text + "\n").utf8)
    }

    private func enroll(_ trust: [UInt8]) throws -> EnrollmentRequest {
        let state = try StateDirectory(path)
        let envelope = try Enrollment(state, tpm: tpm.connection, random: .system)
            .makeRequest(trustFile: trust)
        return try EnrollmentRequest(decoding: envelope.open(with: sealing))
    }

    @Test("the request that the server opens is the one on disk, and comes again")
    func again() throws {
        let trust = try trust()
        let first = try enroll(trust)
        #expect(try enroll(trust) == first)
        #expect(try StateDirectory(path).request() == first)
        let identity = try DeviceIdentity(StateDirectory(path))
        #expect(
            identity.device
                == PairwiseID(attestationKey: first.keys.attestationKey.name).description)
        #expect(try tpm.connection.handles(from: 0x8101_8000).count >= 1)
    }

    @Test("a TPM that lacks a command is refused by name before anything is made in it")
    func lacking() throws {
        let lacking = try TransientTPM(.documented) {
            LackingTransport($0, lacking: .importObject)
        }
        let before = try lacking.connection.handles(from: 0x8100_0000)
        let trust = try trust()
        #expect {
            _ = try Enrollment(StateDirectory(path), tpm: lacking.connection, random: .system)
                .makeRequest(trustFile: trust)
        } throws: { error in
            let error = error as? TPMError
            return error?.code == .notSupported
                && error?.description.contains("TPM2_Import") == true
        }
        #expect(try lacking.connection.handles(from: 0x8100_0000) == before)
        #expect(try StateDirectory(path).preparation() == nil)
        #expect(throws: Never.self) { try enroll(trust) }
    }

    @Test("what the state directory holds has the least mode that works")
    func modes() throws {
        _ = try enroll(trust())
        let expected = [
            "counter-auth": 0o600, "parent-salt": 0o600, "request": 0o640, "trust": 0o644,
        ]
        for (name, mode) in expected {
            let attributes = try FileManager.default.attributesOfItem(atPath: path + "/" + name)
            #expect(attributes[.posixPermissions] as? Int == mode, "\(name)")
        }
    }

    @Test("an interrupted enrollment leaves one set of keys in the TPM, not two")
    func interrupted() throws {
        let trust = try trust()
        let first = try enroll(trust)
        // As if the power had gone before the request was on the disk.
        try Files.remove(path + "/request")
        let second = try enroll(trust)
        #expect(second.keys.leaseParent.name != first.keys.leaseParent.name)
        #expect(second.keys.epochCounter.index == first.keys.epochCounter.index)
        let parents = try tpm.connection.handles(from: 0x8100_0000)
            .filter { (0x8101_8000..<0x8102_0000).contains($0.rawValue) }
        #expect(parents.count == 1)
    }

    @Test("enrolling takes two of the three slots for keys, so a key left over does not prevent it")
    func twoSlots() throws {
        let trust = try trust()
        try tpm.connection.withEndorsementKey(.eccP256) { (_) throws(TPMError) in
            #expect(throws: Never.self) { try enroll(trust) }
        }
    }

    @Test("a trust file with much white space does not lock the state directory")
    func whiteSpace() throws {
        let trust = try trust()
        _ = try enroll(trust + [UInt8](repeating: 0x0A, count: 400_000))
        #expect(try StateDirectory(path).trust() != nil)
        _ = try enroll(trust)
    }

    @Test("a request whose keys the TPM no longer has is not handed out")
    func keysLost() throws {
        let trust = try trust()
        let request = try enroll(trust)
        let parent = try tpm.connection.object(
            at: TPMHandle(rawValue: 0x8101_8000), named: request.keys.leaseParent.name)
        try tpm.connection.removePersistent(parent)
        #expect(throws: EnrollmentError.keysLost) { try enroll(trust) }
    }

    @Test("another vendor's trust file, an older one and a damaged one are refused")
    func trustFiles() throws {
        _ = try enroll(trust(sequence: 3))
        #expect(throws: TokenError.superseded) { try enroll(trust(sequence: 2)) }
        var damaged = try trust(sequence: 4)
        damaged[40] ^= 1
        #expect(throws: TokenError.self) { try enroll(damaged) }
        #expect(throws: TokenError.self) { try enroll(Array("hello world".utf8)) }
        #expect(throws: TokenError.self) { try enroll([]) }
        let other = try EnrollmentTests()
        #expect(throws: TokenError.foreignKey) { try enroll(other.trust(sequence: 9)) }
        #expect(try StateDirectory(path).trust()?.sequence == 3)
    }

    @Test("a TPM without a certificate of an accepted kind is refused, and left as it was")
    func noCertificate() throws {
        #expect(throws: EnrollmentError.kindNotAllowed(["rsa-2048-low-range", "ecc-p384"])) {
            try enroll(trust(kind: "ecc-p256"))
        }
        #expect(throws: EnrollmentError.kindNotAllowed(["rsa-2048-low-range", "ecc-p384"])) {
            try enroll(trust(sequence: 2, kind: "rsa2048"))
        }
        #expect(
            try tpm.connection.handles(from: 0x8100_0000)
                .allSatisfy { !(0x8101_8000..<0x8102_0000).contains($0.rawValue) })
        #expect(throws: NotEnrolled.self) { try DeviceIdentity(StateDirectory(path)) }
    }

    @Test("the rule of the model that the certificate names chooses the key, not another one's")
    func ruleOfTheModel() throws {
        let request = try enroll(
            trust(
                kind: "rsa-2048-low-range",
                rules: [
                    .init(manufacturer: "id:00001014", model: "other", kind: "ecc-p384"),
                    .init(manufacturer: "id:00000000", model: "swtpm", kind: "ecc-p384"),
                ]))
        #expect(EndorsementKeyKind(request.keys.endorsementKey) == .rsa2048LowRange)
        let other = try EnrollmentTests()
        let second = try other.enroll(
            other.trust(
                kind: "ecc-p384",
                rules: [
                    .init(
                        manufacturer: "id:00000000", model: "swtpm", kind: "rsa-2048-low-range")
                ]))
        #expect(EndorsementKeyKind(second.keys.endorsementKey) == .eccP384)
    }

    // MARK: The second half

    /// Plays the vendor, who would have checked the certificate before.
    private func answer(
        _ request: EnrollmentRequest, incarnation: UInt32 = 1,
        _ change: (inout DeviceStatement) -> Void = { _ in }, for key: TPMName? = nil,
        nonces: [UInt8]? = nil
    ) throws -> [UInt8] {
        let plain = try request.encoded()
        let own = RandomSource.system.bytes(128)
        var statement = DeviceStatement(
            incarnation: incarnation, keys: request.keys, ledgerKeys: [],
            endorsementKeyKind: "ecc-p384", manufacturer: "id:00001014", model: "swtpm",
            checks: ["ek-path"], requestHash: HashAlgorithm.sha256.digest(plain), nonces: own,
            issuedAt: 1_790_000_000)
        change(&statement)
        return try EnrollmentResponse(
            statement: statement.signed(with: root), nonces: nonces ?? own, request: plain,
            attestationKey: key ?? request.keys.attestationKey.name,
            endorsementKey: request.keys.endorsementKey, random: .system
        ).encoded()
    }

    private func activate(_ response: [UInt8]) throws -> DeviceStatement {
        try Enrollment(StateDirectory(path), tpm: tpm.connection, random: .system)
            .activate(response: response)
    }

    @Test("the vendor's answer opens in the TPM, is kept, and may come again")
    func activation() throws {
        let request = try enroll(trust())
        let response = try answer(request)
        let statement = try activate(response)
        #expect(statement.incarnation == 1)
        #expect(statement.leaseParent == request.keys.leaseParent)
        let state = try StateDirectory(path)
        #expect(try state.statement() == statement)
        #expect(try state.nonces().count == 4)
        #expect(try DeviceIdentity(state).incarnation == 1)
        _ = consume state
        #expect(try activate(response) == statement)
        tpm.connection.endTransaction()
        #expect(try tpm.connection.handles(from: 0x8000_0000).isEmpty)
    }

    @Test("a credential for another key or another TPM is refused by the TPM")
    func foreignCredential() throws {
        let request = try enroll(trust())
        let other = try answer(request, for: TPMName(hash: .sha256, publicArea: [1]))
        let error = #expect(throws: TPMError.self) { try activate(other) }
        #expect(error?.returnCode == ReturnCode(rawValue: 0x1DF))
        var keys = request.keys
        let key = ECPrivateKey(curve: .p384, random: .system).publicKey
        keys.endorsementKey.kind = .ecc(
            symmetric: .aesCFB(bits: 256), scheme: .null, curve: .p384, x: key.x, y: key.y)
        let elsewhere = try answer(
            EnrollmentRequest(keys: keys, certifications: request.certifications))
        #expect(throws: TPMError.self) { try activate(elsewhere) }
        #expect(try StateDirectory(path).statement() == nil)
    }

    @Test("bits of a response, a sample of them, cannot be changed")
    func damagedResponse() throws {
        let response = try answer(enroll(trust()))
        for bit in stride(from: 0, to: response.count * 8, by: 61) {
            var changed = response
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: (any Error).self, "bit \(bit)") { try activate(changed) }
        }
        #expect(throws: DocumentError.self) { try activate(Array(response.dropLast())) }
        #expect(throws: DocumentError.self) { try activate(response + [0]) }
        #expect(throws: DocumentError.self) { try activate([]) }
        #expect(try StateDirectory(path).statement() == nil)
    }

    @Test("an answer that is about something else is refused though it is genuine")
    func otherStatements() throws {
        let request = try enroll(trust())
        #expect(throws: TokenError.otherDevice) {
            try activate(answer(request, { $0.requestHash[0] ^= 1 }))
        }
        #expect(throws: TokenError.otherDevice) {
            try activate(answer(request, nonces: RandomSource.system.bytes(128)))
        }
        #expect(throws: TokenError.otherDevice) {
            try activate(answer(request, { swap(&$0.epochCounter, &$0.ledgerCounter) }))
        }
        #expect(throws: DocumentError.malformed(.nonces)) {
            let three = RandomSource.system.bytes(96)
            _ = try activate(
                answer(
                    request, { $0.noncesHash = HashAlgorithm.sha256.digest(three) },
                    nonces: three))
        }
        let stranger = try EnrollmentTests()
        #expect(throws: TokenError.foreignKey) { try activate(stranger.answer(request)) }
    }

    @Test("a response without a request is refused")
    func noRequest() throws {
        let response = try answer(enroll(trust()))
        try FileManager.default.removeItem(atPath: path)
        #expect(throws: EnrollmentError.noRequest) { try activate(response) }
    }

    @Test("a statement of another enrollment does not verify as this one's")
    func bindings() throws {
        let request = try enroll(trust())
        let statement = try activate(answer(request, incarnation: 2))
        #expect(statement.incarnation == 2)
        let token = try statement.signed(with: root)
        #expect(throws: TokenError.otherDevice) {
            try DeviceStatement(
                verifying: token, issuers: [self.root.publicKey],
                attestationKey: TPMName(hash: .sha256, publicArea: [9]))
        }
        #expect(throws: TokenError.foreignKey) {
            try DeviceStatement(
                verifying: token, issuers: [],
                attestationKey: request.keys.attestationKey.name)
        }
        for bit in stride(from: 0, to: token.body.count * 8, by: 7) {
            var body = token.body
            body[bit / 8] ^= 1 << (bit % 8)
            let changed = try PASETOToken(purpose: .v4Public, body: body, footer: token.footer)
            #expect(throws: TokenError.self) {
                try DeviceStatement(
                    verifying: changed, issuers: [self.root.publicKey],
                    attestationKey: request.keys.attestationKey.name)
            }
        }
    }

    @Test("two programs do not enroll at once")
    func locked() throws {
        let held = try StateDirectory(path)
        #expect(throws: FileError.self) { try enroll(trust()) }
        withExtendedLifetime(held) {}
    }
}
