import Glibc

/// A connected stream socket with a software TPM at the other end.
public final class DescriptorTransport: TPMTransport {
    private var descriptor: Int32
    private var timeout: Duration
    private var buffer = [UInt8](repeating: 0, count: maximumResponseSize)

    /// A software TPM has no resource manager.
    public let hasResourceManager = false

    /// Takes ownership of a connected socket.
    ///
    /// - Parameter timeoutSeconds: how long to wait for a response; 1 to 600. The rest of one that
    ///   has begun must come within five seconds.
    public init(owning descriptor: Int32, timeoutSeconds: Int) {
        self.descriptor = descriptor
        timeout = .seconds(timeoutSeconds)
        setTimeout(seconds: timeoutSeconds)
    }

    deinit { close() }

    /// How long the rest of a response may take that has begun: it is sent as one.
    static let restTimeout = Duration.seconds(5)

    func setTimeout(seconds: Int) {
        timeout = .seconds(seconds)
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
    }

    public func close() {
        if descriptor >= 0 {
            // A process that was forked meanwhile has the descriptor as well: closing ours would not end the
            // connection, and the TPM would serve nobody else.
            shutdown(descriptor, Int32(SHUT_RDWR))
            _ = Glibc.close(descriptor)
        }
        descriptor = -1
    }

    public func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        guard descriptor >= 0 else {
            throw TPMError(.unreachable, "the connection to the TPM was closed")
        }
        try send(command)
        let received = try receive()
        return [UInt8](buffer[..<received])
    }

    private func send(_ command: [UInt8]) throws(TPMError) {
        let deadline = ContinuousClock.now + timeout
        var sent = 0
        while sent < command.count {
            let written = unsafe command.withUnsafeBytes { bytes in
                unsafe Glibc.send(
                    descriptor, bytes.baseAddress?.advanced(by: sent), command.count - sent,
                    Int32(MSG_NOSIGNAL))
            }
            if written > 0 {
                sent += written
            } else if errno == EINTR {
                try wait(for: POLLOUT, until: deadline)
            } else {
                throw failure("send")
            }
        }
    }

    /// Receives a whole response into the buffer.
    ///
    /// - Returns: how many bytes it has.
    private func receive() throws(TPMError) -> Int {
        var deadline = ContinuousClock.now + timeout
        var received = 0
        var expected = 10
        var waits = false
        while received < expected {
            // One read normally brings the whole response; a TPM says nothing unasked. The limit of
            // the socket is one for each read: what comes in pieces has to meet one for the whole.
            if waits { try wait(for: POLLIN, until: deadline) }
            waits = true
            let count = unsafe buffer.withUnsafeMutableBytes { bytes in
                unsafe recv(
                    descriptor, bytes.baseAddress?.advanced(by: received),
                    maximumResponseSize - received, 0)
            }
            // A process that was stopped and goes on is interrupted as well.
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure("receive", endOfStream: count == 0) }
            if received == 0 {
                deadline = min(deadline, ContinuousClock.now + Self.restTimeout)
            }
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
        return received
    }

    /// Waits until the socket is ready.
    private func wait(
        for events: Int32, until deadline: ContinuousClock.Instant
    ) throws(TPMError) {
        while true {
            let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
            guard left > 0 else {
                errno = EAGAIN
                throw failure("wait")
            }
            var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            let ready = unsafe poll(&entry, 1, Int32(left.rounded(.up)))
            if ready > 0 { return }
            if ready < 0, errno != EINTR { throw failure("wait") }
        }
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
