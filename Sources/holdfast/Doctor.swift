import ArgumentParser
import HoldfastConsole
import HoldfastDevice
import HoldfastErrors
import HoldfastHardware
import HoldfastProtocol
import HoldfastTPM
import HoldfastTPMWire

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What is here, what is missing, what to do. Prints no secrets.")

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var state: StateOptions
    @OptionGroup var log: EventLogOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let connection = try tpm.connect()
        defer { connection.close() }
        let record = BootRecord.read(inStateDirectory: try state.path())
        let path = log.path
        let (report, changes) = try connection.transaction { (tpm) throws(TPMError) in
            (try tpm.report(), try record?.changes(on: tpm, eventLog: path) ?? [])
        }
        try show(
            report.adding(HardwareSurvey().findings).adding(BootRecord.findings(changes)))
    }

    private func show(_ report: TPMReport) throws {
        let lines = report.findings.map { finding in
            let mark =
                switch finding.level {
                case .ok: "ok      "
                case .warning: "warning "
                case .missing: "MISSING "
                }
            return mark + finding.text + (finding.hint.map { "\n        hint: \($0)" } ?? "")
        }
        try console.result(report, text: lines.joined(separator: "\n"), format: common.format)
        if !report.isUsable { throw ExitCode(ExitStatus.refused.rawValue) }
    }
}

extension HardwareSurvey {
    /// Which facts there are; without their values.
    fileprivate var findings: [TPMReport.Finding] {
        let counts = Dictionary(grouping: facts, by: \.kind).mapValues(\.count)
        return ComponentKind.allCases.map { kind in
            let id = "fact-\(kind.name)"
            if let count = counts[kind] {
                return .init(
                    id: id, level: .ok,
                    text: "hardware fact \(kind.name)\(count == 1 ? "" : ", \(count) of them")",
                    hint: nil)
            }
            let reason = absences.first { $0.kind == kind }?.reason ?? "not found"
            return .init(
                id: id, level: .warning, text: "no hardware fact \(kind.name): \(reason)",
                hint:
                    "licenses work without it; a new TPM in this machine is less easily recognized")
        }
    }
}
