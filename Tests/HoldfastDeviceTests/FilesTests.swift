import Foundation
import Glibc
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import Testing

@Suite("files that are none", .timeLimit(.minutes(20)))
final class FilesTests {
    private let directory = "/tmp/hf-files-" + String(UInt64.random(in: 0 ... .max), radix: 16)

    init() throws { try Files.makePrivateDirectory(directory) }
    deinit { try? FileManager.default.removeItem(atPath: directory) }

    private func path(_ name: String) -> String { directory + "/" + name }

    @Test("a pipe, a link and a directory are not replaced by what is written")
    func special() throws {
        try #require(unsafe mkfifo(path("pipe"), 0o600) == 0)
        try #require(unsafe symlink("elsewhere", path("link")) == 0)
        try #require(unsafe mkdir(path("directory"), 0o700) == 0)
        for name in ["pipe", "link", "directory"] {
            #expect(throws: FileError.self) {
                try Files.write([1], to: path(name), mode: 0o600)
            }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory).count == 3)
        try Files.write([1], to: path("file"), mode: 0o600)
        try Files.write([2], to: path("file"), mode: 0o600)
        #expect(try Files.read(path("file"), maximum: 1) == [2])
    }

    @Test("a pipe is read when somebody writes, and not waited for without an end")
    func pipes() throws {
        try #require(unsafe mkfifo(path("pipe"), 0o600) == 0)
        let start = ContinuousClock.now
        #expect(throws: FileError.self) { try Files.read(path("pipe"), maximum: 10) }
        #expect(ContinuousClock.now - start < .seconds(20))
        let pipe = path("pipe")
        Thread.detachNewThread {
            let descriptor = unsafe open(pipe, O_WRONLY)
            usleep(50_000)
            _ = unsafe write(descriptor, [7, 8] as [UInt8], 2)
            close(descriptor)
        }
        #expect(try Files.read(pipe, maximum: 10) == [7, 8])
    }

    @Test("what cannot be read is not taken for what is not there")
    func unreadable() throws {
        #expect(try Files.readIfPresent(path("nothing"), maximum: 1) == nil)
        try #require(unsafe symlink("loop", path("loop")) == 0)
        #expect(throws: FileError.self) { try Files.readIfPresent(path("loop"), maximum: 1) }
        try #require(unsafe symlink("nowhere", path("request")) == 0)
        #expect(throws: FileError.self) { try StateDirectory(directory).request() }
    }

    @Test("a directory of another user, or one that others may write to, is not private")
    func foreignDirectories() throws {
        try #require(unsafe chmod(directory, 0o775) == 0)
        #expect(throws: FileError.self) { try Files.makePrivateDirectory(directory) }
        try #require(unsafe chmod(directory, 0o755) == 0)
        try Files.makePrivateDirectory(directory)
        // Only root can give a directory away.
        guard geteuid() == 0 else { return }
        try #require(unsafe chown(directory, 65534, 65534) == 0)
        #expect(throws: FileError.self) { try Files.makePrivateDirectory(directory) }
    }

    @Test("whoever waits for a lock gets it when it is given back, and not before")
    func patience() async throws {
        let file = path("lock")
        let lock = try FileLock(file)
        #expect(throws: FileError.self) { try FileLock(file, patience: 60) }
        let waiting = Task.detached { _ = try FileLock(file, patience: 600_000) }
        try await Task.sleep(for: .milliseconds(100))
        _ = consume lock
        try await waiting.value
    }

    @Test("a lock is given back though a process that is being started still has its descriptor")
    func lock() throws {
        var lock: FileLock? = try FileLock(path("lock"))
        let names = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
        let number = names.compactMap { Int32($0) }.first { number in
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)"))
                == path("lock")
        }
        let copy = dup(try #require(number))
        defer { close(copy) }
        #expect(throws: FileError.self) { try FileLock(path("lock")) }
        #expect(lock != nil)
        lock = nil
        #expect(throws: Never.self) { try FileLock(path("lock")) }
    }

    @Test("what a killed program was writing is removed, and is not in the way")
    func leftOver() throws {
        for name in ["trust.1.new", "counter-auth.\(getpid()).new"] {
            try Data([1]).write(to: URL(filePath: path(name)))
        }
        let state = try StateDirectory(directory)
        _ = try state.prepare(random: .system)
        let left = try FileManager.default.contentsOfDirectory(atPath: directory)
        #expect(left.sorted() == ["counter-auth", "lock", "parent-salt"])
    }
}
