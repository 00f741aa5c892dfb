import FoundationEssentials
import GRDB
import HoldfastProtocol
import HoldfastTPMWire

/// The rows of a ledger as values, to be changed behind its back.
struct LedgerImage {
    /// The tables that say what was used, or prove it.
    enum Table: String, CaseIterable {
        case era, record, meter, checkpoint

        var columns: [String] {
            switch self {
            case .era: ["number", "era", "genesis", "begun_at", "frontier", "seed", "damaged"]
            case .record: ["era", "sequence", "bytes"]
            case .meter: ["number", "name"]
            case .checkpoint:
                [
                    "era", "counter", "bytes", "frontier", "attestation", "signature", "exported",
                ]
            }
        }
        /// How many of the columns are the key.
        var keys: Int { self == .record || self == .checkpoint ? 2 : 1 }
    }
    typealias Values = [DatabaseValue]

    private var tables: [[Values]]

    subscript(table: Table) -> [Values] {
        get { tables[Self.place(table)] }
        set { tables[Self.place(table)] = newValue }
    }

    private static func place(_ table: Table) -> Int {
        switch table {
        case .era: 0
        case .record: 1
        case .meter: 2
        case .checkpoint: 3
        }
    }

    /// Reads the rows, whatever the columns are called.
    init(_ database: Database) throws {
        tables = try Table.allCases.map { table in
            let key = (1...table.keys).map(String.init).joined(separator: ", ")
            return try Self.rows(of: table, "ORDER BY \(key)", database)
        }
    }

    private static func rows(
        of table: Table, _ rest: String, _ database: Database, _ arguments: StatementArguments = []
    ) throws -> [Values] {
        try Row.fetchAll(
            database, sql: "SELECT * FROM \(table) \(rest)", arguments: arguments
        ).map {
            let values = Array($0.databaseValues)
            guard values.count == table.columns.count else {
                throw CocoaError(.fileReadCorruptFile)
            }
            return values
        }
    }

    /// Makes a database that holds `old` hold this.
    ///
    /// - Throws: `DatabaseError` when the tables do not take it.
    func apply(to database: Database, from old: LedgerImage) throws {
        for table in Table.allCases where old[table] != self[table] {
            let (before, after) = (Set(old[table]), Set(self[table]))
            let key = table.columns[..<table.keys].map { "\($0) = ?" }.joined(separator: " AND ")
            for row in old[table] where !after.contains(row) {
                try database.cachedStatement(sql: "DELETE FROM \(table) WHERE \(key)")
                    .execute(arguments: StatementArguments(row[..<table.keys]))
            }
            let marks = table.columns.map { _ in "?" }.joined(separator: ", ")
            for row in self[table] where !before.contains(row) {
                try database.cachedStatement(
                    sql:
                        "INSERT INTO \(table) (\(table.columns.joined(separator: ", "))) VALUES (\(marks))"
                ).execute(arguments: StatementArguments(row))
            }
        }
    }

    // MARK: What is evidence

    /// Numbers of the eras that are left behind as damaged.
    private var left: Set<DatabaseValue> {
        Set(self[.era].filter { !$0[6].isNull }.map { $0[0] })
    }

    /// Whether a row is of an era that is left behind: nothing in it counts any more.
    func isLeft(_ table: Table, _ row: Values) -> Bool { table != .meter && left.contains(row[0]) }

    /// The seal that a later era goes on from stays evidence when its era is left behind.
    private func isBase(_ row: Values) -> Bool {
        guard let checkpoint = LedgerImage.checkpoint(row) else { return false }
        return self[.era].contains { era in
            guard era[6].isNull, let genesis = LedgerImage.genesis(era) else { return false }
            return genesis.previousEra == checkpoint.era && genesis.previousSize == checkpoint.size
                && genesis.previousRoot == checkpoint.root
        }
    }

    /// The same without what proves nothing: two that differ elsewhere alone are one ledger.
    ///
    /// The secret of the salts; what was exported; when an era began once it has a name; the words
    /// beside the mark of an era that is left behind, and what is in it but for its last seal; what the
    /// ledger key signed, but for the checkpoint, because the vendor checks that signature.
    var evidence: LedgerImage {
        let left = left
        var bare = self
        bare[.era] = self[.era].map { row in
            var row = row
            row[5] = .null
            if !row[6].isNull { return [row[0], true.databaseValue] }
            if !row[1].isNull { row[3] = .null }
            return row
        }
        bare[.record] = self[.record].filter { !left.contains($0[0]) }
        bare[.checkpoint] = self[.checkpoint].compactMap { row in
            var row = row
            if left.contains(row[0]) {
                // What a genesis says of it.
                guard isBase(row), let base = LedgerImage.checkpoint(row) else { return nil }
                return [row[0], base.size.databaseValue, Data(base.root).databaseValue]
            }
            row[6] = .null
            if LedgerImage.checkpoint(row)?.grade == .certified {
                row[4] = Self.certified(row[4])
                row[5] = .null
            }
            return row
        }
        return bare
    }

    /// What of a certification is compared before anybody checks who signed it.
    private static func certified(_ value: DatabaseValue) -> DatabaseValue {
        guard let attestation = try? Attestation(wireBytes: bytes(value)),
            case .nv(let name, let offset, let contents) = attestation.attested
        else { return value }
        let parts = [attestation.extraData, name.bytes, [UInt8(offset & 0xFF)], contents]
        return Data(parts.flatMap { $0 }).databaseValue
    }

    func isSame(_ other: LedgerImage) -> Bool { evidence.tables == other.evidence.tables }

    static func bytes(_ value: DatabaseValue) -> [UInt8] {
        if case .blob(let data) = value.storage { return [UInt8](data) }
        return []
    }

    static func checkpoint(_ row: Values) -> Checkpoint? {
        row.count > 2 ? try? Checkpoint(decoding: bytes(row[2])) : nil
    }

    static func genesis(_ row: Values) -> LedgerGenesis? {
        try? LedgerGenesis(decoding: bytes(row[2]))
    }

    static func range(_ value: DatabaseValue) -> LedgerRange? {
        var reader = WireReader(bytes(value))
        guard let range = try? LedgerRange(from: &reader), (try? reader.finish()) != nil else {
            return nil
        }
        return range
    }
}
