import ArgumentParser
import HoldfastAttestation
import HoldfastConsole
import HoldfastErrors
import HoldfastFiles
import HoldfastTPMWire

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Checks evidence from files; needs no server and no TPM.",
        subcommands: [VerifyQuote.self])
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

    func run() throws {
        guard let nonce = bytes(hexadecimal: nonce) else {
            throw ValidationError("--nonce takes hexadecimal")
        }
        guard let selection = PCRSelection(text: pcrs) else {
            throw ValidationError("--pcrs takes a list like `sha256:0,1,7`")
        }
        let limit = 1 << 16
        let appraisal = QuoteAppraisal(
            UnverifiedQuote(
                attestation: EvidenceFiles.attestation(try Files.read(message, maximum: limit)),
                signature: try Files.read(signature, maximum: limit),
                values: try EvidenceFiles.pcrValues(Files.read(pcrValues, maximum: limit))),
            expecting: QuoteExpectation(
                key: try EvidenceFiles.key(Files.read(publicFile, maximum: limit)), nonce: nonce,
                minimumNonceSize: minimumNonce, selection: selection, qualifiedSigner: nil))
        let verdict = Verdict(appraisal)
        try console.result(verdict, text: verdict.text, format: common.format)
        if appraisal.verified == nil { throw ExitCode(ExitStatus.refused.rawValue) }
    }
}
