import Glibc

/// A software TPM that listens on a socket in the file system, `unix:PATH`.
///
/// A software TPM serves one client at a time: the connection is opened by the first command of a
/// transaction and closed at its end, so that other programs get their turn.
public final class UnixSocketTransport: TPMTransport {
    private let path: String
    private var connection: DescriptorTransport?

    /// A software TPM has no resource manager.
    public let hasResourceManager = false

    /// How long to wait for another program to be done.
    static let busySeconds = 5
    /// How long a single command may take.
    static let commandSeconds = 120

    /// - Parameter path: at most 107 bytes, the limit of the kernel.
    public init(path: String) { self.path = path }

    public func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        if let connection { return try connection.exchange(command) }
        let opened = try connect()
        connection = opened
        return try opened.exchange(command)
    }

    public func endTransaction() { close() }

    public func close() {
        connection?.close()
        connection = nil
    }

    private func connect() throws(TPMError) -> DescriptorTransport {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw TPMError(.unreachable, "cannot make a socket: \(Self.reason())")
        }
        let transport = DescriptorTransport(owning: descriptor, timeoutSeconds: Self.busySeconds)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let name = Array(path.utf8)
        guard !name.isEmpty, name.count < 108, !name.contains(0) else {
            throw TPMError(
                .unreachable, "the socket path has \(name.count) bytes, 1 to 107 are possible")
        }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: name) }
        var result: Int32
        repeat {
            result = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
                    unsafe Glibc.connect(
                        descriptor, rebound, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        } while result != 0 && errno == EINTR
        guard result == 0 else {
            // So many wait that the kernel takes no more, and none got its turn.
            if errno == EAGAIN { throw Self.busy }
            throw TPMError(.unreachable, "cannot connect to `\(path)`: \(Self.reason())")
        }
        // The kernel accepts the connection even while the TPM serves somebody else. Ask something
        // that is answered at once, so that waiting for a slow command is not taken for that.
        do {
            _ = try transport.exchange(Self.probe)
        } catch  where error.code == .timedOut {
            throw Self.busy
        }
        transport.setTimeout(seconds: Self.commandSeconds)
        return transport
    }

    /// `TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_FAMILY_INDICATOR, 1)`.
    private static let probe: [UInt8] = [
        0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A, 0, 0, 0, 6, 0, 0, 0x01, 0x00, 0, 0, 0, 1,
    ]

    private static let busy = TPMError(.busy, "the software TPM is in use by another process")

    private static func reason() -> String { unsafe String(cString: strerror(errno)) }
}
