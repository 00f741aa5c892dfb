import HoldfastTPM

/// A transport that remembers the commands that go through it.
final class RecordingTransport: TPMTransport {
    private let inner: any TPMTransport
    private(set) var commands: [[UInt8]] = []
    var isRecording = false

    init(_ inner: any TPMTransport) { self.inner = inner }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        if isRecording { commands.append(command) }
        return try inner.exchange(command)
    }

    /// What was sent since recording began; recording ends.
    func take() -> [[UInt8]] {
        defer { commands = [] }
        isRecording = false
        return commands
    }

    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}
