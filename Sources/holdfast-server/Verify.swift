import ArgumentParser
import Foundation
import HoldfastAttestation
import HoldfastConsole
import HoldfastCrypto
import HoldfastErrors
import HoldfastFiles
import HoldfastProtocol
import HoldfastTPMWire

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks evidence from files; needs no server and no TPM.",
        subcommands: [
            VerifyEKCertificate.self, VerifyEventLog.self, VerifyFolder.self, VerifyIMA.self,
            VerifyQuote.self,
        ])
}

struct VerifyQuote: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quote",
        abstract: "Checks a quote, and prints every check with its outcome.",
        discussion: "Reads what `holdfast quote` and tpm2_quote write.")

    @OptionGroup var common: CommonOptions
    @Option(name: .customLong("public"), help: "The key: TPM2B_PUBLIC, TPMT_PUBLIC or PEM.")
    var publicFile: String
    @Option(help: "TPMS_ATTEST or TPM2B_ATTEST.") var message: String
    @Option(help: "TPMT_SIGNATURE.") var signature: String
    @Option(help: "The raw extraData, in hexadecimal.") var nonce: String
    @Option(help: "PCRs that were asked for, as `sha256:0,1,7`.") var pcrs: String
    @Option(help: "Values: YAML of tpm2_pcrread, or the binary of tpm2_quote -o.")
    var pcrValues: String
    @Option(help: "Fewer bytes of nonce than this are refused.") var minimumNonce = 16
    @Option(help: "A boot event log that must explain every quoted value.") var eventLog: String?
    @Option(help: "A measurement list that must explain PCR 10, which the log then need not.")
    var imaLog: String?
    @OptionGroup var ima: IMAOptions
    @OptionGroup var boot: EventLogOptions
    @Option(help: "An appraisal policy that must be met: a token, or JSON that nobody signed.")
    var policy: String?
    @Option(help: "The trust file of whoever signed the policy.") var trust: String?
    @Option(help: "Where an EAT attestation result goes, whatever the verdict.")
    var earOut: String?
    @Option(help: "The key that signs it, of `ear-key`.") var earKey: String?

    func run() throws {
        guard (earOut == nil) == (earKey == nil) else {
            throw ValidationError("--ear-out and --ear-key need each other")
        }
        let demanded = try policy.map { try PolicyFiles.read($0, trust: trust) }
        if eventLog == nil { try boot.requireNone() }
        if imaLog == nil { try ima.requireNone() }
        guard let nonce = bytes(hexadecimal: nonce) else {
            throw ValidationError("--nonce takes hexadecimal")
        }
        guard let selection = PCRSelection(text: pcrs) else {
            throw ValidationError("--pcrs takes a list like `sha256:0,1,7`")
        }
        let limit = 1 << 16
        let quote = UnverifiedQuote(
            attestation: EvidenceFiles.attestation(try Files.read(message, maximum: limit)),
            signature: try Files.read(signature, maximum: limit),
            values: try EvidenceFiles.pcrValues(
                Files.read(pcrValues, maximum: limit), of: selection))
        var expectation = QuoteExpectation(
            key: try EvidenceFiles.key(Files.read(publicFile, maximum: limit)), nonce: nonce,
            minimumNonceSize: minimumNonce, selection: selection, qualifiedSigner: nil)
        expectation.boot = demanded?.policy.bootState
        let appraisal = QuoteAppraisal(quote, expecting: expectation)
        var verdict = Verdict(appraisal)
        let list = try imaLog.map {
            try ima.appraise(
                $0, explaining: quote.values,
                boot: appraisal.verified.map { BootInstance($0.attestation.clockInfo) })
        }
        if let list { verdict = verdict.and(Verdict(list)) }
        let log = try eventLog.map {
            try boot.appraise(
                $0, explaining: list == nil ? quote.values : quote.values.withoutIMA)
        }
        if let log { verdict = verdict.and(Verdict(log)) }
        var met: AttestationResult.DemandedPolicy?
        if let demanded {
            let measured = try list.map {
                PolicyAppraisal.MeasuredList($0, policy: try ima.policy())
            }
            let appraised = PolicyAppraisal(
                demanded, of: appraisal.verified, log: log, list: measured)
            verdict = verdict.and(Verdict(appraised))
            met = .init(demanded.policy, appraised)
        }
        if let earOut, let earKey {
            let token = try AttestationResult(
                verdict, quote: appraisal, policy: met, nonce: nonce
            ).token(
                signedBy: EARKey.read(earKey),
                issuedAt: UInt64(max(0, Date().timeIntervalSince1970)))
            try Files.write(Array((token + "\n").utf8), to: earOut, mode: 0o644)
        }
        if verdict.verdict == "valid" { try ima.keep(list?.state) }
        try console.result(
            Printed(
                checks: verdict.checks,
                facts: .init(
                    eventLog: log?.facts, ima: list?.facts, appraisal.verified?.attestation),
                verdict: verdict.verdict),
            text: (log?.facts?.text ?? "") + (list?.facts.text ?? "")
                + (appraisal.verified?.attestation.factsText ?? "") + verdict.text,
            format: common.format)
        if verdict.verdict != "valid" { throw ExitCode(ExitStatus.refused.rawValue) }
    }

    private struct Printed: Encodable {
        struct Facts: Encodable {
            let eventLog: EventLogFacts?
            let ima: IMAFacts?
            let resetCount: UInt32?
            let restartCount: UInt32?
            let clockTicks: UInt64?
            let clockSafe: Bool?
            let firmware: String?

            init(eventLog: EventLogFacts?, ima: IMAFacts?, _ attestation: Attestation?) {
                self.eventLog = eventLog
                self.ima = ima
                let clock = attestation?.clockInfo
                resetCount = clock?.resetCount
                restartCount = clock?.restartCount
                clockTicks = clock?.clock
                clockSafe = clock?.safe
                firmware = attestation?.firmwareText
            }
        }

        let checks: [Verdict.Check]
        let facts: Facts
        let verdict: String
    }
}

