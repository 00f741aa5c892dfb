import HoldfastAttestation
import HoldfastCrypto
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire

/// A device as an operator sees it.
public struct DeviceReport: Sendable, Codable {
    public let device: String
    public let incarnation: UInt32
    public let state: EnrollmentState
    public let model: String?
    /// Manufacturer and model as the endorsement key certificate says.
    public let tpm: String
    public let enrolledAt: UInt64
    public let evidence: Evidence?
    public let licenses: [LicenseReport]
    /// What it showed of its hardware when it enrolled.
    public let hardware: [ComponentReport]
    /// Kinds of components that are others, or no longer shown, since its TPM enrolled before.
    public let hardwareDrift: [String]
    /// What happened last, the newest first.
    public let audit: [AuditRecord]

    /// The last appraisal.
    public struct Evidence: Sendable, Codable {
        public let appraisal: String
        public let receivedAt: UInt64
        public let passed: Bool
        public let notes: [String]
        /// What the policy of the device said; without one absent.
        public let policy: PolicyVerdict?
        public let clockTicks: UInt64
        public let resetCount: UInt32
        public let restartCount: UInt32
        /// The TPM was shut down in order before this boot, so its clock did not go back.
        public let clockSafe: Bool
        /// The version of the TPM's firmware, 16 digits in hexadecimal; of refused evidence absent.
        public let firmware: String?
        /// By bank and register, in hexadecimal.
        public let pcrs: [String: [String: String]]
    }

    /// A license with its last lease.
    public struct LicenseReport: Sendable, Codable {
        public let license: String
        public let product: String
        public let endsAt: UInt64
        /// Why it ended, if it did.
        public let ending: LicenseEnding?
        /// `held`, `free` with proof, or `dormant`: ended without proof, and the lease would still
        /// open on a device that was switched off.
        public let seat: String
        /// Whether an approval in force covers the boot state of the last evidence that passed.
        public let bootStateApproved: Bool
        public let serial: UInt32
        public let leaseEndsAt: UInt64?
        /// The name of its terms and the version that it is under.
        public let terms: String
        public let termsVersion: UInt32
        /// Of entitlements with a limit: how much was used, as settled; in a report of one device alone.
        public let limits: [Limit]
        /// What its device was told and is not in force, by version.
        public let termsToCome: [Announced]

        /// A limit of a license.
        public struct Limit: Sendable, Codable {
            public let entitlement: String
            public let limit: UInt64
            public let used: UInt64
        }

        /// Newer terms that were announced.
        public struct Announced: Sendable, Codable {
            public let version: UInt32
            public let notBefore: UInt64
            /// The device showed that it applied the reply that said so.
            public let isHeard: Bool
        }
    }
}

extension VendorService {
    /// Every device, or the enrollments that fit a text.
    public func devices(_ text: String? = nil) throws -> [DeviceReport] {
        try store.read { transaction in
            let records =
                try text.map { [try record($0, transaction)] }
                ?? transaction.enrollments()
            return try records.map { try report($0, isWhole: text != nil, transaction) }
        }
    }

    /// Whether the seat of a license is free: with proof at once, without it at the lease's end by
    /// the calendar.
    private func seat(
        of license: LicenseRecord, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws -> String {
        guard let last = try transaction.leases(of: license.id, limit: 1).first else {
            return license.ending == nil ? "held" : "free"
        }
        guard license.ending != nil else { return "held" }
        if license.ending == .vacated { return "free" }
        let passed = try transaction.appraisals(of: record.id, limit: 64).filter(\.isVerified)
        // A higher epoch ends new sessions, and a reset since ends those that were banked.
        let raised = passed.last { $0.epoch > last.epoch }
        if let raised,
            passed.contains(where: {
                $0.epoch > last.epoch && $0.clock.resetCount > raised.clock.resetCount
            })
        {
            return "free"
        }
        return now() >= last.endsAt ? "dormant" : "held"
    }

    private func limits(
        _ license: LicenseRecord, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws -> [DeviceReport.LicenseReport.Limit] {
        let content = try License(
            verifying: PASETOToken(parsing: license.license), issuers: trust.everyIssuerKey,
            attestationKey: record.attestationKey.name)
        guard content.entitlements.contains(where: { $0.limit != nil }) else { return [] }
        let counted = try counted(record, transaction)
        return content.entitlements.compactMap { entitlement in
            entitlement.limit.map {
                .init(
                    entitlement: entitlement.name, limit: $0,
                    used: Self.used(entitlement, of: counted))
            }
        }
    }

    /// Of each version what was said last.
    private func announced(
        _ license: LicenseRecord, _ transaction: any VendorStoreReading
    ) throws -> [DeviceReport.LicenseReport.Announced] {
        let all = try transaction.announcements(of: license.id)
        return Dictionary(grouping: all, by: \.version).values.compactMap { same in
            same.max { $0.notBefore < $1.notBefore }
        }.sorted { $0.version < $1.version }.map {
            .init(version: $0.version, notBefore: $0.notBefore, isHeard: $0.isHeard)
        }
    }

    /// - Parameter isWhole: with what has to be added up.
    private func report(
        _ record: EnrollmentRecord, isWhole: Bool, _ transaction: any VendorStoreReading
    ) throws -> DeviceReport {
        let statement = try statement(record)
        let last = try transaction.appraisals(of: record.id, limit: 1).first
        let passed = try transaction.lastVerified(of: record.id)
        let licenses = try transaction.licenses(of: record.id).map { license in
            let terms = try terms(of: license)
            return DeviceReport.LicenseReport(
                license: license.id.description, product: license.product,
                endsAt: license.endsAt, ending: license.ending,
                seat: try seat(of: license, record, transaction),
                bootStateApproved: try passed.map {
                    try hasApproval(for: license.product, $0, record, transaction)
                } ?? false, serial: license.serial,
                leaseEndsAt: try transaction.leases(of: license.id, limit: 1).first?.endsAt,
                terms: terms.id, termsVersion: terms.version,
                limits: isWhole ? try limits(license, record, transaction) : [],
                termsToCome: license.ending == nil ? try announced(license, transaction) : [])
        }
        return DeviceReport(
            device: record.device, incarnation: record.incarnation, state: record.state,
            model: record.model, tpm: "\(statement.manufacturer) \(statement.model)",
            enrolledAt: record.createdAt,
            evidence: last.map { appraisal in
                var pcrs: [String: [String: String]] = [:]
                for (register, value) in appraisal.values.values {
                    pcrs[register.hash.name, default: [:]][String(register.index.rawValue)] =
                        Hex.encode(value)
                }
                return DeviceReport.Evidence(
                    appraisal: appraisal.id.description, receivedAt: appraisal.receivedAt,
                    passed: appraisal.isVerified, notes: appraisal.notes,
                    policy: appraisal.policy,
                    clockTicks: appraisal.clock.clock, resetCount: appraisal.clock.resetCount,
                    restartCount: appraisal.clock.restartCount,
                    clockSafe: appraisal.clock.safe,
                    firmware: appraisal.firmware.map(AppraisalPolicyFile.text(ofVersion:)),
                    pcrs: pcrs)
            }, licenses: licenses,
            hardware: try transaction.hardware(of: record.id).map {
                ComponentReport(kind: $0.kind.name, id: $0.description)
            },
            hardwareDrift: try hardware(of: record, transaction)
                .map { ($0.changed + $0.missing).sorted().map(\.name) } ?? [],
            audit: try transaction.audit(of: record.device, limit: 20))
    }
}
