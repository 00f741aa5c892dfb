public import HoldfastTPMWire

/// Totals by meter and version of the terms, in ascending order and without zeros.
///
/// docs/spec/ledger.md, "Sums".
public struct MeterSums: Sendable, Hashable {
    /// One total.
    public struct Entry: Sendable, Hashable {
        /// The number of a meter in the ledger's dictionary.
        public var meter: UInt32
        public var termsVersion: UInt32
        public var total: UInt64

        public init(meter: UInt32, termsVersion: UInt32, total: UInt64) {
            self.meter = meter
            self.termsVersion = termsVersion
            self.total = total
        }

        fileprivate func precedes(_ other: Entry) -> Bool {
            (meter, termsVersion) < (other.meter, other.termsVersion)
        }
    }

    public private(set) var entries: [Entry]

    /// The most totals of a ledger.
    public static let maximumEntries = 256

    /// No totals.
    public init() { entries = [] }

    /// The sums of one record.
    public init(_ entry: Entry) { entries = entry.total == 0 ? [] : [entry] }

    /// A total; zero where there is none.
    public subscript(meter: UInt32, termsVersion: UInt32) -> UInt64 {
        entries.first { $0.meter == meter && $0.termsVersion == termsVersion }?.total ?? 0
    }

    /// The sums of two parts of a ledger.
    ///
    /// - Throws: `.sumOverflow` when a total does not fit, `.tooManyMeters`.
    public func adding(_ other: MeterSums) throws(LedgerError) -> MeterSums {
        if other.entries.isEmpty { return self }
        if entries.isEmpty { return other }
        var merged = MeterSums()
        merged.entries.reserveCapacity(entries.count + 1)
        var (left, right) = (0, 0)
        while left < entries.count || right < other.entries.count {
            if right == other.entries.count
                || (left < entries.count && entries[left].precedes(other.entries[right]))
            {
                merged.entries.append(entries[left])
                left += 1
            } else if left == entries.count || other.entries[right].precedes(entries[left]) {
                merged.entries.append(other.entries[right])
                right += 1
            } else {
                let (total, overflow) = entries[left].total.addingReportingOverflow(
                    other.entries[right].total)
                guard !overflow else { throw .sumOverflow }
                merged.entries.append(
                    Entry(
                        meter: entries[left].meter, termsVersion: entries[left].termsVersion,
                        total: total))
                left += 1
                right += 1
            }
        }
        guard merged.entries.count <= Self.maximumEntries else { throw .tooManyMeters }
        return merged
    }

    /// For each meter the larger total.
    ///
    /// - Throws: `.tooManyMeters`.
    public func larger(_ other: MeterSums) throws(LedgerError) -> MeterSums {
        var totals = self
        for entry in other.entries {
            if let place = totals.entries.firstIndex(where: {
                $0.meter == entry.meter && $0.termsVersion == entry.termsVersion
            }) {
                totals.entries[place].total = max(totals.entries[place].total, entry.total)
            } else {
                totals.entries.append(entry)
            }
        }
        guard totals.entries.count <= Self.maximumEntries else { throw .tooManyMeters }
        totals.entries.sort { $0.precedes($1) }
        return totals
    }

    /// Appends the encoding: u16 count, then u32, u32 and u64 for each.
    public func encode(into writer: inout WireWriter) {
        writer.uint16(UInt16(entries.count))
        for entry in entries {
            writer.uint32(entry.meter)
            writer.uint32(entry.termsVersion)
            writer.uint64(entry.total)
        }
    }

    /// Reads the one encoding.
    public init(from reader: inout WireReader) throws(WireError) {
        let count = Int(try reader.uint16())
        guard count <= Self.maximumEntries else {
            throw .tooLong(field: "sums", length: count, maximum: Self.maximumEntries)
        }
        entries = []
        for _ in 0..<count {
            let entry = Entry(
                meter: try reader.uint32(), termsVersion: try reader.uint32(),
                total: try reader.uint64())
            guard entry.total > 0, entries.last.map({ $0.precedes(entry) }) ?? true else {
                throw .unknownValue(field: "sums", value: UInt64(entry.meter))
            }
            entries.append(entry)
        }
    }
}

/// Why a ledger, a checkpoint or a proof is refused.
public enum LedgerError: Error, Sendable, Hashable {
    /// A total would be larger than 64 bits.
    case sumOverflow
    /// More meters and versions than a ledger has.
    case tooManyMeters
    /// A quantity of nothing.
    case nothingToCount
    /// A proof that does not lead from one head to the other.
    case inconsistent
}
