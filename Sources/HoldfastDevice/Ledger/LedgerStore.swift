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
    /// What was to be recorded does not fit; the rest of the ledger is as it was.
    case refused(LedgerError)

    public var explanation: String {
        switch self {
        case .unusable(let text): "the usage ledger cannot be used: \(text)"
        case .damaged(_, let text): "the usage ledger was changed or damaged: \(text)"
        case .refused(.tooManyMeters):
            "the usage ledger counts \(MeterSums.maximumEntries) meters and versions of terms already"
        case .refused(.sumOverflow): "the total of this meter would not fit into 64 bits"
        case .refused: "there is nothing to record"
        }
    }
    public var remedy: String? {
        switch self {
        case .unusable: "check the space on the disk; nothing that was recorded is lost"
        case .damaged:
            "keep a copy of the directory `ledger`, then run `holdfast ledger repair`"
        case .refused(.tooManyMeters):
            "use a meter that is counted already, and tell the vendor: it ends with a new enrollment"
        case .refused: "record 1 or more, of a meter that has room"
        }
    }
    public var stableCode: String {
        switch self {
        case .unusable: "LEDGER_UNUSABLE"
        case .damaged(let code, _): code
        case .refused(.tooManyMeters): "METERS_EXHAUSTED"
        case .refused: "METER_INVALID"
        }
    }
    public var exitStatus: ExitStatus {
        switch self {
        case .unusable: .failure
        case .damaged, .refused: .refused
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
    let queue: DatabaseQueue
    let random: RandomSource
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
        let descriptor = unsafe open(
            path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT | O_EXCL, 0o660)
        if descriptor >= 0 {
            // The mask of the process does not decide here.
            fchmod(descriptor, 0o660)
            close(descriptor)
        } else if errno != EEXIST {
            throw .unusable("\(path): \(unsafe String(cString: strerror(errno)))")
        }
        // A file that was there is not opened here: closing it takes every lock away that this process has
        // on it through another connection, and whoever is then the last one, as far as the locks tell,
        // removes the log that the other one goes on writing to.
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
            status.st_nlink == 1
        else {
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
            guard isInPlace else {
                throw LedgerStoreError.unusable("\(path): another file took its place")
            }
            try queue.write { database in
                switch try Int.fetchOne(database, sql: "PRAGMA user_version") {
                case 0?:
                    for statement in Self.tables { try database.execute(sql: statement) }
                    try database.execute(sql: "PRAGMA user_version = \(Self.version)")
                case Self.version?: break
                case let other:
                    throw LedgerStoreError.unusable(
                        "\(path): written by another release (structure \(other ?? 0))")
                }
            }
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

    static func mapped(_ error: any Error) -> LedgerStoreError {
        if let error = error as? LedgerError { return .refused(error) }
        return (error as? LedgerStoreError) ?? .unusable("\(error)")
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

    func write<R>(_ body: (Database) throws -> R) throws(LedgerStoreError) -> R {
        do { return try queue.write(body) } catch { throw Self.mapped(error) }
    }

    func read<R>(_ body: (Database) throws -> R) throws(LedgerStoreError) -> R {
        do { return try queue.read(body) } catch { throw Self.mapped(error) }
    }

    /// What `PRAGMA user_version` says of these tables.
    private static let version = 1

    private static let tables = [
        // `damaged`: the code of what is wrong with an era that was left behind.
        """
        CREATE TABLE era (
            number INTEGER PRIMARY KEY,
            era BLOB,
            genesis BLOB NOT NULL,
            begun_at BLOB NOT NULL,
            frontier BLOB NOT NULL,
            seed BLOB NOT NULL,
            damaged TEXT
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
            exported INTEGER NOT NULL DEFAULT 0,
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

    static func head(_ database: Database) throws -> Head? {
        try Row.fetchOne(database, sql: "SELECT * FROM era ORDER BY number DESC LIMIT 1")
            .map(head)
    }

    static func head(_ row: Row) throws -> Head {
        do {
            return Head(
                number: try row.integer("number"),
                era: try row.optionalBytes("era") == nil ? nil : row.number("era"),
                genesis: try LedgerGenesis(decoding: row.bytes("genesis")),
                begunAt: try row.number("begun_at"), frontier: try row.range("frontier"),
                seed: try row.bytes("seed"))
        } catch is WireError {
            throw LedgerStoreError.damaged(
                code: "LEDGER_DAMAGED", "the head of an era makes no sense")
        }
    }

    /// Begins the first era of an enrollment; what is there already is left alone.
    ///
    /// - Parameter counter: the present value of the TPM's counter.
    public func beginFirstEra(counter: UInt64, ticks: UInt64) throws(LedgerStoreError) {
        try write { database in
            guard try Self.head(database) == nil else { return }
            try beginEra(database, .first, counter: counter, ticks)
        }
    }

    /// Begins an era; what was before it is left as it is.
    func beginEra(
        _ database: Database, _ genesis: LedgerGenesis, counter: UInt64, _ ticks: UInt64
    ) throws {
        try database.execute(
            sql: "INSERT INTO era (genesis, begun_at, frontier, seed) VALUES (?, ?, ?, ?)",
            arguments: [
                Data(genesis.encoded), Self.data(counter), Data(Self.bytes(LedgerRange())),
                Data(random.bytes(32)),
            ])
        guard var head = try Self.head(database) else { throw LedgerStoreError.noEra }
        // A dictionary of its own comes with each era: its records must explain themselves.
        try append(
            database, &head, kind: .genesis, meter: 0, ticks, day: 0, payload: genesis.encoded)
        for (number, name) in try Self.meters(database).sorted(by: { $0.key < $1.key }) {
            try append(
                database, &head, kind: .meter, meter: number, ticks, day: 0,
                payload: Array(name.utf8))
        }
        try save(head, database)
    }

    static func bytes(_ range: LedgerRange) -> [UInt8] {
        var writer = WireWriter(capacity: 512)
        range.encode(into: &writer)
        return writer.bytes
    }

    /// A u64 as eight bytes: a database's integers have a sign.
    static func data(_ value: UInt64) -> Data {
        var writer = WireWriter(capacity: 8)
        writer.uint64(value)
        return Data(writer.bytes)
    }

    static func number(_ bytes: [UInt8]) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }
}

extension LedgerStoreError {
    static let noEra = damaged(code: "LEDGER_DAMAGED", "no era has begun")
}

/// What is in a row of a file that others may write to: another kind of value is damage.
extension Row {
    func bytes(_ column: String) throws -> [UInt8] { [UInt8](try value(column) as Data) }

    /// A u64 as the ledger writes it.
    func number(_ column: String) throws -> UInt64 {
        let bytes = try bytes(column)
        guard bytes.count == 8 else {
            throw LedgerStoreError.damaged(code: "LEDGER_DAMAGED", "`\(column)` is no number")
        }
        return LedgerStore.number(bytes)
    }

    func optionalBytes(_ column: String) throws -> [UInt8]? {
        try isNull(column) ? nil : bytes(column)
    }

    func integer(_ column: String) throws -> Int64 { try value(column) }

    func text(_ column: String) throws -> String { try value(column) }

    func optionalText(_ column: String) throws -> String? {
        try isNull(column) ? nil : text(column)
    }

    /// A column that is not there is damage, and not a value that is missing.
    private func isNull(_ column: String) throws -> Bool {
        guard hasColumn(column) else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_DAMAGED", "there is no `\(column)` any more")
        }
        return (self[column] as DatabaseValue?)?.isNull ?? true
    }

    func range(_ column: String) throws -> LedgerRange {
        var reader = WireReader(try bytes(column))
        do throws(WireError) {
            let range = try LedgerRange(from: &reader)
            try reader.finish()
            return range
        } catch {
            throw LedgerStoreError.damaged(code: "LEDGER_DAMAGED", "`\(column)` makes no sense")
        }
    }

    private func value<V: DatabaseValueConvertible>(_ column: String) throws -> V {
        let present = self[column] as DatabaseValue?
        guard let value = present.flatMap({ V.fromDatabaseValue($0) }) else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_DAMAGED", "`\(column)` holds another kind of value")
        }
        return value
    }
}
