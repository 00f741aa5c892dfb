public import HoldfastCrypto
public import HoldfastTPMWire

/// What a lease is, in clear: when it ends on the TPM's clock, and every part of the policy under
/// which the TPM opens it.
///
/// The device recomputes the policy digest from it before it loads anything. Instants are absolute
/// TPM milliseconds; no countdown is stored anywhere.
///
/// docs/spec/formats.md, "Lease statement".
public struct LeaseStatement: Sendable, Hashable {
    public var license: LicenseID
    /// Rises with each lease of the license; newer means this and nothing else.
    public var serial: UInt32
    /// Which enrollment of the device.
    public var incarnation: UInt32
    /// SHA-256 of the section with the import blob, and of the one with the sealed lease.
    public var importBlobHash: [UInt8]
    public var sealedLeaseHash: [UInt8]
    /// SHA-256 of the section with the terms.
    public var termsHash: [UInt8]
    public var objectName: TPMName
    /// Its hash is the policyRef.
    public var reference: PolicyReference
    /// C0: the attested clock, from which the lease counts.
    public var issuedTicks: UInt64
    public var renewTicks: UInt64
    public var graceTicks: UInt64
    public var softEndTicks: UInt64
    public var degradedEndTicks: UInt64
    /// What the TPM enforces: epoch, clock from and to, resets and restarts.
    public var policy: LeasePolicy
    public var appraisal: AppraisalID
    /// UTC seconds on the server's clock; with ``issuedTicks`` it anchors estimates of dates.
    public var issuedAt: UInt64
    /// UTC seconds at which the lease ends by the calendar, for counting seats; no device decides
    /// by it.
    public var endsAt: UInt64
    /// Up to what the meter of a limited entitlement may count, by the device's own ledger.
    ///
    /// The vendor works it out with each lease: what the ledger counts at the last settlement, and what is
    /// left of the limit.
    public var allowances: [String: UInt64]
    /// What the vendor has settled of these meters in that ledger; one that counts less is not it.
    public var settled: [String: UInt64]
    /// The era of the ledger that ``allowances`` go by; `nil` when none was settled.
    public var era: UInt64?

    /// T: where the lease ends.
    public var endTicks: UInt64 { policy.highestClock }

    public init(
        license: LicenseID, serial: UInt32, incarnation: UInt32, importBlobHash: [UInt8],
        sealedLeaseHash: [UInt8], termsHash: [UInt8], objectName: TPMName,
        reference: PolicyReference, issuedTicks: UInt64, renewTicks: UInt64, graceTicks: UInt64,
        softEndTicks: UInt64, degradedEndTicks: UInt64, policy: LeasePolicy,
        appraisal: AppraisalID, issuedAt: UInt64, endsAt: UInt64,
        allowances: [String: UInt64] = [:], settled: [String: UInt64] = [:], era: UInt64? = nil
    ) {
        self.allowances = allowances
        self.settled = settled
        self.era = era
        self.license = license
        self.serial = serial
        self.incarnation = incarnation
        self.importBlobHash = importBlobHash
        self.sealedLeaseHash = sealedLeaseHash
        self.termsHash = termsHash
        self.objectName = objectName
        self.reference = reference
        self.issuedTicks = issuedTicks
        self.renewTicks = renewTicks
        self.graceTicks = graceTicks
        self.softEndTicks = softEndTicks
        self.degradedEndTicks = degradedEndTicks
        self.policy = policy
        self.appraisal = appraisal
        self.issuedAt = issuedAt
        self.endsAt = endsAt
    }

