import HoldfastCrypto
public import HoldfastTPMWire

/// What was before an era began, and why it began.
///
/// docs/spec/ledger.md, "Eras".
public struct LedgerGenesis: Sendable, Hashable {
    /// Why a new era began.
    public enum Cause: UInt8, Sendable, Hashable, CaseIterable, CustomStringConvertible {
        /// The ledger of this enrollment begins.
        case first = 1
        /// The TPM's counter is ahead of the ledger: an old copy, or somebody else raised it.
        case rollback = 2
        /// The counter is behind the ledger: it was lost.
        case counterLost = 3
        /// Records were damaged, and what verifies was kept.
        case repair = 4

        public var description: String {
            switch self {
            case .first: "FIRST"
            case .rollback: "ROLLBACK_SUSPECT"
            case .counterLost: "COUNTER_LOST"
            case .repair: "LEDGER_REPAIR"
            }
        }
    }

    public var cause: Cause
    /// 0 for the first one.
    public var previousEra: UInt64
    public var previousSize: UInt64
    /// 32 bytes; zeros for the first one.
    public var previousRoot: [UInt8]
    /// How far the counter and the ledger were apart.
    public var distance: UInt64
    /// Totals up to here, from the last certified checkpoint: limits go on counting from them.
    public var totals: MeterSums

    public init(
        cause: Cause, previousEra: UInt64, previousSize: UInt64, previousRoot: [UInt8],
        distance: UInt64, totals: MeterSums
    ) {
        self.cause = cause
        self.previousEra = previousEra
        self.previousSize = previousSize
        self.previousRoot = previousRoot
        self.distance = distance
        self.totals = totals
    }

    /// The genesis of an enrollment's first era.
    public static let first = LedgerGenesis(
        cause: .first, previousEra: 0, previousSize: 0,
        previousRoot: [UInt8](repeating: 0, count: 32), distance: 0, totals: MeterSums())

    /// The bytes; their SHA-256 is the payload hash of the era's first record.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: 128)
        writer.uint8(cause.rawValue)
        writer.uint64(previousEra)
        writer.uint64(previousSize)
        writer.raw(previousRoot)
        writer.uint64(distance)
        totals.encode(into: &writer)
        return writer.bytes
    }

    /// Reads a genesis.
    public init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        let number = try reader.uint8()
        guard let cause = Cause(rawValue: number) else {
            throw .unknownValue(field: "cause", value: UInt64(number))
        }
        self.cause = cause
        previousEra = try reader.uint64()
        previousSize = try reader.uint64()
        previousRoot = try reader.bytes(32)
        distance = try reader.uint64()
        totals = try MeterSums(from: &reader)
        try reader.finish()
    }
}

/// The head of a ledger at a step of the TPM's ledger counter.
///
/// The TPM certifies the counter with the hash of these bytes: value, clock, resets and signature in
/// one command.
///
/// docs/spec/ledger.md, "Checkpoint".
public struct Checkpoint: Sendable, Hashable {
    /// Who signs it.
    public enum Grade: UInt8, Sendable, Hashable, CaseIterable, CustomStringConvertible {
        /// The ledger key, which signs in an approved boot state alone.
        case certified = 1
        /// The attestation key, in any boot state.
        case unapprovedBoot = 2

        public var description: String {
            self == .certified ? "certified" : "unapproved-boot"
        }
    }

    /// 32 bytes.
    public var pairwiseID: [UInt8]
    public var incarnation: UInt32
    /// The counter's value at the era's first checkpoint.
    public var era: UInt64
    /// v: the value at which this one is certified.
    public var counter: UInt64
    /// H(checkpoint, …) of the one before; zeros for the era's first.
    public var previous: [UInt8]
    public var size: UInt64
    /// 32 bytes.
    public var root: [UInt8]
    public var sums: MeterSums
    /// SHA-256 of the last receipt's section; zeros without one.
    public var receiptHash: [UInt8]
    /// SHA-256 of the last applied reply header's section; zeros without one.
    public var replyHash: [UInt8]
    /// What the vendor is said to have said last: hashes of the reply's header and of the receipt, as
    /// far as there are any.
    public var heard: [[UInt8]] { [replyHash, receiptHash].filter { $0.contains { $0 != 0 } } }
    /// As it was read before the counter was raised.
    public var clock: ClockInfo
    public var grade: Grade

    public init(
        pairwiseID: [UInt8], incarnation: UInt32, era: UInt64, counter: UInt64,
        previous: [UInt8], size: UInt64, root: [UInt8], sums: MeterSums, receiptHash: [UInt8],
        replyHash: [UInt8], clock: ClockInfo, grade: Grade
    ) {
        self.pairwiseID = pairwiseID
        self.incarnation = incarnation
        self.era = era
        self.counter = counter
        self.previous = previous
        self.size = size
        self.root = root
        self.sums = sums
        self.receiptHash = receiptHash
        self.replyHash = replyHash
        self.clock = clock
        self.grade = grade
    }

    /// The bytes.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: 320)
        writer.raw(pairwiseID)
        writer.uint32(incarnation)
        writer.uint64(era)
        writer.uint64(counter)
        writer.raw(previous)
        writer.uint64(size)
        writer.raw(root)
        sums.encode(into: &writer)
        writer.raw(receiptHash)
        writer.raw(replyHash)
        clock.encode(into: &writer)
        writer.uint8(grade.rawValue)
        return writer.bytes
    }

    /// Reads a checkpoint; the certification says whether it counts.
    public init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        pairwiseID = try reader.bytes(32)
        incarnation = try reader.uint32()
        era = try reader.uint64()
        counter = try reader.uint64()
        previous = try reader.bytes(32)
        size = try reader.uint64()
        root = try reader.bytes(32)
        sums = try MeterSums(from: &reader)
        receiptHash = try reader.bytes(32)
        replyHash = try reader.bytes(32)
        clock = try ClockInfo(from: &reader)
        let number = try reader.uint8()
        guard let grade = Grade(rawValue: number) else {
            throw .unknownValue(field: "grade", value: UInt64(number))
        }
        self.grade = grade
        try reader.finish()
        guard era <= counter, size <= LedgerRange.maximumSize else {
            throw .unknownValue(field: "era", value: era)
        }
    }

    /// The qualifying data of the certification: H(checkpoint, bytes).
    public var hash: [UInt8] { framedHash(.checkpoint, encoded) }
}
