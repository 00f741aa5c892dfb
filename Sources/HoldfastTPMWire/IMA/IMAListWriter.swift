public import HoldfastCrypto

/// Writes a measurement list as a kernel would, little-endian.
///
/// For simulated machines and for tests; what it writes, ``IMAListParser`` reads back.
public struct IMAListWriter: Sendable {
    /// An entry as a kernel extends and logs it.
    public struct Record: Sendable, Hashable {
        /// The entry in `binary_runtime_measurements`.
        public let bytes: [UInt8]
        /// The data that is hashed.
        public let data: [UInt8]
        private let isViolation: Bool

        fileprivate init(bytes: [UInt8], data: [UInt8], isViolation: Bool) {
            self.bytes = bytes
            self.data = data
            self.isViolation = isViolation
        }

        /// What the kernel extends into a bank: the hash over the data, or ones for a violation.
        public func extended(_ bank: HashAlgorithm) -> [UInt8] {
            isViolation
                ? [UInt8](repeating: 0xFF, count: bank.digestSize) : bank.digest(data)
        }

        /// What a kernel before Linux 5.8, or one without the bank's hash, extends: SHA-1 and zeros.
        public func padded(_ bank: HashAlgorithm) -> [UInt8] {
            extended(.sha1) + [UInt8](repeating: 0, count: bank.digestSize - 20)
        }
    }

    /// The list so far.
    public private(set) var bytes: [UInt8] = []
    /// The entries so far.
    public private(set) var records: [Record] = []

    /// Begins an empty list.
    public init() {}

    /// Records a file with the template `ima-ng`.
    ///
    /// - Returns: what to extend into PCR 10.
    @discardableResult
    public mutating func measure(_ path: String, digest: IMAEntry.Digest) -> Record {
        append("ima-ng", fields: [Self.field(digest), Array(path.utf8) + [0]])
    }

    /// Records that a file could not be measured, since somebody wrote to it.
    @discardableResult
    public mutating func violation(_ path: String) -> Record {
        let digest = IMAEntry.Digest(
            kind: "ima", algorithm: "sha256", bytes: [UInt8](repeating: 0, count: 32))
        return append(
            "ima-ng", fields: [Self.field(digest), Array(path.utf8) + [0]], isViolation: true)
    }

    /// Records what the kernel measured before any file: the hash over the registers of the boot.
    @discardableResult
    public mutating func bootAggregate(
        of values: PCRValues, bank: HashAlgorithm, through last: UInt8
    ) -> Record {
        let joined = PCRIndex.all.prefix(Int(last) + 1).map { values[bank, $0] ?? [] }.joined()
        return measure(
            "boot_aggregate",
            digest: IMAEntry.Digest(
                kind: "ima", algorithm: bank.name, bytes: bank.digest([UInt8](joined))))
    }

    /// Adds an entry with these fields; nothing is checked.
    @discardableResult
    public mutating func append(
        _ template: String, fields: [[UInt8]], pcr: UInt32 = 10, isViolation: Bool = false
    ) -> Record {
        var data: [UInt8] = []
        var entry: [UInt8] = []
        entry.append(littleEndian: pcr)
        if template == "ima" {
            data = fields[0] + fields[1]
            data += [UInt8](repeating: 0, count: max(0, 276 - data.count))
        } else {
            for field in fields {
                data.append(littleEndian: UInt32(field.count))
                data += field
            }
        }
        entry +=
            isViolation ? [UInt8](repeating: 0, count: 20) : HashAlgorithm.sha1.digest(data)
        entry.append(littleEndian: UInt32(template.utf8.count))
        entry += Array(template.utf8)
        if template == "ima" {
            entry += fields[0]
            entry.append(littleEndian: UInt32(fields[1].count))
            entry += fields[1]
        } else {
            entry.append(littleEndian: UInt32(data.count))
            entry += data
        }
        let record = Record(bytes: entry, data: data, isViolation: isViolation)
        records.append(record)
        bytes += entry
        return record
    }

    /// A digest as a field: `d-ng`, or `d-ngv2` when its kind is not that of a file's content.
    public static func field(_ digest: IMAEntry.Digest) -> [UInt8] {
        Array((digest.kind == "ima" ? "" : digest.kind + ":").utf8)
            + Array(digest.algorithm.utf8) + [0x3A, 0] + digest.bytes
    }
}
