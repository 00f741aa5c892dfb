import Glibc

/// How a process ended.
public enum ProcessEnd: Sendable, Hashable {
    /// It returned this status.
    case exited(Int32)
    /// This signal ended it.
    case signalled(Int32)
    /// Somebody else collected its status.
    case unknown
}

/// The start of a program with nothing but the descriptors that it is given.
///
/// Foundation's `Process` needs a run loop and threads for each child; 200 software TPMs in one
/// test process do not want that.
enum ChildProcess {
    /// The number by which a program knows the descriptor it is given.
    ///
    /// swtpm refuses 0 to 2.
    static let givenDescriptor: Int32 = 100

    /// Starts a program of PATH.
    ///
    /// - Parameters:
    ///   - arguments: the name of the program, and what it gets.
    ///   - log: file that gets standard output and error, appended.
    ///   - descriptor: what the program gets as ``givenDescriptor``.
    /// - Returns: the child, for ``wait(_:milliseconds:)``.
    /// - Throws: code `.notInstalled` or `.startFailed`.
    static func spawn(
        _ arguments: [String], log: String, descriptor: Int32? = nil
    ) throws(SoftwareTPMError) -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(
            &actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
        if let descriptor {
            unsafe posix_spawn_file_actions_adddup2(&actions, descriptor, givenDescriptor)
        }
        // What somebody opened without O_CLOEXEC, a test runner's pipe for example, must not live
        // on in a daemon. glibc ignores the close of a descriptor that is gone by then.
        for name in try Files.names(in: "/proc/self/fd") {
            guard let number = Int32(name), number > 2 else { continue }
            if descriptor != nil, number == givenDescriptor { continue }
            unsafe posix_spawn_file_actions_addclose(&actions, number)
        }

        // A blocked or ignored signal would be inherited, and SIGTERM must reach swtpm.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD] {
            unsafe sigaddset(&signals, signal)
        }
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        unsafe posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        // A small environment: no LD_PRELOAD, so that `faketime` moves the clock of the command it
        // was given and not that of the TPM or of the certificates.
        let variables = ["PATH", "TMPDIR", "LD_LIBRARY_PATH"].compactMap { name in
            environment(name).map { "\(name)=\($0)" }
        }
        var process: pid_t = 0
        let result = unsafe withCStrings(arguments) { argv in
            unsafe withCStrings(variables + ["LC_ALL=C"]) { envp in
                unsafe posix_spawnp(
                    &process, arguments[0], &actions, &attributes, argv, envp)
            }
        }
        guard result == 0 else {
            if result == ENOENT { throw .notInstalled(arguments[0]) }
            throw SoftwareTPMError(
                .startFailed, "cannot start `\(arguments[0])`: \(systemMessage(result))",
                hint: "check the limits on processes and memory")
        }
        return process
    }

    /// Waits until a child has ended, and collects its status.
    ///
    /// - Parameters:
    ///   - process: a child that was not collected yet.
    ///   - milliseconds: `nil` waits as long as it takes; after a SIGKILL, no time.
    /// - Returns: `nil` when it still runs.
    static func wait(_ process: pid_t, milliseconds: Int?) -> ProcessEnd? {
        let once = { (options: Int32) -> ProcessEnd? in
            var status: Int32 = 0
            while true {
                let result = unsafe waitpid(process, &status, options)
                if result == 0 { return nil }
                if result < 0, errno == EINTR { continue }
                guard result > 0 else { return .unknown }
                let signal = status & 0x7F
                return signal == 0 ? .exited(status >> 8 & 0xFF) : .signalled(signal)
            }
        }
        guard let milliseconds else { return once(0) }
        return poll(milliseconds: milliseconds) { once(WNOHANG) }
    }

    private static func withCStrings<R>(
        _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R
    ) -> R {
        let pointers = unsafe strings.map { unsafe strdup($0) }
        defer {
            for index in unsafe pointers.indices { unsafe free(pointers[index]) }
        }
        return unsafe body(pointers + [nil])
    }
}
