import HoldfastCrypto

/// What most likely brought a change of a PCR.
///
/// PC Client Platform Firmware Profile, "PCR Usage", and the Linux TPM PCR registry.
public enum BootCause: String, Sendable, Hashable, Codable, CaseIterable {
    case firmware
    case firmwareSettings = "firmware-settings"
    case expansionFirmware = "expansion-firmware"
    case secureBoot = "secure-boot-keys"
    case bootLoader = "boot-loader"
    case bootSettings = "boot-settings"
    case kernel
    case initialRAMDisk = "initial-ram-disk"
    case commandLine = "command-line"
    case partitions
    case runningSystem = "running-system"
    case unknown

    /// In words.
    public var words: String {
        switch self {
        case .firmware: "the firmware"
        case .firmwareSettings: "a setting of the firmware"
        case .expansionFirmware: "the firmware of a card or a device"
        case .secureBoot: "the keys or the state of Secure Boot"
        case .bootLoader: "the boot loader"
        case .bootSettings: "a setting of the boot loader"
        case .kernel: "the kernel"
        case .initialRAMDisk: "the initial RAM disk"
        case .commandLine: "the kernel's command line"
        case .partitions: "the partition table"
        case .runningSystem: "something that the running system measured"
        case .unknown: "something that the log does not show"
        }
    }

    /// What to do when nobody knows of a reason is the same everywhere; this is when somebody does.
    public var advice: String {
        switch self {
        case .firmware, .expansionFirmware:
            "if the firmware was updated, ask the vendor for an approval of the new version, and install it with `holdfast approve FILE`"
        case .firmwareSettings:
            "set the firmware's settings back, or ask the vendor for an approval of the new ones"
        case .secureBoot:
            "if Secure Boot was switched off, switch it on; if its keys or its list of revoked images were updated, ask the vendor for an approval"
        case .bootLoader, .kernel, .initialRAMDisk, .bootSettings:
            "if packages were updated, install the vendor's approval for them with `holdfast approve FILE`, or boot the former version"
        case .commandLine:
            "boot with the former command line, or ask the vendor for an approval of the new one"
        case .partitions:
            "if a disk was repartitioned or exchanged, ask the vendor for an approval"
        case .runningSystem, .unknown:
            "reboot; when it stays so, ask the vendor what else measures into this register"
        }
    }
}

/// What one register holds that it did not hold in another boot.
public struct BootChange: Sendable, Hashable {
    /// Which register.
    public let register: PCRValues.Register
    public let cause: BootCause
    /// The number of the first event of the later log that differs; `nil` when none does.
    public let event: Int?
    /// That event, or the one that is missing, in words.
    public let what: String
    /// The later log replays to the register's value: the event is what happened.
    ///
    /// Otherwise the log only claims it.
    public let isExplained: Bool
}

/// Compares the boot of a machine with an earlier one, register by register.
///
/// For people: nothing is decided by it.
public enum BootComparison {
    /// Says what differs in registers whose values changed.
    ///
    /// - Parameters:
    ///   - registers: whose values are not those of the earlier boot.
    ///   - values: as they are now.
    ///   - old: the log of the earlier boot; `nil` or unreadable when there is none.
    ///   - new: the log of this boot.
    public static func changes(
        of registers: [PCRValues.Register], values: PCRValues, from old: [UInt8]?,
        to new: [UInt8]?
    ) -> [BootChange] {
        let before = old.flatMap { try? EventLog(parsing: $0) }
        let after = new.flatMap { try? EventLog(parsing: $0) }
        return registers.map { change(of: $0, values, before, after) }
    }

    private static func change(
        of register: PCRValues.Register, _ values: PCRValues, _ old: EventLog?, _ new: EventLog?
    ) -> BootChange {
        let usual = usualCause(register.index)
        guard let new else {
            return BootChange(
                register: register, cause: usual, event: nil,
                what: "there is no event log of this boot to look into", isExplained: false)
        }
        let replayed = try? new.replay(register.hash)
        let untouched = register.index.resetValue(digestSize: register.hash.digestSize)
        let isExplained =
            replayed != nil
            && replayed?[register.index] ?? untouched == values[register.hash, register.index]
        guard let old else {
            return BootChange(
                register: register, cause: usual, event: nil,
                what: "there is no event log of an earlier boot to compare with",
                isExplained: isExplained)
        }
        let was = events(old, register)
        let now = events(new, register)
        var place = 0
        while place < min(was.count, now.count), was[place].digest == now[place].digest {
            place += 1
        }
        if place < now.count {
            let event = now[place].event
            let text = event.words
            let replaces = place < was.count ? was[place].event.words : nil
            let earlier =
                switch replaces {
                case nil: ", which was not there before"
                case text?: ", which has another content than before"
                case let other?: ", where \(other) was before"
                }
            return BootChange(
                register: register, cause: cause(event, register.index), event: now[place].number,
                what: text + earlier, isExplained: isExplained)
        }
        if place < was.count {
            let event = was[place].event
            return BootChange(
                register: register, cause: cause(event, register.index), event: nil,
                what: "\(event.words) is missing", isExplained: isExplained)
        }
        return BootChange(
            register: register, cause: isExplained ? .unknown : .runningSystem, event: nil,
            what: isExplained
                ? "the logs do not differ" : "what was measured into it is not in the event log",
            isExplained: isExplained)
    }

