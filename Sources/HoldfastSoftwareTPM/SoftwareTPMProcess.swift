import Glibc
import Synchronization

/// A software TPM of this process, connected by a socket pair: no port, no path, no waiting.
///
/// swtpm ends when the other end of its socket is closed, and when this owner goes away. Either
/// is a power cut: no `TPM2_Shutdown` is sent. It has done `TPM2_Startup(CLEAR)` before the first
/// command. Send commands over the descriptor, one at a time.
///
/// - Note: four milliseconds to the first answer; 200 at once take 1.3 s and 1.2 MB each.
public final class SoftwareTPMProcess: Sendable {
    /// What ``spawnOnSocketPair(state:)`` gives back.
    public struct Connection: Sendable {
        /// Our end of the socket pair; whoever takes it closes it.
        public let fileDescriptor: Int32
        /// The owner of the process; swtpm ends with it.
        public let process: SoftwareTPMProcess
    }

    /// The number of the process while it runs.
    public let processID: Int32
    /// Where swtpm says why it ended.
    private let log: String
    /// Set once the child is collected.
    ///
    /// After that its number may belong to somebody else: the lock is held from the check to the
    /// signal, so that no stranger is ever signalled.
    private let end = Mutex<ProcessEnd?>(nil)

    private init(processID: Int32, log: String) {
        self.processID = processID
        self.log = log
    }

    deinit { cut() }

    /// Starts a software TPM on a state directory.
    ///
    /// Does not wait for its first answer: a TPM that cannot start is seen as the end of the
    /// stream at the first command. ``startFailure()`` then says why.
    ///
    /// - Parameter state: absolute path of a manufactured state directory that no other swtpm
    ///   uses. Gets the log file `swtpm.log`.
    /// - Returns: our end of the connection, and the owner of the process.
    /// - Throws: code `.notManufactured`, `.notInstalled`, `.pathNotAccepted`, or `.startFailed`
    ///   when a limit of the system is reached.
    public static func spawnOnSocketPair(
        state: String
    ) throws(SoftwareTPMError) -> Connection {
        let state = try PlainPath(state)
        guard SoftwareTPMState.exists(in: state) else {
            throw SoftwareTPMError(
                .notManufactured, "\(state.text) has no software TPM",
                hint: "make one with `holdfast-sim tpm start`")
        }
        // Without SOCK_CLOEXEC a sibling would inherit our end, and swtpm never see the hang-up.
        var pair: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard unsafe socketpair(AF_UNIX, kind, 0, &pair) == 0 else {
            throw SoftwareTPMError(
                .startFailed, "cannot make a socket pair: \(systemMessage(errno))",
                hint: "raise the limit on open files: ulimit -n")
        }
        let ours = Descriptor(owning: pair[0])
        let theirs = Descriptor(owning: pair[1])
        let log = state.appending("swtpm.log").text
        let child = try ChildProcess.spawn(
            [
                "swtpm", "socket", "--tpm2", "--fd", String(ChildProcess.givenDescriptor), "-t",
                "--tpmstate", "dir=" + state.text, "--flags", "not-need-init,startup-clear",
            ], log: log, descriptor: theirs.number)
        _ = consume theirs
        return Connection(
            fileDescriptor: ours.take(), process: SoftwareTPMProcess(processID: child, log: log))
    }

    /// Takes the power away: SIGKILL, and waits until the process is gone.
    ///
    /// The clock of the TPM goes back to the last change of NV, and its resetCount goes up at the
    /// next start. Does nothing when the process has ended already.
    public func cut() {
        end.withLock { end in
            guard end == nil else { return }
            Glibc.kill(processID, SIGKILL)
            end = ChildProcess.wait(processID, milliseconds: nil)
        }
    }

    /// Waits until the process has ended by itself, as it does once our descriptor is closed.
    ///
    /// - Parameter milliseconds: how long to wait at most.
    /// - Returns: how it ended.
    /// - Throws: code `.timedOut` when it still runs.
    @discardableResult
    public func wait(milliseconds: Int) throws(SoftwareTPMError) -> ProcessEnd {
        let ended = poll(milliseconds: milliseconds) { collect() }
        guard let ended else {
            throw SoftwareTPMError(
                .timedOut, "swtpm (process \(processID)) still runs after \(milliseconds) ms",
                hint: "close the descriptor, or cut the power")
        }
        return ended
    }

    /// Whether the process has not ended yet.
    public var isRunning: Bool {
        collect() == nil
    }

    private func collect() -> ProcessEnd? {
        end.withLock { end in
            end = end ?? ChildProcess.wait(processID, milliseconds: 0)
            return end
        }
    }

    /// Why the stream ended before the first answer, from the log of swtpm.
    public func startFailure() -> SoftwareTPMError {
        SoftwareTPMError(
            .startFailed, "swtpm ended: \(LogFile.lastWords(log))",
            hint: "a state directory serves one swtpm at a time; a damaged one must be made anew")
    }
}
