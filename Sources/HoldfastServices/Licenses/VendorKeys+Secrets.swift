public import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol

extension VendorKeys {
    // MARK: Secrets of entitlements

    /// The separator cannot be in a name, so that no name leads out of the directory.
    private static func secretName(_ product: String, _ entitlement: String) throws -> String {
        for name in [product, entitlement] where !License.isName(name) {
            throw ServiceError.badArgument(
                "`\(name)` is no name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`")
        }
        return "secrets/\(product)@\(entitlement)"
    }

    /// The secret that leases of a product carry for an entitlement; 32 bytes.
    ///
    /// - Returns: `nil` when the vendor made none.
    public func secret(product: String, entitlement: String) throws -> SecretBytes? {
        let name = try Self.secretName(product, entitlement)
        guard Files.exists(file(name)) else { return nil }
        return try read(name) { $0 }
    }

    /// Makes a secret, or takes one; devices get it with their next lease.
    ///
    /// - Parameters:
    ///   - bytes: 32; `nil` to draw them.
    ///   - replacing: another one may be there; what it unlocks stays locked for newer leases.
    public func makeSecret(
        product: String, entitlement: String, bytes: consuming SecretBytes?, replacing: Bool,
        random: RandomSource
    ) throws {
        let name = try Self.secretName(product, entitlement)
        if Files.exists(file(name)), !replacing {
            throw ServiceError.badArgument(
                "there is a secret for `\(entitlement)` of `\(product)`; with --replace newer leases carry another one, and what is encrypted under the first one has to be encrypted again"
            )
        }
        let secret = bytes ?? random.secret(LeaseRights.secretSize)
        guard secret.count == LeaseRights.secretSize else {
            throw ServiceError.badArgument("a secret has 32 bytes")
        }
        try Files.makePrivateDirectory(file("secrets"))
        try secret.withBytes { try write(name, $0) }
    }

    /// The product and the entitlement of every secret, in order.
    public func secrets() throws -> [(product: String, entitlement: String)] {
        guard Files.exists(file("secrets")) else { return [] }
        return try Files.names(in: file("secrets")).compactMap { name in
            let halves = name.split(separator: "@")
            return halves.count == 2 ? (String(halves[0]), String(halves[1])) : nil
        }
    }
}
