import Glibc

/// An exclusive lock on a file, held until its owner goes away; the kernel gives it back when the
/// process dies.
public final class FileLock {
    private let descriptor: Int32

    /// Takes the lock.
    ///
    /// - Parameter path: made if it is not there, mode 0600.
    /// - Throws: ``FileError`` when another process holds it: it does not wait.
    public init(_ path: String) throws {
        let opened = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard opened >= 0 else {
            throw FileError(
                explanation:
                    "cannot open the lock `\(path)`: \(unsafe String(cString: strerror(errno)))",
                remedy: "check that this user may write to the directory")
        }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
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
