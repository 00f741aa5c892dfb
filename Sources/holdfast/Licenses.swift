import ArgumentParser
import Foundation
import HoldfastConsole
import HoldfastCrypto
import HoldfastDevice
import HoldfastErrors
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastSync
import HoldfastTPM
import HoldfastTPMWire

/// What a command about licenses needs.
struct DeviceOptions: ParsableArguments {
    @OptionGroup var tpm: TPMOptions
    @OptionGroup var state: StateOptions
    @OptionGroup var log: EventLogOptions
    @OptionGroup var common: CommonOptions

    /// Lends the enrolled device.
    ///
    /// - Parameters:
    ///   - absent: go on without a TPM that is not there: what a license means then is known.
    ///   - list: the kernel's measurement list, when a policy asks for it.
    func with<R>(
        absent: Bool = false, list: String = MeasurementSources.kernel.measurementList,
        _ body: (EnrolledDevice) throws -> R
    ) throws -> R {
        let directory = try state.open()
        let connection: TPMConnection
        do { connection = try tpm.connect() } catch let error as TPMError
            where absent && error.code == .unreachable
        {
            connection = TPMConnection(AbsentTransport(error), random: .system)
        }
        defer { connection.close() }
        var device = try EnrolledDevice(directory, tpm: connection, random: .system)
        device.sources = MeasurementSources(eventLog: log.path, measurementList: list)
        device.remembersBoot = true
        return try body(device)
    }
}

/// Where the system keeps what a vendor's policy may ask for besides the boot event log.
struct MeasurementOptions: ParsableArguments {
    @Option(help: "The kernel's measurement list, when a policy asks for it.")
    var imaLog = MeasurementSources.kernel.measurementList
}

/// A license as `status` and `license` show it.
struct PrintedLicense: Encodable {
    let advice: String?
    let code: String
    let entitlements: [String]
    let flags: [LicenseFlag]
    let lease: UInt32
    let license: String
    let limits: [PrintedLimit]
    let message: String
    let mode: LicenseMode
    let next: LicenseStanding.NextChange?
    let product: String
    let state: LicenseState
    let terms: String
    let termsToCome: [PrintedAnnouncement]
    let termsVersion: UInt32
    let until: UInt64

    init(_ standing: LicenseStanding) {
        let told = standing.explanation
        let license = standing.document.license
        advice = told.advice
        code = told.code
        entitlements = license.entitlements.map { entitlement in
            entitlement.name + (entitlement.limit.map { "=\($0)" } ?? "")
        }
        flags = standing.flags
        lease = standing.document.statement.serial
        self.license = license.id.description
        limits = standing.allowances.sorted { $0.key < $1.key }.map(PrintedLimit.init)
        message = told.message
        mode = standing.mode
        next = standing.next
        product = license.product
        state = standing.state
        terms = license.terms
        termsToCome = standing.announced.map {
            PrintedAnnouncement($0, now: standing.document.terms)
        }
        termsVersion = license.termsVersion
        until = license.endsAt
    }

    /// - Parameter clock: the TPM's, to say how much running time is left.
    func text(clock: UInt64?) -> String {
        let marks = ([mode == .locked ? "LOCKED" : nil] + flags.map { $0.rawValue })
            .compactMap { $0 }
        var lines = [
            "license   \(license), \(product), lease \(lease), until \(date(until))",
            "state     \(state.rawValue)"
                + (marks.isEmpty ? "" : " (\(marks.joined(separator: ", ")))"),
            "          \(message)",
        ]
        if let next {
            let left = clock.map { next.atTicks > $0 ? next.atTicks - $0 : 0 }
            let when = left.map { " after \(running($0)) more of running" } ?? ""
            lines.append(
                "next      \(next.state.rawValue)\(when), not before \(date(next.notBefore)): \(next.why)"
            )
        }
        lines += limits.map { "limit     \($0.text)" }
        for terms in termsToCome {
            lines.append(
                "terms     \(self.terms) \(terms.version) comes with the first renewal after \(date(terms.notBefore)), in place of version \(termsVersion)"
            )
            lines += terms.changes.map { "          \($0)" }
        }
        if let advice { lines.append("to do     \(advice)") }
        return lines.joined(separator: "\n")
    }
}

/// How much of an entitlement with a limit was used.
struct PrintedLimit: Encodable {
    let entitlement: String
    let limit: UInt64
    /// Absent when the ledger that counted is lost.
    let used: UInt64?

    init(_ name: String, _ allowance: Allowance) {
        entitlement = name
        limit = allowance.limit
        used = allowance.used
    }

    var text: String {
        let count =
            used.map { "\($0) of \(limit) used" } ?? "nobody knows how much of \(limit) was used"
        return "\(entitlement): \(count)"
    }
}

