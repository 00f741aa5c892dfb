import ArgumentParser
import HoldfastConsole
import HoldfastErrors
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices

/// The most bytes of a file that a device wrote.
private let maximumEnvelope = Container.maximumSize + 4096

struct EnrollCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "enroll", abstract: "Enrolls devices.", subcommands: [EnrollProcess.self])
}

struct EnrollProcess: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "process", abstract: "Checks an enrollment request and answers it, by file.",
        discussion: """
            The record is unproven until evidence comes back: see `bundle process`. The same \
            request gets the same response.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "What `holdfast enroll --request-out` wrote.") var request: String
    @Option(help: "Where the response for the device goes.") var out: String

    mutating func run() async throws {
        let outcome = try await data.service().enroll(
            Files.read(request, maximum: maximumEnvelope))
        try Files.write(outcome.response, to: out, mode: 0o644)
        try console.result(
            Printed(
                device: outcome.device, incarnation: outcome.incarnation,
                repeated: outcome.isRepeated, response: out),
            text: """
                device      \(outcome.device)
                enrollment  \(outcome.incarnation)\(outcome.isRepeated ? " (answered before)" : "")
                take `\(out)` to the device: holdfast enroll --response-in \(out) --evidence-out FILE
                """, format: common.format)
    }

    private struct Printed: Encodable {
        let device: String
        let incarnation: UInt32
        let repeated: Bool
        let response: String
    }
}

struct BundleCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle", abstract: "Processes what devices write.",
        subcommands: [BundleProcess.self])
}

struct BundleProcess: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "process", abstract: "Processes any file that a device wrote.",
        discussion: """
            Evidence is appraised, and every license of the device gets its next lease when an \
            approval covers the boot state. A retirement ends the enrollment. The same file gets \
            the same reply.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "The file.") var input: String
    @Argument(help: "Where the reply for the device goes.") var output: String

    func run() throws {
        let outcome = try data.service().process(Files.read(input, maximum: maximumEnvelope))
        if let reply = outcome.reply { try Files.write(reply, to: output, mode: 0o644) }
        let notes = outcome.notes.map { "note     \($0)\n" }.joined()
        let next =
            outcome.reply == nil
            ? "there is nothing to take back to the device"
            : "take `\(output)` to the device: holdfast bundle import \(output)"
        try console.result(
            Printed(
                device: outcome.device, notes: outcome.notes, outcome: outcome.outcome.rawValue,
                repeated: outcome.isRepeated, reply: outcome.reply == nil ? nil : output),
            text: """
                device   \(outcome.device)
                outcome  \(outcome.outcome.rawValue)\(outcome.isRepeated ? " (processed before)" : "")
                \(notes)\(next)
                """, format: common.format)
        if [.refused, .stale, .pendingPolicy].contains(outcome.outcome) {
            throw ExitCode(ExitStatus.refused.rawValue)
        }
    }

    private struct Printed: Encodable {
        let device: String
        let notes: [String]
        let outcome: String
        let repeated: Bool
        let reply: String?
    }
}

struct MakerCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ek-roots", abstract: "TPM makers whose certificates are trusted.",
        subcommands: [MakerAdd.self])
}

struct MakerAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Trusts the certificates of a directory as well.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "With *.pem, *.crt, *.cer or *.der.", completion: .directory)
    var directory: String

    func run() throws {
        let keys = try data.keys()
        _ = try keys.trust()
        let added = try keys.trustMakers(in: directory)
        try console.result(["added": added], text: "added \(added)", format: common.format)
    }
}

struct InventoryCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inventory", abstract: "Endorsement keys whose devices nobody has to admit.",
        subcommands: [InventoryAdd.self])
}

struct InventoryAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Lists endorsement keys; only a keyed hash is kept.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "SHA-256 of the key's public area (TPMT_PUBLIC), in hexadecimal.")
    var hashes: [String]

    func run() throws {
        let added = try data.service().addToInventory(hashes)
        try console.result(["added": added], text: "added \(added)", format: common.format)
    }
}
