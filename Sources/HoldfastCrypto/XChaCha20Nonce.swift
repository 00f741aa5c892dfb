/// A nonce of ``XChaCha20Poly1305``: public, and never used twice with the same key.
public struct XChaCha20Nonce: Sendable {
    /// Length in bytes.
    public static let size = 24

    let storage: FixedBytes<24>

    /// Draws a nonce.
    public init(random: RandomSource) {
        storage = FixedBytes(made: random.bytes(Self.size))
    }

    /// Takes a nonce as received.
    ///
    /// - Parameter bytes: 24 bytes, raw.
    /// - Throws: `.lengthInvalid`.
    public init(_ bytes: [UInt8]) throws(CryptoError) {
        storage = try FixedBytes(bytes.span)
    }

    /// The nonce, 24 bytes.
    public var bytes: [UInt8] { storage.array }
}
