public import HoldfastCrypto

/// How strictly an entitlement is held back when the TPM does not open the lease.
public enum Enforcement: String, Sendable, Hashable, CaseIterable {
    /// Told and never refused while a license is there.
    case advisory
    /// Runs on until the soft end, then as in DEGRADED.
    case soft
    /// Stops at once.
    case strict
}

/// What happens when the limit of an entitlement is used up.
public enum Overage: String, Sendable, Hashable, CaseIterable {
    /// It is refused; advisory entitlements go on.
    case refuse
    /// It goes on, is counted, and flagged.
    case count
}

/// What a license is for: `test` ones may run for seconds.
public enum LicenseClass: String, Sendable, Hashable, CaseIterable {
    case production
    case test
}

/// Every duration and rule of a license, in one signed document; no constant in code overrides it.
///
/// Ticks are milliseconds that the TPM is powered on.
///
/// docs/spec/formats.md, "Terms".
public struct Terms: Sendable, Hashable {
    /// A vendor's name for them, 1 to 64 bytes.
    public var id: String
    /// A higher one replaces a lower one.
    public var version: UInt32
    public var licenseClass: LicenseClass
    /// How long a lease runs, grace included.
    public var leaseTicks: UInt64
    /// From the issue until renewal is wanted.
    public var renewAfterTicks: UInt64
    /// From the issue until grace begins.
    public var graceAfterTicks: UInt64
    /// From the issue until soft entitlements stop when the TPM does not open the lease.
    public var softAfterTicks: UInt64
    /// From the end of the lease until the license is expired.
    public var degradedTicks: UInt64
    /// Resets of the TPM that a lease survives.
    public var resetAllowance: UInt32
    /// Resumes from suspension that a lease survives between two resets.
    public var restartAllowance: UInt32
    /// How long evidence that waits for a policy may still be appraised, on the server's clock.
    public var evidenceValiditySeconds: UInt64
    /// How long a nonce may be answered, on the server's clock.
    public var nonceLifetimeSeconds: UInt64
    /// How long a running program goes on with what the TPM said last when it does not answer, in
    /// seconds of the machine's running time; `nil` for ``defaultAbsenceSeconds``.
    public var absenceSeconds: UInt64?
    /// How often a running program asks the TPM again, in seconds; `nil` for
    /// ``defaultRecheckSeconds``.
    public var recheckSeconds: UInt64?
    /// How long before a license goes on under these terms its device is told so, in seconds on the
    /// server's clock, from when it is told; `nil` for no notice.
    public var noticeSeconds: UInt64?
    /// Enforcement by name of the entitlement.
    public var enforcement: [String: Enforcement]
    /// Enforcement of entitlements that are not named.
    public var defaultEnforcement: Enforcement
    /// Entitlements that stay in DEGRADED.
    public var degradedEntitlements: [String]
    /// What happens when a limit is used up; `nil` for ``Overage/refuse``.
    public var overage: Overage?
    /// UTC seconds on the server's clock.
    public var issuedAt: UInt64

    /// The longest lease and the longest degraded period: 400 days.
    public static let maximumTicks: UInt64 = 400 * 86_400_000
    /// For terms that do not say: ten minutes.
    public static let defaultAbsenceSeconds: UInt64 = 600
    /// For terms that do not say: ten minutes.
    public static let defaultRecheckSeconds: UInt64 = 600
    /// The most resets, and the most resumes from sleep, that terms allow a lease.
    public static let maximumAllowance: UInt32 = 1_000_000
    private static let hour: UInt64 = 3_600_000

    public init(
        id: String, version: UInt32, licenseClass: LicenseClass, leaseTicks: UInt64,
        renewAfterTicks: UInt64, graceAfterTicks: UInt64, softAfterTicks: UInt64,
        degradedTicks: UInt64, resetAllowance: UInt32, restartAllowance: UInt32,
        evidenceValiditySeconds: UInt64, nonceLifetimeSeconds: UInt64,
        absenceSeconds: UInt64? = nil, recheckSeconds: UInt64? = nil,
        noticeSeconds: UInt64? = nil, enforcement: [String: Enforcement],
        defaultEnforcement: Enforcement,
        degradedEntitlements: [String], overage: Overage? = nil, issuedAt: UInt64
    ) {
        self.id = id
        self.version = version
        self.licenseClass = licenseClass
        self.leaseTicks = leaseTicks
        self.renewAfterTicks = renewAfterTicks
        self.graceAfterTicks = graceAfterTicks
        self.softAfterTicks = softAfterTicks
        self.degradedTicks = degradedTicks
        self.resetAllowance = resetAllowance
        self.restartAllowance = restartAllowance
        self.evidenceValiditySeconds = evidenceValiditySeconds
        self.nonceLifetimeSeconds = nonceLifetimeSeconds
        self.absenceSeconds = absenceSeconds
        self.recheckSeconds = recheckSeconds
        self.noticeSeconds = noticeSeconds
        self.enforcement = enforcement
        self.defaultEnforcement = defaultEnforcement
        self.degradedEntitlements = degradedEntitlements
        self.overage = overage
        self.issuedAt = issuedAt
    }

    /// How strictly an entitlement is held.
    public func enforcement(of entitlement: String) -> Enforcement {
        enforcement[entitlement] ?? defaultEnforcement
    }

    // MARK: The token

