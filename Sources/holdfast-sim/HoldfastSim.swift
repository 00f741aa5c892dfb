import ArgumentParser
import HoldfastConsole

let console = Console(program: "holdfast-sim")

@main
struct HoldfastSim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-sim", abstract: "Software TPMs that behave like machines.",
        subcommands: [])

    static func main() { console.run(Self.self) }
}
