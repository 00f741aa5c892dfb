import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("enrollment by file, the device's first half", .timeLimit(.minutes(2)))
final class EnrollmentTests {
    private let tpm: TransientTPM
    private let path = "/tmp/hf-state-" + String(UInt64.random(in: 0 ... .max), radix: 16)
    private let root = Ed25519PrivateKey.generate(random: .system)
    private let sealing = SealingPrivateKey.generate(random: .system)

    init() throws { tpm = try TransientTPM(.documented) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    private func trust(sequence: UInt64 = 1, kind: String = "ecc-p384") throws -> [UInt8] {
        let statement = TrustStatement(
            rootKey: root.publicKey, sequence: sequence,
            issuerKeys: [root.publicKey], sealingKeys: [sealing.publicKey],
            approvalKey: ECPrivateKey(curve: .p256, random: .system).publicKey, tlsKeys: [],
            endorsementKeys: [.init(manufacturer: "id:00001014", model: "swtpm", kind: kind)],
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
        #expect(throws: EnrollmentError.noEndorsementCertificate) {
            try enroll(trust(kind: "ecc-p256"))
        }
        #expect(throws: EnrollmentError.noEndorsementCertificate) {
            try enroll(trust(sequence: 2, kind: "rsa2048"))
        }
        #expect(
            try tpm.connection.handles(from: 0x8100_0000)
                .allSatisfy { !(0x8101_8000..<0x8102_0000).contains($0.rawValue) })
        #expect(throws: NotEnrolled.self) { try DeviceIdentity(StateDirectory(path)) }
    }

    @Test("two programs do not enroll at once")
    func locked() throws {
        let held = try StateDirectory(path)
        #expect(throws: FileError.self) { try enroll(trust()) }
        withExtendedLifetime(held) {}
    }
}
