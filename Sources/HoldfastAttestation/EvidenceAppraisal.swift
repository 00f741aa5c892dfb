public import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastTPMWire

/// What evidence must pass besides the checks of its quote; the list is closed.
///
/// docs/spec/verification.md, "Evidence of an enrolled device".
public enum EvidenceCheck: String, Sendable, Hashable, CaseIterable {
    /// Vendor, device and enrollment are those of the record.
    case subject = "evidence-subject"
    /// The nonce is the one that was sent to this enrollment.
    case nonce = "evidence-nonce"
    /// The ledger key, if there is one: certified for this nonce, with a policy of the vendor's.
    case ledgerKey = "ledger-key"
    /// The ledger counter of the record, certified over the checkpoint by the key that its grade
    /// names.
    case ledgerCounter = "ledger-counter"
    /// The checkpoint is of this enrollment and of exactly this step of the counter.
    case checkpoint
    /// The epoch counter, certified for this nonce by the key of the record.
    case epochCounter = "epoch-counter"
    /// The ledger counter was raised since the last evidence: the TPM saves its clock with it.
    case counterRaised = "ledger-counter-raised"
    /// The epoch counter did not go down.
    case epochOrder = "epoch-order"
    /// Counters and quote are of one boot, in the order in which they belong.
    case sameBoot = "same-boot"
    /// Resets, restarts and, between them, the clock did not go back in this enrollment.
    case clockOrder = "clock-order"
}

/// What the record of an enrollment says about evidence that is due.
public struct EvidenceExpectation: Sendable {
    /// What a server remembers of the evidence that it appraised last.
    public struct Previous: Sendable, Hashable {
        public var clock: ClockInfo
        public var ledger: UInt64
        public var epoch: UInt64

        public init(clock: ClockInfo, ledger: UInt64, epoch: UInt64) {
            self.clock = clock
            self.ledger = ledger
            self.epoch = epoch
        }
    }

    public let vendorID: VendorID
    /// Signed at enrollment: keys and counters.
    public let statement: DeviceStatement
    /// 32 bytes that were sent to this enrollment.
    public let nonce: [UInt8]
    /// To which the evidence is bound.
    public let sealingKey: SealingPublicKey
    public let selection: PCRSelection
    /// Of these, the registers that leases are bound to.
    public let boot: PCRSelection
    public let previous: Previous?
    /// Policies that a ledger key may have: one for each reference of the vendor's approvals.
    public let ledgerPolicies: [Policy]

    public init(
        vendorID: VendorID, statement: DeviceStatement, nonce: [UInt8],
        sealingKey: SealingPublicKey, selection: PCRSelection, boot: PCRSelection,
        previous: Previous?,
        ledgerPolicies: [Policy] = []
    ) {
        self.ledgerPolicies = ledgerPolicies
        self.vendorID = vendorID
        self.statement = statement
        self.nonce = nonce
        self.sealingKey = sealingKey
        self.selection = selection
        self.boot = boot
        self.previous = previous
    }
}

/// Proof that evidence passed every check; what it means is for a policy to say.
public struct VerifiedEvidence: Sendable, Hashable {
    public let quote: VerifiedQuote
    public let epoch: UInt64
    public let ledger: UInt64
    /// What an operator should know and nobody is refused for.
    public let flags: [Flag]

    /// Observations that are no refusal.
    public enum Flag: String, Sendable, Hashable, CaseIterable {
        /// The clock is lower than before, after a reset or a restart.
        case clockWentBack = "CLOCK_WENT_BACK"
        /// The TPM was not shut down in order before this boot.
        case clockNotSafe = "CLOCK_NOT_SAFE"
    }

    fileprivate init(quote: VerifiedQuote, epoch: UInt64, ledger: UInt64, flags: [Flag]) {
        self.quote = quote
        self.epoch = epoch
        self.ledger = ledger
        self.flags = flags
    }
}

/// The verdict on evidence: every check of the quote and of what stands beside it.
public struct EvidenceAppraisal: Sendable {
    public let quote: QuoteAppraisal
    /// One result for each check, in the order of ``EvidenceCheck``.
    public let results: [CheckResult<EvidenceCheck>]
    /// The proof, when no check failed.
    public let verified: VerifiedEvidence?

    /// The key of the record signed exactly this, whatever else is wrong with it.
    public var isSigned: Bool {
        let needed: Set<QuoteCheck> = [.wellFormed, .magic, .type, .signature, .nonce]
        return quote.results.allSatisfy { !needed.contains($0.check) || $0.outcome == .passed }
    }

    /// Appraises evidence; all reasons are collected.
    public init(_ evidence: Evidence, expecting expectation: EvidenceExpectation) {
        let extraData = (try? evidence.extraData(for: expectation.sealingKey)) ?? []
        let key = expectation.statement.attestationKey
        var quoted = QuoteExpectation(
            key: .publicArea(key), nonce: extraData, minimumNonceSize: 32,
            selection: expectation.selection,
            qualifiedSigner: key.name.qualified(
                below: TPMName(handle: .endorsement), hash: key.nameAlgorithm))
        quoted.template = KeyTemplate.attestationKey(vendorID: [])
        quoted.boot = expectation.boot
        quote = QuoteAppraisal(
            UnverifiedQuote(
                attestation: evidence.quote, signature: evidence.quoteSignature,
                values: evidence.values),
            expecting: quoted)
        let checker = EvidenceChecker(evidence, expectation, quote.verified)
        results = EvidenceCheck.allCases.map { check in
            let reason = checker.fault(check)
            return CheckResult(
                check: check, outcome: reason == nil ? .passed : .failed, reason: reason ?? "")
        }
        if let quote = quote.verified, let ledger = checker.ledger, let epoch = checker.epoch,
            results.allSatisfy({ $0.outcome == .passed })
        {
            verified = VerifiedEvidence(
                quote: quote, epoch: epoch.value, ledger: ledger.value, flags: checker.flags)
        } else {
            verified = nil
        }
    }
}

