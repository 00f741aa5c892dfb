/// An Ed25519 signature: 64 bytes, which say nothing before a key has verified them.
///
/// RFC 8032, section 5.1.6.
public struct Ed25519Signature: Sendable {
    /// Length of a signature in bytes.
    public static let size = 64

    let storage: FixedBytes<64>

    /// Takes a signature as received.
    ///
    /// - Parameter bytes: 64 bytes, raw.
    /// - Throws: `.lengthInvalid`.
    public init(_ bytes: Span<UInt8>) throws(CryptoError) { storage = try FixedBytes(bytes) }

    /// Takes a signature as received.
    ///
    /// - Parameter bytes: 64 bytes, raw.
    /// - Throws: `.lengthInvalid`.
    public init(_ bytes: [UInt8]) throws(CryptoError) { try self.init(bytes.span) }

    init(made bytes: [UInt8]) { storage = FixedBytes(made: bytes) }

    /// The signature, 64 bytes.
    public var bytes: [UInt8] { storage.array }
}
