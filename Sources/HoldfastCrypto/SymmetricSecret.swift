import Crypto

/// A short-lived symmetric key or PIN in guarded memory: wiped when the last copy of it goes away,
/// never printed.
///
/// For session keys, authorization values and key derivation. It can be copied, other than
/// ``SecretBytes``; the copies share the same memory.
public struct SymmetricSecret: Sendable, CustomStringConvertible, CustomReflectable {
    private final class Storage: Sendable {
        let bytes: SecretBytes

        init(_ bytes: consuming SecretBytes) { self.bytes = bytes }
    }

    /// `nil` for no bytes: empty authorization values are many, and guarded memory is whole pages.
    private let storage: Storage?

    private init(taking bytes: consuming SecretBytes) {
        storage = bytes.count > 0 ? Storage(bytes) : nil
    }

    /// Takes key bytes; the array itself is not wiped.
    public init(_ bytes: [UInt8]) {
        self.init(taking: SecretBytes(copying: bytes))
    }

    /// Takes key bytes from guarded memory.
    public init(_ secret: borrowing SecretBytes) {
        self.init(taking: secret.withBytes { SecretBytes(copying: $0) })
    }

    init(_ secret: SharedSecret) {
        self = unsafe secret.withUnsafeBytes { bytes in
            SymmetricSecret(
                taking: SecretBytes(count: bytes.count) {
                    (target: inout MutableSpan<UInt8>) in
                    for index in target.indices { target[index] = unsafe bytes[index] }
                })
        }
    }

    /// Lends the bytes for the duration of `body`.
    public func withBytes<R: ~Copyable, E: Error>(
        _ body: (Span<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        guard let storage else { return try body(Span()) }
        return try storage.bytes.withBytes(body)
    }

    func withUnsafeBuffer<R: ~Copyable, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        guard let storage else {
            return try unsafe body(UnsafeRawBufferPointer(start: nil, count: 0))
        }
        return try unsafe storage.bytes.withUnsafeBuffer(body)
    }

    /// The key followed by more bytes: session key and authorization value, for example.
    public func appending(_ suffix: [UInt8]) -> SymmetricSecret {
        suffix.isEmpty ? self : joined(suffix.span)
    }

    /// The key followed by another one.
    public func appending(_ suffix: SymmetricSecret) -> SymmetricSecret {
        guard count > 0 else { return suffix }
        return suffix.count > 0 ? suffix.withBytes(joined) : self
    }

    private func joined(_ suffix: Span<UInt8>) -> SymmetricSecret {
        withBytes { bytes in
            SymmetricSecret(
                taking: SecretBytes(count: bytes.count + suffix.count) {
                    (target: inout MutableSpan<UInt8>) in
                    for index in bytes.indices { target[index] = bytes[index] }
                    for index in suffix.indices { target[bytes.count + index] = suffix[index] }
                })
        }
    }

    /// Some of the bytes, in guarded memory of their own.
    package func extracting(_ range: Range<Int>) -> SymmetricSecret {
        withBytes { bytes in
            SymmetricSecret(taking: SecretBytes(copying: bytes.extracting(range)))
        }
    }

    /// The key bytes, copied into ordinary memory; the caller wipes them.
    package func copyBytes() -> [UInt8] {
        withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }

    /// How many bytes the key has.
    public var count: Int { storage?.bytes.count ?? 0 }

    /// Shows the length and not the key.
    public var description: String { "SymmetricSecret(\(count) bytes, not shown)" }
    /// Does not show the key.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
