import HoldfastStage
import Testing

/// A part of the states of a disk; `make power-cuts` tries them all.
@Suite("the power is cut at every write", .timeLimit(.minutes(20)))
struct PowerCutTests {
    @Test(
        "R16: what was promised is there, the rest whole or not at all, and nothing counts twice")
    func part() throws {
        let seed = UInt64.random(in: 1...1_000_000)
        let report = try PowerCuts.run(points: 100, seed: seed, share: 32)
        #expect(report.misses == 0, "seed \(seed): \(report.findings.prefix(5))")
        #expect(Set(report.points.keys) == ["device", "vendor"])
        for what in ["seal finished", "settled after the cut"] {
            #expect(report.seen[what, default: 0] > 0, "seed \(seed): \(report.seen)")
        }
    }
}