/// Newer terms that a vendor announced.
struct PrintedAnnouncement: Encodable {
    /// What becomes different, in plain words.
    let changes: [String]
    let notBefore: UInt64
    let version: UInt32

    init(_ announced: AnnouncedTerms, now: Terms) {
        changes = now.differences(to: announced.terms).map(\.text)
        notBefore = announced.migration.notBefore
        version = announced.migration.to
    }
}

/// A date for a person.
func date(_ seconds: UInt64) -> String {
    Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
}

/// Milliseconds of running time for a person.
private func running(_ ticks: UInt64) -> String {
    let minutes = ticks / 60_000
    switch minutes {
    case 0: return "\(ticks / 1000) seconds"
    case 1..<120: return "\(minutes) minutes"
    case 120..<2880: return "\(minutes / 60) hours"
    default: return "\(minutes / 1440) days"
    }
}

struct LicenseCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "license", abstract: "The licenses on this device.",
        subcommands: [LicenseInstall.self, LicenseShow.self, LicenseTerms.self])
}

struct LicenseInstall: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install", abstract: "Installs a file of the vendor: licenses and approvals.",
        discussion: """
            The file is verified as a whole before anything is changed. An older lease stays until \
            the new one has opened once. The same as `bundle import`.
            """)

    @OptionGroup var device: DeviceOptions
    @Argument(help: "What the vendor made for this device.") var file: String

    func run() throws {
        try install(file, device)
    }
}

/// What came of evidence, for the person at the device.
func told(_ outcome: ReplyOutcome) -> String {
    switch outcome {
    case .accepted: "the vendor has accepted the evidence"
    case .pendingDevice: "the vendor has to admit this device first"
    case .pendingBootState:
        "the vendor has not approved this boot state yet; usage is settled, and licenses are renewed once it has"
    case .pendingPolicy:
        "POLICY_NOT_MET: what this device shows of its boot or its programs does not meet the vendor's policy; nothing is settled or renewed until it does. Ask the vendor, who sees why"
    case .stale: "the evidence was too old; make new evidence: holdfast bundle export FILE"
    case .refused: "the vendor has refused the evidence; ask the vendor why"
    }
}

/// Takes a reply in and says what it brought.
func install(_ file: String, _ device: DeviceOptions) throws {
    let bytes = try Files.read(file, maximum: Container.maximumSize)
    try show(device.with { try $0.apply(reply: bytes) }, device)
}

/// Says what a reply brought, and ends with the right exit code.
func show(_ applied: EnrolledDevice.Applied, _ device: DeviceOptions) throws {
    let licenses = applied.standings.map(PrintedLicense.init)
    try console.result(
        PrintedReply(
            approvals: applied.approvals, changes: applied.changes, licenses: licenses,
            outcome: applied.outcome.rawValue),
        text: ([told(applied.outcome)] + applied.changes.map { "changed   \($0.text)" }
            + licenses.map { $0.text(clock: nil) })
            .joined(separator: "\n"), format: device.common.format)
    if let problem = applied.ledgerProblem {
        console.note("\(problem.explanation)\nhint: \(problem.remedy ?? "")")
        throw ExitCode(problem.exitStatus.rawValue)
    }
    if [.refused, .stale, .pendingPolicy].contains(applied.outcome) {
        throw ExitCode(ExitStatus.refused.rawValue)
    }
}

private struct PrintedReply: Encodable {
    let approvals: Int
    let changes: [LicenseChange]
    let licenses: [PrintedLicense]
    let outcome: String
}

struct LicenseShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "What the licenses on this device grant.")

    @OptionGroup var device: DeviceOptions

    func run() throws {
        let licenses = try device.with { try $0.standings() }.map(PrintedLicense.init)
        let lines = licenses.map { license in
            license.text(clock: nil) + "\ngrants    " + license.entitlements.joined(separator: ", ")
        }
        try console.result(
            licenses,
            text: lines.isEmpty ? "no license" : lines.joined(separator: "\n\n"),
            format: device.common.format)
    }
}

