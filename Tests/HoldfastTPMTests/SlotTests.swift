import Foundation
import Glibc
import HoldfastCrypto
import HoldfastErrors
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("slots of the TPM", .timeLimit(.minutes(20)))
struct SlotTests {
    private let tpm: TestTPM
    private var connection: TPMConnection { tpm.connection }

    init() throws { tpm = try TestTPM() }

    private func nestSessions(
        _ count: Int, _ kind: StartAuthSessionCommand.Kind,
        _ body: () throws(TPMError) -> Void
    ) throws(TPMError) {
        guard count > 0 else { return try body() }
        try connection.withSession(kind, hash: .sha256, salt: .none) {
            (_) throws(TPMError) in try nestSessions(count - 1, kind, body)
        }
    }

    private func nestKeys(_ count: Int, _ body: () throws(TPMError) -> Void) throws(TPMError) {
        guard count > 0 else { return try body() }
        try connection.withPrimary(Attacker.ordinaryStorageKey, in: .owner) {
            (_) throws(TPMError) in try nestKeys(count - 1, body)
        }
    }

    @Test(
        "three sessions fit, the fourth is refused with a hint",
        arguments: [StartAuthSessionCommand.Kind.hmac, .policy, .trial])
    func sessions(_ kind: StartAuthSessionCommand.Kind) throws {
        try nestSessions(3, kind) { () throws(TPMError) in
            #expect(connection.occupiedSlots == 3)
            // Policy sessions are among the loaded ones.
            let loaded = try connection.handles(from: 0x0200_0000)
            #expect(loaded.count == 3)
            expectRefused(0x903) { () throws(TPMError) in
                try nestSessions(1, kind) { () throws(TPMError) in }
            }
            expectHint { () throws(TPMError) in
                try nestSessions(1, kind) { () throws(TPMError) in }
            }
        }
        try expectNoSlots(of: connection)
        expectRefused(0x903) { () throws(TPMError) in
            try nestSessions(4, kind) { () throws(TPMError) in }
        }
        try expectNoSlots(of: connection)
    }

    @Test("three keys fit, the fourth is refused with a hint")
    func objects() throws {
        try nestKeys(3) { () throws(TPMError) in
            let loaded = try connection.handles(from: 0x8000_0000)
            #expect(loaded.count == 3)
            expectRefused(0x902) { () throws(TPMError) in
                try nestKeys(1) { () throws(TPMError) in }
            }
            expectHint { () throws(TPMError) in try nestKeys(1) { () throws(TPMError) in } }
        }
        try expectNoSlots(of: connection)
        expectRefused(0x902) { () throws(TPMError) in
            try nestKeys(4) { () throws(TPMError) in }
        }
        try expectNoSlots(of: connection)
    }

    private func expectHint(_ body: () throws(TPMError) -> Void) {
        do throws(TPMError) {
            try body()
            Issue.record("accepted")
        } catch {
            #expect(error.hint.contains("/dev/tpmrm0"))
            #expect(error.description.contains("no room for another"))
        }
    }

    @Test("a saved session is given back too")
    func savedSession() throws {
        let connection = connection
        try connection.withSession(.policy, hash: .sha256, salt: .none) {
            (session) throws(TPMError) in
            try connection.run(ContextSaveCommand(handle: session.handle))
            let saved = try connection.handles(from: 0x0300_0000)
            // Of a saved session a TPM may not know the kind: the number is what counts.
            #expect(saved.map { $0.rawValue & 0xFF_FFFF } == [session.handle.rawValue & 0xFF_FFFF])
        }
        try expectNoSlots(of: connection)
    }

    @Test("an error in the middle of a transaction gives everything back")
    func errors() throws {
        let connection = connection
        expectFailure(.invalidRequest) { () throws(TPMError) in
            try connection.transaction { (connection) throws(TPMError) in
                try connection.withPrimary(Attacker.ordinaryStorageKey, in: .owner) {
                    (_) throws(TPMError) in
                    try connection.withSession(.policy, hash: .sha256, salt: .none) {
                        (session) throws(TPMError) in
                        try connection.satisfy(
                            KeyTemplate.leaseParentPolicy, in: session,
                            with: PolicyMeans(branches: [2]))
                    }
                }
            }
        }
        try expectNoSlots(of: connection)
    }

