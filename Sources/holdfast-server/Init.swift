import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
import HoldfastTPMWire

struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a vendor's keys and the trust file for devices.")

    @OptionGroup var common: CommonOptions
    @Option(help: "A directory for the keys; made if it is not there.", completion: .directory)
    var data: String
    @Option(
        help: """
            Which endorsement key counts: MANUFACTURER/MODEL=KIND, the first two as in its \
            certificate, KIND one of rsa-2048-low-range, rsa-2048, rsa-3072, ecc-p256-low-range, \
            ecc-p256, ecc-p384. May be given again.
            """)
    var ek: [String] = []
    @Option(
        help: "A directory with certificates of TPM makers that are trusted; kept beside the keys.",
        completion: .directory)
    var ekRoots: String?
    @Option(help: "Where the server will be, https://…; may be given again.") var url: [String] = []
    @Option(help: "PCRs that are quoted when nothing else is said.") var pcrs = "sha256:7"

    func run() throws {
        let rules = try rules(ek)
        try demandAddresses(url)
        // Nothing is made before everything that was given can be read.
        if let ekRoots, try Files.certificates(in: ekRoots).isEmpty {
            throw ValidationError("`\(ekRoots)` has no *.pem, *.crt, *.cer or *.der")
        }
        guard let selection = PCRSelection(text: pcrs), selection.banks.count == 1,
            selection.banks.allSatisfy({ $0.hash != .sha1 })
        else { throw ValidationError("--pcrs takes a list of one bank, and not of SHA-1") }
        let keys = VendorKeys(directory: try Files.absolutePath(data))
        let trust = try keys.create(
            .init(endorsementKeys: rules, urls: url, selection: pcrs), random: .system)
        let makers = try ekRoots.map { try keys.trustMakers(in: $0) } ?? 0
        try console.result(
            Made(
                makers: makers, rootKey: keys.rootKeyFile, trust: keys.trustFile,
                vendor: Hex.encode(trust.vendorID.bytes)),
            text: """
                vendor      \(Hex.encode(trust.vendorID.bytes))
                trust file  \(keys.trustFile)
                TPM makers  \(makers) certificate files
                take \(keys.rootKeyFile) away and keep it offline: it is needed to change keys
                """, format: common.format)
    }

    private struct Made: Encodable {
        let makers: Int
        let rootKey: String
        let trust: String
        let vendor: String
    }
}

private func rules(_ texts: [String]) throws -> [TrustStatement.EndorsementKeyRule] {
    try texts.map { text in
        guard let rule = VendorKeys.rule(text) else {
            throw ValidationError("--ek takes MANUFACTURER/MODEL=KIND, and a known kind")
        }
        return rule
    }
}

private func demandAddresses(_ urls: [String]) throws {
    for one in urls where !one.hasPrefix("https://") || one.utf8.count > 256 {
        throw ValidationError("--url takes https://…, and `\(one)` is not of that form")
    }
}

struct TrustCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trust", abstract: "What devices know of this vendor.",
        subcommands: [TrustUpdate.self])
}

struct TrustUpdate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "update",
        abstract: "Signs a newer trust file: other addresses, more kinds of endorsement keys.",
        discussion: """
            Needs the root key for as long as it runs. Devices get \
            it with their next reply, or take the file with `holdfast trust install FILE`; those with \
            the old one work on.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @OptionGroup var root: RootKeyOptions
    @Option(
        help: "In the place of the addresses that there are, https://…; may be given again.")
    var url: [String] = []
    @Option(help: "MANUFACTURER/MODEL=KIND, as for `init`; may be given again.")
    var ek: [String] = []

    private struct Updated: Encodable {
        let sequence: UInt64
        let trust: String
        let urls: [String]
    }

    func run() throws {
        guard !url.isEmpty || !ek.isEmpty else {
            throw ValidationError("give what is to be different: --url, --ek")
        }
        try demandAddresses(url)
        let keys = try data.keys()
        let made = try keys.update(
            .init(urls: url.isEmpty ? nil : url, endorsementKeys: rules(ek)),
            rootKey: root.path(keys))
        try console.result(
            Updated(sequence: made.sequence, trust: keys.trustFile, urls: made.urls),
            text: """
                trust file  \(keys.trustFile), sequence \(made.sequence)
                addresses   \(made.urls.isEmpty ? "none" : made.urls.joined(separator: ", "))
                devices get it with their next reply, or with `holdfast trust install FILE`
                """, format: common.format)
    }
}
