import HoldfastCrypto
public import HoldfastTPMWire

/// Why a certification proves nothing.
public enum CertificationError: Error, Sendable, Hashable {
    /// Not signed by this attestation key over these bytes, or with another scheme.
    case signatureInvalid
    /// Over other qualifying data: for another request, or an old one.
    case qualifyingDataMismatch
    /// About something else than what was asked.
    case subjectMismatch
    /// The object lives in another hierarchy.
    case hierarchyMismatch
    /// Signed by a key in another place than the endorsement hierarchy.
    case signerMismatch
}

/// A key in the endorsement hierarchy that signs certifications, demanded bit by bit.
public struct CertifyingKey: Sendable {
    private let area: PublicArea
    private let key: ECPublicKey

    /// An attestation key.
    ///
    /// Which vendor asked for the key cannot be seen: a TPM overwrites the unique field of the
    /// template with the point that it derives from it.
    ///
    /// - Throws: `.signerMismatch` when the area is not the template of an attestation key with the
    ///   point filled in.
    public init(_ area: PublicArea) throws(CertificationError) {
        try self.init(area, template: KeyTemplate.attestationKey(vendorID: []))
    }

    /// A ledger key: it signs checkpoints in an approved boot state alone.
    ///
    /// - Parameter policy: the one that it must have.
    public init(ledgerKey area: PublicArea, policy: Policy) throws(CertificationError) {
        try self.init(area, template: KeyTemplate.ledgerKey(unique: [], policy: policy))
    }

    private init(_ area: PublicArea, template: PublicArea) throws(CertificationError) {
        var demanded = template
        guard case .ecc(let symmetric, let scheme, let curve, _, _) = demanded.kind,
            case .ecc(_, _, _, let x, let y) = area.kind
        else { throw .signerMismatch }
        demanded.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: x, y: y)
        guard demanded == area, let key = try? area.ecPublicKey() else { throw .signerMismatch }
        self.area = area
        self.key = key
    }

    /// Signature, signer and qualifying data: what every certification has.
    private func check(
        _ signed: SignedAttestation, _ qualifyingData: [UInt8]
    ) throws(CertificationError) -> Attestation {
        guard case .ecdsa(.sha256, let r, let s) = signed.signature.value else {
            throw .signatureInvalid
        }
        do throws(KeyError) {
            try key.verifyECDSA(r: r, s: s, over: signed.attestation.bytes, hash: .sha256)
        } catch {
            throw .signatureInvalid
        }
        let attestation = signed.attestation.value
        guard
            attestation.qualifiedSigner
                == area.name.qualified(
                    below: TPMName(handle: .endorsement), hash: area.nameAlgorithm)
        else { throw .signerMismatch }
        guard constantTimeEqual(attestation.extraData, qualifyingData) else {
            throw .qualifyingDataMismatch
        }
        return attestation
    }

    /// Verifies that a lease parent is in the key's TPM, in the owner hierarchy.
    ///
    /// - Parameter area: as the verifier demands it; the Name is computed from it.
    public func verifyLeaseParent(
        _ signed: SignedAttestation, is area: PublicArea, qualifyingData: [UInt8]
    ) throws(CertificationError) -> CertifiedObject {
        // An endorsement primary of the same template differs in its qualified Name alone.
        try verify(signed, is: area, in: .owner, qualifyingData)
    }

    /// Verifies that a ledger key is in the key's TPM, in the endorsement hierarchy.
    public func verifyLedgerKey(
        _ signed: SignedAttestation, is area: PublicArea, qualifyingData: [UInt8]
    ) throws(CertificationError) -> CertifiedObject {
        try verify(signed, is: area, in: .endorsement, qualifyingData)
    }

    private func verify(
        _ signed: SignedAttestation, is area: PublicArea, in hierarchy: TPMHandle,
        _ qualifyingData: [UInt8]
    ) throws(CertificationError) -> CertifiedObject {
        let attestation = try check(signed, qualifyingData)
        guard case .certify(let name, let qualifiedName) = attestation.attested,
            name == area.name
        else { throw .subjectMismatch }
        guard
            qualifiedName
                == area.name.qualified(
                    below: TPMName(handle: hierarchy), hash: area.nameAlgorithm)
        else { throw .hierarchyMismatch }
        return CertifiedObject(name: name, clockInfo: attestation.clockInfo)
    }

    /// Verifies the value of a counter.
    ///
    /// - Parameter area: written, as the verifier demands it; never the device's word for its Name.
    public func verifyCounter(
        _ signed: SignedAttestation, is area: NVPublicArea, qualifyingData: [UInt8]
    ) throws(CertificationError) -> CertifiedCounter {
        let attestation = try check(signed, qualifyingData)
        guard let value = try? attestation.counterValue(of: area.name) else {
            throw .subjectMismatch
        }
        return CertifiedCounter(
            name: area.name, value: value, clockInfo: attestation.clockInfo)
    }
}

/// Proof that an object is in the TPM of an attestation key.
public struct CertifiedObject: Sendable, Hashable {
    public let name: TPMName
    /// When it was certified.
    public let clockInfo: ClockInfo

    fileprivate init(name: TPMName, clockInfo: ClockInfo) {
        self.name = name
        self.clockInfo = clockInfo
    }
}

/// Proof of a counter's value in the TPM of an attestation key.
public struct CertifiedCounter: Sendable, Hashable {
    public let name: TPMName
    public let value: UInt64
    /// When it was certified.
    public let clockInfo: ClockInfo

    fileprivate init(name: TPMName, value: UInt64, clockInfo: ClockInfo) {
        self.name = name
        self.value = value
        self.clockInfo = clockInfo
    }
}