private struct EvidenceChecker {
    let evidence: Evidence
    let expectation: EvidenceExpectation
    let quote: VerifiedQuote?
    let ledgerKey: CertifyingKey?
    let ledger: CertifiedCounter?
    let epoch: CertifiedCounter?

    init(_ evidence: Evidence, _ expectation: EvidenceExpectation, _ quote: VerifiedQuote?) {
        self.evidence = evidence
        self.expectation = expectation
        self.quote = quote
        let key = try? CertifyingKey(expectation.statement.attestationKey)
        let data = evidence.subject.counterData
        if let area = evidence.ledger.key, let certification = evidence.ledger.keyCertification,
            (try? key?.verifyLedgerKey(certification, is: area, qualifyingData: data)) != nil
        {
            ledgerKey =
                expectation.ledgerPolicies.lazy.compactMap {
                    try? CertifyingKey(ledgerKey: area, policy: $0)
                }.first
        } else {
            ledgerKey = nil
        }
        let signer = evidence.ledger.checkpoint.grade == .certified ? ledgerKey : key
        ledger = try? signer?.verifyCounter(
            evidence.ledgerCounter, is: expectation.statement.ledgerCounter,
            qualifyingData: evidence.ledger.checkpoint.hash)
        epoch = try? key?.verifyCounter(
            evidence.epochCounter, is: expectation.statement.epochCounter, qualifyingData: data)
    }

    var flags: [VerifiedEvidence.Flag] {
        guard let now = quote?.attestation.clockInfo else { return [] }
        var found: [VerifiedEvidence.Flag] = []
        if let before = expectation.previous?.clock, now.clock < before.clock {
            found.append(.clockWentBack)
        }
        if !now.safe { found.append(.clockNotSafe) }
        return found
    }

    /// Why a check fails; `nil` when it passes.
    func fault(_ check: EvidenceCheck) -> String? {
        switch check {
        case .subject: subject()
        case .nonce:
            constantTimeEqual(evidence.subject.nonce, expectation.nonce)
                ? nil : "the nonce is another one"
        case .ledgerCounter:
            ledger == nil ? "the ledger counter is not certified over the checkpoint" : nil
        case .ledgerKey:
            evidence.ledger.key != nil && ledgerKey == nil
                ? "the ledger key is not certified, or has a policy that is not the vendor's" : nil
        case .checkpoint: checkpoint()
        case .epochCounter:
            epoch == nil ? "the key of the record has not certified the epoch counter" : nil
        case .counterRaised: raised()
        case .epochOrder: epochOrder()
        case .sameBoot: sameBoot()
        case .clockOrder: clockOrder()
        }
    }

    private func subject() -> String? {
        guard evidence.subject.vendorID == expectation.vendorID.bytes else {
            return "it is for another vendor"
        }
        guard evidence.subject.pairwiseID == expectation.statement.pairwiseID.bytes,
            evidence.subject.incarnation == expectation.statement.incarnation
        else { return "it is of another device or another enrollment" }
        return nil
    }

    private func checkpoint() -> String? {
        let checkpoint = evidence.ledger.checkpoint
        guard checkpoint.pairwiseID == expectation.statement.pairwiseID.bytes,
            checkpoint.incarnation == expectation.statement.incarnation
        else { return "the checkpoint is of another device or another enrollment" }
        guard let ledger, ledger.value == checkpoint.counter else {
            return "the checkpoint is of another step of the ledger counter"
        }
        return nil
    }

    private func raised() -> String? {
        guard let ledger else { return "the ledger counter is not certified" }
        guard let before = expectation.previous?.ledger else { return nil }
        return ledger.value > before ? nil : "the ledger counter was not raised since \(before)"
    }

    private func epochOrder() -> String? {
        guard let epoch else { return "the epoch counter is not certified" }
        guard let before = expectation.previous?.epoch else { return nil }
        return epoch.value >= before ? nil : "the epoch counter is below \(before)"
    }

    private func sameBoot() -> String? {
        guard let ledger, let epoch, let quote else { return "not all of it is signed" }
        let clocks = [ledger.clockInfo, epoch.clockInfo, quote.attestation.clockInfo]
        guard Set(clocks.map { [$0.resetCount, $0.restartCount] }).count == 1 else {
            return "the parts are of different boots"
        }
        guard clocks[0].clock <= clocks[1].clock, clocks[1].clock <= clocks[2].clock else {
            return "the parts are not in their order"
        }
        return nil
    }

    private func clockOrder() -> String? {
        guard let now = quote?.attestation.clockInfo else { return "the quote is not valid" }
        guard let before = expectation.previous?.clock else { return nil }
        let present = (now.resetCount, now.restartCount)
        let past = (before.resetCount, before.restartCount)
        guard present >= past else {
            return "resets and restarts went back from \(past) to \(present)"
        }
        guard present > past || now.clock >= before.clock else {
            return "the clock went back without a reset"
        }
        return nil
    }
}

extension Verdict {
    /// The verdict on evidence: the checks of the quote, then the others.
    public init(_ appraisal: EvidenceAppraisal) {
        self = Verdict(appraisal.quote).and(
            Verdict(appraisal.results, isProved: appraisal.verified != nil))
    }
}
