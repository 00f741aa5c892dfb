import HoldfastCrypto
public import HoldfastTPMWire

/// What a device tells a vendor of itself, so that it can be enrolled.
///
/// Nothing in it is proved by the document alone: the certifications say that parent and counters are
/// in the TPM of the attestation key, and only the activation of a credential says that this TPM is
/// the one of the endorsement key.
///
/// docs/spec/formats.md, "Enrollment request".
public struct EnrollmentRequest: Sendable, Hashable {
    /// Who asks, and with which keys.
    public struct Keys: Sendable, Hashable {
        public var vendorID: [UInt8]
        public var endorsementKey: PublicArea
        /// DER as it was read from NV.
        public var endorsementCertificate: [UInt8]
        /// Issuers of it that the TPM maker left in NV, in DER; they vouch for nothing by themselves.
        public var endorsementIssuers: [[UInt8]]
        public var attestationKey: PublicArea
        public var leaseParent: PublicArea
        /// 16 bytes that went into the unique field of the lease parent.
        public var leaseParentSalt: [UInt8]
        /// Written.
        public var epochCounter: NVPublicArea
        /// Written.
        public var ledgerCounter: NVPublicArea
        /// Opaque ids of components, each the bytes of a ``HardwareFact``.
        public var hardwareFacts: [[UInt8]]
        /// The sequence of the trust statement that the device has; `nil` from one that takes no newer
        /// one from a response.
        public var trustSequence: UInt64?

        public init(
            vendorID: [UInt8], endorsementKey: PublicArea, endorsementCertificate: [UInt8],
            attestationKey: PublicArea, leaseParent: PublicArea, leaseParentSalt: [UInt8],
            epochCounter: NVPublicArea, ledgerCounter: NVPublicArea, hardwareFacts: [[UInt8]],
            endorsementIssuers: [[UInt8]] = [], trustSequence: UInt64? = nil
        ) {
            self.trustSequence = trustSequence
            self.endorsementIssuers = endorsementIssuers
            self.vendorID = vendorID
            self.endorsementKey = endorsementKey
            self.endorsementCertificate = endorsementCertificate
            self.attestationKey = attestationKey
            self.leaseParent = leaseParent
            self.leaseParentSalt = leaseParentSalt
            self.epochCounter = epochCounter
            self.ledgerCounter = ledgerCounter
            self.hardwareFacts = hardwareFacts
        }

        private var parts: [(type: SectionType, bytes: [UInt8])] {
            [
                (.vendorID, vendorID), (.endorsementKey, endorsementKey.wireBytes),
                (.endorsementCertificate, endorsementCertificate),
                (.attestationKey, attestationKey.wireBytes),
                (.leaseParent, leaseParent.wireBytes), (.leaseParentSalt, leaseParentSalt),
                (.epochCounter, epochCounter.wireBytes),
                (.ledgerCounter, ledgerCounter.wireBytes),
            ] + hardwareFacts.map { (.hardwareFact, $0) }
                + endorsementIssuers.map { (.endorsementIssuer, $0) }
                + TrustStatement.parts(sequence: trustSequence)
        }

        /// What the certifications sign as qualifying data: H(request, the other sections).
        public func qualifyingData() throws(DocumentError) -> [UInt8] {
            framedHash(.request, try Container(.enrollmentRequest, parts).encoded)
        }

        fileprivate func container(
            _ certifications: Certifications
        ) throws(DocumentError) -> Container {
            try Container(
                .enrollmentRequest,
                parts + [
                    (.leaseParentAttestation, certifications.leaseParent.attestation.bytes),
                    (.leaseParentSignature, certifications.leaseParent.signature.bytes),
                    (.epochCounterAttestation, certifications.epochCounter.attestation.bytes),
                    (.epochCounterSignature, certifications.epochCounter.signature.bytes),
                    (.ledgerCounterAttestation, certifications.ledgerCounter.attestation.bytes),
                    (.ledgerCounterSignature, certifications.ledgerCounter.signature.bytes),
                ])
        }
    }

    /// What the attestation key certified, over ``Keys/qualifyingData()``.
    public struct Certifications: Sendable, Hashable {
        /// `TPM2_Certify` of the lease parent.
        public var leaseParent: SignedAttestation
        /// `TPM2_NV_Certify` of the epoch counter.
        public var epochCounter: SignedAttestation
        /// `TPM2_NV_Certify` of the ledger counter.
        public var ledgerCounter: SignedAttestation

        public init(
            leaseParent: SignedAttestation, epochCounter: SignedAttestation,
            ledgerCounter: SignedAttestation
        ) {
            self.leaseParent = leaseParent
            self.epochCounter = epochCounter
            self.ledgerCounter = ledgerCounter
        }
    }

    public let keys: Keys
    public let certifications: Certifications

    private static let sections: Set<SectionType> = [
        .vendorID, .endorsementKey, .endorsementCertificate, .attestationKey, .leaseParent,
        .leaseParentSalt, .epochCounter, .ledgerCounter, .hardwareFact, .leaseParentAttestation,
        .leaseParentSignature, .epochCounterAttestation, .epochCounterSignature,
        .ledgerCounterAttestation, .ledgerCounterSignature, .endorsementIssuer,
        .trustSequence,
    ]

    public init(keys: Keys, certifications: Certifications) {
        self.keys = keys
        self.certifications = certifications
    }

    /// The document.
    public func encoded() throws(DocumentError) -> [UInt8] {
        try keys.container(certifications).encoded
    }

    /// Reads a request; what it claims is not checked yet.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        let container = try Container(decoding: bytes)
        try container.demand(.enrollmentRequest, sections: Self.sections)
        let vendorID = try container.required(.vendorID)
        guard vendorID.count == 32 else { throw .malformed(.vendorID) }
        let salt = try container.required(.leaseParentSalt)
        guard salt.count == 16 else { throw .malformed(.leaseParentSalt) }
        let facts = container.all(.hardwareFact)
        guard facts.allSatisfy({ HardwareFact($0) != nil }), facts.count <= Self.maximumFacts else {
            throw .malformed(.hardwareFact)
        }
        let issuers = container.all(.endorsementIssuer)
        guard issuers.count <= Self.maximumIssuers else { throw .malformed(.endorsementIssuer) }
        keys = Keys(
            vendorID: vendorID, endorsementKey: try container.structure(.endorsementKey),
            endorsementCertificate: try container.required(.endorsementCertificate),
            attestationKey: try container.structure(.attestationKey),
            leaseParent: try container.structure(.leaseParent), leaseParentSalt: salt,
            epochCounter: try container.structure(.epochCounter),
            ledgerCounter: try container.structure(.ledgerCounter), hardwareFacts: facts,
            endorsementIssuers: issuers, trustSequence: try container.trustSequence())
        certifications = Certifications(
            leaseParent: try container.attestation(
                .leaseParentAttestation, .leaseParentSignature),
            epochCounter: try container.attestation(
                .epochCounterAttestation, .epochCounterSignature),
            ledgerCounter: try container.attestation(
                .ledgerCounterAttestation, .ledgerCounterSignature))
    }

    /// The most issuers of an endorsement key certificate.
    public static let maximumIssuers = 8
    /// The most hardware facts.
    public static let maximumFacts = 32
}
