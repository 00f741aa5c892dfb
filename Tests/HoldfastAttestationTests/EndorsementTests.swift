import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("endorsement key certificates", .timeLimit(.minutes(20)))
final class EndorsementTests {
    private let tpm: TransientTPM
    private let roots: [[UInt8]]
    private let now = Date(timeIntervalSince1970: 1_900_000_000)

    init() throws {
        tpm = try TransientTPM(.documented)
        let template = try SoftwareTPMTemplate.shared()
        roots = Array(template.roots.values)
    }

    private func certificate() throws -> [UInt8] {
        try #require(try tpm.connection.endorsementCertificate(.eccP384))
    }

    private func key() throws -> PublicArea {
        try tpm.connection.withEndorsementKey(.eccP384) { (key) throws(TPMError) in
            key.publicArea
        }
    }

    private func reasons(
        _ certificate: [UInt8], roots: [[UInt8]]? = nil, at date: Date? = nil
    ) async throws -> [String] {
        let verifier = try EndorsementPathVerifier(roots: roots ?? self.roots, intermediates: [])
        let error = await refusal(verifier, certificate, date ?? now)
        guard let error else { return [] }
        guard case .pathInvalid(let reasons) = error else { throw error }
        #expect(!reasons.isEmpty)
        #expect(reasons.allSatisfy { !$0.isEmpty })
        return reasons
    }

    private func refusal(
        _ verifier: EndorsementPathVerifier, _ certificate: [UInt8], _ date: Date
    ) async -> EndorsementError? {
        do throws(EndorsementError) {
            _ = try await verifier.verify(certificate, at: date)
            return nil
        } catch {
            return error
        }
    }

