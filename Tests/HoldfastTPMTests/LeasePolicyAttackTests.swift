import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// The elements of the lease policy, in their order.
enum LeaseElement: Int, CaseIterable {
    case bootState, epoch, lowestClock, highestClock, resetCount, restartCount
}

/// Leases of one policy: the whole, and six that lack one element each.
struct LeaseMatrix {
    let policy: LeasePolicy
    let whole: LeaseScenario.Lease
    let lacking: [(element: LeaseElement, lease: LeaseScenario.Lease)]

    init(_ policy: LeasePolicy, in scenario: LeaseScenario) throws {
        self.policy = policy
        whole = try scenario.seal(policy.policy)
        lacking = try LeaseElement.allCases.map { element in
            var less = policy.policy
            less.assertions.remove(at: element.rawValue)
            return (element, try scenario.seal(less))
        }
    }

    /// Before the attack every one opens.
    func expectAllOpen(
        _ scenario: LeaseScenario, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectOpens(scenario, whole, sourceLocation: sourceLocation)
        for (element, lease) in lacking {
            expectOpens(scenario, lease, "less \(element)", sourceLocation: sourceLocation)
        }
    }

    /// After an attack the whole one is shut, and of the others exactly the one opens that lacks
    /// the element against this attack.
    ///
    /// So none is shut for another reason.
    func expectShut(
        by element: LeaseElement, _ scenario: LeaseScenario,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        expectRefusal(by: element, scenario, whole, sourceLocation)
        for (missing, lease) in lacking {
            if missing == element {
                expectOpens(scenario, lease, "less \(missing)", sourceLocation: sourceLocation)
            } else {
                expectRefusal(by: element, scenario, lease, sourceLocation)
            }
        }
        try scenario.expectClean(sourceLocation: sourceLocation)
    }

    private func expectRefusal(
        by element: LeaseElement, _ scenario: LeaseScenario, _ lease: LeaseScenario.Lease,
        _ sourceLocation: SourceLocation
    ) {
        switch element {
        case .bootState:
            expectFailure(.bootStateNotApproved, sourceLocation: sourceLocation) {
                () throws(TPMError) in _ = try scenario.open(lease)
            }
        default:
            expectRefused(0x126, sourceLocation: sourceLocation) { () throws(TPMError) in
                _ = try scenario.open(lease)
            }
        }
    }
}

@Suite("attacks on the lease policy", .timeLimit(.minutes(20)))
struct LeasePolicyAttackTests {
    private let scenario: LeaseScenario
    private var tpm: TestTPM { scenario.tpm }
    private var connection: TPMConnection { scenario.connection }

    init() throws { scenario = try LeaseScenario() }

    @Test("another boot state: PCR 7 changes")
    func bootState() throws {
        let matrix = try LeaseMatrix(try scenario.leasePolicy(), in: scenario)
        matrix.expectAllOpen(scenario)
        try connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        try matrix.expectShut(by: .bootState, scenario)
    }

    @Test("an old lease is put back after the epoch was raised")
    func epoch() throws {
        let matrix = try LeaseMatrix(try scenario.leasePolicy(), in: scenario)
        matrix.expectAllOpen(scenario)
        try scenario.raiseEpoch()
        try matrix.expectShut(by: .epoch, scenario)
    }

    @Test("the time of the lease is over")
    func highestClock() throws {
        let matrix = try LeaseMatrix(try scenario.leasePolicy(), in: scenario)
        matrix.expectAllOpen(scenario)
        try scenario.setClock(matrix.policy.highestClock + 1)
        try matrix.expectShut(by: .highestClock, scenario)
    }

    @Test("more resets than the lease allows")
    func resetCount() throws {
        let matrix = try LeaseMatrix(try scenario.leasePolicy(moreResets: 1), in: scenario)
        try tpm.reboot()
        matrix.expectAllOpen(scenario)
        try tpm.reboot()
        try matrix.expectShut(by: .resetCount, scenario)
    }

