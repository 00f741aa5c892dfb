import ArgumentParser
import HoldfastConsole

let console = Console(program: "holdfast-server")

@main
struct HoldfastServer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-server", abstract: "The vendor's side of Holdfast.",
        subcommands: [Init.self, Verify.self])

    static func main() async { await console.runAsync(Self.self) }
}
