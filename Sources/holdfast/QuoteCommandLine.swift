import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastFiles
import HoldfastTPM
import HoldfastTPMWire

/// Which key signs a quote.
enum QuoteKeyKind: String, ExpressibleByArgument, CaseIterable {
    case p256 = "ecc-p256"
    case p384 = "ecc-p384"

    var curve: EllipticCurve { self == .p384 ? .p384 : .p256 }
}

struct QuoteCommandLine: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quote",
        abstract: "Lets the TPM sign its PCRs, in the formats of tpm2_quote and tpm2_checkquote.",
        discussion: """
            Without enrollment the key is made for the call, in the endorsement hierarchy, with \
            an empty unique field. The nonce is the raw extraData.
            """)

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "16 to 32 bytes from the verifier, in hexadecimal.") var nonce: String
    @Option(help: "PCRs, as `sha256:0,1,7+sha384:7`; without a bank, SHA-256.") var pcrs: String
    @Option(help: "The kind of key: ecc-p256, or ecc-p384 with SHA-384.") var key = QuoteKeyKind
        .p256
    @Option(help: "Where TPMS_ATTEST goes.") var message: String
    @Option(help: "Where TPMT_SIGNATURE goes.") var signature: String
    @Option(name: .customLong("public"), help: "Where the key's TPM2B_PUBLIC goes.")
    var publicFile: String
    @Option(help: "Where the PCR values go, in YAML.") var pcrValues: String?

    func run() throws {
        guard let nonce = bytes(hexadecimal: nonce), (16...32).contains(nonce.count) else {
            throw ValidationError("--nonce takes 16 to 32 bytes in hexadecimal")
        }
        guard let selection = PCRSelection(text: pcrs) else {
            throw ValidationError("--pcrs takes a list like `sha256:0,1,7`")
        }
        let kind = key
        let connection = try tpm.connect()
        defer { connection.close() }
        let made = try connection.transaction { (tpm) throws(TPMError) in
            try tpm.withPrimary(
                KeyTemplate.quoteKey(on: kind.curve), in: .endorsement
            ) { (key) throws(TPMError) in
                let quoted = try tpm.quote(selection, by: key, nonce: nonce)
                return (quoted.quote, quoted.values, key.publicArea)
            }
        }
        var area = WireWriter()
        area.sized(made.2.wireBytes)
        try Files.write(made.0.attestation.bytes, to: message, mode: 0o644)
        try Files.write(made.0.signature.bytes, to: signature, mode: 0o644)
        try Files.write(area.bytes, to: publicFile, mode: 0o644)
        if let pcrValues {
            try Files.write(Array(made.1.yaml.utf8), to: pcrValues, mode: 0o644)
        }
        let clock = made.0.attestation.value.clockInfo
        try console.result(
            Made(
                clock: clock.clock, keyName: made.2.name.description, pcrs: selection.text,
                resetCount: clock.resetCount, restartCount: clock.restartCount),
            text: "quoted \(selection.text) with key \(made.2.name)", format: common.format)
    }

    private struct Made: Encodable {
        let clock: UInt64
        let keyName: String
        let pcrs: String
        let resetCount: UInt32
        let restartCount: UInt32
    }
}
