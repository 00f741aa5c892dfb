public import HoldfastCrypto

/// The conditions under which the TPM releases the key of a lease.
///
/// docs/spec/sealing.md, "The lease policy". Each element stops an attack that succeeds without
/// it; the tests run every one of them both ways.
public struct LeasePolicy: Sendable, Hashable {
    /// Name of the vendor's PCR approval key.
    public var approvalKey: TPMName
    /// 32 bytes: product, role, scope, generation, bank and selection, hashed.
    public var policyRef: [UInt8]
    /// The written epoch counter.
    public var epochCounter: NVPublicArea
    /// N: the value that the epoch counter must have.
    public var epoch: UInt64
    /// Lowest clock at which the lease opens, in TPM milliseconds: a jump that a power cut takes
    /// back leaves the lease below it.
    public var lowestClock: UInt64
    /// T: highest clock at which it opens.
    public var highestClock: UInt64
    /// R: highest resetCount.
    public var highestResetCount: UInt32
    /// S: highest restartCount; without it Shutdown(STATE) and a power cut turn the clock back.
    public var highestRestartCount: UInt32

    public init(
        approvalKey: TPMName, policyRef: [UInt8], epochCounter: NVPublicArea, epoch: UInt64,
        lowestClock: UInt64, highestClock: UInt64, highestResetCount: UInt32,
        highestRestartCount: UInt32
    ) {
        self.approvalKey = approvalKey
        self.policyRef = policyRef
        self.epochCounter = epochCounter
        self.epoch = epoch
        self.lowestClock = lowestClock
        self.highestClock = highestClock
        self.highestResetCount = highestResetCount
        self.highestRestartCount = highestRestartCount
    }

    /// What a TPM may lose of its clock in a power cut, 70 minutes in milliseconds.
    public static let clockLoss: UInt64 = 70 * 60 * 1000

    /// The lower bound for a lease that was issued at an attested clock; it saturates at 0.
    public static func lowestClock(issuedAt clock: UInt64) -> UInt64 {
        clock > clockLoss ? clock - clockLoss : 0
    }

    /// The policy that computes the digest and runs on the TPM.
    public var policy: Policy {
        var operand = WireWriter(capacity: 8)
        operand.uint64(epoch)
        return Policy(
            hash: .sha256,
            [
                .authorize(key: approvalKey, policyRef: policyRef),
                .nv(epochCounter, operand: operand.bytes, offset: 0, .equal),
                .counterTimer(.clock, .unsignedGreaterOrEqual, lowestClock),
                .counterTimer(.clock, .unsignedLessOrEqual, highestClock),
                .counterTimer(.resetCount, .unsignedLessOrEqual, UInt64(highestResetCount)),
                .counterTimer(.restartCount, .unsignedLessOrEqual, UInt64(highestRestartCount)),
            ])
    }
}

/// Why a sealed object is not what a lease says.
public enum SealedObjectError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The bytes are no public area, or not the only encoding of one.
    case malformed
    /// It is a key or of another kind, not sealed data with a SHA-256 Name.
    case otherKind
    /// An attribute is set that would let the secret out in another way, or one is missing.
    case otherAttributes
    /// The conditions for its release are not those of the lease.
    case otherPolicy

    public var description: String {
        switch self {
        case .malformed: "the sealed object is malformed"
        case .otherKind: "the object is not sealed data"
        case .otherAttributes: "the sealed object has other attributes than a lease"
        case .otherPolicy: "the sealed object has another policy than the lease"
        }
    }
}

extension LeasePolicy {
    /// Demands that a sealed object is one that this policy guards.
    ///
    /// Whoever knows the public half of a lease parent can wrap an object to it, with conditions
    /// of his own; the TPM opens it. The digest that is recomputed from the signed lease tells.
    ///
    /// - Parameter publicArea: marshaled, as it came.
    public func demand(ofSealedObject publicArea: [UInt8]) throws(SealedObjectError) {
        let area: PublicArea
        do { area = try PublicArea(wireBytes: publicArea) } catch { throw .malformed }
        guard area.wireBytes == publicArea else { throw .malformed }
        guard case .keyedHash(let unique) = area.kind, area.nameAlgorithm == .sha256,
            unique.count == area.nameAlgorithm.digestSize
        else { throw .otherKind }
        guard area.attributes == KeyTemplate.sealedLeaseAttributes else { throw .otherAttributes }
        guard area.authPolicy == policy.digest else { throw .otherPolicy }
    }
}

/// A vendor's signature under a boot state: PCR values that open what the reference is for.
public struct PCRApproval: Sendable, Hashable {
    public var selection: PCRSelection
    /// Digest over the selected values.
    public var pcrDigest: [UInt8]
    public var policyRef: [UInt8]
    /// The public area of the approval key; its Name is in the lease policy.
    public var key: PublicArea
    public var signature: Signature

    public init(
        selection: PCRSelection, pcrDigest: [UInt8], policyRef: [UInt8], key: PublicArea,
        signature: Signature
    ) {
        self.selection = selection
        self.pcrDigest = pcrDigest
        self.policyRef = policyRef
        self.key = key
        self.signature = signature
    }

    /// The approved policy.
    public var policy: Policy { Policy(hash: .sha256, [.pcr(selection, digest: pcrDigest)]) }

    /// What the approval key signs: `approvedPolicy || policyRef`; the TPM hashes it.
    ///
    /// Part 3, `TPM2_PolicyAuthorize`.
    public var signedBytes: [UInt8] { policy.digest + policyRef }

    /// Checks the signature of an elliptic key, as the TPM will.
    public func verify() throws(KeyError) {
        guard case .ecdsa(let hash, let r, let s) = signature else { throw .signatureInvalid }
        try key.ecPublicKey().verifyECDSA(r: r, s: s, over: signedBytes, hash: hash)
    }

    /// Signs an approval with the vendor's key.
    public init(
        selection: PCRSelection, pcrDigest: [UInt8], policyRef: [UInt8],
        signingWith privateKey: ECPrivateKey
    ) throws(KeyError) {
        let unsigned = PCRApproval(
            selection: selection, pcrDigest: pcrDigest, policyRef: policyRef,
            key: KeyTemplate.approvalKey(privateKey.publicKey),
            signature: .ecdsa(hash: .sha256, r: [], s: []))
        let raw = try privateKey.signECDSA(unsigned.signedBytes)
        let size = privateKey.publicKey.curve.coordinateSize
        self = unsigned
        signature = .ecdsa(
            hash: .sha256, r: [UInt8](raw[..<size]), s: [UInt8](raw[size...]))
    }
}
