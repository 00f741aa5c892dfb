/// A `v4.public` token whose signature was verified: the proof that somebody looked.
///
/// Only ``PASETO/verify(_:with:expectedFooter:implicitAssertion:)`` makes one.
public struct VerifiedToken: Sendable {
    /// What was signed, byte for byte.
    public let payload: [UInt8]
    /// The footer, which the signature covers.
    public let footer: [UInt8]
    /// The key that verified the signature.
    public let signer: Ed25519PublicKey

    fileprivate init(payload: [UInt8], footer: [UInt8], signer: Ed25519PublicKey) {
        self.payload = payload
        self.footer = footer
        self.signer = signer
    }
}

extension PASETO {
    /// Verifies a signed token.
    ///
    /// The footer is compared first, so that a token for somebody else is told from a forged one.
    ///
    /// - Parameters:
    ///   - token: as received; must be `v4.public`.
    ///   - key: the signer's.
    ///   - expectedFooter: what the footer must be; `nil` takes any footer that the signature
    ///     covers.
    ///   - implicitAssertion: what was signed beside the token, often a device binding.
    /// - Returns: the proof, with payload and footer.
    /// - Throws: `.wrongKind`, `.footerMismatch`, `.signatureInvalid`, `.tooLarge`.
    public static func verify(
        _ token: PASETOToken, with key: Ed25519PublicKey, expectedFooter: [UInt8]?,
        implicitAssertion: [UInt8]
    ) throws(CryptoError) -> VerifiedToken {
        try check(
            token, is: .v4Public, expectedFooter: expectedFooter,
            implicitAssertion: implicitAssertion)
        let end = token.body.count - Ed25519Signature.size
        let payload = token.body[..<end]
        let signature = try Ed25519Signature(token.body.span.extracting(end...))
        let signed = preAuthenticationEncoding(
            v4PublicHeader, payload, token.footer[...], implicitAssertion[...])
        try key.verify(signature, over: signed)
        return VerifiedToken(payload: Array(payload), footer: token.footer, signer: key)
    }

    /// Signs a payload.
    ///
    /// - Parameters:
    ///   - payload: at most ``maximumPayloadSize`` bytes; JSON, by PASETO's rules.
    ///   - footer: readable before the token is verified; empty for none.
    ///   - implicitAssertion: signed, and not contained in the token.
    ///   - key: the signer's.
    /// - Returns: the token.
    /// - Throws: `.tooLarge`.
    public static func sign(
        _ payload: [UInt8], footer: [UInt8], implicitAssertion: [UInt8],
        with key: borrowing Ed25519PrivateKey
    ) throws(CryptoError) -> PASETOToken {
        try checkSizes(
            payload: payload.count, footer: footer, implicitAssertion: implicitAssertion)
        let signature = key.sign(
            preAuthenticationEncoding(
                v4PublicHeader, payload[...], footer[...], implicitAssertion[...]))
        return try PASETOToken(
            purpose: .v4Public, body: payload + signature.bytes, footer: footer)
    }

    private static let v4PublicHeader = Array(PASETOPurpose.v4Public.rawValue.utf8)[...]
}
