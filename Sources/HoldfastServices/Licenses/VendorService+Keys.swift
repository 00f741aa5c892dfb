import HoldfastCrypto
public import HoldfastProtocol
import HoldfastTPMWire

/// Who needs a key.
public struct KeyDependents: Sendable, Hashable, Codable {
    /// Licenses whose newest lease the key signed: with it they count no more.
    public var licenses = 0
    /// Terms of the vendor's records that it signed.
    public var terms = 0
    /// Policies of the vendor's records that it signed.
    public var policies = 0
    /// Devices with a license whose newest receipt it signed.
    public var receipts = 0
    /// Enrollments that it signed: they go on, and are not made again from what a device brings.
    public var enrollments = 0
    /// Devices that have not shown that they have the present trust statement, with the sequence of
    /// theirs; 0 when it is not known.
    public var behind: [String: UInt64] = [:]

    /// In words, what is hurt when the key is retired; none when nobody needs it.
    public func reasons(_ kind: VendorKeyKind) -> [String] {
        func some(_ count: Int, _ text: String) -> [String] {
            count > 0 ? ["\(count) \(text)"] : []
        }
        switch kind {
        case .issuer:
            return some(
                licenses, "licenses whose last lease it signed stop counting until they are renewed"
            )
                + some(terms, "terms that it signed") + some(policies, "policies that it signed")
                + some(receipts, "devices whose last receipt it signed")
        case .sealing, .tls:
            guard !behind.isEmpty else { return [] }
            let few = behind.sorted { $0.key < $1.key }.prefix(8).map {
                "\($0.key) (\($0.value == 0 ? "unknown" : "statement \($0.value)"))"
            }
            let more = behind.count > few.count ? " and others" : ""
            return some(
                behind.count,
                "devices have not shown the present trust statement, and may know no other key: "
                    + few.joined(separator: ", ") + more)
        }
    }
}

/// What the vendor's records need of keys.
///
/// The vendor's own records count whichever key signed them, also a retired one: they are in his own
/// hands. What devices bring counts by the listed keys alone.
///
/// docs/keys.md.
extension VendorService {
    private var issuer: Ed25519PublicKey { trust.issuerKeys[0] }

    private func isPresent(_ text: String) throws -> Bool {
        try PASETOToken(parsing: text).names(issuer: issuer)
    }

    // MARK: Signed anew

    /// Terms as the present key signs them; the content stays.
    func presentlySigned(terms text: String) throws -> String {
        guard try !isPresent(text) else { return text }
        let terms = try Terms(
            verifying: PASETOToken(parsing: text), issuers: trust.everyIssuerKey)
        return try ring.withIssuerKey(keys, trust) { try terms.signed(with: $0) }.text
    }

    /// A license and its terms as the present key signs them, for its next lease.
    func presentlySigned(
        _ license: LicenseRecord, _ record: EnrollmentRecord
    ) throws -> LicenseRecord {
        var license = license
        license.terms = try presentlySigned(terms: license.terms)
        guard try !isPresent(license.license) else { return license }
        let name = record.attestationKey.name
        let content = try License(
            verifying: PASETOToken(parsing: license.license), issuers: trust.everyIssuerKey,
            attestationKey: name)
        license.license = try ring.withIssuerKey(keys, trust) {
            try content.signed(for: name, with: $0)
        }.text
        return license
    }

    /// Signs terms and policies of the records anew that an earlier key signed.
    ///
    /// Licenses follow with their next leases.
    ///
    /// - Returns: how many.
    public func renewSignatures() throws -> (terms: Int, policies: Int) {
        try store.write { transaction in
            var renewed = (terms: 0, policies: 0)
            for text in try everyTerms(transaction) {
                let present = try presentlySigned(terms: text)
                guard present != text else { continue }
                let terms = try Terms(
                    verifying: PASETOToken(parsing: present), issuers: [issuer])
                try transaction.update(terms: present, id: terms.id, version: terms.version)
                renewed.terms += 1
            }
            for var policy in try transaction.policies() where try !isPresent(policy.token) {
                let content = try known.policy(policy, trust.everyIssuerKey).policy
                policy.token = try ring.withIssuerKey(keys, trust) {
                    try content.signed(with: $0)
                }.text
                try transaction.update(policy)
                renewed.policies += 1
            }
            if renewed != (0, 0) {
                try audit(
                    "keys.renew", VendorKeys.id(issuer),
                    "\(renewed.terms) terms and \(renewed.policies) policies were signed anew",
                    transaction)
            }
            return renewed
        }
    }

