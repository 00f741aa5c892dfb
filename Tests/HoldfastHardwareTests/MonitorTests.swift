import Foundation
import Glibc
import HoldfastHardware
import Testing

/// Says to a program on a played machine what udev would say.
///
/// umockdev replaces udev's netlink socket by one in its own directory; what goes through it is
/// libudev's own format (systemd, `sd-device/device-monitor.c`).
struct Announcer {
    /// umockdev's directory of the machine.
    let folder: String

    /// Sends an event; programs that do not listen to the subsystem must not notice.
    func send(_ action: String, _ path: String, _ subsystem: String) throws {
        let properties = [
            "ACTION=\(action)", "DEVPATH=\(path)", "SUBSYSTEM=\(subsystem)", "SEQNUM=1",
        ].map { Array($0.utf8) + [0] }.flatMap { $0 }
        var message = Array("libudev".utf8) + [0]
        func append(_ value: UInt32, bigEndian: Bool = false) {
            let stored = bigEndian ? value.bigEndian : value
            message += (0..<4).map { UInt8(truncatingIfNeeded: stored >> ($0 * 8)) }
        }
        append(0xFEED_CAFE, bigEndian: true)
        append(40)  // size of the header
        append(40)  // where the properties begin
        append(UInt32(properties.count))
        append(Self.hash(subsystem), bigEndian: true)
        for _ in 0..<3 { append(0) }  // type of device, tags
        message += properties
        let sockets = try FileManager.default.contentsOfDirectory(atPath: folder)
            .filter { $0.hasPrefix("event") }
        try #require(!sockets.isEmpty, "nobody listens to udev")
        for socket in sockets { try deliver(message, folder + "/" + socket) }
    }

    private func deliver(_ message: [UInt8], _ path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_RAW.rawValue), 0)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { room in
            unsafe room.copyBytes(from: path.utf8.prefix(room.count - 1))
        }
        let sent = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe sendto(
                    descriptor, message, message.count, 0, address,
                    socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(sent == message.count, "\(errno)")
    }

    /// MurmurHash2 with the seed 0, by which the kernel filters for libudev.
    private static func hash(_ text: String) -> UInt32 {
        let factor: UInt32 = 0x5BD1_E995
        var rest = Array(text.utf8)[...]
        var hash = UInt32(rest.count)
        while rest.count >= 4 {
            var word = rest.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            word = word &* factor
            word = (word ^ word >> 24) &* factor
            hash = hash &* factor ^ word
            rest = rest.dropFirst(4)
        }
        if !rest.isEmpty {
            hash ^= rest.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            hash = hash &* factor
        }
        hash = (hash ^ hash >> 13) &* factor
        return hash ^ hash >> 15
    }
}

@Suite("changes of hardware", .serialized, .timeLimit(.minutes(20)))
struct MonitorTests {
    /// `holdfast identity --watch` on a played machine.
    private final class Watch {
        private let process: Process
        private let player: Player
        private let output = Pipe()
        private let watcher: pid_t
        let announcer: Announcer

        init(_ machine: Machine) throws {
            player = try Player(machine)
            process = player.process([
                "/bin/sh", "-c", "echo \"$UMOCKDEV_DIR $$\" >&2; exec \"$0\" identity --watch",
                try Player.program("holdfast"),
            ])
            let errors = Pipe()
            process.standardOutput = output
            process.standardError = errors
            try process.run()
            // The second line says that it listens.
            var said = Data()
            while said.filter({ $0 == 0x0A }).count < 2 {
                let more = errors.fileHandleForReading.availableData
                try #require(!more.isEmpty, "\(String(decoding: said, as: UTF8.self))")
                said += more
            }
            let first = String(decoding: said, as: UTF8.self).split(separator: "\n")[0]
                .split(separator: " ")
            announcer = Announcer(folder: String(first[0]))
            watcher = try #require(first.last.flatMap { Int32($0) })
        }

        deinit {
            // umockdev-run ends with it, and ignores signals that this process ignores.
            kill(watcher, SIGTERM)
            process.waitUntilExit()
        }

        /// The next line; waits for it.
        func line() throws -> String {
            var text = Data()
            while text.last != 0x0A {
                let more = output.fileHandleForReading.availableData
                try #require(!more.isEmpty, "it ended")
                text += more
            }
            return String(decoding: text.dropLast(), as: UTF8.self)
        }
    }

    private static let disk =
        Machine.pci + ":1f.2/ata0/host0/target/0:0:0:0/block/sda"
    private static let interface = Machine.pci + ":1c.0/0000:01:00.0/net/eth0"

    @Test("an event names the kind of component that may have changed")
    func kinds() throws {
        let watch = try Watch(MachineModel.industrialPC.build(Unit()))
        try watch.announcer.send("change", Self.disk, "block")
        #expect(try watch.line() == "root-disk")
        try watch.announcer.send("add", Self.interface, "net")
        #expect(try watch.line() == "network")
        try watch.announcer.send("add", "/devices/pnp0/00:05/tpm/tpm0", "tpm")
        #expect(try watch.line() == "tpm")
    }

    @Test("many events are told together, and none again")
    func together() throws {
        let watch = try Watch(MachineModel.industrialPC.build(Unit()))
        for _ in 0..<30 {
            try watch.announcer.send("add", Self.interface, "net")
            try watch.announcer.send("change", Self.disk, "block")
        }
        #expect(try watch.line() == "network root-disk")
        try watch.announcer.send("add", "/devices/pnp0/00:05/tpm/tpm0", "tpm")
        // A loaded machine may pause between two events, but not between all.
        var lines = 1
        while try !watch.line().hasSuffix("tpm") { lines += 1 }
        #expect(lines < 10)
    }

    @Test("the sequence ends with its consumer")
    func sequence() async throws {
        let consumer = Task {
            for try await _ in HardwareMonitor.changes(quiet: 10_000) {}
        }
        consumer.cancel()
        try await consumer.value
    }

    @Test("what has nothing to do with facts is not told, nor is what udev did not say")
    func foreign() throws {
        let watch = try Watch(MachineModel.industrialPC.build(Unit()))
        try watch.announcer.send("add", "/devices/pci0000:00/0000:00:14.0/usb2", "usb")
        try watch.announcer.send("change", "/devices/virtual/dmi/id", "dmi")
        // A device that is not there, and an event without an action.
        try watch.announcer.send("", Self.interface, "net")
        try watch.announcer.send("remove", Self.disk, "block")
        #expect(try watch.line() == "root-disk")
    }
}
