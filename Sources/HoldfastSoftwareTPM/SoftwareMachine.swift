import Glibc

/// A software TPM that behaves like a machine: it runs on its own until it is stopped.
///
/// A directory holds everything: the state, `tpm.sock` for commands, `tpm.sock.ctrl` for control
/// (so that `swtpm:path=DIR/tpm.sock` works for tpm2-tools), `swtpm.pid`, `swtpm.log` of the
/// current boot, `ek-roots/*.pem`, and `ca/` unless the authority is shared.
///
/// A new directory has mode 0700, and the sockets have 0600: whoever can connect can clear the TPM.
/// swtpm serves one client at a time; others wait. This type sends no TPM command: extending PCRs
/// after ``launch()`` and `TPM2_Shutdown` before ``terminate()`` are for the caller, who has a
/// connection. Calls from several processes are put in order by a lock file.
public struct SoftwareMachine: Sendable {
    /// The longest path in a socket address of Linux, in bytes.
    static let maximumSocketPath = 107
    /// How long swtpm may take to start or to end.
    static let patience = 10_000

    private let directory: PlainPath

    /// Names a machine; nothing is made or started.
    ///
    /// - Parameter directory: absolute path, at most 93 bytes long once links are resolved.
    /// - Throws: code `.socketPathTooLong` or `.pathNotAccepted`.
    public init(directory: String) throws(SoftwareTPMError) {
        self.directory = try PlainPath(directory)
        let longest = controlSocketPath
        guard longest.utf8.count <= Self.maximumSocketPath else {
            throw SoftwareTPMError(
                .socketPathTooLong,
                "the socket \(longest) would have \(longest.utf8.count) bytes, "
                    + "Linux allows \(Self.maximumSocketPath)",
                hint: "use a directory with a shorter path, for example below /tmp")
        }
    }

    /// The directory, links resolved.
    public var path: String { directory.text }
    /// The socket for commands, for `unix:PATH` and `swtpm:path=PATH`.
    public var socketPath: String { directory.appending("tpm.sock").text }
    /// The socket for control, where tpm2-tss expects it.
    public var controlSocketPath: String { directory.appending("tpm.sock.ctrl").text }
    /// The state directory.
    public var statePath: String { directory.appending("state").text }
    /// The certificates to trust.
    public var rootsPath: String { directory.appending("ek-roots").text }

    private var pidFile: String { directory.appending("swtpm.pid").text }
    private var logFile: String { directory.appending("swtpm.log").text }
    private var state: PlainPath { directory.appending("state") }

    /// Whether the machine has a TPM.
    public var isManufactured: Bool { SoftwareTPMState.exists(in: state) }

    /// Makes the TPM of the machine.
    ///
    /// The state appears in one step: an interrupted manufacture leaves no half of a TPM.
    ///
    /// - Parameter ca: absolute path of a shared certificate authority; `nil` for its own.
    /// - Throws: code `.alreadyManufactured` or `.directoryNotPrivate`, and what
    ///   ``SoftwareTPMManufacture/manufacture(state:roots:)`` throws.
    public func manufacture(ca: String?) throws(SoftwareTPMError) {
        let manufacture = try SoftwareTPMManufacture(ca: ca ?? directory.appending("ca").text)
        try putInPlace { (new) throws(SoftwareTPMError) in
            try manufacture.manufacture(state: new, roots: rootsPath)
        }
    }

    /// Gives the machine a TPM that was made before, with its endorsement key.
    ///
    /// - Parameters:
    ///   - state: the TPM.
    ///   - roots: certificates for ``rootsPath``, by file name.
    /// - Throws: code `.alreadyManufactured`.
    package func install(
        _ state: SoftwareTPMState, roots: [String: [UInt8]]
    ) throws(SoftwareTPMError) {
        try putInPlace { (new) throws(SoftwareTPMError) in
            try state.write(to: new)
            try Files.makeDirectory(rootsPath)
            for (name, pem) in roots { try Files.replace(rootsPath + "/" + name, pem) }
        }
    }

    private func putInPlace(
        _ make: (_ new: String) throws(SoftwareTPMError) -> Void
    ) throws(SoftwareTPMError) {
        try locked { () throws(SoftwareTPMError) in
            try SoftwareTPMState.requireNone(in: state)
            let new = directory.appending("state.new").text
            try Files.removeDirectory(new)
            try make(new)
            try Files.removeDirectory(statePath)
            try Files.rename(new, to: statePath)
        }
    }

    /// The process that serves this machine, while there is one.
    ///
    /// A process file is only a hint: the number may belong to somebody else by now, and a file
    /// that was removed by hand does not mean that nothing runs.
    public func runningProcess() throws(SoftwareTPMError) -> Int32? {
        if let text = try Files.read(pidFile, limit: 32),
            let process = Int32(String(decoding: text, as: UTF8.self).filter(\.isNumber)),
            process > 1, isOurs(process)
        {
            return process
        }
        for name in try Files.names(in: "/proc") {
            if let process = Int32(name), isOurs(process) { return process }
        }
        return nil
    }

    /// Whether the machine has power.
    public func isRunning() throws(SoftwareTPMError) -> Bool { try runningProcess() != nil }

    /// Whether a process is an swtpm on our state directory; a zombie has no arguments.
    private func isOurs(_ process: Int32) -> Bool {
        guard let line = try? Files.read("/proc/\(process)/cmdline") else { return false }
        let arguments = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        return arguments.first?.split(separator: "/").last == "swtpm"
            && arguments.contains("dir=" + statePath)
    }

