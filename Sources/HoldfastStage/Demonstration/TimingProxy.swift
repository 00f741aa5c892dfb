import Glibc
import HoldfastTPM
import Synchronization

/// Stands between programs and a software TPM and adds up how long the TPM took.
///
/// One client at a time, as the TPM itself has it.
final class TimingProxy: Sendable {
    /// Where programs find it.
    let path: String
    private let upstream: String
    private let state: Mutex<(microseconds: Double, commands: Int)> = Mutex((0, 0))
    private let first = Mutex<Double?>(nil)
    private let listener: Int32

    /// What the TPM did since the last call.
    func take() -> (microseconds: Double, commands: Int) {
        state.withLock { total in
            defer { total = (0, 0) }
            return total
        }
    }

    /// When the TPM answered first since the last call.
    func firstAnswer() -> Double? {
        first.withLock { value in
            defer { value = nil }
            return value
        }
    }

    /// Listens beside the socket of a machine.
    init(before upstream: String) throws(TPMError) {
        self.upstream = upstream
        path = upstream + ".timed"
        listener = try ProxySocket.listen(path)
        ProxySocket.serve(listener) { [self] in serve($0) }
    }

    /// Ends the listening; a client that is served is let go with its program.
    func close() {
        ProxySocket.close(listener, at: path)
    }

    private func serve(_ client: Int32) {
        let tpm = UnixSocketTransport(path: upstream)
        defer { tpm.close() }
        while let command = ProxySocket.command(from: client) {
            let start = monotonicMicroseconds()
            guard let response = try? tpm.exchange(command) else { return }
            let spent = monotonicMicroseconds() - start
            state.withLock { total in
                total.microseconds += spent
                total.commands += 1
            }
            guard ProxySocket.write(response, to: client) else { return }
            first.withLock { $0 = $0 ?? monotonicMicroseconds() }
        }
    }
}
