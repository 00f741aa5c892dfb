import HoldfastCrypto
public import HoldfastTPMWire

/// A node of the ledger's tree: a hash, and the totals of everything below it.
public struct LedgerNode: Sendable, Hashable {
    /// 32 bytes.
    public var hash: [UInt8]
    public var sums: MeterSums

    public init(hash: [UInt8], sums: MeterSums) {
        self.hash = hash
        self.sums = sums
    }

    /// The tree of no records: the hash of nothing, as RFC 6962 has it.
    public static let empty = LedgerNode(hash: HashAlgorithm.sha256.digest([]), sums: MeterSums())

    /// The node above two others.
    ///
    /// Each child's totals are hashed with it: if only their sum were, inner totals could lie.
    public init(left: LedgerNode, right: LedgerNode) throws(LedgerError) {
        var writer = WireWriter(capacity: 128)
        writer.uint8(0x01)
        writer.raw(left.hash)
        left.sums.encode(into: &writer)
        writer.raw(right.hash)
        right.sums.encode(into: &writer)
        hash = HashAlgorithm.sha256.digest(writer.bytes)
        sums = try left.sums.adding(right.sums)
    }
}

/// The nodes that cover a run of records: what a tree needs to grow, and what a proof consists of.
///
/// The nodes are the largest whole subtrees of the tree of RFC 6962 that lie inside the run, from
/// left to right. A run that begins at 0 is the frontier of a tree.
///
/// docs/spec/ledger.md, "Tree".
public struct LedgerRange: Sendable, Hashable {
    /// The records from ``start`` up to and without ``end``.
    public let start: UInt64
    public private(set) var end: UInt64
    private var nodes: [Placed]

    private struct Placed: Sendable, Hashable {
        /// Its subtree has 2^level records.
        var level: UInt8
        /// Which one of its level.
        var index: UInt64
        var node: LedgerNode
    }

    /// Above this many records nothing is appended; no machine gets there.
    public static let maximumSize: UInt64 = 1 << 62

    /// A run without records.
    public init(at start: UInt64 = 0) {
        self.start = start
        end = start
        nodes = []
    }

    /// Appends a record.
    public mutating func append(_ leaf: LedgerNode) throws(LedgerError) {
        try push(Placed(level: 0, index: end, node: leaf))
        end += 1
    }

    private mutating func push(_ placed: Placed) throws(LedgerError) {
        var top = placed
        var kept = nodes.count
        while kept > 0 {
            let left = nodes[kept - 1]
            guard left.level == top.level, left.index % 2 == 0, left.index + 1 == top.index else {
                break
            }
            top = Placed(
                level: top.level + 1, index: top.index / 2,
                node: try LedgerNode(left: left.node, right: top.node))
            kept -= 1
        }
        // Nothing was changed until here: a total that overflows leaves the run as it was.
        nodes.removeSubrange(kept...)
        nodes.append(top)
    }

    /// Appends the run that begins where this one ends.
    ///
    /// - Throws: `.inconsistent` when it begins elsewhere.
    public mutating func append(_ next: LedgerRange) throws(LedgerError) {
        guard next.start == end else { throw .inconsistent }
        var longer = self
        for placed in next.nodes { try longer.push(placed) }
        longer.end = next.end
        self = longer
    }

    /// What the records add up to.
    public func sums() throws(LedgerError) -> MeterSums {
        var sums = MeterSums()
        for placed in nodes { sums = try sums.adding(placed.node.sums) }
        return sums
    }

    /// The root of the tree.
    ///
    /// - Precondition: the run begins at 0; of another one it is no tree's root.
    public func root() throws(LedgerError) -> LedgerNode {
        guard var root = nodes.last?.node else { return .empty }
        for placed in nodes.dropLast().reversed() {
            root = try LedgerNode(left: placed.node, right: root)
        }
        return root
    }

    // MARK: Bytes

    /// Where the nodes of a run are; the run alone says it.
    private static func places(_ start: UInt64, _ end: UInt64) -> [(level: UInt8, index: UInt64)] {
        var places: [(UInt8, UInt64)] = []
        var position = start
        while position < end {
            var level: UInt8 = 0
            // The largest whole subtree that begins here and ends inside.
            while level < 62, position & (1 << level) == 0, position + (2 << level) <= end {
                level += 1
            }
            places.append((level, position >> level))
            position += 1 << level
        }
        return places
    }

    /// Appends the encoding: u64 start, u64 end, then hash and sums of each node.
    public func encode(into writer: inout WireWriter) {
        writer.uint64(start)
        writer.uint64(end)
        for placed in nodes {
            writer.raw(placed.node.hash)
            placed.node.sums.encode(into: &writer)
        }
    }

    /// Reads a run; nothing of it is proved.
    public init(from reader: inout WireReader) throws(WireError) {
        start = try reader.uint64()
        end = try reader.uint64()
        guard start <= end, end <= Self.maximumSize else {
            throw .unknownValue(field: "range", value: end)
        }
        nodes = []
        for place in Self.places(start, end) {
            nodes.append(
                Placed(
                    level: place.level, index: place.index,
                    node: LedgerNode(
                        hash: try reader.bytes(32), sums: try MeterSums(from: &reader))))
        }
    }
}

/// Proof that a ledger only grew from one head to another.
///
/// docs/spec/ledger.md, "Consistency".
public struct LedgerConsistency: Sendable, Hashable {
    /// The frontier of the earlier head.
    public let before: LedgerRange
    /// What came after it.
    public let after: LedgerRange

    public init(before: LedgerRange, after: LedgerRange) {
        self.before = before
        self.after = after
    }

    /// The earlier and the later root, computed from the proof.
    ///
    /// - Throws: `.inconsistent` when the runs do not meet.
    public func roots() throws(LedgerError) -> (before: LedgerNode, after: LedgerNode) {
        guard before.start == 0 else { throw .inconsistent }
        var whole = before
        try whole.append(after)
        return (try before.root(), try whole.root())
    }

    /// The bytes.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: 512)
        before.encode(into: &writer)
        after.encode(into: &writer)
        return writer.bytes
    }

    /// Reads a proof; nothing of it is proved.
    public init(decoding bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        before = try LedgerRange(from: &reader)
        after = try LedgerRange(from: &reader)
        try reader.finish()
    }
}
