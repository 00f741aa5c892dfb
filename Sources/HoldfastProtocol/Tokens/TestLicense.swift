public import HoldfastCrypto

/// A license of class `test` for machines without a TPM, such as those of application engineers.
///
/// It is bound to no device, and nothing holds it but the program that reads it: whoever has the file can
/// use it. Programs for customers do not look at it.
///
/// docs/spec/formats.md, "Test license".
public struct TestLicense: Sendable, Hashable {
    public var id: LicenseID
    public var product: String
    /// 1 to 64, with different names.
    public var entitlements: [License.Entitlement]
    /// SHA-256 of the section of the terms, which are of class `test`.
    public var termsHash: [UInt8]
    /// UTC seconds; by the wall clock, as there is no other.
    public var endsAt: UInt64
    /// UTC seconds on the server's clock.
    public var issuedAt: UInt64

    public init(
        id: LicenseID, product: String, entitlements: [License.Entitlement], termsHash: [UInt8],
        endsAt: UInt64, issuedAt: UInt64
    ) {
        self.id = id
        self.product = product
        self.entitlements = entitlements
        self.termsHash = termsHash
        self.endsAt = endsAt
        self.issuedAt = issuedAt
    }

    /// Signs the license for everyone.
    public func signed(with key: borrowing Ed25519PrivateKey) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(claims, for: nil, with: key)
        guard try TestLicense(verifying: token, issuers: [key.publicKey]) == self else {
            throw .notCanonical
        }
        return token
    }

    /// Verifies a license.
    ///
    /// - Parameter issuers: from the trust statement.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey]
    ) throws(TokenError) {
        let verified = try IssuedToken.verify(token, for: nil, issuers: issuers)
        var claims = try ClaimsReader(verified.payload, kind: .testLicense)
        id = LicenseID(unchecked: try claims.bytes("license", count: 16))
        product = try claims.name("product")
        entitlements = try claims.entitlements()
        termsHash = try claims.bytes("termsHash", count: 32)
        endsAt = try claims.number("endsAt", in: 1...UInt64(1) << 53)
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        .object([
            "kind": .string(TokenKind.testLicense.rawValue),
            "license": .string(Base64URL.encode(id.bytes)), "product": .string(product),
            "entitlements": .array(entitlements.map(\.claims)),
            "termsHash": .string(Base64URL.encode(termsHash)), "endsAt": .number(endsAt),
            "issuedAt": .number(issuedAt),
        ])
    }
}

/// A test license with its terms, both verified.
///
/// docs/spec/formats.md, "Test license".
public struct TestLicenseDocument: Sendable, Hashable {
    public let license: TestLicense
    public let terms: Terms

    /// The file for whoever tests.
    public static func encoded(license: PASETOToken, terms: PASETOToken) throws(DocumentError)
        -> [UInt8]
    {
        try Container(
            .testLicense,
            [(.testLicense, IssuedToken.section(license)), (.terms, IssuedToken.section(terms))]
        ).encoded
    }

    /// Reads and verifies a file.
    ///
    /// - Parameter issuers: from the trust statement.
    /// - Throws: ``DocumentError`` or ``TokenError``; also when the terms are not of class `test`.
    public init(decoding bytes: [UInt8], issuers: [Ed25519PublicKey]) throws {
        let container = try Container(decoding: bytes)
        try container.demand(.testLicense, sections: [.testLicense, .terms])
        license = try TestLicense(
            verifying: IssuedToken.token(section: container.required(.testLicense), .testLicense),
            issuers: issuers)
        let sections = container.all(.terms)
        guard let section = sections.first, sections.count == 1 else {
            throw DocumentError.missing(.terms)
        }
        terms = try Terms(
            verifying: IssuedToken.token(section: section, .terms), issuers: issuers)
        guard HashAlgorithm.sha256.digest(section) == license.termsHash,
            terms.licenseClass == .test
        else { throw DocumentError.malformed(.terms) }
    }
}
