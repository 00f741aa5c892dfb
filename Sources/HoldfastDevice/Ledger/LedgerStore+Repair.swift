import FoundationEssentials
import GRDB
import HoldfastCrypto
package import HoldfastProtocol
package import HoldfastTPMWire

/// New eras: after what is there and the counter do not belong together, and after damage.
extension LedgerStore {
    /// Where the ledger stands, of one moment.
    package struct Situation: Sendable {
        package let head: Head
        /// The present era's last one, certified or not.
        package let checkpoint: Checkpoint?
        /// Every record up to the head is there, by the numbers of the last one.
        package let isComplete: Bool
    }

    /// Where the ledger stands now.
    ///
    /// - Returns: `nil` before the first era.
    package func situation() throws(LedgerStoreError) -> Situation? {
        try read { try Self.situation($0) }
    }

    private static func situation(_ database: Database) throws -> Situation? {
        guard let head = try head(database) else { return nil }
        let last = try Int64.fetchOne(
            database, sql: "SELECT max(sequence) FROM record WHERE era = ?",
            arguments: [head.number])
        return Situation(
            head: head, checkpoint: try lastCheckpoint(of: head, database)?.checkpoint,
            isComplete: UInt64(bitPattern: last ?? -1) &+ 1 == head.frontier.end)
    }

    /// What a new era begins with.
    package struct Beginning {
        let counter: UInt64
        let ticks: UInt64
        let isSealed: (Checkpoint, SignedAttestation?) throws -> Bool

        /// The beginning of an era.
        ///
        /// - Parameters:
        ///   - counter: the TPM's counter, read before.
        ///   - isSealed: whether a checkpoint is of this device and certified: what a file says of
        ///     itself is not enough to count on from.
        package init(
            counter: UInt64, ticks: UInt64,
            isSealed: @escaping (Checkpoint, SignedAttestation?) throws -> Bool
        ) {
            self.counter = counter
            self.ticks = ticks
            self.isSealed = isSealed
        }
    }

    /// Begins an era when one is due.
    ///
    /// In one step with the finding: nobody records anything in between, and a second program that
    /// found the same finds it mended.
    ///
    /// - Parameter finding: why an era is due, by what is there; `nil` when none is.
    /// - Returns: what `finding` said.
    package func beginEra(
        _ beginning: Beginning, when finding: (Situation?) -> LedgerGenesis.Cause?
    ) throws(LedgerStoreError) -> LedgerGenesis.Cause? {
        try write { database in
            guard let cause = finding(try Self.situation(database)) else { return nil }
            let base = try Self.base(database, beginning)
            try beginEra(database, beginning, cause, base)
            return cause
        }
    }

    /// What a repair kept.
    package struct Kept: Sendable, Hashable {
        /// How many records were sealed: the new era counts on from them.
        package var sealed: UInt64 = 0
        /// How many records after the seal were taken over.
        package var taken: UInt64 = 0
        /// How many records after the seal cannot be taken over, as far as is known.
        package var lost: UInt64 = 0
    }

    /// Leaves every era behind that is there, and begins one after the last seal that holds.
    ///
    /// Usage after the seal is taken over where the counter says that nobody sealed it: a backup that
    /// was put back holds what may be settled already.
    ///
    /// - Parameter code: what is wrong with the eras that are there.
    package func repair(_ beginning: Beginning, code: String) throws(LedgerStoreError) -> Kept {
        try write { database in
            let base = try Self.base(database, beginning)
            let tail = try Self.tail(database, after: base, counter: beginning.counter)
            try database.execute(
                sql: "UPDATE era SET damaged = ? WHERE damaged IS NULL", arguments: [code])
            try Self.keepReadableNames(database)
            try beginEra(database, beginning, .repair, base)
            let refused = try append(database, tail.usages, beginning.ticks, 0)
            let lost = UInt64(refused.count)
            return Kept(
                sealed: base?.checkpoint.size ?? 0, taken: tail.readable - lost,
                lost: tail.recorded - min(tail.recorded, tail.readable) + lost)
        }
    }

    /// The last seal that holds.
    private struct Base {
        /// The database's number of its era.
        let era: Int64
        let checkpoint: Checkpoint
        /// Everything that was counted up to it.
        let totals: MeterSums
    }

    private func beginEra(
        _ database: Database, _ beginning: Beginning, _ cause: LedgerGenesis.Cause, _ base: Base?
    ) throws {
        let counter = beginning.counter
        let expected = try Self.expectedCounter(database) ?? base?.checkpoint.counter ?? counter
        try beginEra(
            database,
            LedgerGenesis(
                cause: cause, previousEra: base?.checkpoint.era ?? 0,
                previousSize: base?.checkpoint.size ?? 0,
                previousRoot: base?.checkpoint.root ?? [UInt8](repeating: 0, count: 32),
                distance: max(counter, expected) - min(counter, expected),
                totals: base?.totals ?? MeterSums()), counter: counter, beginning.ticks)
    }

