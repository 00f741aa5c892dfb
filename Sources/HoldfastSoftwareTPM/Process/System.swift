import FoundationEssentials
import Glibc

/// The text of an `errno` value.
func systemMessage(_ error: Int32) -> String {
    var text = [CChar](repeating: 0, count: 256)
    guard unsafe strerror_r(error, &text, text.count) == 0 else { return "error \(error)" }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// Milliseconds since an arbitrary point; no wall clock.
private func monotonicMilliseconds() -> Int {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Asks again every few milliseconds until there is an answer or the time is over.
///
/// For what Linux offers no descriptor for: a lock, a process that is not our child.
func poll<T, E: Error>(milliseconds: Int, _ answer: () throws(E) -> T?) throws(E) -> T? {
    let deadline = monotonicMilliseconds() + milliseconds
    var pause: Int32 = 1
    while true {
        if let value = try answer() { return value }
        guard monotonicMilliseconds() < deadline else { return nil }
        Glibc.poll(nil, 0, pause)  // of no descriptors: just the pause
        pause = min(pause * 2, 20)
    }
}

/// A file descriptor that closes itself.
struct Descriptor: ~Copyable {
    let number: Int32

    init(owning number: Int32) { self.number = number }

    deinit { close(number) }

    /// Gives the descriptor away; the new owner closes it.
    consuming func take() -> Int32 {
        let taken = number
        discard self
        return taken
    }
}

/// Files and directories, owner only, with bounded reads.
enum Files {
    /// More than any file of a software TPM.
    static let maximumSize = 1 << 20

    static func open(
        _ path: String, _ flags: Int32, mode: mode_t = 0o600
    ) throws(SoftwareTPMError) -> Descriptor {
        let number = unsafe Glibc.open(path, flags | O_CLOEXEC, mode)
        guard number >= 0 else { throw .file("open", path, errno) }
        return Descriptor(owning: number)
    }

    /// Reads a file of at most `limit` bytes; `nil` when it is not there.
    static func read(
        _ path: String, limit: Int = maximumSize
    ) throws(SoftwareTPMError) -> [UInt8]? {
        let number = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else {
            if errno == ENOENT || errno == ESRCH { return nil }
            throw .file("read", path, errno)
        }
        let file = Descriptor(owning: number)
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = unsafe Glibc.read(file.number, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            // A process that ends while its /proc entry is read.
            if count < 0, errno == ESRCH { return nil }
            guard count >= 0 else { throw .file("read", path, errno) }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            guard bytes.count <= limit else { throw .file("read", path, EFBIG) }
        }
    }

    /// Writes a new file; one that is there already is an error.
    static func create(_ path: String, _ bytes: [UInt8]) throws(SoftwareTPMError) {
        let file = try open(path, O_WRONLY | O_CREAT | O_EXCL)
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(
                    file.number, buffer.baseAddress.map { unsafe $0 + written },
                    buffer.count - written)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw .file("write", path, errno) }
            written += count
        }
    }

    /// Writes a file in one step: a reader sees the old content or the new.
    static func replace(_ path: String, _ bytes: [UInt8]) throws(SoftwareTPMError) {
        let new = path + ".new"
        try remove(new)
        try create(new, bytes)
        try rename(new, to: path)
    }

    static func rename(_ path: String, to new: String) throws(SoftwareTPMError) {
        guard unsafe Glibc.rename(path, new) == 0 else { throw .file("rename", path, errno) }
    }

    /// Removes a file or an empty directory; what is not there is no error.
    static func remove(_ path: String) throws(SoftwareTPMError) {
        guard unsafe Glibc.remove(path) == 0 || errno == ENOENT else {
            throw .file("remove", path, errno)
        }
    }

    /// Removes a directory with the files in it, one level deep.
    static func removeDirectory(_ path: String) throws(SoftwareTPMError) {
        guard exists(path) else { return }
        for name in try names(in: path) { try remove(path + "/" + name) }
        try remove(path)
    }

    /// Makes a directory for the owner only, with the directories above it.
    static func makeDirectory(_ path: String) throws(SoftwareTPMError) {
        if unsafe mkdir(path, 0o700) == 0 { return }
        if errno == EEXIST, isDirectory(path) { return }
        let parent = path.split(separator: "/").dropLast().joined(separator: "/")
        guard errno == ENOENT, !parent.isEmpty else { throw .file("make", path, errno) }
        try makeDirectory("/" + parent)
        guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else {
            throw .file("make", path, errno)
        }
    }

    /// Makes a directory in the system's place for temporary ones.
    static func makeTemporaryDirectory() throws(SoftwareTPMError) -> String {
        let base = environment("TMPDIR") ?? "/tmp"
        // mkdtemp(3) replaces the six letters at the end.
        let name = base + "/holdfast-tpm." + String(repeating: "X", count: 6)
        var template = [UInt8](name.utf8).map(CChar.init(bitPattern:))
        template.append(0)
        guard unsafe mkdtemp(&template) != nil else { throw .file("make", base, errno) }
        return String(
            decoding: template.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The names in a directory, ascending.
    static func names(in path: String) throws(SoftwareTPMError) -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        } catch {
            throw .file("list", path, isDirectory(path) ? EACCES : ENOENT)
        }
    }

    static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Whether nobody but the owner, and root, can add or remove files.
    static func isPrivate(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & (S_IWGRP | S_IWOTH) == 0
    }

    /// Runs `body` while no other process or thread holds the lock.
    ///
    /// The kernel gives the lock back when a holder dies.
    static func withLock<R>(
        _ path: String, milliseconds: Int, _ body: () throws(SoftwareTPMError) -> R
    ) throws(SoftwareTPMError) -> R {
        let file = try open(path, O_RDWR | O_CREAT)
        let number = file.number
        let taken = try poll(milliseconds: milliseconds) { () throws(SoftwareTPMError) -> Bool? in
            if flock(number, LOCK_EX | LOCK_NB) == 0 { return true }
            guard errno == EWOULDBLOCK || errno == EINTR else { throw .file("lock", path, errno) }
            return nil
        }
        guard taken != nil else {
            throw SoftwareTPMError(
                .timedOut, "\(path) stayed locked for \(milliseconds / 1000) s",
                hint: "another `holdfast-sim` works on this directory; wait for it or end it")
        }
        let result: Result<R, SoftwareTPMError>
        do throws(SoftwareTPMError) {
            result = .success(try body())
        } catch {
            result = .failure(error)
        }
        _ = consume file
        return try result.get()
    }
}

/// A variable of our environment, unless it is absent or empty.
func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
}
