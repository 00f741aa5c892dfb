import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// Everything that a lease needs on one software TPM: the persistent parent, the two counters, the
/// vendor's approval of the present PCR 7, and a server that seals.
final class LeaseScenario {
    let tpm: TestTPM
    let vendorID: [UInt8]
    let epochAuth = RandomSource.system.bytes(32)
    let vendorKey = ECPrivateKey(curve: .p256, random: .system)
    let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
    private(set) var parent: LoadedObject
    private(set) var epoch: NVPublicArea
    private(set) var ledger: NVPublicArea
    private(set) var approval: PCRApproval

    static let parentHandle = TPMHandle(rawValue: 0x8100_4801)
    static let epochIndex = TPMHandle(rawValue: 0x0180_4801)
    static let ledgerIndex = TPMHandle(rawValue: 0x0180_4802)
    /// An hour in milliseconds: no test takes so long.
    static let hour: UInt64 = 3_600_000

    var connection: TPMConnection { tpm.connection }

    /// - Parameters:
    ///   - vendorID: the unique field of the templates.
    ///   - freshSeeds: another TPM than those of all other tests.
    /// - Throws: when the TPM does not start or refuses.
    init(
        vendorID: [UInt8] = RandomSource.system.bytes(32), freshSeeds: Bool = false
    ) throws {
        tpm = try TestTPM(freshSeeds: freshSeeds)
        self.vendorID = vendorID
        let connection = tpm.connection
        let auth = epochAuth
        parent = try connection.withPrimary(KeyTemplate.leaseParent(unique: vendorID), in: .owner) {
            (made) throws(TPMError) in
            try connection.makePersistent(made, at: Self.parentHandle)
        }
        epoch = try connection.defineCounter(
            KeyTemplate.counter(at: Self.epochIndex), authValue: auth, salt: parent)
        ledger = try connection.defineCounter(
            KeyTemplate.counter(at: Self.ledgerIndex), authValue: auth, salt: parent)
        approval = try Self.approval(
            of: connection, selection, policyRef: Self.policyRef(), by: vendorKey)
    }

    /// Makes an approval of the present PCR values.
    static func approval(
        of connection: TPMConnection, _ selection: PCRSelection, policyRef: [UInt8],
        by key: ECPrivateKey
    ) throws -> PCRApproval {
        let values = try connection.readPCRs(selection)
        return try PCRApproval(
            selection: selection,
            pcrDigest: try #require(values.digest(of: selection, hash: .sha256)),
            policyRef: policyRef, signingWith: key)
    }

    /// `H(product, role, scope, generation, bank, selection)`, each with its length before it.
    static func policyRef(
        product: String = "planer", role: String = "lease", scope: String = "model:EDGE-7",
        generation: UInt32 = 1, selection: PCRSelection = PCRSelection(.sha256, [PCRIndex.all[7]])
    ) -> [UInt8] {
        var writer = WireWriter()
        for part in [product, role, scope] { writer.sized(Array(part.utf8)) }
        writer.uint32(generation)
        selection.encode(into: &writer)
        return HashAlgorithm.sha256.digest(writer.bytes)
    }

    // MARK: The server

    /// A lease from the present clock for an hour, at the present epoch and resets.
    func leasePolicy(
        epoch value: UInt64? = nil, moreResets: UInt32 = 0, from clock: ClockInfo? = nil
    ) throws -> LeasePolicy {
        let now = try clock ?? connection.clock()
        return LeasePolicy(
            approvalKey: approval.key.name, policyRef: approval.policyRef, epochCounter: epoch,
            epoch: try value ?? connection.readCounter(epoch),
            lowestClock: LeasePolicy.lowestClock(issuedAt: now.clock),
            highestClock: now.clock + Self.hour,
            highestResetCount: now.resetCount + moreResets, highestRestartCount: now.restartCount)
    }

    /// A sealed lease as it lies on the device's disk.
    struct Lease {
        let policy: Policy
        let secret: [UInt8]
        let blob: ImportBlob
        let privateBlob: [UInt8]
    }

