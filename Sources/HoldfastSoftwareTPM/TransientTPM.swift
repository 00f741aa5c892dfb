import FoundationEssentials
import HoldfastCrypto
package import HoldfastTPM
import HoldfastTPMWire

/// A software TPM that lives as long as its owner: for tests and benchmarks.
///
/// A process at the other end of a socket pair, on a copy of a state that is manufactured once for
/// each process that uses it. All copies have the same seeds: they are one TPM to whoever looks at
/// keys.
package final class TransientTPM {
    private let directory: String
    private let boot: SoftwareBoot
    private let interposing: (any TPMTransport) -> any TPMTransport
    private var process: SoftwareTPMProcess
    /// Replaced by ``cut()`` and ``reboot()``.
    package private(set) var connection: TPMConnection

    /// How long a command may take, and swtpm to end, in seconds.
    private static let patience = 60

    /// Starts a TPM and measures a boot.
    ///
    /// - Parameters:
    ///   - boot: repeated after each start, as firmware does.
    ///   - template: whose copy it is; that of the process without one.
    ///   - interposing: puts something between the connection and the TPM, at each start.
    package init(
        _ boot: SoftwareBoot, of template: SoftwareTPMTemplate? = nil,
        interposing: @escaping (any TPMTransport) -> any TPMTransport = { $0 }
    ) throws {
        directory = "/tmp/hf-tpm-" + String(UInt64.random(in: 0 ... .max), radix: 16)
        try (template ?? .shared()).state.write(to: directory)
        self.boot = boot
        self.interposing = interposing
        (process, connection) = try Self.start(directory, interposing)
        try boot.run(on: connection)
    }

    deinit {
        connection.close()
        process.cut()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// The power fails, and comes back.
    package func cut() throws {
        process.cut()
        connection.close()
        try restart()
    }

    /// An orderly reboot.
    package func reboot() throws {
        try connection.shutdown(.clear)
        connection.close()
        _ = try process.wait(milliseconds: Self.patience * 1000)
        try restart()
    }

    private func restart() throws {
        (process, connection) = try Self.start(directory, interposing)
        try boot.run(on: connection)
    }

    private static func start(
        _ directory: String, _ interposing: (any TPMTransport) -> any TPMTransport
    ) throws -> (SoftwareTPMProcess, TPMConnection) {
        let started = try SoftwareTPMProcess.spawnOnSocketPair(state: directory)
        let transport = DescriptorTransport(
            owning: started.fileDescriptor, timeoutSeconds: patience)
        return (
            started.process, TPMConnection(interposing(transport), random: .system)
        )
    }
}
