import HoldfastCrypto
import HoldfastTPMWire

/// One event of a boot in words.
public struct BootStep: Sendable, Hashable, Codable {
    /// Its number in the log.
    public let event: Int
    /// The register that it extends; `nil` when it is informative.
    public let pcr: Int?
    public let what: String
    /// The digest is that of what is said here.
    ///
    /// Otherwise the log only claims it: of a file or an image the digest alone is known.
    public let isMeasured: Bool
}

extension BootEvent {
    /// Every digest of the event is that of these bytes: they are what was extended.
    func measures(_ data: [UInt8]) -> Bool {
        let known = digests.compactMap { digest in
            digest.algorithm.hash.map { $0.digest(data) == digest.bytes }
        }
        return !known.isEmpty && known.allSatisfy { $0 }
    }

    /// Some digest of the event is that of these bytes.
    ///
    /// For what must not be overlooked, and for nothing that speaks well of a boot or passes over an
    /// event: types are not measured, and a bank that is not quoted can be written as one likes.
    func mayMeasure(_ data: [UInt8]) -> Bool {
        digests.contains { $0.algorithm.hash?.digest(data) == $0.bytes }
    }

    /// A separator without error, whatever the event calls itself.
    ///
    /// PC Client Platform Firmware Profile, "EV_SEPARATOR".
    var isSeparator: Bool {
        Self.separators.contains { measures($0) }
    }

    /// What may be a separator: what comes after it may come from a running system.
    var mayBeSeparator: Bool {
        Self.separators.contains { mayMeasure($0) } || mayBeErrorSeparator
    }

    /// What may be a separator that says that firmware failed to measure.
    var mayBeErrorSeparator: Bool { mayMeasure(Self.error) }

    /// A separator that says that firmware failed to measure.
    var isErrorSeparator: Bool { measures(Self.error) }

    private static let separators: [[UInt8]] = [[0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF]]
    private static let error: [UInt8] = [1, 0, 0, 0]

    /// The best digest, for people and for references.
    var bestDigest: String {
        for hash in [HashAlgorithm.sha256, .sha384, .sha512, .sha1] {
            if let digest = digest(hash.id) {
                return "\(hash.name):\(hexadecimal([UInt8](digest)))"
            }
        }
        return "no digest"
    }

    /// An action by its text, with and without a zero behind it.
    func isAction(_ text: String) -> Bool {
        measures(Array(text.utf8)) || measures(Array(text.utf8) + [0])
    }

    /// What may be that action.
    func mayBeAction(_ text: String) -> Bool {
        mayMeasure(Array(text.utf8)) || mayMeasure(Array(text.utf8) + [0])
    }

    /// The text that was measured, when the event shows it.
    ///
    /// GRUB writes what it is before the text that it measures; boot loaders measure text in 16-bit
    /// units with its zero, and some log it without.
    var measuredText: (kind: String?, text: [UInt8])? {
        let data = [UInt8](untrustedData)
        let bare = data.last == 0 ? [UInt8](data.dropLast()) : data
        for kind in ["grub_cmd", "grub_kernel_cmdline", "kernel_cmdline", "module_cmdline"] {
            let prefix = Array("\(kind): ".utf8)
            guard bare.starts(with: prefix) else { continue }
            let text = [UInt8](bare.dropFirst(prefix.count))
            guard measures(text) || measures(text + [0]) else { return nil }
            return (kind, text)
        }
        guard !data.isEmpty else { return nil }
        let isWide = data.count % 2 == 0 && data.count >= 4 && data[1] == 0 && data[0] != 0
        guard
            measures(data) || measures(bare) || measures(data + [0])
                || isWide && (measures(data + [0, 0]) || measures([UInt8](data.dropLast(2))))
        else { return nil }
        return (nil, isWide ? firmwareText(data) : bare)
    }

    /// A section of a unified kernel image, when the event is that of its name.
    ///
    /// systemd-stub measures each section's name, with its zero, and then what is in it.
    var sectionName: String? {
        let text = firmwareText([UInt8](untrustedData))
        guard text.first == 0x2E, text.count <= 16, measures(text + [0]) else { return nil }
        return printable(text)
    }
}

