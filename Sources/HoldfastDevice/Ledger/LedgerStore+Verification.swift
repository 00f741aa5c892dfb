import FoundationEssentials
import GRDB
import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastTPMWire

extension LedgerStore {
    /// What the records of an era add up to.
    public struct Verified: Sendable, Hashable {
        public let eras: Int
        public let records: UInt64
        public let checkpoints: Int
    }

    /// Reads every record and every checkpoint once, and compares them with what was signed.
    ///
    /// Needs memory for the frontier and the names of meters, however many records there are.
    ///
    /// - Parameter verify: checks a checkpoint, and its certification when it has one.
    /// - Throws: ``LedgerStoreError/damaged(code:_:)`` with the first thing that does not hold.
    public func verify(
        _ verify: (Checkpoint, SignedAttestation?) throws -> Void
    ) throws(LedgerStoreError) -> Verified {
        try read { database in
            var (eras, records, checkpoints) = (0, UInt64(0), 0)
            let newest = try Int64.fetchOne(database, sql: "SELECT max(number) FROM era") ?? 0
            try Self.demandNothingAfter(newest, database)
            var marks = Marks()
            var expected: Int64 = 1
            let rows = try Row.fetchCursor(database, sql: "SELECT * FROM era ORDER BY number")
            while let row = try rows.next() {
                guard try row.integer("number") == expected else {
                    throw LedgerStoreError.damaged(
                        code: "LEDGER_REORDERED", "era \(expected) of the file is missing")
                }
                expected += 1
                if try row.optionalText("damaged") != nil {
                    try marks.note(isMarked: true, isRepair: false)
                    continue
                }
                let head = try Self.head(row)
                try marks.note(isMarked: false, isRepair: head.genesis.cause == .repair)
                try Self.demandBeginning(of: head, database)
                checkpoints += try Self.verify(
                    head, isNewest: head.number == newest, database, verify)
                eras += 1
                records += head.frontier.end
            }
            try marks.finish()
            return Verified(eras: eras, records: records, checkpoints: checkpoints)
        }
    }

    /// Every row belongs to an era; eras have numbers without a gap, so that the ends are enough.
    private static func demandNothingAfter(_ newest: Int64, _ database: Database) throws {
        for table in ["record", "checkpoint"] {
            for end in ["min", "max"] {
                // A value of another kind sorts behind the numbers.
                let era = try DatabaseValue.fetchOne(
                    database, sql: "SELECT \(end)(era) FROM \(table)")
                guard let era, !era.isNull else { continue }
                guard case .int64(let number) = era.storage, number >= 1, number <= newest else {
                    throw LedgerStoreError.damaged(
                        code: "LEDGER_REORDERED", "a \(table) belongs to no era")
                }
            }
        }
    }

    /// Which eras are left behind as damaged: all that were there at the last repair, and no others.
    private struct Marks {
        private var isAnyUnmarked = false
        private var isRepairDue = false

        mutating func note(isMarked: Bool, isRepair: Bool) throws {
            if isMarked {
                isRepairDue = true
            } else if isRepair {
                guard !isAnyUnmarked else { throw Self.wrong }
                isRepairDue = false
            }
            if !isMarked { isAnyUnmarked = true }
        }

        func finish() throws { if isRepairDue { throw Self.wrong } }

        private static let wrong = LedgerStoreError.damaged(
            code: "LEDGER_EDITED", "an era is called damaged, or not, without a repair that says so"
        )
    }

