/// Authenticated encryption with XChaCha20 and Poly1305.
///
/// draft-irtf-cfrg-xchacha-03; libsodium `crypto_aead_xchacha20poly1305_ietf_encrypt`.
public enum XChaCha20Poly1305 {
    /// Length of a key in bytes.
    public static let keySize = 32
    /// Length of the tag that stands after the ciphertext, in bytes.
    public static let tagSize = 16

    /// Encrypts and authenticates.
    ///
    /// - Parameters:
    ///   - plaintext: at most ``SecretBytes/maximumCount`` bytes.
    ///   - nonce: never used twice with the same key; a random one is long enough for that.
    ///   - associatedData: authenticated and not contained in the result.
    ///   - key: 32 bytes.
    /// - Returns: ciphertext and tag, ``tagSize`` bytes longer than the plaintext.
    /// - Throws: `.lengthInvalid` for the key, `.tooLarge`.
    public static func seal(
        _ plaintext: Span<UInt8>, nonce: XChaCha20Nonce, associatedData: [UInt8],
        key: borrowing SecretBytes
    ) throws(CryptoError) -> [UInt8] {
        guard key.count == keySize else { throw .lengthInvalid }
        guard plaintext.count <= SecretBytes.maximumCount else { throw .tooLarge }
        return key.withBytes { key in
            [UInt8](count: plaintext.count + tagSize) { target in
                Sodium.sealXChaCha20Poly1305(
                    plaintext, nonce: nonce.storage.inline.span,
                    associatedData: associatedData.span,
                    key: key, into: &target)
            }
        }
    }

    /// Checks the tag and decrypts into guarded memory.
    ///
    /// - Parameters:
    ///   - sealed: ciphertext and tag.
    ///   - nonce: the one that was sealed with.
    ///   - associatedData: the same that was sealed with.
    ///   - key: 32 bytes.
    /// - Returns: the plaintext.
    /// - Throws: `.authenticationFailed`; `.lengthInvalid` for the key or when there is no room
    ///   for a tag; `.tooLarge`.
    public static func open(
        _ sealed: [UInt8], nonce: XChaCha20Nonce, associatedData: [UInt8],
        key: borrowing SecretBytes
    ) throws(CryptoError) -> SecretBytes {
        guard key.count == keySize, sealed.count >= tagSize else { throw .lengthInvalid }
        guard sealed.count - tagSize <= SecretBytes.maximumCount else { throw .tooLarge }
        return try SecretBytes(count: sealed.count - tagSize) {
            (target: inout MutableSpan<UInt8>) throws(CryptoError) in
            try key.withBytes { (key) throws(CryptoError) in
                try Sodium.openXChaCha20Poly1305(
                    sealed.span, nonce: nonce.storage.inline.span,
                    associatedData: associatedData.span, key: key, into: &target)
            }
        }
    }
}
