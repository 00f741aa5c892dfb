import HoldfastCrypto
import HoldfastLicensing
public import HoldfastProtocol
import HoldfastTPM
public import HoldfastTPMWire

/// The usage ledger of an enrolled device beside the counter of its TPM.
///
/// Made by ``EnrolledDevice/openLedger(below:)``, which compares both first.
///
/// docs/spec/ledger.md.
public struct Ledger {
    private let device: EnrolledDevice
    private let parent: LoadedObject
    public let store: LedgerStore
    /// What was wrong when the ledger was opened; a new era has begun then.
    public let finding: LedgerGenesis.Cause?

    private static let nothing = [UInt8](repeating: 0, count: 32)

    /// Opens the ledger and compares it with the counter.
    ///
    /// Called with the lock of the state directory held.
    init(_ device: EnrolledDevice, below parent: LoadedObject) throws {
        self.device = device
        self.parent = parent
        let counter: UInt64
        (store, finding, counter) = try Self.compared(device)
        try finish(counter)
    }

    /// Opens the records and compares them with the counter; needs no secret of the device.
    ///
    /// A new era begins when they do not belong together.
    fileprivate static func compared(
        _ device: EnrolledDevice
    ) throws -> (LedgerStore, LedgerGenesis.Cause?, counter: UInt64) {
        // Before the records: a checkpoint is written down before the counter is raised for it. And a TPM
        // that does not answer leaves no empty file behind.
        let counter = try device.tpm.readCounter(device.statement.ledgerCounter)
        let store = try device.state.ledger(random: device.random)
        guard LedgerWitness.finding(try store.situation(), counter) != nil else {
            return (store, nil, counter)
        }
        let began = try store.beginEra(beginning(counter, device, store)) {
            LedgerWitness.finding($0, counter)
        }
        return (store, began, counter)
    }

    /// What a new era of a device begins with.
    ///
    /// Only what this TPM certified or the vendor acknowledged is counted on from. A certificate of the
    /// ledger key holds as long as an approval of it is here.
    fileprivate static func beginning(
        _ counter: UInt64, _ device: EnrolledDevice, _ store: LedgerStore
    ) throws -> LedgerStore.Beginning {
        let witness = try LedgerWitness(device.statement)
        let acknowledged = try? device.receipts(in: store).first?.receipt
        let keys = try device.ledgerKeys()
        return LedgerStore.Beginning(counter: counter, ticks: try device.tpm.clock().clock) {
            checkpoint, certification in
            (witness.isOwn(checkpoint) && checkpoint.hash == acknowledged?.checkpoint)
                || witness.isSealed(checkpoint, certification, by: keys)
        }
    }

    /// Finishes a checkpoint that was written down and not certified.
    private func finish(_ counter: UInt64) throws {
        guard let head = try store.head(), let last = try store.lastCheckpoint(of: head),
            last.certification == nil
        else { return }
        var counter = counter
        if counter == last.checkpoint.counter &- 1 {
            try increment()
            counter += 1
        }
        guard counter == last.checkpoint.counter else { return }
        do {
            try store.store(certify(last.checkpoint), counter: counter)
        } catch let error as TPMError where error.code == .bootStateNotApproved {
            // Another boot came in between: the next checkpoint seals these records as well.
        }
    }

    private func increment() throws {
        try device.tpm.increment(
            device.statement.ledgerCounter, authValue: device.counterAuth(), salt: parent)
    }

    // MARK: Use

    /// Records usage; it is on the disk when this returns.
    ///
    /// - Parameter day: days since 1970 on the device's own clock; a hint.
    public func append(_ usages: [LedgerStore.Usage], day: UInt32) throws {
        guard try device.state.retirement() == nil else { throw DeviceError.retired }
        try store.append(usages, ticks: try device.tpm.clock().clock, day: day)
    }

    /// Totals by the name of the meter, all versions of terms and all eras that this one knows of.
    public func totals() throws -> [String: UInt64] { try store.usage()?.totals ?? [:] }

