import FoundationEssentials
import GRDB
public import HoldfastErrors
import Glibc
public import HoldfastCrypto
import HoldfastLicensing
public import HoldfastProtocol
public import HoldfastTPMWire

/// Why the usage ledger cannot be used.
public enum LedgerStoreError: Error, Sendable, Hashable, OperatorError {
    /// The database cannot be opened, read or written.
    case unusable(String)
    /// What is in it is not what was written; where, and how it was noticed.
    case damaged(code: String, String)

    public var explanation: String {
        switch self {
        case .unusable(let text): "the usage ledger cannot be used: \(text)"
        case .damaged(_, let text): "the usage ledger was changed or damaged: \(text)"
        }
    }
    public var remedy: String? {
        switch self {
        case .unusable: "check the space on the disk; nothing that was recorded is lost"
        case .damaged:
            "keep a copy of the directory `ledger`, then take evidence to the vendor: it compares as well"
        }
    }
    public var stableCode: String {
        switch self {
        case .unusable: "LEDGER_UNUSABLE"
        case .damaged(let code, _): code
        }
    }
    public var exitStatus: ExitStatus {
        switch self {
        case .unusable: .failure
        case .damaged: .refused
        }
    }
}

/// The usage ledger in one SQLite file: records, the frontier of their tree, and checkpoints.
///
/// Each commit holds the frontier of the records before it, so that the root commits to totals.
/// What was committed is on the disk: write-ahead log with `synchronous` FULL.
///
/// docs/spec/ledger.md.
public final class LedgerStore: Sendable {
    private let queue: DatabaseQueue
    private let random: RandomSource
    private let path: String
    /// What the path led to when it was opened.
    private let file: (device: dev_t, number: ino_t)

    /// What is measured.
    public struct Usage: Sendable, Hashable {
        public var meter: String
        /// The version of the terms under which it is used.
        public var termsVersion: UInt32
        /// 1 to 2^32 - 1.
        public var quantity: UInt32

        public init(meter: String, termsVersion: UInt32, quantity: UInt32) {
            self.meter = meter
            self.termsVersion = termsVersion
            self.quantity = quantity
        }
    }

    /// Where the present era stands.
    public struct Head: Sendable, Hashable {
        /// The database's own number of the era.
        public var number: Int64
        /// The era's name; `nil` until its first checkpoint.
        public var era: UInt64?
        public var genesis: LedgerGenesis
        /// The TPM's counter when the era began.
        public var begunAt: UInt64
        public var frontier: LedgerRange
        /// Secret of the leaf salts since the last checkpoint.
        var seed: [UInt8]
    }

    /// A checkpoint with what the TPM said.
    public struct Certified: Sendable, Hashable {
        public var checkpoint: Checkpoint
        /// `nil` when it was written down and not certified yet.
        public var certification: SignedAttestation?
    }