/// The key of attestation results: a scalar on P-256, 32 bytes.
struct EARKey: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ear-key",
        abstract: "Makes a key that signs attestation results, for `verify quote --ear-key`.")

    @OptionGroup var common: CommonOptions
    @Option(help: "Where the key goes; nothing may be there.") var out: String
    @Option(help: "Where its public half goes, in PEM.") var `public`: String

    func run() throws {
        guard !Files.exists(out) else {
            throw ValidationError("`\(out)` is there already, and keys are never overwritten")
        }
        let key = ECPrivateKey(curve: .p256, random: .system)
        try key.scalar().withBytes { try Files.write($0, to: out, mode: 0o600) }
        try Files.write(Array((key.publicKey.pem + "\n").utf8), to: `public`, mode: 0o644)
        try console.result(
            ["key": out, "public": `public`], text: "made a key; keep `\(out)` to the verifier",
            format: common.format)
    }

    static func read(_ file: String) throws -> ECPrivateKey {
        var bytes = try Files.read(file, maximum: 32)
        defer { wipe(&bytes) }
        do { return try ECPrivateKey(curve: .p256, scalar: bytes) } catch {
            throw EvidenceFormatError(expected: "a key that `ear-key` made")
        }
    }
}

/// What judges a boot event log.
struct EventLogOptions: ParsableArguments {
    @Option(help: "What systemd measured afterwards: /run/log/systemd/tpm2-measure.log.")
    var userspaceLog: String?
    @Option(help: "What dbx must hold: a dbxupdate file, dbx itself, or a SHA-256 a line.")
    var minimumDbx: String?

    func requireNone() throws {
        guard userspaceLog == nil, minimumDbx == nil else {
            throw ValidationError("--userspace-log and --minimum-dbx need --event-log")
        }
    }

    func appraise(_ file: String, explaining values: PCRValues?) throws -> EventLogAppraisal {
        EventLogAppraisal(
            try Files.read(file, maximum: EventLog.maximumSize),
            userspace: try userspaceLog.map {
                try UserspaceLog(parsing: Files.read($0, maximum: UserspaceLog.maximumSize))
            }, explaining: values,
            revocations: try minimumDbx.map {
                try RevokedImages(Files.read($0, maximum: RevokedImages.maximumSize))
            })
    }
}

/// What judges a measurement list.
struct IMAOptions: ParsableArguments {
    @Option(help: "Which files may have been measured, and which must have been: JSON.")
    var imaPolicy: String?
    @Option(help: "Of the last accepted list of this boot; the list then begins behind it.")
    var imaState: String?
    @Option(help: "Where to write the state for the next list of this boot.")
    var imaStateOut: String?

