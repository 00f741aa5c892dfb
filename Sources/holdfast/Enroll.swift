import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastSync
import HoldfastTPM

/// Where the device keeps what it knows.
struct StateOptions: ParsableArguments {
    @Option(
        help: "The state directory. HOLDFAST_STATE is the default, then /var/lib/holdfast.",
        completion: .directory)
    var state: String?

    func path() throws -> String {
        try Files.absolutePath(state ?? environment("HOLDFAST_STATE") ?? "/var/lib/holdfast")
    }

    func open() throws -> StateDirectory { try StateDirectory(path()) }
}

/// Where the boot event log is.
struct EventLogOptions: ParsableArguments {
    @Option(
        help: """
            The boot event log, to say what changed. HOLDFAST_EVENT_LOG is the default, then the \
            kernel's.
            """, completion: .file())
    var eventLog: String?

    var path: String {
        eventLog ?? environment("HOLDFAST_EVENT_LOG")
            ?? "/sys/kernel/security/tpm0/binary_bios_measurements"
    }
}

struct Enroll: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Enrolls this device with a vendor, by file or over the network.",
        discussion: """
            Puts a storage key and two counters of this vendor into the TPM. The request is \
            sealed to the vendor's server; the same request comes again when it is asked for \
            again. The second half opens the vendor's response with the TPM.
            """)

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var state: StateOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The vendor's trust file; with --request-out or --server.") var trust: String?
    @Option(help: "Where the request goes.") var requestOut: String?
    @Option(help: "The vendor's response: the second half.") var responseIn: String?
    @Option(help: "Where evidence over a nonce of the response goes; with --response-in.")
    var evidenceOut: String?

    @Flag(
        help:
            "Gives up what is left of an earlier enrollment that was retired or lost its keys; with --trust."
    )
    var again = false
    @Flag(help: "Gives up usage that the vendor has not settled; with --again.")
    var discardUsage = false

    @Option(help: "Enrolls over the network: https://…, or `trust` for the one in the trust file.")
    var server: String?

    func validate() throws {
        guard trust != nil || responseIn != nil else {
            throw ValidationError(
                "give --trust, with --request-out for the first half by file or with --server; --response-in for the second half"
            )
        }
        guard (trust != nil) != (responseIn != nil),
            (trust == nil) || (requestOut == nil) != (server == nil)
        else {
            throw ValidationError("give --trust with one of --request-out and --server")
        }
        guard !again || trust != nil, !discardUsage || again else {
            throw ValidationError("give --again with --trust, and --discard-usage with --again")
        }
        guard (evidenceOut == nil) == (responseIn == nil) else {
            throw ValidationError("give --response-in and --evidence-out together")
        }
    }

    func run() throws {
        let directory = try state.open()
        let connection = try tpm.connect()
        defer { connection.close() }
        let enrollment = Enrollment(
            directory, tpm: connection, random: .system, facts: componentIDs)
        if again, let place = try enrollment.startOver(discarding: discardUsage) {
            console.note("what belonged to the earlier enrollment is kept in `\(place)`")
        }
        if let trust, let requestOut {
            let bytes = try enrollment.makeRequest(trustFile: Files.read(trust, maximum: 1 << 20))
                .encoded
            try Files.write(bytes, to: requestOut, mode: 0o644)
            try console.result(
                Made(bytes: bytes.count, request: requestOut),
                text: "take `\(requestOut)` (\(bytes.count) bytes) to the vendor",
                format: common.format)
        } else if let trust, let server {
            try enroll(trust, server, directory, connection)
        } else if let responseIn {
            let statement = try enrollment.activate(
                response: Files.read(responseIn, maximum: Container.maximumSize))
            let evidence = try EnrolledDevice(directory, tpm: connection, random: .system)
                .makeEvidence(recollecting: false).encoded
            let out = evidenceOut ?? ""
            try Files.write(evidence, to: out, mode: 0o644)
            try console.result(
                Activated(
                    device: statement.pairwiseID.description, evidence: out,
                    incarnation: statement.incarnation),
                text: """
                    activated: \(statement.pairwiseID), enrollment \(statement.incarnation)
                    take `\(out)` to the vendor: holdfast-server bundle process \(out) REPLY
                    """, format: common.format)
        }
    }

    /// Both halves and the first evidence, over the network.
    private func enroll(
        _ trust: String, _ server: String, _ directory: StateDirectory,
        _ connection: TPMConnection
    ) throws {
        let (device, applied) = try Exchange.enroll(
            trustFile: Files.read(trust, maximum: 1 << 20), url: server == "trust" ? nil : server,
            state: directory, tpm: connection, random: .system, facts: componentIDs)
        try console.result(
            Enrolled(
                device: device.statement.pairwiseID.description,
                incarnation: device.statement.incarnation, outcome: applied.outcome.rawValue),
            text: """
                enrolled: \(device.statement.pairwiseID), enrollment \(device.statement.incarnation)
                \(told(applied.outcome))
                """, format: common.format)
    }

    private struct Enrolled: Encodable {
        let device: String
        let incarnation: UInt32
        let outcome: String
    }

    private struct Made: Encodable {
        let bytes: Int
        let request: String
    }

    private struct Activated: Encodable {
        let device: String
        let evidence: String
        let incarnation: UInt32
    }
}

struct TrustCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trust", abstract: "What this device knows of its vendor.",
        subcommands: [TrustInstall.self])
}

struct TrustInstall: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install", abstract: "Takes a newer trust file of the same vendor.",
        discussion: "An older one, and one that another root key signed, is refused.")

    @OptionGroup var state: StateOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "What `holdfast-server trust update` wrote.") var file: String

    private struct Installed: Encodable {
        let sequence: UInt64
        let changes: [LicenseChange]
        let urls: [String]
    }

    func run() throws {
        let directory = try state.open()
        // The first one is taken at enrollment, where it says whom to enroll with.
        guard try directory.trust() != nil else { throw NotEnrolled() }
        let (statement, changes) = try directory.install(
            trust: Files.read(file, maximum: 1 << 20), random: .system)
        try console.result(
            Installed(sequence: statement.sequence, changes: changes, urls: statement.urls),
            text: ([
                "the trust file of sequence \(statement.sequence) is in force; the vendor is at \(statement.urls.isEmpty ? "no address" : statement.urls.joined(separator: ", "))"
            ] + changes.map { "changed   \($0.text)" }).joined(separator: "\n"),
            format: common.format)
    }
}
