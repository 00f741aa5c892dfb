import Dispatch
import Glibc
package import HoldfastTPM

/// The socket of something that stands between programs and a software TPM.
package enum ProxySocket {
    /// Listens on a socket in the file system.
    package static func listen(_ path: String) throws(TPMError) -> Int32 {
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

    /// Serves one client after the other until the listening ends.
    static func serve(_ listener: Int32, _ body: @escaping @Sendable (Int32) -> Void) {
        DispatchQueue(label: "holdfast.proxy").async {
            while true {
                let client = accept(listener, /* address: */ nil, /* length: */ nil)
                guard client >= 0 else {
                    // Not by who ends the listening: the number could be another one's by then.
                    Glibc.close(listener)
                    return
                }
                body(client)
                Glibc.close(client)
            }
        }
    }

    /// Ends the listening of what is served; a client is let go with its program.
    static func close(_ listener: Int32, at path: String) {
        shutdown(listener, Int32(SHUT_RDWR))
        unsafe unlink(path)
    }

    /// A whole command; its size stands behind the tag.
    package static func command(from client: Int32) -> [UInt8]? {
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

    /// Sends everything, unless the other side is gone.
    package static func write(_ bytes: [UInt8], to client: Int32) -> Bool {
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
