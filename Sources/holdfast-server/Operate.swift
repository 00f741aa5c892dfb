import ArgumentParser
import Foundation
import HoldfastAttestation
import HoldfastConsole
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastTPMWire

struct DeviceCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device", abstract: "The devices of this vendor.",
        subcommands: [DeviceApprove.self, DeviceList.self, DeviceShow.self])
}

struct DeviceList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Every enrollment, in the order in which they came.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let reports = try data.service().devices()
        let lines = reports.map { report in
            let evidence =
                report.evidence.map {
                    ($0.passed ? "evidence of " : "evidence REFUSED ") + date($0.receivedAt)
                } ?? "no evidence"
            return
                "\(report.device)  #\(report.incarnation)  \(report.state.rawValue)  \(report.model ?? "-")  \(evidence)"
        }
        try console.result(
            reports, text: lines.isEmpty ? "no device" : lines.joined(separator: "\n"),
            format: common.format)
    }
}

struct DeviceShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "A device: its evidence, its licenses, and why.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "`dev_…`, or enough of it.") var device: String

    func run() throws {
        guard let report = try data.service().devices(device).first else { return }
        var lines = [
            "device      \(report.device)",
            "enrollment  \(report.incarnation), \(report.state.rawValue), \(date(report.enrolledAt))",
            "model       \(report.model ?? "none")", "TPM         \(report.tpm)",
        ]
        if let evidence = report.evidence {
            lines.append(
                "evidence    \(evidence.passed ? "passed" : "REFUSED"), \(date(evidence.receivedAt)), \(evidence.appraisal)"
            )
            lines.append(
                "clock       \(evidence.clockTicks) ms, \(evidence.resetCount) resets, \(evidence.restartCount) restarts"
                    + (evidence.clockSafe ? "" : ", not safe")
            )
            lines += evidence.firmware.map { ["firmware    \($0)"] } ?? []
            lines += evidence.notes.map { "note        \($0)" }
            if let policy = evidence.policy {
                lines.append(
                    "policy      \(policy.name): \(policy.isMet ? "met" : "NOT MET")")
                lines += policy.refusals.map { "because     \($0)" }
            }
            for (bank, values) in evidence.pcrs.sorted(by: { $0.key < $1.key }) {
                for (index, value) in values.sorted(by: { Int($0.key) ?? 0 < Int($1.key) ?? 0 }) {
                    lines.append("PCR \(index)       \(bank) \(value)")
                }
            }
        } else {
            lines.append("evidence    none yet")
        }
        lines += report.hardware.map { "component   \($0.kind) \($0.id)" }
        if !report.hardwareDrift.isEmpty {
            lines.append(
                "HW_DRIFT    \(report.hardwareDrift.joined(separator: ", ")): not as when this TPM enrolled before"
            )
        }
        for license in report.licenses {
            let lease = license.leaseEndsAt.map { "lease \(license.serial) until \(date($0))" }
            lines.append(
                "license     \(license.license), \(license.product), until \(date(license.endsAt)), \(license.ending?.rawValue ?? lease ?? "no lease"), seat \(license.seat)"
            )
            lines.append("terms       \(license.terms) \(license.termsVersion)")
            lines += license.limits.map {
                "limit       \($0.entitlement): \($0.used) of \($0.limit) settled"
            }
            lines += license.termsToCome.map { coming in
                coming.isHeard
                    ? "to come     \(license.terms) \(coming.version) with the first renewal after \(date(coming.notBefore))"
                    : "to come     \(license.terms) \(coming.version); the device has not shown yet that it was told"
            }
        }
        if report.licenses.contains(where: { !$0.bootStateApproved && $0.ending == nil }) {
            lines.append(
                "waits       no approval in force covers the boot state of the last evidence: see `pcr approve`"
            )
        }
        lines += report.audit.map { "\(date($0.at))  \($0.action)  \($0.detail)" }
        try console.result(report, text: lines.joined(separator: "\n"), format: common.format)
    }
}

struct DeviceApprove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "approve", abstract: "Admits a device that has shown its evidence.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "`dev_…`, or enough of it.") var device: String
    @Option(help: "A name for its kind of machine, for approvals of whole models.")
    var model: String?

    func run() throws {
        let record = try data.service().approve(device: device, model: model)
        try console.result(
            Printed(
                device: record.device, incarnation: record.incarnation, model: record.model,
                state: record.state.rawValue),
            text: "\(record.device) is admitted, model \(record.model ?? "none")",
            format: common.format)
    }

    private struct Printed: Encodable {
        let device: String
        let incarnation: UInt32
        let model: String?
        let state: String
    }
}

