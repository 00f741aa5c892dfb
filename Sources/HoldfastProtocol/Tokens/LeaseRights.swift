public import HoldfastCrypto
public import HoldfastTPMWire

/// What an opened lease gives: the right to use strict entitlements now.
///
/// Encrypted as PASETO v4.local under the 32 bytes that the TPM releases, and bound to license and
/// device like the statement. Without the key it neither opens nor can it be made.
///
/// docs/spec/formats.md, "Sealed lease".
public struct LeaseRights: Sendable, Hashable {
    public var license: LicenseID
    public var serial: UInt32
    /// Names of the entitlements that this lease opens.
    public var entitlements: [String]
    /// A secret for each of some entitlements, encrypted a second time under the lease key: who opens
    /// the rights to learn what they allow does not hold what they unlock.
    public var secrets: [String: PASETOToken]

    /// How many bytes a secret has.
    public static let secretSize = 32

    public init(
        license: LicenseID, serial: UInt32, entitlements: [String],
        secrets: [String: PASETOToken] = [:]
    ) {
        self.license = license
        self.serial = serial
        self.entitlements = entitlements
        self.secrets = secrets
    }

    private static func binding(
        _ license: LicenseID, _ serial: UInt32, _ entitlement: String, _ attestationKey: TPMName
    ) -> [UInt8] {
        DeviceBinding.license(license.bytes, on: attestationKey)
            + Array("/\(serial)/\(entitlement)".utf8)
    }

    /// Encrypts the secret of an entitlement for the rights of one lease.
    ///
    /// - Parameters:
    ///   - secret: of ``secretSize`` bytes.
    ///   - key: 32 bytes, the content of the sealed object.
    public static func seal(
        _ secret: borrowing SecretBytes, of entitlement: String, license: LicenseID,
        serial: UInt32, for attestationKey: TPMName, key: borrowing SecretBytes,
        random: RandomSource
    ) throws(CryptoError) -> PASETOToken {
        try secret.withBytes { (bytes) throws(CryptoError) in
            try PASETO.encrypt(
                bytes, footer: [],
                implicitAssertion: binding(license, serial, entitlement, attestationKey), key: key,
                random: random)
        }
    }

    /// Decrypts the secret of an entitlement with the key that the TPM released.
    ///
    /// - Returns: `nil` when the lease has none for it.
    public func secret(
        of entitlement: String, attestationKey: TPMName, key: borrowing SecretBytes
    ) throws(CryptoError) -> SecretBytes? {
        guard let token = secrets[entitlement] else { return nil }
        return try PASETO.decrypt(
            token, key: key, expectedFooter: [],
            implicitAssertion: Self.binding(license, serial, entitlement, attestationKey))
    }

    /// Encrypts the rights.
    ///
    /// - Parameter key: 32 bytes, the content of the sealed object.
    public func sealed(
        for attestationKey: TPMName, key: borrowing SecretBytes, random: RandomSource
    ) throws(CryptoError) -> PASETOToken {
        var claims: [String: CanonicalJSON] = [
            "kind": .string(TokenKind.leaseRights.rawValue),
            "license": .string(Base64URL.encode(license.bytes)),
            "serial": .number(UInt64(serial)),
            "entitlements": .array(entitlements.map { .string($0) }),
        ]
        if !secrets.isEmpty {
            claims["secrets"] = .object(secrets.mapValues { .string($0.text) })
        }
        return try PASETO.encrypt(
            CanonicalJSON.object(claims).encoded.span, footer: [],
            implicitAssertion: DeviceBinding.license(license.bytes, on: attestationKey), key: key,
            random: random)
    }

    /// Opens the rights with the key that the TPM released.
    ///
    /// - Throws: `.notAuthentic` with another key, for another license or another device; otherwise
    ///   when they are not those of the lease.
    public init(
        opening token: PASETOToken, of statement: LeaseStatement, attestationKey: TPMName,
        key: borrowing SecretBytes
    ) throws(TokenError) {
        let payload: [UInt8]
        do throws(CryptoError) {
            let plain = try PASETO.decrypt(
                token, key: key, expectedFooter: [],
                implicitAssertion: DeviceBinding.license(
                    statement.license.bytes, on: attestationKey))
            payload = plain.withBytes { bytes in bytes.indices.map { bytes[$0] } }
        } catch {
            throw .notAuthentic(error)
        }
        var claims = try ClaimsReader(payload, kind: .leaseRights)
        license = LicenseID(unchecked: try claims.bytes("license", count: 16))
        serial = UInt32(try claims.number("serial", in: 1...UInt64(UInt32.max)))
        entitlements = try claims.list("entitlements", counts: 0...License.maximumEntitlements) {
            (value) throws(TokenError) in
            var one = ClaimsReader(single: value, name: "entitlements")
            return try one.name("entitlements")
        }
        secrets = [:]
        for (name, value) in try claims.optionalObject("secrets") ?? [:] {
            guard entitlements.contains(name), case .string(let text) = value,
                let token = try? PASETOToken(parsing: text)
            else { throw .malformed("secrets") }
            secrets[name] = token
        }
        try claims.finish()
        guard license == statement.license, serial == statement.serial else { throw .otherDevice }
    }
}
