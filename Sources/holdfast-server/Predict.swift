import ArgumentParser
import HoldfastAttestation
import HoldfastConsole
import HoldfastCrypto
import HoldfastFiles
import HoldfastTPMWire

struct PCRPredict: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "predict",
        abstract: "The PCR values after an update, for `pcr approve --pcr-values`.",
        discussion: """
            From the event log of a machine before the update, and the files that come. COMPONENT \
            is `boot-loader`, `kernel`, `initrd`, `uki`, `command-line`, `image:PATH`, \
            `grub-file:PATH`, `section:NAME` or `event:NUMBER`. Firmware is not predicted: take the \
            values of a reference machine. It needs no vendor's directory and no TPM.
            """)

    @OptionGroup var common: CommonOptions
    @Option(help: "The log before the update.") var eventLog: String
    @Option(parsing: .singleValue, help: "COMPONENT=FILE; may be given again.") var replace:
        [String]
    @Option(help: "Where the values go, as `tpm2_pcrread` prints them.") var out: String?
    @Option(help: "Where the log of the boot after the update goes.") var eventLogOut: String?

    func run() throws {
        let replacements = try replace.map { text in
            // A path may have the sign in it, a component has not.
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
                throw ValidationError("--replace takes COMPONENT=FILE, for example kernel=vmlinuz")
            }
            return PCRPrediction.Replacement(
                component: String(parts[0]),
                content: try Files.read(String(parts[1]), maximum: PEImage.maximumSize))
        }
        let prediction = try PCRPrediction(
            log: Files.read(eventLog, maximum: EventLog.maximumSize), replacing: replacements)
        if let out { try Files.write(Array(prediction.yaml.utf8), to: out, mode: 0o644) }
        if let eventLogOut { try Files.write(prediction.log, to: eventLogOut, mode: 0o644) }
        for change in prediction.changes {
            console.note("event \(change.event), PCR \(change.pcr): \(change.what)")
        }
        let pcrs = prediction.values.map { hash, registers in
            (
                hash.name,
                Dictionary(
                    uniqueKeysWithValues: registers.map { index, value in
                        (String(index.rawValue), hexadecimal(value))
                    })
            )
        }
        var yaml = prediction.yaml
        while yaml.hasSuffix("\n") { yaml.removeLast() }
        try console.result(
            Printed(changes: prediction.changes, pcrs: Dictionary(uniqueKeysWithValues: pcrs)),
            text: yaml, format: common.format)
    }

    private struct Printed: Encodable {
        let changes: [PCRPrediction.Change]
        let pcrs: [String: [String: String]]
    }
}
