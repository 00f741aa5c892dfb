import GRDB
import Glibc
public import HoldfastErrors
import HoldfastProtocol
public import HoldfastServices

/// Why the database cannot be used.
public struct StoreError: Error, Sendable, OperatorError {
    public let explanation: String
    public let remedy: String?
    public let stableCode = "STORE_UNUSABLE"
    public let exitStatus = ExitStatus.failure
}

/// A vendor's records in one SQLite file.
///
/// What was committed is on the disk: write-ahead log with `synchronous` FULL, asserted on the open
/// connection, because the library resets it.
public final class SQLiteStore: VendorStore {
    private let pool: DatabasePool

    /// Opens a file, makes it when it is not there, and brings its tables up to date.
    ///
    /// - Throws: ``StoreError`` when the file is no database, is damaged, or was written by a newer
    ///   version.
    public init(path: String) throws {
        // SQLite gives its other files the mode of the first one.
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw StoreError(
                explanation: "cannot open `\(path)`: \(unsafe String(cString: strerror(errno)))",
                remedy: "check the directory and who may write to it")
        }
        close(descriptor)
        var configuration = Configuration()
        configuration.busyMode = .timeout(10)
        configuration.foreignKeysEnabled = true
        do {
            let pool = try DatabasePool(path: path, configuration: configuration)
            try pool.writeWithoutTransaction { database in
                try database.execute(sql: "PRAGMA synchronous = FULL")
                guard try Int.fetchOne(database, sql: "PRAGMA synchronous") == 2 else {
                    throw StoreError(
                        explanation: "the database does not wait for the disk", remedy: nil)
                }
            }
            let migrator = Self.migrator
            if try pool.read(migrator.hasBeenSuperseded) {
                throw StoreError(
                    explanation: "`\(path)` was written by a newer version of this program",
                    remedy: "use that version")
            }
            try migrator.migrate(pool)
            self.pool = pool
        } catch let error as DatabaseError {
            throw Self.failure(error, path)
        }
    }

    static func failure(_ error: DatabaseError, _ path: String) -> StoreError {
        StoreError(
            explanation: "the database `\(path)` cannot be used: \(error.message ?? "\(error)")",
            remedy: "check the space on the disk; otherwise restore the file from a backup")
    }

    private func mapped<R>(_ body: () throws -> R) throws -> R {
        do { return try body() } catch let error as DatabaseError {
            throw Self.failure(error, pool.path)
        }
    }

    /// Reads from one consistent state.
    public func read<R>(_ body: (any VendorStoreReading) throws -> R) throws -> R {
        try mapped { try pool.read { try body(SQLiteTransaction(database: $0)) } }
    }

    /// Reads and writes; on the disk when it returns.
    public func write<R>(_ body: (any VendorStoreWriting) throws -> R) throws -> R {
        try mapped { try pool.write { try body(SQLiteTransaction(database: $0)) } }
    }

    /// Takes what was deleted out of the files as well: pages that are free, and the log.
    public func scrub() throws {
        try mapped {
            try pool.writeWithoutTransaction { database in
                try database.execute(sql: "VACUUM")
                try database.checkpoint(.truncate)
            }
        }
    }

    /// Copies everything into an empty file.
    func copy(to path: String) throws {
        try mapped {
            try pool.writeWithoutTransaction {
                try $0.execute(sql: "VACUUM INTO ?", arguments: [path])
            }
        }
    }

    /// Tells how the open connection waits for the disk; 2 is FULL.
    package func synchronousSetting() throws -> Int? {
        try pool.writeWithoutTransaction { try Int.fetchOne($0, sql: "PRAGMA synchronous") }
    }

    /// Lets the file grow by so many pages and no more, as a disk that is full; `nil` takes that back.
    package func limit(morePages: Int?) throws {
        try pool.writeWithoutTransaction { database in
            let present = try Int.fetchOne(database, sql: "PRAGMA page_count") ?? 0
            let most = morePages.map { present + $0 } ?? 1 << 30
            try database.execute(sql: "PRAGMA max_page_count = \(most)")
        }
    }

    // MARK: Tables

    /// Forward only: a migration that was released is never changed.
    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { database in
            for statement in firstTables { try database.execute(sql: statement) }
        }
        migrator.registerMigration("policies") { database in
            for statement in policyTables { try database.execute(sql: statement) }
        }
        migrator.registerMigration("eras") { database in
            for statement in eraTables { try database.execute(sql: statement) }
        }
        migrator.registerMigration("audit by action") { database in
            try database.execute(sql: "CREATE INDEX audit_action ON audit (action)")
        }
        migrator.registerMigration("firmware") { database in
            try database.execute(sql: "ALTER TABLE appraisal ADD COLUMN firmware INTEGER")
        }
        migrator.registerMigration("announcements") { database in
            for statement in announcementTables { try database.execute(sql: statement) }
        }
        migrator.registerMigration("trust sequence") { database in
            try database.execute(
                sql: "ALTER TABLE enrollment ADD COLUMN trust_sequence INTEGER NOT NULL DEFAULT 0")
        }
        return migrator
    }

    private static let announcementTables = [
        """
        CREATE TABLE announcement (
            license BLOB NOT NULL REFERENCES license (id),
            version INTEGER NOT NULL,
            header BLOB NOT NULL,
            not_before INTEGER NOT NULL,
            is_heard INTEGER NOT NULL,
            PRIMARY KEY (license, version, header)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX announcement_header ON announcement (header)",
    ]

    /// Each era of a ledger has a beginning and a dictionary of its own.
    private static let eraTables = [
        """
        CREATE TABLE era (
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            era INTEGER NOT NULL,
            genesis BLOB NOT NULL,
            PRIMARY KEY (enrollment, era)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE era_meter (
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            era INTEGER NOT NULL,
            number INTEGER NOT NULL,
            name TEXT NOT NULL,
            PRIMARY KEY (enrollment, era, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO era_meter (enrollment, era, number, name)
        SELECT DISTINCT enrollment, era, number, name FROM meter JOIN settlement USING (enrollment)
        """,
        "DROP TABLE meter",
        "ALTER TABLE era_meter RENAME TO meter",
    ]

    private static let policyTables = [
        """
        CREATE TABLE policy (
            id TEXT NOT NULL,
            version INTEGER NOT NULL,
            token TEXT NOT NULL,
            ima_policy BLOB,
            applied_at INTEGER NOT NULL,
            PRIMARY KEY (id, version)
        ) STRICT
        """,
        """
        CREATE TABLE policy_scope (
            scope TEXT PRIMARY KEY,
            policy TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE list_state (
            number INTEGER PRIMARY KEY,
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            state BLOB NOT NULL
        ) STRICT
        """,
        "CREATE INDEX list_state_enrollment ON list_state (enrollment, number)",
        "ALTER TABLE appraisal ADD COLUMN policy TEXT",
    ]

    private static let firstTables = [
        """
        CREATE TABLE server (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            incarnation INTEGER NOT NULL
        ) STRICT
        """,
        "INSERT INTO server (one, incarnation) VALUES (1, 1)",
        """
        CREATE TABLE enrollment (
            id INTEGER PRIMARY KEY,
            request_hash BLOB NOT NULL UNIQUE,
            pairwise_id BLOB NOT NULL,
            incarnation INTEGER NOT NULL,
            state TEXT NOT NULL,
            attestation_key BLOB NOT NULL,
            statement TEXT NOT NULL,
            response BLOB NOT NULL,
            endorsement_hash BLOB NOT NULL,
            model TEXT,
            created_at INTEGER NOT NULL,
            reply_sequence INTEGER NOT NULL,
            heard_in INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE INDEX enrollment_pairwise ON enrollment (pairwise_id)",
        "CREATE INDEX enrollment_endorsement ON enrollment (endorsement_hash)",
        // Of the enrollments with one number, one alone is proven.
        """
        CREATE UNIQUE INDEX enrollment_proven ON enrollment (pairwise_id, incarnation)
            WHERE state <> 'unproven'
        """,
        """
        CREATE TABLE hardware (
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            fact BLOB NOT NULL,
            PRIMARY KEY (enrollment, fact)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX hardware_fact ON hardware (fact)",
        """
        CREATE TABLE inventory (
            endorsement_hash BLOB PRIMARY KEY,
            added_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE nonce (
            nonce BLOB PRIMARY KEY,
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            ordinal INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            used_by BLOB,
            UNIQUE (enrollment, ordinal)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE appraisal (
            id BLOB PRIMARY KEY,
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            evidence_hash BLOB NOT NULL UNIQUE,
            ordinal INTEGER NOT NULL,
            received_at INTEGER NOT NULL,
            is_verified INTEGER NOT NULL,
            clock BLOB NOT NULL,
            epoch INTEGER NOT NULL,
            ledger INTEGER NOT NULL,
            selection BLOB NOT NULL,
            pcr_values BLOB NOT NULL,
            notes TEXT NOT NULL,
            UNIQUE (enrollment, ordinal)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE reply (
            request_hash BLOB NOT NULL,
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            sequence INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            PRIMARY KEY (enrollment, sequence)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE said (
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            hash BLOB NOT NULL,
            PRIMARY KEY (enrollment, hash)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX reply_request ON reply (request_hash)",
        """
        CREATE TABLE terms (
            id TEXT NOT NULL,
            version INTEGER NOT NULL,
            token TEXT NOT NULL,
            applied_at INTEGER NOT NULL,
            PRIMARY KEY (id, version)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE license (
            number INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            product TEXT NOT NULL,
            license TEXT NOT NULL,
            terms TEXT NOT NULL,
            ends_at INTEGER NOT NULL,
            ending TEXT,
            serial INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE INDEX license_enrollment ON license (enrollment)",
        """
        CREATE TABLE lease (
            license BLOB NOT NULL REFERENCES license (id),
            serial INTEGER NOT NULL,
            appraisal BLOB NOT NULL,
            epoch INTEGER NOT NULL,
            end_ticks BLOB NOT NULL,
            issued_at INTEGER NOT NULL,
            ends_at INTEGER NOT NULL,
            PRIMARY KEY (license, serial)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE approval (
            number INTEGER PRIMARY KEY,
            reference BLOB NOT NULL,
            document BLOB NOT NULL,
            created_at INTEGER NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE settlement (
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            sequence INTEGER NOT NULL,
            era INTEGER NOT NULL,
            checkpoint BLOB NOT NULL,
            root BLOB NOT NULL,
            size INTEGER NOT NULL,
            totals BLOB NOT NULL,
            is_forked INTEGER NOT NULL,
            at INTEGER NOT NULL,
            receipt TEXT NOT NULL,
            PRIMARY KEY (enrollment, sequence),
            UNIQUE (enrollment, checkpoint)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX settlement_era ON settlement (enrollment, era, sequence)",
        """
        CREATE TABLE meter (
            enrollment INTEGER NOT NULL REFERENCES enrollment (id),
            number INTEGER NOT NULL,
            name TEXT NOT NULL,
            PRIMARY KEY (enrollment, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE audit (
            number INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX audit_subject ON audit (subject)",
    ]
}