extension BootStep {
    /// Every event of a log but the header in words.
    static func timeline(_ log: EventLog) -> [BootStep] {
        var section: String?
        return log.events.enumerated().dropFirst(log.header == nil ? 0 : 1).map { number, event in
            let index = event.extendedPCR
            var (what, isMeasured) = describe(event)
            if index?.rawValue == 11 {
                if let section {
                    what = "content of the section \(section), \(event.bestDigest)"
                    isMeasured = true
                }
                section = section == nil ? event.sectionName : nil
                if let section {
                    what = "section \(section) of a unified kernel image"
                    isMeasured = true
                }
            }
            return BootStep(
                event: number, pcr: index.map { Int($0.rawValue) }, what: what,
                isMeasured: isMeasured)
        }
    }

    private static func describe(_ event: BootEvent) -> (String, Bool) {
        let data = [UInt8](event.untrustedData)
        if event.type == .noAction { return (informative(data), false) }
        if event.isSeparator { return ("separator: the phase before is over", true) }
        if event.isErrorSeparator { return ("separator: firmware FAILED to measure", true) }
        switch event.type {
        case .efiVariableDriverConfiguration, .efiVariableAuthority, .efiVariableBoot,
            .efiVariableBoot2:
            return variable(event, data)
        case .efiBootServicesApplication: return image(event, data, "application")
        case .efiBootServicesDriver: return image(event, data, "driver")
        case .efiRuntimeServicesDriver: return image(event, data, "runtime driver")
        case .efiGPTEvent:
            return ("partition table", event.measures(data))
        case .efiPlatformFirmwareBlob, .efiPlatformFirmwareBlob2:
            return ("firmware, \(event.bestDigest)", false)
        case .eventTag: return tagged(event, data)
        case .crtmVersion:
            return ("version of the root of trust: \(readable(data))", event.measures(data))
        case .crtmContents: return ("root of trust: \(readable(data))", event.measures(data))
        case .efiHardwareRootOfTrust:
            return ("hardware root of trust: \(readable(data))", event.measures(data))
        case .cpuMicrocode: return ("microcode, \(event.bestDigest)", false)
        case .efiHandoffTables, .efiHandoffTables2:
            return ("tables of the firmware, \(event.bestDigest)", event.measures(data))
        default: break
        }
        if let (kind, text) = event.measuredText {
            return ("\(kind ?? event.type.name): \(readable(text))", true)
        }
        let text = data.last == 0 ? [UInt8](data.dropLast()) : data
        let isText = !text.isEmpty && text.allSatisfy { (0x20...0x7E).contains($0) }
        return (
            isText
                ? "\(event.type.name): \(shortened(text)), \(event.bestDigest)"
                : "\(event.type.name), \(event.bestDigest)", false
        )
    }

    private static func informative(_ data: [UInt8]) -> String {
        if data.starts(with: Array("StartupLocality\0".utf8)), let locality = data.last {
            return "the TPM was started at locality \(locality)"
        }
        let text = data.prefix { (0x20...0x7E).contains($0) }
        return text.count >= 4 ? "note: \(shortened([UInt8](text)))" : "note"
    }

    private static func variable(_ event: BootEvent, _ data: [UInt8]) -> (String, Bool) {
        let what =
            switch event.type {
            case .efiVariableAuthority: "authority"
            case .efiVariableDriverConfiguration: "variable"
            default: "boot variable"
            }
        guard let variable = FirmwareVariable(data) else {
            return ("\(what) that cannot be read, \(event.bestDigest)", false)
        }
        let name = printable(firmwareText(variable.name))
        // Before 2016 firmware measured the content of boot variables without their names.
        let isMeasured = event.measuredVariable != nil
        let content = isMeasured || event.measures(variable.data) ? variable : nil
        return ("\(what) \(name)\(content.map { words($0, event.type) } ?? "")", isMeasured)
    }

    /// What a variable that was measured holds.
    private static func words(_ variable: FirmwareVariable, _ type: EventType) -> String {
        if type == .efiVariableAuthority {
            guard let certificate = EventLogFacts.authority(variable) else {
                return ", \(variable.data.count) bytes"
            }
            return ": \(certificate.subject ?? "certificate \(certificate.sha256)")"
        }
        if type == .efiVariableDriverConfiguration {
            guard !variable.data.isEmpty else { return ": empty" }
            if variable.isNamed("SecureBoot", FirmwareVariable.global) {
                return variable.data == [1] ? ": on" : variable.data == [0] ? ": off" : ": unknown"
            }
            guard let lists = SignatureLists(variable.data) else {
                return ", \(variable.data.count) bytes"
            }
            return ": \(lists.certificates.count) certificates, \(lists.hashes.count) hashes"
        }
        // `EFI_LOAD_OPTION`: attributes, a length, a description, a path.
        let name = firmwareText(variable.name)
        if name.starts(with: Array("Boot".utf8)), name.count == 8, variable.data.count > 8 {
            return ": \(shortened(firmwareText([UInt8](variable.data.dropFirst(6)))))"
        }
        return ", \(variable.data.count) bytes"
    }

