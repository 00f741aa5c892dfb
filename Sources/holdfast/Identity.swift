import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastDevice
import HoldfastErrors
import HoldfastFiles
import HoldfastHardware
import HoldfastProtocol

struct Identity: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Who this device is for its vendor: opaque ids and Names of keys.",
        discussion: """
            The hardware facts of the machine are shown as the vendor sees them: one opaque id for \
            each component. With --trust this is shown before the device is enrolled.
            """)

    @OptionGroup var state: StateOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The trust file of a vendor: what it would see, without an enrollment.")
    var trust: String?
    @Flag(help: "Shows serial numbers and addresses as they were read. They stay on this screen.")
    var reveal = false
    @Flag(help: "Waits, and prints which kinds of components may have changed, line by line.")
    var watch = false

    func validate() throws {
        guard !watch || (trust == nil && !reveal) else {
            throw ValidationError("--watch stands alone")
        }
    }

    func run() throws {
        guard !watch else { return try printChanges() }
        let (identity, statement) = try read()
        let survey = HardwareSurvey()
        let components = try survey.facts.map { fact in
            PrintedComponent(
                id: try fact.opaque(salt: statement.factSalt).description, kind: fact.kind.name,
                value: reveal ? fact.revealed : nil)
        }
        let absent = survey.absences.map { PrintedAbsence(kind: $0.kind.name, reason: $0.reason) }
        try console.result(
            Printed(identity, vendor: statement.vendorID, components, absent),
            text: (lines(identity, statement) + components.map(\.line) + absent.map(\.line))
                .joined(separator: "\n"), format: common.format)
    }

    /// The state directory is left before the machine is looked at.
    private func read() throws -> (DeviceIdentity?, TrustStatement) {
        if let trust {
            return (
                nil, try StateDirectory.statement(trustFile: Files.read(trust, maximum: 1 << 20))
            )
        }
        let directory = try state.open()
        let identity = try DeviceIdentity(directory)
        guard let statement = try directory.trust() else { throw NotEnrolled() }
        return (identity, statement)
    }

    private func lines(_ identity: DeviceIdentity?, _ statement: TrustStatement) -> [String] {
        guard let identity else { return ["vendor        \(hexadecimal(statement.vendorID))"] }
        return [
            "device        \(identity.device)", "vendor        \(identity.vendor)",
            "attestation   \(identity.attestationKey)", "lease parent  \(identity.leaseParent)",
            "enrollment    \(identity.incarnation.map { String($0) } ?? "not answered yet")",
        ]
    }

    private func printChanges() throws {
        let monitor = try HardwareMonitor()
        console.note("waiting for changes; end with Ctrl-C")
        while let kinds = monitor.next(quiet: HardwareMonitor.usualQuiet, stop: -1) {
            let names = kinds.sorted().map(\.name)
            try console.result(
                PrintedChange(changed: names), text: names.joined(separator: " "),
                format: common.format)
        }
    }

    private struct PrintedChange: Encodable {
        let changed: [String]
    }

    private struct PrintedComponent: Encodable {
        let id: String
        let kind: String
        let value: String?
        var line: String { "component     \(padded(kind))\(id)\(value.map { "  " + $0 } ?? "")" }
    }

    private struct PrintedAbsence: Encodable {
        let kind: String
        let reason: String
        var line: String { "no component  \(padded(kind))\(reason)" }
    }

    private struct Printed: Encodable {
        let absent: [PrintedAbsence]
        let attestationKey: String?
        let components: [PrintedComponent]
        let device: String?
        let incarnation: UInt32?
        let leaseParent: String?
        let vendor: String

        init(
            _ identity: DeviceIdentity?, vendor: VendorID, _ components: [PrintedComponent],
            _ absent: [PrintedAbsence]
        ) {
            self.absent = absent
            attestationKey = identity?.attestationKey
            self.components = components
            device = identity?.device
            incarnation = identity?.incarnation
            leaseParent = identity?.leaseParent
            self.vendor = hexadecimal(vendor)
        }
    }
}

/// The ids of this machine's components for a vendor.
func componentIDs(salt: [UInt8]) throws -> [HardwareFact] {
    try HardwareSurvey().opaque(salt: salt)
}

private func padded(_ kind: String) -> String {
    kind + String(repeating: " ", count: max(1, 11 - kind.count))
}

private func hexadecimal(_ vendor: VendorID) -> String { Hex.encode(vendor.bytes) }
