public import HoldfastProtocol

/// Where a vendor's records are.
///
/// Each call is one transaction: what the body throws takes everything back. The body may run again
/// when the engine asks for it, so it does nothing outside of the transaction.
public protocol VendorStore: Sendable {
    /// Reads from one consistent state.
    func read<R>(_ body: (any VendorStoreReading) throws -> R) throws -> R
    /// Reads and writes; committed, and on the disk, when it returns.
    func write<R>(_ body: (any VendorStoreWriting) throws -> R) throws -> R
    /// Takes what was deleted out of the files as well.
    func scrub() throws
}

/// What a transaction reads.
public protocol VendorStoreReading {
    /// From 1; a store that was restored from a backup takes a higher one.
    func serverIncarnation() throws -> UInt64
    func enrollment(id: Int64) throws -> EnrollmentRecord?
    func enrollment(requestHash: [UInt8]) throws -> EnrollmentRecord?
    /// Enrollments of a device, the newest last.
    func enrollments(pairwiseID: [UInt8]) throws -> [EnrollmentRecord]
    /// Enrollments of the devices whose pairwise ids lie between two, both included, in their order.
    func enrollments(pairwiseIDs first: [UInt8], through last: [UInt8]) throws
        -> [EnrollmentRecord]
    /// Every enrollment, in the order in which they came.
    func enrollments() throws -> [EnrollmentRecord]
    /// Enrollments with an endorsement key.
    func enrollments(endorsementHash: [UInt8]) throws -> [EnrollmentRecord]
    /// What an enrollment showed of its hardware, in order.
    func hardware(of enrollment: Int64) throws -> [HardwareFact]
    /// Enrollments that showed one of these facts, the newest first, at most 64.
    func enrollments(sharingHardware facts: [HardwareFact]) throws -> [EnrollmentRecord]
    func isInInventory(_ endorsementHash: [UInt8]) throws -> Bool
    func nonce(_ nonce: [UInt8]) throws -> NonceRecord?
    /// The highest ordinal of an enrollment's nonces; 0 when there is none.
    func lastOrdinal(of enrollment: Int64) throws -> UInt64
    /// Appraisals of an enrollment, the newest first.
    func appraisals(of enrollment: Int64, limit: Int) throws -> [AppraisalRecord]
    /// The newest appraisal of an enrollment that passed every check.
    func lastVerified(of enrollment: Int64) throws -> AppraisalRecord?
    func appraisal(evidenceHash: [UInt8]) throws -> AppraisalRecord?
    /// The newest reply to a request.
    func reply(to requestHash: [UInt8]) throws -> [UInt8]?
    /// Whether a reply's header or a receipt with this hash was said to an enrollment.
    func wasSaid(_ hash: [UInt8], to enrollment: Int64) throws -> Bool
    /// The newest version of terms as text.
    func terms(_ id: String) throws -> String?
    /// Versions of terms above one, in ascending order.
    func terms(_ id: String, after version: UInt32) throws -> [String]
    /// The newest version of every terms, by name.
    func terms() throws -> [String]
    /// What was announced for a license and is not in force.
    func announcements(of license: LicenseID) throws -> [AnnouncementRecord]
    /// Licenses of an enrollment, in the order in which they were issued.
    func licenses(of enrollment: Int64) throws -> [LicenseRecord]
    /// The newest leases of a license, the newest first.
    func leases(of license: LicenseID, limit: Int) throws -> [LeaseRecord]
    /// The highest epoch of any lease of an enrollment.
    func highestEpoch(of enrollment: Int64) throws -> UInt64?
    /// Every approval, the newest first.
    func approvals() throws -> [ApprovalRecord]
    /// The settlement of a checkpoint.
    func settlement(of enrollment: Int64, checkpoint: [UInt8]) throws -> SettlementRecord?
    /// Settlements of an enrollment, the newest first.
    func settlements(of enrollment: Int64, limit: Int) throws -> [SettlementRecord]
    /// The newest settlement of each era of an enrollment.
    func heads(of enrollment: Int64) throws -> [SettlementRecord]
    /// The newest settlement of one era.
    func head(of enrollment: Int64, era: UInt64) throws -> SettlementRecord?
    /// Names of an era's meters by their numbers.
    func meterNames(of enrollment: Int64, era: UInt64) throws -> [UInt32: String]
    /// With what an era began; `nil` for one that is known from a receipt alone.
    func genesis(of enrollment: Int64, era: UInt64) throws -> LedgerGenesis?
    /// The highest version of a policy that was ever in force.
    func policy(_ id: String) throws -> PolicyRecord?
    /// The highest version of every policy, by name.
    func policies() throws -> [PolicyRecord]
    /// The name of the policy in force for a scope.
    func policyID(for scope: PolicyScope) throws -> String?
    /// Every scope with its policy: as text, and the policy's name.
    func policyScopes() throws -> [(scope: String, id: String)]
    /// Where measurement lists of an enrollment may go on, the newest first.
    func listStates(of enrollment: Int64) throws -> [[UInt8]]
    /// The newest audit records, the newest first.
    func audit(limit: Int) throws -> [AuditRecord]
    /// The newest audit records about one subject, the newest first.
    func audit(of subject: String, limit: Int) throws -> [AuditRecord]
}

