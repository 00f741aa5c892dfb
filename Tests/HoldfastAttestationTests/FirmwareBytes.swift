/// What firmware measures, byte by byte.
enum FirmwareBytes {
    /// `EFI_GLOBAL_VARIABLE`.
    static let global: [UInt8] = [
        0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B,
        0x8C,
    ]
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`.
    static let security: [UInt8] = [
        0xCB, 0xB2, 0x19, 0xD7, 0x3A, 0x3D, 0x96, 0x45, 0xA3, 0xBC, 0xDA, 0xD0, 0x0E, 0x67, 0x65,
        0x6F,
    ]

    static func little(_ value: Int, _ size: Int) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    static func wide(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    }

    static func variable(_ name: String, _ vendor: [UInt8], _ data: [UInt8]) -> [UInt8] {
        vendor + little(name.utf16.count, 8) + little(data.count, 8) + wide(name) + data
    }

    /// A list of SHA-256, as dbx has it.
    static func hashes(_ hashes: [[UInt8]]) -> [UInt8] {
        [
            0x26, 0x16, 0xC4, 0xC1, 0x4C, 0x50, 0x92, 0x40, 0xAC, 0xA9, 0x41, 0xF9, 0x36, 0x93,
            0x43, 0x28,
        ] + little(28 + 48 * hashes.count, 4) + little(0, 4) + little(48, 4)
            + hashes.flatMap { [UInt8](repeating: 9, count: 16) + $0 }
    }
}
