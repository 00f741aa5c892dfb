import Glibc
import HoldfastTPM
import HoldfastTPMWire
import Synchronization

/// What goes wrong between a program and its TPM, once.
struct Fault: Sendable, CustomStringConvertible {
    enum Kind: Sendable, Hashable {
        /// One bit of the response.
        case flip(UInt32)
        /// The command is executed, and the response says that it was not.
        case error(UInt32)
        /// The response is cut, and its size says so or not.
        case truncate(UInt32, isHonest: Bool)
        /// The TPM asks to send again, so often.
        case resend(UInt32, times: Int)
        case garbage(UInt32)
        /// The connection breaks, before the command is executed or behind it.
        case hangUp(isExecuted: Bool)
        /// SIGKILL to the program.
        case kill(isExecuted: Bool)
        /// The power of the machine fails.
        case power(isExecuted: Bool)
    }

    /// The number of the command, from 0.
    var command: Int
    var kind: Kind

    /// Something may stay in the TPM that nobody knows of.
    ///
    /// A TPM that asks to send each command again without end asks so for FlushContext, too.
    var mayLeak: Bool {
        switch kind {
        case .flip, .error, .kill, .hangUp, .garbage, .truncate: true
        case .resend(_, let times): times >= 40
        case .power: false
        }
    }

    var description: String { "\(kind) at command \(command)" }
}

/// Stands between programs and a software TPM, and lets one thing go wrong when it is told to.
final class FaultProxy: Sendable {
    let path: String
    private let upstream: String
    private let listener: Int32
    private let cutPower: @Sendable () -> Void
    private let state = Mutex(State())

    private struct State {
        var fault: Fault?
        var count = 0
        var hasStruck = false
        var left = 0
    }

    /// - Parameter cutPower: kills the software TPM.
    init(before upstream: String, cutPower: @escaping @Sendable () -> Void) throws(TPMError) {
        self.upstream = upstream
        self.cutPower = cutPower
        path = upstream + ".faulty"
        listener = try ProxySocket.listen(path)
        ProxySocket.serve(listener) { [self] in serve($0) }
    }

    /// Ends the listening.
    func close() {
        ProxySocket.close(listener, at: path)
    }

    /// What goes wrong in the next program; commands are counted from here.
    func prepare(_ fault: Fault?) {
        state.withLock { state in
            state = State(fault: fault)
            if case .resend(_, let times)? = fault?.kind { state.left = times }
        }
    }

    /// How many commands came, and whether the fault did strike.
    var outcome: (commands: Int, hasStruck: Bool) {
        state.withLock { ($0.count, $0.hasStruck) }
    }

    /// The fault that strikes this command.
    private func strike() -> Fault.Kind? {
        state.withLock { state in
            defer { state.count += 1 }
            guard let fault = state.fault, state.count >= fault.command else { return nil }
            if case .resend = fault.kind {
                guard state.left > 0 else { return nil }
                state.left -= 1
            } else {
                guard state.count == fault.command else { return nil }
            }
            state.hasStruck = true
            return fault.kind
        }
    }

    private func serve(_ client: Int32) {
        let tpm = UnixSocketTransport(path: upstream)
        defer { tpm.close() }
        while let command = ProxySocket.command(from: client) {
            let kind = strike()
            switch kind {
            case .hangUp(let isExecuted)?:
                if isExecuted { _ = try? tpm.exchange(command) }
                return
            case .power(let isExecuted)?:
                if isExecuted { _ = try? tpm.exchange(command) }
                cutPower()
                return
            case .kill(let isExecuted)?:
                if isExecuted { _ = try? tpm.exchange(command) }
                if let process = Self.process(behind: client) { Glibc.kill(process, SIGKILL) }
                return
            case .resend(let code, _)?:
                guard ProxySocket.write(Self.refusal(code), to: client) else { return }
                continue
            default: break
            }
            guard let response = try? tpm.exchange(command) else { return }
            let altered = Self.alter(response, kind)
            guard ProxySocket.write(altered, to: client) else { return }
            // A client that waits for bytes which nobody sends would wait for minutes.
            let stated = altered.count >= 6 ? altered[2..<6].reduce(0) { $0 << 8 | Int($1) } : -1
            guard stated == altered.count else { return }
        }
    }

    private static func refusal(_ code: UInt32) -> [UInt8] {
        [0x80, 0x01, 0, 0, 0, 10] + (0..<4).map { UInt8(truncatingIfNeeded: code >> (24 - 8 * $0)) }
    }

    private static func alter(_ response: [UInt8], _ kind: Fault.Kind?) -> [UInt8] {
        var altered = response
        switch kind {
        case .flip(let number)?:
            let bit = Int(number) % (response.count * 8)
            altered[bit / 8] ^= 1 << (bit % 8)
        case .error(let code)?: return refusal(code)
        case .truncate(let number, let isHonest)?:
            altered = [UInt8](response[..<max(10, Int(number) % response.count)])
            if isHonest {
                altered.replaceSubrange(
                    2..<6, with: [0, 0, UInt8(altered.count >> 8), UInt8(altered.count & 0xFF)])
            }
        case .garbage(let seed)?:
            var mixed = seed
            for index in altered.indices.dropFirst(10) {
                mixed = mixed &* 1_664_525 &+ 1_013_904_223
                altered[index] = UInt8(truncatingIfNeeded: mixed >> 24)
            }
        default: break
        }
        return altered
    }

    private static func process(behind client: Int32) -> Int32? {
        // `struct ucred`, which the C library shows to GNU programs alone: process, user, group.
        var peer: [Int32] = [0, 0, 0]
        var size = socklen_t(12)
        let status = unsafe getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size)
        return status == 0 && peer[0] > 1 ? peer[0] : nil
    }
}