    /// Opens the file, makes it when it is not there.
    public init(path: String, random: RandomSource) throws(LedgerStoreError) {
        self.random = random
        self.path = path
        // Members of a group may write to the directory: nothing that they put there is followed, and
        // no right of a file that was there is changed.
        let flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW
        var descriptor = unsafe open(path, flags | O_CREAT | O_EXCL, 0o660)
        if descriptor >= 0 {
            // The mask of the process does not decide here.
            fchmod(descriptor, 0o660)
        } else {
            descriptor = unsafe open(path, flags)
        }
        guard descriptor >= 0 else {
            throw .unusable("\(path): \(unsafe String(cString: strerror(errno)))")
        }
        var status = stat()
        let isKnown = unsafe fstat(descriptor, &status) == 0
        close(descriptor)
        guard isKnown, status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1 else {
            throw .unusable("\(path): not an ordinary file of its own")
        }
        file = (status.st_dev, status.st_ino)
        do {
            var configuration = Configuration()
            configuration.busyMode = .timeout(10)
            configuration.foreignKeysEnabled = true
            configuration.journalMode = .wal
            queue = try DatabaseQueue(path: path, configuration: configuration)
            try queue.writeWithoutTransaction { database in
                try database.execute(sql: "PRAGMA synchronous = FULL")
                // A schema that others may have written calls no functions.
                try database.execute(sql: "PRAGMA trusted_schema = OFF")
            }
            var migrator = DatabaseMigrator()
            migrator.registerMigration("1") { database in
                for statement in Self.tables { try database.execute(sql: statement) }
            }
            migrator.registerMigration("2") { database in
                // Of a ledger that was there before, any may have left the device.
                try database.execute(
                    sql: "ALTER TABLE checkpoint ADD COLUMN exported INTEGER NOT NULL DEFAULT 1")
            }
            migrator.registerMigration("3") { database in
                // The code of what is wrong with an era that was left behind.
                try database.execute(sql: "ALTER TABLE era ADD COLUMN damaged TEXT")
            }
            guard isInPlace else {
                throw LedgerStoreError.unusable("\(path): another file took its place")
            }
            try migrator.migrate(queue)
        } catch {
            throw Self.mapped(error)
        }
    }

    /// Whether SQLite says that the file is not one of its own, or is broken inside.
    static func isNoDatabase(_ text: String) -> Bool {
        ["SQLite error 26", "SQLite error 11"].contains { text.contains($0) }
    }

