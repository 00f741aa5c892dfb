import HoldfastAttestation
import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

/// What a device used.
public struct UsageReport: Sendable, Codable {
    public let device: String
    public let incarnation: UInt32
    /// Totals by meter, all eras together.
    public let totals: [String: UInt64]
    public let eras: Int
    /// A head contradicts another one: the larger totals count until somebody has looked.
    public let forked: Bool
    public let settledAt: UInt64?
}

/// What a device used, over eras.
///
/// An era says what was sealed before it began. That counts where it is more than what was settled:
/// seals that never arrived are not lost, and what was settled is never counted again.
private struct CountedUsage {
    private struct Place: Hashable {
        let meter: String
        let termsVersion: UInt32
    }
    private var counted: [Place: UInt64] = [:]

    /// Adds the next era; in ascending order.
    mutating func add(
        _ head: SettlementRecord, _ genesis: LedgerGenesis?, _ names: [UInt32: String]
    ) {
        func place(_ entry: MeterSums.Entry) -> Place {
            Place(
                meter: names[entry.meter] ?? "meter \(entry.meter)",
                termsVersion: entry.termsVersion)
        }
        // A name may have two numbers: a device says what it likes.
        let before = Dictionary(
            (genesis?.totals.entries ?? []).map { (place($0), $0.total) },
            uniquingKeysWith: Self.sum)
        counted.merge(before, uniquingKeysWith: max)
        for entry in head.totals.entries {
            counted[place(entry)] = Self.sum(counted[place(entry), default: 0], entry.total)
        }
    }

    /// By the name of the meter, all versions of terms together.
    var totals: [String: UInt64] {
        Dictionary(counted.map { ($0.key.meter, $0.value) }, uniquingKeysWith: Self.sum)
    }

