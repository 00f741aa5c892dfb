import ArgumentParser
import HoldfastConsole
import HoldfastFiles
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPMWire

/// Which machine.
struct MachineOptions: ParsableArguments {
    @Argument(help: "The machine's directory.", completion: .directory) var directory: String
    @OptionGroup var common: CommonOptions

    func machine() throws -> SoftwareMachine {
        try SoftwareMachine(directory: Files.absolutePath(directory))
    }

    func report(_ action: String, _ machine: SoftwareMachine) throws {
        try console.result(
            Outcome(
                action: action, directory: machine.path, ekRoots: machine.rootsPath,
                softwareTPM: true, tcti: "unix:\(machine.socketPath)"),
            text: "software TPM \(action): unix:\(machine.socketPath)", format: common.format)
    }

    private struct Outcome: Encodable {
        let action: String
        let directory: String
        let ekRoots: String
        let softwareTPM: Bool
        let tcti: String
    }
}

/// What the machine measures when it boots.
struct BootOptions: ParsableArguments {
    @Option(help: "A TCG event log that the boot follows; without one, a fixed documented set.")
    var eventLog: String?
    @Option(
        name: .customLong("extend"), parsing: .singleValue,
        help: "Then extend a PCR with data: PCR=HEX. May be given again.")
    var extensions: [String] = []

    func boot() throws -> SoftwareBoot {
        var boot = SoftwareBoot.documented
        if let eventLog {
            let bytes = try Files.read(eventLog, maximum: EventLog.maximumSize)
            boot = try SoftwareBoot(replaying: EventLog(parsing: bytes))
        }
        return boot.adding(
            try extensions.map { text in
                let parts = text.split(separator: "=", omittingEmptySubsequences: false)
                guard parts.count == 2, let number = UInt8(parts[0]),
                    let index = PCRIndex(rawValue: number),
                    let data = bytes(hexadecimal: String(parts[1]))
                else { throw ValidationError("--extend takes PCR=HEX, for example 7=00ff") }
                return SoftwareBoot.Measurement(data, into: index)
            })
    }
}

struct Start: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Switches it on; the first start makes the TPM, with EK certificates.")
    @OptionGroup var options: MachineOptions
    @OptionGroup var boot: BootOptions
    @Option(help: "A certificate authority that several machines share.") var ca: String?

    func run() throws {
        let machine = try options.machine()
        let measured = try boot.boot()
        try machine.powerOn(measured, ca: try ca.map(Files.absolutePath), random: .system)
        try options.report("started", machine)
    }
}

struct Reboot: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shuts down in order and boots again.")
    @OptionGroup var options: MachineOptions
    @OptionGroup var boot: BootOptions

    func run() throws {
        let machine = try options.machine()
        let measured = try boot.boot()
        try machine.powerOff(random: .system)
        try machine.powerOn(measured, ca: nil, random: .system)
        try options.report("rebooted", machine)
    }
}

struct Cut: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Cuts the power: the TPM has no time for anything.")
    @OptionGroup var options: MachineOptions

    func run() throws {
        let machine = try options.machine()
        try machine.kill()
        try options.report("cut", machine)
    }
}

struct Stop: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shuts down in order.")
    @OptionGroup var options: MachineOptions

    func run() throws {
        let machine = try options.machine()
        try machine.powerOff(random: .system)
        try options.report("stopped", machine)
    }
}
