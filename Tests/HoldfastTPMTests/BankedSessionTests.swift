import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// A policy session is a snapshot: what it saw of clock and NV holds for one unseal, later too.
@Suite("banked policy sessions", .timeLimit(.minutes(20)))
struct BankedSessionTests {
    private let scenario: LeaseScenario
    private let lease: LeaseScenario.Lease
    private let policy: LeasePolicy

    init() throws {
        scenario = try LeaseScenario()
        policy = try scenario.leasePolicy(moreResets: 5)
        lease = try scenario.seal(policy.policy)
    }

    /// What happens between the policy and the unseal.
    private func bank(
        saved: Bool = false, _ between: () throws(TPMError) -> Void
    ) throws(TPMError) -> [UInt8] {
        let scenario = scenario
        let connection = scenario.connection
        let lease = lease
        return try connection.withSession(.policy, hash: .sha256, salt: .key(scenario.parent)) {
            (session) throws(TPMError) in
            try connection.satisfy(
                lease.policy, in: session, with: PolicyMeans(approvals: [scenario.approval]))
            let context =
                saved ? try connection.run(ContextSaveCommand(handle: session.handle)) : nil
            try between()
            if let context {
                let handle = try scenario.connection.run(ContextLoadCommand(context: context))
                #expect(handle == session.handle)
            }
            return try scenario.withLease(lease) { (object) throws(TPMError) in
                copy(
                    try scenario.connection.runForSecret(
                        UnsealCommand(object), [.policyOnce(session)]))
            }
        }
    }

