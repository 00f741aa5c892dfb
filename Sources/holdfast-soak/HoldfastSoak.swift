import ArgumentParser
import HoldfastConsole
import HoldfastErrors
import HoldfastStage

let console = Console(program: "holdfast-soak")

@main
struct HoldfastSoak: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-soak",
        abstract: "Long trials of what must hold whatever goes wrong.",
        discussion: "The same seed takes the same steps. docs/robustness.md.",
        subcommands: [SoakDevice.self, MutateLedgers.self, CutPower.self, MeasureLedgers.self],
        defaultSubcommand: SoakDevice.self)

    static func main() { console.run(Self.self) }
}

struct SoakDevice: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device",
        abstract: "The life of a device among everything that can go wrong with its TPM.")

    @Option(help: "How long, in seconds.") var seconds: UInt32 = 600
    @Option(help: "Of an earlier run; a new one without it.") var seed: UInt64?

    func run() throws {
        let seed = seed ?? UInt64.random(in: 1...UInt64(UInt32.max))
        console.line("seed \(seed)")
        let soak = try Soak(programs: programsDirectory(), seed: seed) { console.line($0) }
        let report = try soak.run(seconds: Double(seconds))
        func table(_ counts: [String: Int]) -> String {
            counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
                .joined(separator: ", ")
        }
        console.line("\(report.steps) steps, \(report.programs) programs on the device")
        console.line("faults    \(table(report.faults))")
        console.line("refusals  \(table(report.refusals))")
        console.line("settled   \(report.settled), as recorded")
        guard report.findings.isEmpty else {
            console.line("\(report.findings.count) findings; again with `make soak SEED=\(seed)`")
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }
}
