import Foundation
import GRDB
import HoldfastCrypto
import HoldfastDevice
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("the usage ledger on the disk")
final class LedgerStoreTests {
    private let path = "/tmp/hf-ledger-" + Hex.encode(RandomSource.system.bytes(8))

    deinit {
        for ending in ["", "-wal", "-shm"] {
            try? FileManager.default.removeItem(atPath: path + ending)
        }
    }

    private func open() throws -> LedgerStore { try LedgerStore(path: path, random: .system) }

    /// Two checkpoints with usage before, between and after them.
    private func filled() throws -> LedgerStore {
        let store = try open()
        try store.beginFirstEra(counter: 1, ticks: 0)
        try store.append(
            [
                .init(meter: "scan", termsVersion: 1, quantity: 3),
                .init(meter: "map", termsVersion: 1, quantity: 2),
            ], ticks: 5, day: 1)
        try seal(store, 2)
        try store.append([.init(meter: "scan", termsVersion: 2, quantity: 9)], ticks: 6, day: 1)
        try store.append([.init(meter: "scan", termsVersion: 2, quantity: 1)], ticks: 7, day: 1)
        try seal(store, 3)
        try store.append([.init(meter: "map", termsVersion: 2, quantity: 4)], ticks: 8, day: 1)
        return store
    }

    private func seal(_ store: LedgerStore, _ counter: UInt64) throws {
        let zeros = [UInt8](repeating: 0, count: 32)
        _ = try store.writeCheckpoint(counter: counter) { era, size, root, previous in
            Checkpoint(
                pairwiseID: zeros, incarnation: 1, era: era, counter: counter,
                previous: previous, size: size, root: root.hash, sums: root.sums,
                receiptHash: zeros, replyHash: zeros,
                clock: ClockInfo(clock: 0, resetCount: 0, restartCount: 0, safe: true),
                grade: .certified)
        }
    }

    private func verify(_ store: LedgerStore) throws -> LedgerStore.Verified {
        try store.verify { _, _ in }
    }

    private func sql(_ text: String, _ arguments: StatementArguments = []) throws {
        try DatabaseQueue(path: path).write { try $0.execute(sql: text, arguments: arguments) }
    }

    private func code(_ change: () throws -> Void) throws -> String? {
        _ = try filled()
        try change()
        let store = try open()
        do {
            _ = try verify(store)
            return nil
        } catch let error as LedgerStoreError {
            return error.stableCode
        }
    }

    @Test("what was recorded adds up, and is there when the file is opened again")
    func roundTrip() throws {
        let store = try filled()
        #expect(try store.synchronousSetting() == 2)
        let again = try open()
        let head = try #require(try again.head())
        #expect(head.era == 2)
        // A genesis, two meters and five uses.
        #expect(head.frontier.end == 8)
        let sums = try head.frontier.root().sums
        #expect(sums[1, 1] == 3)
        #expect(sums[2, 1] == 2)
        #expect(sums[1, 2] == 10)
        #expect(sums[2, 2] == 4)
        #expect(try again.meters() == [1: "scan", 2: "map"])
        let verified = try verify(again)
        #expect(verified.records == 8)
        #expect(verified.checkpoints == 2)
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        // Its group may meter; the directory decides who that is.
        #expect(attributes[.posixPermissions] as? Int == 0o660)
    }

