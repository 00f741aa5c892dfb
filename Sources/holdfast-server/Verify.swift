import ArgumentParser
import Foundation
import HoldfastAttestation
import HoldfastConsole
import HoldfastCrypto
import HoldfastErrors
import HoldfastFiles
import HoldfastTPMWire

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks evidence from files; needs no server and no TPM.",
        subcommands: [VerifyEKCertificate.self, VerifyEventLog.self, VerifyQuote.self])
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

    func run() throws {
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
        let appraisal = QuoteAppraisal(
            quote,
            expecting: QuoteExpectation(
                key: try EvidenceFiles.key(Files.read(publicFile, maximum: limit)), nonce: nonce,
                minimumNonceSize: minimumNonce, selection: selection, qualifiedSigner: nil))
        var verdict = Verdict(appraisal)
        if let eventLog {
            let log = EventLogAppraisal(
                try Files.read(eventLog, maximum: EventLog.maximumSize), explaining: quote.values)
            verdict = verdict.and(Verdict(log))
        }
        try console.result(verdict, text: verdict.text, format: common.format)
        if verdict.verdict != "valid" { throw ExitCode(ExitStatus.refused.rawValue) }
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

    func run() throws {
        let values = try pcrValues.map {
            try EvidenceFiles.pcrValues(Files.read($0, maximum: 1 << 16))
        }
        let appraisal = EventLogAppraisal(
            try Files.read(file, maximum: EventLog.maximumSize), explaining: values)
        let verdict = Verdict(appraisal)
        var printed = PCRValues()
        var pcrs: [String: [String: String]] = [:]
        for (bank, registers) in appraisal.replayed {
            for (index, value) in registers {
                printed[bank, index] = value
                pcrs[bank.name, default: [:]][String(index.rawValue)] = Hex.encode(value)
            }
        }
        let facts = appraisal.facts.map { facts in
            let secureBoot = facts.secureBoot.map { $0 ? "on" : "off" } ?? "not shown"
            return """
                format        \(facts.format), \(facts.events) events
                locality      \(facts.startupLocality)
                separators    \(facts.separators.map(String.init).joined(separator: ", "))
                secure boot   \(secureBoot)

                """
        }
        try console.result(
            Printed(
                checks: verdict.checks, facts: appraisal.facts, pcrs: pcrs,
                verdict: verdict.verdict),
            text: printed.yaml + (facts ?? "") + verdict.text, format: common.format)
        if verdict.verdict != "valid" { throw ExitCode(ExitStatus.refused.rawValue) }
    }

    private struct Printed: Encodable {
        let checks: [Verdict.Check]
        let facts: EventLogFacts?
        let pcrs: [String: [String: String]]
        let verdict: String
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
    @Option(help: "The date at which the path must be valid, as 2026-11-24; today without it.")
    var at: String?

    mutating func run() async throws {
        var date = Date()
        if let at {
            guard let parsed = try? Date(at, strategy: .iso8601.year().month().day()) else {
                throw ValidationError("--at takes a date like 2026-11-24")
            }
            date = parsed
        }
        let verifier = try EndorsementPathVerifier(
            roots: Files.certificates(in: roots),
            intermediates: intermediates.map { try Files.certificates(in: $0) } ?? [])
        if verifier.unreadableFiles > 0 {
            console.note("\(verifier.unreadableFiles) certificate files cannot be read; left out")
        }
        let appraisal = await verifier.appraise(
            try Files.read(file, maximum: 1 << 16), at: date)
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
