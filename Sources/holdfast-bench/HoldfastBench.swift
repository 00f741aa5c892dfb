import ArgumentParser
import HoldfastConsole
import HoldfastFiles
import HoldfastStage

let console = Console(program: "holdfast-bench")

@main
struct HoldfastBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-bench",
        abstract: "Ours against the raw limit, measured in turn in one run.",
        discussion: "Rows: \(names.joined(separator: ", ")).")

    private static let names =
        TPMBenchmarks.names + PeerBenchmarks.names + GuardBenchmarks.names
        + VerifierBenchmarks.names + LedgerBenchmarks.names + SettlementBenchmarks.names
        + FleetBenchmarks.names

    @Argument(help: "One row; all without it.") var row: String?
    @Option(help: "Measurements of each side.") var runs = 400
    @Option(help: "A directory on the disk that is measured.") var disk = ".build"
    @Option(help: "Where the peers are that `make bench` compiles.") var peers = ".build/peers"
    @Option(help: "Where the rows go as JSON.") var output = ".build/bench.json"

    static func main() { console.run(Self.self) }

    func run() throws {
        guard row.map(Self.names.contains) ?? true else {
            throw ValidationError("the rows are \(Self.names.joined(separator: ", "))")
        }
        func wanted(_ names: [String]) -> [String] {
            names.filter { row == nil || row == $0 }
        }
        var rows: [BenchmarkRow] = []
        let tpm = wanted(TPMBenchmarks.names)
        if !tpm.isEmpty { rows += try TPMBenchmarks.onSoftwareTPM(names: tpm, runs: runs) }
        rows += try GuardBenchmarks.run(wanted(GuardBenchmarks.names), in: disk, runs: runs)
        rows += try VerifierBenchmarks.run(wanted(VerifierBenchmarks.names), in: disk, runs: runs)
        rows += try PeerBenchmarks.run(
            wanted(PeerBenchmarks.names), programs: programsDirectory(),
            peers: Files.absolutePath(peers), runs: runs)
        rows += try LedgerBenchmarks.run(wanted(LedgerBenchmarks.names), in: disk, runs: runs)
        rows += try SettlementBenchmarks.run(
            wanted(SettlementBenchmarks.names), in: disk, runs: runs, programs: programsDirectory())
        rows += try FleetBenchmarks.run(wanted(FleetBenchmarks.names), in: "/tmp")
        console.line(BenchmarkRow.table(rows))
        try Files.write(BenchmarkRow.json(rows), to: output, mode: 0o644)
    }
}