    func requireNone() throws {
        guard imaPolicy == nil, imaState == nil, imaStateOut == nil else {
            throw ValidationError("--ima-policy and --ima-state need --ima-log")
        }
    }

    func appraise(
        _ file: String, explaining values: PCRValues?, boot: BootInstance?
    ) throws -> IMAAppraisal {
        let state = try imaState.map { try IMAState(parsing: Files.read($0, maximum: 1 << 20)) }
        return try Self.appraise(
            file, policy: policy(), explaining: values, continuing: state, boot: boot)
    }

    func policy() throws -> IMAPolicy? { try imaPolicy.map(Self.policy) }

    static func policy(_ file: String) throws -> IMAPolicy {
        try IMAPolicy(Files.read(file, maximum: IMAPolicy.maximumSize))
    }

    static func appraise(
        _ file: String, policy: IMAPolicy?, explaining values: PCRValues?,
        continuing state: IMAState?, boot: BootInstance?
    ) throws -> IMAAppraisal {
        var appraiser = IMAAppraiser(
            explaining: values, policy: policy, continuing: state, boot: boot)
        try Files.readPieces(file, maximum: IMAAppraiser.maximumSize) { appraiser.append($0) }
        return appraiser.finish()
    }

    func keep(_ state: IMAState?) throws {
        guard let imaStateOut, let state else { return }
        try Files.write(try state.encoded(), to: imaStateOut, mode: 0o600)
    }
}

struct VerifyIMA: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ima",
        abstract: "Replays a list of the Integrity Measurement Architecture, and judges it.",
        discussion: """
            A list proves nothing by itself. With --pcr-values it, or a beginning of it, must \
            replay to PCR 10; whether the values are a TPM's, only a quote shows.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "The list: binary_runtime_measurements, or its ASCII form.") var file: String
    @Option(help: "Values that it must explain: YAML of tpm2_pcrread, or of tpm2_quote -o.")
    var pcrValues: String?
    @Option(help: "Which files may have been measured, and which must have been: JSON.")
    var imaPolicy: String?

    func run() throws {
        let values = try pcrValues.map {
            try EvidenceFiles.pcrValues(Files.read($0, maximum: 1 << 16))
        }
        let appraisal = try IMAOptions.appraise(
            file, policy: imaPolicy.map(IMAOptions.policy), explaining: values, continuing: nil,
            boot: nil)
        let verdict = Verdict(appraisal)
        try console.result(
            Printed(checks: verdict.checks, facts: appraisal.facts, verdict: verdict.verdict),
            text: appraisal.facts.text + verdict.text, format: common.format)
        if verdict.verdict != "valid" { throw ExitCode(ExitStatus.refused.rawValue) }
    }

    private struct Printed: Encodable {
        let checks: [Verdict.Check]
        let facts: IMAFacts
        let verdict: String
    }
}

struct VerifyEventLog: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "event-log",
        abstract: "Replays a boot event log, and says what it shows.",
        discussion: """
            A log proves nothing by itself. With --pcr-values it must explain every value that \
            the file holds; whether the values are a TPM's, only a quote shows.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "The log, for example binary_bios_measurements.") var file: String
    @Option(help: "Values that it must explain: YAML of tpm2_pcrread, or of tpm2_quote -o.")
    var pcrValues: String?
    @OptionGroup var boot: EventLogOptions

    func run() throws {
        let values = try pcrValues.map {
            try EvidenceFiles.pcrValues(Files.read($0, maximum: 1 << 16))
        }
        let appraisal = try boot.appraise(file, explaining: values)
        let verdict = Verdict(appraisal)
        var printed = PCRValues()
        var pcrs: [String: [String: String]] = [:]
        for (bank, registers) in appraisal.replayed {
            for (index, value) in registers {
                printed[bank, index] = value
                pcrs[bank.name, default: [:]][String(index.rawValue)] = Hex.encode(value)
            }
        }
        try console.result(
            Printed(
                checks: verdict.checks, facts: appraisal.facts, pcrs: pcrs,
                timeline: appraisal.timeline, verdict: verdict.verdict),
            text: appraisal.timelineText + printed.yaml + (appraisal.facts?.text ?? "")
                + verdict.text, format: common.format)
        if verdict.verdict != "valid" { throw ExitCode(ExitStatus.refused.rawValue) }
    }

    private struct Printed: Encodable {
        let checks: [Verdict.Check]
        let facts: EventLogFacts?
        let pcrs: [String: [String: String]]
        let timeline: [BootStep]
        let verdict: String
    }
}

