package import HoldfastCrypto
package import HoldfastProtocol
import HoldfastTPMWire

/// A token of each kind that we issue, with what another implementation needs to judge it.
package struct SampleToken: Sendable {
    /// Which document it is; the secret of an entitlement, which is none, has `nil`.
    package let kind: TokenKind?
    package let token: PASETOToken
    /// The seed of the signer, or the key that it is encrypted under; 32 bytes.
    package let key: [UInt8]
    /// The license id, or the incarnation as four bytes; empty for what is for everyone.
    package let about: [UInt8]
    /// What stands behind the binding in the implicit assertion.
    package let suffix: [UInt8]
    /// The Name of the attestation key.
    package let attestationKey: [UInt8]
    /// Reads it as the programs do.
    package let read: @Sendable (PASETOToken) throws -> Void

    /// One of each kind, all for one device.
    package static func all() throws -> [SampleToken] {
        let sample = try Sample.shared.get()
        let seed = sample.issuerSeed
        let issuer = try sample.issuer()
        let issuers = [issuer.publicKey]
        let name = sample.attestationKey.name
        let license = [UInt8](repeating: 7, count: 16)
        let enrollment: [UInt8] = [0, 0, 0, 1]
        func signed(
            _ kind: TokenKind, _ about: [UInt8], _ token: PASETOToken,
            _ read: @escaping @Sendable (PASETOToken) throws -> Void
        ) -> SampleToken {
            SampleToken(
                kind: kind, token: token, key: seed, about: about, suffix: [],
                attestationKey: name.bytes, read: read)
        }
        let parts = try LicenseDocument(
            decoding: Container(.license, sample.license).encoded, in: sample.context())
        let tokens = try parts.signedParts()
        let statement = parts.statement
        let policy = AppraisalPolicy(
            id: "boot", version: 1, model: "gateway", onDrift: .flag,
            references: [.init(.sha256, PCRIndex.all[7]): [[UInt8](repeating: 1, count: 32)]],
            unchecked: [], require: [:], revoked: [], authorities: nil, firmware: [],
            imaPolicy: nil, issuedAt: 1)
        let key = SecretBytes(copying: sample.leaseKey)
        let random = RepeatedRandom(5000).source
        let secret = try LeaseRights.seal(
            SecretBytes(copying: sample.localKey), of: "scan", license: statement.license,
            serial: statement.serial, for: name, key: key, random: random)
        let rights = LeaseRights(
            license: statement.license, serial: statement.serial, entitlements: ["scan"],
            secrets: ["scan": secret])
        let leaseKey = sample.leaseKey
        func sealed(
            _ kind: TokenKind?, _ suffix: String, _ token: PASETOToken,
            _ read: @escaping @Sendable (PASETOToken) throws -> Void
        ) -> SampleToken {
            SampleToken(
                kind: kind, token: token, key: leaseKey, about: license,
                suffix: Array(suffix.utf8), attestationKey: name.bytes, read: read)
        }
        return [
            signed(.trust, [], try sample.trust().signed(with: issuer)) {
                _ = try TrustStatement(verifying: $0, replacing: nil)
            },
            signed(.deviceStatement, enrollment, try sample.statement().signed(with: issuer)) {
                _ = try DeviceStatement(verifying: $0, issuers: issuers, attestationKey: name)
            },
            signed(.terms, [], tokens.terms) { _ = try Terms(verifying: $0, issuers: issuers) },
            signed(.license, license, tokens.license) {
                _ = try License(verifying: $0, issuers: issuers, attestationKey: name)
            },
            signed(
                .termsMigration, license,
                try sample.migration(to: sample.nonce).signed(for: name, with: issuer)
            ) {
                _ = try TermsMigration(verifying: $0, issuers: issuers, attestationKey: name)
            },
            signed(.testLicense, [], try sample.testLicense().signed(with: issuer)) {
                _ = try TestLicense(verifying: $0, issuers: issuers)
            },
            signed(.leaseStatement, license, tokens.statement) {
                _ = try LeaseStatement(verifying: $0, issuers: issuers, attestationKey: name)
            },
            signed(
                .reply, enrollment,
                try sample.header(of: Container(.license, sample.license), issuer)
            ) {
                _ = try ReplyHeader(
                    verifying: $0, issuers: issuers, incarnation: 1, attestationKey: name)
            },
            signed(.receipt, enrollment, try sample.receipt()) {
                _ = try Receipt(
                    verifying: $0, issuers: issuers, incarnation: 1, attestationKey: name)
            },
            signed(.appraisalPolicy, [], try policy.signed(with: issuer)) {
                _ = try AppraisalPolicy(verifying: $0, issuers: issuers)
            },
            sealed(.leaseRights, "", try rights.sealed(for: name, key: key, random: random)) {
                _ = try LeaseRights(
                    opening: $0, of: statement, attestationKey: name,
                    key: SecretBytes(copying: leaseKey))
            },
            sealed(nil, "/\(statement.serial)/scan", secret) {
                var held = rights
                held.secrets["scan"] = $0
                _ = try held.secret(
                    of: "scan", attestationKey: name, key: SecretBytes(copying: leaseKey))
            },
        ]
    }
}
