import Foundation
import Glibc
import HoldfastSoftwareTPM
import Testing

/// A terminal at which a test types, and a program that has it as its own.
final class PseudoTerminal {
    private let master: Int32
    private let slave: Int32
    private let process = Process()
    private let output = Pipe()
    private let errors = Pipe()
    /// What was shown so far.
    private(set) var shown = ""

    /// Starts a program of ours.
    ///
    /// - Parameter input: the file that is its standard input.
    init(
        _ bench: Bench, _ arguments: [String], input: String = "/dev/null", tpm: String? = nil,
        more: [String: String] = [:]
    ) throws {
        // posix_openpt and its like are hidden from Swift: this is what they do on Linux.
        master = unsafe open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var locked: Int32 = 0
        var number: UInt32 = 0
        try #require(master >= 0)
        try #require(unsafe ioctl(master, 0x4004_5431 /* TIOCSPTLCK */, &locked) == 0)
        try #require(unsafe ioctl(master, 0x8004_5430 /* TIOCGPTN */, &number) == 0)
        slave = unsafe open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        try #require(slave >= 0)
        process.executableURL = URL(filePath: "/usr/bin/setsid")
        // The shell outlives the program: the kernel puts a terminal back whose session ended.
        let script = """
            trap : INT QUIT TERM HUP
            input=$1; shift
            "$@" <"$input"
            status=$?
            echo "ended" >/dev/tty
            read line </dev/tty
            exit $status
            """
        process.arguments =
            try ["--ctty", "--wait", "/bin/sh", "-c", script, "sh", input]
            + [Bench.program("holdfast").path] + arguments
        process.currentDirectoryURL = URL(filePath: bench.path)
        process.environment = [
            "PATH": "/usr/bin:/bin", "HOLDFAST_STATE": bench.file("state"),
            "HOLDFAST_TCTI": tpm ?? "unix:" + bench.machine.machine.socketPath,
        ].merging(more) { $1 }
        process.standardInput = FileHandle(fileDescriptor: slave, closeOnDealloc: false)
        process.standardOutput = output
        process.standardError = errors
        try process.run()
    }

    deinit {
        if process.isRunning { process.terminate() }
        close(slave)
        close(master)
    }

    /// Whether the terminal shows what is typed.
    var echoes: Bool {
        var state = termios()
        return unsafe tcgetattr(slave, &state) == 0 && state.c_lflag & tcflag_t(ECHO) != 0
    }

    func type(_ text: String) throws {
        let bytes = Array(text.utf8)
        let written = unsafe bytes.withUnsafeBytes { buffer in
            unsafe write(master, buffer.baseAddress, buffer.count)
        }
        try #require(written == bytes.count)
    }

    /// Waits until the program shows a text, and takes it away.
    func wait(for text: String) throws {
        while !shown.contains(text) {
            var entry = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
            try #require(unsafe poll(&entry, 1, 120_000) == 1, "it shows `\(shown)`")
            var block = [UInt8](repeating: 0, count: 512)
            let count = unsafe read(master, &block, block.count)
            try #require(count > 0, "it shows `\(shown)`")
            shown += String(decoding: block[..<count], as: UTF8.self)
        }
        if let found = shown.range(of: text) { shown.removeSubrange(..<found.upperBound) }
    }

    /// Sends a signal to the program and who waits for it.
    func signal(_ number: Int32) throws {
        let group = tcgetpgrp(master)
        try #require(group > 1 && kill(-group, number) == 0)
    }

    /// Waits until the program ended, and looks whether the terminal shows again what is typed.
    func end() throws -> Answer {
        try wait(for: "ended")
        #expect(echoes)
        try type("\n")
        return try Answer(of: process, output, errors)
    }
}
