/// The sizes of X25519 sealed boxes: anyone seals to a public key, nobody learns who did.
///
/// A sealed box does not authenticate its sender; what is inside must do that.
///
/// libsodium `crypto_box_seal`: ephemeral public key, then Poly1305 tag and XSalsa20 ciphertext
/// under the nonce BLAKE2b-192(ephemeral public key, recipient public key).
public enum SealedBox {
    /// How many bytes a box is longer than what is inside.
    public static let overhead = 48
    /// The most bytes that are sealed or opened.
    public static let maximumPlaintextSize = SecretBytes.maximumCount
}