    /// Seals the present head: written down, counter raised, certified, stored.
    public func checkpoint() throws -> (checkpoint: Checkpoint, certification: SignedAttestation) {
        let statement = device.statement
        let counter = try device.tpm.readCounter(statement.ledgerCounter)
        let clock = try device.tpm.clock()
        let grade: Checkpoint.Grade =
            try device.ledgerApproval() == nil ? .unapprovedBoot : .certified
        let receipt = try device.receipts(in: store).first.map {
            Reply.hash(ofSection: $0.token)
        }
        let reply = try device.state.replyHash()
        let made = try store.writeCheckpoint(counter: counter + 1) { era, size, root, previous in
            Checkpoint(
                pairwiseID: statement.pairwiseID.bytes, incarnation: statement.incarnation,
                era: era, counter: counter + 1, previous: previous, size: size, root: root.hash,
                sums: root.sums, receiptHash: receipt ?? Self.nothing,
                replyHash: reply ?? Self.nothing, clock: clock, grade: grade)
        }
        try increment()
        let certification = try certify(made)
        try store.store(certification, counter: made.counter)
        return (made, certification)
    }

    /// Reads every record and checkpoint and compares them with what the TPM sealed.
    ///
    /// Checkpoints of the ledger key are compared by their content alone: the vendor, who knows
    /// which keys it approved, checks their signatures.
    public func verify() throws -> LedgerStore.Verified {
        try LedgerWitness(device.statement).verify(store)
    }

    // MARK: Keys

    private func certify(_ checkpoint: Checkpoint) throws -> SignedAttestation {
        let counter = device.statement.ledgerCounter
        let tpm = device.tpm
        switch checkpoint.grade {
        case .unapprovedBoot:
            return try device.withAttestationKey { key in
                try tpm.certifyCounter(
                    counter, by: key.reference, keyAuthorization: .emptyAuth,
                    qualifyingData: checkpoint.hash)
            }
        case .certified:
            guard let approval = try device.ledgerApproval() else {
                throw TPMError(
                    .bootStateNotApproved, "the boot state changed while a checkpoint was sealed")
            }
            return try device.withLedgerKey(approval) { (key) throws(TPMError) in
                try tpm.withSession(.policy, hash: .sha256, salt: .none) {
                    (session) throws(TPMError) in
                    try tpm.satisfy(
                        device.ledgerPolicy(approval), in: session,
                        with: PolicyMeans(approvals: [approval.approval]))
                    return try tpm.certifyCounter(
                        counter, by: key.reference, keyAuthorization: .policyOnce(session),
                        qualifyingData: checkpoint.hash)
                }
            }
        }
    }

    // MARK: Evidence

    /// What goes beside a quote: the head, proofs from every head that the server may know, and the
    /// ledger key with its certification.
    func evidence(
        of checkpoint: Checkpoint, subject: Evidence.Subject, attestationKey: LoadedObject
    ) throws -> Evidence.Ledger {
        let receipt = try device.receipts(in: store).first?.receipt
        let acknowledged = receipt.flatMap { $0.era == checkpoint.era ? $0.size : nil } ?? 0
        let proofs = try store.proofs(since: acknowledged, to: checkpoint.size)
        var key: PublicArea?
        var certification: SignedAttestation?
        if let approval = try device.ledgerApproval() {
            let tpm = device.tpm
            (key, certification) = try device.withLedgerKey(approval) { (loaded) throws(TPMError) in
                (
                    loaded.publicArea,
                    // ADMIN role with adminWithPolicy clear: the key's empty authorization value.
                    try tpm.run(
                        CertifyCommand(
                            object: loaded.reference, key: attestationKey.reference,
                            qualifyingData: subject.counterData), [.emptyAuth, .emptyAuth])
                )
            }
        }
        guard let head = try store.head() else { throw LedgerStoreError.noEra }
        try store.markExported(counter: checkpoint.counter)
        return Evidence.Ledger(
            checkpoint: checkpoint, consistency: proofs, genesis: head.genesis,
            meters: try store.meters(), key: key, keyCertification: certification)
    }
}

// MARK: - The ledger key

extension EnrolledDevice {
    /// Approvals that let the ledger key sign.
    private func ledgerApprovals() throws -> [ApprovalDocument] {
        try state.approvals(trusting: trust.approvalKey).filter { $0.reference.role == .ledger }
    }

    /// The approval that lets the ledger key sign in the present boot state, if there is one.
    fileprivate func ledgerApproval() throws -> ApprovalDocument? {
        let approvals = try ledgerApprovals()
        guard let selection = approvals.first?.reference.selection else { return nil }
        let values = try tpm.readPCRs(selection)
        return approvals.filter { $0.values == values }
            .max { $0.reference.generation < $1.reference.generation }
    }

    /// Every ledger key of which an approval is here; none of them has to sign.
    fileprivate func ledgerKeys() throws -> [ECPublicKey] {
        var seen: Set<[UInt8]> = []
        return try ledgerApprovals().filter { seen.insert($0.reference.policyRef).inserted }.map {
            approval in
            try withLedgerKey(approval) { $0.publicArea }.ecPublicKey()
        }
    }

