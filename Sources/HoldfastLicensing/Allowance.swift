public import HoldfastProtocol

/// What the ledger of a device says was used, and how far that can be relied on.
public struct KnownUsage: Sendable, Hashable {
    /// By the name of the meter, as the ledger counts: what the present era began with, and what came
    /// since.
    public var totals: [String: UInt64]
    /// Which era; `nil` before its first checkpoint.
    public var era: UInt64?
    /// Why the era began.
    public var cause: LedgerGenesis.Cause
    /// A later era counts on from something that the TPM sealed or the vendor acknowledged.
    public var isContinued: Bool

    public init(
        totals: [String: UInt64], era: UInt64?, cause: LedgerGenesis.Cause, isContinued: Bool
    ) {
        self.totals = totals
        self.era = era
        self.cause = cause
        self.isContinued = isContinued
    }

    /// What a meter counts, as the vendor counts it who issued a lease.
    ///
    /// - Returns: `nil` when the ledger that the vendor knew is lost: to lose it refills nothing.
    func total(_ meter: String, under statement: LeaseStatement) -> UInt64? {
        let isTheSame = era != nil && era == statement.era
        let isKnown =
            switch cause {
            case .first: isTheSame || statement.era == nil
            // The TPM has sealed what is not here.
            case .rollback: isTheSame
            case .counterLost, .repair: isTheSame || isContinued
            }
        return isKnown ? totals[meter] ?? 0 : nil
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
    /// More was used than the limit.
    public var isPassed: Bool { used ?? 0 > limit }

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
}
