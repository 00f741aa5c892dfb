import HoldfastCrypto
import HoldfastFuzz
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

    typealias Changes = SampleLicense.Changes

    private var sample: SampleLicense {
        SampleLicense(
            issuerSeed: issuerSeed, approvalKey: approvalKey.publicKey,
            attestationKey: attestationKey, parent: parent, epochCounter: epochCounter,
            leaseKey: leaseKey,
            entitlements: ["scan", "preview", "hint"].map { .init(name: $0, limit: nil) })
    }

    func terms() -> Terms { SampleLicense.terms }

    static let licenseID = SampleLicense.id

    func migration() -> TermsMigration {
        TermsMigration(
            license: Self.licenseID, terms: "standard", from: 3, to: 4,
            termsHash: [UInt8](repeating: 9, count: 32), notBefore: 1_800_009_000,
            issuedAt: 1_800_000_000)
    }

    func license() -> License { sample.license }

    func policy(of reference: PolicyReference) -> LeasePolicy { sample.policy(of: reference) }

    func reference(product: String = "scanner") throws -> PolicyReference {
        try SampleLicense.reference(product: product)
    }

    /// The sections of a license with its lease, which counts from 1,000,000 ms.
    func sections(
        _ changes: Changes = Changes()
    ) throws -> [(type: SectionType, bytes: [UInt8])] {
        try sample.sections(changes, random: .system)
    }

    func document(_ changes: Changes = Changes()) throws -> LicenseDocument {
        try LicenseDocument(
            decoding: Container(.license, sections(changes)).encoded, in: context)
    }
}
