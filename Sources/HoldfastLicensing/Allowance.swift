public import HoldfastProtocol

/// What the ledger of a device says was used, and which ledger it is.
public struct KnownUsage: Sendable, Hashable {
    /// By the name of the meter, as the ledger counts: what the present era began with, and what came
    /// since.
    public var totals: [String: UInt64]
    /// Which era; `nil` before its first checkpoint.
    public var era: UInt64?
    /// Why the era began.
    public var cause: LedgerGenesis.Cause

    public init(totals: [String: UInt64], era: UInt64?, cause: LedgerGenesis.Cause) {
        self.totals = totals
        self.era = era
        self.cause = cause
    }

    /// What a meter counts, in the ledger that the vendor knew when he issued a lease.
    ///
    /// - Returns: `nil` when it is another ledger by now, or lacks what the vendor has settled of it:
    ///   to lose it refills nothing.
    func total(_ meter: String, under statement: LeaseStatement) -> UInt64? {
        guard statement.era.map({ $0 == era }) ?? (cause == .first) else { return nil }
        let total = totals[meter] ?? 0
        return total >= statement.settled[meter] ?? 0 ? total : nil
    }

    /// The same ledger read once more; two readings may come in any order, and usage only rises.
    func later(_ other: KnownUsage) -> KnownUsage {
        let isTheSame = cause == other.cause && (era == nil || other.era == nil || era == other.era)
        guard isTheSame else { return other }
        return KnownUsage(
            totals: totals.merging(other.totals, uniquingKeysWith: max), era: other.era ?? era,
            cause: cause)
    }
}

/// How much of a limited entitlement may be used, and was.
public struct Allowance: Sendable, Hashable {
    /// As the license has it.
    public let limit: UInt64
    /// What is left; `nil` when the ledger that counted is lost.
    public let left: UInt64?
    /// What was used under this license; `nil` when that is not known.
    public let used: UInt64?

    /// Nothing is left, as far as anybody can tell.
    public var isSpent: Bool { left ?? 0 == 0 }

    /// What is left of a limit when so much was used.
    init(limit: UInt64, used: UInt64) {
        self.limit = limit
        self.used = used
        left = limit > used ? limit - used : 0
    }

    /// - Parameters:
    ///   - usage: `nil` when the ledger could not be read.
    /// - Returns: `nil` when the entitlement has no limit in this lease.
    init?(_ entitlement: License.Entitlement, _ statement: LeaseStatement, _ usage: KnownUsage?) {
        guard let limit = entitlement.limit, let most = statement.allowances[entitlement.name]
        else { return nil }
        self.limit = limit
        let total = usage?.total(entitlement.name, under: statement)
        left = total.map { most > $0 ? most - $0 : 0 }
        used = total.map { total in
            let sum = total.saturating(limit)
            return sum > most ? sum - most : 0
        }
    }

    /// Whether it goes on, and is counted, although the limit is used up.
    func isOverage(_ terms: Terms, _ entitlement: String) -> Bool {
        left == 0 && (terms.overage == .count || terms.enforcement(of: entitlement) == .advisory)
    }
}
