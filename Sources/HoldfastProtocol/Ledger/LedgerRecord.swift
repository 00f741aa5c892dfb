import HoldfastCrypto
public import HoldfastTPMWire

/// One entry of a usage ledger, 81 bytes.
///
/// docs/spec/ledger.md, "Record".
public struct LedgerRecord: Sendable, Hashable {
    /// What an entry is about.
    public enum Kind: UInt8, Sendable, Hashable, CaseIterable {
        /// Something was used.
        case usage = 1
        /// A meter got its number; the payload is its name.
        case meter = 2
        /// The first entry of an era; the payload says what was before.
        case genesis = 3
    }

    /// From 0 in each era.
    public var sequence: UInt64
    public var meter: UInt32
    /// The version of the terms under which it was used; part of what totals are kept for.
    public var termsVersion: UInt32
    /// 1 and more for usage, 0 for everything else.
    public var quantity: UInt32
    /// The TPM's clock as it was last read.
    public var ticks: UInt64
    /// Days since 1970 on the device's own clock: a hint, and nothing is rated by it.
    public var day: UInt32
    public var kind: Kind
    /// SHA-256 of the payload; zeros without one.
    public var payloadHash: [UInt8]
    /// 16 bytes, so that a leaf says nothing of what it is of.
    public var salt: [UInt8]

    /// The length of the encoding.
    public static let size = 81

    public init(
        sequence: UInt64, meter: UInt32, termsVersion: UInt32, quantity: UInt32, ticks: UInt64,
        day: UInt32, kind: Kind, payloadHash: [UInt8], salt: [UInt8]
    ) {
        self.sequence = sequence
        self.meter = meter
        self.termsVersion = termsVersion
        self.quantity = quantity
        self.ticks = ticks
        self.day = day
        self.kind = kind
        self.payloadHash = payloadHash
        self.salt = salt
    }

    /// The bytes.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: Self.size)
        writer.uint64(sequence)
        writer.uint32(meter)
        writer.uint32(termsVersion)
        writer.uint32(quantity)
        writer.uint64(ticks)
        writer.uint32(day)
        writer.uint8(kind.rawValue)
        writer.raw(payloadHash)
        writer.raw(salt)
        return writer.bytes
    }

    /// Reads a record.
    public init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        sequence = try reader.uint64()
        meter = try reader.uint32()
        termsVersion = try reader.uint32()
        quantity = try reader.uint32()
        ticks = try reader.uint64()
        day = try reader.uint32()
        let number = try reader.uint8()
        guard let kind = Kind(rawValue: number) else {
            throw .unknownValue(field: "kind", value: UInt64(number))
        }
        self.kind = kind
        guard (kind == .usage) == (quantity > 0) else {
            throw .unknownValue(field: "quantity", value: UInt64(quantity))
        }
        payloadHash = try reader.bytes(32)
        salt = try reader.bytes(16)
        try reader.finish()
    }

    /// The leaf of the tree: SHA-256 of 0x00 and the record, with what it adds to the totals.
    public var node: LedgerNode { node(encoded: encoded) }

    /// The leaf, for whoever has the encoding at hand.
    ///
    /// - Parameter bytes: ``encoded`` of this record.
    public func node(encoded bytes: [UInt8]) -> LedgerNode {
        LedgerNode(
            hash: HashAlgorithm.sha256.digest([0x00], bytes),
            sums: MeterSums(
                .init(meter: meter, termsVersion: termsVersion, total: UInt64(quantity))))
    }
}