    /// An era goes on from a checkpoint that is in the file.
    private static func demandBeginning(of head: Head, _ database: Database) throws {
        let genesis = head.genesis
        guard genesis.previousEra > 0 else { return }
        // In the era of that name, or in one that is left behind, whose name may be damaged. The newest
        // one before it, in most cases: the first row.
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT checkpoint.* FROM checkpoint JOIN era ON number = checkpoint.era
                WHERE number < :number AND CASE WHEN EXISTS (
                    SELECT 1 FROM era WHERE era = :era AND damaged IS NULL AND number < :number
                ) THEN damaged IS NULL AND era.era = :era ELSE damaged IS NOT NULL END
                ORDER BY number DESC, counter DESC
                """, arguments: ["number": head.number, "era": Self.data(genesis.previousEra)])
        while let row = try rows.next() {
            guard let found = try? certified(row).checkpoint else { continue }
            if found.era == genesis.previousEra, found.size == genesis.previousSize,
                found.root == genesis.previousRoot
            {
                return
            }
        }
        throw LedgerStoreError.damaged(
            code: "LEDGER_SPLICED",
            "era \(head.number) of the file goes on from no checkpoint in it")
    }

    /// The dictionary of meters, and which of its names a record has given.
    private static func names(
        _ database: Database
    ) throws -> [UInt32: (name: String, isExplained: Bool)] {
        try meters(database).mapValues { ($0, false) }
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

    /// Checkpoints of an era, in their order, one at a time.
    private struct Seals {
        private let rows: RowCursor
        private let head: Head
        private let verify: (Checkpoint, SignedAttestation?) throws -> Void
        /// The next one that records must come up to, and the frontier that was kept with it.
        private(set) var next: (checkpoint: Checkpoint, frontier: [UInt8])?
        private(set) var count = 0
        private var previous = [UInt8](repeating: 0, count: 32)
        private var size: UInt64 = 0

        init(
            _ head: Head, _ database: Database,
            _ verify: @escaping (Checkpoint, SignedAttestation?) throws -> Void
        ) throws {
            self.head = head
            self.verify = verify
            rows = try Row.fetchCursor(
                database, sql: "SELECT * FROM checkpoint WHERE era = ? ORDER BY counter",
                arguments: [head.number])
            try advance()
            guard next != nil || head.era == nil else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_SPLICED", "an era that was sealed has no checkpoint")
            }
        }

        mutating func advance() throws {
            guard let row = try rows.next() else {
                next = nil
                return
            }
            let found = try LedgerStore.certified(row)
            let checkpoint = found.checkpoint
            guard try row.number("counter") == checkpoint.counter else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_REORDERED", "checkpoint \(checkpoint.counter) is out of place")
            }
            try verify(checkpoint, found.certification)
            // The first one gives the era its name.
            guard checkpoint.previous == previous, checkpoint.size >= size,
                checkpoint.era == head.era, count > 0 || checkpoint.counter == head.era
            else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_SPLICED",
                    "checkpoint \(checkpoint.counter) does not follow the one before")
            }
            next = (checkpoint, try row.bytes("frontier"))
            previous = checkpoint.hash
            size = checkpoint.size
            count += 1
        }

        /// Compares the checkpoints of just these records.
        mutating func compare(_ range: LedgerRange) throws {
            while let (checkpoint, frontier) = next, checkpoint.size == range.end {
                let root = try range.root()
                // Proofs are made from the frontier that was kept.
                guard root.hash == checkpoint.root, root.sums == checkpoint.sums,
                    frontier == LedgerStore.bytes(range)
                else {
                    throw LedgerStoreError.damaged(
                        code: "LEDGER_EDITED",
                        "the records before checkpoint \(checkpoint.counter) are not those that it sealed"
                    )
                }
                try advance()
            }
        }
    }

    /// Compares one era.
    ///
    /// - Returns: how many checkpoints it has.
    private static func verify(
        _ head: Head, isNewest: Bool, _ database: Database,
        _ verify: (Checkpoint, SignedAttestation?) throws -> Void
    ) throws -> Int {
        try withoutActuallyEscaping(verify) { verify in
            var range = LedgerRange()
            var seals = try Seals(head, database, verify)
            var named = try names(database)
            let rows = try Row.fetchCursor(
                database,
                sql: "SELECT sequence, bytes FROM record WHERE era = ? ORDER BY sequence",
                arguments: [head.number])
            try seals.compare(range)
            while let row = try rows.next() {
                let bytes = try row.bytes("bytes")
                guard let record = try? LedgerRecord(decoding: bytes) else {
                    throw LedgerStoreError.damaged(
                        code: "LEDGER_EDITED", "record \(range.end) makes no sense")
                }
                guard record.sequence == range.end,
                    Int64(bitPattern: record.sequence) == (try row.integer("sequence"))
                else {
                    throw LedgerStoreError.damaged(
                        code: "LEDGER_REORDERED", "record \(range.end) is missing or out of place")
                }
                try explain(record, head, &named)
                try range.append(record.node(encoded: bytes))
                try seals.compare(range)
            }
            guard range.end >= head.frontier.end, seals.next == nil else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_TRUNCATED", "records from \(range.end) on are missing")
            }
            // An era has every name that there was at its end in its own records.
            guard !isNewest || named.allSatisfy({ $0.value.isExplained }) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_EDITED", "a meter has a name that no record gave it")
            }
            guard range == head.frontier else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_EDITED", "the records are not those that were committed")
            }
            return seals.count
        }
    }
}
