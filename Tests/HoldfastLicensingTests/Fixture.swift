import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

/// A vendor and a device without a TPM: keys in software, and documents that are really signed.
struct Fixture {
    /// Keys are not copyable; the seed makes the same one again.
    private let issuerSeed = RandomSource.system.bytes(Ed25519PrivateKey.seedSize)
    let approvalKey = ECPrivateKey(curve: .p256, random: .system)
    let parentKey = ECPrivateKey(curve: .p256, random: .system)
    let attestationKey: TPMName
    let epochCounter = KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0100)).written
    let leaseKey = RandomSource.system.bytes(32)

    init() { attestationKey = TPMName(hash: .sha256, publicArea: RandomSource.system.bytes(8)) }

    func issuerKey() throws -> Ed25519PrivateKey {
        try Ed25519PrivateKey(seed: SecretBytes(copying: issuerSeed))
    }

    var parent: PublicArea {
        var area = KeyTemplate.leaseParent(unique: [])
        area.kind = .ecc(
            symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: parentKey.publicKey.x,
            y: parentKey.publicKey.y)
        return area
    }

    var context: LicenseDocument.Context {
        get throws {
            let key = try issuerKey()
            let trust = TrustStatement(
                rootKey: key.publicKey, sequence: 1, issuerKeys: [key.publicKey], sealingKeys: [],
                approvalKey: approvalKey.publicKey, tlsKeys: [], endorsementKeys: [], factSalt: [],
                urls: [], selection: PCRSelection(.sha256, [PCRIndex.all[7]]))
            let keys = EnrollmentRequest.Keys(
                vendorID: [], endorsementKey: parent, endorsementCertificate: [],
                attestationKey: parent, leaseParent: parent, leaseParentSalt: [],
                epochCounter: epochCounter, ledgerCounter: epochCounter, hardwareFacts: [])
            let device = DeviceStatement(
                incarnation: 1, keys: keys, ledgerKeys: [], endorsementKeyKind: "",
                manufacturer: "", model: "", checks: [], requestHash: [], nonces: [], issuedAt: 1)
            var context = LicenseDocument.Context(trust: trust, device: device)
            context.attestationKey = attestationKey
            return context
        }
    }

    // MARK: Documents

    func terms() -> Terms {
        Terms(
            id: "standard", version: 3, licenseClass: .test, leaseTicks: 600_000,
            renewAfterTicks: 300_000, graceAfterTicks: 450_000, softAfterTicks: 400_000,
            degradedTicks: 200_000, resetAllowance: 4, restartAllowance: 0,
            evidenceValiditySeconds: 3600, nonceLifetimeSeconds: 7200,
            enforcement: ["preview": .soft, "hint": .advisory], defaultEnforcement: .strict,
            degradedEntitlements: ["preview"], issuedAt: 1_800_000_000)
    }

    static let licenseID = LicenseID(unchecked: [UInt8](repeating: 7, count: 16))

    func license() -> License {
        License(
            id: Self.licenseID, product: "scanner",
            entitlements: ["scan", "preview", "hint"].map { .init(name: $0, limit: nil) },
            terms: "standard", termsVersion: 3, licenseClass: .test, endsAt: 1_900_000_000,
            issuedAt: 1_800_000_000)
    }

    func migration() -> TermsMigration {
        TermsMigration(
            license: Self.licenseID, terms: "standard", from: 3, to: 4,
            termsHash: [UInt8](repeating: 9, count: 32), notBefore: 1_800_009_000,
            issuedAt: 1_800_000_000)
    }

    func policy(of reference: PolicyReference) -> LeasePolicy {
        LeasePolicy(
            approvalKey: KeyTemplate.approvalKey(approvalKey.publicKey).name,
            policyRef: reference.policyRef, epochCounter: epochCounter, epoch: 5,
            lowestClock: 0, highestClock: 1_600_000, highestResetCount: 9, highestRestartCount: 0)
    }

    func reference(product: String = "scanner") throws -> PolicyReference {
        try PolicyReference(
            role: .lease(product: product), scope: .model("gateway"), generation: 1,
            selection: PCRSelection(.sha256, [PCRIndex.all[7]]))
    }

    /// What may be changed of a set before it is signed.
    struct Changes {
        var terms: (inout Terms) -> Void = { _ in }
        var license: (inout License) -> Void = { _ in }
        var statement: (inout LeaseStatement) -> Void = { _ in }
        var blobPolicy: [UInt8]?
        var product = "scanner"
    }

    /// The sections of a license with its lease, which counts from 1,000,000 ms.
    func sections(
        _ changes: Changes = Changes()
    ) throws -> [(type: SectionType, bytes: [UInt8])] {
        let key = try issuerKey()
        var terms = terms()
        changes.terms(&terms)
        var license = license()
        changes.license(&license)
        let reference = try reference(product: changes.product)
        let policy = policy(of: reference)
        let secret = SecretBytes(copying: leaseKey)
        let blob = try ImportBlob(
            sealing: secret, attributes: KeyTemplate.sealedLeaseAttributes,
            policy: changes.blobPolicy ?? policy.policy.digest, parent: parent, random: .system)
        let sealed = try LeaseRights(
            license: license.id, serial: 1, entitlements: license.entitlements.map(\.name)
        ).sealed(for: attestationKey, key: secret, random: .system)
        let termsToken = try terms.signed(with: key)
        func hash(_ bytes: [UInt8]) -> [UInt8] { HashAlgorithm.sha256.digest(bytes) }
        var statement = LeaseStatement(
            license: license.id, serial: 1, incarnation: 1,
            importBlobHash: hash(LicenseDocument.section(blob)),
            sealedLeaseHash: hash(LicenseDocument.section(sealed)),
            termsHash: hash(LicenseDocument.section(terms: termsToken)),
            objectName: TPMName(hash: .sha256, publicArea: blob.publicArea), reference: reference,
            issuedTicks: 1_000_000, renewTicks: 1_300_000, graceTicks: 1_450_000,
            softEndTicks: 1_400_000, degradedEndTicks: 1_800_000, policy: policy,
            appraisal: AppraisalID(unchecked: [UInt8](repeating: 2, count: 16)),
            issuedAt: 1_800_000_000, endsAt: 1_800_000_600)
        changes.statement(&statement)
        return LicenseDocument.parts(
            terms: termsToken, license: try license.signed(for: attestationKey, with: key),
            statement: try statement.signed(for: attestationKey, with: key), sealedLease: sealed,
            importBlob: blob)
    }

    func document(_ changes: Changes = Changes()) throws -> LicenseDocument {
        try LicenseDocument(
            decoding: Container(.license, sections(changes)).encoded, in: context)
    }
}
