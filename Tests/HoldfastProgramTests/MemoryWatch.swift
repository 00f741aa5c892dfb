import Foundation
import Glibc
import HoldfastFiles
import Synchronization
import Testing

/// Where some secrets lay in the memory of a process, whenever somebody looked.
final class MemoryWatch: Sendable {
    private struct Seen {
        var looks = 0
        var guarded: Set<String> = []
        var ordinary: [String: Set<String>] = [:]
        var failures: [String] = []
    }

    private let secrets: [String: [[UInt8]]]
    private let seen = Mutex(Seen())

    /// - Parameter secrets: by name; 16 bytes at least, so that nothing is mistaken for one.
    init(_ secrets: [String: [UInt8]]) {
        self.secrets = secrets.mapValues { bytes in
            precondition(bytes.count >= 16, "short secrets are found anywhere")
            // As it is, as a number of a library is, and what HMAC makes of a key.
            return [
                bytes, bytes.reversed(), bytes.map { $0 ^ 0x36 }, bytes.map { $0 ^ 0x5C },
            ]
        }
    }

    /// How often somebody looked.
    var looks: Int { seen.withLock { $0.looks } }
    /// What was found in locked memory that goes into no core dump: libsodium's, fenced and wiped.
    var guarded: Set<String> { seen.withLock { $0.guarded } }
    /// What was found anywhere else, and when.
    var ordinary: [String: Set<String>] { seen.withLock { $0.ordinary } }
    /// Looks that came to nothing.
    var failures: [String] { seen.withLock { $0.failures } }

    /// Reads all memory of a process that it can write to.
    func look(at process: Int32, _ moment: String) {
        do {
            let found = try scan(process)
            seen.withLock { seen in
                seen.looks += 1
                seen.guarded.formUnion(found.guarded)
                for name in found.ordinary { seen.ordinary[name, default: []].insert(moment) }
            }
        } catch { seen.withLock { $0.failures.append("\(moment): \(error)") } }
    }

    private func scan(
        _ process: Int32
    ) throws -> (guarded: Set<String>, ordinary: Set<String>) {
        let memory = unsafe open("/proc/\(process)/mem", O_RDONLY | O_CLOEXEC)
        try #require(memory >= 0)
        defer { close(memory) }
        let text = String(
            decoding: try Files.read("/proc/\(process)/smaps", maximum: 1 << 24), as: UTF8.self)
        var found: (guarded: Set<String>, ordinary: Set<String>) = ([], [])
        var range: Range<UInt64>?
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            let ends = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            if ends.count == 2, words.count > 1 {
                // What is read from a file and cannot be written to is the file's.
                let isPrivate = words[1].contains("w") || words.count < 6
                range = words[1].hasPrefix("r") && isPrivate ? ends[0]..<ends[1] : nil
            } else if words[0] == "VmFlags:", let place = range {
                let names = try names(in: place, of: memory)
                if words.contains("dd"), words.contains("lo") {
                    found.guarded.formUnion(names)
                } else {
                    found.ordinary.formUnion(names)
                }
            }
        }
        return found
    }

    private func names(in place: Range<UInt64>, of memory: Int32) throws -> [String] {
        // A reservation: what is used of it is touched, and much less.
        guard place.count < 1 << 30 else { return [] }
        var bytes = [UInt8](repeating: 0, count: place.count)
        let got = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe pread(memory, buffer.baseAddress, buffer.count, off_t(place.lowerBound))
        }
        guard got > 0 else { return [] }
        return unsafe bytes.withUnsafeBytes { (buffer: UnsafeRawBufferPointer) -> [String] in
            let found = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<got])
            return secrets.filter { _, forms in
                forms.contains { unsafe Self.holds(found, $0) }
            }.map(\.key)
        }
    }

    private static func holds(_ buffer: UnsafeRawBufferPointer, _ bytes: [UInt8]) -> Bool {
        guard let base = buffer.baseAddress else { return false }
        var start = 0
        while start + bytes.count <= buffer.count {
            let rest = buffer.count - start - bytes.count + 1
            guard let next = unsafe memchr(base + start, Int32(bytes[0]), rest) else {
                return false
            }
            if unsafe memcmp(next, bytes, bytes.count) == 0 { return true }
            start = unsafe UnsafeRawPointer(next) - base + 1
        }
        return false
    }
}
