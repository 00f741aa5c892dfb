import Foundation
import Glibc
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import Synchronization
import Testing

/// Between a program and a software TPM: at one command it waits until it is told to go on.
private final class StoppingProxy: Sendable {
    let path: String
    private let listener: Int32
    private let arrived = DispatchSemaphore(value: 0)
    private let goOn = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - target: the socket of the TPM.
    ///   - after: the command whose next TPM2_FlushContext is held.
    init(path: String, target: String, after code: UInt32) throws {
        self.path = path
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        try #require(listener >= 0)
        let bound = unsafe Self.with(path) { unsafe bind(listener, $0, $1) }
        try #require(bound == 0)
        try #require(listen(listener, 4) == 0)
        self.listener = listener
        let arrived = arrived
        let goOn = goOn
        // A thread of its own: those of the tests may all be waiting.
        Thread.detachNewThread {
            var isArmed = false
            var isSpent = false
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                let tpm = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
                _ = unsafe Self.with(target) { unsafe connect(tpm, $0, $1) }
                while let command = Self.message(client) {
                    let number = command[6..<10].reduce(0) { $0 << 8 | UInt32($1) }
                    if number == 0x165, isArmed, !isSpent {
                        isSpent = true
                        arrived.signal()
                        goOn.wait()
                    }
                    if number == code { isArmed = true }
                    guard Self.send(command, tpm), let answer = Self.message(tpm),
                        Self.send(answer, client)
                    else { break }
                }
                close(client)
                close(tpm)
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    /// Waits until the program is held.
    func wait() -> Bool { arrived.wait(timeout: .now() + 120) == .success }
    func release() { goOn.signal() }

    private static func with(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { buffer in
            unsafe buffer.copyBytes(from: path.utf8)
        }
        return unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    private static func message(_ descriptor: Int32) -> [UInt8]? {
        guard let head = exactly(10, descriptor) else { return nil }
        let size = head[2..<6].reduce(0) { $0 << 8 | Int($1) }
        guard size >= 10, size < 8192 else { return nil }
        guard size > 10 else { return head }
        return exactly(size - 10, descriptor).map { head + $0 }
    }

    private static func exactly(_ count: Int, _ descriptor: Int32) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var have = 0
        while have < count {
            let got = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe read(descriptor, buffer.baseAddress.map { unsafe $0 + have }, count - have)
            }
            guard got > 0 else { return nil }
            have += got
        }
        return bytes
    }

    private static func send(_ bytes: [UInt8], _ descriptor: Int32) -> Bool {
        unsafe bytes.withUnsafeBytes { buffer in
            unsafe Glibc.send(
                descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
        } == bytes.count
    }
}

/// Where bytes are in the memory of another process.
private struct MemoryScan {
    /// In memory that goes into no core dump: libsodium's, fenced and wiped.
    var guarded = 0
    var ordinary = 0

    init(_ process: Int32, for secret: [UInt8]) throws {
        let memory = unsafe open("/proc/\(process)/mem", O_RDONLY | O_CLOEXEC)
        try #require(memory >= 0)
        defer { close(memory) }
        let text = String(
            decoding: try Files.read("/proc/\(process)/smaps", maximum: 1 << 24), as: UTF8.self)
        var range: Range<UInt64>?
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            let ends = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            if ends.count == 2, words.count > 1 {
                range = words[1].hasPrefix("r") ? ends[0]..<ends[1] : nil
            } else if words[0] == "VmFlags:", let place = range {
                let found = try Self.count(secret, memory, place)
                if words.contains("dd") { guarded += found } else { ordinary += found }
            }
        }
    }

    private static func count(
        _ secret: [UInt8], _ memory: Int32, _ place: Range<UInt64>
    ) throws -> Int {
        guard place.count < 1 << 30 else { return 0 }
        var bytes = [UInt8](repeating: 0, count: place.count)
        let got = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe pread(memory, buffer.baseAddress, buffer.count, off_t(place.lowerBound))
        }
        guard got > 0 else { return 0 }
        return unsafe bytes.withUnsafeBytes { (buffer: UnsafeRawBufferPointer) -> Int in
            guard let base = buffer.baseAddress else { return 0 }
            var found = 0
            var start = 0
            while start + secret.count <= got {
                let rest = got - start - secret.count + 1
                guard let next = unsafe memchr(base + start, Int32(secret[0]), rest) else { break }
                if unsafe memcmp(next, secret, secret.count) == 0 { found += 1 }
                start = unsafe UnsafeRawPointer(next) - base + 1
            }
            return found
        }
    }
}

@Suite("where a secret lies", .timeLimit(.minutes(20)))
struct MemoryTests {
    /// Runs a program up to the held command, scans its memory, and lets it end.
    private func scan(
        _ bench: Bench, _ arguments: [String], after code: UInt32, for secret: [UInt8],
        input: [UInt8]
    ) throws -> (scan: MemoryScan, output: [UInt8]) {
        let name = "proxy-\(code)"
        let proxy = try StoppingProxy(
            path: bench.file(name), target: bench.machine.machine.socketPath, after: code)
        let process = Process()
        process.executableURL = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: ".build/debug/holdfast")
        process.arguments = arguments
        process.currentDirectoryURL = URL(filePath: bench.path)
        process.environment = [
            "HOLDFAST_TCTI": "unix:" + proxy.path, "HOLDFAST_STATE": bench.file("state"),
        ]
        let given = Pipe()
        let taken = Pipe()
        process.standardInput = given
        process.standardOutput = taken
        process.standardError = FileHandle.nullDevice
        try process.run()
        try given.fileHandleForWriting.write(contentsOf: Data(input))
        try given.fileHandleForWriting.close()
        let isHeld = proxy.wait()
        let scan = Result { try MemoryScan(process.processIdentifier, for: secret) }
        proxy.release()
        let output = try taken.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(isHeld)
        #expect(process.terminationStatus == 0)
        return (try scan.get(), [UInt8](output))
    }

    @Test("what is sealed and released is in guarded memory alone, and on no disk")
    func secret() throws {
        let bench = try Bench()
        // Nothing that a scan could mistake.
        let secret = [0xF9] + RandomSource.system.bytes(40)
        let sealed = try scan(
            bench, ["seal", "--pcrs", "7"], after: 0x153, for: secret, input: secret)
        #expect(sealed.scan.ordinary == 0)
        try bench.write(sealed.output, "blob")
        let opened = try scan(
            bench, ["unseal", "blob"], after: 0x15E, for: secret, input: [])
        #expect(opened.output == secret)
        #expect(opened.scan.ordinary == 0)
        // The scan finds what is there.
        #expect(opened.scan.guarded >= 1)
        for file in try Files.ordinaryFiles(below: bench.path) {
            #expect(try bench.bytes(file).firstRange(of: secret) == nil, "\(file)")
        }
    }
}
