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
        let all = try transaction.settlements(of: record.id)
        let before = all.first { $0.era == checkpoint.era }
        var notes: [String] = []
        var totals = checkpoint.sums
        var isForked = before?.isForked ?? false
        if let before {
            if Self.extends(checkpoint, before, ledger.consistency) {
                // A fork that an operator has not looked into keeps its larger totals.
                if isForked { totals = totals.larger(before.totals) }
            } else {
                isForked = true
                totals = totals.larger(before.totals)
                notes.append(
                    "FORK_SUSPECT: the ledger of \(checkpoint.size) records does not continue the settled one of \(before.size)"
                )
                try audit("ledger.fork", record.device, notes[0], transaction)
            }
        } else if ledger.genesis.cause != .first {
            notes.append(
                "\(ledger.genesis.cause): a new era of the ledger began; the counter was off by \(ledger.genesis.distance)"
            )
            try audit("ledger.era", record.device, notes[0], transaction)
        }
        let sequence = (all.first?.sequence ?? 0) + 1
        let receipt = try Receipt(
            incarnation: record.incarnation, era: checkpoint.era, checkpoint: checkpoint.hash,
            root: checkpoint.root, size: checkpoint.size, totals: totals,
            grade: "attested-" + checkpoint.grade.description, isForked: isForked,
            serverAt: now(), clock: checkpoint.clock, sequence: sequence
        ).signed(for: record.attestationKey.name, with: keys.issuerKey())
        try transaction.insert(
            SettlementRecord(
                enrollment: record.id, sequence: sequence, era: checkpoint.era,
                checkpoint: checkpoint.hash, root: checkpoint.root, size: checkpoint.size,
                totals: totals, isForked: isForked, at: now(), receipt: receipt.text))
        try transaction.insert(meterNames: ledger.meters, of: record.id)
        return (receipt, notes)
    }

    /// Whether a head is the settled one or a proven continuation of it.
    private static func extends(
        _ checkpoint: Checkpoint, _ before: SettlementRecord, _ proofs: [LedgerConsistency]
    ) -> Bool {
        if checkpoint.size == before.size { return checkpoint.root == before.root }
        // Nothing is recorded before an era's first record.
        guard checkpoint.size > before.size else { return false }
        return proofs.contains { proof in
            guard proof.before.end == before.size, proof.after.end == checkpoint.size,
                let roots = try? proof.roots()
            else { return false }
            return roots.before.hash == before.root && roots.after.hash == checkpoint.root
                && roots.after.sums == checkpoint.sums
        }
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
                let settlements = try transaction.settlements(of: record.id)
                var newest: [UInt64: SettlementRecord] = [:]
                for settlement in settlements where newest[settlement.era] == nil {
                    newest[settlement.era] = settlement
                }
                let names = try transaction.meterNames(of: record.id)
                var totals: [String: UInt64] = [:]
                for entry in newest.values.flatMap(\.totals.entries) {
                    let name = names[entry.meter] ?? "meter \(entry.meter)"
                    let (sum, overflow) = totals[name, default: 0]
                        .addingReportingOverflow(entry.total)
                    totals[name] = overflow ? .max : sum
                }
                return UsageReport(
                    device: record.device, incarnation: record.incarnation, totals: totals,
                    eras: newest.count, forked: newest.values.contains(where: \.isForked),
                    settledAt: settlements.first?.at)
            }
        }
    }
}