    /// ClockSet ten years ahead, have that clock attested, get a lease for an hour after it, and
    /// cut the power.
    ///
    /// A TPM that forgets the jump (libtpms) would have ten years left.
    @Test("a jump of the clock that a power cut takes back")
    func lowestClock() throws {
        let tenYears: UInt64 = 10 * 365 * 24 * LeaseScenario.hour
        try scenario.setClock(try connection.clock().clock + tenYears)
        let nonce = RandomSource.system.bytes(32)
        let quote = try scenario.withAttestationKey { (key) throws(TPMError) in
            try scenario.connection.quote(scenario.selection, by: key, nonce: nonce).quote
        }
        let attested = ClockInfo(
            clock: quote.attestation.value.clockInfo.clock,
            // Keys of the endorsement hierarchy attest the true counts.
            resetCount: quote.attestation.value.clockInfo.resetCount,
            restartCount: quote.attestation.value.clockInfo.restartCount, safe: true)
        let matrix = try LeaseMatrix(
            try scenario.leasePolicy(moreResets: 1, from: attested), in: scenario)
        matrix.expectAllOpen(scenario)
        try tpm.cut()
        if try connection.clock().clock < matrix.policy.lowestClock {
            try matrix.expectShut(by: .lowestClock, scenario)
        } else {
            // This TPM keeps what was set: the jump is final and the hour runs from it.
            matrix.expectAllOpen(scenario)
            try scenario.expectClean()
        }
    }

