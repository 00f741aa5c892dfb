import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastFiles
import HoldfastServices

struct SecretCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secret",
        abstract: "Secrets that leases carry: what an entitlement unlocks beyond an `if`.",
        subcommands: [SecretMake.self, SecretList.self])
}

struct SecretMake: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "make", abstract: "Makes the secret of an entitlement of a product.",
        discussion: """
            Encrypt a model, a map or an image under it; the application gets it with \
            secret(for:), and only when the TPM opens the lease. Every device of the product gets \
            the same 32 bytes, with its next lease.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The product of the licenses.") var product: String
    @Option(help: "The entitlement that unlocks it.") var entitlement: String
    @Option(help: "Take these 32 bytes instead of random ones.", completion: .file())
    var from: String?
    @Option(help: "Write it for your own encryption, mode 0600.", completion: .file())
    var out: String?
    @Flag(help: "Take the place of the one that there is.") var replace = false

    private struct Printed: Encodable {
        let entitlement: String
        let product: String
    }

    func run() throws {
        let keys = try data.keys()
        _ = try keys.trust()
        try keys.makeSecret(
            product: product, entitlement: entitlement, bytes: given(), replacing: replace,
            random: .system)
        if let out {
            try keys.secret(product: product, entitlement: entitlement)?.withBytes { bytes in
                try Files.write(bytes, to: out, mode: 0o600)
            }
        }
        try console.result(
            Printed(entitlement: entitlement, product: product),
            text: "newer leases of `\(product)` carry the secret of `\(entitlement)`"
                + (out.map { "; it is in \($0)" } ?? ""), format: common.format)
    }

    private func given() throws -> SecretBytes? {
        guard let from else { return nil }
        return try Files.withDescriptor(from) { try SecretBytes(reading: $0, maximum: 4096) }
    }
}

struct SecretList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Which entitlements have a secret.")

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions

    private struct Printed: Encodable {
        let entitlement: String
        let product: String
    }

    func run() throws {
        let all = try data.keys().secrets().map {
            Printed(entitlement: $0.entitlement, product: $0.product)
        }
        try console.result(
            all,
            text: all.isEmpty
                ? "no secrets"
                : all.map { "\($0.product)  \($0.entitlement)" }.joined(separator: "\n"),
            format: common.format)
    }
}