    /// Signs the terms with an issuer key.
    ///
    /// - Throws: what reading the result would throw: terms that devices refuse are not made.
    public func signed(with key: borrowing Ed25519PrivateKey) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(claims, for: nil, with: key)
        guard try Terms(verifying: token, issuers: [key.publicKey]) == self else {
            throw .notCanonical
        }
        return token
    }

    /// Verifies terms.
    ///
    /// - Parameter issuers: from the trust statement.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey]
    ) throws(TokenError) {
        let verified = try IssuedToken.verify(token, for: nil, issuers: issuers)
        var claims = try ClaimsReader(verified.payload, kind: .terms)
        id = try claims.name("terms")
        version = UInt32(try claims.number("version", in: 1...UInt64(UInt32.max)))
        licenseClass = try claims.choice("class")
        leaseTicks = try claims.number("leaseTicks", in: 1...Self.maximumTicks)
        graceAfterTicks = try claims.number("graceAfterTicks", in: 0...leaseTicks)
        renewAfterTicks = try claims.number("renewAfterTicks", in: 0...graceAfterTicks)
        softAfterTicks = try claims.number("softAfterTicks", in: 0...leaseTicks)
        degradedTicks = try claims.number("degradedTicks", in: 0...Self.maximumTicks)
        resetAllowance = UInt32(
            try claims.number("resetAllowance", in: 0...UInt64(Self.maximumAllowance)))
        restartAllowance = UInt32(
            try claims.number("restartAllowance", in: 0...UInt64(Self.maximumAllowance)))
        evidenceValiditySeconds = try claims.number(
            "evidenceValiditySeconds", in: 1...Self.maximumTicks / 1000)
        // A device that comes back at the end of its degraded period still has a nonce that counts.
        nonceLifetimeSeconds = try claims.number(
            "nonceLifetimeSeconds",
            in: (leaseTicks + degradedTicks).rounded(upTo: 1000) / 1000...4 * Self.maximumTicks
                / 1000)
        absenceSeconds = try claims.optionalNumber("absenceSeconds", in: 0...30 * 86_400)
        recheckSeconds = try claims.optionalNumber("recheckSeconds", in: 1...86_400)
        noticeSeconds = try claims.optionalNumber(
            "noticeSeconds", in: 0...Self.maximumTicks / 1000)
        var enforcement: [String: Enforcement] = [:]
        let stated = try claims.object("enforcement")
        guard stated.count <= License.maximumEntitlements else { throw .malformed("enforcement") }
        for (name, value) in stated {
            guard License.isName(name) else { throw .malformed("enforcement") }
            var one = ClaimsReader(single: value, name: "enforcement")
            enforcement[name] = try one.choice("enforcement")
        }
        self.enforcement = enforcement
        defaultEnforcement = try claims.choice("defaultEnforcement")
        degradedEntitlements = try claims.list(
            "degradedEntitlements", counts: 0...License.maximumEntitlements
        ) { (value) throws(TokenError) in
            var one = ClaimsReader(single: value, name: "degradedEntitlements")
            return try one.name("degradedEntitlements")
        }
        overage = try claims.optionalChoice("overage")
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        try claims.finish()
        guard licenseClass == .test || isInHours else { throw .malformed("class") }
    }

    /// Terms of class `production` speak in whole hours: seconds are for tests.
    private var isInHours: Bool {
        [leaseTicks, renewAfterTicks, graceAfterTicks, softAfterTicks, degradedTicks]
            .allSatisfy { $0 % Self.hour == 0 }
    }

    private var claims: CanonicalJSON {
        var claims: [String: CanonicalJSON] = [
            "kind": .string(TokenKind.terms.rawValue), "terms": .string(id),
            "version": .number(UInt64(version)), "class": .string(licenseClass.rawValue),
            "leaseTicks": .number(leaseTicks), "renewAfterTicks": .number(renewAfterTicks),
            "graceAfterTicks": .number(graceAfterTicks),
            "softAfterTicks": .number(softAfterTicks), "degradedTicks": .number(degradedTicks),
            "resetAllowance": .number(UInt64(resetAllowance)),
            "restartAllowance": .number(UInt64(restartAllowance)),
            "evidenceValiditySeconds": .number(evidenceValiditySeconds),
            "nonceLifetimeSeconds": .number(nonceLifetimeSeconds),
            "enforcement": .object(enforcement.mapValues { .string($0.rawValue) }),
            "defaultEnforcement": .string(defaultEnforcement.rawValue),
            "degradedEntitlements": .array(degradedEntitlements.map { .string($0) }),
            "issuedAt": .number(issuedAt),
        ]
        claims["absenceSeconds"] = absenceSeconds.map { .number($0) }
        claims["recheckSeconds"] = recheckSeconds.map { .number($0) }
        claims["overage"] = overage.map { .string($0.rawValue) }
        claims["noticeSeconds"] = noticeSeconds.map { .number($0) }
        return .object(claims)
    }
}

extension UInt64 {
    /// The next multiple, or the value itself.
    func rounded(upTo unit: UInt64) -> UInt64 { (self + unit - 1) / unit * unit }
}

extension ClaimsReader {
    /// Takes a name of terms, products and entitlements.
    mutating func name(_ claim: String) throws(TokenError) -> String {
        let text = try text(claim, maximum: 64)
        guard License.isName(text) else { throw .malformed(claim) }
        return text
    }

    /// Takes one of the texts of an enumeration that may be missing.
    mutating func optionalChoice<T: RawRepresentable<String>>(
        _ claim: String
    ) throws(TokenError) -> T? {
        try has(claim) ? choice(claim) : nil
    }

    /// Takes one of the texts of an enumeration.
    mutating func choice<T: RawRepresentable<String>>(_ claim: String) throws(TokenError) -> T {
        guard let value = T(rawValue: try text(claim, maximum: 32)) else {
            throw .malformed(claim)
        }
        return value
    }
}
