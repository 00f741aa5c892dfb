public import HoldfastCrypto
public import HoldfastTPMWire

/// What a vendor grants to one device: a product, its entitlements and an end.
///
/// It names no person, host or serial number. It is bound to the device by its implicit assertion.
///
/// docs/spec/formats.md, "License".
public struct License: Sendable, Hashable {
    /// A right by name.
    public struct Entitlement: Sendable, Hashable {
        public var name: String
        /// The most that may be used under this license, by the meter of the same name; `nil` for no
        /// limit.
        public var limit: UInt64?
        /// What the meter had counted when the license was issued, as the vendor counts; with a limit
        /// alone, `nil` for nothing.
        public var usedBefore: UInt64?

        public init(name: String, limit: UInt64?, usedBefore: UInt64? = nil) {
            self.name = name
            self.limit = limit
            self.usedBefore = usedBefore
        }
    }

    public var id: LicenseID
    public var product: String
    /// 1 to 64, with different names.
    public var entitlements: [Entitlement]
    public var terms: String
    public var termsVersion: UInt32
    public var licenseClass: LicenseClass
    /// UTC seconds.
    public var endsAt: UInt64
    /// UTC seconds on the server's clock.
    public var issuedAt: UInt64

    /// The most entitlements of a license.
    public static let maximumEntitlements = 64

    /// Names of products, terms and entitlements: 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`.
    public static func isName(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D
                    || $0 == 0x2E || $0 == 0x5F
            }
    }

    public init(
        id: LicenseID, product: String, entitlements: [Entitlement], terms: String,
        termsVersion: UInt32, licenseClass: LicenseClass, endsAt: UInt64, issuedAt: UInt64
    ) {
        self.id = id
        self.product = product
        self.entitlements = entitlements
        self.terms = terms
        self.termsVersion = termsVersion
        self.licenseClass = licenseClass
        self.endsAt = endsAt
        self.issuedAt = issuedAt
    }

    /// Signs the license for a device.
    public func signed(
        for attestationKey: TPMName, with key: borrowing Ed25519PrivateKey
    ) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(
            claims, for: .init(license: id, of: attestationKey), with: key)
        let read = try License(
            verifying: token, issuers: [key.publicKey], attestationKey: attestationKey)
        guard read == self else { throw .notCanonical }
        return token
    }

    /// Verifies a license.
    ///
    /// - Parameters:
    ///   - issuers: from the trust statement.
    ///   - attestationKey: Name of the key of the device that the license must be for.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey], attestationKey: TPMName
    ) throws(TokenError) {
        let (verified, id) = try IssuedToken.verifyLicensed(
            token, kind: .license, issuers: issuers, attestationKey: attestationKey)
        var claims = try ClaimsReader(verified.payload, kind: .license)
        self.id = id
        _ = try claims.bytes("license", count: 16)
        product = try claims.name("product")
        entitlements = try claims.entitlements()
        terms = try claims.name("terms")
        termsVersion = UInt32(try claims.number("termsVersion", in: 1...UInt64(UInt32.max)))
        licenseClass = try claims.choice("class")
        endsAt = try claims.number("endsAt", in: 1...UInt64(1) << 53)
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        .object([
            "kind": .string(TokenKind.license.rawValue),
            "license": .string(Base64URL.encode(id.bytes)), "product": .string(product),
            "entitlements": .array(entitlements.map(\.claims)),
            "terms": .string(terms), "termsVersion": .number(UInt64(termsVersion)),
            "class": .string(licenseClass.rawValue), "endsAt": .number(endsAt),
            "issuedAt": .number(issuedAt),
        ])
    }
}

extension License.Entitlement {
    var claims: CanonicalJSON {
        var members: [String: CanonicalJSON] = ["name": .string(name)]
        members["limit"] = limit.map { .number($0) }
        members["usedBefore"] = usedBefore.map { .number($0) }
        return .object(members)
    }
}

extension ClaimsReader {
    /// Takes the entitlements of a license.
    mutating func entitlements() throws(TokenError) -> [License.Entitlement] {
        let all = try list("entitlements", counts: 1...License.maximumEntitlements) {
            (value) throws(TokenError) in
            var one = try ClaimsReader(object: value, of: "entitlements")
            let read = License.Entitlement(
                name: try one.name("name"),
                limit: try one.optionalNumber("limit", in: 0...UInt64.max),
                usedBefore: try one.optionalNumber("usedBefore", in: 1...UInt64.max))
            try one.finish()
            guard read.usedBefore == nil || read.limit != nil else {
                throw TokenError.malformed("entitlements")
            }
            return read
        }
        guard Set(all.map(\.name)).count == all.count else { throw .malformed("entitlements") }
        return all
    }
}

extension IssuedToken {
    /// Verifies a token that belongs to a license; which one stands in it, and is used for nothing
    /// but the binding that the signature covers.
    static func verifyLicensed(
        _ token: PASETOToken, kind: TokenKind, issuers: [Ed25519PublicKey], attestationKey: TPMName
    ) throws(TokenError) -> (VerifiedToken, LicenseID) {
        guard token.purpose == .v4Public, token.body.count > 64 else {
            throw .notAuthentic(.lengthInvalid)
        }
        var peek = try ClaimsReader([UInt8](token.body.dropLast(64)), kind: kind)
        let id = LicenseID(unchecked: try peek.bytes("license", count: 16))
        return (
            try verify(token, for: .init(license: id, of: attestationKey), issuers: issuers), id
        )
    }
}