    /// Documented, and the reason why a retirement takes a reset or an extend of PCR 15.
    @Test("satisfied before the epoch is raised, it still unseals once", arguments: [false, true])
    func epoch(saved: Bool) throws {
        #expect(
            try bank(saved: saved) { () throws(TPMError) in try scenario.raiseEpoch() }
                == lease.secret)
        expectRefused(0x126) { () throws(TPMError) in try scenario.open(lease) }
        try scenario.expectClean()
    }

    @Test("satisfied before the end of the lease, it still unseals once", arguments: [false, true])
    func clock(saved: Bool) throws {
        #expect(
            try bank(saved: saved) { () throws(TPMError) in
                try scenario.setClock(policy.highestClock + 1)
            } == lease.secret)
        expectRefused(0x126) { () throws(TPMError) in try scenario.open(lease) }
        try scenario.expectClean()
    }

    @Test("an extend of PCR 15, or of one in the policy, kills it", arguments: [15, 7, 0, 10])
    func extend(_ index: Int) throws {
        let scenario = scenario
        for saved in [false, true] {
            expectRefused(0x128) { () throws(TPMError) in
                try bank(saved: saved) { () throws(TPMError) in
                    try scenario.connection.extend(
                        PCRIndex.all[index], banks: [.sha256], with: [1])
                }
            }
            if index == 7 { break }
        }
        try scenario.expectClean()
    }

    /// libtpms lets the session live when PCR 16 is extended or reset, the reference code does
    /// not: either is seen, and neither is relied upon.
    @Test("PCR 16 is of no use to kill a session: TPMs differ")
    func debugPCR() throws {
        let scenario = scenario
        let index = PCRIndex.all[16]
        do throws(TPMError) {
            let opened = try bank { () throws(TPMError) in
                try scenario.connection.extend(index, banks: [.sha256], with: [1])
                try scenario.connection.run(PCRResetCommand(index: index), [.emptyAuth])
            }
            #expect(opened == lease.secret)
        } catch {
            #expect(error.returnCode == ReturnCode(rawValue: 0x128), "\(error)")
        }
        try scenario.expectClean()
    }

    @Test("a reset ends it, orderly or not", arguments: [false, true])
    func reset(orderly: Bool) throws {
        let scenario = scenario
        // A session handle that the TPM does not know: TPM_RC_REFERENCE_S0.
        expectRefused(0x918) { () throws(TPMError) in
            try bank { () throws(TPMError) in
                if orderly { try scenario.tpm.reboot() } else { try scenario.tpm.cut() }
            }
        }
        expectOpens(scenario, lease)
        try scenario.expectClean()
    }

    /// Which code it is differs; that it does not load is what counts.
    @Test("a saved session does not come back after a reset", arguments: [false, true])
    func savedReset(orderly: Bool) throws {
        let scenario = scenario
        expectFailure(.refused) { () throws(TPMError) in
            try bank(saved: true) { () throws(TPMError) in
                if orderly { try scenario.tpm.reboot() } else { try scenario.tpm.cut() }
            }
        }
        expectOpens(scenario, lease)
        try scenario.expectClean()
    }

    @Test("many can be banked; all die by one extend of PCR 15")
    func many() throws {
        let scenario = scenario
        let connection = scenario.connection
        let count = 12
        try nest(count, []) { (sessions) throws(TPMError) in
            try scenario.raiseEpoch()
            for (session, context) in sessions.dropLast(2) {
                #expect(try unseal(session, context) == lease.secret)
            }
            try connection.extend(PCRIndex.all[15], banks: [.sha256], with: [1])
            for (session, context) in sessions.suffix(2) {
                expectRefused(0x128) { () throws(TPMError) in try unseal(session, context) }
                // Refused, it is still loaded: make room.
                try connection.run(FlushContextCommand(session.handle))
            }
        }
        try scenario.expectClean()
    }

    private func nest(
        _ count: Int, _ banked: [(AuthSession, SavedContext)],
        _ body: ([(AuthSession, SavedContext)]) throws(TPMError) -> Void
    ) throws(TPMError) {
        guard count > 0 else { return try body(banked) }
        let connection = scenario.connection
        try connection.withSession(.policy, hash: .sha256, salt: .key(scenario.parent)) {
            (session) throws(TPMError) in
            try connection.satisfy(
                lease.policy, in: session, with: PolicyMeans(approvals: [scenario.approval]))
            let context = try connection.run(ContextSaveCommand(handle: session.handle))
            try nest(count - 1, banked + [(session, context)], body)
        }
    }

    private func unseal(
        _ session: AuthSession, _ context: SavedContext
    ) throws(TPMError) -> [UInt8] {
        let connection = scenario.connection
        try connection.run(ContextLoadCommand(context: context))
        return try scenario.withLease(lease) { (object) throws(TPMError) in
            copy(try connection.runForSecret(UnsealCommand(object), [.policyOnce(session)]))
        }
    }

    /// The proof that ends what was banked in one boot: certify, extend PCR 15 by the attestation,
    /// quote PCR 15; value and quote are bound through the previous value.
    @Test("certify, extend PCR 15, quote: the chain is recomputed")
    func retirementInOneBoot() throws {
        let scenario = scenario
        let connection = scenario.connection
        let register = PCRIndex.all[15]
        let only15 = PCRSelection(.sha256, [register])
        let previous = try #require(try connection.readPCRs(only15)[.sha256, register])
        try scenario.raiseEpoch()
        let (certified, quoted) = try scenario.withAttestationKey { (key) throws(TPMError) in
            let certified = try connection.certifyCounter(
                scenario.epoch, by: key.reference, keyAuthorization: .emptyAuth,
                qualifyingData: [1])
            try connection.extend(
                register, banks: [.sha256], with: certified.attestation.bytes)
            return (
                certified,
                try connection.quote(only15, by: key, nonce: [UInt8](repeating: 7, count: 32))
            )
        }
        let hash = HashAlgorithm.sha256
        let expected = hash.digest(previous, hash.digest(certified.attestation.bytes))
        #expect(quoted.values[.sha256, register] == expected)
        #expect(
            quoted.quote.attestation.value.attested
                == .quote(selection: only15, pcrDigest: hash.digest(expected)))
        #expect(
            try certified.attestation.value.counterValue(of: scenario.epoch.name)
                == policy.epoch + 1)
        try scenario.expectClean()
    }

    // MARK: PCRs that change while a lease is opened

    @Test("a measurement between policy and unseal: it is tried again, five times at most")
    func retries() throws {
        for (measurements, opens) in [(5, true), (6, false)] {
            let measuring = Measuring(times: measurements)
            scenario.tpm.interposer.before = { code, transport in
                if code == .unseal { measuring.extend(over: transport) }
            }
            if opens {
                expectOpens(scenario, lease)
            } else {
                expectRefused(0x128) { () throws(TPMError) in try scenario.open(lease) }
            }
            #expect(measuring.left == 0)
        }
        scenario.tpm.interposer.before = nil
        expectOpens(scenario, lease)
        try scenario.expectClean()
    }
}

/// Extends PCR 10 a number of times, as IMA does.
private final class Measuring {
    private(set) var left: Int
    init(times: Int) { left = times }

    func extend(over transport: any TPMTransport) {
        guard left > 0 else { return }
        left -= 1
        var writer = WireWriter()
        writer.uint16(0x8002)
        writer.uint32(10 + 4 + 4 + 9 + 4 + 2 + 32)
        writer.uint32(CommandCode.pcrExtend.rawValue)
        writer.uint32(10)
        writer.uint32(9)
        writer.uint32(TPMHandle.passwordSession.rawValue)
        writer.raw([0, 0, 1, 0, 0])
        writer.uint32(1)
        writer.uint16(HashAlgorithm.sha256.id.rawValue)
        writer.raw([UInt8](repeating: 1, count: 32))
        let response = try? transport.exchange(writer.bytes)
        #expect(response?[6..<10] == [0, 0, 0, 0])
    }
}
