/// Version 4 tokens: signed ones (`v4.public`) and encrypted ones (`v4.local`).
///
/// Claims are not looked at here. A wall clock decides nothing.
///
/// PASETO specification, docs/01-Protocol-Versions/Version4.md.
public enum PASETO {
    /// The most bytes of a payload.
    public static let maximumPayloadSize = PASETOToken.maximumBodySize - 64
    /// The longest implicit assertion in bytes.
    public static let maximumImplicitAssertionSize = 1 << 10

    /// Refuses before anything is copied what no token can carry.
    static func checkSizes(
        payload: Int, footer: [UInt8], implicitAssertion: [UInt8]
    ) throws(CryptoError) {
        guard payload <= maximumPayloadSize, footer.count <= PASETOToken.maximumFooterSize,
            implicitAssertion.count <= maximumImplicitAssertionSize
        else { throw .tooLarge }
    }

    /// What both ways of opening a token check before they look at the body.
    static func check(
        _ token: PASETOToken, is purpose: PASETOPurpose, expectedFooter: [UInt8]?,
        implicitAssertion: [UInt8]
    ) throws(CryptoError) {
        guard token.purpose == purpose else { throw .wrongKind }
        guard implicitAssertion.count <= maximumImplicitAssertionSize else { throw .tooLarge }
        if let expectedFooter {
            guard constantTimeEqual(token.footer, expectedFooter) else { throw .footerMismatch }
        }
    }

    /// The pre-authentication encoding: what is signed, without any doubt where a part ends.
    ///
    /// PASETO specification, docs/01-Protocol-Versions/Common.md, "PAE Definition".
    static func preAuthenticationEncoding(_ parts: ArraySlice<UInt8>...) -> [UInt8] {
        var encoding: [UInt8] = []
        encoding.reserveCapacity(parts.reduce(8) { $0 + 8 + $1.count })
        append(parts.count, to: &encoding)
        for part in parts {
            append(part.count, to: &encoding)
            encoding += part
        }
        return encoding
    }

    /// Appends a u64, little-endian; a count never has the top bit.
    private static func append(_ count: Int, to encoding: inout [UInt8]) {
        for shift in stride(from: 0, to: 64, by: 8) {
            encoding.append(UInt8(truncatingIfNeeded: count >> shift))
        }
    }
}