    @Test("what is done without an authorization that it needs is not sent")
    func missingAuthorization() throws {
        let before = tpm.interposer.lastCommand
        expectFailure(.invalidRequest) { () throws(TPMError) in
            try connection.run(ClockSetCommand(clock: 1))
        }
        #expect(tpm.interposer.lastCommand == before)
        try expectNoSlots(of: connection)
    }

    @Test("PCRs of an empty selection and of a bank that is not there are refused")
    func emptySelection() throws {
        let connection = connection
        for assertion in [
            PolicyAssertion.pcr(.empty, digest: HashAlgorithm.sha256.digest([])),
            .pcr(PCRSelection(.sha256, []), digest: HashAlgorithm.sha256.digest([])),
        ] {
            expectFailure(.invalidRequest) { () throws(TPMError) in
                try connection.withSession(.policy, hash: .sha256, salt: .none) {
                    (session) throws(TPMError) in
                    try connection.satisfy(
                        Policy(hash: .sha256, [assertion]), in: session, with: PolicyMeans())
                }
            }
        }
        #expect(try connection.activeBanks() == [.sha256, .sha384])
        expectFailure(.notSupported) { () throws(TPMError) in
            try connection.readPCRs(PCRSelection(.sha512, [PCRIndex.all[7]]))
        }
        try expectNoSlots(of: connection)
    }

    @Test("a bank that a TPM answers with an error is not supported either; other errors stay")
    func missingBank() throws {
        let connection = connection
        for (code, expected) in [
            (0x2C3, TPMError.Code.notSupported), (0x83, .notSupported), (0x1C4, .refused),
            (0x101, .refused),
        ] as [(Int, TPMError.Code)] {
            tpm.interposer.alter = { command, response in
                command == .pcrRead
                    ? [0x80, 0x01, 0, 0, 0, 10, 0, 0, UInt8(code >> 8), UInt8(code & 0xFF)]
                    : response
            }
            expectFailure(expected) { () throws(TPMError) in
                try connection.readPCRs(PCRSelection(.sha256, [PCRIndex.all[7]]))
            }
        }
        tpm.interposer.alter = nil
        try expectNoSlots(of: connection)
    }

    @Test("a TPM that was not started, or has failed, is out of order; a refusal is a refusal")
    func outOfOrder() throws {
        func status(_ code: UInt32) -> HoldfastErrors.ExitStatus {
            TPMError(.refused, "", returnCode: ReturnCode(rawValue: code)).exitStatus
        }
        #expect([0x100, 0x101].map(status) == [.unreachable, .unreachable])
        #expect([0x126, 0x99D, 0x921, 0x128].allSatisfy { status($0) == .refused })
    }

    // MARK: Clock

    /// The published bound assumes at worst 0.72; libtpms gives 0.857, the reference code 0.867.
    @Test("the slowest rate of the clock is not below 0.72, and a reboot ends it")
    func slowClock() throws {
        for _ in 0..<3 {
            try connection.run(ClockRateAdjustCommand(step: -3), [.emptyAuth])
        }
        for _ in 0..<60 {
            try connection.run(ClockRateAdjustCommand(step: -2), [.emptyAuth])
        }
        let slow = try rate()
        #expect(slow >= 0.70, "\(slow)")
        try tpm.reboot()
        let normal = try rate()
        #expect(normal >= 0.97, "\(normal)")
        try expectNoSlots(of: connection)
    }

    /// TPM milliseconds for each millisecond of this machine, over some 300 of them.
    private func rate() throws(TPMError) -> Double {
        let (clock, start) = (try connection.clock().clock, milliseconds())
        var now = (clock: clock, machine: start)
        while now.machine - start < 300 {
            now = (try connection.clock().clock, milliseconds())
        }
        return Double(now.clock - clock) / (now.machine - start)
    }