    /// At which value of the counter the present era stands, by its own word.
    private static func expectedCounter(_ database: Database) throws -> UInt64? {
        let row = try Row.fetchOne(
            database,
            sql: """
                SELECT coalesce(
                    (SELECT max(counter) FROM checkpoint WHERE era = era.number), begun_at
                ) AS counter FROM era ORDER BY number DESC LIMIT 1
                """)
        return row.flatMap { try? $0.bytes("counter") }.map(number)
    }

    /// The newest checkpoint that is sealed; what makes no sense is passed over.
    ///
    /// - Parameter limit: of earlier eras than this one alone.
    private static func base(
        _ database: Database, _ beginning: Beginning, before limit: Int64 = .max
    ) throws -> Base? {
        let rows = try Row.fetchCursor(
            database,
            sql: "SELECT * FROM checkpoint WHERE era < ? ORDER BY era DESC, counter DESC",
            arguments: [limit])
        while let row = try rows.next() {
            guard let found = try? certified(row), let era = try? row.integer("era"),
                found.checkpoint.counter <= beginning.counter,
                try beginning.isSealed(found.checkpoint, found.certification)
            else { continue }
            let before = try totals(before: era, database, beginning)
            let sums = found.checkpoint.sums
            return Base(
                era: era, checkpoint: found.checkpoint, totals: (try? before.adding(sums)) ?? sums)
        }
        return nil
    }

    /// What an era counts on from, when its first record says the same; else the last seal before it.
    private static func totals(
        before era: Int64, _ database: Database, _ beginning: Beginning
    ) throws -> MeterSums {
        let row = try Row.fetchOne(
            database,
            sql: """
                SELECT genesis, bytes FROM era JOIN record ON record.era = number
                WHERE number = ? AND sequence = 0
                """, arguments: [era])
        guard let row, let genesis = try? row.bytes("genesis"),
            let record = try? LedgerRecord(decoding: row.bytes("bytes")),
            record.kind == .genesis,
            record.payloadHash == HashAlgorithm.sha256.digest(genesis),
            let read = try? LedgerGenesis(decoding: genesis)
        else { return try base(database, beginning, before: era)?.totals ?? MeterSums() }
        return read.totals
    }

    /// What was recorded in the newest era after the seal, as far as it can be read and was sealed by
    /// nobody, and how many records were there.
    private static func tail(
        _ database: Database, after base: Base?, counter: UInt64
    ) throws -> (usages: [Usage], readable: UInt64, recorded: UInt64) {
        guard
            let era = try Row.fetchOne(
                database, sql: "SELECT * FROM era ORDER BY number DESC LIMIT 1")
        else { return ([], 0, 0) }
        let newest = try era.integer("number")
        let isBase = base?.era == newest
        let size = isBase ? base?.checkpoint.size ?? 0 : 0
        let last = try Int64.fetchOne(
            database, sql: "SELECT max(sequence) FROM record WHERE era = ?", arguments: [newest])
        let end = last.map { UInt64(bitPattern: $0) &+ 1 } ?? 0
        let recorded = end > size ? end - size : 0
        // Where the era began, or at its last seal.
        let sealedAt = isBase ? base?.checkpoint.counter : (try? era.bytes("begun_at")).map(number)
        guard sealedAt == counter else { return ([], 0, recorded) }
        let names = try readableNames(database)
        var usages: [Usage] = []
        var next = size
        let rows = try Row.fetchCursor(
            database,
            sql: "SELECT bytes FROM record WHERE era = ? AND sequence >= ? ORDER BY sequence",
            arguments: [newest, Int64(bitPattern: size)])
        while let row = try rows.next() {
            guard let record = try? LedgerRecord(decoding: row.bytes("bytes")),
                record.sequence == next
            else { break }
            if record.kind == .usage {
                guard let name = names[record.meter] else { break }
                usages.append(
                    Usage(
                        meter: name, termsVersion: record.termsVersion, quantity: record.quantity))
            }
            next += 1
        }
        return (usages, next - size, recorded)
    }

    /// What is left of the dictionary: each name gets a record in the new era.
    private static func keepReadableNames(_ database: Database) throws {
        let names = try readableNames(database)
        try database.execute(sql: "DELETE FROM meter")
        // Numbers are given in a row: one far off would use them up.
        for (number, name) in names where (1...maximumMeterNumber).contains(number) {
            try database.execute(
                sql: "INSERT OR IGNORE INTO meter (number, name) VALUES (?, ?)",
                arguments: [number, name])
        }
    }

    private static let maximumMeterNumber: UInt32 = 1 << 16

    private static func readableNames(_ database: Database) throws -> [UInt32: String] {
        var names: [UInt32: String] = [:]
        for row in try Row.fetchAll(database, sql: "SELECT * FROM meter") {
            if let number = (try? row.integer("number")).flatMap(UInt32.init(exactly:)) {
                names[number] = try? row.text("name")
            }
        }
        return names
    }
}
