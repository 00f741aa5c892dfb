import HoldfastCrypto
import HoldfastStage
import HoldfastTPMWire

/// A machine with shim, GRUB and Linux, as its firmware and its boot loader log it.
struct BootFixture {
    var firmware = "1.0"
    var isSecureBootOn = true
    var bootLoader = BootFixture.image("grub 2.06")
    var kernel = BootFixture.image("linux 6.1")
    var initialRAMDisk: [UInt8] = Array("initrd 6.1".utf8)
    var commandLine = "/vmlinuz-6.1 root=/dev/vda2 ro"

    /// What the image has before its digest is taken: whoever writes the test says it.
    static func digest(ofImage image: [UInt8], _ hash: HashAlgorithm) -> [UInt8] {
        // The checksum stands at 0xD8 of these images, the entry of the signatures at 0x128.
        hash.digest(
            Array(image[..<0xD8]) + Array(image[0xDC..<0x128]) + Array(image[0x130..<0x600]))
    }

    /// A PE32+ image with two sections, no signature and some bytes in them.
    static func image(_ content: String) -> [UInt8] {
        var bytes = ModelImage.image(
            [(".text", 0x400..<0x500), (".cmdline", 0x500..<0x600)], size: 0x600, headers: 0x400)
        for (offset, octet) in content.utf8.enumerated() { bytes[0x400 + offset] = octet }
        return bytes
    }

    private static func wide(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    }

    private static func number(_ value: Int, _ size: Int) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// `UEFI_VARIABLE_DATA`.
    private static func variable(_ name: String, _ data: [UInt8]) -> [UInt8] {
        [
            0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03,
            0x2B, 0x8C,
        ] + number(name.utf16.count, 8) + number(data.count, 8) + wide(name) + data
    }

    /// `UEFI_IMAGE_LOAD_EVENT` with a file in its device path.
    private static func loaded(_ path: String) -> [UInt8] {
        let text = wide(path) + [0, 0]
        let device = [0x04, 0x04] + number(text.count + 4, 2) + text + [0x7F, 0xFF, 0x04, 0x00]
        return number(0x1000, 8) + number(0x600, 8) + number(0, 8) + number(device.count, 8)
            + device
    }

    /// The log of a boot.
    var log: [UInt8] {
        var writer = EventLogWriter(algorithms: [.sha256, .sha384])
        let pcr = PCRIndex.all
        func image(_ bytes: [UInt8], _ path: String, into index: PCRIndex) {
            writer.append(
                pcr: UInt32(index.rawValue), type: .efiBootServicesApplication,
                digests: [HashAlgorithm.sha256, .sha384].map {
                    .init($0.id, Self.digest(ofImage: bytes, $0))
                }, data: Self.loaded(path))
        }
        /// GRUB logs a text, and measures something else.
        func ipl(_ text: String, _ content: [UInt8], into index: PCRIndex) {
            writer.append(
                pcr: UInt32(index.rawValue), type: .ipl,
                digests: [HashAlgorithm.sha256, .sha384].map { .init($0.id, $0.digest(content)) },
                data: Array(text.utf8) + [0])
        }
        writer.measure(Self.wide(firmware) + [0, 0], as: .crtmVersion, into: pcr[0])
        writer.measure(Array("setup".utf8), as: .efiHandoffTables, into: pcr[1])
        writer.measure(
            Self.variable("SecureBoot", [isSecureBootOn ? 1 : 0]),
            as: .efiVariableDriverConfiguration, into: pcr[7])
        writer.measure(
            Self.variable("PK", [1, 2, 3]), as: .efiVariableDriverConfiguration, into: pcr[7])
        for index in 0..<8 { writer.measure([0, 0, 0, 0], as: .separator, into: pcr[index]) }
        image(Self.image("shim 15.8"), "\\EFI\\debian\\shimx64.efi", into: pcr[4])
        image(bootLoader, "\\EFI\\debian\\grubx64.efi", into: pcr[4])
        ipl("(hd0,gpt2)/boot/grub/grub.cfg", Array("menu".utf8), into: pcr[9])
        ipl("(hd0,gpt2)/vmlinuz-6.1", kernel, into: pcr[9])
        image(kernel, "\\vmlinuz-6.1", into: pcr[4])
        ipl("kernel_cmdline: " + commandLine, Array(commandLine.utf8), into: pcr[8])
        ipl("(hd0,gpt2)/initrd.img-6.1", initialRAMDisk, into: pcr[9])
        return writer.bytes
    }
}
