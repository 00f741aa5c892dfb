import Glibc

/// An exclusive lock on a file, held until its owner goes away; the kernel gives it back when the
/// process dies.
public final class FileLock {
    private let descriptor: Int32
    /// Milliseconds between two tries.
    private static let step = 20

    /// Takes the lock.
    ///
    /// - Parameters:
    ///   - path: made if it is not there, mode 0600.
    ///   - patience: how long it waits for another process, in milliseconds.
    /// - Throws: ``FileError`` when another process holds it for longer.
    public init(_ path: String, patience: Int = 0) throws {
        let opened = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard opened >= 0 else {
            throw FileError(
                explanation:
                    "cannot open the lock `\(path)`: \(unsafe String(cString: strerror(errno)))",
                remedy: "check that this user may write to the directory")
        }
        var left = patience
        while flock(opened, LOCK_EX | LOCK_NB) != 0 {
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
