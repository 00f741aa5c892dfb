public import HoldfastCrypto

/// A seed that only the TPM with a given decryption key can recover.
///
/// Part 1, annex C "ECC Details": one-pass ECDH, then KDFe; annex B.10 "RSA Details": a random seed under
/// OAEP, whose label is the purpose and a zero.
public struct SharedSeed: Sendable {
    /// What the seed protects; part of its derivation.
    public enum Purpose: String, Sendable {
        case session = "SECRET"
        case credential = "IDENTITY"
        case duplication = "DUPLICATE"
    }

    /// As long as a digest of the key's name algorithm.
    public let seed: SymmetricSecret
    /// Content of `TPM2B_ENCRYPTED_SECRET`: the ephemeral point, or the cipher text.
    public let encrypted: [UInt8]

    /// Makes a fresh seed for a key.
    ///
    /// - Throws: ``ProtectionError`` when the key is not a decryption key on a known curve, or
    ///   of RSA with 2048, 3072 or 4096 bits.
    public init(
        for key: PublicArea, purpose: Purpose, random: RandomSource
    ) throws(ProtectionError) {
        guard key.attributes.contains(.decrypt) else { throw .keyNotSupported }
        do {
            if case .rsa(_, .null, _, let exponent, let modulus) = key.kind {
                // Part 2, section 12.2.3.5: zero stands for the default exponent.
                let recipient = try RSAPublicKey(
                    modulus: modulus, exponent: exponent == 0 ? 65_537 : exponent)
                var fresh = random.bytes(key.nameAlgorithm.digestSize)
                defer { wipe(&fresh) }
                seed = SymmetricSecret(fresh)
                encrypted = try recipient.encryptOAEP(
                    seed, hash: key.nameAlgorithm, label: Array(purpose.rawValue.utf8) + [0],
                    random: random)
                return
            }
            guard case .ecc(_, _, let curve, _, _) = key.kind else {
                throw ProtectionError.keyNotSupported
            }
            let recipient = try key.ecPublicKey()
            let ephemeral = ECPrivateKey(curve: curve, random: random)
            let z = try ephemeral.sharedX(with: recipient)
            seed = kdfe(
                key.nameAlgorithm, z: z, label: purpose.rawValue, partyU: ephemeral.publicKey.x,
                partyV: recipient.x, bits: key.nameAlgorithm.digestSize * 8)
            var point = WireWriter(capacity: 4 + 2 * curve.coordinateSize)
            point.sized(ephemeral.publicKey.x)
            point.sized(ephemeral.publicKey.y)
            encrypted = point.bytes
        } catch {
            throw .keyNotSupported
        }
    }
}

/// Why a structure for a TPM could not be made.
public enum ProtectionError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Not a restricted decryption key on P-256 or P-384, or of RSA, with AES.
    case keyNotSupported
    /// The secret is longer than a digest of the key's name algorithm, or than the TPM takes.
    case secretTooLong

    public var description: String {
        switch self {
        case .keyNotSupported:
            "the key is not a decryption key on P-256 or P-384, or of RSA, with AES"
        case .secretTooLong: "the secret is too long for the key"
        }
    }
}

/// Encrypts, then authenticates with a Name: the outer protection of credentials and duplicates.
///
/// Part 1, sections 23.3 "Outer Wrap" and 24 "Credential Protection".
struct OuterWrap {
    private let hash: HashAlgorithm
    private let seed: SymmetricSecret
    private let bits: Int

    init(key: PublicArea, seed: SymmetricSecret) throws(ProtectionError) {
        let symmetric: SymmetricDefinition
        switch key.kind {
        case .ecc(let definition, _, _, _, _), .rsa(let definition, _, _, _, _):
            symmetric = definition
        case .keyedHash: throw .keyNotSupported
        }
        guard case .aesCFB(let bits) = symmetric else { throw .keyNotSupported }
        self.hash = key.nameAlgorithm
        self.seed = seed
        self.bits = Int(bits)
    }

    /// - Returns: `TPM2B` integrity value followed by the cipher text.
    func wrap(_ plaintext: Span<UInt8>, name: TPMName) throws(ProtectionError) -> [UInt8] {
        let storageKey = kdfa(
            hash, key: seed, label: "STORAGE", contextU: name.bytes, contextV: [], bits: bits)
        let ciphertext: [UInt8]
        do {
            ciphertext = try AESCFB.encrypt(
                plaintext, key: storageKey, iv: [UInt8](repeating: 0, count: 16))
        } catch {
            throw .keyNotSupported
        }
        let integrityKey = kdfa(
            hash, key: seed, label: "INTEGRITY", contextU: [], contextV: [],
            bits: hash.digestSize * 8)
        var writer = WireWriter(capacity: ciphertext.count + 66)
        writer.sized(hash.hmac(key: integrityKey, ciphertext, name.bytes))
        writer.raw(ciphertext)
        return writer.bytes
    }
}
