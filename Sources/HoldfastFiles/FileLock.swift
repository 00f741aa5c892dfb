import Glibc

/// A lock on a file, held until its owner goes away; the kernel gives it back when the
/// process dies.
public final class FileLock {
    private let descriptor: Int32
    /// Milliseconds between two tries.
    private static let step = 20

    /// Takes the lock.
    ///
    /// - Parameters:
    ///   - path: made if it is not there, unless the lock is shared.
    ///   - shared: beside other shared ones; needs no right but to read the file.
    ///   - patience: how long it waits for another process, in milliseconds.
    /// - Throws: ``FileError`` when another process holds it for longer.
    public init(
        _ path: String, shared: Bool = false, patience: Int = 0
    ) throws {
        // Whoever may read the file may lock others out.
        let flags = shared ? O_RDONLY : O_RDWR | O_CREAT
        let opened = unsafe open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0o640)
        guard opened >= 0 else {
            throw FileError(
                explanation:
                    "cannot open the lock `\(path)`: \(unsafe String(cString: strerror(errno)))",
                remedy: shared
                    ? "check that this user may read the directory: it belongs to its group"
                    : "check that this user may write to the directory")
        }
        var left = patience
        while flock(opened, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 {
            if left > 0 {
                usleep(useconds_t(Self.step) * 1000)
                left -= Self.step
                continue
            }
            close(opened)
            throw FileError(
                explanation: "another program works in the directory of `\(path)`",
                remedy: "wait until it is done, or stop it")
        }
        descriptor = opened
    }

    deinit {
        // A process that is being started may have the descriptor until it runs its program: closing
        // ours would not give the lock back.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}
