import ArgumentParser
import Foundation
import HoldfastAttestation
import HoldfastConsole
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
import HoldfastTPMWire

struct PolicyCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "What a verifier demands of a boot.",
        subcommands: [
            PolicyApply.self, PolicyDiff.self, PolicyExplain.self, PolicyLearn.self,
            PolicyList.self, PolicySign.self, PolicyWithdraw.self,
        ])
}

/// Policies in files.
enum PolicyFiles {
    /// Reads a token, whose signature a trust file settles, or JSON that nobody signed.
    static func read(
        _ file: String, trust: String?
    ) throws -> PolicyOrigin {
        let bytes = try Files.read(file, maximum: PASETOToken.maximumTextSize)
        guard bytes.starts(with: Array("v4.".utf8)) else {
            guard trust == nil else {
                throw ValidationError("`\(file)` is not signed, so --trust says nothing of it")
            }
            return .ownFile(try AppraisalPolicyFile(bytes).policy)
        }
        guard let trust else {
            throw ValidationError("`\(file)` is signed: give --trust FILE to say who may")
        }
        let statement = try TrustStatement(
            verifying: token(Files.read(trust, maximum: PASETOToken.maximumTextSize)),
            replacing: nil)
        return .signed(
            try VerifiedPolicy(verifying: token(bytes), issuers: statement.issuerKeys))
    }

    private static func token(_ bytes: [UInt8]) throws -> PASETOToken {
        let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        do { return try PASETOToken(parsing: words.count == 1 ? String(words[0]) : "") } catch {
            throw TokenError.notAuthentic(error)
        }
    }
}

struct PolicyLearn: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "learn",
        abstract: "Writes a policy that the present state of a reference machine meets.",
        discussion: "Read what it says before you sign it: a learned fault is a demanded one.")

    @OptionGroup var common: CommonOptions
    @Option(help: "A name for the policy.") var id: String
    @Option(name: .customLong("policy-version"), help: "A higher one replaces a lower one.")
    var number: UInt32 = 1
    @Option(help: "The kind of machine.") var model: String
    @Option(help: "Values of the machine: YAML of tpm2_pcrread, or the binary of tpm2_quote -o.")
    var pcrValues: String
    @Option(help: "Its event log, which must explain the values but those of --unchecked.")
    var eventLog: String?
    @OptionGroup var boot: EventLogOptions
    @Option(help: "Registers that are not compared, as `sha256:10,11`.") var unchecked: String?
    @Option(help: "An IMA policy that lists must pass.") var imaPolicy: String?
    @Option(help: "A quote of the machine, TPMS_ATTEST: its TPM's firmware is then demanded.")
    var message: String?
    @Option(help: "Where the policy goes.") var out: String

    func run() throws {
        if eventLog == nil { try boot.requireNone() }
        let values = try EvidenceFiles.pcrValues(Files.read(pcrValues, maximum: 1 << 16))
        var passedOver: Set<PCRValues.Register> = []
        if let unchecked {
            guard let selection = PCRSelection(text: unchecked) else {
                throw ValidationError("--unchecked takes a list like `sha256:10,11`")
            }
            for bank in selection.banks {
                for index in bank.indexes { passedOver.insert(.init(bank.hash, index)) }
            }
        }
        var explained = values
        for register in passedOver { explained[register.hash, register.index] = nil }
        let policy = AppraisalPolicyFile(
            try AppraisalPolicy.learned(
                id: id, version: number, model: model, from: values,
                log: eventLog.map { try boot.appraise($0, explaining: explained) },
                unchecked: passedOver, imaPolicy: imaPolicy.map(IMAOptions.policy),
                firmware: message.map {
                    try EvidenceFiles.firmwareVersion(Files.read($0, maximum: 1 << 16))
                }))
        try Files.write(try policy.encoded(), to: out, mode: 0o644)
        try console.result(
            ["file": out, "text": policy.plainText], text: policy.plainText, format: common.format)
    }
}

struct PolicySign: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sign", abstract: "Signs a policy with the vendor's issuer key.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "The policy, in JSON.") var file: String
    @Option(help: "Where the signed policy goes.") var out: String

    func run() throws {
        var policy = try AppraisalPolicyFile(
            Files.read(file, maximum: PASETOToken.maximumTextSize)
        ).policy
        policy.issuedAt = UInt64(max(1, Date().timeIntervalSince1970))
        let token = try policy.signed(with: data.keys().issuerKey())
        try Files.write(Array((token.text + "\n").utf8), to: out, mode: 0o644)
        let text = AppraisalPolicyFile(policy).plainText
        try console.result(["file": out, "text": text], text: text, format: common.format)
    }
}

struct PolicyApply: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply",
        abstract: "Puts a policy in force for its model, or for one device.",
        discussion: """
            From then on devices are asked to show what it speaks of, and nothing is settled or \
            renewed for one that does not meet it. A lower version than was ever in force is refused.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "The policy, in JSON or signed by this vendor.") var file: String
    @Option(help: "The IMA policy that it names.") var imaPolicy: String?
    @Option(help: "`dev_…`, or enough of it; all devices of the policy's model without it.")
    var device: String?

    func run() throws {
        let bytes = try Files.read(file, maximum: PASETOToken.maximumTextSize)
        let isSigned = bytes.starts(with: Array("v4.".utf8))
        let policy = try PolicyFiles.read(file, trust: isSigned ? data.keys().trustFile : nil)
            .policy
        let rules = try imaPolicy.map { try Files.read($0, maximum: IMAPolicy.maximumSize) }
        let report = try data.service().apply(policy: policy, imaPolicy: rules, device: device)
        let text = AppraisalPolicyFile(policy).plainText
        try console.result(
            report, text: "in force for \(report.scope)\n\(text)", format: common.format)
    }
}

struct PolicyWithdraw: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "withdraw",
        abstract: "Takes the policy of a model or of a device out of force.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The kind of machine.") var model: String?
    @Option(help: "`dev_…`, or enough of it.") var device: String?

    func validate() throws {
        guard (model == nil) != (device == nil) else {
            throw ValidationError("give --model NAME or --device DEVICE")
        }
    }

    func run() throws {
        let id = try data.service().withdrawPolicy(model: model, device: device)
        try console.result(["withdrawn": id], text: "withdrawn: \(id)", format: common.format)
    }
}

struct PolicyList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Which policies are in force, and for what.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let reports = try data.service().policies()
        let lines = reports.map { "\($0.id)  version \($0.version)  \($0.scope)" }
        try console.result(
            reports, text: lines.isEmpty ? "no policy" : lines.joined(separator: "\n"),
            format: common.format)
    }
}

struct PolicyExplain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Says a policy in plain words.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "The policy, signed or in JSON.") var file: String
    @Option(help: "The trust file of whoever signed it.") var trust: String?

    func run() throws {
        let read = try PolicyFiles.read(file, trust: trust)
        let text = AppraisalPolicyFile(read.policy).plainText
        try console.result(
            ["id": read.policy.id, "text": text], text: text, format: common.format)
    }
}

struct PolicyDiff: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Says what differs between the event logs of two boots, register by register.",
        discussion: """
            Events are compared by their digests. Which values are a TPM's, `verify quote` shows \
            of each log.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "The event log of the first boot.") var first: String
    @Argument(help: "That of the second.") var second: String

    func run() throws {
        func read(_ file: String) throws -> [UInt8] {
            try Files.read(file, maximum: EventLog.maximumSize)
        }
        let difference = try BootDifference(from: read(first), to: read(second))
        try console.result(difference, text: difference.text, format: common.format)
    }
}