    /// Switches the machine on: swtpm starts, does `TPM2_Startup(CLEAR)`, and listens.
    ///
    /// - Throws: code `.notManufactured`, `.alreadyRunning`, `.notInstalled`, `.startFailed` with
    ///   the last words of swtpm, `.directoryNotPrivate`, or `.timedOut`.
    public func launch() throws(SoftwareTPMError) {
        guard isManufactured else {
            throw SoftwareTPMError(
                .notManufactured, "\(path) has no software TPM",
                hint: "make one with `holdfast-sim tpm start \(path)`")
        }
        try locked(start)
    }

    private func start() throws(SoftwareTPMError) {
        // A second swtpm fails at the lock of the state, but first removes the sockets and the
        // process file of the one that runs. So it must not get that far.
        if let process = try runningProcess() {
            throw SoftwareTPMError(
                .alreadyRunning, "the machine \(path) already runs (process \(process))",
                hint: "`holdfast-sim tpm reboot`, `stop` or `cut` it")
        }
        try removeTraces()
        try Files.remove(logFile)
        let starter = try ChildProcess.spawn(
            [
                "swtpm", "socket", "--tpm2", "--daemon", "--pid", "file=" + pidFile,
                "--log", "file=" + logFile, "--server", "type=unixio,mode=0600,path=" + socketPath,
                "--ctrl", "type=unixio,mode=0600,path=" + controlSocketPath,
                "--tpmstate", "dir=" + statePath, "--flags", "not-need-init,startup-clear",
            ], log: logFile)
        guard let end = ChildProcess.wait(starter, milliseconds: Self.patience) else {
            Glibc.kill(starter, SIGKILL)
            _ = ChildProcess.wait(starter, milliseconds: nil)
            throw SoftwareTPMError(
                .timedOut, "swtpm did not start within \(Self.patience / 1000) s",
                hint: "read \(logFile)")
        }
        guard end == .exited(0) else { throw startFailed() }
        let listens = try poll(milliseconds: Self.patience) {
            () throws(SoftwareTPMError) -> Bool? in
            if accepts() { return true }
            guard try runningProcess() != nil else { throw startFailed() }
            return nil
        }
        guard listens != nil else {
            throw SoftwareTPMError(
                .timedOut,
                "swtpm did not listen on \(socketPath) within "
                    + "\(Self.patience / 1000) s", hint: "read \(logFile)")
        }
    }

    /// Takes the power away: SIGKILL, and waits until the process is gone.
    ///
    /// - Throws: code `.notRunning`, or `.timedOut`.
    public func kill() throws(SoftwareTPMError) {
        try end(with: SIGKILL, hint: "the process hangs in the kernel; look at its state with ps")
    }

    /// Switches the machine off: SIGTERM, and waits until the process is gone.
    ///
    /// swtpm sends no `TPM2_Shutdown`; without one before, this is a power cut to the TPM.
    ///
    /// - Throws: code `.notRunning`, or `.timedOut`; the process then still runs.
    public func terminate() throws(SoftwareTPMError) {
        try end(with: SIGTERM, hint: "take the power away with `holdfast-sim tpm cut \(path)`")
    }

    private func end(with signal: Int32, hint: String) throws(SoftwareTPMError) {
        let notRunning = SoftwareTPMError(
            .notRunning, "the machine \(path) does not run",
            hint: "start it with `holdfast-sim tpm start \(path)`")
        guard Files.isDirectory(path) else { throw notRunning }
        try locked { () throws(SoftwareTPMError) in
            guard let process = try runningProcess() else { throw notRunning }
            try end(process, with: signal, hint: hint)
        }
    }

    private func end(
        _ process: Int32, with signal: Int32, hint: String
    ) throws(SoftwareTPMError) {
        Glibc.kill(process, signal)
        let gone = poll(milliseconds: Self.patience) { isOurs(process) ? nil : true }
        guard gone != nil else {
            throw SoftwareTPMError(
                .timedOut,
                "swtpm (process \(process)) still runs after "
                    + "\(Self.patience / 1000) s", hint: hint)
        }
        try removeTraces()
    }

    /// Removes what a killed swtpm leaves behind; only for when none runs.
    private func removeTraces() throws(SoftwareTPMError) {
        for file in [pidFile, socketPath, controlSocketPath] { try Files.remove(file) }
    }

    private func locked(
        _ body: () throws(SoftwareTPMError) -> Void
    ) throws(SoftwareTPMError) {
        try Files.makeDirectory(path)
        // Whoever can put a socket of his own here can play the TPM. A directory that was there
        // before is refused, not changed: it may be one that others need.
        guard Files.isPrivate(path) else {
            throw SoftwareTPMError(
                .directoryNotPrivate, "others can write in \(path)",
                hint: "use a new directory, or one that only you can write in (chmod go-w)")
        }
        // As long as a manufacture of another process may take.
        try Files.withLock(
            directory.appending("lock").text, milliseconds: SoftwareTPMManufacture.patience, body)
    }

    private func startFailed() -> SoftwareTPMError {
        SoftwareTPMError(
            .startFailed, "swtpm ended: \(LogFile.lastWords(logFile))",
            hint: "if the state is damaged, remove \(path) and start again with a new TPM")
    }

    /// Whether somebody listens on the socket.
    ///
    /// The connection is closed at once, which swtpm takes for a client without wishes.
    private func accepts() -> Bool {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { return false }
        let descriptor = Descriptor(owning: number)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { buffer in
            unsafe buffer.copyBytes(from: socketPath.utf8)
        }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor.number, $0, size) == 0
            }
        }
    }
}