    /// Signs the statement for a device.
    public func signed(
        for attestationKey: TPMName, with key: borrowing Ed25519PrivateKey
    ) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(
            claims, for: .init(license: license, of: attestationKey), with: key)
        let read = try LeaseStatement(
            verifying: token, issuers: [key.publicKey], attestationKey: attestationKey)
        guard read == self else { throw .notCanonical }
        return token
    }

    /// Verifies a statement.
    ///
    /// - Parameters:
    ///   - issuers: from the trust statement.
    ///   - attestationKey: Name of the key of the device that the lease must be for.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey], attestationKey: TPMName
    ) throws(TokenError) {
        let (verified, id) = try IssuedToken.verifyLicensed(
            token, kind: .leaseStatement, issuers: issuers, attestationKey: attestationKey)
        var claims = try ClaimsReader(verified.payload, kind: .leaseStatement)
        license = id
        _ = try claims.bytes("license", count: 16)
        serial = UInt32(try claims.number("serial", in: 1...UInt64(UInt32.max)))
        incarnation = UInt32(try claims.number("incarnation", in: 1...UInt64(UInt32.max)))
        importBlobHash = try claims.bytes("importBlob", count: 32)
        sealedLeaseHash = try claims.bytes("sealedLease", count: 32)
        termsHash = try claims.bytes("termsHash", count: 32)
        objectName = try claims.sha256Name("objectName")
        let parts = try claims.bytes("policyRef", counts: 1...512)
        do throws(DocumentError) { reference = try PolicyReference(decoding: parts) } catch {
            throw .malformed("policyRef")
        }
        guard case .lease = reference.role, reference.encoded == parts else {
            throw .malformed("policyRef")
        }
        // A clock may have been set to any value; the instants follow each other all the same.
        let all: ClosedRange<UInt64> = 0...UInt64.max
        issuedTicks = try claims.number("issuedTicks", in: all)
        let end = try claims.number("endTicks", in: issuedTicks...UInt64.max)
        graceTicks = try claims.number("graceTicks", in: issuedTicks...end)
        renewTicks = try claims.number("renewTicks", in: issuedTicks...graceTicks)
        softEndTicks = try claims.number("softEndTicks", in: issuedTicks...end)
        degradedEndTicks = try claims.number("degradedEndTicks", in: end...UInt64.max)
        policy = LeasePolicy(
            approvalKey: try claims.sha256Name("approvalKey"), policyRef: reference.policyRef,
            epochCounter: try claims.structure("epochCounter"),
            epoch: try claims.number("epoch", in: all),
            lowestClock: try claims.number("lowestTicks", in: 0...issuedTicks), highestClock: end,
            highestResetCount: UInt32(
                try claims.number("highestResetCount", in: 0...UInt64(UInt32.max))),
            highestRestartCount: UInt32(
                try claims.number("highestRestartCount", in: 0...UInt64(UInt32.max))))
        appraisal = AppraisalID(unchecked: try claims.bytes("appraisal", count: 16))
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        endsAt = try claims.number("endsAt", in: 1...UInt64(1) << 53)
        allowances = try claims.totals("allowances")
        settled = try claims.totals("settled")
        guard settled.keys.allSatisfy({ allowances[$0] != nil }) else {
            throw .malformed("settled")
        }
        era = try claims.optionalNumber("era", in: all)
        guard era == nil || !allowances.isEmpty else { throw .malformed("era") }
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        func binary(_ bytes: [UInt8]) -> CanonicalJSON { .string(Base64URL.encode(bytes)) }
        var members: [String: CanonicalJSON] = [
            "kind": .string(TokenKind.leaseStatement.rawValue), "license": binary(license.bytes),
            "serial": .number(UInt64(serial)), "incarnation": .number(UInt64(incarnation)),
            "importBlob": binary(importBlobHash), "sealedLease": binary(sealedLeaseHash),
            "termsHash": binary(termsHash), "objectName": binary(objectName.bytes),
            "policyRef": binary(reference.encoded), "approvalKey": binary(policy.approvalKey.bytes),
            "epochCounter": binary(policy.epochCounter.wireBytes),
            "epoch": .number(policy.epoch), "issuedTicks": .number(issuedTicks),
            "lowestTicks": .number(policy.lowestClock), "renewTicks": .number(renewTicks),
            "graceTicks": .number(graceTicks), "endTicks": .number(policy.highestClock),
            "softEndTicks": .number(softEndTicks),
            "degradedEndTicks": .number(degradedEndTicks),
            "highestResetCount": .number(UInt64(policy.highestResetCount)),
            "highestRestartCount": .number(UInt64(policy.highestRestartCount)),
            "appraisal": binary(appraisal.bytes), "issuedAt": .number(issuedAt),
            "endsAt": .number(endsAt),
        ]
        for (name, totals) in [("allowances", allowances), ("settled", settled)]
        where !totals.isEmpty {
            members[name] = .object(totals.mapValues { .number($0) })
        }
        members["era"] = era.map { .number($0) }
        return .object(members)
    }
}

extension ClaimsReader {
    /// Takes numbers by the names of entitlements; none when the claim is missing.
    mutating func totals(_ name: String) throws(TokenError) -> [String: UInt64] {
        guard let stated = try optionalObject(name) else { return [:] }
        guard (1...License.maximumEntitlements).contains(stated.count) else {
            throw .malformed(name)
        }
        var totals: [String: UInt64] = [:]
        for (key, value) in stated {
            guard License.isName(key) else { throw .malformed(name) }
            var one = ClaimsReader(single: value, name: name)
            totals[key] = try one.number(name, in: 0...UInt64.max)
        }
        return totals
    }

    /// Takes the Name of an object with SHA-256 as its Name algorithm.
    mutating func sha256Name(_ name: String) throws(TokenError) -> TPMName {
        let bytes = try bytes(name, count: 34)
        guard let read = try? TPMName(bytes: bytes) else { throw .malformed(name) }
        return read
    }
}