struct LicenseTerms: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "terms",
        abstract: "The rules of the licenses on this device, in plain words, and those to come.")

    @OptionGroup var device: DeviceOptions

    func run() throws {
        let standings = try device.with(absent: true) { try $0.standings() }
        let printed = standings.map { standing in
            Printed(
                license: standing.document.license.id.description,
                text: standing.document.terms.plainText,
                toCome: standing.announced.map {
                    .init(notBefore: $0.migration.notBefore, text: $0.terms.plainText)
                })
        }
        let lines = printed.map { one in
            (["license \(one.license)", one.text]
                + one.toCome.map {
                    "With the first renewal after \(date($0.notBefore)):\n\($0.text)"
                }).joined(separator: "\n")
        }
        try console.result(
            printed, text: lines.isEmpty ? "no license" : lines.joined(separator: "\n\n"),
            format: device.common.format)
    }

    private struct Printed: Encodable {
        let license: String
        let text: String
        let toCome: [Coming]
        struct Coming: Encodable {
            let notBefore: UInt64
            let text: String
        }
    }
}

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Where this device stands, what changes next, and what to do.")

    @OptionGroup var device: DeviceOptions

    func run() throws {
        let found = try device.with(absent: true) { enrolled in
            do { try enrolled.demandTermsToCome() } catch {
                console.note(
                    "`terms-to-come` in the state directory was changed; no decision needs it, and the next renewal brings it again"
                )
            }
            let standings = try enrolled.standings()
            // A full disk keeps nobody from seeing where he stands.
            _ = enrolled.note(standings)
            let isOther = standings.contains { $0.flags.contains(.bootChanged) }
            return (
                enrolled.statement, standings, enrolled.clock(), try enrolled.time(),
                isOther ? try enrolled.bootChanges() : []
            )
        }
        let licenses = found.1.map(PrintedLicense.init)
        var lines = ["device    \(found.0.pairwiseID), enrollment \(found.0.incarnation)"]
        if let estimate = found.3 { lines.append(time(estimate)) }
        if licenses.isEmpty {
            lines.append("no license; install one with `holdfast license install FILE`")
        }
        lines += licenses.map { $0.text(clock: found.2) }
        for change in found.4 {
            lines += ["boot      \(change.text)", "to do     \(change.cause.advice)"]
        }
        if !found.4.isEmpty {
            lines.append(
                "          if nobody changed anything, treat this machine as tampered with")
        }
        try console.result(
            Printed(
                boot: found.4.map(PrintedBootChange.init), clockTicks: found.2,
                device: found.0.pairwiseID.description,
                enrollment: found.0.incarnation, licenses: licenses, serverTime: found.3),
            text: lines.joined(separator: "\n"), format: device.common.format)
    }

    private struct Printed: Encodable {
        let boot: [PrintedBootChange]
        let clockTicks: UInt64?
        let device: String
        let enrollment: UInt32
        let licenses: [PrintedLicense]
        let serverTime: TimeEstimate?
    }

    private func time(_ estimate: TimeEstimate) -> String {
        let until = estimate.notAfter.map { "not after \(date($0))" } ?? "no later bound"
        return "time      not before \(date(estimate.notBefore)), \(until); it decides nothing"
    }
}

struct ChangeLog: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "change-log", abstract: "What became different on this device, and why.",
        discussion: "Times are those of what the vendor's server signed last, not of a wall clock.")

    @OptionGroup var device: DeviceOptions
    @Option(help: "How many of the newest are shown.") var limit = 50

    func run() throws {
        guard limit > 0 else { throw ValidationError("--limit takes a number above 0") }
        let changes = try device.with(absent: true) { try $0.changes(limit: limit) }
        try console.result(
            changes,
            text: changes.isEmpty
                ? "nothing has changed yet"
                : changes.reversed().map { "\(date($0.at))  \($0.text)" }.joined(separator: "\n"),
            format: device.common.format)
    }
}

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Whether an entitlement may be used now; exits with 0 or 2.",
        discussion: "The decision follows from signed documents and the TPM; no wall clock is read."
    )

    @OptionGroup var device: DeviceOptions
    @Argument(help: "The entitlement, for example `core`.") var entitlement: String

    func run() throws {
        let decision: Decision
        do {
            decision = try device.with(absent: true) { try $0.decide(entitlement) }
        } catch let error as any OperatorError where error.stableCode == "UNENROLLED" {
            decision = Decision(entitlement, standings: [], isEnrolled: false, isRetired: false)
        }
        try show(decision, device.common.format)
    }
}

/// Says a decision, and ends with its exit code.
func show(_ decision: Decision, _ format: OutputFormat) throws {
    let flags = decision.flags.map { " \($0.rawValue)" }.joined()
    var lines = [
        "\(decision.allowed ? "allowed" : "refused")  \(decision.entitlement)",
        "state    \(decision.state.rawValue) \(decision.mode.rawValue)\(flags)",
        "because  \(decision.message)",
    ]
    if let next = decision.next {
        lines.append(
            "next     \(next.state.rawValue), not before \(date(next.notBefore)): \(next.why)")
    }
    if let advice = decision.advice { lines.append("to do    \(advice)") }
    try console.result(
        decision, text: lines.joined(separator: "\n"), format: format)
    if !decision.allowed { throw ExitCode(ExitStatus.refused.rawValue) }
}

