import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastTCTI
import HoldfastTPM

let console = Console(program: "holdfast")

@main
struct Holdfast: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast",
        abstract: "Licenses that only this machine's TPM opens.", version: console.version,
        subcommands: [
            Approve.self, BundleCommands.self, ChangeLog.self, Check.self, Doctor.self, Enroll.self,
            Explain.self, Identity.self,
            LedgerCommands.self, LicenseCommands.self, Meter.self, QuoteCommandLine.self,
            Retire.self, Seal.self, Status.self, Sync.self,
            TestCommands.self, TrustCommands.self, Unseal.self,
        ])

    static func main() {
        forbidCoreDumps()
        silenceTSSLog()
        console.run(Self.self)
    }
}

/// Where the TPM is.
struct TPMOptions: ParsableArguments {
    @Option(
        help: """
            The TPM: `device:/dev/tpmrm0` and what else tctildr takes, or `unix:PATH` for the \
            socket of a software TPM. HOLDFAST_TCTI is the default, then `device:/dev/tpmrm0`.
            """)
    var tcti: String?

    func connect() throws -> TPMConnection {
        let configuration = tcti ?? environment("HOLDFAST_TCTI") ?? "device:/dev/tpmrm0"
        return TPMConnection(
            InterruptibleTransport(try openTransport(configuration)), random: .system)
    }
}
