import ArgumentParser
import HoldfastConsole

let console = Console(program: "holdfast-sim")

@main
struct HoldfastSim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-sim", abstract: "Software TPMs that behave like machines.",
        version: console.version,
        subcommands: [TPMCommands.self])

    static func main() { console.run(Self.self) }
}

struct TPMCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tpm", abstract: "A software TPM in a directory; it answers on DIR/tpm.sock.",
        subcommands: [Start.self, Reboot.self, Cut.self, Stop.self])
}