    /// Whether the path still leads to what was opened: an enrollment that ended takes its ledger away.
    public var isInPlace: Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_dev == file.device
            && status.st_ino == file.number
    }

    private static func mapped(_ error: any Error) -> LedgerStoreError {
        (error as? LedgerStoreError) ?? .unusable("\(error)")
    }

    /// Tells how the open connection waits for the disk; 2 is FULL.
    package func synchronousSetting() throws -> Int? {
        try queue.writeWithoutTransaction { try Int.fetchOne($0, sql: "PRAGMA synchronous") }
    }

    /// Lets the file grow by so many pages and no more, as a disk that is full; `nil` takes that back.
    package func limit(morePages: Int?) throws {
        try queue.writeWithoutTransaction { database in
            let present = try Int.fetchOne(database, sql: "PRAGMA page_count") ?? 0
            let most = morePages.map { present + $0 } ?? 1 << 30
            try database.execute(sql: "PRAGMA max_page_count = \(most)")
        }
    }

    private func write<R>(_ body: (Database) throws -> R) throws(LedgerStoreError) -> R {
        do { return try queue.write(body) } catch { throw Self.mapped(error) }
    }

    private func read<R>(_ body: (Database) throws -> R) throws(LedgerStoreError) -> R {
        do { return try queue.read(body) } catch { throw Self.mapped(error) }
    }

    private static let tables = [
        """
        CREATE TABLE era (
            number INTEGER PRIMARY KEY,
            era BLOB,
            genesis BLOB NOT NULL,
            begun_at BLOB NOT NULL,
            frontier BLOB NOT NULL,
            seed BLOB NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE record (
            era INTEGER NOT NULL REFERENCES era (number),
            sequence INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            PRIMARY KEY (era, sequence)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE meter (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE
        ) STRICT
        """,
        """
        CREATE TABLE checkpoint (
            era INTEGER NOT NULL REFERENCES era (number),
            counter BLOB NOT NULL,
            bytes BLOB NOT NULL,
            frontier BLOB NOT NULL,
            attestation BLOB,
            signature BLOB,
            PRIMARY KEY (era, counter)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE receipt (
            sequence INTEGER PRIMARY KEY,
            era BLOB NOT NULL,
            checkpoint BLOB NOT NULL,
            token TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE change (
            number INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            kind TEXT NOT NULL,
            subject TEXT NOT NULL,
            old TEXT,
            new TEXT,
            cause TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX change_subject ON change (subject, kind, number)",
    ]

    // MARK: Eras

    /// The present era; `nil` before the first one.
    public func head() throws(LedgerStoreError) -> Head? {
        try read { try Self.head($0) }
    }

    private static func head(_ database: Database) throws -> Head? {
        try Row.fetchOne(database, sql: "SELECT * FROM era ORDER BY number DESC LIMIT 1")
            .map(head)
    }

    private static func head(_ row: Row) throws -> Head {
        do {
            var reader = WireReader([UInt8](row["frontier"] as Data))
            let frontier = try LedgerRange(from: &reader)
            try reader.finish()
            return Head(
                number: row["number"], era: (row["era"] as Data?).map { number([UInt8]($0)) },
                genesis: try LedgerGenesis(decoding: [UInt8](row["genesis"] as Data)),
                begunAt: number([UInt8](row["begun_at"] as Data)), frontier: frontier,
                seed: [UInt8](row["seed"] as Data))
        } catch {
            throw LedgerStoreError.damaged(
                code: "LEDGER_DAMAGED", "the head of an era makes no sense")
        }
    }

    /// Begins an era; what was before it is left as it is.
    ///
    /// - Parameter counter: the present value of the TPM's counter.
    public func beginEra(
        _ genesis: LedgerGenesis, counter: UInt64, ticks: UInt64, day: UInt32
    ) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql: "INSERT INTO era (genesis, begun_at, frontier, seed) VALUES (?, ?, ?, ?)",
                arguments: [
                    Data(genesis.encoded), Self.data(counter), Data(Self.bytes(LedgerRange())),
                    Data(random.bytes(32)),
                ])
            guard var head = try Self.head(database) else { return }
            // A dictionary of its own comes with each era: its records must explain themselves.
            try append(
                database, &head, kind: .genesis, meter: 0, terms: 0, quantity: 0, ticks, day,
                payload: genesis.encoded)
            let meters = try Row.fetchAll(database, sql: "SELECT * FROM meter ORDER BY number")
            for row in meters {
                try append(
                    database, &head, kind: .meter, meter: row["number"], terms: 0, quantity: 0,
                    ticks, day, payload: Array((row["name"] as String).utf8))
            }
            try save(head, database)
        }
    }

    private static func bytes(_ range: LedgerRange) -> [UInt8] {
        var writer = WireWriter(capacity: 512)
        range.encode(into: &writer)
        return writer.bytes
    }

    /// A u64 as eight bytes: a database's integers have a sign.
    private static func data(_ value: UInt64) -> Data {
        var writer = WireWriter(capacity: 8)
        writer.uint64(value)
        return Data(writer.bytes)
    }

    private static func number(_ bytes: [UInt8]) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    // MARK: Records

    /// Records usage; it is on the disk when this returns, all of it or nothing.
    ///
    /// - Parameters:
    ///   - ticks: the TPM's clock as it was last read.
    ///   - day: days since 1970 on the device's own clock; a hint.
    public func append(
        _ usages: [Usage], ticks: UInt64, day: UInt32
    ) throws(LedgerStoreError) {
        try write { database in
            guard var head = try Self.head(database) else {
                throw LedgerStoreError.damaged(code: "LEDGER_DAMAGED", "no era has begun")
            }
            let statement = try database.cachedStatement(
                sql: "INSERT INTO record (era, sequence, bytes) VALUES (?, ?, ?)")
            var numbers: [String: UInt32] = [:]
            for usage in usages {
                guard usage.quantity > 0 else { throw LedgerError.nothingToCount }
                if numbers[usage.meter] == nil {
                    numbers[usage.meter] = try number(
                        of: usage.meter, database, &head, ticks, day)
                }
                let record = try makeRecord(
                    head, kind: .usage, meter: numbers[usage.meter] ?? 0,
                    terms: usage.termsVersion, quantity: usage.quantity, ticks, day, payload: nil)
                let bytes = record.encoded
                try head.frontier.append(record.node(encoded: bytes))
                try statement.execute(
                    arguments: [head.number, Int64(bitPattern: record.sequence), Data(bytes)])
            }
            try save(head, database)
        }
    }

    private func number(
        of meter: String, _ database: Database, _ head: inout Head, _ ticks: UInt64,
        _ day: UInt32
    ) throws -> UInt32 {
        if let known = try UInt32.fetchOne(
            database, sql: "SELECT number FROM meter WHERE name = ?", arguments: [meter])
        {
            return known
        }
        try database.execute(sql: "INSERT INTO meter (name) VALUES (?)", arguments: [meter])
        guard let number = UInt32(exactly: database.lastInsertedRowID) else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_EDITED", "a meter has a number that no record gave it")
        }
        try append(
            database, &head, kind: .meter, meter: number, terms: 0, quantity: 0, ticks, day,
            payload: Array(meter.utf8))
        return number
    }

    private func makeRecord(
        _ head: Head, kind: LedgerRecord.Kind, meter: UInt32, terms: UInt32, quantity: UInt32,
        _ ticks: UInt64, _ day: UInt32, payload: [UInt8]?
    ) throws -> LedgerRecord {
        let sequence = head.frontier.end
        var place = WireWriter(capacity: 8)
        place.uint64(sequence)
        let salt = try framedKeyedHash(
            .checkpoint, key: SymmetricSecret(head.seed), Self.saltField, place.bytes)
        return LedgerRecord(
            sequence: sequence, meter: meter, termsVersion: terms, quantity: quantity,
            ticks: ticks, day: day, kind: kind,
            payloadHash: payload.map { HashAlgorithm.sha256.digest($0) }
                ?? Self.noPayload, salt: [UInt8](salt[..<16]))
    }

    private static let saltField = Array("salt".utf8)
    private static let noPayload = [UInt8](repeating: 0, count: 32)

    private func append(
        _ database: Database, _ head: inout Head, kind: LedgerRecord.Kind, meter: UInt32,
        terms: UInt32, quantity: UInt32, _ ticks: UInt64, _ day: UInt32, payload: [UInt8]?
    ) throws {
        let record = try makeRecord(
            head, kind: kind, meter: meter, terms: terms, quantity: quantity, ticks, day,
            payload: payload)
        try head.frontier.append(record.node)
        try database.execute(
            sql: "INSERT INTO record (era, sequence, bytes) VALUES (?, ?, ?)",
            arguments: [head.number, Int64(bitPattern: record.sequence), Data(record.encoded)])
    }

    private func save(_ head: Head, _ database: Database) throws {
        try database.execute(
            sql: "UPDATE era SET frontier = ?, seed = ?, era = ? WHERE number = ?",
            arguments: [
                Data(Self.bytes(head.frontier)), Data(head.seed), head.era.map(Self.data),
                head.number,
            ])
    }

    /// Names of meters by their numbers.
    public func meters() throws(LedgerStoreError) -> [UInt32: String] {
        try read { database in
            var names: [UInt32: String] = [:]
            for row in try Row.fetchAll(database, sql: "SELECT * FROM meter") {
                if let number = UInt32(exactly: row["number"] as Int64) {
                    names[number] = row["name"]
                }
            }
            return names
        }
    }

    // MARK: Checkpoints

    /// The last checkpoint of an era.
    public func lastCheckpoint(of head: Head) throws(LedgerStoreError) -> Certified? {
        try read { try Self.lastCheckpoint(of: head, $0) }
    }

    private static func lastCheckpoint(of head: Head, _ database: Database) throws -> Certified? {
        try Row.fetchOne(
            database,
            sql: "SELECT * FROM checkpoint WHERE era = ? ORDER BY counter DESC LIMIT 1",
            arguments: [head.number]
        ).map(certified)
    }

    private static func certified(_ row: Row) throws -> Certified {
        do {
            let checkpoint = try Checkpoint(decoding: [UInt8](row["bytes"] as Data))
            guard let attestation = row["attestation"] as Data?,
                let signature = row["signature"] as Data?
            else { return Certified(checkpoint: checkpoint, certification: nil) }
            return Certified(
                checkpoint: checkpoint,
                certification: try SignedAttestation(
                    attestation: [UInt8](attestation), signature: [UInt8](signature)))
        } catch {
            throw LedgerStoreError.damaged(
                code: "LEDGER_DAMAGED", "a checkpoint makes no sense")
        }
    }

    /// Writes a checkpoint of the present head down, before the counter is raised for it.
    ///
    /// - Parameter make: from era, frontier, root and the hash of the checkpoint before.
    public func writeCheckpoint(
        counter: UInt64,
        _ make: (_ era: UInt64, _ size: UInt64, _ root: LedgerNode, _ previous: [UInt8]) throws
            -> Checkpoint
    ) throws(LedgerStoreError) -> Checkpoint {
        try write { database in
            guard var head = try Self.head(database) else {
                throw LedgerStoreError.damaged(code: "LEDGER_DAMAGED", "no era has begun")
            }
            let era = head.era ?? counter
            let before = try Row.fetchOne(
                database,
                sql: "SELECT * FROM checkpoint WHERE era = ? ORDER BY counter DESC LIMIT 1",
                arguments: [head.number]
            ).map(Self.certified)
            let made = try make(
                era, head.frontier.end, head.frontier.root(),
                before?.checkpoint.hash ?? [UInt8](repeating: 0, count: 32))
            try database.execute(
                sql: """
                    INSERT INTO checkpoint (counter, era, bytes, frontier, exported)
                    VALUES (?, ?, ?, ?, 0)
                    """,
                arguments: [
                    Self.data(counter), head.number, Data(made.encoded),
                    Data(Self.bytes(head.frontier)),
                ])
            head.era = era
            // The salts of what is sealed now say nothing of those that come.
            head.seed = random.bytes(32)
            try save(head, database)
            return made
        }
    }

    /// Stores what the TPM said to a checkpoint.
    public func store(
        _ certification: SignedAttestation, counter: UInt64
    ) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql: """
                    UPDATE checkpoint SET attestation = ?, signature = ?
                    WHERE counter = ? AND era = (SELECT max(number) FROM era)
                    """,
                arguments: [
                    Data(certification.attestation.bytes), Data(certification.signature.bytes),
                    Self.data(counter),
                ])
        }
    }

    // MARK: Proofs and receipts

    /// What leads from an earlier checkpoint's head of the present era to the present one's.
    ///
    /// - Returns: `nil` when there is no such checkpoint.
    public func consistency(
        from size: UInt64, to end: UInt64
    ) throws(LedgerStoreError) -> LedgerConsistency? {
        try read { database in
            guard let head = try Self.head(database) else { return nil }
            guard let before = try Self.frontier(of: size, head.number, database) else {
                return nil
            }
            let after = try Self.run(from: size, to: end, head.number, database)
            return LedgerConsistency(before: before, after: after)
        }
    }

    private static func frontier(
        of size: UInt64, _ era: Int64, _ database: Database
    ) throws -> LedgerRange? {
        if size == 0 { return LedgerRange() }
        let rows = try Row.fetchAll(
            database, sql: "SELECT frontier FROM checkpoint WHERE era = ? ORDER BY counter DESC",
            arguments: [era])
        for row in rows {
            var reader = WireReader([UInt8](row["frontier"] as Data))
            let frontier = try LedgerRange(from: &reader)
            if frontier.end == size { return frontier }
        }
        return nil
    }

    /// Proofs from the heads that the server may know: that of the last receipt, and those of the
    /// present era that left the device since.
    ///
    /// The newest ones come first when they are more than evidence has room for.
    ///
    /// - Parameters:
    ///   - acknowledged: the size in the last receipt of this era, or 0.
    ///   - end: the size of the present head.
    ///   - room: for the proofs, in bytes; that of the receipt is there in any case.
    public func proofs(
        since acknowledged: UInt64, to end: UInt64, room: Int = 2 << 20
    ) throws(LedgerStoreError) -> [LedgerConsistency] {
        try read { database in
            guard let head = try Self.head(database) else { return [] }
            var heads: [UInt64: LedgerRange] = [:]
            let rows = try Row.fetchCursor(
                database, sql: "SELECT frontier, exported FROM checkpoint WHERE era = ?",
                arguments: [head.number])
            while let row = try rows.next() {
                var reader = WireReader([UInt8](row["frontier"] as Data))
                let size = try reader.uint64() == 0 ? reader.uint64() : 0
                guard size > 0, size < end,
                    size == acknowledged || (size > acknowledged && row["exported"] as Bool)
                else { continue }
                reader = WireReader([UInt8](row["frontier"] as Data))
                heads[size] = try LedgerRange(from: &reader)
            }
            var proofs: [LedgerConsistency] = []
            var after = LedgerRange(at: end)
            var left = room
            // Every record is read once: a longer run is a shorter one with some before it.
            for (size, before) in heads.sorted(by: { $0.key > $1.key }) {
                var longer = try Self.run(from: size, to: after.start, head.number, database)
                try longer.append(after)
                after = longer
                let proof = LedgerConsistency(before: before, after: after)
                left -= proof.encoded.count
                if left >= 0 || size == acknowledged { proofs.append(proof) }
            }
            return proofs
        }
    }

    /// The nodes that cover some records of an era.
    private static func run(
        from start: UInt64, to end: UInt64, _ era: Int64, _ database: Database
    ) throws -> LedgerRange {
        var range = LedgerRange(at: start)
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT bytes FROM record WHERE era = ? AND sequence >= ? AND sequence < ?
                ORDER BY sequence
                """,
            arguments: [era, Int64(bitPattern: start), Int64(bitPattern: end)])
        while let row = try rows.next() {
            try range.append(LedgerRecord(decoding: [UInt8](row["bytes"] as Data)).node)
        }
        guard range.end == end else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_TRUNCATED", "records \(range.end) to \(end) are missing")
        }
        return range
    }

    /// Remembers that a checkpoint leaves the device: the server may know it from now on.
    public func markExported(counter: UInt64) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql: """
                    UPDATE checkpoint SET exported = 1
                    WHERE counter = ? AND era = (SELECT max(number) FROM era)
                    """, arguments: [Self.data(counter)])
        }
    }

    /// Keeps a receipt; it was verified.
    public func store(_ receipt: Receipt, token: PASETOToken) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql:
                    "INSERT OR REPLACE INTO receipt (sequence, era, checkpoint, token) VALUES (?, ?, ?, ?)",
                arguments: [
                    Int64(bitPattern: receipt.sequence), Self.data(receipt.era),
                    Data(receipt.checkpoint), token.text,
                ])
        }
    }

    /// The newest receipt as text; verify it before it is believed.
    public func lastReceipt() throws(LedgerStoreError) -> String? {
        try read { database in
            try String.fetchOne(
                database, sql: "SELECT token FROM receipt ORDER BY sequence DESC LIMIT 1")
        }
    }

    /// The newest receipt of each era as text, the newest eras first.
    func receipts(limit: Int) throws(LedgerStoreError) -> [String] {
        try read { database in
            try String.fetchAll(
                database,
                sql: """
                    SELECT token FROM receipt
                    WHERE sequence IN (SELECT max(sequence) FROM receipt GROUP BY era)
                    ORDER BY sequence DESC LIMIT ?
                    """, arguments: [limit])
        }
    }

    // MARK: Changes

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
                guard let kind = LicenseChange.Kind(rawValue: row["kind"]) else { return nil }
                return LicenseChange(
                    at: UInt64(bitPattern: row["at"] as Int64), kind, row["subject"],
                    old: row["old"], new: row["new"], cause: row["cause"])
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

    /// Where the present era stands, its last checkpoint, and whether every record up to the head is
    /// there; of one moment, whoever records something meanwhile.
    func situation() throws(LedgerStoreError) -> (
        head: Head, checkpoint: Checkpoint?, isComplete: Bool
    )? {
        try read { database in
            guard let head = try Self.head(database) else { return nil }
            let last = try Int64.fetchOne(
                database, sql: "SELECT max(sequence) FROM record WHERE era = ?",
                arguments: [head.number])
            return (
                head, try Self.lastCheckpoint(of: head, database)?.checkpoint,
                UInt64(bitPattern: last ?? -1) &+ 1 == head.frontier.end
            )
        }
    }

    // MARK: Repair

    /// Leaves every era behind that is there: they are kept, and not verified any more.
    func leaveBehind(code: String) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql: "UPDATE era SET damaged = ? WHERE damaged IS NULL", arguments: [code])
        }
    }

    /// What was recorded in the newest era after a size, as far as it can be read, and how many records
    /// were there by its head.
    func tail(after size: UInt64) throws(LedgerStoreError) -> (
        usages: [Usage], readable: UInt64, recorded: UInt64
    ) {
        try read { database in
            let number = try Int64.fetchOne(database, sql: "SELECT max(number) FROM era") ?? 0
            var names: [UInt32: String] = [:]
            for row in try Row.fetchAll(database, sql: "SELECT * FROM meter") {
                if let number = UInt32(exactly: row["number"] as Int64) {
                    names[number] = row["name"]
                }
            }
            let last = try Int64.fetchOne(
                database, sql: "SELECT max(sequence) FROM record WHERE era = ?",
                arguments: [number])
            var usages: [Usage] = []
            var next = size
            let rows = try Row.fetchCursor(
                database,
                sql: "SELECT bytes FROM record WHERE era = ? AND sequence >= ? ORDER BY sequence",
                arguments: [number, Int64(bitPattern: size)])
            while let row = try rows.next() {
                guard let record = try? LedgerRecord(decoding: [UInt8](row["bytes"] as Data)),
                    record.sequence == next
                else { break }
                if record.kind == .usage, let name = names[record.meter] {
                    usages.append(
                        Usage(
                            meter: name, termsVersion: record.termsVersion,
                            quantity: record.quantity))
                }
                next += 1
            }
            return (usages, next - size, last.map { UInt64(bitPattern: $0) &+ 1 &- size } ?? 0)
        }
    }

    // MARK: Verification

    /// What the records of an era add up to.
    public struct Verified: Sendable, Hashable {
        public let eras: Int
        public let records: UInt64
        public let checkpoints: Int
    }

    /// Reads every record and every checkpoint, and compares them with what was signed.
    ///
    /// - Parameter verify: checks the certification of a checkpoint.
    /// - Throws: ``LedgerStoreError/damaged(code:_:)`` with the first thing that does not hold.
    public func verify(
        _ verify: (Checkpoint, SignedAttestation) throws -> Void
    ) throws(LedgerStoreError) -> Verified {
        try read { database in
            var (eras, records, checkpoints) = (0, UInt64(0), 0)
            let sound = """
                SELECT * FROM era
                WHERE damaged IS NULL OR number = (SELECT max(number) FROM era) ORDER BY number
                """
            let all = try Row.fetchAll(database, sql: sound)
            for row in all {
                let head = try Self.head(row)
                let rows = try Row.fetchAll(
                    database, sql: "SELECT * FROM checkpoint WHERE era = ? ORDER BY counter",
                    arguments: [head.number])
                let sealed = try rows.map(Self.certified)
                let frontiers = try zip(rows, sealed).map { row, one in
                    guard Self.number([UInt8](row["counter"] as Data)) == one.checkpoint.counter
                    else {
                        throw LedgerStoreError.damaged(
                            code: "LEDGER_REORDERED",
                            "checkpoint \(one.checkpoint.counter) is out of place")
                    }
                    return [UInt8](row["frontier"] as Data)
                }
                try Self.verify(
                    head, sealed, frontiers, isNewest: row == all.last, database)
                for (number, one) in sealed.enumerated() {
                    let before = number == 0 ? nil : sealed[number - 1].checkpoint.hash
                    guard
                        one.checkpoint.previous == before ?? [UInt8](repeating: 0, count: 32)
                    else {
                        throw LedgerStoreError.damaged(
                            code: "LEDGER_SPLICED",
                            "checkpoint \(one.checkpoint.counter) does not follow the one before")
                    }
                    if let certification = one.certification {
                        try verify(one.checkpoint, certification)
                    }
                }
                eras += 1
                records += head.frontier.end
                checkpoints += sealed.count
            }
            return Verified(eras: eras, records: records, checkpoints: checkpoints)
        }
    }

    /// The dictionary of meters, and which of its names a record has given.
    private static func names(
        _ database: Database
    ) throws -> [UInt32: (name: String, isExplained: Bool)] {
        var names: [UInt32: (name: String, isExplained: Bool)] = [:]
        for row in try Row.fetchAll(database, sql: "SELECT * FROM meter") {
            guard let number = UInt32(exactly: row["number"] as Int64) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_EDITED", "a meter has a number that no record gave it")
            }
            names[number] = (row["name"], false)
        }
        return names
    }

    /// Compares what a record is about with what stands outside of it.
    private static func explain(
        _ record: LedgerRecord, _ head: Head,
        _ names: inout [UInt32: (name: String, isExplained: Bool)]
    ) throws {
        let payload: [UInt8]?
        switch record.kind {
        case .genesis: payload = head.genesis.encoded
        case .meter:
            payload = names[record.meter].map { Array($0.name.utf8) }
            names[record.meter]?.isExplained = true
        case .usage: return
        }
        guard let payload, HashAlgorithm.sha256.digest(payload) == record.payloadHash else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_EDITED", "what record \(record.sequence) is about was changed")
        }
    }

    private static func verify(
        _ head: Head, _ sealed: [Certified], _ frontiers: [[UInt8]], isNewest: Bool,
        _ database: Database
    ) throws {
        var range = LedgerRange()
        var left = sealed[...]
        var named = try names(database)
        func compare() throws {
            while let one = left.first?.checkpoint, one.size == range.end {
                let root = try range.root()
                // Proofs are made from the frontier that was kept.
                guard root.hash == one.root, root.sums == one.sums,
                    frontiers[left.startIndex] == bytes(range)
                else {
                    throw LedgerStoreError.damaged(
                        code: "LEDGER_EDITED",
                        "the records before checkpoint \(one.counter) are not those that it sealed"
                    )
                }
                left.removeFirst()
            }
        }
        let rows = try Row.fetchCursor(
            database, sql: "SELECT sequence, bytes FROM record WHERE era = ? ORDER BY sequence",
            arguments: [head.number])
        try compare()
        while let row = try rows.next() {
            let bytes = [UInt8](row["bytes"] as Data)
            guard let record = try? LedgerRecord(decoding: bytes) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_EDITED", "record \(range.end) makes no sense")
            }
            guard record.sequence == range.end,
                Int64(bitPattern: record.sequence) == row["sequence"] as Int64
            else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_REORDERED", "record \(range.end) is missing or out of place")
            }
            try explain(record, head, &named)
            try range.append(record.node)
            try compare()
        }
        // An era has every name that there was at its end in its own records.
        guard !isNewest || named.allSatisfy({ $0.value.isExplained }) else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_EDITED", "a meter has a name that no record gave it")
        }
        guard range.end >= head.frontier.end, left.isEmpty else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_TRUNCATED", "records from \(range.end) on are missing")
        }
        guard range == head.frontier else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_EDITED", "the records are not those that were committed")
        }
    }
}
