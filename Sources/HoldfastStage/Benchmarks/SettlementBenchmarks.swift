import Dispatch
import Foundation
import GRDB
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSync
import Synchronization

/// What one settlement costs the server: every check, the quote, receipt and reply, on the disk.
///
/// In one process, without TLS; devices are played in software.
public enum SettlementBenchmarks {
    /// The names of the rows.
    public static let names = ["settle", "settle-tls"]

    /// Runs rows, each in a directory of its own, which is removed afterwards.
    ///
    /// - Parameter programs: where `holdfast-server` is.
    public static func run(
        _ names: [String], in parent: String, runs: Int, programs: String
    ) throws -> [BenchmarkRow] {
        try names.flatMap { name in
            name == "settle"
                ? try settle(in: parent, runs: runs)
                : try settleOverTLS(in: parent, runs: runs, programs: programs)
        }
    }

    private static func settle(in parent: String, runs: Int) throws -> [BenchmarkRow] {
        let directory = parent + "/holdfast-bench-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let keys = VendorKeys(directory: directory + "/vendor")
        _ = try keys.create(
            .init(endorsementKeys: [], urls: [], selection: "sha256:0,1,2,3,4,5,6,7"),
            random: .system)
        let store = try SQLiteStore(path: directory + "/records.sqlite")
        let service = try VendorService(
            keys: keys, store: store, random: .system, now: { 1_800_000_000 })
        var device = try ModelDevice(keys, store, random: .system, now: 1_800_000_000)
        var configuration = Configuration()
        configuration.journalMode = .wal
        let queue = try DatabaseQueue(
            path: directory + "/plain.sqlite", configuration: configuration)
        try queue.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
            try database.execute(
                sql: "CREATE TABLE row (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        }
        let bytes = Data(RandomSource.system.bytes(256))
        var ready: [UInt8] = []
        var ours: [Double] = []
        var plain: [Double] = []
        for _ in 0..<runs {
            // What the device does is not the server's time.
            try device.meter(1, quantity: 1)
            ready = try device.evidence()
            let start = monotonicMicroseconds()
            let reply = try service.process(ready).reply
            let middle = monotonicMicroseconds()
            try queue.write { database in
                try database.execute(
                    sql: "INSERT INTO row (bytes) VALUES (?)", arguments: [bytes])
            }
            plain.append(monotonicMicroseconds() - middle)
            ours.append(middle - start)
            try device.apply(reply ?? [])
        }
        let rate = 1e6 / median(ours)
        return [
            BenchmarkRow(
                name: "settle", unit: "/s", ours: rate.rounded(),
                anchors: ["SQLite FULL rows": (1e6 / median(plain)).rounded()],
                ratio: median(plain) / median(ours), goal: ">= 2500/s without TLS",
                met: rate >= 2500, runs: runs)
        ]
    }

    private static func median(_ values: [Double]) -> Double {
        values.sorted()[values.count / 2]
    }

    /// The same over HTTPS, from as many callers as there are cores, a new connection for each call.
    ///
    /// The callers take half of the machine. Beside it calls that the server refuses unread: what
    /// connections alone cost.
    private static func settleOverTLS(
        in parent: String, runs: Int, programs: String
    ) throws -> [BenchmarkRow] {
        let directory = parent + "/holdfast-bench-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let keys = VendorKeys(directory: directory + "/vendor")
        let trust = try keys.create(
            .init(endorsementKeys: [], urls: [], selection: "sha256:0,1,2,3,4,5,6,7"),
            random: .system)
        let store = try SQLiteStore(path: directory + "/vendor/records.sqlite")
        // Its nonces last for decades: the server has a clock of its own.
        let now: UInt64 = 1_800_000_000
        let rounds = 3
        var bundles = [[[UInt8]]](repeating: [], count: rounds)
        for _ in 0..<runs {
            var device = try ModelDevice(keys, store, random: .system, now: now)
            for round in 0..<rounds {
                try device.meter(1, quantity: 1)
                bundles[round].append(try device.evidence())
            }
        }
        let server = try Programs(directory: programs, work: try Files.absolutePath(directory))
            .serve("--rate", "0")
        defer { server.stop() }
        let url = server.url
        /// Sends each body once; calls a second.
        func rate(_ bodies: [[UInt8]], isRefused: Bool) throws -> Double {
            let callers = 4
            let failures = Mutex(0)
            let start = monotonicMicroseconds()
            DispatchQueue.concurrentPerform(iterations: callers) { caller in
                for number in stride(from: caller, to: bodies.count, by: callers) {
                    let answer = Result {
                        try HTTPSTransport(url: url, trust: trust)
                            .post(bodies[number], to: "/v1/bundle")
                    }
                    let isRight = isRefused == ((try? answer.get()) == nil)
                    if !isRight { failures.withLock { $0 += 1 } }
                }
            }
            let rate = Double(bodies.count) * 1e6 / (monotonicMicroseconds() - start)
            guard failures.withLock({ $0 }) == 0 else { throw BenchmarkFailure() }
            return rate
        }
        let nothing = [[UInt8]](repeating: [0], count: runs)
        var ours: [Double] = []
        var bare: [Double] = []
        for round in bundles {
            bare.append(try rate(nothing, isRefused: true))
            ours.append(try rate(round, isRefused: false))
        }
        let met = median(ours)
        return [
            BenchmarkRow(
                name: "settle-tls", unit: "/s", ours: met.rounded(),
                anchors: ["TLS calls alone": median(bare).rounded()],
                ratio: met / median(bare), goal: ">= 2500/s", met: met >= 2500, runs: runs)
        ]
    }
}

/// A call had another answer than it should.
struct BenchmarkFailure: Error {}
