import FoundationEssentials
import GRDB
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices

/// What one settlement costs the server: every check, the quote, receipt and reply, on the disk.
///
/// In one process, without TLS; devices are played in software.
public enum SettlementBenchmarks {
    /// The names of the rows.
    public static let names = ["settle"]

    /// Runs the row in a directory of its own, which is removed afterwards.
    public static func run(in parent: String, runs: Int) throws -> [BenchmarkRow] {
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
        func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
        let rate = 1e6 / median(ours)
        return [
            BenchmarkRow(
                name: "settle", unit: "/s", ours: rate.rounded(),
                anchors: ["SQLite FULL rows": (1e6 / median(plain)).rounded()],
                ratio: median(plain) / median(ours), goal: ">= 2500/s without TLS",
                met: rate >= 2500, runs: runs)
        ]
    }
}