    fileprivate func ledgerPolicy(_ approval: ApprovalDocument) -> Policy {
        KeyTemplate.ledgerPolicy(
            approvalKey: approval.approval.key.name, policyRef: approval.reference.policyRef)
    }

    fileprivate func withLedgerKey<R>(
        _ approval: ApprovalDocument, _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let template = KeyTemplate.ledgerKey(
            unique: framedHash(
                .template, Array("ledger".utf8), trust.vendorID.bytes,
                approval.reference.policyRef), policy: ledgerPolicy(approval))
        return try tpm.withPrimary(template, in: .endorsement, body)
    }
}

// MARK: - Opening and repair

extension EnrolledDevice {
    /// Opens the ledger after comparing it with the TPM's counter.
    func openLedger(below parent: LoadedObject) throws -> Ledger {
        try Ledger(self, below: parent)
    }

    /// Opens the ledger after comparing it with the TPM's counter.
    ///
    /// - Throws: ``EnrollmentError/keysLost`` when the TPM is not the one of the enrollment.
    public func openLedger() throws -> Ledger { try openLedger(below: demandParent()) }

    /// Opens the records for applications, which add to them and need no secret of the device.
    ///
    /// Compared with the TPM's counter like ``openLedger()``; what an interrupted checkpoint left is
    /// for that one to finish.
    public func openRecords() throws -> LedgerStore {
        guard try state.retirement() == nil else { throw DeviceError.retired }
        return try Ledger.compared(self).0
    }

    /// Opens the records while the TPM does not answer; nothing is compared.
    ///
    /// - Throws: when there are none: without the TPM none are begun.
    public func openRecordsUncompared() throws -> LedgerStore {
        guard try state.retirement() == nil else { throw DeviceError.retired }
        guard state.hasLedger else {
            throw LedgerStoreError.unusable("the ledger is not there, and the TPM does not answer")
        }
        return try state.ledger(random: random)
    }

    /// What a repair kept and lost.
    public struct Repaired: Sendable, Hashable {
        /// What was wrong.
        public let code: String
        /// How many records the TPM had sealed: they are kept, and counted on from.
        public let sealed: UInt64
        /// How many records after the last seal were taken over.
        public let kept: UInt64
        /// How many records after the last seal cannot be read, as far as is known.
        public let lost: UInt64
        /// Where a file is that was no ledger at all.
        public let setAside: String?
    }

    /// Begins a new era after the last seal when the ledger is damaged.
    ///
    /// Nothing is deleted: the damaged era stays in the file, or the file beside the new one. The vendor
    /// compares what was sealed with what it settled.
    ///
    /// - Returns: `nil` when nothing is damaged.
    public func repairLedger() throws -> Repaired? {
        guard try state.retirement() == nil else { throw DeviceError.retired }
        _ = try demandParent()
        let counter = try tpm.readCounter(statement.ledgerCounter)
        let witness = try LedgerWitness(statement)
        var code = "LEDGER_UNUSABLE"
        do throws(LedgerStoreError) {
            let store = try state.openLedger(random: random)
            do {
                _ = try witness.verify(store)
                if try store.head() != nil { return nil }
            } catch LedgerStoreError.damaged(let found, _) {
                code = found
            } catch {
                throw LedgerStore.mapped(error)
            }
            return try repair(store, code, counter)
        } catch {
            // A disk that is full is no damage.
            guard case .unusable(let text) = error, LedgerStore.isNoDatabase(text) else {
                throw error
            }
        }
        let place = try state.setLedgerAside()
        let store = try state.ledger(random: random)
        _ = try store.repair(Ledger.beginning(counter, self, store), code: code)
        return Repaired(code: code, sealed: 0, kept: 0, lost: 0, setAside: place)
    }

    private func repair(
        _ store: LedgerStore, _ code: String, _ counter: UInt64
    ) throws(LedgerStoreError) -> Repaired {
        do {
            let kept = try store.repair(
                Ledger.beginning(counter, self, store), code: code)
            return Repaired(
                code: code, sealed: kept.sealed, kept: kept.taken, lost: kept.lost, setAside: nil)
        } catch {
            throw LedgerStore.mapped(error)
        }
    }

    /// The version of the terms under which an entitlement is used, if a license grants it.
    public func termsVersion(of entitlement: String) throws -> UInt32? {
        try state.licenses(in: context).compactMap(\.first).first { document in
            document.license.entitlements.contains { $0.name == entitlement }
        }?.license.termsVersion
    }
}
