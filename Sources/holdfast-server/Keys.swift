import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastProtocol
import HoldfastServices

/// Reads which kind of key is meant.
private func keyKind(_ text: String) throws -> VendorKeyKind {
    guard let kind = VendorKeyKind(rawValue: text) else {
        throw ValidationError("the kinds of keys are issuer, sealing and tls")
    }
    return kind
}

struct KeysCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Exchanges the vendor's keys.",
        discussion: """
            Devices get the newer trust statement with their next reply. docs/keys.md says what to \
            do when, and what happens to devices that are away.
            """,
        subcommands: [KeysList.self, KeysRotate.self, KeysSwitch.self, KeysRetire.self])
}

/// Where the root key is.
struct RootKeyOptions: ParsableArguments {
    @Option(help: "The root key; the one in the directory of `init` without it.")
    var rootKey: String?

    func path(_ keys: VendorKeys) -> String { rootKey ?? keys.rootKeyFile }
}

struct KeysList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Which keys there are, and what they are good for.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions

    func run() throws {
        let keys = try data.keys()
        let list = try keys.list()
        let sequence = try keys.trust().sequence
        let lines = list.map { key in
            let kind = key.kind.rawValue.padding(to: 8)
            let use = key.use.rawValue.padding(to: 8)
            return
                "\(kind)  \(key.id)  \(use)  \(key.hasPrivateKey ? "" : "no private key here")"
        }
        try console.result(
            Printed(keys: list, sequence: sequence),
            text: (["trust file of sequence \(sequence)"] + lines).joined(separator: "\n"),
            format: common.format)
    }

    private struct Printed: Encodable {
        let keys: [VendorKeyReport]
        let sequence: UInt64
    }
}

extension String {
    fileprivate func padding(to count: Int) -> String {
        self + String(repeating: " ", count: max(0, count - self.count))
    }
}

struct KeysRotate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate", abstract: "Makes a new key, and a trust file that names it.",
        discussion: """
            Needs the root key for as long as it runs. A new issuer or sealing key is in use at once; \
            the earlier one counts until it is retired. A new TLS key is told to devices first: \
            `keys switch tls` takes it into use.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @OptionGroup var root: RootKeyOptions
    @Argument(help: "issuer, sealing or tls.", transform: keyKind) var kind: VendorKeyKind

    func run() throws {
        let keys = try data.keys()
        if let warning = try data.service().warningOfLaterTrust() { console.note(warning) }
        let made = try keys.rotate(kind, rootKey: root.path(keys), random: .system)
        let key = try keys.newest(kind)
        let renewed =
            kind == .issuer ? try data.service().renewSignatures() : (terms: 0, policies: 0)
        let next =
            kind == .tls
            ? "when devices know it, take it into use: holdfast-server keys switch tls"
            : "when devices have synced, retire the earlier key: holdfast-server keys retire"
        try console.result(
            Printed(
                id: key.id, kind: kind, policies: renewed.policies, sequence: made.sequence,
                terms: renewed.terms, trust: keys.trustFile),
            text: """
                new key     \(kind.rawValue) \(key.id), \(key.use.rawValue)
                trust file  \(keys.trustFile), sequence \(made.sequence)
                signed anew \(renewed.terms) terms, \(renewed.policies) policies
                \(next)
                """, format: common.format)
    }

    private struct Printed: Encodable {
        let id: String
        let kind: VendorKeyKind
        let policies: Int
        let sequence: UInt64
        let terms: Int
        let trust: String
    }
}

struct KeysSwitch: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "switch", abstract: "Takes the next TLS key into use.",
        discussion: """
            Refused while devices have not shown that they know it. It needs no root key; start \
            `serve` anew afterwards.
            """)

    /// What can be switched.
    enum Kind: String, ExpressibleByArgument { case tls }

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Argument(help: "tls.") var kind: Kind
    @Flag(help: "Also when devices have not shown that they know the next key.") var yes = false

    func run() throws {
        let id = try data.service().switchTLS(isForced: yes)
        try console.result(
            ["id": id, "kind": kind.rawValue],
            text: "the TLS key \(id) is in use; start `serve` anew", format: common.format)
    }
}

struct KeysRetire: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retire", abstract: "Takes a key out of the trust file.",
        discussion: """
            What an issuer key signed counts no more for devices that have the new trust file. What \
            is sealed to a sealing key is not opened any more. Refused while somebody needs the key.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @OptionGroup var root: RootKeyOptions
    @Argument(help: "issuer, sealing or tls.", transform: keyKind) var kind: VendorKeyKind
    @Argument(help: "Its id of `keys list`, or enough of it.") var id: String
    @Flag(help: "Also when somebody needs it: the key leaked.") var yes = false

    func run() throws {
        let keys = try data.keys()
        let done = try data.service().retire(
            kind, id, isForced: yes, rootKey: root.path(keys))
        let hurt = done.dependents.reasons(kind).map { "needed      \($0)" }
        try console.result(
            Printed(
                dependents: done.dependents, id: done.key, kind: kind,
                sequence: done.statement.sequence, trust: keys.trustFile),
            text: ([
                "retired     \(kind.rawValue) \(done.key)",
                "trust file  \(keys.trustFile), sequence \(done.statement.sequence)",
            ] + hurt).joined(separator: "\n"), format: common.format)
    }

    private struct Printed: Encodable {
        let dependents: KeyDependents
        let id: String
        let kind: VendorKeyKind
        let sequence: UInt64
        let trust: String
    }
}
