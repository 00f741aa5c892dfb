public import HoldfastTPMWire

/// What differs between the event logs of two boots, register by register.
///
/// Events are the same when their digests are: what they say of themselves does not count.
public struct BootDifference: Sendable, Hashable, Codable {
    /// An event that one boot has and the other one has not in that place.
    public struct Change: Sendable, Hashable, Codable {
        /// `removed` from the first boot, or `added` in the second.
        public let change: String
        public let event: Int
        public let what: String
        public let isMeasured: Bool
    }

    /// One register.
    public struct Register: Sendable, Hashable, Codable {
        public let pcr: Int
        public let changes: [Change]
    }

    /// In ascending order; only registers that differ.
    public let registers: [Register]

    /// More events of a register than this are compared from both ends alone.
    private static let mostCompared = 1000

    /// Compares two boots.
    ///
    /// - Throws: when a log cannot be read.
    public init(from first: [UInt8], to second: [UInt8]) throws(EventLogError) {
        let old = try Self.steps(first)
        let new = try Self.steps(second)
        registers = PCRIndex.all.compactMap { index in
            let changes = Self.changes(old[index] ?? [], new[index] ?? [])
            return changes.isEmpty ? nil : Register(pcr: Int(index.rawValue), changes: changes)
        }
    }

    private struct Step: Hashable {
        let digests: [BootEvent.Digest]
        let step: BootStep

        /// The same in every bank that both have; without a common bank never.
        func isSame(_ other: Step) -> Bool {
            var isCommon = false
            for digest in digests {
                guard let match = other.digests.first(where: { $0.algorithm == digest.algorithm })
                else { continue }
                guard match.bytes == digest.bytes else { return false }
                isCommon = true
            }
            return isCommon
        }
    }

    private static func steps(_ bytes: [UInt8]) throws(EventLogError) -> [PCRIndex: [Step]] {
        let log = try EventLog(parsing: bytes)
        var steps: [PCRIndex: [Step]] = [:]
        for step in BootStep.timeline(log) {
            guard let index = log.events[step.event].extendedPCR else { continue }
            steps[index, default: []].append(
                Step(digests: log.events[step.event].digests, step: step))
        }
        return steps
    }

    private static func changes(_ old: [Step], _ new: [Step]) -> [Change] {
        var start = 0
        while start < min(old.count, new.count), old[start].isSame(new[start]) { start += 1 }
        var end = 0
        while end < min(old.count, new.count) - start,
            old[old.count - 1 - end].isSame(new[new.count - 1 - end])
        {
            end += 1
        }
        let before = Array(old[start..<old.count - end])
        let after = Array(new[start..<new.count - end])
        var removed = before
        var added = after
        if max(before.count, after.count) <= mostCompared {
            let difference = after.difference(from: before) { $0.isSame($1) }
            removed = []
            added = []
            for change in difference {
                switch change {
                case .remove(_, let step, _): removed.append(step)
                case .insert(_, let step, _): added.append(step)
                }
            }
        }
        func told(_ steps: [Step], _ change: String) -> [Change] {
            steps.map(\.step).sorted { $0.event < $1.event }.map {
                Change(
                    change: change, event: $0.event, what: $0.what, isMeasured: $0.isMeasured)
            }
        }
        return told(removed, "removed") + told(added, "added")
    }

    /// A line for each event.
    public var text: String {
        guard !registers.isEmpty else { return "the boots do not differ" }
        return registers.map { register in
            (["PCR \(register.pcr)"]
                + register.changes.map { change in
                    "  \(change.change == "added" ? "+" : "-") \(change.event)  \(change.what)"
                        + (change.isMeasured ? "" : " (claimed)")
                }).joined(separator: "\n")
        }.joined(separator: "\n")
    }
}