/// What a transaction writes.
public protocol VendorStoreWriting: VendorStoreReading {
    /// Stores a new enrollment.
    ///
    /// - Returns: its number.
    func insert(_ enrollment: EnrollmentRecord) throws -> Int64
    /// Forgets enrollments with an endorsement key that were never proven, all but the newest ones.
    func removeUnproven(endorsementHash: [UInt8], keeping count: Int) throws
    func update(serverIncarnation: UInt64) throws
    /// Stores what may change of an enrollment: state, model, reply sequence, what the device brought,
    /// and which trust statement it has.
    func update(_ enrollment: EnrollmentRecord) throws
    func insert(_ fact: HardwareFact, of enrollment: Int64) throws
    func addToInventory(_ endorsementHash: [UInt8], at: UInt64) throws
    func insert(_ nonce: NonceRecord) throws
    /// Marks a nonce as answered; it never is again.
    func use(nonce: [UInt8], by evidenceHash: [UInt8]) throws
    /// Marks every nonce of an enrollment as answered that is not yet.
    func retireNonces(of enrollment: Int64) throws
    func insert(_ appraisal: AppraisalRecord) throws
    /// Stores what a policy said of evidence that was appraised before.
    func update(policy: PolicyVerdict, of appraisal: AppraisalID) throws
    func insert(_ policy: PolicyRecord) throws
    /// Stores a policy of a version that is there, signed by another key.
    func update(_ policy: PolicyRecord) throws
    /// Puts a policy in force for a scope; `nil` takes it out.
    func set(policyID: String?, for scope: PolicyScope) throws
    /// Stores a state, and forgets all but the newest ones.
    func insert(listState: [UInt8], of enrollment: Int64, keeping count: Int) throws
    /// Stores a reply beside earlier ones to the same request.
    func insert(
        reply: [UInt8], to requestHash: [UInt8], of enrollment: Int64, sequence: UInt64
    ) throws
    /// Remembers the hash of a reply's header or of a receipt; once is enough.
    func insert(said hash: [UInt8], to enrollment: Int64) throws
    func insert(terms: String, id: String, version: UInt32, at: UInt64) throws
    /// Stores terms of a version that is there, signed by another key.
    func update(terms: String, id: String, version: UInt32) throws
    func insert(_ license: LicenseRecord) throws
    func insert(_ announcement: AnnouncementRecord) throws
    /// Marks what was announced in these replies to an enrollment as heard; others with the same version
    /// are forgotten.
    func hear(announcementsIn headers: [[UInt8]], of enrollment: Int64) throws
    /// Forgets what was announced for a license up to a version.
    func removeAnnouncements(of license: LicenseID, through version: UInt32) throws
    /// Stores what may change of a license: its text and terms, its last serial, and that it ended.
    func update(_ license: LicenseRecord) throws
    func insert(_ lease: LeaseRecord) throws
    func insert(_ approval: ApprovalRecord) throws
    func insert(_ settlement: SettlementRecord) throws
    /// Stores names of an era's meters; a number keeps the name that it had first.
    func insert(meterNames: [UInt32: String], of enrollment: Int64, era: UInt64) throws
    /// Stores with what an era began; the first word counts.
    func insert(genesis: LedgerGenesis, of enrollment: Int64, era: UInt64) throws
    func insert(_ audit: AuditRecord) throws
    /// Deletes what is older than a time and is not needed to go on; see
    /// ``VendorService/forget(olderThan:isTrial:)``.
    func forget(before: UInt64) throws -> Forgotten
    /// Stores an audit record, and forgets all but the newest ones of its action, and of its action and
    /// subject.
    func insert(_ audit: AuditRecord, keeping count: Int, ofSubject: Int) throws
}
