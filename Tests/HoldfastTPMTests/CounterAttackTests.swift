import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("attacks on the counters", .timeLimit(.minutes(20)))
struct CounterAttackTests {
    private let scenario: LeaseScenario
    private var connection: TPMConnection { scenario.connection }

    init() throws { scenario = try LeaseScenario() }

    private func reference(_ area: NVPublicArea) -> EntityReference {
        EntityReference(area.index, name: area.name)
    }

    private func undefine(_ area: NVPublicArea) throws(TPMError) {
        try connection.run(NVUndefineSpaceCommand(reference(area)), [.emptyAuth])
    }

    @Test("incrementing takes the authorization value, and nothing else does")
    func increment() throws {
        let index = reference(scenario.epoch)
        let connection = connection
        let before = try connection.readCounter(scenario.epoch)
        expectRefused(0x9a2) { () throws(TPMError) in
            try connection.run(NVIncrementCommand(index), [.emptyAuth])
        }
        expectRefused(0x9a2) { () throws(TPMError) in
            try connection.increment(
                scenario.epoch, authValue: RandomSource.system.bytes(32), salt: scenario.parent)
        }
        for branch in 0..<3 {
            expectRefused(0x12f) { () throws(TPMError) in
                try connection.withPolicySession(KeyTemplate.counterPolicy, choosing: branch) {
                    (session) throws(TPMError) in
                    try connection.run(NVIncrementCommand(index), [.policy(session)])
                }
            }
        }
        expectRefused(0x149) { () throws(TPMError) in
            try connection.run(
                NVIncrementByCommand(authorization: EntityReference(.owner), index: index),
                [.emptyAuth])
        }
        #expect(try connection.readCounter(scenario.epoch) == before)
        try scenario.raiseEpoch()
        #expect(try connection.readCounter(scenario.epoch) == before + 1)
        try scenario.expectClean()
    }

    @Test("reading takes the branch for the command, not a password and not another branch")
    func read() throws {
        let index = reference(scenario.epoch)
        let connection = connection
        let command = NVReadCommand(authorization: index, index: index, size: 8, offset: 0)
        expectRefused(0x12f) { () throws(TPMError) in
            try connection.run(command, [.emptyAuth])
        }
        expectRefused(0x12f) { () throws(TPMError) in
            try connection.run(command, [.password(scenario.epochAuth)])
        }
        for branch in [0, 2] {
            expectRefused(0x9a4) { () throws(TPMError) in
                try connection.withPolicySession(KeyTemplate.counterPolicy, choosing: branch) {
                    (session) throws(TPMError) in
                    try connection.run(command, [.policy(session)])
                }
            }
        }
        // PolicyNV by a session for NV_Read, and by one for NV_Certify.
        let value = TimeField.clock.operand(try connection.readCounter(scenario.epoch))
        try connection.withSession(.policy, hash: .sha256, salt: .none) {
            (main) throws(TPMError) in
            let policyNV = PolicyNVCommand(
                index: index, session: main.handle, operand: value, offset: 0, operation: .equal)
            for branch in [1, 2] {
                try connection.withPolicySession(KeyTemplate.counterPolicy, choosing: branch) {
                    (session) throws(TPMError) in
                    expectRefused(0x9a4) { () throws(TPMError) in
                        try connection.run(policyNV, [.policy(session)])
                    }
                }
            }
            try connection.withPolicySession(KeyTemplate.counterPolicy, choosing: 0) {
                (session) throws(TPMError) in
                try connection.run(policyNV, [.policyOnce(session)])
            }
        }
        try scenario.expectClean()
    }

