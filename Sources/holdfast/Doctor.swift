import ArgumentParser
import HoldfastConsole
import HoldfastErrors
import HoldfastTPM

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What is here, what is missing, what to do. Prints no secrets.")

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let connection = try tpm.connect()
        defer { connection.close() }
        let report = try connection.transaction { (tpm) throws(TPMError) in try tpm.report() }
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