struct PCRCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pcr", abstract: "Approves boot states.",
        subcommands: [PCRApprove.self, PCRPredict.self])
}

struct PCRApprove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "approve", abstract: "Signs an approval of PCR values, and keeps it.",
        discussion: """
            The scope is in the signature: an approval of one device opens no other one's lease. \
            Without --pcr-values the values are those of the device's last evidence.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "For this device.") var device: String?
    @Option(help: "For every device of this model.") var model: String?
    @Option(help: "The device whose last evidence has the values; with --model.") var from: String?
    @Option(help: "Values: YAML of tpm2_pcrread, or the binary of tpm2_quote -o.")
    var pcrValues: String?
    @Option(help: "The product whose leases it opens.") var product: String
    @Option(help: "Above the present one, to withdraw earlier approvals with the next lease.")
    var generation: UInt32?
    @Option(help: "A line for people; it decides nothing.") var note = ""
    @Option(help: "Where the approval for devices goes.") var out: String

    func validate() throws {
        guard (device == nil) != (model == nil) else {
            throw ValidationError("give --device or --model")
        }
        guard device == nil || from == nil else {
            throw ValidationError("--from goes with --model: a device's own values are taken")
        }
    }

    func run() throws {
        let service = try data.service()
        let values = try pcrValues.map {
            try EvidenceFiles.pcrValues(Files.read($0, maximum: 1 << 16))
        }
        let scope: VendorService.ApprovalScope =
            if let device { .device(device) } else { .model(model ?? "") }
        let made = try service.approve(
            scope, product: product, values: values, source: from, generation: generation,
            note: note)
        try Files.write(made.bytes, to: out, mode: 0o644)
        let reference = made.document.reference
        try console.result(
            Printed(
                approval: out, generation: reference.generation, pcrs: reference.selection.text,
                product: product, scope: reference.scope.text),
            text: """
                approved  \(reference.selection.text) for \(product), \(reference.scope.text), \
                generation \(reference.generation)
                \(made.document.values.yaml)devices that hold a lease of that scope install it with: holdfast approve \(out)
                """, format: common.format)
    }

    private struct Printed: Encodable {
        let approval: String
        let generation: UInt32
        let pcrs: String
        let product: String
        let scope: String
    }
}

struct TermsCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "terms", abstract: "The rules of licenses.",
        subcommands: [TermsApply.self, TermsExplain.self, TermsList.self])
}

struct TermsApply: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Signs terms and takes them in force.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "The terms, in JSON.") var file: String

    func run() throws {
        let service = try data.service()
        let file = try TermsFile(Files.read(file, maximum: 1 << 20))
        let before = try service.termsInForce(file.terms.id)
        let terms = try service.apply(file)
        let changes = before.map { $0.differences(to: terms) } ?? []
        let lines = changes.map { "changed   \($0.text)" }
        try console.result(
            Printed(changes: changes, id: terms.id, version: terms.version),
            text: ([terms.plainText] + lines).joined(separator: "\n"), format: common.format)
    }

    private struct Printed: Encodable {
        let changes: [Terms.Difference]
        let id: String
        let version: UInt32
    }
}

struct TermsExplain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Says terms in plain words.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "The name of the terms.") var id: String

    func run() throws {
        let terms = try data.service().terms(id)
        try console.result(
            ["id": terms.id, "text": terms.plainText], text: terms.plainText,
            format: common.format)
    }
}

struct TermsList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Every terms, and how many licenses are under which version."
    )

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let reports = try data.service().termsReports()
        let lines = reports.map { report in
            let counts = report.licenses.sorted {
                UInt32($0.key) ?? 0 < UInt32($1.key) ?? 0
            }.map { "\($0.value) under version \($0.key)" }
            return "\(report.terms)  version \(report.version)  licenses: "
                + (counts.isEmpty ? "none" : counts.joined(separator: ", "))
                + (report.told > 0 ? "; \(report.told) were told of a later version" : "")
        }
        try console.result(
            reports, text: lines.isEmpty ? "no terms" : lines.joined(separator: "\n"),
            format: common.format)
    }
}

struct LicenseCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "license", abstract: "Issues and revokes licenses.",
        subcommands: [LicenseIssue.self, LicenseRevoke.self, LicenseTest.self])
}

struct LicenseIssue: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "issue", abstract: "Issues a license with its first lease.",
        discussion: """
            The device must be admitted, its last evidence must have passed, and an approval must \
            cover its boot state.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "`dev_…`, or enough of it.") var device: String
    @Option(help: "The product.") var product: String
    @Option(help: "NAME or NAME=LIMIT; may be given again.") var entitlement: [String]
    @Option(help: "The name of the terms.") var terms: String
    @Option(help: "The last day, as 2027-11-24; its end in UTC counts.") var until: String
    @Option(help: "Where the license for the device goes.") var out: String

    func run() throws {
        let entitlements = try entitlements(entitlement)
        let end = try endOfDay(until)
        let issued = try data.service().issue(
            .init(
                device: device, product: product, entitlements: entitlements, terms: terms,
                endsAt: end))
        try Files.write(issued.reply, to: out, mode: 0o644)
        try console.result(
            Printed(
                device: issued.device, file: out, license: issued.license.description),
            text: """
                license  \(issued.license)
                device   \(issued.device)
                take `\(out)` to the device: holdfast license install \(out)
                """, format: common.format)
    }

    private struct Printed: Encodable {
        let device: String
        let file: String
        let license: String
    }
}

