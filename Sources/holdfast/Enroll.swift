import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastTPM

/// Where the device keeps what it knows.
struct StateOptions: ParsableArguments {
    @Option(
        help: "The state directory. HOLDFAST_STATE is the default, then /var/lib/holdfast.",
        completion: .directory)
    var state: String?

    func open() throws -> StateDirectory {
        try StateDirectory(
            Files.absolutePath(state ?? environment("HOLDFAST_STATE") ?? "/var/lib/holdfast"))
    }
}

struct Enroll: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes the request with which a vendor enrolls this device, by file.",
        discussion: """
            Puts a storage key and two counters of this vendor into the TPM. The request is \
            sealed to the vendor's server; the same request comes again when it is asked for again.
            """)

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var state: StateOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The vendor's trust file.") var trust: String
    @Option(help: "Where the request goes.") var requestOut: String

    func run() throws {
        let trustFile = try Files.read(trust, maximum: 1 << 20)
        let directory = try state.open()
        let connection = try tpm.connect()
        defer { connection.close() }
        let envelope = try Enrollment(directory, tpm: connection, random: .system)
            .makeRequest(trustFile: trustFile)
        connection.endTransaction()
        let bytes = envelope.encoded
        try Files.write(bytes, to: requestOut, mode: 0o644)
        try console.result(
            Made(bytes: bytes.count, request: requestOut),
            text: "take `\(requestOut)` (\(bytes.count) bytes) to the vendor", format: common.format
        )
    }

    private struct Made: Encodable {
        let bytes: Int
        let request: String
    }
}

struct Identity: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Who this device is for its vendor: opaque ids and Names of keys.")

    @OptionGroup var state: StateOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let identity = try DeviceIdentity(state.open())
        try console.result(
            identity,
            text: """
                device        \(identity.device)
                vendor        \(identity.vendor)
                attestation   \(identity.attestationKey)
                lease parent  \(identity.leaseParent)
                """, format: common.format)
    }
}
