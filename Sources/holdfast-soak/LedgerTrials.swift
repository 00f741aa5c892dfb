import ArgumentParser
import HoldfastConsole
import HoldfastErrors
import HoldfastStage

struct MutateLedgers: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mutations",
        abstract: "Changes ledgers behind their backs; each change must be seen, by its code.")

    @Option(help: "How many changes.") var count = 100_000
    @Option(help: "Of an earlier run; a new one without it.") var seed: UInt64?
    @Option(help: "Changes of one kind alone, for example `file`.") var kind: String?
    @Option(help: "A directory in memory.") var directory = "/dev/shm"

    func run() throws {
        let seed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
        console.line("seed \(seed)")
        let only = try kind.map { name in
            guard let kind = LedgerMutations.Kind(rawValue: name) else {
                let all = LedgerMutations.Kind.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--kind is one of \(all)")
            }
            return kind
        }
        let report = try LedgerMutations.run(
            count: count, seed: seed, only: only, in: directory
        ) { done in
            if done % 100_000 == 0 { console.line("\(done) changes") }
        }
        for line in report.lines { console.line(line) }
        console.line("\(report.total) changes, \(report.misses) misses")
        for finding in report.findings { console.line(finding) }
        if report.misses > 0 { throw ExitCode(ExitStatus.failure.rawValue) }
    }
}

struct CutPower: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "power-cuts",
        abstract: "Cuts the power at every write of a device's ledger and of the vendor's records.")

    @Option(help: "How many states of a disk, at least.") var points = 10_000
    @Option(help: "One of how many is tried.") var share = 1
    @Option(help: "Of an earlier run; a new one without it.") var seed: UInt64?
    @Option(help: "A directory in memory.") var directory = "/dev/shm"

    func run() throws {
        let seed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
        console.line("seed \(seed)")
        let report = try PowerCuts.run(points: points, seed: seed, share: share, in: directory) {
            console.line("\($0) points")
        }
        for (name, count) in (report.points.map { $0 } + report.seen.map { $0 }) {
            console.line("\(name): \(count)")
        }
        console.line("\(report.total) points, \(report.misses) misses")
        for finding in report.findings { console.line(finding) }
        if report.misses > 0 { throw ExitCode(ExitStatus.failure.rawValue) }
    }
}

struct MeasureLedgers: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger-sizes",
        abstract: "Measures what the verification of a ledger costs, from 10,000 events on.")

    @Option(help: "The most events; ten times fewer before it, and so on.") var largest = 10_000_000
    @Option(help: "A directory on the disk that is measured.") var disk = ".build"

    func run() throws {
        console.line(
            "| records | checkpoints | file | recording | verification | CPU | peak RSS | RSS before |"
        )
        console.line("|---|---|---|---|---|---|---|---|")
        let sizes = sequence(first: 10_000) { $0 * 10 }.prefix { $0 <= largest }
        try LedgerSizes.run(Array(sizes), in: disk) { console.line($0.line) }
    }
}
