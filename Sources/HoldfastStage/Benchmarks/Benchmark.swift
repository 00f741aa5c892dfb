import FoundationEssentials
import Glibc

/// One row of the benchmark: ours against an anchor, measured in turn in one run.
public struct BenchmarkRow: Sendable, Codable {
    public let name: String
    public let unit: String
    /// Median.
    public let ours: Double
    /// Medians, by name.
    public let anchors: [String: Double]
    /// Ours against the anchor that the goal names.
    public let ratio: Double
    public let goal: String
    public let met: Bool
    public let runs: Int
    /// Anchors that are not installed here.
    public var missing: [String] = []
}

/// Measures two pieces of work in turn, so that a busy machine slows both.
struct Pair {
    let ours: () throws -> Void
    let anchor: () throws -> Void

    /// - Returns: medians in microseconds of wall time.
    func measure(runs: Int) throws -> (ours: Double, anchor: Double) {
        var first: [Double] = []
        var second: [Double] = []
        for _ in 0..<10 {
            try ours()
            try anchor()
        }
        for run in 0..<runs {
            // Who goes first changes, so that neither always finds warm caches.
            if run % 2 == 0 {
                first.append(try time(ours))
                second.append(try time(anchor))
            } else {
                second.append(try time(anchor))
                first.append(try time(ours))
            }
        }
        return (median(first), median(second))
    }

    private func time(_ work: () throws -> Void) rethrows -> Double {
        let start = monotonicMicroseconds()
        try work()
        return monotonicMicroseconds() - start
    }

    private func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
    }
}

/// Time that only goes forward, to measure durations.
func monotonicMicroseconds() -> Double {
    var now = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) * 1e6 + Double(now.tv_nsec) / 1e3
}

extension BenchmarkRow {
    /// The rows as a table for people.
    public static func table(_ rows: [BenchmarkRow]) -> String {
        var lines = [
            column("row", 24) + right("ours", 12) + right("anchor", 12) + right("ratio", 8)
                + "  goal"
        ]
        for row in rows {
            let anchor =
                row.anchors.count == 1 ? row.anchors.values.first ?? .nan : row.ours / row.ratio
            lines.append(
                column(row.name, 24) + right("\(number(row.ours)) \(row.unit)", 12)
                    + right("\(number(anchor)) \(row.unit)", 12) + right(number(row.ratio), 8)
                    + "  \(row.goal): \(row.met ? "met" : "NOT MET")")
            for (name, value) in row.anchors.sorted(by: { $0.value < $1.value })
            where row.anchors.count > 1 {
                lines.append(column("    " + name, 36) + right("\(number(value)) \(row.unit)", 12))
            }
            for name in row.missing { lines.append("    \(name): missing") }
        }
        return lines.joined(separator: "\n")
    }

    /// The rows as JSON with sorted keys.
    public static func json(_ rows: [BenchmarkRow]) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(rows))
    }

    private static func number(_ value: Double) -> String {
        String((value * 100).rounded() / 100)
    }

    private static func column(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(1, width - text.count)) + text
    }
}