    @Test("the certificate in a TPM leads to its maker, and names the TPM and its key")
    func accepted() async throws {
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: [])
        let verified = try await verifier.verify(certificate(), at: now)
        #expect(verified.manufacturer == "id:00001014")
        #expect(verified.model == "swtpm")
        #expect(try verified.demand(key()) == "ecc-p384")
        // What a TPM maker leaves behind a certificate in NV does not matter.
        let padded = try await verifier.verify(
            certificate() + [UInt8](repeating: 0xFF, count: 40), at: now)
        #expect(padded == verified)
    }

    @Test("the root alone is enough when the intermediate comes along")
    func intermediates() async throws {
        let template = try SoftwareTPMTemplate.shared()
        let root = try #require(template.roots["root.pem"])
        let intermediate = try #require(template.roots["intermediate.pem"])
        let verifier = try EndorsementPathVerifier(roots: [root], intermediates: [intermediate])
        #expect(try await verifier.verify(certificate(), at: now).model == "swtpm")
        #expect(try await reasons(certificate(), roots: [root]) != [])
    }

    @Test("a certificate before its time is refused")
    func dates() async throws {
        #expect(
            try await reasons(certificate(), at: Date(timeIntervalSince1970: 1_000_000_000)) != [])
        #expect(try await reasons(certificate(), at: Date(timeIntervalSince1970: 0)) != [])
    }

    @Test(
        "a maker that is not trusted, and a certificate that is no endorsement key's, are refused")
    func untrusted() async throws {
        let key = ECPrivateKey(curve: .p256, random: .system)
        #expect(throws: EndorsementError.malformed) {
            try EndorsementPathVerifier(
                roots: [Array(key.publicKey.pem.utf8)], intermediates: [])
        }
        #expect(throws: EndorsementError.noRoots) {
            try EndorsementPathVerifier(roots: [], intermediates: [])
        }
        let root = try #require(try SoftwareTPMTemplate.shared().roots["root.pem"])
        let intermediate = try #require(try SoftwareTPMTemplate.shared().roots["intermediate.pem"])
        #expect(
            try await reasons(intermediate, roots: [root]).contains {
                $0.contains("no endorsement key certificate")
            })
    }

    @Test("bits of the signed part and the signature, a sample of them, cannot be changed")
    func bitFlips() async throws {
        let bytes = try certificate()
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: [])
        for bit in stride(from: 32, to: bytes.count * 8, by: 37) {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(await refusal(verifier, changed, now) != nil, "bit \(bit)")
        }
    }

    @Test("bytes that are no certificate are refused, and so is something else behind one")
    func malformed() async throws {
        let bytes = try certificate()
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: [])
        for wrong in [[], [0x30], Array(bytes.dropLast()), bytes + [1, 2, 3], bytes + [0, 0xFF]] {
            #expect(await refusal(verifier, wrong, now) == .malformed)
        }
    }

    @Test(
        "another key, other attributes, another policy: not the endorsement key of the certificate")
    func demanded() async throws {
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: [])
        let verified = try await verifier.verify(certificate(), at: now)
        let area = try key()
        var changed = area
        changed.attributes.remove(.restricted)
        #expect(throws: EndorsementError.templateMismatch) { try verified.demand(changed) }
        changed = area
        changed.attributes.remove(.fixedTPM)
        #expect(throws: EndorsementError.templateMismatch) { try verified.demand(changed) }
        changed = area
        changed.authPolicy[0] ^= 1
        #expect(throws: EndorsementError.templateMismatch) { try verified.demand(changed) }
        changed = area
        changed.nameAlgorithm = .sha256
        #expect(throws: EndorsementError.templateMismatch) { try verified.demand(changed) }
        let other = ECPrivateKey(curve: .p384, random: .system).publicKey
        changed = area
        changed.kind = .ecc(
            symmetric: .aesCFB(bits: 256), scheme: .null, curve: .p384, x: other.x, y: other.y)
        #expect(throws: EndorsementError.keyMismatch) { try verified.demand(changed) }
        #expect(throws: EndorsementError.keyMismatch) {
            try verified.demand(EndorsementKeyKind.eccP384.template)
        }
    }

    @Test("the RSA endorsement key and its certificate are accepted as well")
    func rsa() async throws {
        // Index and template of EK Credential Profile 2.5: L-1 of the low range.
        let handle = TPMHandle(rawValue: 0x8101_0001)
        let area = try tpm.connection.run(ReadPublicCommand(handle)).publicArea
        let certificate = try #require(
            try tpm.connection.readOwnerIndex(TPMHandle(rawValue: 0x01C0_0002), maximum: 4096))
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: [])
        let verified = try await verifier.verify(certificate, at: now)
        #expect(try verified.demand(area) == "rsa-2048-low-range")
        #expect(throws: EndorsementError.keyMismatch) { try verified.demand(key()) }
        var changed = area
        changed.attributes.insert(.userWithAuth)
        #expect(throws: EndorsementError.templateMismatch) { try verified.demand(changed) }
        changed = area
        changed.authPolicy = []
        #expect(throws: EndorsementError.templateMismatch) { try verified.demand(changed) }
    }

    private static let recordings = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../../shared/recordings")

    private func files(_ folder: String) throws -> [[UInt8]] {
        let found = try? FileManager.default.contentsOfDirectory(
            at: Self.recordings.appending(path: folder), includingPropertiesForKeys: nil)
        return try (found ?? []).map { [UInt8](try Data(contentsOf: $0)) }
    }

    @Test("recorded makers' certificates can be read, every one")
    func recordedRoots() throws {
        for bytes in try files("ek-roots") {
            let verifier = try EndorsementPathVerifier(roots: [bytes], intermediates: [])
            #expect(verifier.unreadableFiles == 0)
        }
    }

    @Test("a recorded certificate of Intel leads to a recorded issuer, and to no other's")
    func recordedIntel() async throws {
        let roots = try files("ek-roots")
        let path = Self.recordings.appending(path: "ek-certificates/intel-ekcert.pem")
        guard !roots.isEmpty, let data = try? Data(contentsOf: path) else { return }
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: [])
        let verified = try await verifier.verify([UInt8](data), at: now)
        #expect(verified.manufacturer == "id:494E5443")
        #expect(try await reasons([UInt8](data)).count == 2)
        let late = Date(timeIntervalSince1970: 2_600_000_000)
        #expect(await refusal(verifier, [UInt8](data), late) != nil)
    }
}
