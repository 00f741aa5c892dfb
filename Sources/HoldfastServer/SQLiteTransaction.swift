import FoundationEssentials
import GRDB
import HoldfastCrypto
import HoldfastProtocol
import HoldfastServices
import HoldfastTPMWire

/// The rows of one transaction.
///
/// What cannot be read back is a damaged database and never a default value.
struct SQLiteTransaction: VendorStoreWriting {
    let database: Database

    // Statements are compiled once and kept.

    private func execute(sql: String, arguments: StatementArguments) throws {
        try database.cachedStatement(sql: sql).execute(arguments: arguments)
    }

    private func fetchAll(sql: String, arguments: StatementArguments = []) throws -> [Row] {
        try Row.fetchAll(database.cachedStatement(sql: sql), arguments: arguments)
    }

    private func fetchOne(sql: String, arguments: StatementArguments) throws -> Row? {
        try Row.fetchOne(database.cachedStatement(sql: sql), arguments: arguments)
    }

    // MARK: Server

    func serverIncarnation() throws -> UInt64 {
        guard let row = try fetchOne(sql: "SELECT incarnation FROM server", arguments: []) else {
            throw damaged("server")
        }
        return try row.number("incarnation")
    }

    func update(serverIncarnation: UInt64) throws {
        try execute(
            sql: "UPDATE server SET incarnation = ?", arguments: [try stored(serverIncarnation)])
        try demandOneChange()
    }

    // MARK: Enrollments

    private func enrollment(_ row: Row) throws -> EnrollmentRecord {
        EnrollmentRecord(
            id: row["id"], requestHash: row.bytes("request_hash"),
            pairwiseID: row.bytes("pairwise_id"), incarnation: row["incarnation"],
            state: try row.choice("state"), attestationKey: try row.structure("attestation_key"),
            statement: row["statement"], response: row.bytes("response"),
            endorsementHash: row.bytes("endorsement_hash"), model: row["model"],
            createdAt: try row.number("created_at"),
            replySequence: try row.number("reply_sequence"), heardIn: try row.number("heard_in"),
            trustSequence: try row.number("trust_sequence"))
    }

    private func enrollments(
        _ condition: String, _ arguments: StatementArguments
    ) throws -> [EnrollmentRecord] {
        try fetchAll(
            sql: "SELECT * FROM enrollment WHERE \(condition) ORDER BY id",
            arguments: arguments
        ).map(enrollment)
    }

    func enrollment(id: Int64) throws -> EnrollmentRecord? {
        try enrollments("id = ?", [id]).first
    }
    func enrollment(requestHash: [UInt8]) throws -> EnrollmentRecord? {
        try enrollments("request_hash = ?", [Data(requestHash)]).first
    }
    func enrollments(pairwiseID: [UInt8]) throws -> [EnrollmentRecord] {
        try enrollments("pairwise_id = ?", [Data(pairwiseID)])
    }
    func enrollments(
        pairwiseIDs first: [UInt8], through last: [UInt8]
    ) throws -> [EnrollmentRecord] {
        try enrollments("pairwise_id BETWEEN ? AND ?", [Data(first), Data(last)])
    }
    func enrollments() throws -> [EnrollmentRecord] { try enrollments("true", []) }
    func enrollments(endorsementHash: [UInt8]) throws -> [EnrollmentRecord] {
        try enrollments("endorsement_hash = ?", [Data(endorsementHash)])
    }

