import FoundationEssentials
import GRDB
import Glibc
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastTPMWire

/// What durable metering costs over the disk, and over a database that keeps the same rows.
public struct LedgerBenchmarks {
    private let directory: String
    private let runs: Int

    /// The names of the rows.
    public static let names = ["meter-single", "meter-group", "wire-10k"]

    /// Runs the rows with the given names in a directory of their own, which is removed afterwards.
    public static func run(_ names: [String], in parent: String, runs: Int) throws -> [BenchmarkRow]
    {
        let directory = parent + "/holdfast-bench-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let benchmarks = LedgerBenchmarks(directory: directory, runs: runs)
        return try names.map { name in
            switch name {
            case "meter-single": try benchmarks.single()
            case "meter-group": try benchmarks.group()
            default: try benchmarks.wire()
            }
        }
    }

    private func ledger(_ name: String) throws -> LedgerStore {
        let store = try LedgerStore(path: directory + "/" + name, random: .system)
        try store.beginFirstEra(counter: 1, ticks: 0)
        return store
    }

    private func database(_ name: String) throws -> DatabaseQueue {
        var configuration = Configuration()
        configuration.journalMode = .wal
        let queue = try DatabaseQueue(path: directory + "/" + name, configuration: configuration)
        try queue.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
            try database.execute(
                sql: "CREATE TABLE record (sequence INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        }
        return queue
    }

    private static let usage = LedgerStore.Usage(meter: "scan", termsVersion: 1, quantity: 1)

    private func single() throws -> BenchmarkRow {
        let store = try ledger("single")
        let queue = try database("single-sqlite")
        let descriptor = unsafe open(
            directory + "/raw", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        let bytes = RandomSource.system.bytes(LedgerRecord.size)
        let ours = { try store.append([Self.usage], ticks: 0, day: 0) }
        let raw = {
            _ = unsafe bytes.withUnsafeBytes { buffer in
                unsafe write(descriptor, buffer.baseAddress, buffer.count)
            }
            fdatasync(descriptor)
        }
        let plain = {
            try queue.write { database in
                try database.execute(
                    sql: "INSERT INTO record (bytes) VALUES (?)", arguments: [Data(bytes)])
            }
        }
        let first = try Pair(ours: ours, anchor: raw).measure(runs: runs)
        let second = try Pair(ours: ours, anchor: plain).measure(runs: runs)
        let ratio = first.ours / first.anchor
        return BenchmarkRow(
            name: "meter-single", unit: "us", ours: first.ours,
            anchors: ["append + fdatasync": first.anchor, "SQLite FULL": second.anchor],
            ratio: ratio, goal: "<= 1.11 x append + fdatasync", met: ratio <= 1.11, runs: runs)
    }

    private func group() throws -> BenchmarkRow {
        let store = try ledger("group")
        let queue = try database("group-sqlite")
        let count = 1000
        let usages = [LedgerStore.Usage](repeating: Self.usage, count: count)
        let bytes = Data(RandomSource.system.bytes(LedgerRecord.size))
        let plain = {
            try queue.write { database in
                let statement = try database.cachedStatement(
                    sql: "INSERT INTO record (bytes) VALUES (?)")
                for _ in 0..<count { try statement.execute(arguments: [bytes]) }
            }
        }
        let measured = try Pair(
            ours: { try store.append(usages, ticks: 0, day: 0) }, anchor: plain
        ).measure(runs: max(20, runs / 10))
        let ours = Double(count) / measured.ours * 1e6
        let anchor = Double(count) / measured.anchor * 1e6
        return BenchmarkRow(
            name: "meter-group", unit: "/s", ours: ours.rounded(),
            anchors: ["SQLite FULL": anchor.rounded()], ratio: ours / anchor,
            goal: ">= 300000/s", met: ours >= 300_000, runs: max(20, runs / 10))
    }

    /// Bytes that settle 10,000 events: checkpoint and proofs, without the quote.
    private func wire() throws -> BenchmarkRow {
        let store = try ledger("wire")
        func seal(_ counter: UInt64) throws -> Checkpoint {
            let zeros = [UInt8](repeating: 0, count: 32)
            return try store.writeCheckpoint(counter: counter) { era, size, root, previous in
                Checkpoint(
                    pairwiseID: zeros, incarnation: 1, era: era, counter: counter,
                    previous: previous, size: size, root: root.hash, sums: root.sums,
                    receiptHash: zeros, replyHash: zeros,
                    clock: .init(clock: 0, resetCount: 0, restartCount: 0, safe: true),
                    grade: .certified)
            }
        }
        try store.append([Self.usage], ticks: 0, day: 0)
        let first = try seal(2)
        for _ in 0..<10 {
            try store.append(
                [LedgerStore.Usage](repeating: Self.usage, count: 1000), ticks: 0, day: 0)
        }
        let last = try seal(3)
        let proof = try store.consistency(from: first.size, to: last.size)
        let size = Double(last.encoded.count + (proof?.encoded.count ?? 0))
        return BenchmarkRow(
            name: "wire-10k", unit: "B", ours: size, anchors: ["records": 10_000 * 81],
            ratio: size / (10_000 * 81), goal: "<= 2048 B", met: size <= 2048, runs: 1)
    }
}
