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
        discussion: "Rows: \(TPMBenchmarks.names.joined(separator: ", ")).")

    @Argument(help: "One row; all without it.") var row: String?
    @Option(help: "Measurements of each side.") var runs = 400
    @Option(help: "Where the rows go as JSON.") var output = ".build/bench.json"

    static func main() { console.run(Self.self) }

    func run() throws {
        guard row.map(TPMBenchmarks.names.contains) ?? true else {
            throw ValidationError("the rows are \(TPMBenchmarks.names.joined(separator: ", "))")
        }
        let rows = try TPMBenchmarks.onSoftwareTPM(
            names: row.map { [$0] } ?? TPMBenchmarks.names, runs: runs)
        console.line(BenchmarkRow.table(rows))
        try Files.write(BenchmarkRow.json(rows), to: output, mode: 0o644)
    }
}