    /// Seals a fresh secret under a policy and imports it.
    func seal(_ policy: Policy) throws -> Lease {
        try seal(policy, digest: policy.digest)
    }

    func seal(_ policy: Policy, digest: [UInt8]) throws -> Lease {
        let secret = RandomSource.system.bytes(32)
        let blob = try ImportBlob(
            sealing: SecretBytes(copying: secret), attributes: KeyTemplate.sealedLeaseAttributes,
            policy: digest, parent: parent.publicArea, random: .system)
        return Lease(
            policy: policy, secret: secret, blob: blob,
            privateBlob: try connection.importBlob(blob, below: parent))
    }

    // MARK: The device

    /// Loads a lease and lends it.
    func withLease<R>(
        _ lease: Lease, _ body: (EntityReference) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        try connection.withLoaded(
            privateBlob: lease.privateBlob, publicArea: lease.blob.publicArea, below: parent, body)
    }

    /// Opens a lease as the product does.
    ///
    /// - Returns: whether the secret is the sealed one.
    func open(_ lease: Lease, approvals: [PCRApproval]? = nil) throws(TPMError) -> Bool {
        let means = PolicyMeans(approvals: approvals ?? [approval])
        return try withLease(lease) { (object) throws(TPMError) in
            let opened = try self.connection.unseal(
                object, policy: lease.policy, with: means, salt: self.parent)
            return copy(opened) == lease.secret
        }
    }

    func raiseEpoch() throws(TPMError) {
        try connection.increment(epoch, authValue: epochAuth, salt: parent)
    }

    func setClock(_ clock: UInt64) throws(TPMError) {
        try connection.run(ClockSetCommand(clock: clock), [.emptyAuth])
    }

    /// Lends the vendor's attestation key.
    func withAttestationKey<R>(
        _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        try connection.withPrimary(
            KeyTemplate.attestationKey(vendorID: vendorID), in: .endorsement, body)
    }

    /// Nothing of ours is left in the TPM.
    func expectClean(sourceLocation: SourceLocation = #_sourceLocation) throws {
        try expectNoSlots(of: connection, sourceLocation: sourceLocation)
    }
}

/// No slot of the TPM is in use.
func expectNoSlots(
    of connection: TPMConnection, sourceLocation: SourceLocation = #_sourceLocation
) throws {
    connection.endTransaction()
    #expect(connection.occupiedSlots == 0, sourceLocation: sourceLocation)
    for first in [0x8000_0000, 0x0200_0000, 0x0300_0000] as [UInt32] {
        #expect(try connection.handles(from: first).isEmpty, sourceLocation: sourceLocation)
    }
}

/// The TPM refuses with exactly this code.
func expectRefused<R>(
    _ code: UInt32, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws(TPMError) -> R
) {
    do throws(TPMError) {
        _ = try body()
        Issue.record(
            "accepted, 0x\(String(code, radix: 16)) expected", sourceLocation: sourceLocation)
    } catch {
        #expect(error.code == .refused, "\(error)", sourceLocation: sourceLocation)
        #expect(
            error.returnCode == ReturnCode(rawValue: code), "\(error)",
            sourceLocation: sourceLocation)
    }
}

/// Holdfast refuses with this code of its own.
func expectFailure<R>(
    _ code: TPMError.Code, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws(TPMError) -> R
) {
    do throws(TPMError) {
        _ = try body()
        Issue.record("accepted, \(code.rawValue) expected", sourceLocation: sourceLocation)
    } catch {
        #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
    }
}

/// The lease opens with the secret that was sealed.
func expectOpens(
    _ scenario: LeaseScenario, _ lease: LeaseScenario.Lease, approvals: [PCRApproval]? = nil,
    _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
) {
    do throws(TPMError) {
        let same = try scenario.open(lease, approvals: approvals)
        #expect(same, comment, sourceLocation: sourceLocation)
    } catch {
        let text = comment.map { "\($0): " } ?? ""
        Issue.record("\(text)\(error)", sourceLocation: sourceLocation)
    }
}
