import ArgumentParser
import HoldfastConsole

let console = Console(program: "holdfast-server")

@main
struct HoldfastServer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-server", abstract: "The vendor's side of Holdfast.",
        version: console.version,
        subcommands: [
            AdminToken.self, Backup.self, BundleCommands.self, DeviceCommands.self, EARKey.self,
            EnrollCommands.self, Forget.self, Init.self, InventoryCommands.self,
            KeysCommands.self, LicenseCommands.self, MakerCommands.self, PCRCommands.self,
            PolicyCommands.self,
            Restore.self, SecretCommands.self, Serve.self, TermsCommands.self, TrustCommands.self,
            UsageCommands.self, Verify.self,
        ])

    static func main() async { await console.runAsync(Self.self) }
}
