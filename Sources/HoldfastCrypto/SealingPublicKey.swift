/// An X25519 public key that sealed boxes are made for.
///
/// RFC 7748, section 6.1.
public struct SealingPublicKey: Sendable, Hashable {
    /// Length of a key in bytes.
    public static let size = 32

    let storage: FixedBytes<32>

    /// Takes the encoded coordinate; bytes that are no usable key seal nothing.
    ///
    /// - Parameter bytes: 32 bytes, raw.
    /// - Throws: `.lengthInvalid`.
    public init(_ bytes: [UInt8]) throws(CryptoError) {
        storage = try FixedBytes(bytes.span)
    }

    /// The encoded coordinate, 32 bytes.
    public var bytes: [UInt8] { storage.array }

    /// Seals bytes so that only the owner of the private key reads them.
    ///
    /// The ephemeral key comes from `random`, not from libsodium, so that a simulation can repeat
    /// what it did; the bytes are those of `crypto_box_seal`.
    ///
    /// - Parameters:
    ///   - plaintext: at most ``SealedBox/maximumPlaintextSize`` bytes.
    ///   - random: gives the ephemeral key.
    /// - Returns: ``SealedBox/overhead`` bytes more than the plaintext.
    /// - Throws: `.publicKeyInvalid` when the key is a point of small order; `.tooLarge`.
    public func seal(
        _ plaintext: Span<UInt8>, random: RandomSource
    ) throws(CryptoError) -> [UInt8] {
        guard plaintext.count <= SealedBox.maximumPlaintextSize else { throw .tooLarge }
        let recipient = storage
        let ephemeral = random.secret(SealingPrivateKey.size)
        return try ephemeral.withBytes { (ephemeral) throws(CryptoError) in
            let sender = [UInt8](count: Self.size) {
                Sodium.x25519PublicKey(of: ephemeral, into: &$0)
            }
            let nonce = BLAKE2b.hash(sender + recipient.array, outputSize: 24)
            let size = plaintext.count + SealedBox.overhead - Self.size
            return try sender
                + [UInt8](count: size) {
                    (target: inout MutableSpan<UInt8>) throws(CryptoError) in
                    try Sodium.box(
                        plaintext, nonce: nonce.span, publicKey: recipient.inline.span,
                        privateKey: ephemeral, into: &target)
                }
        }
    }
}