    private func milliseconds() -> Double {
        var now = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &now)
        return Double(now.tv_sec) * 1000 + Double(now.tv_nsec) / 1_000_000
    }

    @Test("a clock at the end of what ClockSet takes is read without a trap")
    func highestClock() throws {
        let highest: UInt64 = 0xFFFF_0000_0000_0000
        expectRefused(0x1c4) { () throws(TPMError) in
            try connection.run(ClockSetCommand(clock: highest + 1), [.emptyAuth])
        }
        try connection.run(ClockSetCommand(clock: highest), [.emptyAuth])
        let now = try connection.clock().clock
        #expect(now >= highest)
        #expect(LeasePolicy.lowestClock(issuedAt: now) == now - LeasePolicy.clockLoss)
        // Never back.
        expectRefused(0x1c4) { () throws(TPMError) in
            try connection.run(ClockSetCommand(clock: 1000), [.emptyAuth])
        }
        try expectNoSlots(of: connection)
    }
}

/// A way to a TPM that is lost at some command, and found again after the transaction.
private final class LosingTransport: TPMTransport {
    private let inner: any TPMTransport
    /// The command whose answer is lost; it is executed.
    var loses: CommandCode?
    private var lost = false

    init(_ inner: any TPMTransport) { self.inner = inner }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        guard !lost else { throw TPMError(.unreachable, "closed") }
        let response = try inner.exchange(command)
        let code = CommandCode(rawValue: command[6..<10].reduce(0) { $0 << 8 | UInt32($1) })
        if code == loses {
            (lost, loses) = (true, nil)
            throw TPMError(.malformedResponse, "lost")
        }
        return response
    }

    func endTransaction() { lost = false }
    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}

@Suite("slots when the connection is lost", .timeLimit(.minutes(20)))
struct LostConnectionTests {
    @Test(
        "nothing stays in the TPM, whichever answer is lost",
        arguments: [
            CommandCode.createPrimary, .startAuthSession, .policyCommandCode, .readPublic,
            .flushContext,
        ])
    func slots(_ code: CommandCode) throws {
        var losing: LosingTransport?
        let tpm = try TransientTPM(.documented) { inner in
            let transport = LosingTransport(inner)
            losing = transport
            return transport
        }
        let transport = try #require(losing)
        transport.loses = code
        let key = KeyTemplate.attestationKey(vendorID: [])
        _ = try? tpm.connection.transaction { (connection) throws(TPMError) in
            try connection.withPrimary(key, in: .endorsement) { (key) throws(TPMError) in
                _ = try connection.object(at: key.handle)
                try connection.withSession(.policy, hash: .sha256, salt: .none) {
                    (session) throws(TPMError) in
                    _ = try connection.run(
                        PolicyCommandCodeCommand(session: session.handle, command: .unseal))
                }
            }
        }
        #expect(transport.loses == nil)
        try expectNoSlots(of: tpm.connection)
    }
}

/// Plays a resource manager: what others have in the TPM is in its lists.
private final class ManagedTransport: TPMTransport {
    private let inner: any TPMTransport
    /// Whether answers that name a handle are cut, so that the handle is lost.
    var loses = false
    private(set) var flushed: [TPMHandle] = []
    let hasResourceManager: Bool

    init(_ inner: any TPMTransport, isManager: Bool) {
        self.inner = inner
        hasResourceManager = isManager
    }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        let code = CommandCode(rawValue: command[6..<10].reduce(0) { $0 << 8 | UInt32($1) })
        if code == .flushContext {
            flushed.append(
                TPMHandle(rawValue: command[10..<14].reduce(0) { $0 << 8 | UInt32($1) }))
        }
        let response = try inner.exchange(command)
        return loses && code == .startAuthSession ? Array(response.prefix(12)) : response
    }

    func endTransaction() { inner.endTransaction() }
    func close() { inner.close() }
}

@Suite("what others have in the TPM", .timeLimit(.minutes(20)))
struct ForeignSessionTests {
    @Test(
        "after a lost answer it is given back on a raw TPM alone: a resource manager does that itself",
        arguments: [true, false])
    func lost(isManaged: Bool) throws {
        var managed: ManagedTransport?
        let tpm = try TransientTPM(.documented) { inner in
            let transport = ManagedTransport(inner, isManager: isManaged)
            managed = transport
            return transport
        }
        let transport = try #require(managed)
        transport.loses = true
        #expect(throws: TPMError.self) {
            try tpm.connection.transaction { (connection) throws(TPMError) in
                try connection.withSession(.policy, hash: .sha256, salt: .none) { _ in }
            }
        }
        #expect(transport.flushed.isEmpty == isManaged)
        // On the raw one nothing is left; of the other one the list still has it.
        #expect(try tpm.connection.handles(from: 0x0200_0000).isEmpty == !isManaged)
    }
}

