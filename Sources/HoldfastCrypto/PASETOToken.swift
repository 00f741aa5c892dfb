/// A token as received: nothing in it is verified, and equal tokens prove nothing.
///
/// It stands in a container as the decoded body and footer, and elsewhere as text; both have
/// exactly one form.
public struct PASETOToken: Sendable, Hashable {
    /// The longest body in bytes, decoded.
    public static let maximumBodySize = 1 << 18
    /// The longest footer in bytes, decoded.
    public static let maximumFooterSize = 1 << 10
    /// The longest text in bytes.
    public static let maximumTextSize =
        "v4.public..".utf8.count + Base64URL.encodedSize(maximumBodySize)
        + Base64URL.encodedSize(maximumFooterSize)

    /// What kind of token it says that it is.
    public let purpose: PASETOPurpose
    /// Message and signature, or nonce, ciphertext and tag.
    public let body: [UInt8]
    /// Signed or authenticated, never encrypted; empty when there is none.
    public let footer: [UInt8]

    /// Takes a token from its decoded parts.
    ///
    /// - Parameters:
    ///   - purpose: what kind of token it is to be.
    ///   - body: 64 bytes to ``maximumBodySize``, raw.
    ///   - footer: none to ``maximumFooterSize`` bytes, raw.
    /// - Throws: `.lengthInvalid` when the body is too short, `.tooLarge`.
    public init(purpose: PASETOPurpose, body: [UInt8], footer: [UInt8]) throws(CryptoError) {
        guard body.count <= Self.maximumBodySize, footer.count <= Self.maximumFooterSize else {
            throw .tooLarge
        }
        guard body.count >= purpose.minimumBodySize else { throw .lengthInvalid }
        self.purpose = purpose
        self.body = body
        self.footer = footer
    }

    /// Reads the text form, `v4.public.…` or `v4.local.…`.
    ///
    /// - Throws: `.wrongKind` for another version or purpose; `.encodingInvalid` when a part is not
    ///   strict base64url or there are more than two; `.lengthInvalid`, `.tooLarge`.
    public init(parsing text: String) throws(CryptoError) {
        let characters = text.utf8.span
        guard characters.count <= Self.maximumTextSize else { throw .tooLarge }
        guard
            let purpose = PASETOPurpose.allCases.first(where: {
                text.utf8.starts(with: $0.rawValue.utf8)
            })
        else { throw .wrongKind }
        let start = purpose.rawValue.utf8.count
        var end = start
        while end < characters.count, characters[end] != UInt8(ascii: ".") { end += 1 }
        var footer: [UInt8] = []
        if end < characters.count {
            footer = try Base64URL.decode(characters.extracting((end + 1)...))
            // An empty footer has no dot: one token, one text.
            guard !footer.isEmpty else { throw .encodingInvalid }
        }
        try self.init(
            purpose: purpose, body: try Base64URL.decode(characters.extracting(start..<end)),
            footer: footer)
    }

    /// The text form.
    public var text: String {
        let body = purpose.rawValue + Base64URL.encode(body)
        return footer.isEmpty ? body : body + "." + Base64URL.encode(footer)
    }
}