    private func everyTerms(_ transaction: any VendorStoreReading) throws -> [String] {
        try transaction.terms().flatMap { text in
            let terms = try Terms(
                verifying: PASETOToken(parsing: text), issuers: trust.everyIssuerKey)
            return try transaction.terms(terms.id, after: 0)
        }
    }

    // MARK: Retirement

    /// Counts who needs a key.
    ///
    /// - Parameter text: its id, or enough of it.
    public func dependents(
        on kind: VendorKeyKind, _ text: String
    ) throws -> (key: VendorKeyReport, dependents: KeyDependents) {
        let report = try keys.reported(kind, text)
        let key = trust.issuerKeys.first { kind == .issuer && VendorKeys.id($0) == report.id }
        func isBy(_ text: String) throws -> Bool {
            guard let key else { return false }
            return try PASETOToken(parsing: text).names(issuer: key)
        }
        return try store.read { transaction in
            var found = KeyDependents()
            found.terms = try everyTerms(transaction).count(where: isBy)
            found.policies = try transaction.policies().count { try isBy($0.token) }
            for record in try transaction.enrollments() where record.isLive {
                if record.trustSequence < trust.sequence {
                    found.behind[record.device] = record.trustSequence
                }
                if try isBy(record.statement) { found.enrollments += 1 }
                let live = try transaction.licenses(of: record.id).filter {
                    $0.ending == nil && $0.endsAt > now()
                }
                found.licenses += try live.count { try isBy($0.license) }
                if !live.isEmpty,
                    let last = try transaction.settlements(of: record.id, limit: 1).first,
                    try isBy(last.receipt)
                {
                    found.receipts += 1
                }
            }
            return (report, found)
        }
    }

    /// What an operator should know before a statement is signed: a device has a later one than this server.
    ///
    /// It is a device's word, so nothing is refused for it.
    ///
    /// - Returns: `nil` when none has.
    public func warningOfLaterTrust() throws -> String? {
        let shown = try store.read { try $0.enrollments().map(\.trustSequence).max() ?? 0 }
        guard shown > trust.sequence else { return nil }
        return
            "a device says that it has trust statement \(shown), and this server signs after \(trust.sequence): when the directory was restored from a backup, restore the newest trust file with its keys first, or devices refuse what is signed now"
    }

    /// Retires a key, when nobody needs it any more.
    ///
    /// - Parameters:
    ///   - text: its id, or enough of it.
    ///   - isForced: also when somebody needs it.
    ///   - rootKey: the file with the root key, wherever it is kept.
    /// - Throws: ``ServiceError/keyNeeded(_:_:)``.
    public func retire(
        _ kind: VendorKeyKind, _ text: String, isForced: Bool, rootKey: String
    ) throws -> (key: String, statement: TrustStatement, dependents: KeyDependents) {
        if kind == .issuer { _ = try renewSignatures() }
        let (key, found) = try dependents(on: kind, text)
        let reasons = found.reasons(kind)
        // What is in use is refused as that, whoever needs it.
        guard reasons.isEmpty || isForced || key.use == .inUse else {
            throw ServiceError.keyNeeded(key.id, reasons)
        }
        let statement = try keys.retire(kind, key.id, rootKey: rootKey)
        try store.write { transaction in
            try audit(
                "keys.retire", key.id,
                ([kind.rawValue] + reasons).joined(separator: "; "), transaction)
        }
        return (key.id, statement, found)
    }

    /// Takes the next TLS key into use, when devices know it.
    ///
    /// - Parameter isForced: also when some have not shown that they do.
    /// - Returns: its id.
    /// - Throws: ``ServiceError/keyNeeded(_:_:)``.
    public func switchTLS(isForced: Bool) throws -> String {
        let present = try keys.list().first { $0.kind == .tls && $0.use == .inUse }
        guard let present else { throw VendorKeysError.unnamed(keys.file("tls.key")) }
        let reasons = try dependents(on: .tls, present.id).dependents.reasons(.tls)
        guard reasons.isEmpty || isForced else {
            throw ServiceError.keyNeeded(present.id, reasons)
        }
        return try keys.switchTLS()
    }
}
