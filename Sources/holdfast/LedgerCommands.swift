import ArgumentParser
import Foundation
import HoldfastConsole
import HoldfastDevice
import HoldfastErrors
import HoldfastProtocol

/// Days since 1970 on this machine's clock: a hint in the ledger, and nothing is rated by it.
private func today() -> UInt32 { UInt32(max(0, Date().timeIntervalSince1970) / 86_400) }

/// Says what was wrong with the ledger when it was opened.
private func note(_ finding: LedgerGenesis.Cause?) {
    guard let finding else { return }
    let text =
        switch finding {
        case .rollback:
            "the TPM's counter is ahead of the ledger: an old copy was restored, or somebody else raised it"
        case .counterLost: "the TPM's counter is behind the ledger: it was lost"
        case .repair: "records were damaged; what verifies was kept"
        case .first: "the ledger begins"
        }
    console.note("\(finding): \(text); a new era has begun, and the vendor will be told")
}

/// Refuses what cannot be recorded, before anything is opened.
func demandUsage(_ meter: String, _ quantity: UInt32) throws {
    guard quantity > 0 else { throw ValidationError("--quantity is 1 or more") }
    guard License.isName(meter) else {
        throw ValidationError("a meter is 1 to 64 of a-z, 0-9, `-`, `_` and `.`")
    }
}

struct Meter: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Records that something was used; it is on the disk when this ends.")

    @OptionGroup var device: DeviceOptions
    @Argument(help: "The name of the meter, normally that of an entitlement.") var meter: String
    @Option(help: "How much, 1 to 4294967295.") var quantity: UInt32 = 1

    func validate() throws { try demandUsage(meter, quantity) }

    func run() throws {
        let (total, finding) = try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            try ledger.append(
                [
                    .init(
                        meter: meter, termsVersion: try enrolled.termsVersion(of: meter) ?? 0,
                        quantity: quantity)
                ], day: today())
            return (try ledger.totals()[meter] ?? 0, ledger.finding)
        }
        note(finding)
        try console.result(
            Printed(meter: meter, quantity: quantity, total: total),
            text: "\(meter) +\(quantity), \(total) in all", format: device.common.format)
    }

    private struct Printed: Encodable {
        let meter: String
        let quantity: UInt32
        let total: UInt64
    }
}

struct LedgerCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger", abstract: "The usage ledger of this device.",
        subcommands: [
            LedgerCheckpoint.self, LedgerRepair.self, LedgerShow.self, LedgerVerify.self,
        ])
}

struct LedgerShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "What was used so far.")

    @OptionGroup var device: DeviceOptions

    func run() throws {
        let (totals, head, finding) = try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            return (try ledger.totals(), try ledger.store.head(), ledger.finding)
        }
        note(finding)
        var lines = [
            "era       \(head?.era.map(String.init) ?? "not sealed yet") (\(head.map { $0.genesis.cause.description } ?? "none"))",
            "records   \(head?.frontier.end ?? 0)",
        ]
        lines += totals.sorted { $0.key < $1.key }.map { "used      \($0.key) \($0.value)" }
        try console.result(
            Printed(
                cause: head.map { $0.genesis.cause.description }, era: head?.era,
                records: head?.frontier.end ?? 0, totals: totals),
            text: lines.joined(separator: "\n"), format: device.common.format)
    }

    private struct Printed: Encodable {
        let cause: String?
        let era: UInt64?
        let records: UInt64
        let totals: [String: UInt64]
    }
}

struct LedgerCheckpoint: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint", abstract: "Lets the TPM seal what was recorded so far.")

    @OptionGroup var device: DeviceOptions

    func run() throws {
        let (made, finding) = try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            return (try ledger.checkpoint().checkpoint, ledger.finding)
        }
        note(finding)
        try console.result(
            Printed(
                counter: made.counter, era: made.era, grade: made.grade.description,
                records: made.size),
            text: "sealed \(made.size) records at step \(made.counter), \(made.grade)",
            format: device.common.format)
    }

    private struct Printed: Encodable {
        let counter: UInt64
        let era: UInt64
        let grade: String
        let records: UInt64
    }
}

struct LedgerRepair: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "repair",
        abstract: "Begins a new era after the last seal of a damaged ledger.",
        discussion: """
            What the TPM sealed is counted on from, and what can be read after that is taken over. \
            Nothing is deleted. The vendor is told with the next evidence, and decides.
            """)

    @OptionGroup var device: DeviceOptions

    private struct Printed: Encodable {
        let code: String?
        let kept: UInt64
        let lost: UInt64
        let sealed: UInt64
        let setAside: String?
    }

    func run() throws {
        let repaired = try device.with { try $0.repairLedger() }
        guard let repaired else {
            return try console.result(
                Printed(code: nil, kept: 0, lost: 0, sealed: 0, setAside: nil),
                text: "nothing is damaged", format: device.common.format)
        }
        let kept =
            repaired.setAside.map { "the file was no ledger any more; it is kept as \($0)" }
            ?? "\(counted(repaired.sealed, "record")) were sealed, and the vendor decides on what it has not settled of them; \(counted(repaired.kept, "record")) after the last seal were taken over, \(repaired.lost) cannot be read"
        try console.result(
            Printed(
                code: repaired.code, kept: repaired.kept, lost: repaired.lost,
                sealed: repaired.sealed, setAside: repaired.setAside),
            text:
                "\(repaired.code): a new era has begun\n\(kept)\ntell the vendor: holdfast sync, or holdfast bundle export FILE",
            format: device.common.format)
    }
}

struct LedgerVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Compares every record with what the TPM sealed, and the ledger with its counter."
    )

    @OptionGroup var device: DeviceOptions

    func run() throws {
        let (verified, finding) = try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            return (try ledger.verify(), ledger.finding)
        }
        note(finding)
        try console.result(
            Printed(
                checkpoints: verified.checkpoints, eras: verified.eras,
                records: verified.records),
            text:
                "what the TPM sealed holds: \(counted(verified.records, "record")) in \(counted(verified.eras, "era")), \(counted(verified.checkpoints, "checkpoint"))",
            format: device.common.format)
        if finding != nil { throw ExitCode(ExitStatus.refused.rawValue) }
    }

    private struct Printed: Encodable {
        let checkpoints: Int
        let eras: Int
        let records: UInt64
    }
}

/// A number with its noun.
private func counted(_ number: some BinaryInteger, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
}