/// Reads NAME and NAME=LIMIT.
private func entitlements(_ texts: [String]) throws -> [License.Entitlement] {
    return try texts.map { text in
        let halves = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = halves.first, !name.isEmpty else {
            throw ValidationError("--entitlement takes NAME or NAME=LIMIT")
        }
        guard halves.count == 2 else {
            return License.Entitlement(name: String(name), limit: nil)
        }
        guard let limit = UInt64(halves[1]) else {
            throw ValidationError("the limit of `\(name)` is a whole number")
        }
        return License.Entitlement(name: String(name), limit: limit)
    }
}

/// Reads a date; its end in UTC counts.
private func endOfDay(_ until: String) throws -> UInt64 {
    guard let day = try? Date(until, strategy: .iso8601.year().month().day()),
        day.timeIntervalSince1970 > 0,
        day.formatted(.iso8601.year().month().day()) == until
    else { throw ValidationError("--until takes a date like 2027-11-24") }
    return UInt64(day.timeIntervalSince1970) + 86_400
}

struct LicenseTest: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test", abstract: "Makes a license for machines without a TPM, for tests.",
        discussion: """
            It is bound to no device: whoever has the file can use it, with programs that were built \
            for tests. The terms are of class test. Nothing is billed, and no seat is taken.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The product.") var product: String
    @Option(help: "NAME or NAME=LIMIT; may be given again.") var entitlement: [String]
    @Option(help: "The name of terms of class test.") var terms: String
    @Option(help: "The last day, as 2027-11-24; its end in UTC counts.") var until: String
    @Option(help: "Where the license goes.") var out: String

    func run() throws {
        let made = try data.service().makeTestLicense(
            product: product, entitlements: entitlements(entitlement), terms: terms,
            endsAt: endOfDay(until))
        try Files.write(made.bytes, to: out, mode: 0o644)
        try console.result(
            ["file": out, "license": made.license.description],
            text: """
                TEST license  \(made.license)
                holdfast test install \(out) --trust TRUST --state DIR
                """, format: common.format)
    }
}

struct LicenseRevoke: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke", abstract: "Ends a license.",
        discussion: """
            With its next reply the device is told to raise its epoch; what else it has gets leases \
            that open then. Until that reply the last lease runs to its end.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "`lic_…`.") var license: String

    func run() throws {
        let record = try data.service().revoke(license: license)
        try console.result(
            ["device": record.device, "license": license],
            text: "revoked; \(record.device) is told with its next reply", format: common.format)
    }
}

struct UsageCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "usage", abstract: "What devices used.", subcommands: [UsageReportCommand.self]
    )
}

struct UsageReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report", abstract: "Settled totals of every device, or of one.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "`dev_…`, or enough of it.") var device: String?

    func run() throws {
        let reports = try data.service().usage(device)
        let lines = reports.map { report in
            let totals = report.totals.sorted { $0.key < $1.key }
                .map { "\($0.key)=\($0.value)" }.joined(separator: " ")
            let flags =
                (report.eras > 1 ? " \(report.eras) eras" : "")
                + (report.forked ? " FORK_SUSPECT" : "")
            return
                "\(report.device)  #\(report.incarnation)  \(totals.isEmpty ? "no usage" : totals)  settled \(report.settledAt.map(date) ?? "never")\(flags)"
        }
        try console.result(
            reports, text: lines.isEmpty ? "no device" : lines.joined(separator: "\n"),
            format: common.format)
    }
}
