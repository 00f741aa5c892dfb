import Glibc
import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// Somebody sits between us and the TPM and changes what it says.
///
/// Whatever he does, the outcome is an error: never another secret, never a crash, and no slot of
/// the TPM stays occupied.
@Suite("interposer", .timeLimit(.minutes(20)))
struct InterposerTests {
    private let scenario: LeaseScenario
    private let lease: LeaseScenario.Lease
    private var connection: TPMConnection { scenario.connection }
    private var interposer: Interposer { scenario.tpm.interposer }

    init() throws {
        scenario = try LeaseScenario()
        lease = try scenario.seal(Policy(hash: .sha256, [.commandCode(.unseal)]))
    }

    /// Runs `body` with a change to the responses of one command, and demands that it fails.
    private func expectCaught(
        _ code: CommandCode, _ what: @autoclosure () -> String,
        change: @escaping ([UInt8]) -> [UInt8], _ body: () throws(TPMError) -> Void
    ) {
        let watcher = interposer
        var changed = false
        watcher.alter = { command, response in
            guard command == code, !changed, Self.isSalted(watcher.lastCommand, code) else {
                return response
            }
            changed = true
            return change(response)
        }
        defer { watcher.alter = nil }
        do throws(TPMError) {
            try body()
            Issue.record("accepted: \(what())")
        } catch {
            switch error.code {
            case .malformedResponse, .responseNotAuthentic, .refused: break
            default: Issue.record("\(what()): \(error)")
            }
        }
        #expect(changed)
    }

    /// Of the sessions only the salted one is attacked, the others protect nothing.
    private static func isSalted(_ command: [UInt8], _ code: CommandCode) -> Bool {
        code != .startAuthSession || command[10..<14] != [0x40, 0x00, 0x00, 0x07]
    }

    /// How long the response of a command is.
    private func length(
        of code: CommandCode, _ body: () throws(TPMError) -> Void
    ) throws(TPMError) -> Int {
        let watcher = interposer
        var length = 0
        watcher.alter = { command, response in
            if command == code, Self.isSalted(watcher.lastCommand, code) {
                length = response.count
            }
            return response
        }
        defer { watcher.alter = nil }
        try body()
        return length
    }

    private static func flip(_ bit: Int) -> ([UInt8]) -> [UInt8] {
        { response in
            var changed = response
            changed[bit / 8] ^= 1 << (bit % 8)
            return changed
        }
    }

    @Test("every single bit of the answer to Unseal")
    func unseal() throws {
        let connection = connection
        try scenario.withLease(lease) { (object) throws(TPMError) in
            func unseal() throws(TPMError) {
                let opened = try connection.unseal(
                    object, policy: lease.policy, with: PolicyMeans(), salt: scenario.parent)
                #expect(copy(opened) == lease.secret)
            }
            let length = try length(of: .unseal, unseal)
            // Header, parameter size, TPM2B of 32 bytes, session with nonce and HMAC.
            #expect(length >= 10 + 4 + 34 + 2 + 16 + 1 + 2 + 32)
            for bit in 0..<8 * length {
                expectCaught(.unseal, "bit \(bit)", change: Self.flip(bit), unseal)
                #expect(connection.occupiedSlots == 1)
            }
            try unseal()
        }
        try scenario.expectClean()
    }

    @Test("every single bit of the answer to NV_Increment; it is executed each time")
    func increment() throws {
        let raise = { () throws(TPMError) in try scenario.raiseEpoch() }
        let length = try length(of: .nvIncrement, raise)
        let before = try connection.readCounter(scenario.epoch)
        for bit in 0..<8 * length {
            expectCaught(.nvIncrement, "bit \(bit)", change: Self.flip(bit), raise)
            #expect(connection.occupiedSlots == 0)
        }
        #expect(try connection.readCounter(scenario.epoch) == before + UInt64(8 * length))
        try scenario.expectClean()
    }

    @Test("every single bit of the answer to a salted StartAuthSession, handle and nonce")
    func startAuthSession() throws {
        let open = { () throws(TPMError) in
            let same = try scenario.open(lease)
            #expect(same)
        }
        let length = try length(of: .startAuthSession, open)
        #expect(length >= 10 + 4 + 2 + 16)
        for bit in 0..<8 * length {
            expectCaught(.startAuthSession, "bit \(bit)", change: Self.flip(bit), open)
            try scenario.expectClean()
        }
        try open()
    }

    @Test(
        "truncated and extended answers, with and without a corrected size",
        arguments: [CommandCode.unseal, .startAuthSession, .load, .policyCommandCode])
    func sizes(_ code: CommandCode) throws {
        let open = { () throws(TPMError) in
            let same = try scenario.open(lease)
            #expect(same)
        }
        let length = try length(of: code, open)
        for size in Array(0..<length) + [length + 1, length + 8, 4096] {
            for corrected in [false, true] {
                expectCaught(
                    code, "\(size) bytes, corrected: \(corrected)",
                    change: { response in
                        var changed = [UInt8](response.prefix(size))
                        changed += [UInt8](repeating: 0, count: size - changed.count)
                        if corrected, size >= 6 {
                            changed.replaceSubrange(
                                2..<6, with: [0, 0, UInt8(size >> 8), UInt8(size & 0xFF)])
                        }
                        return changed
                    }, open)
                try scenario.expectClean()
            }
        }
        try open()
    }