struct Approve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Installs a vendor's approval of a boot state.")

    @OptionGroup var device: DeviceOptions
    @Argument(help: "What `holdfast-server pcr approve` wrote.") var file: String

    func run() throws {
        let bytes = try Files.read(file, maximum: Container.maximumSize)
        let (references, fitting) = try device.with { enrolled in
            let installed = try enrolled.install(approval: bytes)
            return (
                installed.map(\.reference),
                try installed.reduce(0) { try $0 + enrolled.leases(takenBy: $1) }
            )
        }
        if fitting == 0 {
            console.note(
                "no lease on this device was issued for that product, scope and generation; the next renewal will be"
            )
        }
        let lines = references.map { reference in
            "installed: \(reference.selection.text) for \(reference.scope.text), generation \(reference.generation), \(reference.role.text)"
        }
        try console.result(
            references.map { reference in
                Printed(
                    generation: reference.generation, pcrs: reference.selection.text,
                    role: reference.role.text, scope: reference.scope.text)
            }, text: lines.joined(separator: "\n"), format: device.common.format)
    }

    private struct Printed: Encodable {
        let generation: UInt32
        let pcrs: String
        let role: String
        let scope: String
    }
}

struct Retire: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Gives the enrollment up: no lease of it opens again.",
        discussion:
            "Raises the epoch counter in the TPM for good, and writes the proof for the vendor.")

    @OptionGroup var device: DeviceOptions
    @Flag(help: "Without it nothing is done.") var yes = false
    @Flag(help: "Give up usage that the vendor has not settled.") var discardUsage = false
    @Option(help: "Where the proof for the vendor goes.") var out: String?

    func validate() throws {
        guard yes else {
            throw ValidationError(
                "this cannot be undone: every license on this device ends; say --yes")
        }
    }

    func run() throws {
        let proof = try device.with { try $0.retire(discarding: discardUsage) }.encoded
        if let out { try Files.write(proof, to: out, mode: 0o644) }
        try console.result(
            ["proof": out ?? ""],
            text: out.map {
                "retired; take `\($0)` to the vendor: holdfast-server bundle process \($0) OUT"
            }
                ?? "retired; the proof for the vendor is written by `holdfast retire --yes --out FILE`",
            format: device.common.format)
    }
}

struct Sync: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Settles usage and renews licenses over the network.",
        discussion: "The same bytes as `bundle export` and `bundle import`, carried by HTTPS.")

    @OptionGroup var device: DeviceOptions
    @OptionGroup var measurements: MeasurementOptions
    @Option(help: "https://…; the server of the trust file without it.") var server: String?
    @Flag(help: "Prints what would be sent, and sends nothing.") var dryRun = false

    private struct Section: Encodable {
        let bytes: Int
        let content: String
        let section: String
    }

    func run() throws {
        guard !dryRun else { return try preview() }
        let applied = try Exchange.sync(url: server) { body in
            try device.with(list: measurements.imaLog, body)
        }
        try show(applied, device)
    }
}

extension Sync {
    /// The payload as it would be, before it is sealed to the server.
    private func preview() throws {
        let preview = try device.with(list: measurements.imaLog) {
            try $0.previewEvidence()
        }
        let sections = preview.map { part in
            Section(
                bytes: part.bytes.count, content: Hex.encode(part.bytes), section: part.section)
        }
        let lines = sections.map { section in
            let shown = section.content.prefix(48)
            return section.section.padding(toLength: 26, withPad: " ", startingAt: 0)
                + String(section.bytes).padding(toLength: 6, withPad: " ", startingAt: 0)
                + shown + (shown.count < section.content.count ? "…" : "")
        }
        let total = sections.map(\.bytes).reduce(0, +)
        try console.result(
            sections,
            text: (["\(total) bytes in \(sections.count) sections, sealed to the vendor's server"]
                + lines).joined(separator: "\n"), format: device.common.format)
    }
}

struct BundleCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle", abstract: "Files to the vendor and back.",
        subcommands: [BundleExport.self, BundleImport.self])
}

struct BundleExport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Writes evidence of this device's state for the vendor.")

    @OptionGroup var device: DeviceOptions
    @OptionGroup var measurements: MeasurementOptions
    @Argument(help: "Where it goes.") var file: String

    func run() throws {
        let bytes = try device.with(list: measurements.imaLog) {
            try $0.makeEvidence(recollecting: true)
        }.encoded
        try Files.write(bytes, to: file, mode: 0o644)
        try console.result(
            Printed(bytes: bytes.count, file: file),
            text:
                "take `\(file)` (\(bytes.count) bytes) to the vendor: holdfast-server bundle process \(file) REPLY",
            format: device.common.format)
    }

    private struct Printed: Encodable {
        let bytes: Int
        let file: String
    }
}

struct BundleImport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Takes the vendor's reply in; as `license install`.")

    @OptionGroup var device: DeviceOptions
    @Argument(help: "What the vendor answered.") var file: String

    func run() throws { try install(file, device) }
}
