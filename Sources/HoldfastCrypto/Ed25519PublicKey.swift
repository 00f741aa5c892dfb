/// An Ed25519 verification key.
///
/// Any 32 bytes are taken; bytes that are no usable point verify nothing.
///
/// RFC 8032, section 5.1.
public struct Ed25519PublicKey: Sendable, Hashable {
    /// Length of a key in bytes.
    public static let size = 32

    private let storage: FixedBytes<32>

    /// Takes the encoded point.
    ///
    /// - Parameter bytes: 32 bytes, raw.
    /// - Throws: `.lengthInvalid`.
    public init(_ bytes: Span<UInt8>) throws(CryptoError) { storage = try FixedBytes(bytes) }

    /// Takes the encoded point.
    ///
    /// - Parameter bytes: 32 bytes, raw.
    /// - Throws: `.lengthInvalid`.
    public init(_ bytes: [UInt8]) throws(CryptoError) { try self.init(bytes.span) }

    /// The encoded point, 32 bytes.
    public var bytes: [UInt8] { storage.array }

    /// Checks a signature over `message` as received; returning means it is genuine.
    ///
    /// Refused as well: signatures that are not in their one form (S not below the group order)
    /// and points of small order.
    ///
    /// - Throws: `.signatureInvalid`.
    ///
    /// RFC 8032, section 5.1.7; libsodium `crypto_sign_verify_detached`.
    public func verify(
        _ signature: Ed25519Signature, over message: Span<UInt8>
    ) throws(CryptoError) {
        try Sodium.verify(
            signature: signature.storage.inline.span, message: message,
            publicKey: storage.inline.span)
    }

    /// Checks a signature over `message` as received; returning means it is genuine.
    ///
    /// - Throws: `.signatureInvalid`.
    public func verify(
        _ signature: Ed25519Signature, over message: [UInt8]
    ) throws(CryptoError) {
        try verify(signature, over: message.span)
    }
}
