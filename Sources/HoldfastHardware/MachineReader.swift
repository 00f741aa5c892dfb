import HoldfastFiles
import HoldfastProtocol

/// Reads the facts of a machine, kind by kind.
///
/// docs/spec/hardware.md, "Facts".
struct MachineReader: ~Copyable {
    let udev: Udev

    private static let smbios = "/sys/class/dmi/id"
    private static let deviceTree = "/sys/firmware/devicetree/base"

    init(udev: consuming Udev) { self.udev = udev }

    borrowing func read(into found: inout Findings) {
        readMachine(into: &found)
        readBoard(into: &found)
        readChassis(into: &found)
        readProcessor(into: &found)
        readInterfaces(into: &found)
        readRootDisks(into: &found)
        readTPMs(into: &found)
    }

    // MARK: SMBIOS and device tree

    private borrowing func readMachine(into found: inout Findings) {
        if let serial = deviceTree("serial-number") {
            return found.add(RawFact(.machine, "device-tree", serial))
        }
        switch smbios("product_uuid") {
        case .value(let text):
            guard let uuid = FactText.uuid(text) else {
                return found.note(.machine, "the SMBIOS UUID is one that many machines have")
            }
            found.add(RawFact(.machine, "uuid", uuid))
        case .absent:
            found.note(.machine, "neither an SMBIOS UUID nor a serial number in a device tree")
        case .refused(let why):
            found.note(.machine, "the SMBIOS UUID cannot be read (\(why)); root can")
        }
    }

    private borrowing func readBoard(into found: inout Findings) {
        switch smbios("board_serial") {
        case .value(let text):
            guard let serial = FactText.normalized(text) else {
                return found.note(.board, "the serial number of the board is a placeholder")
            }
            found.add(
                RawFact(
                    .board, smbiosText("board_vendor") ?? "", smbiosText("board_name") ?? "",
                    serial))
        case .absent: found.note(.board, "no SMBIOS serial number of a board")
        case .refused(let why):
            found.note(.board, "the serial number of the board cannot be read (\(why)); root can")
        }
    }

    private borrowing func readChassis(into found: inout Findings) {
        if case .value(let text) = smbios("chassis_serial"),
            let serial = FactText.normalized(text)
        {
            found.add(RawFact(.chassis, "chassis", smbiosText("chassis_vendor") ?? "", serial))
        } else if case .refused(let why) = smbios("chassis_serial") {
            // The model instead would be another fact for root than for others.
            found.note(
                .chassis, "the serial number of the chassis cannot be read (\(why)); root can")
        } else if let product = smbiosText("product_name") {
            found.add(RawFact(.chassis, "model", smbiosText("sys_vendor") ?? "", product))
        } else if let model = deviceTree("model") {
            found.add(RawFact(.chassis, "device-tree", model))
        } else {
            found.note(
                .chassis, "neither a serial number of a chassis nor a model that says anything")
        }
    }

    private borrowing func readProcessor(into found: inout Findings) {
        let soc = udev.withDevice(at: "/sys/devices/soc0") { soc in
            ["family", "machine", "soc_id", "revision", "serial_number"]
                .map { soc.value($0).flatMap(FactText.normalized) ?? "" }
        }
        if let soc, !soc[2].isEmpty || !soc[4].isEmpty {
            return found.add(RawFact(.processor, "soc", soc.joined(separator: FactText.separator)))
        }
        let processor = Self.firstProcessor()
        if let vendor = processor["vendor_id"], let model = processor["model"] {
            return found.add(
                RawFact(
                    .processor, "cpu", vendor, processor["cpu family"] ?? "", model,
                    processor["stepping"] ?? ""))
        }
        // The last name is the most general one: the SoC.
        let names = Self.bytes(Self.deviceTree + "/compatible")?.split(separator: 0) ?? []
        if let last = names.last,
            let name = FactText.normalized(String(decoding: last, as: UTF8.self))
        {
            return found.add(RawFact(.processor, "device-tree", name))
        }
        found.note(.processor, "neither a SoC nor a CPU that names itself")
    }

