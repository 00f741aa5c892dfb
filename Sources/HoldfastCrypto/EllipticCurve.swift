import Crypto
import FoundationEssentials

/// The curves that Holdfast accepts from a TPM.
public enum EllipticCurve: Sendable, Hashable, CaseIterable {
    case p256, p384

    /// Length of a coordinate in bytes.
    public var coordinateSize: Int {
        switch self {
        case .p256: 32
        case .p384: 48
        }
    }

    /// The hash that goes with the curve in certificates and in TPM templates.
    public var naturalHash: HashAlgorithm {
        switch self {
        case .p256: .sha256
        case .p384: .sha384
        }
    }
}

/// What is wrong with a key or a signature.
public enum KeyError: Error, Sendable, Hashable {
    /// The coordinates are not a point on the curve.
    case notOnCurve
    /// A signature value is zero, too long, or does not verify.
    case signatureInvalid
    /// The hash is not one that is accepted with this kind of key.
    case hashNotAccepted
    /// A private key has the wrong length or is out of range.
    case privateKeyInvalid
    /// An RSA modulus or exponent that is not accepted.
    case rsaKeyInvalid
}

/// A point on a curve, checked when it is made.
public struct ECPublicKey: Sendable, Hashable {
    private enum Parsed: Sendable {
        case p256(P256.Signing.PublicKey)
        case p384(P384.Signing.PublicKey)
    }

    /// The curve.
    public let curve: EllipticCurve
    /// The coordinates, big-endian, padded to ``EllipticCurve/coordinateSize``.
    public let x, y: [UInt8]
    private let parsed: Parsed

    /// Checks that the coordinates are a point on the curve.
    ///
    /// - Parameters:
    ///   - curve: the curve.
    ///   - x: big-endian, at most ``EllipticCurve/coordinateSize`` bytes; shorter is padded.
    ///   - y: likewise.
    /// - Throws: `.notOnCurve`.
    public init(curve: EllipticCurve, x: [UInt8], y: [UInt8]) throws(KeyError) {
        let size = curve.coordinateSize
        guard let paddedX = leftPadded(x, to: size), let paddedY = leftPadded(y, to: size) else {
            throw .notOnCurve
        }
        self.curve = curve
        self.x = paddedX
        self.y = paddedY
        do {
            let encoded = [0x04] + paddedX + paddedY
            switch curve {
            case .p256: parsed = .p256(try P256.Signing.PublicKey(x963Representation: encoded))
            case .p384: parsed = .p384(try P384.Signing.PublicKey(x963Representation: encoded))
            }
        } catch {
            throw .notOnCurve
        }
    }

    /// Checks an ECDSA signature over `message` as received; returning means it is genuine.
    ///
    /// - Parameters:
    ///   - r: big-endian, at most the size of a coordinate.
    ///   - s: likewise.
    ///   - message: the signed bytes, not their digest.
    ///   - hash: SHA-256, SHA-384 or SHA-512; SHA-1 is refused.
    /// - Throws: `.signatureInvalid`, `.hashNotAccepted`.
    ///
    /// FIPS 186-5, section 6.4.2.
    public func verifyECDSA(
        r: [UInt8], s: [UInt8], over message: [UInt8], hash: HashAlgorithm
    ) throws(KeyError) {
        let size = curve.coordinateSize
        guard let r = leftPadded(r, to: size), let s = leftPadded(s, to: size) else {
            throw .signatureInvalid
        }
        let valid: Bool
        do {
            switch (parsed, hash) {
            case (.p256(let key), .sha256):
                valid = key.isValidSignature(
                    try .init(rawRepresentation: r + s), for: SHA256.hash(data: message))
            case (.p256(let key), .sha384):
                valid = key.isValidSignature(
                    try .init(rawRepresentation: r + s), for: SHA384.hash(data: message))
            case (.p256(let key), .sha512):
                valid = key.isValidSignature(
                    try .init(rawRepresentation: r + s), for: SHA512.hash(data: message))
            case (.p384(let key), .sha256):
                valid = key.isValidSignature(
                    try .init(rawRepresentation: r + s), for: SHA256.hash(data: message))
            case (.p384(let key), .sha384):
                valid = key.isValidSignature(
                    try .init(rawRepresentation: r + s), for: SHA384.hash(data: message))
            case (.p384(let key), .sha512):
                valid = key.isValidSignature(
                    try .init(rawRepresentation: r + s), for: SHA512.hash(data: message))
            case (_, .sha1):
                throw KeyError.hashNotAccepted
            }
        } catch let error as KeyError {
            throw error
        } catch {
            throw .signatureInvalid
        }
        guard valid else { throw .signatureInvalid }
    }

    /// Two keys are equal when they are the same point of the same curve.
    public static func == (left: ECPublicKey, right: ECPublicKey) -> Bool {
        left.curve == right.curve && left.x == right.x && left.y == right.y
    }

    /// Hashes what ``==(_:_:)`` compares.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(curve)
        hasher.combine(x)
        hasher.combine(y)
    }
}

/// A private key in software: an ephemeral one for key agreement, or the vendor's approval key.
public struct ECPrivateKey: Sendable, CustomStringConvertible, CustomReflectable {
    private enum Parsed: Sendable {
        case p256(P256.Signing.PrivateKey)
        case p384(P384.Signing.PrivateKey)
    }

