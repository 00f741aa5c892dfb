extension PASETO {
    /// Length of the key of an encrypted token in bytes.
    public static let localKeySize = 32

    private static let nonceSize = 32
    private static let tagSize = 32
    private static let v4LocalHeader = Array(PASETOPurpose.v4Local.rawValue.utf8)[...]

    /// Encrypts a payload.
    ///
    /// - Parameters:
    ///   - payload: at most ``maximumPayloadSize`` bytes; JSON, by PASETO's rules.
    ///   - footer: authenticated and readable by everyone; empty for none.
    ///   - implicitAssertion: authenticated, and not contained in the token.
    ///   - key: 32 bytes.
    ///   - random: gives the nonce.
    /// - Returns: the token.
    /// - Throws: `.lengthInvalid` for the key, `.tooLarge`.
    public static func encrypt(
        _ payload: Span<UInt8>, footer: [UInt8], implicitAssertion: [UInt8],
        key: borrowing SecretBytes, random: RandomSource
    ) throws(CryptoError) -> PASETOToken {
        guard key.count == localKeySize else { throw .lengthInvalid }
        try checkSizes(
            payload: payload.count, footer: footer, implicitAssertion: implicitAssertion)
        let nonce = random.bytes(nonceSize)
        let ciphertext = encryptionKey(nonce[...], key).withBytes { derived in
            [UInt8](count: payload.count) { target in
                Sodium.xchacha20(
                    payload, nonce: derived.extracting(32...), key: derived.extracting(..<32),
                    into: &target)
            }
        }
        let tag = try authenticationTag(
            nonce[...], ciphertext[...], footer, implicitAssertion, key)
        return try PASETOToken(
            purpose: .v4Local, body: nonce + ciphertext + tag, footer: footer)
    }

    /// Checks an encrypted token and decrypts its payload into guarded memory.
    ///
    /// The footer is compared first, so that a token for somebody else is told from a forged one.
    ///
    /// - Parameters:
    ///   - token: as received; must be `v4.local`.
    ///   - key: 32 bytes.
    ///   - expectedFooter: what the footer must be; `nil` takes any footer that is authentic.
    ///   - implicitAssertion: what was authenticated beside the token.
    /// - Returns: the payload.
    /// - Throws: `.wrongKind`, `.footerMismatch`, `.authenticationFailed`, `.tooLarge`;
    ///   `.lengthInvalid` for the key.
    public static func decrypt(
        _ token: PASETOToken, key: borrowing SecretBytes, expectedFooter: [UInt8]?,
        implicitAssertion: [UInt8]
    ) throws(CryptoError) -> SecretBytes {
        guard key.count == localKeySize else { throw .lengthInvalid }
        try check(
            token, is: .v4Local, expectedFooter: expectedFooter,
            implicitAssertion: implicitAssertion)
        let end = token.body.count - tagSize
        let nonce = token.body[..<nonceSize]
        let ciphertext = token.body[nonceSize..<end]
        let tag = try authenticationTag(nonce, ciphertext, token.footer, implicitAssertion, key)
        guard constantTimeEqual(tag, Array(token.body[end...])) else {
            throw .authenticationFailed
        }
        return encryptionKey(nonce, key).withBytes { derived in
            SecretBytes(count: ciphertext.count) { target in
                Sodium.xchacha20(
                    token.body.span.extracting(nonceSize..<end),
                    nonce: derived.extracting(32...), key: derived.extracting(..<32),
                    into: &target)
            }
        }
    }

    /// Derives the encryption key and, after it, the nonce of XChaCha20.
    private static func encryptionKey(
        _ nonce: ArraySlice<UInt8>, _ key: borrowing SecretBytes
    ) -> SecretBytes {
        BLAKE2b.derive(Array("paseto-encryption-key".utf8) + nonce, key: key, outputSize: 56)
    }

    private static func authenticationTag(
        _ nonce: ArraySlice<UInt8>, _ ciphertext: ArraySlice<UInt8>, _ footer: [UInt8],
        _ implicitAssertion: [UInt8], _ key: borrowing SecretBytes
    ) throws(CryptoError) -> [UInt8] {
        let authenticationKey = BLAKE2b.derive(
            Array("paseto-auth-key-for-aead".utf8) + nonce, key: key, outputSize: 32)
        return try BLAKE2b.hash(
            preAuthenticationEncoding(
                v4LocalHeader, nonce, ciphertext, footer[...], implicitAssertion[...]),
            key: authenticationKey, outputSize: tagSize)
    }
}
