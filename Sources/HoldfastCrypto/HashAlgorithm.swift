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

    /// A part comes from guarded memory; the hash's buffer is wiped with it.
    func digest(prefix: [UInt8], secret: Span<UInt8>, suffix: [UInt8]) -> [UInt8] {
        switch self {
        case .sha1: Self.digest(Insecure.SHA1.self, prefix, secret, suffix)
        case .sha256: Self.digest(SHA256.self, prefix, secret, suffix)
        case .sha384: Self.digest(SHA384.self, prefix, secret, suffix)
        case .sha512: Self.digest(SHA512.self, prefix, secret, suffix)
        }
    }

    private static func digest<H: HashFunction>(
        _: H.Type, _ prefix: [UInt8], _ secret: Span<UInt8>, _ suffix: [UInt8]
    ) -> [UInt8] {
        var hash = H()
        hash.update(data: prefix)
        unsafe secret.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
        hash.update(data: suffix)
        return unsafe hash.finalize().withUnsafeBytes { bytes in unsafe [UInt8](bytes) }
    }

    /// HMAC without any copy of the key in ordinary memory: swift-crypto's own makes three there.
    ///
    /// Blocks of the hash go from guarded memory into it as they are; what is left outside is the
    /// state of the hash behind them.
    private static func hmac<H: HashFunction>(
        _: H.Type, _ key: SymmetricSecret, _ parts: [[UInt8]]
    ) -> [UInt8] {
        let size = H.blockByteCount
        // The two blocks, one after the other: guarded memory is whole pages.
        let pads = key.withBytes { key in
            SecretBytes(count: 2 * size) { (target: inout MutableSpan<UInt8>) in
                var digest = key.count > size ? Self.digest(H.self, [], key, []) : []
                defer { wipe(&digest) }
                for index in 0..<size {
                    var byte: UInt8 = 0
                    if index < digest.count {
                        byte = digest[index]
                    } else if digest.isEmpty, index < key.count {
                        byte = key[index]
                    }
                    target[index] = byte ^ 0x36
                    target[size + index] = byte ^ 0x5C
                }
            }
        }
        var inner = pads.withBytes { begin(H.self, $0.extracting(..<size)) }
        for part in parts { inner.update(data: part) }
        var outer = pads.withBytes { begin(H.self, $0.extracting(size...)) }
        unsafe inner.finalize().withUnsafeBytes { digest in
            unsafe outer.update(bufferPointer: digest)
        }
        let code = unsafe outer.finalize().withUnsafeBytes { bytes in unsafe [UInt8](bytes) }
        Sodium.clearStack()
        return code
    }

    private static func begin<H: HashFunction>(_: H.Type, _ block: Span<UInt8>) -> H {
        var hash = H()
        unsafe block.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
        return hash
    }
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
        withBytes { hash.digest(prefix: prefix, secret: $0, suffix: []) }
    }
}

extension SymmetricSecret {
    /// Hashes `prefix`, the secret bytes and `suffix`.
    package func digest(_ hash: HashAlgorithm, prefix: [UInt8], suffix: [UInt8]) -> [UInt8] {
        withBytes { hash.digest(prefix: prefix, secret: $0, suffix: suffix) }
    }
}
