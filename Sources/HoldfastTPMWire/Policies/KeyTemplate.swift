public import HoldfastCrypto

/// The public areas that Holdfast asks a TPM for; every bit goes into a Name.
///
/// docs/spec/formats.md, "TPM templates".
public enum KeyTemplate {
    /// The policy of high-range endorsement keys: `PolicyOR(PolicyA, PolicyC)`.
    ///
    /// PolicyA is PolicySecret of the endorsement hierarchy. PolicyC is PolicyNV over an index of
    /// the platform maker; its branch is a constant of the profile and is never run here.
    public static func endorsementPolicy(_ hash: HashAlgorithm) -> EndorsementPolicy {
        EndorsementPolicy(hash: hash)
    }

    /// Attestation key of one vendor: `unique` is the vendor id, so vendors' keys differ.
    ///
    /// - Parameter vendorID: 32 bytes.
    public static func attestationKey(vendorID: [UInt8]) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0005_0472),
            authPolicy: [],
            kind: .ecc(
                symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: vendorID, y: []))
    }

    /// A key that signs quotes for whoever asks, without enrollment.
    ///
    /// - Parameter curve: P-384 comes with SHA-384.
    public static func quoteKey(on curve: EllipticCurve) -> PublicArea {
        let hash: HashAlgorithm = curve == .p384 ? .sha384 : .sha256
        return PublicArea(
            nameAlgorithm: hash, attributes: ObjectAttributes(rawValue: 0x0005_0472),
            authPolicy: [],
            kind: .ecc(symmetric: .none, scheme: .ecdsa(hash), curve: curve, x: [], y: []))
    }

    /// The key that signs checkpoints, in an approved boot state and nothing but NV_Certify.
    ///
    /// - Parameters:
    ///   - unique: 32 bytes, different for each vendor and policy reference.
    ///   - policy: from ``ledgerPolicy(approvalKey:policyRef:)``.
    public static func ledgerKey(unique: [UInt8], policy: Policy) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0005_0432),
            authPolicy: policy.digest,
            kind: .ecc(symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: unique, y: []))
    }

    /// The policy of the ledger key: an approved boot state, then NV_Certify alone; without the
    /// latter the key would sign quotes as well.
    public static func ledgerPolicy(approvalKey: TPMName, policyRef: [UInt8]) -> Policy {
        Policy(
            hash: .sha256,
            [.authorize(key: approvalKey, policyRef: policyRef), .commandCode(.nvCertify)])
    }

    /// The parent of leases: a storage key that never rewraps.
    ///
    /// An ordinary storage root key hands an imported blob to any key that an attacker names in
    /// `TPM2_Rewrap`; here userWithAuth is clear and the policy allows Import and Load alone.
    ///
    /// - Parameter unique: 32 bytes, different for each vendor and enrolment.
    public static func leaseParent(unique: [UInt8]) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0003_0432),
            authPolicy: leaseParentPolicy.digest,
            kind: .ecc(
                symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: unique, y: []))
    }

    /// The branches of the lease parent: Import, or Load.
    public static let leaseParentPolicy = Policy(
        hash: .sha256, [.or([[.commandCode(.importObject)], [.commandCode(.load)]])])

    /// A counter: incremented by its authorization value, read by anyone through its policy.
    ///
    /// - Returns: the area before the first increment; ``NVPublicArea/written`` afterwards.
    public static func counter(at index: TPMHandle) -> NVPublicArea {
        NVPublicArea(
            index: index, nameAlgorithm: .sha256,
            attributes: NVAttributes(rawValue: 0x0208_0014), authPolicy: counterPolicy.digest,
            dataSize: 8)
    }

    /// The branches of a counter: PolicyNV, NV_Read, NV_Certify.
    public static let counterPolicy = Policy(
        hash: .sha256,
        [.or([[.commandCode(.policyNV)], [.commandCode(.nvRead)], [.commandCode(.nvCertify)]])])

    /// Attributes of the sealed lease: noDA alone.
    public static let sealedLeaseAttributes: ObjectAttributes = .noDA

    /// The vendor's PCR approval key as the TPM loads it.
    public static func approvalKey(_ key: ECPublicKey) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0004_0040),
            authPolicy: [],
            kind: .ecc(
                symmetric: .none, scheme: .ecdsa(.sha256), curve: key.curve, x: key.x, y: key.y))
    }
}

/// The policy of a high-range endorsement key, of which one branch is only known as a digest.
///
/// TCG EK Credential Profile 2.5, annex B.6.
public struct EndorsementPolicy: Sendable, Hashable {
    public let hash: HashAlgorithm

    /// The branch that is run.
    public var policyA: Policy {
        Policy(hash: hash, [.secret(entity: TPMName(handle: .endorsement), policyRef: [])])
    }

    /// The branch of the platform maker, from the profile.
    public var policyC: [UInt8] {
        switch hash {
        case .sha384:
            [
                0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32,
                0x37, 0xef, 0x2b, 0x6a, 0x16, 0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf,
                0xfd, 0x21, 0x7a, 0xd5, 0xb4, 0x94, 0x7c, 0x2d, 0x73, 0xe6, 0x30, 0x05, 0xee, 0xd2,
                0xdc, 0x2b, 0x35, 0x93, 0xd1, 0x65,
            ]
        default:
            [
                0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef,
                0x78, 0x64, 0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30,
                0xd8, 0x63, 0x3f, 0xde,
            ]
        }
    }

    /// The digests for `TPM2_PolicyOR`.
    public var branches: [[UInt8]] { [policyA.digest, policyC] }

    /// The digest in the key's public area.
    public var digest: [UInt8] {
        var code = WireWriter(capacity: 4)
        code.uint32(CommandCode.policyOR.rawValue)
        let zero = [UInt8](repeating: 0, count: hash.digestSize)
        return hash.digest(zero, code.bytes, branches[0], branches[1])
    }
}
