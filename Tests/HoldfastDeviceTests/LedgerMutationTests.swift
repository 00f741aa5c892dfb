import Foundation
import HoldfastStage
import Testing

/// Changes to ledgers behind their backs; `make mutations-ledger` makes more of them.
@Suite("mutations of the ledger", .timeLimit(.minutes(20)))
struct LedgerMutationTests {
    @Test("R14: no change, exchange or removal of a value goes unseen")
    func mutations() throws {
        let seed =
            ProcessInfo.processInfo.environment["SEED"].flatMap(UInt64.init)
            ?? .random(in: 1...1_000_000)
        let report = try LedgerMutations.run(count: 1500, seed: seed)
        #expect(report.misses == 0, "seed \(seed): \(report.findings)")
        // Each kind is there, and each code is what some of them are called.
        #expect(Set(report.counts.keys) == Set(LedgerMutations.Kind.allCases))
        let codes = Set(report.codes.values.flatMap(\.keys))
        let wanted = [
            "DAMAGED", "EDITED", "FOREIGN", "FORGED", "REORDERED", "SPLICED", "TRUNCATED",
        ].map { "LEDGER_" + $0 }
        #expect(codes.isSuperset(of: wanted + ["ROLLBACK_SUSPECT"]), "\(codes)")
        // Words of a requirement, each with its own.
        let own: [LedgerMutations.Kind: String] = [
            .truncate: "LEDGER_TRUNCATED", .reorder: "LEDGER_REORDERED", .splice: "LEDGER_SPLICED",
            .swap: "LEDGER_FOREIGN", .restore: "ROLLBACK_SUSPECT",
        ]
        for (kind, code) in own { #expect(report.codes[kind]?[code] ?? 0 > 0, "\(kind)") }
    }
}
