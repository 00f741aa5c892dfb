import GRDB
import HoldfastServices

extension SQLiteTransaction {
    func forget(before limit: UInt64) throws -> Forgotten {
        func delete(_ sql: String, _ arguments: StatementArguments = [:]) throws -> Int {
            try database.execute(sql: "DELETE FROM " + sql, arguments: arguments)
            return database.changesCount
        }
        let before: StatementArguments = ["before": Int64(clamping: limit)]
        // A lease names the appraisal that it followed from: leases go first.
        let leases = try delete(
            """
            lease WHERE ends_at < :before AND serial <
                (SELECT max(serial) FROM lease AS other WHERE other.license = lease.license)
            """, before)
        let appraisals = try delete(
            """
            appraisal WHERE received_at < :before
                AND id NOT IN (SELECT appraisal FROM lease)
                AND ordinal < (SELECT max(ordinal) FROM appraisal AS other
                    WHERE other.enrollment = appraisal.enrollment)
                AND ordinal <> coalesce((SELECT max(ordinal) FROM appraisal AS other
                    WHERE other.enrollment = appraisal.enrollment AND other.is_verified), -1)
            """, before)
        let settlements = try delete(
            """
            settlement WHERE at < :before AND sequence <
                (SELECT max(sequence) FROM settlement AS other
                    WHERE other.enrollment = settlement.enrollment AND other.era = settlement.era)
            """, before)
        // Replies have no time of their own; those to evidence that is forgotten answer nothing.
        let replies = try delete(
            """
            reply WHERE sequence <
                (SELECT max(sequence) FROM reply AS other
                    WHERE other.enrollment = reply.enrollment)
                AND request_hash NOT IN (SELECT evidence_hash FROM appraisal)
            """)
        // New ones are numbered behind the last one.
        let nonces = try delete(
            """
            nonce WHERE expires_at < :before AND ordinal <
                (SELECT max(ordinal) FROM nonce AS other
                    WHERE other.enrollment = nonce.enrollment)
            """, before)
        let hardware = try delete(
            """
            hardware WHERE enrollment IN (
                SELECT id FROM enrollment WHERE state IN ('retired', 'superseded')
                    AND max(created_at, coalesce((SELECT max(received_at) FROM appraisal
                        WHERE appraisal.enrollment = enrollment.id), 0)) < :before)
            """, before)
        // Nobody is told any more of terms to come for a license that ended.
        _ = try delete(
            "announcement WHERE license IN (SELECT id FROM license WHERE ending IS NOT NULL)")
        let audit = try delete("audit WHERE at < :before", before)
        return Forgotten(
            audit: audit, appraisals: appraisals, leases: leases, replies: replies,
            settlements: settlements, nonces: nonces, hardware: hardware)
    }
}
