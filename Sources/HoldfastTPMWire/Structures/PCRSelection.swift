public import HoldfastCrypto

/// Which PCRs of which banks.
///
/// `TPML_PCR_SELECTION`, Part 2, section 10.9.7. What was received is kept: a bitmap of another
/// length selects the same PCRs and has another digest.
public struct PCRSelection: WireStructure, Sendable, Hashable {
    /// The selection in one bank: `TPMS_PCR_SELECTION`.
    public struct Bank: Sendable, Hashable {
        public let hash: HashAlgorithm
        /// One bit a PCR, PCR 0 lowest in the first octet; 1 to 4 octets.
        public let bitmap: [UInt8]

        /// The selected PCRs in ascending order.
        public var indexes: [PCRIndex] {
            var selected: [PCRIndex] = []
            selected.reserveCapacity(24)
            for (octet, bits) in bitmap.enumerated() where bits != 0 {
                for bit in 0..<8 where bits >> bit & 1 == 1 {
                    guard let index = PCRIndex(rawValue: UInt8(octet * 8 + bit)) else { break }
                    selected.append(index)
                }
            }
            return selected
        }
    }

    public let banks: [Bank]

    /// Selects PCRs of one bank, with a bitmap of three octets.
    public init(_ hash: HashAlgorithm, _ indexes: [PCRIndex]) {
        var bitmap: [UInt8] = [0, 0, 0]
        for index in indexes { bitmap[Int(index.rawValue / 8)] |= 1 << (index.rawValue % 8) }
        banks = [Bank(hash: hash, bitmap: bitmap)]
    }

    /// Joins selections of several banks in the order given.
    public init(joining selections: [PCRSelection]) { banks = selections.flatMap(\.banks) }

    /// No bank at all.
    public static let empty = PCRSelection(joining: [])

    /// No PCR is selected.
    public var isEmpty: Bool { banks.allSatisfy { $0.indexes.isEmpty } }

    /// The longest list: one bank for each hash that there is.
    static let maximumBanks: UInt32 = 16

    public func encode(into writer: inout WireWriter) {
        writer.uint32(UInt32(banks.count))
        for bank in banks {
            bank.hash.encode(into: &writer)
            writer.uint8(UInt8(bank.bitmap.count))
            writer.raw(bank.bitmap)
        }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let count = try reader.uint32()
        guard count <= Self.maximumBanks else {
            throw .tooLong(
                field: "pcrSelections", length: Int(count), maximum: Int(Self.maximumBanks))
        }
        var banks: [Bank] = []
        for _ in 0..<count {
            let hash = try HashAlgorithm(from: &reader, field: "hash")
            let octets = Int(try reader.uint8())
            guard (1...4).contains(octets) else {
                throw .unknownValue(field: "sizeofSelect", value: UInt64(octets))
            }
            banks.append(Bank(hash: hash, bitmap: try reader.bytes(octets)))
        }
        self.banks = banks
    }
}

/// Values of PCRs, by bank.
public struct PCRValues: Sendable, Hashable {
    /// One PCR of one bank.
    public struct Register: Sendable, Hashable, Comparable {
        public let hash: HashAlgorithm
        public let index: PCRIndex

        public init(_ hash: HashAlgorithm, _ index: PCRIndex) {
            self.hash = hash
            self.index = index
        }

        public func hash(into hasher: inout Hasher) {
            hasher.combine(UInt32(hash.id.rawValue) << 8 | UInt32(index.rawValue))
        }

        public static func < (left: Register, right: Register) -> Bool {
            (left.hash.id.rawValue, left.index) < (right.hash.id.rawValue, right.index)
        }
    }

    public private(set) var values: [Register: [UInt8]] = [:]

    public init() {}

    /// A register's value.
    ///
    /// - Precondition: on setting, the length is that of the bank's digest.
    public subscript(hash: HashAlgorithm, index: PCRIndex) -> [UInt8]? {
        get { values[Register(hash, index)] }
        set {
            precondition(newValue.map { $0.count == hash.digestSize } ?? true)
            values[Register(hash, index)] = newValue
        }
    }

    /// The digest that a quote or `PolicyPCR` holds: over the values in the order of the
    /// selection, banks as listed, PCRs ascending.
    ///
    /// - Returns: `nil` when a selected value is missing.
    ///
    /// Part 1, section 17.5 and Part 3 `TPM2_PolicyPCR`.
    public func digest(of selection: PCRSelection, hash: HashAlgorithm) -> [UInt8]? {
        var joined: [UInt8] = []
        for bank in selection.banks {
            for index in bank.indexes {
                guard let value = self[bank.hash, index] else { return nil }
                joined += value
            }
        }
        return hash.digest(joined)
    }
}