    private static func sum(_ one: UInt64, _ other: UInt64) -> UInt64 {
        let (sum, overflow) = one.addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}

extension VendorService {
    /// Settles the ledger in evidence: once, and in whatever order evidence comes.
    ///
    /// - Returns: the receipt, the same one for the same checkpoint, and what an operator should
    ///   know.
    func settle(
        _ ledger: Evidence.Ledger, _ verified: VerifiedEvidence, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws -> (receipt: PASETOToken, notes: [String]) {
        let checkpoint = ledger.checkpoint
        if let known = try transaction.settlement(of: record.id, checkpoint: checkpoint.hash) {
            return (try PASETOToken(parsing: known.receipt), [])
        }
        let before = try transaction.head(of: record.id, era: checkpoint.era)
        let last = try transaction.settlements(of: record.id, limit: 1).first
        var notes: [String] = []
        var totals = checkpoint.sums
        var isForked = before?.isForked ?? false
        func fork(_ what: String) throws {
            isForked = true
            notes.append("FORK_SUSPECT: \(what)")
            try audit("ledger.fork", record.device, notes[notes.count - 1], transaction)
        }
        if let before {
            if Self.extends(checkpoint, before, ledger.consistency) {
                // A fork that an operator has not looked into keeps its larger totals.
                if isForked { totals = try totals.larger(before.totals) }
            } else {
                totals = try totals.larger(before.totals)
                try fork(
                    "the ledger of \(checkpoint.size) records does not continue the settled one of \(before.size)"
                )
            }
        } else if ledger.genesis.cause != .first {
            notes.append(
                "\(ledger.genesis.cause): a new era of the ledger began; the counter was off by \(ledger.genesis.distance)"
            )
            let settled = try transaction.heads(of: record.id).filter { $0.era < checkpoint.era }
            if let what = Self.isOlder(ledger.genesis, than: settled) {
                notes[0] += "; \(what)"
            }
            try audit("ledger.era", record.device, notes[0], transaction)
            if let what = Self.contradiction(of: ledger.genesis, settled) { try fork(what) }
        } else if last != nil {
            try fork("a ledger begins anew in era \(checkpoint.era), without a cause")
        }
        if let known = try transaction.genesis(of: record.id, era: checkpoint.era),
            known != ledger.genesis
        {
            try fork("era \(checkpoint.era) began with something else when it was settled before")
        }
        // Nothing is appended to an era once a later one began.
        if let last, checkpoint.era < last.era {
            try fork("era \(checkpoint.era) goes on, although era \(last.era) was settled")
        }
        let sequence = (last?.sequence ?? 0) + 1
        let unsigned = Receipt(
            incarnation: record.incarnation, era: checkpoint.era, checkpoint: checkpoint.hash,
            root: checkpoint.root, size: checkpoint.size, totals: totals,
            grade: "attested-" + checkpoint.grade.description, isForked: isForked,
            serverAt: now(), clock: checkpoint.clock, sequence: sequence)
        let receipt = try ring.withIssuerKey(keys, trust) {
            try unsigned.signed(for: record.attestationKey.name, with: $0)
        }
        try transaction.insert(
            SettlementRecord(
                enrollment: record.id, sequence: sequence, era: checkpoint.era,
                checkpoint: checkpoint.hash, root: checkpoint.root, size: checkpoint.size,
                totals: totals, isForked: isForked, at: now(), receipt: receipt.text))
        try transaction.insert(said: Reply.hash(ofSection: receipt), to: record.id)
        try transaction.insert(
            genesis: ledger.genesis, of: record.id, era: checkpoint.era)
        try insert(
            names: ledger.meters, of: [totals, ledger.genesis.totals], era: checkpoint.era,
            record, transaction)
        return (receipt, notes)
    }

    /// Whether an era goes on from before what was settled: then a copy of then was put back.
    private static func isOlder(
        _ genesis: LedgerGenesis, than settled: [SettlementRecord]
    ) -> String? {
        guard
            let newest = settled.max(by: { $0.era < $1.era }),
            (newest.era, newest.size) > (genesis.previousEra, genesis.previousSize)
        else { return nil }
        return
            "it goes on from record \(genesis.previousSize) of era \(genesis.previousEra), although \(newest.size) of era \(newest.era) were settled: those count"
    }

    /// What an era says of the one before it that was settled otherwise.
    private static func contradiction(
        of genesis: LedgerGenesis, _ settled: [SettlementRecord]
    ) -> String? {
        let previous = settled.first { $0.era == genesis.previousEra }
        guard let previous, previous.size == genesis.previousSize,
            previous.root != genesis.previousRoot
        else { return nil }
        return
            "a new era goes on from \(previous.size) records of era \(previous.era) that are not those that were settled"
    }

    /// Of the device's word only what it counts, in the form that names have.
    func insert(
        names: [UInt32: String], of totals: [MeterSums], era: UInt64, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws {
        let used = Set(totals.flatMap(\.entries).map(\.meter))
        try transaction.insert(
            meterNames: names.filter { used.contains($0.key) && License.isName($0.value) },
            of: record.id, era: era)
    }

    /// Whether a head is the settled one or a proven continuation of it.
    private static func extends(
        _ checkpoint: Checkpoint, _ before: SettlementRecord, _ proofs: [LedgerConsistency]
    ) -> Bool {
        // A root that is a single subtree says nothing of its own totals: those that were settled
        // count. After a fork these are the larger ones of both heads.
        func continues(_ root: [UInt8], _ sums: MeterSums) -> Bool {
            root == before.root && (before.isForked || sums == before.totals)
        }
        if checkpoint.size == before.size { return continues(checkpoint.root, checkpoint.sums) }
        guard checkpoint.size > before.size else { return false }
        // Everything continues an empty ledger; its frontier is no proof that anyone sends.
        if before.size == 0 { return continues(LedgerNode.empty.hash, MeterSums()) }
        return proofs.contains { proof in
            guard proof.before.end == before.size, proof.after.end == checkpoint.size,
                let roots = try? proof.roots()
            else { return false }
            return continues(roots.before.hash, roots.before.sums)
                && roots.after.hash == checkpoint.root && roots.after.sums == checkpoint.sums
        }
    }

    /// What a device used, as settled, by the name of the meter.
    func counted(
        _ record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> [String: UInt64] {
        var counted = CountedUsage()
        for head in try transaction.heads(of: record.id).sorted(by: { $0.era < $1.era }) {
            try counted.add(
                head, transaction.genesis(of: record.id, era: head.era),
                transaction.meterNames(of: record.id, era: head.era))
        }
        return counted.totals
    }

    /// What was used of an entitlement since its license was issued.
    static func used(
        _ entitlement: License.Entitlement, of counted: [String: UInt64]
    ) -> UInt64 {
        let (all, before) = (counted[entitlement.name] ?? 0, entitlement.usedBefore ?? 0)
        return all - min(all, before)
    }

    /// What a lease says of limits.
    struct Allowances {
        /// Up to what the device's own ledger may count.
        var most: [String: UInt64] = [:]
        /// What it counts at least, by what was settled; after a fork by the larger branch, so that the
        /// other one has nothing left.
        var settled: [String: UInt64] = [:]
        /// The era that the device's ledger is in, by what was settled last.
        var era: UInt64?
    }

    /// Works out what is left of each limited entitlement of a license.
    ///
    /// - Returns: nothing when the license has no limits.
    func allowances(
        of license: License, _ record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> Allowances {
        let limited = license.entitlements.filter { $0.limit != nil }
        guard !limited.isEmpty else { return Allowances() }
        let counted = try counted(record, transaction)
        let newest = try transaction.heads(of: record.id).max { $0.era < $1.era }
        var shown = CountedUsage()
        if let newest {
            try shown.add(
                newest, transaction.genesis(of: record.id, era: newest.era),
                transaction.meterNames(of: record.id, era: newest.era))
        }
        var allowances = Allowances(era: newest?.era)
        for entitlement in limited {
            let total = shown.totals[entitlement.name] ?? 0
            if total > 0 { allowances.settled[entitlement.name] = total }
            // What was used beyond a limit is taken off as well.
            let (sum, overflow) = total.addingReportingOverflow(entitlement.limit ?? 0)
            let used = Self.used(entitlement, of: counted)
            allowances.most[entitlement.name] = overflow ? .max : sum - min(sum, used)
        }
        return allowances
    }

    /// What devices used, as settled.
    ///
    /// - Parameter text: a device, or `nil` for all.
    public func usage(_ text: String? = nil) throws -> [UsageReport] {
        try store.read { transaction in
            let records =
                try text.map { [try record($0, transaction)] }
                ?? transaction.enrollments().filter { $0.state != .unproven }
            return try records.map { record in
                let heads = try transaction.heads(of: record.id)
                return UsageReport(
                    device: record.device, incarnation: record.incarnation,
                    totals: try counted(record, transaction),
                    eras: heads.count, forked: heads.contains(where: \.isForked),
                    settledAt: heads.map(\.at).max())
            }
        }
    }
}
