import HoldfastTPM

/// A transport that adds up how long the TPM took.
final class TimingTransport: TPMTransport {
    private let inner: any TPMTransport
    /// Microseconds spent waiting for responses.
    private(set) var microseconds = 0.0
    private(set) var commands = 0

    init(_ inner: any TPMTransport) { self.inner = inner }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        let start = monotonicMicroseconds()
        defer {
            microseconds += monotonicMicroseconds() - start
            commands += 1
        }
        return try inner.exchange(command)
    }

    func endTransaction() { inner.endTransaction() }
    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}
