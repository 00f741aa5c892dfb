import Foundation
import Glibc
import HoldfastStage
import HoldfastTPM

/// Between a program and a software TPM: it sees each command before the TPM does, and may change
/// the answer.
final class TPMProxy: Sendable {
    let path: String
    private let listener: Int32

    /// - Parameters:
    ///   - target: the socket of the TPM.
    ///   - before: gets the code of a command and the process that sent it, which waits meanwhile.
    ///   - answer: what the program gets for a command and the TPM's answer.
    init(
        path: String, target: String,
        before: @escaping @Sendable (UInt32, Int32) -> Void = { _, _ in },
        answer: @escaping @Sendable (_ command: [UInt8], _ answer: [UInt8]) -> [UInt8] = { $1 }
    ) throws {
        let listener = try ProxySocket.listen(path)
        self.listener = listener
        self.path = path
        // A thread of its own: those of the tests may all be waiting.
        Thread.detachNewThread {
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { break }
                let process = Self.peer(client)
                let tpm = UnixSocketTransport(path: target)
                while let command = ProxySocket.command(from: client) {
                    before(command[6..<10].reduce(0) { $0 << 8 | UInt32($1) }, process)
                    guard let found = try? tpm.exchange(command),
                        ProxySocket.write(answer(command, found), to: client)
                    else { break }
                }
                tpm.close()
                close(client)
            }
            // Not before: another listener would get its number, and this thread its clients.
            close(listener)
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        unsafe unlink(path)
    }

    /// The process at the other end of a connection.
    private static func peer(_ client: Int32) -> Int32 {
        // struct ucred: the number of the process stands first.
        var credentials: [Int32] = [0, 0, 0]
        var size = socklen_t(12)
        let code = unsafe getsockopt(client, SOL_SOCKET, SO_PEERCRED, &credentials, &size)
        return code == 0 ? credentials[0] : 0
    }
}
