package import HoldfastCrypto
package import HoldfastProtocol
package import HoldfastTPMWire

/// A license with its lease for a device without a TPM: keys in software, documents that are really
/// signed.
package struct SampleLicense: Sendable {
    private let issuerSeed: [UInt8]
    private let approvalKey: ECPublicKey
    private let attestationKey: TPMName
    private let parent: PublicArea
    private let epochCounter: NVPublicArea
    private let leaseKey: [UInt8]
    private let entitlements: [License.Entitlement]

    /// Takes the keys of a vendor and a device.
    ///
    /// - Parameters:
    ///   - issuerSeed: of the key that signs; 32 bytes.
    ///   - parent: the device's lease parent.
    ///   - leaseKey: what the TPM would release; 32 bytes.
    package init(
        issuerSeed: [UInt8], approvalKey: ECPublicKey, attestationKey: TPMName,
        parent: PublicArea, epochCounter: NVPublicArea, leaseKey: [UInt8],
        entitlements: [License.Entitlement]
    ) {
        self.issuerSeed = issuerSeed
        self.approvalKey = approvalKey
        self.attestationKey = attestationKey
        self.parent = parent
        self.epochCounter = epochCounter
        self.leaseKey = leaseKey
        self.entitlements = entitlements
    }

    /// Of every sample.
    package static let id = LicenseID(unchecked: [UInt8](repeating: 7, count: 16))

    /// Of every sample: soft for `preview`, advisory for `hint`, else strict.
    package static let terms = Terms(
        id: "standard", version: 3, licenseClass: .test, leaseTicks: 600_000,
        renewAfterTicks: 300_000, graceAfterTicks: 450_000, softAfterTicks: 400_000,
        degradedTicks: 200_000, resetAllowance: 4, restartAllowance: 0,
        evidenceValiditySeconds: 3600, nonceLifetimeSeconds: 7200,
        enforcement: ["preview": .soft, "hint": .advisory], defaultEnforcement: .strict,
        degradedEntitlements: ["preview"], issuedAt: 1_800_000_000)

    /// The license before it is signed.
    package var license: License {
        License(
            id: Self.id, product: "scanner", entitlements: entitlements, terms: "standard",
            termsVersion: 3, licenseClass: .test, endsAt: 1_900_000_000, issuedAt: 1_800_000_000)
    }

    /// What the lease is bound to: PCR 7 of a model.
    package static func reference(product: String = "scanner") throws -> PolicyReference {
        try PolicyReference(
            role: .lease(product: product), scope: .model("gateway"), generation: 1,
            selection: PCRSelection(.sha256, [PCRIndex.all[7]]))
    }

    /// The policy of the lease.
    package func policy(of reference: PolicyReference) -> LeasePolicy {
        LeasePolicy(
            approvalKey: KeyTemplate.approvalKey(approvalKey).name,
            policyRef: reference.policyRef, epochCounter: epochCounter, epoch: 5, lowestClock: 0,
            highestClock: 1_600_000, highestResetCount: 9, highestRestartCount: 0)
    }

    /// What may be changed of a set before it is signed.
    package struct Changes {
        /// Of the terms.
        package var terms: (inout Terms) -> Void
        /// Of the license.
        package var license: (inout License) -> Void
        /// Of the lease statement.
        package var statement: (inout LeaseStatement) -> Void
        /// The policy of the sealed object, when it is another one than the statement's.
        package var blobPolicy: [UInt8]?
        /// Of the reference.
        package var product: String

        /// Changes what is given, and nothing else.
        package init(
            terms: @escaping (inout Terms) -> Void = { _ in },
            license: @escaping (inout License) -> Void = { _ in },
            statement: @escaping (inout LeaseStatement) -> Void = { _ in },
            blobPolicy: [UInt8]? = nil, product: String = "scanner"
        ) {
            self.terms = terms
            self.license = license
            self.statement = statement
            self.blobPolicy = blobPolicy
            self.product = product
        }
    }

    /// The sections of a license with its lease, which counts from 1,000,000 ms.
    package func sections(
        _ changes: Changes = Changes(), random: RandomSource
    ) throws -> [(type: SectionType, bytes: [UInt8])] {
        let issuer = try Ed25519PrivateKey(seed: SecretBytes(copying: issuerSeed))
        var terms = Self.terms
        changes.terms(&terms)
        var license = license
        changes.license(&license)
        let reference = try Self.reference(product: changes.product)
        let policy = policy(of: reference)
        let secret = SecretBytes(copying: leaseKey)
        let blob = try ImportBlob(
            sealing: secret, attributes: KeyTemplate.sealedLeaseAttributes,
            policy: changes.blobPolicy ?? policy.policy.digest, parent: parent, random: random)
        let sealed = try LeaseRights(
            license: license.id, serial: 1, entitlements: license.entitlements.map(\.name)
        ).sealed(for: attestationKey, key: secret, random: random)
        let signedTerms = try terms.signed(with: issuer)
        func hash(_ bytes: [UInt8]) -> [UInt8] { HashAlgorithm.sha256.digest(bytes) }
        var statement = LeaseStatement(
            license: license.id, serial: 1, incarnation: 1,
            importBlobHash: hash(LicenseDocument.section(blob)),
            sealedLeaseHash: hash(LicenseDocument.section(sealed)),
            termsHash: hash(LicenseDocument.section(terms: signedTerms)),
            objectName: TPMName(hash: .sha256, publicArea: blob.publicArea), reference: reference,
            issuedTicks: 1_000_000, renewTicks: 1_300_000, graceTicks: 1_450_000,
            softEndTicks: 1_400_000, degradedEndTicks: 1_800_000, policy: policy,
            appraisal: AppraisalID(unchecked: [UInt8](repeating: 2, count: 16)),
            issuedAt: 1_800_000_000, endsAt: 1_800_000_600)
        changes.statement(&statement)
        return LicenseDocument.parts(
            terms: signedTerms, license: try license.signed(for: attestationKey, with: issuer),
            statement: try statement.signed(for: attestationKey, with: issuer),
            sealedLease: sealed, importBlob: blob)
    }
}