    private let parsed: Parsed
    /// The public half.
    public let publicKey: ECPublicKey

    /// Makes a key from random bytes.
    ///
    /// Candidates that are zero or not below the group order are thrown away and drawn again.
    public init(curve: EllipticCurve, random: RandomSource) {
        while true {
            var candidate = random.bytes(curve.coordinateSize)
            defer { wipe(&candidate) }
            if let key = try? ECPrivateKey(curve: curve, scalar: candidate) {
                self = key
                return
            }
        }
    }

    /// Takes a private scalar.
    ///
    /// - Parameters:
    ///   - curve: the curve.
    ///   - scalar: big-endian, exactly ``EllipticCurve/coordinateSize`` bytes.
    /// - Throws: `.privateKeyInvalid`.
    public init(curve: EllipticCurve, scalar: [UInt8]) throws(KeyError) {
        let point: [UInt8]
        do {
            switch curve {
            case .p256:
                let key = try P256.Signing.PrivateKey(rawRepresentation: scalar)
                parsed = .p256(key)
                point = [UInt8](key.publicKey.rawRepresentation)
            case .p384:
                let key = try P384.Signing.PrivateKey(rawRepresentation: scalar)
                parsed = .p384(key)
                point = [UInt8](key.publicKey.rawRepresentation)
            }
        } catch {
            throw .privateKeyInvalid
        }
        let size = curve.coordinateSize
        publicKey = try ECPublicKey(
            curve: curve, x: [UInt8](point[..<size]), y: [UInt8](point[size...]))
    }

    /// The private scalar in guarded memory, to be written to a key file.
    public func scalar() -> SecretBytes {
        var raw: [UInt8] =
            switch parsed {
            case .p256(let key): [UInt8](key.rawRepresentation)
            case .p384(let key): [UInt8](key.rawRepresentation)
            }
        defer { wipe(&raw) }
        return SecretBytes(copying: raw)
    }

    /// Diffie-Hellman: the x coordinate of the shared point.
    ///
    /// - Returns: ``EllipticCurve/coordinateSize`` bytes.
    /// - Throws: `.notOnCurve` when the curves differ.
    public func sharedX(with other: ECPublicKey) throws(KeyError) -> SymmetricSecret {
        do {
            let encoded = [0x04] + other.x + other.y
            switch (parsed, other.curve) {
            case (.p256(let key), .p256):
                let own = try P256.KeyAgreement.PrivateKey(
                    rawRepresentation: key.rawRepresentation)
                return SymmetricSecret(
                    try own.sharedSecretFromKeyAgreement(with: .init(x963Representation: encoded)))
            case (.p384(let key), .p384):
                let own = try P384.KeyAgreement.PrivateKey(
                    rawRepresentation: key.rawRepresentation)
                return SymmetricSecret(
                    try own.sharedSecretFromKeyAgreement(with: .init(x963Representation: encoded)))
            default: throw KeyError.notOnCurve
            }
        } catch {
            throw .notOnCurve
        }
    }

    /// Signs with ECDSA and the curve's own hash.
    ///
    /// - Returns: r and s, each ``EllipticCurve/coordinateSize`` bytes, one after the other.
    public func signECDSA(_ message: [UInt8]) throws(KeyError) -> [UInt8] {
        do {
            switch parsed {
            case .p256(let key):
                return [UInt8](try key.signature(for: message).rawRepresentation)
            case .p384(let key):
                return [UInt8](try key.signature(for: message).rawRepresentation)
            }
        } catch {
            throw .privateKeyInvalid
        }
    }

    /// Does not show the key.
    public var description: String { "ECPrivateKey(not shown)" }
    /// Does not show the key.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Pads a big-endian integer with zeros on the left; strips nothing.
///
/// - Returns: `nil` when it is longer than `size`.
package func leftPadded(_ bytes: [UInt8], to size: Int) -> [UInt8]? {
    guard bytes.count != size else { return bytes }
    guard bytes.count < size else { return nil }
    return [UInt8](repeating: 0, count: size - bytes.count) + bytes
}

extension ECPublicKey {
    /// Reads a public key in PEM: SubjectPublicKeyInfo on P-256 or P-384.
    ///
    /// RFC 7468, section 13.
    public init(pem: String) throws(KeyError) {
        let point: [UInt8]
        let curve: EllipticCurve
        if let key = try? P256.Signing.PublicKey(pemRepresentation: pem) {
            (curve, point) = (.p256, [UInt8](key.rawRepresentation))
        } else if let key = try? P384.Signing.PublicKey(pemRepresentation: pem) {
            (curve, point) = (.p384, [UInt8](key.rawRepresentation))
        } else {
            throw .notOnCurve
        }
        let size = curve.coordinateSize
        try self.init(curve: curve, x: [UInt8](point[..<size]), y: [UInt8](point[size...]))
    }

    /// SubjectPublicKeyInfo in DER: what is pinned of a server in TLS.
    public var subjectPublicKeyInfo: [UInt8] {
        switch parsed {
        case .p256(let key): [UInt8](key.derRepresentation)
        case .p384(let key): [UInt8](key.derRepresentation)
        }
    }

    /// The key in PEM.
    public var pem: String {
        switch parsed {
        case .p256(let key): key.pemRepresentation
        case .p384(let key): key.pemRepresentation
        }
    }
}
