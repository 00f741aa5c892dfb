import Dispatch
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
    private let listener: Int32

    /// What the TPM did since the last call.
    func take() -> (microseconds: Double, commands: Int) {
        state.withLock { total in
            defer { total = (0, 0) }
            return total
        }
    }

    /// Listens beside the socket of a machine.
    init(before upstream: String) throws(TPMError) {
        self.upstream = upstream
        path = upstream + ".timed"
        listener = try ProxySocket.listen(path)
        let serve: @Sendable () -> Void = { [self] in
            while true {
                let client = accept(listener, /* address: */ nil, /* length: */ nil)
                guard client >= 0 else { return }
                self.serve(client)
                Glibc.close(client)
            }
        }
        DispatchQueue(label: "holdfast.timing-proxy").async(execute: serve)
    }

    /// Ends the listening; a client that is served is let go with its program.
    func close() {
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
        unsafe unlink(path)
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
        }
    }
}
