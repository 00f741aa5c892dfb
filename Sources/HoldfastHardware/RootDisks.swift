import Glibc
import HoldfastProtocol

/// One line of `/proc/self/mountinfo`.
struct Mount: Equatable {
    let major: UInt32
    let minor: UInt32
    let point: String
    let type: String
    let source: String
    /// Of the file system, for example `lowerdir=/a:/b`.
    let options: [String: String]

    /// - Returns: `nil` when the line makes no sense.
    init?(_ line: Substring) {
        let fields = line.split(separator: " ")
        guard let dash = fields.dropFirst(6).firstIndex(of: "-"), fields.count >= dash + 4 else {
            return nil
        }
        let numbers = fields[2].split(separator: ":").map { UInt32($0) }
        guard numbers.count == 2, let major = numbers[0], let minor = numbers[1] else { return nil }
        self.major = major
        self.minor = minor
        point = Self.unescaped(fields[4])
        type = String(fields[dash + 1])
        source = Self.unescaped(fields[dash + 2])
        options = Dictionary(
            fields[dash + 3].split(separator: ",").compactMap { option in
                let halves = option.split(separator: "=", maxSplits: 1)
                return halves.count == 2 ? (String(halves[0]), Self.unescaped(halves[1])) : nil
            }, uniquingKeysWith: { first, _ in first })
    }

    /// The kernel writes white space and backslashes as `\ooo`.
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether a path may lie on it.
    func contains(_ path: String) -> Bool {
        point == "/" || path == point || path.hasPrefix(point + "/")
    }
}

/// What is mounted where.
struct Mounts {
    private let all: [Mount]

    init(_ text: String) { all = text.split(separator: "\n").compactMap { Mount($0) } }

    /// What a path lies on: the deepest mount, and of several on one point the last.
    func under(_ path: String) -> Mount? {
        all.filter { $0.contains(path) }
            .reduce(nil) { best, next in
                next.point.utf8.count >= (best?.point.utf8.count ?? 0) ? next : best
            }
    }
}

extension MachineReader {
    /// How many layers of mounts and mappings are followed.
    private static let maximumDepth = 16

    borrowing func readRootDisks(into found: inout Findings) {
        let text = Self.bytes("/proc/self/mountinfo", maximum: 1 << 24) ?? []
        let mounts = Mounts(String(decoding: text, as: UTF8.self))
        follow("/", mounts, depth: 0, into: &found)
    }

    /// Follows a path to the disks that it lies on.
    private borrowing func follow(
        _ path: String, _ mounts: Mounts, depth: Int, into found: inout Findings
    ) {
        guard depth < Self.maximumDepth, let mount = mounts.under(path) else {
            return found.note(.rootDisk, "the mounts do not say what the root file system lies on")
        }
        if ["overlay", "aufs", "overlayfs"].contains(mount.type) {
            // What is written comes first: in a live system it is memory, and the layer below counts.
            let layers =
                [mount.options["upperdir"]].compactMap { $0 }
                + (mount.options["lowerdir"]?.split(separator: ":").map(String.init) ?? [])
            for layer in layers {
                guard layer.hasPrefix("/"), let below = mounts.under(layer), below != mount,
                    below.major != 0 || below.source.hasPrefix("/dev/")
                else { continue }
                return follow(layer, mounts, depth: depth + 1, into: &found)
            }
            return found.note(
                .rootDisk,
                "the root file system is an overlay whose layers are not visible here, as in a container"
            )
        }
        let wasFound =
            if mount.major != 0 {
                udev.withBlockDevice(major: mount.major, minor: mount.minor) { device in
                    descend(device, mounts, depth: depth + 1, into: &found)
                } != nil
            } else if let name = Self.deviceName(mount.source) {
                // btrfs, for example, has a number of its own.
                udev.withBlockDevice(named: name) { device in
                    descend(device, mounts, depth: depth + 1, into: &found)
                } != nil
            } else {
                false
            }
        if !wasFound {
            found.note(
                .rootDisk,
                "the root file system (\(mount.type)) lies on no block device that is visible here")
        }
    }

    /// `/dev/mapper/root` is a link to `../dm-0`.
    private static func deviceName(_ source: String) -> String? {
        guard source.hasPrefix("/dev/") else { return nil }
        var resolved = source
        if let real = unsafe realpath(source, nil /* resolved_path */) {
            resolved = unsafe String(cString: real)
            unsafe free(real)
        }
        return resolved.split(separator: "/").last.map(String.init)
    }

    /// Descends through partitions, mappings and arrays to what has a serial number.
    private borrowing func descend(
        _ device: borrowing UdevDevice, _ mounts: Mounts, depth: Int, into found: inout Findings
    ) {
        guard depth < Self.maximumDepth else {
            return found.note(.rootDisk, "too many layers below the root file system")
        }
        if device.value("partition") != nil, let parent = device.parentPath {
            _ = udev.withDevice(at: parent) { parent in
                descend(parent, mounts, depth: depth + 1, into: &found)
            }
            return
        }
        let slaves = directoryEntries(device.path + "/slaves")
        if !slaves.isEmpty {
            for slave in slaves {
                _ = udev.withBlockDevice(named: slave) { slave in
                    descend(slave, mounts, depth: depth + 1, into: &found)
                }
            }
        } else if let file = device.value("loop/backing_file") {
            follow(file, mounts, depth: depth + 1, into: &found)
        } else {
            Self.identify(device, into: &found)
        }
    }

    private static func identify(_ disk: borrowing UdevDevice, into found: inout Findings) {
        if disk.isBelow("usb") { return found.note(.rootDisk, "the root disk is on USB") }
        if disk.path.contains("/devices/virtual/block/") {
            return found.note(.rootDisk, "the root disk is virtual")
        }
        if let text = disk.value("device/cid") {
            guard let id = FactText.hexadecimal(text, count: 32..<33) else {
                return found.note(.rootDisk, "the card's identification is empty")
            }
            return found.add(RawFact(.rootDisk, "cid", id))
        }
        // Of sysfs first: udev's database may not be there yet, and must not change the fact.
        if disk.name.hasPrefix("nvme"),
            let serial = disk.value("device/serial").flatMap(FactText.normalized)
        {
            return found.add(
                RawFact(
                    .rootDisk, "nvme",
                    disk.value("device/model").flatMap(FactText.normalized) ?? "",
                    serial))
        }
        for text in [
            disk.value("device/wwid"), disk.property("ID_WWN_WITH_EXTENSION"),
            disk.property("ID_WWN"),
        ] {
            guard let name = text.flatMap(FactText.normalized) else { continue }
            let digits =
                ["naa.", "eui.", "0x"].first { name.hasPrefix($0) }
                .map { String(name.dropFirst($0.count)) } ?? ""
            if let number = FactText.hexadecimal(digits, count: 16..<33) {
                return found.add(RawFact(.rootDisk, "wwn", number))
            }
            if name.hasPrefix("t10.") { return found.add(RawFact(.rootDisk, "t10", name)) }
        }
        for text in [
            disk.value("serial"), disk.value("device/serial"), disk.property("ID_SERIAL_SHORT"),
        ] {
            if let serial = text.flatMap(FactText.normalized) {
                return found.add(RawFact(.rootDisk, "serial", serial))
            }
        }
        found.note(.rootDisk, "the root disk has neither a serial number nor a WWN")
    }
}