    @Test("the answer to Unseal of another session, and the one of the same lease before")
    func replay() throws {
        let watcher = interposer
        var kept: [UInt8] = []
        watcher.alter = { code, response in
            if code == .unseal { kept = response }
            return response
        }
        expectOpens(scenario, lease)
        watcher.alter = { code, response in code == .unseal ? kept : response }
        expectFailure(.responseNotAuthentic) { () throws(TPMError) in try scenario.open(lease) }
        watcher.alter = nil
        try scenario.expectClean()
    }

    @Test("the secret never goes over the bus in clear")
    func hidden() throws {
        let watcher = interposer
        var traffic: [UInt8] = []
        watcher.alter = { _, response in
            traffic += watcher.lastCommand + response
            return response
        }
        expectOpens(scenario, lease)
        try scenario.raiseEpoch()
        let auth = RandomSource.system.bytes(32)
        _ = try connection.defineCounter(
            KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_4804)), authValue: auth,
            salt: scenario.parent)
        watcher.alter = nil
        #expect(!contains(traffic, lease.secret))
        #expect(!contains(traffic, scenario.epochAuth))
        #expect(!contains(traffic, auth))
        // And without a session the value is there, so the search finds what it should.
        try connection.run(
            NVUndefineSpaceCommand(
                EntityReference(
                    TPMHandle(rawValue: 0x0180_4804),
                    name: KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_4804)).written.name)),
            [.emptyAuth])
        try connection.run(
            NVDefineSpaceCommand(
                auth: auth, publicArea: KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_4804))),
            [.emptyAuth])
        #expect(contains(interposer.lastCommand, auth))
        try scenario.expectClean()
    }

    private func contains(_ traffic: [UInt8], _ needle: [UInt8]) -> Bool {
        traffic.indices.contains { start in
            start + needle.count <= traffic.count
                && traffic[start..<start + needle.count].elementsEqual(needle)
        }
    }

    @Test("there is no way to read a secret in a session that hides nothing")
    func noFallback() throws {
        let connection = connection
        try scenario.withLease(lease) { (object) throws(TPMError) in
            try connection.withSession(.policy, hash: .sha256, salt: .none) {
                (session) throws(TPMError) in
                try connection.satisfy(lease.policy, in: session, with: PolicyMeans())
                expectFailure(.invalidRequest) { () throws(TPMError) in
                    _ = try connection.runForSecret(UnsealCommand(object), [.policyOnce(session)])
                }
            }
        }
        expectFailure(.invalidRequest) { () throws(TPMError) in
            try connection.run(
                NVDefineSpaceCommand(
                    auth: [1],
                    publicArea: KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_4805))),
                [.emptyAuth], encryptingCommand: true)
        }
        try scenario.expectClean()
    }

    @Test("a salt key that is not the pinned one: the session comes to nothing")
    func otherSaltKey() throws {
        // The interposer shows a key of his own under the handle of the parent.
        let his = ECPrivateKey(curve: .p256, random: .system)
        let shown = try LoadedObject(
            handle: scenario.parent.handle,
            publicArea: Attacker.storageKey(his.publicKey),
            name: Attacker.storageKey(his.publicKey).name)
        expectFailure(.refused) { () throws(TPMError) in
            _ = try scenario.connection.withSession(.hmac, hash: .sha256, salt: .key(shown)) {
                (session) throws(TPMError) in
                try scenario.connection.run(
                    NVIncrementCommand(
                        EntityReference(scenario.epoch.index, name: scenario.epoch.name)),
                    [.hmac(session, authValue: scenario.epochAuth)])
            }
        }
        expectFailure(.nameMismatch) { () throws(TPMError) in
            _ = try scenario.connection.object(at: scenario.parent.handle, named: shown.name)
        }
        try scenario.expectClean()
    }

    // MARK: Resending

    @Test("a TPM that asks to send again: bounded")
    func resend() throws {
        for (answer, times, works) in [
            (0x922, 3, true), (0x908, 3, true), (0x90a, 3, true), (0x920, 3, true),
            (0x922, 40, false),
        ] {
            var left = times
            interposer.alter = { code, response in
                guard code == .getRandom, left > 0 else { return response }
                left -= 1
                return [
                    0x80, 0x01, 0, 0, 0, 10, 0, 0, UInt8(answer >> 8), UInt8(answer & 0xFF),
                ]
            }
            if works {
                #expect(try connection.run(GetRandomCommand(count: 8)).count == 8)
            } else {
                expectFailure(.timedOut) { () throws(TPMError) in
                    try connection.run(GetRandomCommand(count: 8))
                }
            }
            #expect(left == 0)
        }
        interposer.alter = nil
        try scenario.expectClean()
    }

    @Test("a refusal with something behind it is malformed; a code alone is a refusal")
    func refusals() throws {
        for (tail, code) in [([], TPMError.Code.refused), ([0], .malformedResponse)]
            as [([UInt8], TPMError.Code)]
        {
            interposer.alter = { _, _ in
                [0x80, 0x01, 0, 0, 0, UInt8(10 + tail.count), 0, 0, 0x01, 0x01] + tail
            }
            expectFailure(code) { () throws(TPMError) in
                try connection.run(GetRandomCommand(count: 8))
            }
        }
        interposer.alter = nil
        try scenario.expectClean()
    }
}
