import Foundation
import Glibc
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles

/// What the verification of a ledger costs, by the number of its records.
public enum LedgerSizes {
    /// One verification.
    public struct Row: Sendable {
        public let records: UInt64
        public let checkpoints: Int
        /// The database on the disk, in bytes.
        public let size: Int
        /// What it took to record them, a thousand in a commit, in seconds.
        public let recording: Double
        public let seconds: Double
        public let cpu: Double
        /// The most memory that the process held meanwhile, and what it held before, in KiB.
        public let peak: Int
        public let before: Int

        /// A row of a table in Markdown.
        public var line: String {
            func number(_ value: Double) -> String { String(format: "%.2f", value) }
            return
                "| \(records) | \(checkpoints) | \(number(Double(size) / 1e6)) MB | \(number(recording)) s | \(number(seconds)) s | \(number(cpu)) s | \(peak / 1024) MiB | \(before / 1024) MiB |"
        }
    }

    /// Records so many events for each size, with a seal after every 10,000, and verifies them.
    ///
    /// - Parameter parent: a directory on the disk that is measured; what is made in it is removed.
    public static func run(
        _ sizes: [Int], in parent: String, each: (Row) -> Void
    ) throws {
        for size in sizes {
            let directory = parent + "/holdfast-sizes-" + Hex.encode(RandomSource.system.bytes(8))
            try Files.makePrivateDirectory(directory)
            defer { try? FileManager.default.removeItem(atPath: directory) }
            each(try measure(size, directory + "/ledger.sqlite"))
        }
    }

    private static func measure(_ count: Int, _ path: String) throws -> Row {
        var counter = ModelCounter(random: .system)
        let start = ContinuousClock.now
        do {
            let store = try LedgerStore(path: path, random: .system)
            try store.beginFirstEra(counter: counter.value, ticks: 0)
            let names = (0..<8).map { "meter-\($0)" }
            var done = 0
            while done < count {
                let group = min(1_000, count - done)
                try store.append(
                    (0..<group).map {
                        .init(meter: names[($0 / 100) % 8], termsVersion: 1, quantity: 1)
                    }, ticks: 0, day: 0)
                done += group
                if done % 10_000 == 0 { try counter.seal(store) }
            }
        }
        let recording = start.duration(to: .now)
        // Opened anew: what recording left in the memory of SQLite is gone.
        let store = try LedgerStore(path: path, random: .system)
        let before = try memory("VmRSS")
        // The kernel forgets the peak.
        try "5".write(toFile: "/proc/self/clear_refs", atomically: false, encoding: .utf8)
        let (began, used) = (ContinuousClock.now, cpu())
        let verified = try counter.witness.verify(store)
        let seconds = began.duration(to: .now)
        let spent = cpu() - used
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return Row(
            records: verified.records, checkpoints: verified.checkpoints,
            size: (attributes[.size] as? Int) ?? 0, recording: recording / .seconds(1),
            seconds: seconds / .seconds(1), cpu: spent, peak: try memory("VmHWM"),
            before: before)
    }

    private static func cpu() -> Double {
        var now = timespec()
        unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
    }

    private static func memory(_ field: String) throws -> Int {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix(field + ":") }
        return line.flatMap { Int($0.filter(\.isNumber)) } ?? 0
    }
}
