import GRDB
import HoldfastLicensing
import HoldfastProtocol

extension LedgerStore {
    /// Writes down what became different; nothing but a person reads it.
    func append(_ changes: [LicenseChange]) throws(LedgerStoreError) {
        try write { database in
            for change in changes {
                try database.execute(
                    sql: """
                        INSERT INTO change (at, kind, subject, old, new, cause)
                        VALUES (?, ?, ?, ?, ?, ?)
                        """,
                    arguments: [
                        Int64(bitPattern: change.at), change.kind.rawValue, change.subject,
                        change.old, change.new, change.cause,
                    ])
            }
        }
    }

    /// What became different, the newest first.
    func changes(limit: Int) throws(LedgerStoreError) -> [LicenseChange] {
        try read { database in
            try Row.fetchAll(
                database, sql: "SELECT * FROM change ORDER BY number DESC LIMIT ?",
                arguments: [limit]
            ).compactMap { row in
                guard let kind = LicenseChange.Kind(rawValue: try row.text("kind")) else {
                    return nil
                }
                return LicenseChange(
                    at: UInt64(bitPattern: try row.integer("at")), kind, try row.text("subject"),
                    old: try row.optionalText("old"), new: try row.optionalText("new"),
                    cause: try row.text("cause"))
            }
        }
    }

    /// The state of a license that was written down last.
    func lastState(of license: String) throws(LedgerStoreError) -> String? {
        try read { database in
            try String.fetchOne(
                database,
                sql: """
                    SELECT new FROM change WHERE subject = ? AND kind = ?
                    ORDER BY number DESC LIMIT 1
                    """,
                arguments: [license, LicenseChange.Kind.stateChanged.rawValue])
        }
    }
}
