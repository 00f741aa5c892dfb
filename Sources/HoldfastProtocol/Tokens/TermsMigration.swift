public import HoldfastCrypto
public import HoldfastTPMWire

/// That a license goes on under a newer version of its terms, and not before when.
///
/// What is in force until then stays as it is: a lease ends by the terms that it was issued under.
///
/// docs/spec/formats.md, "Terms migration".
public struct TermsMigration: Sendable, Hashable {
    public var license: LicenseID
    public var terms: String
    /// The version that the license is under.
    public var from: UInt32
    /// A higher one.
    public var to: UInt32
    /// SHA-256 of the section of the newer terms.
    public var termsHash: [UInt8]
    /// UTC seconds on the server's clock: no lease under the newer terms is issued earlier.
    public var notBefore: UInt64
    /// UTC seconds on the server's clock.
    public var issuedAt: UInt64

    public init(
        license: LicenseID, terms: String, from: UInt32, to: UInt32, termsHash: [UInt8],
        notBefore: UInt64, issuedAt: UInt64
    ) {
        self.license = license
        self.terms = terms
        self.from = from
        self.to = to
        self.termsHash = termsHash
        self.notBefore = notBefore
        self.issuedAt = issuedAt
    }

    /// Signs the migration for a device.
    public func signed(
        for attestationKey: TPMName, with key: borrowing Ed25519PrivateKey
    ) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(
            claims, for: .init(license: license, of: attestationKey), with: key)
        let read = try TermsMigration(
            verifying: token, issuers: [key.publicKey], attestationKey: attestationKey)
        guard read == self else { throw .notCanonical }
        return token
    }

    /// Verifies a migration.
    ///
    /// - Parameters:
    ///   - issuers: from the trust statement.
    ///   - attestationKey: Name of the key of the device that the license must be for.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey], attestationKey: TPMName
    ) throws(TokenError) {
        let (verified, id) = try IssuedToken.verifyLicensed(
            token, kind: .termsMigration, issuers: issuers, attestationKey: attestationKey)
        var claims = try ClaimsReader(verified.payload, kind: .termsMigration)
        license = id
        _ = try claims.bytes("license", count: 16)
        terms = try claims.name("terms")
        from = UInt32(try claims.number("from", in: 1...UInt64(UInt32.max) - 1))
        to = UInt32(try claims.number("to", in: UInt64(from) + 1...UInt64(UInt32.max)))
        termsHash = try claims.bytes("termsHash", count: 32)
        notBefore = try claims.number("notBefore", in: 1...UInt64(1) << 53)
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        .object([
            "kind": .string(TokenKind.termsMigration.rawValue),
            "license": .string(Base64URL.encode(license.bytes)), "terms": .string(terms),
            "from": .number(UInt64(from)), "to": .number(UInt64(to)),
            "termsHash": .string(Base64URL.encode(termsHash)), "notBefore": .number(notBefore),
            "issuedAt": .number(issuedAt),
        ])
    }
}