    /// Shutdown(STATE), carry on, cut the power: on libtpms the clock goes back, resetCount stays
    /// and the clock is called safe.
    @Test("Shutdown(STATE), work on, cut the power")
    func restartCount() throws {
        let matrix = try LeaseMatrix(try scenario.leasePolicy(), in: scenario)
        matrix.expectAllOpen(scenario)
        try connection.shutdown(.state)
        // Stands for an hour of work; a lease opens and closes without a write to NV.
        try scenario.setClock(matrix.policy.highestClock + 1)
        expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(matrix.whole) }
        try tpm.cut()
        let now = try connection.clock()
        if now.clock <= matrix.policy.highestClock,
            now.resetCount == matrix.policy.highestResetCount
        {
            #expect(now.restartCount == matrix.policy.highestRestartCount + 1)
            try matrix.expectShut(by: .restartCount, scenario)
        } else {
            // This TPM does not go back without counting it: another element holds.
            expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(matrix.whole) }
            try scenario.expectClean()
        }
    }

    @Test("a reply brings the next lease: shut before the epoch is raised, open after, then shut")
    func nextEpoch() throws {
        let value = try connection.readCounter(scenario.epoch)
        let next = try scenario.seal(try scenario.leasePolicy(epoch: value + 1).policy)
        expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(next) }
        try scenario.raiseEpoch()
        expectOpens(scenario, next)
        try scenario.raiseEpoch()
        expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(next) }
        try scenario.expectClean()
    }

    @Test("raw PolicyPCR with the approved digest of another state")
    func rawPolicyPCR() throws {
        try connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        expectRefused(0x1c4) { () throws(TPMError) in
            try self.connection.withSession(.policy, hash: .sha256, salt: .none) {
                (session) throws(TPMError) in
                try self.connection.satisfy(
                    scenario.approval.policy, in: session, with: PolicyMeans())
            }
        }
        try scenario.expectClean()
    }

    @Test("a PCR policy without a digest takes the present values, and then the policy differs")
    func openPolicyPCR() throws {
        let lease = try scenario.seal(scenario.approval.policy)
        try unsealWithPresentPCRs(lease)
        try connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        expectRefused(0x99d) { () throws(TPMError) in try unsealWithPresentPCRs(lease) }
        try scenario.expectClean()
    }

    private func unsealWithPresentPCRs(_ lease: LeaseScenario.Lease) throws(TPMError) {
        let connection = connection
        try scenario.withLease(lease) { (object) throws(TPMError) in
            try connection.withSession(.policy, hash: .sha256, salt: .key(scenario.parent)) {
                (session) throws(TPMError) in
                try connection.run(
                    PolicyPCRCommand(
                        session: session.handle, selection: scenario.selection, digest: []))
                let opened = try connection.runForSecret(
                    UnsealCommand(object), [.policyOnce(session)])
                #expect(copy(opened) == lease.secret)
            }
        }
    }

    @Test("a used session is used again, and one without any assertion")
    func reusedSession() throws {
        let lease = try scenario.seal(try scenario.leasePolicy().policy)
        let connection = connection
        try scenario.withLease(lease) { (object) throws(TPMError) in
            try connection.withSession(.policy, hash: .sha256, salt: .key(scenario.parent)) {
                (session) throws(TPMError) in
                expectRefused(0x99d) { () throws(TPMError) in
                    _ = try connection.runForSecret(UnsealCommand(object), [.policy(session)])
                }
                try connection.satisfy(
                    lease.policy, in: session, with: PolicyMeans(approvals: [scenario.approval]))
                let opened = try connection.runForSecret(
                    UnsealCommand(object), [.policy(session)])
                #expect(copy(opened) == lease.secret)
                // The TPM starts the policy of a used session anew.
                expectRefused(0x99d) { () throws(TPMError) in
                    _ = try connection.runForSecret(UnsealCommand(object), [.policy(session)])
                }
            }
            expectRefused(0x12f) { () throws(TPMError) in
                _ = try connection.run(UnsealCommand(object), [.emptyAuth])
            }
        }
        try scenario.expectClean()
    }

    // MARK: Comparison

    /// With a signed comparison a clock of 2^63 is negative, and below every limit for ever.
    @Test("a clock of 2^63 against a signed and an unsigned comparison")
    func signedComparison() throws {
        let policy = try scenario.leasePolicy(moreResets: 0)
        let unsigned = Policy(
            hash: .sha256, [.counterTimer(.clock, .unsignedLessOrEqual, policy.highestClock)])
        let guarded = try scenario.seal(unsigned)
        let operand = TimeField.clock.operand(policy.highestClock)
        let zero = [UInt8](repeating: 0, count: 32)
        let weak = try scenario.seal(
            unsigned,
            digest: RawCounterTimerCommand.extend(
                zero, operand: operand, offset: TimeField.clock.offset,
                operation: RawCounterTimerCommand.signedLessOrEqual))
        expectOpens(scenario, guarded)
        try unsealSigned(weak, operand)

        try scenario.setClock(1 << 63)
        expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(guarded) }
        try unsealSigned(weak, operand)

        // And above the limit, but not negative, the signed one is shut as well.
        let fresh = try LeaseScenario()
        try fresh.setClock(try fresh.connection.clock().clock + 2 * LeaseScenario.hour)
        let limit = TimeField.clock.operand(LeaseScenario.hour)
        expectRefused(0x126) { () throws(TPMError) in
            try fresh.connection.withSession(.policy, hash: .sha256, salt: .none) {
                (session) throws(TPMError) in
                try fresh.connection.run(signed(session.handle, limit))
            }
        }
        try scenario.expectClean()
        try fresh.expectClean()
    }

    private func signed(_ session: TPMHandle, _ operand: [UInt8]) -> RawCounterTimerCommand {
        RawCounterTimerCommand(
            session: session, operand: operand, offset: TimeField.clock.offset,
            operation: RawCounterTimerCommand.signedLessOrEqual)
    }

    private func unsealSigned(
        _ lease: LeaseScenario.Lease, _ operand: [UInt8]
    ) throws(TPMError) {
        let connection = connection
        try scenario.withLease(lease) { (object) throws(TPMError) in
            try connection.withSession(.policy, hash: .sha256, salt: .key(scenario.parent)) {
                (session) throws(TPMError) in
                try connection.run(signed(session.handle, operand))
                let opened = try connection.runForSecret(
                    UnsealCommand(object), [.policyOnce(session)])
                #expect(copy(opened) == lease.secret)
            }
        }
    }

    // MARK: Approvals

    /// What else the vendor has approved, each of the very state that this machine is in.
    enum OtherApproval: CaseIterable {
        case scope, generation, role, product, selection

        var policyRef: [UInt8] {
            switch self {
            case .scope: LeaseScenario.policyRef(scope: "device:LAB")
            case .generation: LeaseScenario.policyRef(generation: 0)
            case .role: LeaseScenario.policyRef(role: "ledger")
            case .product: LeaseScenario.policyRef(product: "saw")
            case .selection:
                LeaseScenario.policyRef(selection: PCRSelection(.sha256, [PCRIndex.all[0]]))
            }
        }
    }

    @Test("an approval of another reference", arguments: OtherApproval.allCases)
    func otherReference(_ other: OtherApproval) throws {
        let policy = try scenario.leasePolicy()
        let lease = try scenario.seal(policy.policy)
        let stray = try LeaseScenario.approval(
            of: connection, scenario.selection, policyRef: other.policyRef, by: scenario.vendorKey)

        // As it is: not for this lease.
        expectFailure(.bootStateNotApproved) { () throws(TPMError) in
            _ = try scenario.open(lease, approvals: [stray])
        }
        // With the lease's reference written over its own: the signature is over the other one.
        var forged = stray
        forged.policyRef = policy.policyRef
        expectRefused(0x2db) { () throws(TPMError) in
            _ = try scenario.open(lease, approvals: [forged])
        }
        // With its own reference in PolicyAuthorize: the policy is another one.
        var bent = policy
        bent.policyRef = stray.policyRef
        let misused = LeaseScenario.Lease(
            policy: bent.policy, secret: lease.secret, blob: lease.blob,
            privateBlob: lease.privateBlob)
        expectRefused(0x99d) { () throws(TPMError) in
            _ = try scenario.open(misused, approvals: [stray])
        }

        // A lease whose reference does not tell them apart opens with it.
        var blind = policy
        blind.policyRef = HashAlgorithm.sha256.digest(Array("planer".utf8))
        let careless = try scenario.seal(blind.policy)
        let lab = try LeaseScenario.approval(
            of: connection, scenario.selection, policyRef: blind.policyRef,
            by: scenario.vendorKey)
        expectOpens(scenario, careless, approvals: [lab])
        expectOpens(scenario, lease, approvals: [stray, scenario.approval])
        try scenario.expectClean()
    }

    @Test("an approval of somebody else's key, and one with a broken signature")
    func foreignApproval() throws {
        let policy = try scenario.leasePolicy()
        let lease = try scenario.seal(policy.policy)
        let theirs = try LeaseScenario.approval(
            of: connection, scenario.selection, policyRef: policy.policyRef,
            by: ECPrivateKey(curve: .p256, random: .system))
        expectFailure(.bootStateNotApproved) { () throws(TPMError) in
            _ = try scenario.open(lease, approvals: [theirs])
        }
        var borrowed = theirs
        borrowed.key = scenario.approval.key
        expectRefused(0x2db) { () throws(TPMError) in
            _ = try scenario.open(lease, approvals: [borrowed])
        }
        expectFailure(.bootStateNotApproved) { () throws(TPMError) in
            _ = try scenario.open(lease, approvals: [])
        }
        try scenario.expectClean()
    }

    /// The ticket of a key in the NULL hierarchy is null; PolicyAuthorize does not take it.
    @Test("the approval key in the NULL hierarchy gives a null ticket")
    func nullTicket() throws {
        let approval = scenario.approval
        let connection = connection
        try connection.withSession(.policy, hash: .sha256, salt: .none) {
            (session) throws(TPMError) in
            try connection.satisfy(approval.policy, in: session, with: PolicyMeans())
            for (hierarchy, accepted) in [(TPMHandle.null, false), (.endorsement, true)] {
                let ticket = try connection.withExternal(approval.key, in: hierarchy) {
                    (key) throws(TPMError) in
                    try connection.run(
                        VerifySignatureCommand(
                            key: key, digest: HashAlgorithm.sha256.digest(approval.signedBytes),
                            signature: approval.signature))
                }
                let command = PolicyAuthorizeCommand(
                    session: session.handle, approvedPolicy: approval.policy.digest,
                    policyRef: approval.policyRef, keySign: approval.key.name, ticket: ticket)
                if accepted {
                    try connection.run(command)
                } else {
                    expectRefused(0x4c4) { () throws(TPMError) in try connection.run(command) }
                }
            }
        }
        try scenario.expectClean()
    }

    @Test("an update: the vendor approves the new state and the old lease opens again")
    func update() throws {
        let policy = try scenario.leasePolicy()
        let lease = try scenario.seal(policy.policy)
        try connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        expectFailure(.bootStateNotApproved) { () throws(TPMError) in
            _ = try scenario.open(lease)
        }
        let update = try LeaseScenario.approval(
            of: connection, scenario.selection, policyRef: policy.policyRef,
            by: scenario.vendorKey)
        expectOpens(scenario, lease, approvals: [scenario.approval, update])
        try connection.extend(PCRIndex.all[7], banks: [.sha256], with: [2])
        expectFailure(.bootStateNotApproved) { () throws(TPMError) in
            _ = try scenario.open(lease, approvals: [scenario.approval, update])
        }
        try scenario.expectClean()
    }
}
