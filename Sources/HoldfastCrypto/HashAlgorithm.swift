import Crypto
import FoundationEssentials

/// The hash functions of the TPM algorithm registry that Holdfast knows.
///
/// SHA-1 is here to read old event logs; nothing accepts it as proof.
public enum HashAlgorithm: Sendable, Hashable, CaseIterable {
    case sha1, sha256, sha384, sha512

    /// Length of a digest in bytes.
    public var digestSize: Int {
        switch self {
        case .sha1: 20
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }

    /// Hashes the concatenation of `parts`.
    public func digest(_ parts: [UInt8]...) -> [UInt8] {
        switch self {
        case .sha1: Self.digest(Insecure.SHA1.self, parts)
        case .sha256: Self.digest(SHA256.self, parts)
        case .sha384: Self.digest(SHA384.self, parts)
        case .sha512: Self.digest(SHA512.self, parts)
        }
    }

    /// HMAC of the concatenation of `parts`.
    ///
    /// FIPS 198-1.
    public func hmac(key: SymmetricSecret, _ parts: [UInt8]...) -> [UInt8] {
        switch self {
        case .sha1: Self.hmac(Insecure.SHA1.self, key, parts)
        case .sha256: Self.hmac(SHA256.self, key, parts)
        case .sha384: Self.hmac(SHA384.self, key, parts)
        case .sha512: Self.hmac(SHA512.self, key, parts)
        }
    }

    private static func digest<H: HashFunction>(_: H.Type, _ parts: [[UInt8]]) -> [UInt8] {
        var hash = H()
        for part in parts { hash.update(data: part) }
        // Twice as fast as going through the digest's iterator.
        return unsafe hash.finalize().withUnsafeBytes { bytes in unsafe [UInt8](bytes) }
    }

    private static func hmac<H: HashFunction>(
        _: H.Type, _ key: SymmetricSecret, _ parts: [[UInt8]]
    ) -> [UInt8] {
        var code = HMAC<H>(key: key.key)
        for part in parts { code.update(data: part) }
        return [UInt8](code.finalize())
    }
}

/// A short-lived symmetric key: wiped when the last copy of it goes away, never printed.
///
/// For session keys and key derivation. What the TPM releases belongs in ``SecretBytes``.
public struct SymmetricSecret: Sendable, CustomStringConvertible, CustomReflectable {
    let key: SymmetricKey

    /// Takes key bytes; the array itself is not wiped.
    public init(_ bytes: [UInt8]) { key = SymmetricKey(data: bytes) }

    /// Takes key bytes from guarded memory.
    public init(_ secret: borrowing SecretBytes) {
        key = unsafe secret.withUnsafeBuffer { buffer in unsafe SymmetricKey(data: buffer) }
    }

    init(_ secret: SharedSecret) {
        key = unsafe secret.withUnsafeBytes { bytes in unsafe SymmetricKey(data: bytes) }
    }

    /// The key followed by more bytes: session key and authorization value, for example.
    public func appending(_ suffix: [UInt8]) -> SymmetricSecret {
        guard !suffix.isEmpty else { return self }
        return unsafe key.withUnsafeBytes { bytes in
            // Room for all of it at once: what grows leaves a copy behind.
            var joined: [UInt8] = []
            joined.reserveCapacity(bytes.count + suffix.count)
            unsafe joined.append(contentsOf: bytes)
            joined += suffix
            defer { wipe(&joined) }
            return SymmetricSecret(joined)
        }
    }

    /// The key followed by another one.
    public func appending(_ suffix: SymmetricSecret) -> SymmetricSecret {
        guard suffix.count > 0 else { return self }
        var bytes = suffix.copyBytes()
        defer { wipe(&bytes) }
        return appending(bytes)
    }

    /// The key bytes, copied into ordinary memory; the caller wipes them.
    package func copyBytes() -> [UInt8] {
        unsafe key.withUnsafeBytes { bytes in unsafe [UInt8](bytes) }
    }

    /// How many bytes the key has.
    public var count: Int { key.bitCount / 8 }

    /// Shows the length and not the key.
    public var description: String { "SymmetricSecret(\(count) bytes, not shown)" }
    /// Does not show the key.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Overwrites an array that nobody else holds, in a way the optimizer keeps.
package func wipe(_ bytes: inout [UInt8]) {
    unsafe bytes.withUnsafeMutableBytes { buffer in
        guard let base = buffer.baseAddress else { return }
        unsafe Sodium.wipe(base, buffer.count)
    }
}

extension SecretBytes {
    /// Hashes `prefix` followed by the secret bytes.
    public borrowing func digest(_ hash: HashAlgorithm, prefix: [UInt8]) -> [UInt8] {
        withBytes { bytes in
            var joined = prefix
            joined.reserveCapacity(prefix.count + bytes.count)
            for index in bytes.indices { joined.append(bytes[index]) }
            defer { wipe(&joined) }
            return hash.digest(joined)
        }
    }
}