    /// The paragraph of the first processor in `/proc/cpuinfo`.
    private static func firstProcessor() -> [String: String] {
        let text = String(decoding: bytes("/proc/cpuinfo", maximum: 1 << 22) ?? [], as: UTF8.self)
        let paragraph = text.split(separator: "\n", omittingEmptySubsequences: false)
            .prefix { !$0.isEmpty }
        var fields: [String: String] = [:]
        for line in paragraph {
            let halves = line.split(separator: ":", maxSplits: 1)
            guard halves.count == 2, let name = FactText.normalized(String(halves[0])) else {
                continue
            }
            // Numbers of models are short: the rules for placeholders would take them away.
            fields[name] = halves[1].split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
        return fields
    }

    private borrowing func smbios(_ name: String) -> Attribute {
        udev.withDevice(at: Self.smbios) { $0.attribute(name) } ?? .absent
    }

    private borrowing func smbiosText(_ name: String) -> String? {
        guard case .value(let text) = smbios(name) else { return nil }
        return FactText.normalized(text)
    }

    private borrowing func deviceTree(_ name: String) -> String? {
        Self.bytes(Self.deviceTree + "/" + name).flatMap {
            FactText.normalized(String(decoding: $0, as: UTF8.self))
        }
    }

    static func bytes(_ path: String, maximum: Int = 1 << 16) -> [UInt8]? {
        try? Files.readIfPresent(path, maximum: maximum)
    }

    // MARK: Network

    private borrowing func readInterfaces(into found: inout Findings) {
        for path in udev.paths(subsystem: "net") {
            udev.withDevice(at: path) { interface in
                if let reason = Self.exclusion(interface) {
                    found.note(.network, reason)
                } else if let address = Self.permanentAddress(interface) {
                    found.add(RawFact(.network, address))
                } else {
                    found.note(.network, "an interface without a permanent address of its own")
                }
            }
        }
    }

    /// Why an interface is no part of the machine.
    private static func exclusion(_ interface: borrowing UdevDevice) -> String? {
        if interface.isVirtual { return "a virtual interface" }
        // ARPHRD_ETHER, which Wi-Fi has too.
        if interface.value("type") != "1" { return "an interface that is no Ethernet" }
        if interface.isBelow("usb") { return "an interface on USB" }
        for bus in ["virtio", "vmbus", "xen"] where interface.isBelow(bus) {
            return "an interface of a hypervisor"
        }
        if interface.isBelow("thunderbolt") || interface.value("device/removable") == "removable" {
            return "an interface that can be unplugged"
        }
        // Its own address, but a function that the kernel made.
        if interface.hasLink("device/physfn") { return "a virtual function" }
        return nil
    }

    /// The address that came with the hardware, whatever the interface answers to now.
    private static func permanentAddress(_ interface: borrowing UdevDevice) -> String? {
        // A bond gives all its interfaces one address; Wi-Fi changes it for privacy.
        for name in ["bonding_slave/perm_hwaddr", "phy80211/macaddress"] {
            if let text = interface.value(name) { return FactText.address(text) }
        }
        // NET_ADDR_PERM
        guard interface.value("addr_assign_type") == "0" else { return nil }
        return interface.value("address").flatMap(FactText.address)
    }

    // MARK: TPM

    private borrowing func readTPMs(into found: inout Findings) {
        for path in udev.paths(subsystem: "tpm") {
            udev.withDevice(at: path) { tpm in
                let maker = ["device/firmware_node/hid", "device/of_node/compatible"]
                    .compactMap { tpm.value($0).flatMap(FactText.normalized) }.first
                let capabilities = tpm.value("device/caps")?.split(separator: "\n").first
                    .flatMap { FactText.normalized(String($0)) }
                if tpm.isVirtual {
                    found.note(.tpm, "a virtual TPM")
                } else if let family = maker ?? capabilities {
                    found.add(RawFact(.tpm, tpm.value("tpm_version_major") ?? "", family))
                } else {
                    found.note(.tpm, "a TPM that does not name its family")
                }
            }
        }
    }
}