    private struct Measured {
        let number: Int
        let event: BootEvent
        let digest: [UInt8]
    }

    private static func events(_ log: EventLog, _ register: PCRValues.Register) -> [Measured] {
        log.events.enumerated().compactMap { number, event in
            guard event.extendedPCR == register.index else { return nil }
            return Measured(
                number: number, event: event,
                digest: [UInt8](event.digest(register.hash.id) ?? []))
        }
    }

    /// What a register is for, when no event tells more.
    public static func usualCause(_ index: PCRIndex) -> BootCause {
        switch index.rawValue {
        case 0: .firmware
        case 1, 3, 6: .firmwareSettings
        case 2: .expansionFirmware
        case 4: .bootLoader
        case 5: .partitions
        case 7, 14: .secureBoot
        case 8: .commandLine
        case 9: .initialRAMDisk
        case 11: .kernel
        case 12: .commandLine
        default: .runningSystem
        }
    }

    private static func cause(_ event: BootEvent, _ index: PCRIndex) -> BootCause {
        let text = event.text.map(lowercased) ?? ""
        let isKernel = ["vmlinuz", "bzimage", "/linux", "kernel"].contains(where: text.contains)
        switch index.rawValue {
        case 1 where event.type == .efiVariableBoot || event.type == .efiVariableBoot2:
            return .bootSettings
        case 4: return isKernel ? .kernel : .bootLoader
        case 5:
            return event.type == .efiGPTEvent ? .partitions : .bootSettings
        case 8:
            return ["kernel_cmdline", "linux"].contains(where: text.contains)
                ? .commandLine : .bootSettings
        case 9:
            if ["initrd", "initramfs"].contains(where: text.contains) { return .initialRAMDisk }
            return isKernel ? .kernel : .bootLoader
        default: return usualCause(index)
        }
    }

    private static func lowercased(_ text: String) -> String { text.lowercased() }
}

extension BootEvent {
    /// The event in a few words: what it says of itself.
    var words: String {
        let name = text.map { " `\($0)`" } ?? ""
        switch type {
        case .separator: return "the separator"
        case .efiVariableDriverConfiguration, .efiVariableBoot, .efiVariableBoot2:
            return "the variable\(name)"
        case .efiVariableAuthority: return "the authority\(name) that signed what was started"
        case .efiBootServicesApplication: return "the program\(name)"
        case .efiBootServicesDriver, .efiRuntimeServicesDriver: return "the driver\(name)"
        case .efiGPTEvent: return "the partition table"
        case .ipl: return "what the boot loader measured as\(name.isEmpty ? " nothing" : name)"
        case .efiPlatformFirmwareBlob, .efiPlatformFirmwareBlob2: return "firmware code"
        case .crtmVersion: return "the version of the firmware"
        default: return "event 0x\(String(type.rawValue, radix: 16))\(name)"
        }
    }

    /// The text, the name of the variable or the path of the image that the event shows.
    var text: String? {
        let data = [UInt8](untrustedData)
        switch type {
        case .efiVariableDriverConfiguration, .efiVariableAuthority, .efiVariableBoot,
            .efiVariableBoot2:
            guard data.count >= 32 else { return nil }
            let characters = Self.number(data[16..<24])
            guard characters <= 128, data.count >= 32 + 2 * Int(characters) else { return nil }
            return Self.readable(Self.wide(data[32..<32 + 2 * Int(characters)]))
        case .efiBootServicesApplication, .efiBootServicesDriver, .efiRuntimeServicesDriver:
            return Self.filePath(data)
        default:
            let bare = data.last == 0 ? data.dropLast() : data[...]
            guard bare.count >= 2 else { return nil }
            if data.count >= 4, data[1] == 0, data[0] != 0 {
                return Self.readable(Self.wide(data[...]))
            }
            guard bare.allSatisfy({ (0x20...0x7E).contains($0) }) else { return nil }
            return Self.readable(String(decoding: bare, as: UTF8.self))
        }
    }

    /// The last file in the device path of an image.
    ///
    /// `UEFI_IMAGE_LOAD_EVENT`, and UEFI, "EFI Device Path Protocol".
    static func filePath(_ data: [UInt8]) -> String? {
        var place = 32
        var found: String?
        while place + 4 <= data.count {
            let length = Int(data[place + 2]) | Int(data[place + 3]) << 8
            guard length >= 4, place + length <= data.count else { return found }
            if data[place] == 0x04, data[place + 1] == 0x04 {
                found = readable(wide(data[place + 4..<place + length]))
            }
            if data[place] == 0x7F { return found }
            place += length
        }
        return found
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// 16-bit text up to a zero, slashes turned.
    private static func wide(_ bytes: ArraySlice<UInt8>) -> String {
        var units: [UInt16] = []
        var place = bytes.startIndex
        while place + 1 < bytes.endIndex {
            let unit = UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8
            guard unit != 0 else { break }
            units.append(unit == 0x5C ? 0x2F : unit)
            place += 2
        }
        return String(decoding: units, as: UTF16.self)
    }

    /// Without what a terminal would take for something else, and not too long.
    private static func readable(_ text: String) -> String? {
        let safe = text.unicodeScalars.prefix(160).map { scalar in
            scalar.value >= 0x20 && scalar.value < 0x7F && scalar != "`" ? Character(scalar) : "?"
        }
        return safe.isEmpty ? nil : String(safe)
    }
}
