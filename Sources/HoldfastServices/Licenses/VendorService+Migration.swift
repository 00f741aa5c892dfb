import HoldfastCrypto
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire

/// How many licenses are under which version of terms.
public struct TermsReport: Sendable, Codable {
    public let terms: String
    /// The one in force for new licenses.
    public let version: UInt32
    /// Licenses that did not end, by version.
    public let licenses: [String: Int]
    /// Of those under earlier versions: how many devices have heard of a later one.
    public let told: Int
}

/// Licenses go on under newer terms with notice: the device is told first, and the time that the terms
/// give runs from the reply by which it was told.
///
/// docs/spec/licensing.md, "Newer terms".
extension VendorService {
    /// A license as its next lease is issued.
    struct Migrated {
        /// Under the terms that are in force for it now.
        var license: LicenseRecord
        var terms: Terms
        /// By which its next lease is made.
        var schedule: Terms
        /// What is to be told: the newer terms as they were signed, and from when.
        var announced: [(terms: Terms, token: String, notBefore: UInt64, isNew: Bool)] = []
    }

    /// Newer terms of the same class that were applied since, in ascending order.
    private func newer(
        than terms: Terms, _ transaction: any VendorStoreReading
    ) throws -> [(terms: Terms, token: String)] {
        try transaction.terms(terms.id, after: terms.version).map { text in
            (
                try Terms(verifying: PASETOToken(parsing: text), issuers: trust.everyIssuerKey),
                text
            )
        }.filter { $0.terms.licenseClass == terms.licenseClass }
    }

    /// Takes a license to newer terms when their notice is over, and says what else is to be told.
    ///
    /// Whoever slept through several versions is told of the newest alone, with the longest notice of
    /// those that it passes over.
    ///
    /// - Parameter isRenewed: a lease follows; without one it is only said what is to come.
    func migrate(
        _ license: LicenseRecord, _ record: EnrollmentRecord, isRenewed: Bool = true,
        _ transaction: any VendorStoreWriting
    ) throws -> Migrated {
        let before = try terms(of: license)
        var result = Migrated(license: license, terms: before, schedule: before)
        let newer = try newer(than: before, transaction)
        guard let newest = newer.last else { return result }
        let heard = Dictionary(
            try transaction.announcements(of: license.id).filter(\.isHeard).map {
                ($0.version, $0.notBefore)
            }, uniquingKeysWith: min)
        func notice(_ terms: Terms) -> UInt64 {
            newer.filter {
                (result.terms.version + 1...terms.version).contains($0.terms.version)
            }.compactMap(\.terms.noticeSeconds).max() ?? 0
        }
        let due = newer.last { one in
            notice(one.terms) == 0 || heard[one.terms.version].map { $0 <= now() } ?? false
        }
        if let due, isRenewed {
            result.license = try put(license, under: due, record, transaction)
            result.terms = due.terms
            result.schedule = due.terms.transitional(from: before)
        }
        for one in newer where one.terms.version > result.terms.version {
            let date = heard[one.terms.version]
            guard date != nil || one.terms == newest.terms else { continue }
            result.announced.append(
                (
                    one.terms, one.token, date ?? now() + notice(one.terms), date == nil
                ))
        }
        return result
    }

    /// Signs a license again, under other terms.
    private func put(
        _ license: LicenseRecord, under next: (terms: Terms, token: String),
        _ record: EnrollmentRecord, _ transaction: any VendorStoreWriting
    ) throws -> LicenseRecord {
        let name = record.attestationKey.name
        var content = try License(
            verifying: PASETOToken(parsing: license.license), issuers: trust.everyIssuerKey,
            attestationKey: name)
        let before = content.termsVersion
        content.termsVersion = next.terms.version
        content.issuedAt = now()
        var license = license
        license.license = try ring.withIssuerKey(keys, trust) {
            try content.signed(for: name, with: $0)
        }.text
        license.terms = next.token
        try transaction.update(license)
        try transaction.removeAnnouncements(of: license.id, through: next.terms.version)
        try audit(
            "license.terms", license.id, "\(next.terms.id) \(before) -> \(next.terms.version)",
            transaction)
        return license
    }

    /// The sections that tell a device of terms to come.
    func sections(
        _ announced: Migrated, _ record: EnrollmentRecord
    ) throws -> [(type: SectionType, bytes: [UInt8])] {
        try announced.announced.flatMap { one in
            let terms = try PASETOToken(parsing: presentlySigned(terms: one.token))
            let migration = TermsMigration(
                license: announced.license.id, terms: one.terms.id, from: announced.terms.version,
                to: one.terms.version,
                termsHash: HashAlgorithm.sha256.digest(LicenseDocument.section(terms: terms)),
                notBefore: one.notBefore, issuedAt: now())
            let token = try ring.withIssuerKey(keys, trust) {
                try migration.signed(for: record.attestationKey.name, with: $0)
            }
            return AnnouncedTerms.parts(migration: token, terms: terms)
        }
    }

    /// Every terms with its newest version, and how many licenses are under which.
    public func termsReports() throws -> [TermsReport] {
        try store.read { transaction in
            // Many licenses have the same terms: each text is verified once.
            var known: [String: Terms] = [:]
            var counts: [String: [UInt32: Int]] = [:]
            var told: [String: Int] = [:]
            for record in try transaction.enrollments() {
                for license in try transaction.licenses(of: record.id)
                where license.ending == nil && license.endsAt > now() {
                    let terms = try known[license.terms] ?? terms(of: license)
                    known[license.terms] = terms
                    counts[terms.id, default: [:]][terms.version, default: 0] += 1
                    if try transaction.announcements(of: license.id).contains(where: \.isHeard) {
                        told[terms.id, default: 0] += 1
                    }
                }
            }
            return try transaction.terms().map { text in
                let terms = try Terms(
                    verifying: PASETOToken(parsing: text), issuers: trust.everyIssuerKey)
                let licenses = (counts[terms.id] ?? [:]).map { (String($0.key), $0.value) }
                return TermsReport(
                    terms: terms.id, version: terms.version,
                    licenses: Dictionary(uniqueKeysWithValues: licenses),
                    told: told[terms.id] ?? 0)
            }
        }
    }
}
