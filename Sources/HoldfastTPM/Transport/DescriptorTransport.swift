import Glibc

/// A connected stream socket with a software TPM at the other end.
public final class DescriptorTransport: TPMTransport {
    private var descriptor: Int32
    private var buffer = [UInt8](repeating: 0, count: maximumResponseSize)

    /// A software TPM has no resource manager.
    public let hasResourceManager = false

    /// Takes ownership of a connected socket.
    ///
    /// - Parameter timeoutSeconds: how long to wait for a response; 1 to 600.
    public init(owning descriptor: Int32, timeoutSeconds: Int) {
        self.descriptor = descriptor
        setTimeout(seconds: timeoutSeconds)
    }

    deinit { close() }

    func setTimeout(seconds: Int) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
    }

    public func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    public func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        guard descriptor >= 0 else {
            throw TPMError(.unreachable, "the connection to the TPM was closed")
        }
        var sent = 0
        while sent < command.count {
            let written = unsafe command.withUnsafeBytes { bytes in
                unsafe send(
                    descriptor, bytes.baseAddress?.advanced(by: sent), command.count - sent,
                    Int32(MSG_NOSIGNAL))
            }
            guard written > 0 else { throw failure("send") }
            sent += written
        }
        var received = 0
        var expected = 10
        while received < expected {
            // One read normally brings the whole response; a TPM says nothing unasked.
            let count = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe recv(
                    descriptor, bytes.baseAddress?.advanced(by: received),
                    maximumResponseSize - received, 0)
            }
            guard count > 0 else { throw failure("receive", endOfStream: count == 0) }
            received += count
            if expected == 10, received >= 10 {
                do { expected = try responseSize(buffer) } catch {
                    close()
                    throw error
                }
            }
        }
        guard received == expected else {
            // What follows would be taken for the answer to the next command.
            close()
            throw TPMError(.malformedResponse, "the TPM's answer is longer than it says")
        }
        return [UInt8](buffer[..<received])
    }

    private func failure(_ action: String, endOfStream: Bool = false) -> TPMError {
        let number = errno
        // A half-read answer must not be taken for the answer to the next command.
        close()
        if endOfStream { return TPMError(.unreachable, "the TPM closed the connection") }
        if number == EAGAIN || number == EWOULDBLOCK {
            return TPMError(.timedOut, "the TPM did not answer in time")
        }
        return TPMError(
            .unreachable, "cannot \(action): \(unsafe String(cString: strerror(number)))")
    }
}