    /// `UEFI_IMAGE_LOAD_EVENT`: place, size, link address, length of a device path, device path.
    private static func image(
        _ event: BootEvent, _ data: [UInt8], _ what: String
    ) -> (String, Bool) {
        let path = imagePath(data).map { " \($0)" } ?? ""
        return ("\(what)\(path), \(event.bestDigest)", false)
    }

    /// The claimed file of an image.
    static func imagePath(_ data: [UInt8]) -> String? {
        var reader = FirmwareReader(data)
        guard reader.bytes(24) != nil, let size = reader.uint64(), let path = reader.bytes(size)
        else { return nil }
        return devicePathText(path)
    }

    /// `TCG_PCClientTaggedEvent`: an identifier, a length, data.
    private static func tagged(_ event: BootEvent, _ data: [UInt8]) -> (String, Bool) {
        var reader = FirmwareReader(data)
        guard let id = reader.uint32(), let size = reader.uint32(), let content = reader.bytes(size)
        else { return ("tagged event, \(event.bestDigest)", event.measures(data)) }
        let isWide = content.count >= 4 && content[0] != 0 && content[1] == 0
        let text = isWide ? firmwareText(content) : [UInt8](content.prefix { $0 != 0 })
        let known: [UInt64: String] = [
            0x8F3B_22EC: "initial RAM disk", 0x8F3B_22ED: "load options of the kernel",
            0xF5BC_582A: "configuration of systemd-boot", 0x6C46_F751: "device tree add-on",
            0x49DF_FE0F: "initial RAM disk add-on", 0xDAC0_8E1A: "microcode add-on",
        ]
        let isText = !text.isEmpty && text.allSatisfy { (0x20...0x7E).contains($0) }
        let name = known[id] ?? "tag 0x\(String(id, radix: 16))"
        return (
            "\(name)\(isText ? " `\(shortened(text))`" : ""), \(event.bestDigest)",
            event.measures(data) || event.measures(content)
        )
    }

    /// Data in words: text, 16-bit text, a GUID, or how many bytes it has.
    private static func readable(_ data: [UInt8]) -> String {
        let bare = data.last == 0 ? [UInt8](data.dropLast()) : data
        for text in [bare, data.count % 2 == 0 ? firmwareText(data) : []]
        where !text.isEmpty
            && text.allSatisfy({ (0x20...0x7E).contains($0) || $0 >= 0xC2 || $0 == 0x0A || $0 == 9 }
            )
        {
            return shortened(text)
        }
        if data.count == 16 { return guidText(data) }
        return "\(data.count) bytes"
    }

    static func shortened(_ text: [UInt8]) -> String {
        text.count <= 160 ? printable(text) : printable(text.prefix(157)) + "..."
    }

    /// A line for people: number, register, what happened, and how far it is known.
    ///
    /// - Parameter isProven: the log explains a value of the register that was given.
    public func line(isProven: Bool) -> String {
        let number = String(event)
        let register = pcr.map { "PCR \($0)" } ?? "-"
        let standing = isMeasured ? (isProven ? "proven" : "shown") : "claimed"
        func padded(_ text: String, _ size: Int) -> String {
            text + String(repeating: " ", count: max(1, size - text.count))
        }
        return String(repeating: " ", count: max(0, 4 - number.count)) + number + "  "
            + padded(register, 8) + padded(standing, 9) + what
    }
}

extension EventType {
    /// The name in the profile, without its prefix.
    var name: String {
        switch self {
        case .prebootCertificate: "preboot certificate"
        case .postCode: "code of the firmware"
        case .action, .efiAction: "action"
        case .platformConfigurationFlags: "platform flags"
        case .tableOfDevices: "table of devices"
        case .compactHash: "compact hash"
        case .ipl: "boot loader"
        case .iplPartitionData: "partition data"
        case .nonhostCode: "code of another processor"
        case .nonhostConfiguration: "configuration of another processor"
        case .nonhostInformation: "information of another processor"
        case .omitBootDeviceEvents: "boot devices are left out"
        case .separator: "separator of no known value"
        case .efiSPDMFirmwareBlob: "firmware of a device"
        case .efiSPDMFirmwareConfiguration: "configuration of a device"
        default: "type 0x\(String(rawValue, radix: 16))"
        }
    }
}