    func insert(_ enrollment: EnrollmentRecord) throws -> Int64 {
        try execute(
            sql: """
                INSERT INTO enrollment (request_hash, pairwise_id, incarnation, state,
                    attestation_key, statement, response, endorsement_hash, model, created_at,
                    reply_sequence, heard_in, trust_sequence)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                Data(enrollment.requestHash), Data(enrollment.pairwiseID), enrollment.incarnation,
                enrollment.state.rawValue, Data(enrollment.attestationKey.wireBytes),
                enrollment.statement, Data(enrollment.response), Data(enrollment.endorsementHash),
                enrollment.model, try stored(enrollment.createdAt),
                try stored(enrollment.replySequence), try stored(enrollment.heardIn),
                try stored(enrollment.trustSequence),
            ])
        return database.lastInsertedRowID
    }

    func update(_ enrollment: EnrollmentRecord) throws {
        try execute(
            sql: """
                UPDATE enrollment SET state = ?, model = ?, reply_sequence = ?, heard_in = ?,
                    trust_sequence = ?
                WHERE id = ?
                """,
            arguments: [
                enrollment.state.rawValue, enrollment.model, try stored(enrollment.replySequence),
                try stored(enrollment.heardIn), try stored(enrollment.trustSequence), enrollment.id,
            ])
        try demandOneChange()
    }

    func removeUnproven(endorsementHash: [UInt8], keeping count: Int) throws {
        let old = """
            SELECT id FROM enrollment WHERE endorsement_hash = ? AND state = 'unproven'
                ORDER BY id DESC LIMIT -1 OFFSET ?
            """
        let arguments: StatementArguments = [Data(endorsementHash), count]
        // What an enrollment has before it is proven; of anything else the database holds on to it.
        for table in ["nonce", "hardware", "appraisal"] {
            try execute(
                sql: "DELETE FROM \(table) WHERE enrollment IN (\(old))", arguments: arguments)
        }
        try execute(sql: "DELETE FROM enrollment WHERE id IN (\(old))", arguments: arguments)
    }

    // MARK: Hardware

    func hardware(of enrollment: Int64) throws -> [HardwareFact] {
        try fetchAll(
            sql: "SELECT fact FROM hardware WHERE enrollment = ? ORDER BY fact",
            arguments: [enrollment]
        ).compactMap { HardwareFact($0.bytes("fact")) }
    }

    func enrollments(sharingHardware facts: [HardwareFact]) throws -> [EnrollmentRecord] {
        guard !facts.isEmpty else { return [] }
        let places = facts.map { _ in "?" }.joined(separator: ", ")
        return try fetchAll(
            sql: """
                SELECT * FROM enrollment WHERE id IN
                    (SELECT enrollment FROM hardware WHERE fact IN (\(places)))
                ORDER BY id DESC LIMIT 64
                """, arguments: StatementArguments(facts.map { Data($0.bytes) })
        ).map(enrollment)
    }

    func insert(_ fact: HardwareFact, of enrollment: Int64) throws {
        try execute(
            sql: "INSERT INTO hardware (enrollment, fact) VALUES (?, ?)",
            arguments: [enrollment, Data(fact.bytes)])
    }

    // MARK: Inventory

    func isInInventory(_ endorsementHash: [UInt8]) throws -> Bool {
        try fetchOne(
            sql: "SELECT 1 FROM inventory WHERE endorsement_hash = ?",
            arguments: [Data(endorsementHash)]) != nil
    }

    func addToInventory(_ endorsementHash: [UInt8], at: UInt64) throws {
        try execute(
            sql: "INSERT INTO inventory (endorsement_hash, added_at) VALUES (?, ?)",
            arguments: [Data(endorsementHash), try stored(at)])
    }

    // MARK: Nonces

    func nonce(_ nonce: [UInt8]) throws -> NonceRecord? {
        try fetchOne(
            sql: "SELECT * FROM nonce WHERE nonce = ?", arguments: [Data(nonce)]
        ).map { row in
            NonceRecord(
                nonce: row.bytes("nonce"), enrollment: row["enrollment"],
                ordinal: try row.number("ordinal"), expiresAt: try row.number("expires_at"),
                usedBy: (row["used_by"] as Data?).map { [UInt8]($0) })
        }
    }

    func lastOrdinal(of enrollment: Int64) throws -> UInt64 {
        let last = try Int64.fetchOne(
            database, sql: "SELECT max(ordinal) FROM nonce WHERE enrollment = ?",
            arguments: [enrollment])
        return UInt64(max(0, last ?? 0))
    }

    func insert(_ nonce: NonceRecord) throws {
        try execute(
            sql: """
                INSERT INTO nonce (nonce, enrollment, ordinal, expires_at, used_by)
                VALUES (?, ?, ?, ?, ?)
                """,
            arguments: [
                Data(nonce.nonce), nonce.enrollment, try stored(nonce.ordinal),
                try stored(nonce.expiresAt), nonce.usedBy.map { Data($0) },
            ])
    }

    func use(nonce: [UInt8], by evidenceHash: [UInt8]) throws {
        try execute(
            sql: "UPDATE nonce SET used_by = ? WHERE nonce = ? AND used_by IS NULL",
            arguments: [Data(evidenceHash), Data(nonce)])
        try demandOneChange()
    }

    func retireNonces(of enrollment: Int64) throws {
        try execute(
            sql: "UPDATE nonce SET used_by = x'' WHERE enrollment = ? AND used_by IS NULL",
            arguments: [enrollment])
    }

    // MARK: Appraisals

    private func appraisal(_ row: Row) throws -> AppraisalRecord {
        let selection: PCRSelection = try row.structure("selection")
        let notes = try JSONDecoder().decode(
            [String].self, from: Data((row["notes"] as String).utf8))
        guard let id = AppraisalID(row.bytes("id")) else { throw damaged("appraisal") }
        return AppraisalRecord(
            id: id, enrollment: row["enrollment"], evidenceHash: row.bytes("evidence_hash"),
            ordinal: try row.number("ordinal"), receivedAt: try row.number("received_at"),
            isVerified: row["is_verified"], clock: try row.structure("clock"),
            epoch: try row.number("epoch"), ledger: try row.number("ledger"),
            selection: selection, values: try values(row.bytes("pcr_values"), selection),
            notes: notes,
            policy: try (row["policy"] as String?).map { text in
                try JSONDecoder().decode(PolicyVerdict.self, from: Data(text.utf8))
            }, firmware: (row["firmware"] as Int64?).map(UInt64.init(bitPattern:)))
    }

    /// Values in the order of the selection; none when the evidence was refused.
    private func values(_ bytes: [UInt8], _ selection: PCRSelection) throws -> PCRValues {
        var values = PCRValues()
        guard !bytes.isEmpty else { return values }
        var reader = WireReader(bytes)
        for bank in selection.banks {
            for index in bank.indexes {
                values[bank.hash, index] = try reader.bytes(bank.hash.digestSize)
            }
        }
        try reader.finish()
        return values
    }

    func appraisals(of enrollment: Int64, limit: Int) throws -> [AppraisalRecord] {
        try fetchAll(
            sql: "SELECT * FROM appraisal WHERE enrollment = ? ORDER BY ordinal DESC LIMIT ?",
            arguments: [enrollment, limit]
        ).map(appraisal)
    }

    func lastVerified(of enrollment: Int64) throws -> AppraisalRecord? {
        try fetchOne(
            sql: """
                SELECT * FROM appraisal WHERE enrollment = ? AND is_verified
                ORDER BY ordinal DESC LIMIT 1
                """, arguments: [enrollment]
        ).map(appraisal)
    }

    func appraisal(evidenceHash: [UInt8]) throws -> AppraisalRecord? {
        try fetchOne(
            sql: "SELECT * FROM appraisal WHERE evidence_hash = ?",
            arguments: [Data(evidenceHash)]
        ).map(appraisal)
    }

    func insert(_ appraisal: AppraisalRecord) throws {
        var joined: [UInt8] = []
        if appraisal.isVerified {
            for bank in appraisal.selection.banks {
                for index in bank.indexes {
                    guard let value = appraisal.values[bank.hash, index] else {
                        throw damaged("appraisal")
                    }
                    joined += value
                }
            }
        }
        let notes = String(decoding: try JSONEncoder().encode(appraisal.notes), as: UTF8.self)
        try execute(
            sql: """
                INSERT INTO appraisal (id, enrollment, evidence_hash, ordinal, received_at,
                    is_verified, clock, epoch, ledger, selection, pcr_values, notes, policy,
                    firmware)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                Data(appraisal.id.bytes), appraisal.enrollment, Data(appraisal.evidenceHash),
                try stored(appraisal.ordinal), try stored(appraisal.receivedAt),
                appraisal.isVerified, Data(appraisal.clock.wireBytes),
                try stored(appraisal.epoch), try stored(appraisal.ledger),
                Data(appraisal.selection.wireBytes), Data(joined), notes,
                try appraisal.policy.map(Self.json),
                // Vendors number as they like: all 64 bits, which the database has with a sign.
                appraisal.firmware.map(Int64.init(bitPattern:)),
            ])
    }

    private static func json(_ verdict: PolicyVerdict) throws -> String {
        String(decoding: try JSONEncoder().encode(verdict), as: UTF8.self)
    }

    func update(policy: PolicyVerdict, of appraisal: AppraisalID) throws {
        try execute(
            sql: "UPDATE appraisal SET policy = ? WHERE id = ?",
            arguments: [try Self.json(policy), Data(appraisal.bytes)])
        try demandOneChange()
    }

    // MARK: Policies

    func policy(_ id: String) throws -> PolicyRecord? {
        try fetchOne(
            sql: "SELECT * FROM policy WHERE id = ? ORDER BY version DESC LIMIT 1",
            arguments: [id]
        ).map(policy)
    }

    private func policy(_ row: Row) throws -> PolicyRecord {
        PolicyRecord(
            id: row["id"], version: row["version"], token: row["token"],
            imaPolicy: (row["ima_policy"] as Data?).map { [UInt8]($0) },
            appliedAt: try row.number("applied_at"))
    }

    func policies() throws -> [PolicyRecord] {
        try fetchAll(
            sql: """
                SELECT * FROM policy AS one WHERE version =
                    (SELECT MAX(version) FROM policy WHERE id = one.id) ORDER BY id
                """
        ).map(policy)
    }

    func update(_ policy: PolicyRecord) throws {
        try execute(
            sql: "UPDATE policy SET token = ? WHERE id = ? AND version = ?",
            arguments: [policy.token, policy.id, policy.version])
        try demandOneChange()
    }

    func insert(_ policy: PolicyRecord) throws {
        try execute(
            sql: """
                INSERT INTO policy (id, version, token, ima_policy, applied_at)
                VALUES (?, ?, ?, ?, ?)
                """,
            arguments: [
                policy.id, policy.version, policy.token, policy.imaPolicy.map { Data($0) },
                try stored(policy.appliedAt),
            ])
    }

    func policyID(for scope: PolicyScope) throws -> String? {
        try fetchOne(
            sql: "SELECT policy FROM policy_scope WHERE scope = ?", arguments: [scope.text])?[
                "policy"]
    }

    func policyScopes() throws -> [(scope: String, id: String)] {
        try fetchAll(sql: "SELECT scope, policy FROM policy_scope ORDER BY scope").map { row in
            (row["scope"], row["policy"])
        }
    }

    func set(policyID: String?, for scope: PolicyScope) throws {
        try execute(sql: "DELETE FROM policy_scope WHERE scope = ?", arguments: [scope.text])
        guard let policyID else { return }
        try execute(
            sql: "INSERT INTO policy_scope (scope, policy) VALUES (?, ?)",
            arguments: [scope.text, policyID])
    }

    func listStates(of enrollment: Int64) throws -> [[UInt8]] {
        try fetchAll(
            sql: "SELECT state FROM list_state WHERE enrollment = ? ORDER BY number DESC",
            arguments: [enrollment]
        ).map { $0.bytes("state") }
    }

    func insert(listState: [UInt8], of enrollment: Int64, keeping count: Int) throws {
        try execute(
            sql: "INSERT INTO list_state (enrollment, state) VALUES (?, ?)",
            arguments: [enrollment, Data(listState)])
        try execute(
            sql: """
                DELETE FROM list_state WHERE enrollment = ? AND number NOT IN
                    (SELECT number FROM list_state WHERE enrollment = ?
                     ORDER BY number DESC LIMIT ?)
                """, arguments: [enrollment, enrollment, count])
    }

    // MARK: Replies

    func reply(to requestHash: [UInt8]) throws -> [UInt8]? {
        try fetchOne(
            sql: "SELECT bytes FROM reply WHERE request_hash = ? ORDER BY sequence DESC LIMIT 1",
            arguments: [Data(requestHash)]
        )?.bytes("bytes")
    }

    func wasSaid(_ hash: [UInt8], to enrollment: Int64) throws -> Bool {
        try fetchOne(
            sql: "SELECT 1 FROM said WHERE enrollment = ? AND hash = ?",
            arguments: [enrollment, Data(hash)]) != nil
    }

    func insert(said hash: [UInt8], to enrollment: Int64) throws {
        try execute(
            sql: "INSERT INTO said (enrollment, hash) VALUES (?, ?) ON CONFLICT DO NOTHING",
            arguments: [enrollment, Data(hash)])
    }

    func insert(
        reply: [UInt8], to requestHash: [UInt8], of enrollment: Int64, sequence: UInt64
    ) throws {
        try execute(
            sql:
                "INSERT INTO reply (request_hash, enrollment, sequence, bytes) VALUES (?, ?, ?, ?)",
            arguments: [Data(requestHash), enrollment, try stored(sequence), Data(reply)])
    }

    // MARK: Terms, licenses, leases

    func terms(_ id: String) throws -> String? {
        try String.fetchOne(
            database, sql: "SELECT token FROM terms WHERE id = ? ORDER BY version DESC LIMIT 1",
            arguments: [id])
    }

    func terms(_ id: String, after version: UInt32) throws -> [String] {
        try String.fetchAll(
            database, sql: "SELECT token FROM terms WHERE id = ? AND version > ? ORDER BY version",
            arguments: [id, version])
    }

    func terms() throws -> [String] {
        try String.fetchAll(
            database,
            sql: """
                SELECT token FROM terms WHERE version =
                    (SELECT max(version) FROM terms AS other WHERE other.id = terms.id) ORDER BY id
                """)
    }

    func announcements(of license: LicenseID) throws -> [AnnouncementRecord] {
        try fetchAll(
            sql: "SELECT * FROM announcement WHERE license = ? ORDER BY version, not_before",
            arguments: [Data(license.bytes)]
        ).map { row in
            AnnouncementRecord(
                license: license, version: row["version"], header: row.bytes("header"),
                notBefore: try row.number("not_before"), isHeard: row["is_heard"])
        }
    }

    func insert(_ announcement: AnnouncementRecord) throws {
        try execute(
            sql: """
                INSERT INTO announcement (license, version, header, not_before, is_heard)
                VALUES (?, ?, ?, ?, ?)
                """,
            arguments: [
                Data(announcement.license.bytes), announcement.version, Data(announcement.header),
                try stored(announcement.notBefore), announcement.isHeard,
            ])
        // A device that never says which one it applied does not fill the table.
        try execute(
            sql: """
                DELETE FROM announcement WHERE license = :license AND version = :version
                    AND NOT is_heard AND header NOT IN (
                        SELECT header FROM announcement
                        WHERE license = :license AND version = :version
                        ORDER BY not_before DESC LIMIT \(Self.keptAnnouncements))
                """,
            arguments: [
                "license": Data(announcement.license.bytes), "version": announcement.version,
            ])
    }

    /// Of each version for each license that nobody has heard of yet.
    private static let keptAnnouncements = 16

    func hear(announcementsIn headers: [[UInt8]], of enrollment: Int64) throws {
        for header in headers {
            try execute(
                sql: """
                    UPDATE announcement SET is_heard = 1 WHERE header = ?
                        AND license IN (SELECT id FROM license WHERE enrollment = ?)
                    """,
                arguments: [Data(header), enrollment])
            guard database.changesCount > 0 else { continue }
            try execute(
                sql: """
                    DELETE FROM announcement WHERE is_heard = 0 AND (license, version) IN
                        (SELECT license, version FROM announcement WHERE header = ?)
                    """,
                arguments: [Data(header)])
        }
    }

    func removeAnnouncements(of license: LicenseID, through version: UInt32) throws {
        try execute(
            sql: "DELETE FROM announcement WHERE license = ? AND version <= ?",
            arguments: [Data(license.bytes), version])
    }

    func update(terms: String, id: String, version: UInt32) throws {
        try execute(
            sql: "UPDATE terms SET token = ? WHERE id = ? AND version = ?",
            arguments: [terms, id, version])
        try demandOneChange()
    }

    func insert(terms: String, id: String, version: UInt32, at: UInt64) throws {
        try execute(
            sql: "INSERT INTO terms (id, version, token, applied_at) VALUES (?, ?, ?, ?)",
            arguments: [id, version, terms, try stored(at)])
    }

    func licenses(of enrollment: Int64) throws -> [LicenseRecord] {
        try fetchAll(
            sql: "SELECT * FROM license WHERE enrollment = ? ORDER BY number",
            arguments: [enrollment]
        ).map { row in
            guard let id = LicenseID(row.bytes("id")) else { throw damaged("license") }
            return LicenseRecord(
                id: id, enrollment: row["enrollment"], product: row["product"],
                license: row["license"], terms: row["terms"],
                endsAt: try row.number("ends_at"), ending: try row.optionalChoice("ending"),
                serial: row["serial"])
        }
    }

    func insert(_ license: LicenseRecord) throws {
        try execute(
            sql: """
                INSERT INTO license (id, enrollment, product, license, terms, ends_at, ending,
                    serial)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                Data(license.id.bytes), license.enrollment, license.product, license.license,
                license.terms, try stored(license.endsAt), license.ending?.rawValue, license.serial,
            ])
    }

    func update(_ license: LicenseRecord) throws {
        try execute(
            sql: """
                UPDATE license SET license = ?, terms = ?, serial = ?, ending = ? WHERE id = ?
                """,
            arguments: [
                license.license, license.terms, license.serial, license.ending?.rawValue,
                Data(license.id.bytes),
            ])
        try demandOneChange()
    }

    func leases(of license: LicenseID, limit: Int) throws -> [LeaseRecord] {
        try fetchAll(
            sql: "SELECT * FROM lease WHERE license = ? ORDER BY serial DESC LIMIT ?",
            arguments: [Data(license.bytes), limit]
        ).map { row in
            guard let appraisal = AppraisalID(row.bytes("appraisal")) else {
                throw damaged("lease")
            }
            var end = WireReader(row.bytes("end_ticks"))
            return LeaseRecord(
                license: license, serial: row["serial"], appraisal: appraisal,
                epoch: try row.number("epoch"), endTicks: try end.uint64(),
                issuedAt: try row.number("issued_at"), endsAt: try row.number("ends_at"))
        }
    }

    func insert(_ lease: LeaseRecord) throws {
        // A clock may have been set to any value, more than an integer of the database holds.
        var end = WireWriter(capacity: 8)
        end.uint64(lease.endTicks)
        try execute(
            sql: """
                INSERT INTO lease (license, serial, appraisal, epoch, end_ticks, issued_at, ends_at)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                Data(lease.license.bytes), lease.serial, Data(lease.appraisal.bytes),
                try stored(lease.epoch), Data(end.bytes), try stored(lease.issuedAt),
                try stored(lease.endsAt),
            ])
    }

    func highestEpoch(of enrollment: Int64) throws -> UInt64? {
        let highest = try Int64.fetchOne(
            database,
            sql: """
                SELECT max(lease.epoch) FROM lease JOIN license ON license.id = lease.license
                WHERE license.enrollment = ?
                """, arguments: [enrollment])
        return highest.map { UInt64(max(0, $0)) }
    }

    // MARK: Approvals and audit

    func approvals() throws -> [ApprovalRecord] {
        try fetchAll(sql: "SELECT * FROM approval ORDER BY number DESC").map { row in
            ApprovalRecord(
                reference: try PolicyReference(decoding: row.bytes("reference")),
                document: row.bytes("document"), createdAt: try row.number("created_at"))
        }
    }

    func insert(_ approval: ApprovalRecord) throws {
        try execute(
            sql: "INSERT INTO approval (reference, document, created_at) VALUES (?, ?, ?)",
            arguments: [
                Data(approval.reference.encoded), Data(approval.document),
                try stored(approval.createdAt),
            ])
    }

    // MARK: Settlements

    private func settlement(_ row: Row) throws -> SettlementRecord {
        var reader = WireReader(row.bytes("totals"))
        return SettlementRecord(
            enrollment: row["enrollment"], sequence: try row.number("sequence"),
            era: try row.number("era"), checkpoint: row.bytes("checkpoint"),
            root: row.bytes("root"), size: try row.number("size"),
            totals: try MeterSums(from: &reader), isForked: row["is_forked"],
            at: try row.number("at"), receipt: row["receipt"])
    }

    func settlement(of enrollment: Int64, checkpoint: [UInt8]) throws -> SettlementRecord? {
        try fetchOne(
            sql: "SELECT * FROM settlement WHERE enrollment = ? AND checkpoint = ?",
            arguments: [enrollment, Data(checkpoint)]
        ).map(settlement)
    }

    func settlements(of enrollment: Int64, limit: Int) throws -> [SettlementRecord] {
        try fetchAll(
            sql: "SELECT * FROM settlement WHERE enrollment = ? ORDER BY sequence DESC LIMIT ?",
            arguments: [enrollment, limit]
        ).map(settlement)
    }

    func heads(of enrollment: Int64) throws -> [SettlementRecord] {
        try fetchAll(
            sql: """
                SELECT * FROM settlement WHERE enrollment = ?1 AND sequence IN
                    (SELECT max(sequence) FROM settlement WHERE enrollment = ?1 GROUP BY era)
                """, arguments: [enrollment]
        ).map(settlement)
    }

    func head(of enrollment: Int64, era: UInt64) throws -> SettlementRecord? {
        try fetchOne(
            sql: """
                SELECT * FROM settlement WHERE enrollment = ? AND era = ?
                ORDER BY sequence DESC LIMIT 1
                """, arguments: [enrollment, try stored(era)]
        ).map(settlement)
    }

    func insert(_ settlement: SettlementRecord) throws {
        var totals = WireWriter(capacity: 64)
        settlement.totals.encode(into: &totals)
        try execute(
            sql: """
                INSERT INTO settlement (enrollment, sequence, era, checkpoint, root, size, totals,
                    is_forked, at, receipt)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
            arguments: [
                settlement.enrollment, try stored(settlement.sequence),
                try stored(settlement.era), Data(settlement.checkpoint), Data(settlement.root),
                try stored(settlement.size), Data(totals.bytes), settlement.isForked,
                try stored(settlement.at), settlement.receipt,
            ])
    }

    func meterNames(of enrollment: Int64, era: UInt64) throws -> [UInt32: String] {
        var names: [UInt32: String] = [:]
        for row in try fetchAll(
            sql: "SELECT * FROM meter WHERE enrollment = ? AND era = ?",
            arguments: [enrollment, try stored(era)])
        {
            names[row["number"]] = row["name"]
        }
        return names
    }

    func insert(meterNames: [UInt32: String], of enrollment: Int64, era: UInt64) throws {
        for (number, name) in meterNames {
            try execute(
                sql: """
                    INSERT INTO meter (enrollment, era, number, name) VALUES (?, ?, ?, ?)
                    ON CONFLICT DO NOTHING
                    """, arguments: [enrollment, try stored(era), number, name])
        }
    }

    func genesis(of enrollment: Int64, era: UInt64) throws -> LedgerGenesis? {
        let row = try fetchOne(
            sql: "SELECT genesis FROM era WHERE enrollment = ? AND era = ?",
            arguments: [enrollment, try stored(era)])
        guard let row else { return nil }
        do { return try LedgerGenesis(decoding: row.bytes("genesis")) } catch {
            throw damaged("genesis")
        }
    }

    func insert(genesis: LedgerGenesis, of enrollment: Int64, era: UInt64) throws {
        try execute(
            sql: """
                INSERT INTO era (enrollment, era, genesis) VALUES (?, ?, ?)
                ON CONFLICT DO NOTHING
                """, arguments: [enrollment, try stored(era), Data(genesis.encoded)])
    }

    private func audit(_ row: Row) throws -> AuditRecord {
        AuditRecord(
            at: try row.number("at"), action: row["action"], subject: row["subject"],
            detail: row["detail"])
    }

    func audit(limit: Int) throws -> [AuditRecord] {
        try fetchAll(
            sql: "SELECT * FROM audit ORDER BY number DESC LIMIT ?", arguments: [limit]
        ).map(audit)
    }

    func audit(of subject: String, limit: Int) throws -> [AuditRecord] {
        try fetchAll(
            sql:
                "SELECT * FROM audit WHERE subject = ?1 OR instr(detail, ?1) > 0 ORDER BY number DESC LIMIT ?2",
            arguments: [subject, limit]
        ).map(audit)
    }

    func insert(_ audit: AuditRecord) throws {
        try execute(
            sql: "INSERT INTO audit (at, action, subject, detail) VALUES (?, ?, ?, ?)",
            arguments: [try stored(audit.at), audit.action, audit.subject, audit.detail])
    }

    func insert(_ audit: AuditRecord, keeping count: Int, ofSubject: Int) throws {
        try insert(audit)
        try forget("action = :action", ["action": audit.action, "count": count])
        try forget(
            "action = :action AND subject = :subject",
            ["action": audit.action, "subject": audit.subject, "count": ofSubject])
    }

    private func forget(_ condition: String, _ arguments: StatementArguments) throws {
        try execute(
            sql: """
                DELETE FROM audit WHERE \(condition) AND number <=
                    (SELECT number FROM audit WHERE \(condition) ORDER BY number DESC
                     LIMIT 1 OFFSET :count)
                """, arguments: arguments)
    }

    private func demandOneChange() throws {
        guard database.changesCount == 1 else {
            throw StoreError(
                explanation: "a record that should be there is not in the database",
                remedy: "restore the database from a backup")
        }
    }

    /// A number as the database holds it: 63 bits.
    private func stored(_ value: UInt64) throws -> Int64 {
        guard let number = Int64(exactly: value) else {
            throw StoreError(explanation: "\(value) is too large to be stored", remedy: nil)
        }
        return number
    }
}

private func damaged(_ what: String) -> StoreError {
    StoreError(
        explanation: "the database holds something that is no \(what)",
        remedy: "restore the database from a backup")
}

extension Row {
    fileprivate func bytes(_ column: String) -> [UInt8] { [UInt8](self[column] as Data) }

    fileprivate func number(_ column: String) throws -> UInt64 {
        guard let value = UInt64(exactly: self[column] as Int64) else { throw damaged(column) }
        return value
    }

    fileprivate func choice<T: RawRepresentable<String>>(_ column: String) throws -> T {
        guard let value = T(rawValue: self[column] as String) else { throw damaged(column) }
        return value
    }

    fileprivate func optionalChoice<T: RawRepresentable<String>>(_ column: String) throws -> T? {
        (self[column] as String?) == nil ? nil : try choice(column)
    }

    fileprivate func structure<T: WireStructure>(_ column: String) throws -> T {
        do { return try T(wireBytes: bytes(column)) } catch { throw damaged(column) }
    }
}
