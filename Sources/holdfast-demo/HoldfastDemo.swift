import ArgumentParser
import HoldfastConsole
import HoldfastErrors
import HoldfastStage

let console = Console(program: "holdfast-demo")

@main
struct HoldfastDemo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-demo", abstract: "The story of a license, on two software TPMs.")

    static func main() { console.run(Self.self) }

    func run() throws {
        var demonstration = Demonstration(programs: programsDirectory()) { console.line($0) }
        let claims = try demonstration.run()
        guard claims.allSatisfy(\.held), !claims.isEmpty else {
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }
}
