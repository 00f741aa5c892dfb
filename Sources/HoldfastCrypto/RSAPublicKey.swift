import Crypto
import CryptoExtras
import FoundationEssentials

/// How an RSA signature is padded.
public enum RSASignaturePadding: Sendable, Hashable {
    /// RSASSA-PKCS1-v1_5: what TPMs call RSASSA.
    case pkcs1
    /// RSASSA-PSS with MGF1 of the same hash, and a salt as long as its digest.
    case pss
}

/// An RSA key that verifies signatures.
///
/// It does not encrypt; a credential for an RSA endorsement key is not its business.
public struct RSAPublicKey: Sendable, Hashable {
    /// Lengths of the modulus that are accepted, in bits.
    public static let acceptedBits: Set<Int> = [2048, 3072, 4096]

    /// The modulus, big-endian, without a leading zero.
    public let modulus: [UInt8]
    /// The public exponent: 65,537 and no other.
    public let exponent: UInt32
    private let parsed: _RSA.Signing.PublicKey

    /// Takes the numbers of a key.
    ///
    /// - Parameters:
    ///   - modulus: big-endian, exactly 256, 384 or 512 bytes with the highest bit set; odd.
    ///   - exponent: 65,537. A TPM writes 0 for it; callers translate.
    /// - Throws: `.rsaKeyInvalid`.
    public init(modulus: [UInt8], exponent: UInt32) throws(KeyError) {
        guard Self.acceptedBits.contains(modulus.count * 8), let first = modulus.first,
            let last = modulus.last, first & 0x80 != 0, last & 1 == 1, exponent == 65_537
        else { throw .rsaKeyInvalid }
        self.modulus = modulus
        self.exponent = exponent
        do {
            parsed = try _RSA.Signing.PublicKey(n: modulus, e: [UInt8]([0x01, 0x00, 0x01]))
        } catch {
            throw .rsaKeyInvalid
        }
    }

    /// The key has the shape of those that a library of Infineon made, which can be factored.
    ///
    /// The primes of such a key are powers of 65,537 modulo many small primes, and so is their
    /// product; of other keys one in 2^27 looks so.
    ///
    /// CVE-2017-15361, "The Return of Coppersmith's Attack", section 3.
    public var isFactorable: Bool {
        Self.fingerprintPrimes.allSatisfy { prime in
            let rest = modulus.reduce(0) { ($0 << 8 | Int($1)) % prime }
            var power = 1
            repeat {
                if power == rest { return true }
                power = power * 65_537 % prime
            } while power != 1
            return false
        }
    }

    /// Those modulo which 65,537 does not generate every residue.
    private static let fingerprintPrimes = [
        11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
    ]

    /// Reads a public key in PEM: SubjectPublicKeyInfo or PKCS #1.
    ///
    /// RFC 7468, section 13.
    public init(pem: String) throws(KeyError) {
        try self.init(try? _RSA.Signing.PublicKey(pemRepresentation: pem))
    }

    /// Reads a public key in DER: SubjectPublicKeyInfo or PKCS #1.
    public init(der: [UInt8]) throws(KeyError) {
        try self.init(try? _RSA.Signing.PublicKey(derRepresentation: der))
    }

    private init(_ key: _RSA.Signing.PublicKey?) throws(KeyError) {
        guard let numbers = try? key?.getKeyPrimitives(),
            numbers.publicExponent.elementsEqual([0x01, 0x00, 0x01])
        else { throw .rsaKeyInvalid }
        try self.init(modulus: [UInt8](numbers.modulus), exponent: 65_537)
    }

    /// Checks a signature over `message` as received; returning means it is genuine.
    ///
    /// The padding is the one that is named; no other is tried.
    ///
    /// - Parameters:
    ///   - signature: exactly as long as the modulus.
    ///   - message: the signed bytes, not their digest.
    ///   - hash: SHA-256, SHA-384 or SHA-512; SHA-1 is refused.
    /// - Throws: `.signatureInvalid`, `.hashNotAccepted`.
    ///
    /// RFC 8017, sections 8.1.2 and 8.2.2.
    public func verify(
        _ signature: [UInt8], over message: [UInt8], hash: HashAlgorithm,
        padding: RSASignaturePadding
    ) throws(KeyError) {
        guard signature.count == modulus.count else { throw .signatureInvalid }
        let parsedSignature = _RSA.Signing.RSASignature(rawRepresentation: signature)
        let rule: _RSA.Signing.Padding =
            switch padding {
            case .pkcs1: .insecurePKCS1v1_5
            case .pss: .PSS
            }
        let valid: Bool
        switch hash {
        case .sha1: throw .hashNotAccepted
        case .sha256:
            valid = parsed.isValidSignature(
                parsedSignature, for: SHA256.hash(data: message), padding: rule)
        case .sha384:
            valid = parsed.isValidSignature(
                parsedSignature, for: SHA384.hash(data: message), padding: rule)
        case .sha512:
            valid = parsed.isValidSignature(
                parsedSignature, for: SHA512.hash(data: message), padding: rule)
        }
        guard valid else { throw .signatureInvalid }
    }

    /// Two keys are equal when they have the same numbers.
    public static func == (left: RSAPublicKey, right: RSAPublicKey) -> Bool {
        left.modulus == right.modulus && left.exponent == right.exponent
    }

    /// Hashes what ``==(_:_:)`` compares.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(modulus)
        hasher.combine(exponent)
    }
}
