public import HoldfastCrypto
public import HoldfastTPM
public import HoldfastTPMWire

/// Vendor and device in one process, for demonstrations, benchmarks and tests of the TPM layer.
///
/// It holds what a lease needs on a TPM, the parent and the two counters, and plays the vendor who
/// approves boot states and seals. There is no server, no license and no state on disk here.
public final class LeaseStage {
    /// The TPM; a restart of the machine replaces the connection.
    public var connection: TPMConnection
    /// Made for this stage; goes into the Names of its keys.
    public let vendorID: [UInt8]
    /// Proves that the counters may be incremented.
    public let counterAuth: [UInt8]
    /// The vendor's PCR approval key.
    public let approvalKey: ECPrivateKey
    public let parent: LoadedObject
    public let epochCounter: NVPublicArea
    public let ledgerCounter: NVPublicArea

    /// A slot of the handles that docs/spec/formats.md gives to vendors.
    public static let slot: UInt32 = 0

    /// Sets the TPM up: a persistent lease parent and two counters.
    ///
    /// - Throws: `.refused` when something is at those handles already.
    public init(_ connection: TPMConnection, random: RandomSource) throws(TPMError) {
        self.connection = connection
        vendorID = random.bytes(32)
        let auth = random.bytes(32)
        counterAuth = auth
        approvalKey = ECPrivateKey(curve: .p256, random: random)
        let made = try connection.withPrimary(
            KeyTemplate.leaseParent(unique: random.bytes(32)), in: .owner
        ) { (object) throws(TPMError) in
            try connection.makePersistent(
                object, at: TPMHandle(rawValue: 0x8101_8000 + Self.slot))
        }
        parent = made
        epochCounter = try connection.defineCounter(
            KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0100 + 2 * Self.slot)),
            authValue: auth, salt: made)
        ledgerCounter = try connection.defineCounter(
            KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0101 + 2 * Self.slot)),
            authValue: auth, salt: made)
    }

    // MARK: The vendor

    /// Approves the present values of PCRs.
    public func approvePresent(
        _ selection: PCRSelection, policyRef: [UInt8]
    ) throws -> PCRApproval {
        let values = try connection.readPCRs(selection)
        guard let digest = values.digest(of: selection, hash: .sha256) else {
            throw TPMError(.invalidRequest, "a selected PCR was not read")
        }
        return try PCRApproval(
            selection: selection, pcrDigest: digest, policyRef: policyRef,
            signingWith: approvalKey)
    }

    /// The conditions of a lease from now on.
    ///
    /// - Parameters:
    ///   - milliseconds: powered-on time until it runs out.
    ///   - moreResets: resets that it survives.
    public func leasePolicy(
        policyRef: [UInt8], milliseconds: UInt64, moreResets: UInt32
    ) throws(TPMError) -> LeasePolicy {
        let now = try connection.clock()
        return LeasePolicy(
            approvalKey: KeyTemplate.approvalKey(approvalKey.publicKey).name, policyRef: policyRef,
            epochCounter: epochCounter, epoch: try connection.readCounter(epochCounter),
            lowestClock: LeasePolicy.lowestClock(issuedAt: now.clock),
            highestClock: saturating(now.clock, milliseconds),
            highestResetCount: saturating(now.resetCount, moreResets),
            highestRestartCount: now.restartCount)
    }

    /// A clock may have been set to any value: no arithmetic on it may stop the program.
    private func saturating<T: FixedWidthInteger>(_ value: T, _ more: T) -> T {
        let (sum, overflow) = value.addingReportingOverflow(more)
        return overflow ? .max : sum
    }

    /// A sealed lease as it lies on the device's disk.
    public struct Lease: Sendable {
        public let policy: Policy
        public let blob: ImportBlob
        /// What the TPM made of the blob; only this TPM loads it.
        public let privateBlob: [UInt8]
    }

    /// Seals a secret to this TPM without asking it, and imports it.
    public func seal(
        _ secret: borrowing SecretBytes, under policy: Policy, random: RandomSource
    ) throws -> Lease {
        let blob = try ImportBlob(
            sealing: secret, attributes: KeyTemplate.sealedLeaseAttributes, policy: policy.digest,
            parent: parent.publicArea, random: random)
        return Lease(
            policy: policy, blob: blob,
            privateBlob: try connection.importBlob(blob, below: parent))
    }

    // MARK: The device

    /// Opens a lease as the product does: load, salted policy session, unseal, flush.
    public func open(
        _ lease: Lease, approvals: [PCRApproval]
    ) throws(TPMError) -> SecretBytes {
        try connection.withLoaded(
            privateBlob: lease.privateBlob, publicArea: lease.blob.publicArea, below: parent
        ) { (object) throws(TPMError) in
            try connection.unseal(
                object, policy: lease.policy, with: PolicyMeans(approvals: approvals),
                salt: parent)
        }
    }

    /// Raises the epoch: no lease that was issued so far opens again.
    public func raiseEpoch() throws(TPMError) {
        try connection.increment(epochCounter, authValue: counterAuth, salt: parent)
    }
}