    @Test("a use that cannot be recorded leaves nothing of its group")
    func atomic() throws {
        let store = try filled()
        let before = try store.head()
        #expect(throws: LedgerStoreError.self) {
            try store.append(
                [
                    .init(meter: "new", termsVersion: 1, quantity: 1),
                    .init(meter: "scan", termsVersion: 1, quantity: 0),
                ], ticks: 0, day: 0)
        }
        #expect(try store.head() == before)
        #expect(try store.meters().count == 2)
        _ = try verify(store)
    }

    @Test("an edited record is found, sealed or not")
    func edited() throws {
        for sequence in [0, 3, 5, 7] {
            let found = try code {
                try DatabaseQueue(path: self.path).write { database in
                    let row = try #require(
                        try Data.fetchOne(
                            database, sql: "SELECT bytes FROM record WHERE sequence = ?",
                            arguments: [sequence]))
                    var bytes = [UInt8](row)
                    bytes[25] ^= 1
                    try database.execute(
                        sql: "UPDATE record SET bytes = ? WHERE sequence = ?",
                        arguments: [Data(bytes), sequence])
                }
            }
            #expect(found == "LEDGER_EDITED", "\(sequence)")
            try FileManager.default.removeItem(atPath: path)
        }
    }

    @Test("records that are cut off, taken out or exchanged are found, each by its own code")
    func structure() throws {
        func found(_ change: () throws -> Void) throws -> String? {
            for ending in ["", "-wal", "-shm"] {
                try? FileManager.default.removeItem(atPath: path + ending)
            }
            return try code(change)
        }
        #expect(
            try found { try self.sql("DELETE FROM record WHERE sequence = 7") }
                == "LEDGER_TRUNCATED")
        #expect(
            try found { try self.sql("DELETE FROM record WHERE sequence >= 4") }
                == "LEDGER_TRUNCATED")
        #expect(
            try found { try self.sql("DELETE FROM record WHERE sequence = 3") }
                == "LEDGER_REORDERED")
        #expect(
            try found {
                try self.sql("UPDATE record SET sequence = 99 WHERE sequence = 3")
                try self.sql("UPDATE record SET sequence = 3 WHERE sequence = 4")
                try self.sql("UPDATE record SET sequence = 4 WHERE sequence = 99")
            } == "LEDGER_REORDERED")
        #expect(
            try found {
                try self.sql(
                    "DELETE FROM checkpoint WHERE counter = (SELECT min(counter) FROM checkpoint)")
            } == "LEDGER_SPLICED")
        // Those that named meters are gone as well.
        #expect(
            try found { try self.sql("DELETE FROM record WHERE sequence >= 1") }
                == "LEDGER_TRUNCATED")
        #expect(
            try found { try self.sql("UPDATE era SET era = x'0000000000000003'") }
                == "LEDGER_SPLICED")
        #expect(
            try found { try self.sql("UPDATE era SET damaged = 'LEDGER_EDITED'") }
                == "LEDGER_EDITED")
        #expect(
            try found { try self.sql("UPDATE era SET frontier = x'00'") } == "LEDGER_DAMAGED")
        #expect(
            try found { try self.sql("UPDATE checkpoint SET bytes = x'00'") } == "LEDGER_DAMAGED")
    }

    @Test("a proof leads from any sealed head to a later one, and from no other")
    func proofs() throws {
        let store = try filled()
        let head = try #require(try store.head())
        let proof = try #require(try store.consistency(from: 5, to: 7))
        #expect(try proof.roots().after.sums[1, 2] == 10)
        #expect(try store.consistency(from: 7, to: head.frontier.end) != nil)
        #expect(try store.consistency(from: 6, to: 7) == nil)
        #expect(throws: LedgerStoreError.self) { try store.consistency(from: 5, to: 99) }
    }

    @Test("evidence has a proof from the acknowledged head and from each that left since")
    func exported() throws {
        let store = try filled()
        for counter in 4...20 {
            try store.append([.init(meter: "scan", termsVersion: 1, quantity: 1)], ticks: 9, day: 1)
            try seal(store, UInt64(counter))
        }
        let end = try #require(try store.head()).frontier.end
        func sizes(_ since: UInt64, room: Int = 2 << 20) throws -> [UInt64] {
            let proofs = try store.proofs(since: since, to: end, room: room)
            for proof in proofs {
                #expect(try proof == store.consistency(from: proof.before.end, to: end))
                #expect(try proof.roots().after == store.head()?.frontier.root())
            }
            return proofs.map(\.before.end)
        }
        // Those that stayed here are nothing that the server could know.
        #expect(try sizes(0) == [])
        #expect(try sizes(7) == [7])
        for counter: UInt64 in [2, 6, 12] { try store.markExported(counter: counter) }
        #expect(try sizes(0) == [17, 11, 5])
        #expect(try sizes(7) == [17, 11, 7])
        // However many there are, they fit: the newest, and that of the receipt.
        #expect(try sizes(7, room: 0) == [7])
        let newest = try #require(try store.proofs(since: 0, to: end).first)
        #expect(try sizes(7, room: newest.encoded.count) == [17, 7])
    }

    @Test("a file that is no ledger is refused with a reason")
    func noLedger() throws {
        try Data("this is not a database at all".utf8).write(to: URL(filePath: path))
        #expect(throws: LedgerStoreError.self) { try open() }
        #expect(throws: LedgerStoreError.self) {
            try LedgerStore(path: "/nonexistent/ledger", random: .system)
        }
    }

    // MARK: What does not fit

    @Test(
        "a meter too many is refused by name, what is recorded with it is not, and sealing goes on")
    func tooManyMeters() throws {
        let store = try open()
        try store.beginFirstEra(counter: 1, ticks: 0)
        func usage(_ number: Int, _ quantity: UInt32 = 1) -> LedgerStore.Usage {
            .init(meter: "meter-\(number)", termsVersion: 1, quantity: quantity)
        }
        try store.append((1...MeterSums.maximumEntries).map { usage($0) }, ticks: 0, day: 0)
        let size = try store.head()?.frontier.end
        #expect(throws: LedgerStoreError.refused(.tooManyMeters)) {
            try store.append([usage(3), usage(1000)], ticks: 0, day: 0)
        }
        #expect(throws: LedgerStoreError.refused(.nothingToCount)) {
            try store.append([usage(3, 0)], ticks: 0, day: 0)
        }
        #expect(try store.head()?.frontier.end == size)
        // Another version of the terms is another total; without room it is counted with the last one.
        try store.append(
            [.init(meter: "meter-3", termsVersion: 2, quantity: 10)], ticks: 0, day: 0)
        #expect(try store.head()?.frontier.sums()[3, 1] == 11)
        #expect(try store.head()?.frontier.sums()[3, 2] == 0)
        let refused = try store.appendEach(
            [usage(3), usage(1000), usage(4, 0), usage(5, 7), usage(1001)], ticks: 0, day: 0)
        #expect(refused == [1: .tooManyMeters, 2: .nothingToCount, 4: .tooManyMeters])
        try seal(store, 2)
        #expect(try store.head()?.frontier.sums()[5, 1] == 8)
        #expect(try store.meters().count == MeterSums.maximumEntries)
        _ = try verify(store)
        #expect(LedgerStoreError.refused(.tooManyMeters).stableCode == "METERS_EXHAUSTED")
    }

    @Test("values of another kind, in a structure that somebody made, are damage and no crash")
    func otherKinds() throws {
        for value in ["'text'", "1.5", "NULL", "-1", "x''", "x'00'"] {
            for (table, columns) in [
                "era": ["era", "genesis", "begun_at", "frontier", "seed", "damaged"],
                "record": ["bytes"], "meter": ["name"],
                "checkpoint": [
                    "counter", "bytes", "frontier", "attestation", "signature", "exported",
                ],
                "change": ["at", "kind", "subject", "old", "new", "cause"],
                "receipt": ["era", "checkpoint", "token"],
            ] {
                for column in columns {
                    for ending in ["", "-wal", "-shm"] {
                        try? FileManager.default.removeItem(atPath: path + ending)
                    }
                    let store = try filled()
                    try loosen()
                    // The database's own keys stay what they are: it refuses by itself.
                    try? sql("UPDATE OR IGNORE \(table) SET \(column) = \(value)")
                    use(store)
                    use(try open())
                }
            }
        }
    }

    /// Takes the types and conditions out of every table.
    private func loosen() throws {
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA writable_schema = ON")
            for gone in ["STRICT, ", " STRICT", "INTEGER NOT NULL", " BLOB", " TEXT", "NOT NULL"] {
                try database.execute(
                    sql: "UPDATE sqlite_schema SET sql = replace(sql, ?, '') WHERE type = 'table'",
                    arguments: [gone])
            }
        }
        try queue.close()
    }

    /// Everything that is asked of a ledger; whatever comes out, it comes out.
    private func use(_ store: LedgerStore) {
        _ = try? store.head()
        _ = try? store.meters()
        _ = try? store.append(
            [.init(meter: "scan", termsVersion: 1, quantity: 1)], ticks: 0, day: 0)
        _ = try? store.head().flatMap { try store.lastCheckpoint(of: $0) }
        _ = try? store.proofs(since: 0, to: 9)
        _ = try? store.consistency(from: 3, to: 9)
        _ = try? verify(store)
        try? seal(store, 4)
    }
}