/// The date of an option `--at`; today without it.
private func date(_ at: String?) throws -> Date {
    guard let at else { return Date() }
    guard let date = try? Date(at, strategy: .iso8601.year().month().day()) else {
        throw ValidationError("--at takes a date like 2026-11-24")
    }
    return date
}

struct VerifyFolder: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "folder",
        abstract: "Judges a folder of event logs, measurement lists and certificates.",
        discussion: """
            Exits with 0 when every file was judged, refused ones included, and with 2 when a log \
            replays to other values than NAME.yaml beside it has. With --all-valid a refused file \
            exits with 2 as well.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "The folder; folders in it are read as well.") var folder: String
    @Option(help: "The date at which certificates must be valid, as 2026-11-24; today without it.")
    var at: String?
    @Flag(help: "A refused file is an error as well.") var allValid = false
    @Flag(help: "A folder that is not there is no error.") var ifPresent = false

    mutating func run() async throws {
        if ifPresent, !Files.exists(folder) {
            return console.line("there is no folder `\(folder)`: nothing to judge")
        }
        let files = try Files.ordinaryFiles(below: folder).map { [folder] path in
            RecordedFile(path: path) {
                try? Files.read(folder + "/" + path, maximum: RecordedFile.maximumSize)
            }
        }
        let report = await RecordingReport(files, at: try date(at))
        try console.result(report, text: report.text, format: common.format)
        if report.contradictions > 0 || allValid && report.refused > 0 {
            throw ExitCode(ExitStatus.refused.rawValue)
        }
    }
}

struct VerifyEKCertificate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ek-certificate",
        abstract: "Checks that a trusted TPM maker vouches for an endorsement key.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "The certificate, in DER as it stands in NV, or in PEM.") var file: String
    @Option(help: "A directory with certificates that are trusted, *.pem and *.der.")
    var roots: String
    @Option(help: "A directory with certificates that may stand in between.")
    var intermediates: String?
    @Option(help: "The chain that the device has in NV from 0x01C00100 on, joined; not trusted.")
    var chain: String?
    @Option(help: "The date at which the path must be valid, as 2026-11-24; today without it.")
    var at: String?

    mutating func run() async throws {
        let date = try date(at)
        let trusted = try Files.certificates(in: roots)
        let manifest = roots + "/" + MakerManifest.fileName
        if let bytes = try Files.readIfPresent(manifest, maximum: MakerManifest.maximumSize) {
            try MakerManifest(bytes).demand(trusted)
        }
        let brought = try chain.map {
            try EndorsementPathVerifier.certificates(
                inChain: Files.read($0, maximum: 1 << 16))
        }
        let verifier = try EndorsementPathVerifier(
            roots: trusted,
            intermediates: intermediates.map { try Files.certificates(in: $0) } ?? [])
        if verifier.unreadableFiles > 0 {
            console.note("\(verifier.unreadableFiles) certificate files cannot be read; left out")
        }
        let appraisal = await verifier.appraise(
            try Files.read(file, maximum: 1 << 16), chain: brought ?? [], at: date)
        let verdict = Verdict(appraisal)
        let verified = appraisal.verified
        let facts = verified.map { verified in
            """
            manufacturer  \(verified.manufacturer)
            model         \(verified.model)
            version       \(verified.version)
            fingerprint   \(Hex.encode(verified.fingerprint))

            """
        }
        try console.result(
            Printed(
                checks: verdict.checks, fingerprint: verified.map { Hex.encode($0.fingerprint) },
                manufacturer: verified?.manufacturer, model: verified?.model,
                verdict: verdict.verdict, version: verified?.version),
            text: (facts ?? "") + verdict.text, format: common.format)
        if verified == nil { throw ExitCode(ExitStatus.refused.rawValue) }
    }

    private struct Printed: Encodable {
        let checks: [Verdict.Check]
        let fingerprint: String?
        let manufacturer: String?
        let model: String?
        let verdict: String
        let version: String?
    }
}
