import FoundationEssentials
import HoldfastCrypto
import HoldfastTPMWire
import SwiftASN1
import X509

/// Reads little-endian data of firmware; what is not there is `nil`.
struct FirmwareReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: some Collection<UInt8>) { rest = [UInt8](bytes)[...] }

    var remaining: Int { rest.count }

    mutating func bytes(_ count: UInt64) -> [UInt8]? {
        guard count <= UInt64(rest.count) else { return nil }
        defer { rest = rest.dropFirst(Int(count)) }
        return [UInt8](rest.prefix(Int(count)))
    }

    mutating func number(_ size: UInt64) -> UInt64? {
        bytes(size)?.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    mutating func uint16() -> UInt64? { number(2) }
    mutating func uint32() -> UInt64? { number(4) }
    mutating func uint64() -> UInt64? { number(8) }

    mutating func all() -> [UInt8] {
        defer { rest = [] }
        return [UInt8](rest)
    }
}

/// Text in 16-bit units up to a zero, as firmware has it.
func firmwareText(_ bytes: [UInt8]) -> [UInt8] {
    var units: [UInt16] = []
    for place in stride(from: 0, to: bytes.count - 1, by: 2) {
        let unit = UInt16(bytes[place]) | UInt16(bytes[place + 1]) << 8
        guard unit != 0 else { break }
        units.append(unit)
    }
    return Array(String(decoding: units, as: UTF16.self).utf8)
}

/// Text as firmware has it in 16-bit units.
func firmwareBytes(_ text: String) -> [UInt8] {
    text.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
}

/// A GUID as people write it.
func guidText(_ bytes: [UInt8]) -> String {
    guard bytes.count == 16 else { return hexadecimal(bytes) }
    let order = [3, 2, 1, 0, 5, 4, 7, 6] + Array(8..<16)
    let text = hexadecimal(order.map { bytes[$0] })
    var parts: [Substring] = []
    var rest = text[...]
    for size in [8, 4, 4, 4, 12] {
        parts.append(rest.prefix(size))
        rest = rest.dropFirst(size)
    }
    return parts.joined(separator: "-")
}

/// A variable as firmware measures it.
///
/// `UEFI_VARIABLE_DATA`, PC Client Platform Firmware Profile.
struct FirmwareVariable {
    let vendor: [UInt8]
    /// In 16-bit units, as it is measured.
    let name: [UInt8]
    let data: [UInt8]
    /// Bytes behind its end.
    let excess: Int

    /// Old versions of shim log a few bytes more than their variables have.
    private static let mostExcess = 8

    init?(_ bytes: some Collection<UInt8>) {
        var reader = FirmwareReader(bytes)
        guard let vendor = reader.bytes(16), let characters = reader.uint64(),
            let size = reader.uint64(), characters <= UInt64(bytes.count) / 2,
            let name = reader.bytes(2 * characters), let data = reader.bytes(size),
            reader.remaining <= Self.mostExcess
        else { return nil }
        excess = reader.remaining
        self.vendor = vendor
        self.name = name
        self.data = data
    }

    /// `EFI_GLOBAL_VARIABLE`: 8BE4DF61-93CA-11D2-AA0D-00E098032B8C.
    static let global: [UInt8] = [
        0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B,
        0x8C,
    ]
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: D719B2CB-3D3A-4596-A3BC-DAD00E67656F.
    static let imageSecurity: [UInt8] = [
        0xCB, 0xB2, 0x19, 0xD7, 0x3A, 0x3D, 0x96, 0x45, 0xA3, 0xBC, 0xDA, 0xD0, 0x0E, 0x67, 0x65,
        0x6F,
    ]

    /// `SHIM_LOCK_GUID`: 605DAB50-E046-4300-ABB6-3DD810DD8B23.
    static let shim: [UInt8] = [
        0x50, 0xAB, 0x5D, 0x60, 0x46, 0xE0, 0x00, 0x43, 0xAB, 0xB6, 0x3D, 0xD8, 0x10, 0xDD, 0x8B,
        0x23,
    ]

    /// The content has the size of an owner and one hash, and is no list of them.
    ///
    /// SHA-1 to SHA-512 of an image; SHA-256 to SHA-512 of a certificate, with a time behind it. UEFI
    /// specification, "Signature Database".
    var mayBeHash: Bool {
        guard [20, 28, 32, 48, 64, 80].contains(data.count - 16) else { return false }
        return SignatureLists(data).map(\.isEmpty) ?? true
    }

