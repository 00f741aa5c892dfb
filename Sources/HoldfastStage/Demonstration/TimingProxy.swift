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
        listener = try Self.listen(path)
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

    private static func listen(_ path: String) throws(TPMError) -> Int32 {
        unsafe unlink(path)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let name = Array(path.utf8)
        guard descriptor >= 0, name.count < 108 else {
            throw TPMError(.unreachable, "cannot make a socket at `\(path)`")
        }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: name) }
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
                unsafe bind(descriptor, rebound, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, Glibc.listen(descriptor, /* backlog: */ 8) == 0 else {
            Glibc.close(descriptor)
            throw TPMError(.unreachable, "cannot listen at `\(path)`")
        }
        return descriptor
    }

    private func serve(_ client: Int32) {
        let tpm = UnixSocketTransport(path: upstream)
        defer { tpm.close() }
        while let command = Self.command(from: client) {
            let start = monotonicMicroseconds()
            guard let response = try? tpm.exchange(command) else { return }
            let spent = monotonicMicroseconds() - start
            state.withLock { total in
                total.microseconds += spent
                total.commands += 1
            }
            guard Self.write(response, to: client) else { return }
            first.withLock { $0 = $0 ?? monotonicMicroseconds() }
        }
    }

    /// A whole command; its size stands behind the tag.
    private static func command(from client: Int32) -> [UInt8]? {
        guard let head = read(10, from: client) else { return nil }
        let size = head[2..<6].reduce(0) { $0 << 8 | Int($1) }
        guard (10...4096).contains(size) else { return nil }
        guard size > 10 else { return head }
        return read(size - 10, from: client).map { head + $0 }
    }

    private static func read(_ count: Int, from client: Int32) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var have = 0
        while have < count {
            let got = unsafe bytes[have...].withUnsafeMutableBytes { buffer in
                unsafe recv(client, buffer.baseAddress, buffer.count, /* flags: */ 0)
            }
            guard got > 0 else { return nil }
            have += got
        }
        return bytes
    }

    private static func write(_ bytes: [UInt8], to client: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let sent = unsafe rest.withUnsafeBytes { buffer in
                unsafe send(client, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
            }
            guard sent > 0 else { return false }
            rest = rest.dropFirst(sent)
        }
        return true
    }
}
