import Synchronization
import Testing

/// What is exchanged between two variants of a machine; each is one hexadecimal digit.
struct Unit: Hashable {
    var disk = "1"
    var interface = "1"
    var board = "1"

    /// Another machine of the same model.
    static let other = Unit(disk: "2", interface: "2", board: "2")
}

/// A machine that umockdev plays: devices in its own format, and files beside them.
struct Machine: Hashable {
    private(set) var devices = ""
    /// By path below the root.
    private(set) var files: [String: String] = ["proc/cpuinfo": "processor : 0\n"]

    static let pci = "/devices/pci0000:00/0000:00"

    mutating func device(
        _ path: String, _ subsystem: String, node: String? = nil, number: String? = nil,
        attributes: KeyValuePairs<String, String> = [:], links: KeyValuePairs<String, String> = [:]
    ) {
        devices += "P: \(path)\n"
        if let node { devices += "N: \(node)\n" }
        devices += "E: SUBSYSTEM=\(subsystem)\n"
        if let node { devices += "E: DEVNAME=/dev/\(node)\n" }
        if let halves = number?.split(separator: ":") {
            devices += "E: MAJOR=\(halves[0])\nE: MINOR=\(halves[1])\nA: dev=\(number ?? "")\\n\n"
        }
        for (name, value) in attributes { devices += "A: \(name)=\(value)\\n\n" }
        for (name, target) in links { devices += "L: \(name)=\(target)\n" }
        devices += "\n"
    }

    mutating func file(_ path: String, _ content: String) { files[path] = content }

    mutating func smbios(_ attributes: KeyValuePairs<String, String>) {
        device("/devices/virtual/dmi/id", "dmi", attributes: attributes)
    }

    /// An interface on a bus; `type` 1 is Ethernet and Wi-Fi.
    mutating func interface(
        _ name: String, at parent: String, _ address: String, assigned: String = "0",
        more: KeyValuePairs<String, String> = [:], links: KeyValuePairs<String, String> = [:]
    ) {
        var all: [(String, String)] = [
            ("address", address), ("addr_assign_type", assigned), ("type", "1"),
        ]
        all += more.map { ($0.key, $0.value) }
        devices += "P: \(parent)/net/\(name)\nE: SUBSYSTEM=net\nE: INTERFACE=\(name)\n"
        for (name, value) in all { devices += "A: \(name)=\(value)\\n\n" }
        for (name, target) in links { devices += "L: \(name)=\(target)\n" }
        devices += "\n"
    }

    /// A disk with one partition, `NAME` and `NAME` with the partition's suffix.
    mutating func disk(
        _ name: String, at parent: String, number: String, partition: String,
        partitionNumber: String, attributes: KeyValuePairs<String, String>
    ) {
        device(
            "\(parent)/block/\(name)", "block", node: name, number: number, attributes: attributes)
        device(
            "\(parent)/block/\(name)/\(partition)", "block", node: partition,
            number: partitionNumber, attributes: ["partition": "2"])
    }

    /// A SATA disk with a WWN.
    mutating func sata(_ name: String, wwn: String, port: Int) {
        disk(
            name, at: "\(Self.pci):1f.2/ata\(port)/host\(port)/target/\(port):0:0:0",
            number: "8:\(port * 16)", partition: "\(name)2", partitionNumber: "8:\(port * 16 + 2)",
            attributes: ["device/wwid": "naa.\(wwn)"])
    }

    mutating func nvme(serial: String) {
        disk(
            "nvme0n1", at: "\(Self.pci):1d.0/0000:03:00.0/nvme/nvme0", number: "259:0",
            partition: "nvme0n1p2", partitionNumber: "259:2",
            attributes: [
                "device/serial": serial + "      ", "device/model": "Example 980 1TB   ",
                "wwid": "eui.0025385b11b0e2a4",
            ])
    }

    mutating func card(cid: String) {
        disk(
            "mmcblk0", at: "/devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001",
            number: "179:0", partition: "mmcblk0p2", partitionNumber: "179:2",
            attributes: ["device/cid": cid])
    }

    /// A mapping or an array on top of others.
    mutating func mapping(_ name: String, number: String, over slaves: [String]) {
        devices += "P: /devices/virtual/block/\(name)\nN: \(name)\nE: SUBSYSTEM=block\n"
        let halves = number.split(separator: ":")
        devices += "E: DEVNAME=/dev/\(name)\nE: MAJOR=\(halves[0])\nE: MINOR=\(halves[1])\n"
        devices += "A: dev=\(number)\\n\n"
        // Where they lead does not matter: their names do.
        for slave in slaves {
            devices += "L: slaves/\(slave)=../../../../../class/block/\(slave)\n"
        }
        devices += "\n"
    }

    mutating func tpm(hid: String) {
        device(
            "/devices/pnp0/00:05/tpm/tpm0", "tpm", node: "tpm0", number: "10:224",
            attributes: ["tpm_version_major": "2", "device/firmware_node/hid": hid])
    }

    /// What `/` lies on, as the end of a line of mountinfo.
    mutating func root(_ number: String, _ rest: String, before: String = "") {
        file("proc/self/mountinfo", before + "27 1 \(number) / / rw,relatime shared:1 - \(rest)\n")
    }

    mutating func cpu(model: String) {
        file(
            "proc/cpuinfo",
            """
            processor\t: 0
            vendor_id\t: GenuineIntel
            cpu family\t: 6
            model\t\t: \(model)
            model name\t: Example CPU
            stepping\t: 10
            microcode\t: 0xf4
            cpu MHz\t\t: 1800.000

            processor\t: 1
            vendor_id\t: Other

            """)
    }

    mutating func deviceTree(_ entries: KeyValuePairs<String, String>) {
        for (name, value) in entries { file("sys/firmware/devicetree/base/\(name)", value + "\0") }
    }
}

/// One kind of machine, in every variant, and what is to be read from it.
struct MachineModel: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let build: @Sendable (Unit) -> Machine
    /// Kind and value, for ``Unit/init(disk:interface:board:)`` without arguments.
    let expected: [String]
    /// Kinds that change when the root disk, an interface or the board is exchanged.
    let disk: Set<String>
    let interface: Set<String>
    let board: Set<String>
    private let readings = Readings()

    init(
        _ name: String, disk: Set<String> = ["root-disk"], interface: Set<String> = ["network"],
        board: Set<String> = ["machine", "board"], expected: [String],
        _ build: @escaping @Sendable (inout Machine, Unit) -> Void
    ) {
        testDescription = name
        self.expected = expected
        self.disk = disk
        self.interface = interface
        self.board = board
        self.build = { unit in
            var machine = Machine()
            build(&machine, unit)
            return machine
        }
    }
}

extension MachineModel {
    /// What the program said of a machine, by description: a run costs a third of a second.
    private final class Readings: Sendable {
        let known = Mutex<[Machine: Player.Identity]>([:])
    }

    /// What the program says of a unit, with values.
    func identity(_ unit: Unit = Unit()) throws -> Player.Identity {
        let machine = build(unit)
        return try readings.known.withLock { known in
            if let identity = known[machine] { return identity }
            let identity = try Player(machine).identity(reveal: true)
            known[machine] = identity
            return identity
        }
    }
}