    func isNamed(_ text: String, _ vendor: [UInt8]) -> Bool {
        self.vendor == vendor && name == firmwareBytes(text)
    }
}

extension BootEvent {
    /// The variable of the event, when its digests are those of what the log shows.
    ///
    /// The lengths in it are measured with it, so what stands behind its end changes nothing, be it
    /// part of what was measured or not.
    var measuredVariable: FirmwareVariable? {
        guard let variable = FirmwareVariable(untrustedData) else { return nil }
        let isMeasured = (0...variable.excess).contains { cut in
            measures([UInt8](untrustedData.dropLast(cut)))
        }
        return isMeasured ? variable : nil
    }
}

/// Certificates and hashes, as the variables PK, KEK, db and dbx hold them.
///
/// `EFI_SIGNATURE_LIST`, UEFI specification, "Signature Database".
struct SignatureLists {
    /// Whole certificates, in DER.
    private(set) var certificates: [[UInt8]] = []
    /// SHA-256 of images.
    private(set) var hashes: Set<[UInt8]> = []
    /// Of other kinds, such as hashes of certificates.
    private(set) var others = 0

    /// `EFI_CERT_SHA256_GUID`: C1C41626-504C-4092-ACA9-41F936934328.
    static let sha256: [UInt8] = [
        0x26, 0x16, 0xC4, 0xC1, 0x4C, 0x50, 0x92, 0x40, 0xAC, 0xA9, 0x41, 0xF9, 0x36, 0x93, 0x43,
        0x28,
    ]
    /// `EFI_CERT_X509_GUID`: A5C059A1-94E4-4AA7-87B5-AB155C2BF072.
    static let x509: [UInt8] = [
        0xA1, 0x59, 0xC0, 0xA5, 0xE4, 0x94, 0xA7, 0x4A, 0x87, 0xB5, 0xAB, 0x15, 0x5C, 0x2B, 0xF0,
        0x72,
    ]

    var isEmpty: Bool { certificates.isEmpty && hashes.isEmpty && others == 0 }

    /// Reads lists that fill the bytes; no byte is no list.
    init?(_ bytes: [UInt8]) {
        var reader = FirmwareReader(bytes)
        while reader.remaining > 0 {
            guard let type = reader.bytes(16), let size = reader.uint32(),
                let headerSize = reader.uint32(), let entrySize = reader.uint32(),
                size >= 28 + headerSize, entrySize >= 16, reader.bytes(headerSize) != nil,
                (size - 28 - headerSize) % entrySize == 0
            else { return nil }
            for _ in 0..<(size - 28 - headerSize) / entrySize {
                guard reader.bytes(16) != nil, let data = reader.bytes(entrySize - 16) else {
                    return nil
                }
                switch type {
                case Self.sha256 where data.count == 32: hashes.insert(data)
                case Self.x509: certificates.append(data)
                default: others += 1
                }
            }
        }
    }
}

/// A certificate that firmware measured.
public struct MeasuredCertificate: Sendable, Hashable, Codable {
    /// SHA-256 over the certificate, in hexadecimal.
    public let sha256: String
    /// Whose it is; `nil` when the certificate cannot be read.
    public let subject: String?

    init(_ der: [UInt8]) {
        sha256 = hexadecimal(HashAlgorithm.sha256.digest(der))
        let subject = (try? Certificate(derEncoded: der))?.subject
        self.subject = subject.map { printable($0.description.utf8) }
    }
}

/// Where an image came from, as far as a device path tells: the files in it.
///
/// UEFI specification, "EFI Device Path Protocol".
func devicePathText(_ bytes: [UInt8]) -> String? {
    var reader = FirmwareReader(bytes)
    var files: [String] = []
    while reader.remaining >= 4 {
        guard let type = reader.number(1), let subtype = reader.number(1),
            let length = reader.uint16(), length >= 4, let data = reader.bytes(length - 4)
        else { return nil }
        switch (type, subtype) {
        case (0x04, 0x04):
            files.append(printable(firmwareText(data).map { $0 == 0x5C ? 0x2F : $0 }))
        case (0x04, 0x06), (0x04, 0x07): files.append(guidText(data))
        case (0x03, 0x18): files.append(printable(data))
        case (0x7F, 0xFF): return files.isEmpty ? nil : files.joined(separator: "/")
        default: break
        }
    }
    return nil
}
