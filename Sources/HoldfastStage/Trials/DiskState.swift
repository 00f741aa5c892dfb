import Foundation
import HoldfastFiles

/// What is on a disk for certain, and what was written since and may be lost with the power.
struct DiskState {
    /// What of the writes since a file's last sync gets to the disk.
    enum Luck: CaseIterable {
        /// Everything that was written.
        case all
        /// Nothing but what was synced.
        case none
        /// Every other write, and half of the last one.
        case torn
        /// Each sector of each write or not, in another order.
        case shuffled
    }

    private var files: [String: [UInt8]] = [:]
    private var unsynced: [String: [DiskEvent]] = [:]
    /// What was promised before.
    private(set) var promised: Int?

    /// Takes what happened next.
    mutating func take(_ event: DiskEvent) {
        switch event {
        case .write(let file, _, _), .truncate(let file, _):
            unsynced[file, default: []].append(event)
        case .sync(let file):
            for done in unsynced.removeValue(forKey: file) ?? [] { Self.apply(done, &files) }
        case .delete(let file):
            unsynced[file] = nil
            files[file] = nil
        case .promised(let number): promised = number
        }
    }

    /// The files when the power is cut now.
    func cut(_ luck: Luck, _ random: inout SeededNumbers) -> [String: [UInt8]] {
        var files = files
        for (_, events) in unsynced.sorted(by: { $0.key < $1.key }) {
            switch luck {
            case .all: for event in events { Self.apply(event, &files) }
            case .none: break
            case .torn:
                for (number, event) in events.enumerated() where number % 2 == 0 {
                    guard number >= events.count - 2,
                        case .write(let file, let offset, let bytes) = event
                    else {
                        Self.apply(event, &files)
                        continue
                    }
                    let half = [UInt8](bytes.prefix(bytes.count / 2))
                    Self.apply(.write(file: file, offset: offset, bytes: half), &files)
                }
            case .shuffled:
                for event in events.shuffled(using: &random) {
                    for part in Self.sectors(of: event) where Bool.random(using: &random) {
                        Self.apply(part, &files)
                    }
                }
            }
        }
        return files
    }

    private static func sectors(of event: DiskEvent) -> [DiskEvent] {
        guard case .write(let file, let offset, let bytes) = event else { return [event] }
        var parts: [DiskEvent] = []
        var start = 0
        while start < bytes.count {
            let end = min(bytes.count, (offset + start) / 512 * 512 + 512 - offset)
            parts.append(
                .write(file: file, offset: offset + start, bytes: [UInt8](bytes[start..<end])))
            start = end
        }
        return parts
    }

    private static func apply(_ event: DiskEvent, _ files: inout [String: [UInt8]]) {
        switch event {
        case .write(let file, let offset, let bytes):
            let end = offset + bytes.count
            if files[file, default: []].count < end {
                files[file, default: []] += [UInt8](
                    repeating: 0, count: end - files[file, default: []].count)
            }
            files[file, default: []].replaceSubrange(offset..<end, with: bytes)
        case .truncate(let file, let size):
            files[file] = [UInt8]((files[file] ?? []).prefix(size))
        case .sync, .delete, .promised: break
        }
    }

    /// Writes files of one directory into another, which is made.
    static func write(_ files: [String: [UInt8]], from old: String, to new: String) throws {
        try Files.makePrivateDirectory(new)
        for (name, bytes) in files {
            try Files.write(bytes, to: new + name.dropFirst(old.count), mode: 0o660)
        }
    }
}
