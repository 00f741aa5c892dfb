import FoundationEssentials
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// A software TPM of one test: a process at the other end of a socket pair, with a copy of a state
/// that is manufactured once for each run.
///
/// Nothing in the tests may rest on what one implementation happens to do: where the clock is
/// after a power cut, or at which resetCount a TPM begins, is read and not assumed.
final class TestTPM {
    private let directory: String
    private var process: SoftwareTPMProcess
    /// What stands between the connection and the TPM; it changes nothing unless told to.
    private(set) var interposer: Interposer
    private(set) var connection: TPMConnection

    /// What a boot measures into PCR 7; extended after each start, as firmware does.
    static let bootMeasurement: [UInt8] = Array("secure boot: on".utf8)

    /// How long a command may take, and swtpm to end.
    private static let patience = 60

    /// - Parameter freshSeeds: all copies have the seeds of the manufactured state, so they are one
    ///   TPM to whoever looks at keys; with this one it is another.
    /// - Throws: when no software TPM starts.
    init(freshSeeds: Bool = false) throws(TPMError) {
        let folder = "/tmp/hf-tpm-" + String(UInt64.random(in: 0 ... .max), radix: 16)
        try Self.translating { () throws(SoftwareTPMError) in
            try SoftwareTPMTemplate.shared().state.write(to: folder)
        }
        directory = folder
        (process, interposer) = try Self.start(folder)
        connection = TPMConnection(interposer, random: .system)
        if freshSeeds {
            try connection.run(ClearCommand(), [.emptyAuth])
            try connection.run(ChangeEPSCommand(), [.emptyAuth])
        }
        try measureBoot()
    }

    deinit {
        connection.close()
        process.cut()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// The power fails, and comes back.
    func cut() throws(TPMError) {
        process.cut()
        connection.close()
        try restart()
    }

    /// An orderly reboot.
    func reboot() throws(TPMError) {
        try connection.shutdown(.clear)
        connection.close()
        let process = process
        try Self.translating { () throws(SoftwareTPMError) in
            try process.wait(milliseconds: Self.patience * 1000)
        }
        try restart()
    }

    private func restart() throws(TPMError) {
        (process, interposer) = try Self.start(directory)
        connection = TPMConnection(interposer, random: .system)
        try measureBoot()
    }

    private func measureBoot() throws(TPMError) {
        try connection.extend(
            PCRIndex.all[7], banks: [.sha256, .sha384], with: Self.bootMeasurement)
    }

    private static func start(
        _ directory: String
    ) throws(TPMError) -> (SoftwareTPMProcess, Interposer) {
        let started = try translating { () throws(SoftwareTPMError) in
            try SoftwareTPMProcess.spawnOnSocketPair(state: directory)
        }
        let transport = DescriptorTransport(
            owning: started.fileDescriptor, timeoutSeconds: patience)
        return (started.process, Interposer(transport))
    }

    @discardableResult
    private static func translating<R>(
        _ body: () throws(SoftwareTPMError) -> R
    ) throws(TPMError) -> R {
        do throws(SoftwareTPMError) { return try body() } catch {
            throw TPMError(.unreachable, "\(error)")
        }
    }
}

/// A transport with somebody in the middle.
final class Interposer: TPMTransport {
    private let inner: any TPMTransport
    /// Changes a response on its way back.
    var alter: ((CommandCode, [UInt8]) -> [UInt8])?
    /// Does something to the TPM before a command gets there.
    var before: ((CommandCode, any TPMTransport) -> Void)?
    /// The last command, as it went over the bus.
    private(set) var lastCommand: [UInt8] = []

    init(_ inner: any TPMTransport) { self.inner = inner }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        let code = CommandCode(rawValue: command[6..<10].reduce(0) { $0 << 8 | UInt32($1) })
        lastCommand = command
        before?(code, inner)
        let response = try inner.exchange(command)
        return alter?(code, response) ?? response
    }

    func endTransaction() { inner.endTransaction() }
    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}
