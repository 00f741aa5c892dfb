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
                    guard Self.number(try row.bytes("counter")) == one.checkpoint.counter
                    else {
                        throw LedgerStoreError.damaged(
                            code: "LEDGER_REORDERED",
                            "checkpoint \(one.checkpoint.counter) is out of place")
                    }
                    return try row.bytes("frontier")
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