    @Test("a counter that was never incremented has no value and another Name")
    func neverIncremented() throws {
        let area = KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_4803))
        let connection = connection
        try connection.run(NVDefineSpaceCommand(auth: [], publicArea: area), [.emptyAuth])
        expectRefused(0x14a) { () throws(TPMError) in _ = try connection.readCounter(area) }
        expectRefused(0x14a) { () throws(TPMError) in
            try connection.withSession(.policy, hash: .sha256, salt: .none) {
                (session) throws(TPMError) in
                let policy = Policy(
                    hash: .sha256,
                    [.nv(area, operand: [0, 0, 0, 0, 0, 0, 0, 0], offset: 0, .equal)])
                try connection.satisfy(policy, in: session, with: PolicyMeans())
            }
        }
        #expect(try connection.nvPublicArea(at: area.index) == area)
        try connection.run(NVIncrementCommand(reference(area)), [.emptyAuth])
        #expect(try connection.nvPublicArea(at: area.index) == area.written)
        #expect(area.written.name != area.name)
        _ = try connection.readCounter(area.written)
        try scenario.expectClean()
    }

    @Test("a recreated counter begins above the highest deleted value")
    func recreated() throws {
        let lease = try scenario.seal(try scenario.leasePolicy().policy)
        expectOpens(scenario, lease)
        try scenario.raiseEpoch()
        let raised = try connection.readCounter(scenario.epoch)
        expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(lease) }

        try undefine(scenario.epoch)
        #expect(try connection.nvPublicArea(at: scenario.epoch.index) == nil)
        expectRefused(0x18b) { () throws(TPMError) in _ = try scenario.open(lease) }

        // The attacker gives it an authorization value of his own: the Name does not show it.
        let template = KeyTemplate.counter(at: scenario.epoch.index)
        try connection.run(NVDefineSpaceCommand(auth: [], publicArea: template), [.emptyAuth])
        #expect(try connection.nvPublicArea(at: scenario.epoch.index)?.name != scenario.epoch.name)
        expectRefused(0x14a) { () throws(TPMError) in _ = try scenario.open(lease) }
        try connection.run(NVIncrementCommand(reference(template)), [.emptyAuth])
        #expect(try connection.nvPublicArea(at: scenario.epoch.index)?.name == scenario.epoch.name)
        #expect(try connection.readCounter(scenario.epoch) > raised)
        expectRefused(0x126) { () throws(TPMError) in _ = try scenario.open(lease) }
        try scenario.expectClean()
    }

    @Test("a counter recreated after Clear begins above what was there before")
    func recreatedAfterClear() throws {
        for _ in 0..<3 { try scenario.raiseEpoch() }
        let before = try connection.readCounter(scenario.epoch)
        try connection.run(ClearCommand(), [.emptyAuth])
        #expect(try connection.nvPublicArea(at: scenario.epoch.index) == nil)
        let template = KeyTemplate.counter(at: scenario.epoch.index)
        try connection.run(NVDefineSpaceCommand(auth: [], publicArea: template), [.emptyAuth])
        try connection.run(NVIncrementCommand(reference(template)), [.emptyAuth])
        #expect(try connection.readCounter(template.written) > before)
        try scenario.expectClean()
    }

    /// The attacker writes the value that the lease wants into an index that is not a counter.
    @Test("an ordinary index at the handle of the counter has another Name")
    func ordinaryIndex() throws {
        let policy = try scenario.leasePolicy()
        let lease = try scenario.seal(policy.policy)
        try scenario.raiseEpoch()
        try undefine(scenario.epoch)
        var ordinary = KeyTemplate.counter(at: scenario.epoch.index)
        ordinary.attributes.remove(.counter)
        try connection.run(NVDefineSpaceCommand(auth: [], publicArea: ordinary), [.emptyAuth])
        try connection.run(
            NVWriteCommand(index: reference(ordinary), data: TimeField.clock.operand(policy.epoch)),
            [.emptyAuth])
        #expect(ordinary.written.name != scenario.epoch.name)
        // PolicyNV itself holds; the digest of the policy is another one.
        expectRefused(0x99d) { () throws(TPMError) in _ = try scenario.open(lease) }
        // A lease that names the ordinary index opens, so it is the Name that counts.
        var bent = policy
        bent.epochCounter = ordinary.written
        expectOpens(scenario, try scenario.seal(bent.policy))
        try scenario.expectClean()
    }

    // MARK: Certification

    private func certify(size: UInt16, offset: UInt16) throws(TPMError) -> Attestation {
        let connection = connection
        let epoch = scenario.epoch
        return try scenario.withAttestationKey { (key) throws(TPMError) in
            try connection.withPolicySession(KeyTemplate.counterPolicy, choosing: 2) {
                (session) throws(TPMError) in
                try connection.run(
                    NVCertifyCommand(
                        key: key.reference,
                        index: EntityReference(epoch.index, name: epoch.name),
                        qualifyingData: [], size: size, offset: offset),
                    [.emptyAuth, .policyOnce(session)]
                ).attestation.value
            }
        }
    }

    @Test("a certification of a part of the counter is told apart")
    func partialCertification() throws {
        let name = scenario.epoch.name
        let whole = try certify(size: 8, offset: 0)
        #expect(try whole.counterValue(of: name) == connection.readCounter(scenario.epoch))
        for (size, offset) in [(4, 0), (4, 4), (7, 1), (1, 7)] as [(UInt16, UInt16)] {
            let part = try certify(size: size, offset: offset)
            #expect(throws: AttestationError.partial) { try part.counterValue(of: name) }
        }
        #expect(throws: AttestationError.otherIndex) {
            try whole.counterValue(of: scenario.ledger.name)
        }
        #expect(throws: AttestationError.otherIndex) {
            try whole.counterValue(of: KeyTemplate.counter(at: scenario.epoch.index).name)
        }
        try scenario.expectClean()
    }

    @Test("a certification beyond the end, or of nothing, is refused here or there")
    func certificationOfNothing() throws {
        expectRefused(0x146) { () throws(TPMError) in _ = try certify(size: 8, offset: 1) }
        expectRefused(0x146) { () throws(TPMError) in _ = try certify(size: 1, offset: 8) }
        // Size and offset 0: newer TPMs certify a digest, of type 0x801C; older ones no bytes.
        do throws(TPMError) {
            let empty = try certify(size: 0, offset: 0)
            #expect(throws: AttestationError.partial) {
                try empty.counterValue(of: scenario.epoch.name)
            }
        } catch {
            #expect(error.code == .malformedResponse || error.code == .refused)
        }
        try scenario.expectClean()
    }

    @Test("a quote and a certified key are no counter")
    func otherAttestations() throws {
        let connection = connection
        let nonce = RandomSource.system.bytes(32)
        let (quote, certified) = try scenario.withAttestationKey { (key) throws(TPMError) in
            (
                try connection.quote(scenario.selection, by: key, nonce: nonce).quote,
                try connection.run(
                    CertifyCommand(
                        object: scenario.parent.reference, key: key.reference,
                        qualifyingData: nonce),
                    [.emptyAuth, .emptyAuth])
            )
        }
        for signed in [quote, certified] {
            #expect(throws: AttestationError.otherKind) {
                try signed.attestation.value.counterValue(of: scenario.epoch.name)
            }
        }
        try scenario.expectClean()
    }

    @Test("counters keep their value through power cuts, reboots and Shutdown(STATE)")
    func durability() throws {
        for kind in 0..<3 {
            try scenario.raiseEpoch()
            let value = try connection.readCounter(scenario.epoch)
            switch kind {
            case 0: try scenario.tpm.cut()
            case 1: try scenario.tpm.reboot()
            default:
                try connection.shutdown(.state)
                try scenario.tpm.cut()
            }
            #expect(try connection.readCounter(scenario.epoch) == value)
        }
        try scenario.expectClean()
    }
}
