import Foundation
import HoldfastCrypto
import HoldfastTPMWire
import Synchronization
import Testing

@Suite("protection of secrets for a TPM")
struct ProtectionTests {
    private static let parent: (key: ECPrivateKey, area: PublicArea) = {
        let key = ECPrivateKey(curve: .p256, random: .system)
        var area = KeyTemplate.leaseParent(unique: [])
        area.kind = .ecc(
            symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: key.publicKey.x,
            y: key.publicKey.y)
        return (key, area)
    }()

    private func seal(_ count: Int, parent: PublicArea = parent.area) throws -> ImportBlob {
        try ImportBlob(
            sealing: SecretBytes(copying: [UInt8](repeating: 1, count: count)), attributes: .noDA,
            policy: [UInt8](repeating: 0, count: 32), parent: parent, random: .system)
    }

    @Test("a secret has 1 to 128 bytes")
    func secretSizes() throws {
        #expect(try PublicArea(wireBytes: seal(1).publicArea).attributes == .noDA)
        #expect(try PublicArea(wireBytes: seal(128).publicArea).attributes == .noDA)
        #expect(throws: ProtectionError.secretTooLong) { try seal(0) }
        #expect(throws: ProtectionError.secretTooLong) { try seal(129) }
    }

    @Test("a key that does not decrypt, or is off its curve, is refused")
    func wrongKeys() {
        let signing = KeyTemplate.approvalKey(Self.parent.key.publicKey)
        #expect(throws: ProtectionError.keyNotSupported) { try seal(32, parent: signing) }
        #expect(throws: ProtectionError.keyNotSupported) {
            try seal(32, parent: KeyTemplate.leaseParent(unique: [UInt8](repeating: 9, count: 32)))
        }
    }

    @Test("RSA keys of other sizes, with a scheme, or that sign, are refused")
    func wrongRSAKeys() throws {
        func seed(_ change: (inout PublicArea) -> Void) throws -> SharedSeed {
            var area = EndorsementKeyKind.rsa2048.template
            change(&area)
            return try SharedSeed(for: area, purpose: .credential, random: .system)
        }
        func rsa(
            _ bits: UInt16, _ modulus: [UInt8], scheme: AsymmetricScheme = .null,
            exponent: UInt32 = 0
        ) -> PublicArea.Kind {
            .rsa(
                symmetric: .aesCFB(bits: 128), scheme: scheme, bits: bits, exponent: exponent,
                modulus: modulus)
        }
        func odd(_ count: Int) -> [UInt8] { [UInt8](repeating: 0xC7, count: count) }
        #expect(try seed { $0.kind = rsa(2048, odd(256)) }.encrypted.count == 256)
        #expect(try seed { $0.kind = rsa(3072, odd(384)) }.encrypted.count == 384)
        #expect(throws: ProtectionError.keyNotSupported) { try seed { _ in } }
        #expect(throws: ProtectionError.keyNotSupported) {
            try seed { $0.kind = rsa(1024, odd(128)) }
        }
        #expect(throws: ProtectionError.keyNotSupported) {
            try seed { $0.kind = rsa(2048, odd(256), scheme: .oaep(.sha256)) }
        }
        #expect(throws: ProtectionError.keyNotSupported) {
            try seed { $0.kind = rsa(2048, odd(255) + [0xC6]) }
        }
        #expect(throws: ProtectionError.keyNotSupported) {
            try seed { $0.kind = rsa(2048, odd(256), exponent: 3) }
        }
        #expect(throws: ProtectionError.keyNotSupported) {
            try seed {
                $0.kind = rsa(2048, odd(256))
                $0.attributes.remove(.decrypt)
            }
        }
    }

    @Test("two blobs of one secret have nothing in common")
    func blobsDiffer() throws {
        let first = try seal(32)
        let second = try seal(32)
        #expect(first.publicArea != second.publicArea)
        #expect(first.duplicate != second.duplicate)
        #expect(first.encryptedSeed != second.encryptedSeed)
    }

    @Test("key derivation in counter mode: a value computed with Python's hmac")
    func knownKDFa() {
        let key = SymmetricSecret([UInt8](repeating: 0x0B, count: 32))
        let derived = kdfa(.sha256, key: key, label: "ATH", contextU: [1], contextV: [2], bits: 256)
        #expect(
            hexadecimal(derived.copyBytes())
                == "59540f66bad147fe1b8c7917f0d3562638a34b42d2121d2b754392d480077e25")
        let other = kdfa(.sha256, key: key, label: "CFB", contextU: [1], contextV: [2], bits: 256)
        #expect(other.copyBytes() != derived.copyBytes())
    }

    // MARK: published vectors

    private struct Derivation: Decodable {
        let Name: String
        let HashAlg: UInt16
        let Key: String?
        let Z: String?
        let Label: String
        let ContextU: String
        let ContextV: String
        let Bits: Int
        let Result: String
    }

    private struct Encapsulation: Decodable {
        let Name: String
        let Label: String
        let EphemeralPrivate: String?
        let OAEPSalt: String?
        let PublicKey: String
        let Secret: String
        let Ciphertext: String
    }

    /// Vectors of google/go-tpm, where they are at hand.
    private func published<T: Decodable>(_ name: String, as: T.Type) -> [T] {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../shared/vectors/go-tpm/\(name).json")
        guard let data = try? Data(contentsOf: file) else { return [] }
        return (try? JSONDecoder().decode([T].self, from: data)) ?? []
    }

    @Test("KDFa agrees with go-tpm")
    func publishedKDFa() throws {
        for vector in published("kdfa", as: Derivation.self) {
            let hash = try #require(AlgorithmID(rawValue: vector.HashAlg).hash)
            let result = kdfa(
                hash, key: SymmetricSecret(try #require(bytes(hexadecimal: vector.Key ?? ""))),
                label: vector.Label, contextU: try #require(bytes(hexadecimal: vector.ContextU)),
                contextV: try #require(bytes(hexadecimal: vector.ContextV)), bits: vector.Bits)
            #expect(hexadecimal(result.copyBytes()) == vector.Result, "\(vector.Name)")
        }
    }

    @Test("KDFe agrees with go-tpm")
    func publishedKDFe() throws {
        for vector in published("kdfe", as: Derivation.self) {
            let hash = try #require(AlgorithmID(rawValue: vector.HashAlg).hash)
            let result = kdfe(
                hash, z: SymmetricSecret(try #require(bytes(hexadecimal: vector.Z ?? ""))),
                label: vector.Label, partyU: try #require(bytes(hexadecimal: vector.ContextU)),
                partyV: try #require(bytes(hexadecimal: vector.ContextV)), bits: vector.Bits)
            #expect(hexadecimal(result.copyBytes()) == vector.Result, "\(vector.Name)")
        }
    }

    @Test("shared seeds agree with go-tpm for RSA")
    func publishedTransport() throws {
        let vectors = published("rsa_labeled_encaps", as: Encapsulation.self)
        var compared = 0
        for vector in vectors {
            let area = try #require(bytes(hexadecimal: vector.PublicKey))
            // A key that is not restricted has a scheme with a hash of its own; no TPM salts to it.
            guard let key = try? PublicArea(wireBytes: area), key.nameAlgorithm != .sha1,
                key.attributes.contains(.restricted),
                let purpose = SharedSeed.Purpose(rawValue: vector.Label)
            else { continue }
            let secret = try #require(bytes(hexadecimal: vector.Secret))
            let salt = try #require(bytes(hexadecimal: vector.OAEPSalt ?? ""))
            // The seed is asked for first, then what OAEP hides it with.
            let left = Mutex([secret, salt])
            let seed = try SharedSeed(
                for: key, purpose: purpose,
                random: RandomSource { _ in left.withLock { $0.removeFirst() } })
            #expect(hexadecimal(seed.seed.copyBytes()) == vector.Secret, "\(vector.Name)")
            #expect(hexadecimal(seed.encrypted) == vector.Ciphertext, "\(vector.Name)")
            compared += 1
        }
        #expect(vectors.isEmpty || compared > 0)
    }

    @Test("shared seeds agree with go-tpm for the curves that are accepted")
    func publishedSeeds() throws {
        for vector in published("ecc_labeled_encaps", as: Encapsulation.self) {
            let area = try #require(bytes(hexadecimal: vector.PublicKey))
            // Other curves and name algorithms are refused, which is what is wanted.
            guard let key = try? PublicArea(wireBytes: area),
                let purpose = SharedSeed.Purpose(rawValue: vector.Label)
            else { continue }
            let ephemeral = try #require(bytes(hexadecimal: vector.EphemeralPrivate ?? ""))
            let seed = try SharedSeed(
                for: key, purpose: purpose,
                random: RandomSource { count in
                    [UInt8](repeating: 0, count: max(0, count - ephemeral.count)) + ephemeral
                })
            #expect(hexadecimal(seed.seed.copyBytes()) == vector.Secret, "\(vector.Name)")
            #expect(hexadecimal(seed.encrypted) == vector.Ciphertext, "\(vector.Name)")
        }
    }
}