/// A peer that is no TPM.
@Suite("descriptor transport", .timeLimit(.minutes(20)))
struct DescriptorTransportTests {
    private let good: [UInt8] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0]

    /// What two commands bring, when the first gets this answer and the second a good one.
    private func outcomes(
        of answer: [UInt8], hangingUp: Bool = false
    ) throws -> [Result<[UInt8], TPMError>] {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try #require(unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0)
        let transport = DescriptorTransport(owning: ends[0], timeoutSeconds: 1)
        defer { _ = Glibc.close(ends[1]) }
        return [answer, good].map { answer in
            // The transport may have hung up by the second one.
            _ = unsafe send(ends[1], answer, answer.count, Int32(MSG_NOSIGNAL))
            if hangingUp { shutdown(ends[1], Int32(SHUT_WR)) }
            do throws(TPMError) { return .success(try transport.exchange([1])) } catch {
                return .failure(error)
            }
        }
    }

    @Test("two good answers, one after the other")
    func accepted() throws {
        #expect(try outcomes(of: good) == [.success(good), .success(good)])
        let longest: [UInt8] =
            [0x80, 0x01, 0, 0, 0x10, 0, 0, 0, 0, 0] + [UInt8](repeating: 7, count: 4086)
        #expect(try outcomes(of: longest) == [.success(longest), .success(good)])
    }

    @Test(
        "an answer that lies about its size ends the connection: the next is not taken for another",
        arguments: [
            [0x80, 0x01, 0, 0, 0, 9, 0, 0, 0, 0], [0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0],
            [0x80, 0x01, 0, 0, 0x10, 0x01, 0, 0, 0, 0],
            [0x80, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
            [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0, 0],
        ] as [[UInt8]])
    func lies(_ answer: [UInt8]) throws {
        try expectFailures(.malformedResponse, try outcomes(of: answer))
    }

    @Test(
        "an answer that is cut, or none: it times out, and what comes late is not read",
        arguments: [
            [], [0x80], [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0], [0x80, 0x01, 0, 0, 0, 11, 0, 0, 0, 0],
        ] as [[UInt8]])
    func cut(_ answer: [UInt8]) throws {
        try expectFailures(.timedOut, try outcomes(of: answer))
        try expectFailures(.unreachable, try outcomes(of: answer, hangingUp: true))
    }

    @Test("an answer that comes byte by byte meets a limit for the whole, not for each byte")
    func drips() throws {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try #require(unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0)
        let transport = DescriptorTransport(owning: ends[0], timeoutSeconds: 1)
        let far = ends[1]
        let good = good
        Thread.detachNewThread {
            for byte in good {
                guard unsafe send(far, [byte], 1, Int32(MSG_NOSIGNAL)) == 1 else { break }
                usleep(300_000)
            }
            _ = Glibc.close(far)
        }
        let start = ContinuousClock.now
        expectFailure(.timedOut) { () throws(TPMError) in try transport.exchange([1]) }
        #expect(ContinuousClock.now - start < .seconds(2.5))
    }

    @Test("closing ends the connection, also when a process that was forked has the descriptor too")
    func inherited() throws {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try #require(unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0)
        let inherited = dup(ends[0])
        defer { for end in [inherited, ends[1]] { _ = Glibc.close(end) } }
        let transport = DescriptorTransport(owning: ends[0], timeoutSeconds: 1)
        var byte: UInt8 = 0
        #expect(unsafe recv(ends[1], &byte, 1, Int32(MSG_DONTWAIT)) == -1)
        transport.close()
        // The end of the stream, and not silence.
        #expect(unsafe recv(ends[1], &byte, 1, Int32(MSG_DONTWAIT)) == 0)
    }

    private func expectFailures(
        _ code: TPMError.Code, _ outcomes: [Result<[UInt8], TPMError>],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let codes = outcomes.map { outcome -> TPMError.Code? in
            guard case .failure(let error) = outcome else { return nil }
            return error.code
        }
        #expect(codes == [code, .unreachable], sourceLocation: sourceLocation)
    }
}
