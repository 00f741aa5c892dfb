import Foundation
import GRDB
import HoldfastCrypto
import HoldfastDevice
import HoldfastProtocol
import HoldfastStage
import HoldfastTPMWire
import Testing

/// Changes to the database behind the ledger's back, each taken back afterwards.
@Suite("mutations of the ledger", .timeLimit(.minutes(60)))
final class LedgerMutationTests {
    /// In memory: a million commits are not for a disk.
    private let path = "/dev/shm/hf-ledger-" + Hex.encode(RandomSource.system.bytes(8))

    deinit {
        for ending in ["", "-wal", "-shm"] {
            try? FileManager.default.removeItem(atPath: path + ending)
        }
    }

    /// Everything that says what was used, or proves it.
    private static let columns = [
        ("record", "sequence"), ("record", "bytes"), ("era", "frontier"), ("era", "genesis"),
        ("checkpoint", "counter"), ("checkpoint", "bytes"), ("checkpoint", "frontier"),
        ("meter", "name"),
    ]
    private static let tables = ["era", "record", "meter", "checkpoint"]

    private func filled() throws -> LedgerStore {
        let store = try LedgerStore(path: path, random: .system)
        let zeros = [UInt8](repeating: 0, count: 32)
        func seal(_ counter: UInt64) throws {
            _ = try store.writeCheckpoint(counter: counter) { era, size, root, previous in
                Checkpoint(
                    pairwiseID: zeros, incarnation: 1, era: era, counter: counter,
                    previous: previous, size: size, root: root.hash, sums: root.sums,
                    receiptHash: zeros, replyHash: zeros,
                    clock: ClockInfo(clock: 0, resetCount: 0, restartCount: 0, safe: true),
                    grade: .certified)
            }
        }
        func use(_ meter: String, _ quantity: UInt32) throws {
            try store.append(
                [.init(meter: meter, termsVersion: 1, quantity: quantity)], ticks: 5, day: 1)
        }
        try store.beginFirstEra(counter: 1, ticks: 0)
        for quantity in 1...3 { try use("scan", UInt32(quantity)) }
        try seal(2)
        try use("map", 9)
        try use("scan", 1)
        try seal(3)
        try use("map", 4)
        return store
    }

    /// A value that is another one.
    private func mutated(_ value: DatabaseValue, _ random: inout SeededNumbers) -> DatabaseValue {
        switch value.storage {
        case .blob(let data):
            var bytes = [UInt8](data)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes.removeLast(Int.random(in: 1...max(1, bytes.count), using: &random))
            case 1: bytes.append(UInt8.random(in: 0...255, using: &random))
            case 2:
                let place = Int.random(in: 0..<bytes.count, using: &random)
                bytes[place] = bytes[place] &+ UInt8.random(in: 1...255, using: &random)
            default:
                let bit = Int.random(in: 0..<bytes.count * 8, using: &random)
                bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            }
            return Data(bytes).databaseValue
        case .int64(let number):
            return (number ^ (1 << Int64.random(in: 0..<62, using: &random))).databaseValue
        case .string(let text): return (text + "x").databaseValue
        default: return value
        }
    }

    private func values(_ table: String, _ column: String, _ database: Database) throws
        -> [(id: String, value: DatabaseValue)]
    {
        let key = ["record": "sequence", "checkpoint": "counter"][table] ?? "number"
        return try Row.fetchAll(
            database, sql: "SELECT quote(\(key)), \(column) FROM \(table) ORDER BY \(key)"
        ).map { ("\(key) = \($0[0] as String)", $0[1]) }
    }

    /// Changes one thing.
    ///
    /// - Returns: what; `nil` when it came out as it was, or the database refused by itself.
    private func change(_ database: Database, _ random: inout SeededNumbers) throws -> String? {
        let (table, column) = Self.columns[
            Int.random(in: 0..<Self.columns.count, using: &random)]
        let rows = try values(table, column, database)
        let one = rows[Int.random(in: 0..<rows.count, using: &random)]
        do {
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                try database.execute(sql: "DELETE FROM \(table) WHERE \(one.id)")
                return "removal of \(table) \(one.id)"
            case 1:
                // Two values change places, or one is copied over another.
                let other = rows[Int.random(in: 0..<rows.count, using: &random)]
                guard other.value != one.value else { return nil }
                let isExchange = Bool.random(using: &random) && column != "sequence"
                try database.execute(
                    sql: "UPDATE \(table) SET \(column) = ? WHERE \(one.id)",
                    arguments: [other.value])
                if isExchange, column != "counter" {
                    try database.execute(
                        sql: "UPDATE \(table) SET \(column) = ? WHERE \(other.id)",
                        arguments: [one.value])
                }
                return "exchange in \(table).\(column) \(one.id)"
            default:
                let new = mutated(one.value, &random)
                guard new != one.value else { return nil }
                try database.execute(
                    sql: "UPDATE \(table) SET \(column) = ? WHERE \(one.id)", arguments: [new])
                return "change of \(table).\(column) \(one.id)"
            }
        } catch is DatabaseError {
            return nil
        }
    }

    @Test("R14: no change, exchange or removal of a value goes unseen")
    func mutations() throws {
        let environment = ProcessInfo.processInfo.environment
        let count = environment["HOLDFAST_MUTATIONS"].flatMap(Int.init) ?? 2000
        let seed = environment["SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 0 ... .max)
        var random = SeededNumbers(seed)
        let store = try filled()
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        try queue.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = OFF")
            for table in Self.tables {
                try database.execute(sql: "CREATE TABLE kept_\(table) AS SELECT * FROM \(table)")
            }
        }
        let sealed = try store.head().flatMap { try store.lastCheckpoint(of: $0)?.checkpoint }
        func verdict() throws -> String? {
            do {
                _ = try store.verify { _, _ in }
                // What the TPM says: its counter is at the last checkpoint, and it certified that one.
                let head = try store.head()
                let last = try head.flatMap { try store.lastCheckpoint(of: $0)?.checkpoint }
                return last == sealed ? nil : "the TPM"
            } catch let error as LedgerStoreError { return error.stableCode }
        }
        #expect(try verdict() == nil)
        var codes: [String: Int] = [:]
        var misses: [String: Int] = [:]
        for _ in 0..<count {
            guard let what = try queue.write({ try change($0, &random) }) else { continue }
            if let code = try verdict() {
                codes[code, default: 0] += 1
            } else {
                misses[what, default: 0] += 1
            }
            try queue.write { database in
                for table in Self.tables {
                    try database.execute(
                        sql:
                            "DELETE FROM \(table); INSERT INTO \(table) SELECT * FROM kept_\(table)"
                    )
                }
            }
        }
        #expect(misses.isEmpty, "seed \(seed)")
        #expect(try verdict() == nil)
        // Each kind has its own code, and none is an accident.
        for code in ["LEDGER_EDITED", "LEDGER_REORDERED", "LEDGER_TRUNCATED", "LEDGER_DAMAGED"] {
            #expect(codes[code, default: 0] > 0, "\(codes)")
        }
        #expect(codes["LEDGER_UNUSABLE"] == nil, "\(codes)")
    }
}
