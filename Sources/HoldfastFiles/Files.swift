import Glibc
public import HoldfastErrors

/// A file that cannot be read or written.
public struct FileError: OperatorError {
    public let explanation: String
    public let remedy: String?
    public let stableCode = "FILE_UNUSABLE"
    public let exitStatus = ExitStatus.failure
}

/// Files that a command reads and writes.
public enum Files {
    /// How long the next bytes of a pipe may take, in milliseconds.
    static let pipePatience: Int32 = 5000

    /// Reads a file that must not be longer than a maximum.
    ///
    /// Into a pipe somebody must write within five seconds.
    ///
    /// - Parameter maximum: in bytes.
    public static func read(_ path: String, maximum: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try readPieces(path, maximum: maximum) { bytes += $0 }
        return bytes
    }

    /// Reads a file, unless there is none.
    ///
    /// - Returns: `nil` when nothing is at the path; everything else that prevents reading is an
    ///   error, so that what cannot be read is not taken for what is not there.
    public static func readIfPresent(_ path: String, maximum: Int) throws -> [UInt8]? {
        var status = stat()
        if unsafe lstat(path, &status) != 0, errno == ENOENT { return nil }
        return try read(path, maximum: maximum)
    }

    /// Reads a file piece by piece, so that memory does not grow with it.
    ///
    /// Into a pipe somebody must write within five seconds.
    ///
    /// - Parameters:
    ///   - maximum: in bytes; what comes before the excess was already given to `body`.
    ///   - body: gets the pieces in their order.
    public static func readPieces(
        _ path: String, maximum: Int, _ body: ([UInt8]) throws -> Void
    ) throws {
        // Without O_NONBLOCK a pipe that nobody writes to is not even opened.
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw FileError(explanation: "cannot read `\(path)`: \(reason())", remedy: nil)
        }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else {
            throw FileError(explanation: "cannot read `\(path)`: \(reason())", remedy: nil)
        }
        let isPipe = status.st_mode & S_IFMT == S_IFIFO
        var total = 0
        var block = [UInt8](repeating: 0, count: 65536)
        while true {
            if isPipe {
                var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                let ready = unsafe poll(&entry, 1, pipePatience)
                if ready < 0, errno == EINTR { continue }
                guard ready > 0 else {
                    throw FileError(
                        explanation: "nobody writes into the pipe `\(path)`",
                        remedy: "check that it is the right file")
                }
            }
            let count = unsafe block.withUnsafeMutableBytes { buffer in
                unsafe Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                throw FileError(explanation: "cannot read `\(path)`: \(reason())", remedy: nil)
            }
            if count == 0 { return }
            total += count
            guard total <= maximum else {
                throw FileError(
                    explanation: "`\(path)` is longer than the \(maximum) bytes that are accepted",
                    remedy: "check that it is the right file")
            }
            try body([UInt8](block[..<count]))
        }
    }

    /// Lends an open file to who reads a secret from it, past any buffer of ours.
    public static func withDescriptor<R: ~Copyable>(
        _ path: String, _ body: (Int32) throws -> R
    ) throws -> R {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw FileError(explanation: "cannot read `\(path)`: \(reason())", remedy: nil)
        }
        defer { close(descriptor) }
        return try body(descriptor)
    }

    /// Writes a file so that it is there whole or not at all, also after a power cut.
    ///
    /// What is no ordinary file stays: a device like `/dev/null`, a pipe and a symbolic link are not
    /// replaced by one.
    ///
    /// - Parameter mode: of the new file, for example `0o644`.
    public static func write(_ bytes: [UInt8], to path: String, mode: UInt32) throws {
        try write(bytes.span, to: path, mode: mode)
    }

    /// The same for bytes that are nowhere else, such as a key in guarded memory.
    public static func write(_ bytes: Span<UInt8>, to path: String, mode: UInt32) throws {
        var present = stat()
        if unsafe lstat(path, &present) == 0, present.st_mode & S_IFMT != S_IFREG {
            throw FileError(
                explanation: "`\(path)` is not an ordinary file, and is not replaced by one",
                remedy: "give the path of an ordinary file, or of one that is not there")
        }
        // Not the process id: it comes again, and what a killed process left would be in the way.
        let unique = String(UInt64.random(in: 0 ... .max), radix: 36)
        let temporary = "\(path).\(unique)\(temporarySuffix)"
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else {
            throw FileError(explanation: "cannot write `\(path)`: \(reason())", remedy: nil)
        }
        do {
            defer { close(descriptor) }
            var written = 0
            while written < bytes.count {
                let count = unsafe bytes.extracting(written...).withUnsafeBytes { buffer in
                    unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
                }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw failure(path, temporary) }
                written += count
            }
            guard fsync(descriptor) == 0 else { throw failure(path, temporary) }
        }
        guard unsafe rename(temporary, path) == 0 else { throw failure(path, temporary) }
        syncDirectory(of: path)
    }

    /// Gives a file another name in the same file system; one that has it is replaced.
    public static func move(_ path: String, to other: String) throws {
        guard unsafe rename(path, other) == 0 else {
            throw FileError(
                explanation: "cannot move `\(path)` to `\(other)`: \(reason())", remedy: nil)
        }
        syncDirectory(of: other)
        syncDirectory(of: path)
    }

    /// Writes what a file holds through to the disk.
    public static func sync(_ path: String) throws {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw FileError(explanation: "cannot open `\(path)`: \(reason())", remedy: nil)
        }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else {
            throw FileError(
                explanation: "cannot write `\(path)`: \(reason())",
                remedy: "check the space on the disk")
        }
    }

    /// Writes the names in the directory of a file through to the disk.
    private static func syncDirectory(of path: String) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let directory = unsafe open(
            folder.isEmpty ? "/" : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return }
        fsync(directory)
        close(directory)
    }

    /// How the name ends of a file that is being written.
    package static let temporarySuffix = ".new"

    /// Removes what interrupted ``write(_:to:mode:)`` left in a directory that nobody else writes to.
    public static func removeTemporaries(in path: String) throws {
        for name in try names(in: path) where name.hasSuffix(temporarySuffix) {
            try remove(path + "/" + name)
        }
    }

    /// The path from the root, without looking at the file system.
    public static func absolutePath(_ path: String) throws -> String {
        if path.hasPrefix("/") { return path }
        guard let directory = unsafe getcwd(nil, /* size: as needed */ 0) else {
            throw FileError(
                explanation: "the current directory is gone: \(reason())", remedy: nil)
        }
        defer { unsafe free(directory) }
        return unsafe String(cString: directory) + "/" + path
    }

    /// Tells whether something is at a path, be it a link that leads nowhere: what cannot be read is
    /// there all the same.
    public static func exists(_ path: String) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR)
    }

    /// Makes a directory for its owner alone, unless it is there.
    ///
    /// - Throws: when it cannot be made, or is there and belongs to another user than root, or others may
    ///   write to it.
    public static func makePrivateDirectory(_ path: String, mode: UInt32 = 0o750) throws {
        if unsafe mkdir(path, mode) != 0, errno != EEXIST {
            throw FileError(
                explanation: "cannot make the directory `\(path)`: \(reason())",
                remedy: "check that its parent exists and that this user may write to it")
        }
        var status = stat()
        guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw FileError(explanation: "`\(path)` is not a directory", remedy: nil)
        }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw FileError(
                explanation: "the directory `\(path)` belongs to another user",
                remedy: "use a directory of the user who runs this")
        }
        guard status.st_mode & 0o022 == 0 else {
            throw FileError(
                explanation: "others may write to the directory `\(path)`",
                remedy: "run `chmod go-w \(path)`, and check what is in it")
        }
    }

    /// Makes a directory in which its group may write as well, unless it is there.
    ///
    /// What is made in it belongs to the group of the directory above it.
    public static func makeSharedDirectory(_ path: String) throws {
        guard unsafe mkdir(path, 0o770) == 0 else {
            guard errno == EEXIST else {
                throw FileError(
                    explanation: "cannot make the directory `\(path)`: \(reason())",
                    remedy: "check that its parent exists and that this user may write to it")
            }
            return
        }
        // The mask of the process does not decide here; the group is that of the parent.
        var parent = stat()
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        if unsafe stat(folder, &parent) == 0 {
            unsafe chown(path, uid_t.max, parent.st_gid)
        }
        unsafe chmod(path, 0o2770)
    }

    /// Removes a file; one that is not there is removed already.
    public static func remove(_ path: String) throws {
        guard unsafe unlink(path) == 0 || errno == ENOENT else {
            throw FileError(explanation: "cannot remove `\(path)`: \(reason())", remedy: nil)
        }
    }

    /// Reads every `*.pem`, `*.crt`, `*.cer` and `*.der` of a directory, in the order of their names.
    public static func certificates(in path: String) throws -> [[UInt8]] {
        try names(in: path).filter { name in
            [".pem", ".crt", ".cer", ".der"].contains { name.hasSuffix($0) }
        }.map { try read(path + "/" + $0, maximum: 1 << 20) }
    }

    /// The names in a directory, in order; not those that begin with a dot.
    public static func names(in path: String) throws -> [String] {
        guard let directory = unsafe opendir(path) else {
            throw FileError(
                explanation: "cannot read the directory `\(path)`: \(reason())", remedy: nil)
        }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) {
                    unsafe String(cString: $0)
                }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }

    /// The ordinary files below a directory, as paths from it, in order.
    ///
    /// Links are not followed; what begins with a dot is left out.
    ///
    /// - Throws: also when there are more than 10,000, or directories stand 16 deep.
    public static func ordinaryFiles(below path: String) throws -> [String] {
        var found: [String] = []
        func look(_ folder: String, _ depth: Int) throws {
            guard depth < 16, found.count <= 10_000 else {
                throw FileError(
                    explanation: "`\(path)` holds more than 10,000 files, or is 16 levels deep",
                    remedy: "check that it is the right directory")
            }
            for name in try names(in: folder.isEmpty ? path : path + "/" + folder) {
                let below = folder.isEmpty ? name : folder + "/" + name
                var status = stat()
                guard unsafe lstat(path + "/" + below, &status) == 0 else { continue }
                switch status.st_mode & S_IFMT {
                case S_IFREG: found.append(below)
                case S_IFDIR: try look(below, depth + 1)
                default: continue
                }
            }
        }
        try look("", 0)
        return found
    }

    private static func failure(_ path: String, _ temporary: String) -> FileError {
        let text = reason()
        unsafe unlink(temporary)
        return FileError(
            explanation: "cannot write `\(path)`: \(text)", remedy: "check the space on the disk")
    }

    private static func reason() -> String { unsafe String(cString: strerror(errno)) }
}
