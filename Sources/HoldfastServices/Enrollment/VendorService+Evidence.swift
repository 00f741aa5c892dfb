import HoldfastAttestation
import HoldfastCrypto
public import HoldfastProtocol
import HoldfastTPMWire

/// What came of a file that a device wrote.
public struct BundleOutcome: Sendable {
    /// For the device; `nil` when there is nothing to take back to it.
    public let reply: [UInt8]?
    public let device: String
    public let outcome: ReplyOutcome
    /// For the operator: what happened, and why.
    public let notes: [String]
    /// The same bytes were processed before.
    public let isRepeated: Bool
}

extension VendorService {
    /// Processes what a device wrote: evidence, or a retirement.
    ///
    /// - Parameter envelope: sealed to this server.
    public func process(_ envelope: [UInt8]) throws -> BundleOutcome {
        let (plain, key) = try open(envelope)
        switch try Container(decoding: plain).kind {
        case .evidence: return try process(evidence: plain, sealedTo: key)
        case .retirement: return try process(retirement: plain)
        case let other: throw DocumentError.wrongKind(other.rawValue)
        }
    }

    /// What the key of the record has not signed over its nonce: nothing of it is written.
    private struct UnsignedEvidence: Error {
        let device: String
        let reasons: [String]
    }

    private func process(
        evidence plain: [UInt8], sealedTo key: SealingPublicKey
    ) throws -> BundleOutcome {
        do { return try appraise(plain, sealedTo: key) } catch let error as UnsignedEvidence {
            try store.write { transaction in
                try boundedAudit(
                    "evidence.unsigned", error.device, error.reasons.joined(separator: "; "),
                    transaction)
            }
            throw ServiceError.refused(error.reasons)
        }
    }

    private func appraise(
        _ plain: [UInt8], sealedTo key: SealingPublicKey
    ) throws -> BundleOutcome {
        let evidence = try Evidence(decoding: plain)
        let hash = HashAlgorithm.sha256.digest(plain)
        return try store.write { transaction in
            if let reply = try transaction.reply(to: hash),
                let done = try transaction.appraisal(evidenceHash: hash),
                var record = try transaction.enrollment(id: done.enrollment)
            {
                let header = try Reply.header(in: reply)
                // Nobody could read that one by now; newer evidence gets everything.
                if trust.retiredIssuerKeys.contains(where: { header.names(issuer: $0) }),
                    record.isLive
                {
                    return try self.reply(
                        .stale, to: hash, of: &record, issuing: nil,
                        notes: ["the reply of before was signed by a key that was retired since"],
                        transaction)
                }
                let outcome = try ReplyHeader(
                    verifying: header, issuers: trust.everyIssuerKey,
                    incarnation: record.incarnation, attestationKey: record.attestationKey.name
                ).outcome
                // What waited for an operator is appraised again once he has decided.
                if try isDue(done, outcome, record, transaction),
                    let again = try appraiseAgain(
                        evidence, key, done, outcome, hash, &record, transaction)
                {
                    return again
                }
                return BundleOutcome(
                    reply: reply, device: record.device, outcome: outcome, notes: done.notes,
                    isRepeated: true)
            }
            var (record, nonce) = try enrollment(of: evidence, transaction)
            guard record.state != .superseded, record.state != .retired else {
                throw ServiceError.ended(record.device)
            }
            let isForgetful = try isForgetful(
                of: record, evidence.ledger.checkpoint, transaction)
            guard !isForgetful || evidence.recollection != nil else { throw ServiceError.recall }
            let brought =
                isForgetful
                ? try evidence.recollection.map {
                    try VerifiedRecollection($0, trust: trust, known: record.statement)
                } : nil
            // The same stale evidence again gets the reply that it got, and no more nonces.
            if let reply = try transaction.reply(to: hash) {
                return BundleOutcome(
                    reply: reply, device: record.device, outcome: .stale,
                    notes: ["the nonce was answered before, or ran out"], isRepeated: true)
            }
            let last = try transaction.appraisals(of: record.id, limit: 1).first
            let isFresh =
                nonce.usedBy == nil && nonce.expiresAt >= now()
                && nonce.ordinal > last?.ordinal ?? 0
            guard isFresh else {
                // A device whose nonces ran out gets new ones, when this is really it; old evidence
                // has old clocks and counters.
                let appraisal = try appraise(
                    evidence, key, record, nonce, after: nil, brought, transaction)
                guard appraisal.verified != nil, record.state != .unproven else {
                    throw ServiceError.stale
                }
                // An older one is told too much rather than too little.
                let shown = evidence.trustSequence ?? 0
                record.trustSequence =
                    record.trustSequence == 0 ? shown : min(record.trustSequence, shown)
                var notes = ["the nonce was answered before, or ran out"]
                if let brought { notes += try adopt(brought, evidence, &record, transaction) }
                return try reply(
                    .stale, to: hash, of: &record, issuing: nil, notes: notes, transaction)
            }
            let before = try transaction.lastVerified(of: record.id)
            let appraisal = try appraise(
                evidence, key, record, nonce, after: before, brought, transaction)
            // A nonce is no secret: what its key has not signed spends nothing of the device's.
            guard appraisal.isSigned else {
                throw UnsignedEvidence(
                    device: record.device, reasons: Verdict(appraisal).failures)
            }
            try transaction.use(nonce: nonce.nonce, by: hash)
            record.trustSequence = evidence.trustSequence ?? 0
            try transaction.update(record)
            let adopted =
                try brought.map { try adopt($0, evidence, &record, transaction) } ?? []
            guard let verified = appraisal.verified else {
                return try refuse(evidence, appraisal, hash, nonce, &record, transaction)
            }
            try transaction.hear(
                announcementsIn: evidence.ledger.checkpoint.heard, of: record.id)
            let attestation = verified.quote.attestation
            let judged = try judge(evidence, appraisal, verified, record, transaction)
            let made = AppraisalRecord(
                id: AppraisalID(random: random), enrollment: record.id, evidenceHash: hash,
                ordinal: nonce.ordinal, receivedAt: now(), isVerified: true,
                clock: attestation.clockInfo, epoch: verified.epoch, ledger: verified.ledger,
                selection: trust.selection, values: bootState(in: verified.quote.values),
                notes: verified.flags.map(\.rawValue) + newerTrust(in: evidence),
                policy: judged?.verdict,
                firmware: attestation.firmwareVersion)
            try transaction.insert(made)
            try audit(
                "evidence.passed", record.device,
                "\(made.id) " + made.notes.joined(separator: " "), transaction)
            try prove(&record, transaction)
            if let judged {
                try note(judged, record, transaction)
                guard judged.verdict.isMet else {
                    return try reply(
                        .pendingPolicy, to: hash, of: &record, issuing: nil,
                        notes: adopted + made.notes + Self.words(judged.verdict), transaction)
                }
            }
            let (receipt, found) = try settle(evidence.ledger, verified, record, transaction)
            return try reply(
                .accepted, to: hash, of: &record, issuing: made, receipt: receipt,
                notes: adopted + made.notes + found, transaction)
        }
    }

    /// What an operator should know when a device has a trust statement that this server does not have.
    private func newerTrust(in evidence: Evidence) -> [String] {
        guard let sequence = evidence.trustSequence, sequence > trust.sequence else { return [] }
        return [
            "the device has trust statement \(sequence), and this server \(trust.sequence): restore the newest trust file with its keys"
        ]
    }

    /// The registers that leases are bound to, without what was quoted for a policy.
    private func bootState(in values: PCRValues) -> PCRValues {
        var kept = PCRValues()
        for bank in trust.selection.banks {
            for index in bank.indexes { kept[bank.hash, index] = values[bank.hash, index] }
        }
        return kept
    }

    /// For the operator, and never for the device.
    private static func words(_ verdict: PolicyVerdict) -> [String] {
        ["the policy \(verdict.name) is not met"] + verdict.refusals
    }

    /// Writes down what a policy said, and keeps where the next list may begin.
    private func note(
        _ judged: PolicyJudgement, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws {
        let verdict = judged.verdict
        try audit(
            verdict.isMet ? "policy.met" : "policy.refused", record.device,
            ([verdict.name] + verdict.refusals).joined(separator: "; "), transaction)
        try audit(
            "evidence.result", record.device, String(decoding: judged.result, as: UTF8.self),
            transaction)
        guard let state = judged.state else { return }
        try transaction.insert(
            listState: state, of: record.id, keeping: Self.keptListStates)
    }

    /// Appraises evidence once more for which an operator has decided.
    ///
    /// - Returns: `nil` when the policy says of it what it said before.
    private func appraiseAgain(
        _ evidence: Evidence, _ key: SealingPublicKey, _ done: AppraisalRecord,
        _ outcome: ReplyOutcome, _ hash: [UInt8], _ record: inout EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws -> BundleOutcome? {
        guard try outcome == .pendingPolicy || policy(for: record, transaction) != nil else {
            return try reply(
                .accepted, to: hash, of: &record, issuing: done, notes: done.notes, transaction)
        }
        let nonce = NonceRecord(
            nonce: evidence.subject.nonce, enrollment: record.id, ordinal: done.ordinal,
            expiresAt: 0, usedBy: hash)
        let appraisal = try appraise(evidence, key, record, nonce, after: nil, nil, transaction)
        guard let verified = appraisal.verified else {
            throw ServiceError.refused(Verdict(appraisal).failures)
        }
        var done = done
        let judged = try judge(evidence, appraisal, verified, record, transaction)
        if let judged {
            guard judged.verdict != done.policy || judged.verdict.isMet else { return nil }
            done.policy = judged.verdict
            try transaction.update(policy: judged.verdict, of: done.id)
            try note(judged, record, transaction)
            guard judged.verdict.isMet else {
                return try reply(
                    .pendingPolicy, to: hash, of: &record, issuing: nil,
                    notes: done.notes + Self.words(judged.verdict), transaction)
            }
        }
        // Usage is settled once; what a policy had refused was not.
        let (receipt, found) =
            outcome == .pendingPolicy
            ? try settle(evidence.ledger, verified, record, transaction) : (nil, [])
        return try reply(
            .accepted, to: hash, of: &record, issuing: done, receipt: receipt,
            notes: done.notes + found, transaction)
    }

    /// The record that evidence is about, and the nonce that it answers.
    ///
    /// A server that was restored from a backup may know neither; a nonce that it does not know was
    /// never sent, as far as it can tell, and counts as used up.
    private func enrollment(
        of evidence: Evidence, _ transaction: any VendorStoreWriting
    ) throws -> (EnrollmentRecord, NonceRecord) {
        let subject = evidence.subject
        if let nonce = try transaction.nonce(subject.nonce),
            let record = try transaction.enrollment(id: nonce.enrollment)
        {
            return (record, nonce)
        }
        let known = try transaction.enrollments(pairwiseID: subject.pairwiseID).first {
            $0.incarnation == subject.incarnation && $0.state != .unproven
        }
        let record: EnrollmentRecord
        if let known {
            record = known
        } else if let recollection = evidence.recollection {
            record = try remake(
                recollection, trustSequence: evidence.trustSequence, transaction)
        } else {
            throw evidence.ledger.checkpoint.heard.isEmpty ? ServiceError.unknownNonce : .recall
        }
        return (
            record,
            NonceRecord(
                nonce: subject.nonce, enrollment: record.id, ordinal: 0, expiresAt: 0, usedBy: nil)
        )
    }

    /// Whether evidence that waited for a policy is accepted by now: it is the last of its device,
    /// not too old, and everything that it waited for is there.
    private func isDue(
        _ appraisal: AppraisalRecord, _ outcome: ReplyOutcome, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws -> Bool {
        let waiting: Set<ReplyOutcome> = [.pendingDevice, .pendingBootState, .pendingPolicy]
        guard waiting.contains(outcome), record.state == .approved, appraisal.isVerified,
            try transaction.appraisals(of: record.id, limit: 1).first?.id == appraisal.id
        else { return false }
        for license in try transaction.licenses(of: record.id) where license.ending == nil {
            guard
                try now() <= appraisal.receivedAt + terms(of: license).evidenceValiditySeconds,
                try outcome == .pendingPolicy
                    || hasApproval(for: license.product, appraisal, record, transaction)
            else { return false }
        }
        return true
    }

    private func appraise(
        _ evidence: Evidence, _ key: SealingPublicKey, _ record: EnrollmentRecord,
        _ nonce: NonceRecord,
        after before: AppraisalRecord?, _ brought: VerifiedRecollection?,
        _ transaction: any VendorStoreReading
    ) throws -> EvidenceAppraisal {
        // Of approvals that were lost the ledger key may still be one.
        let approvals =
            try approvals(role: .ledger, for: record, transaction)
            + (brought?.approvals.filter { $0.reference.role == .ledger } ?? [])
        return EvidenceAppraisal(
            evidence,
            expecting: EvidenceExpectation(
                vendorID: trust.vendorID, statement: try statement(record), nonce: nonce.nonce,
                sealingKey: key,
                selection: try askedSelection(of: evidence, record, transaction),
                boot: trust.selection,
                previous: before.map {
                    .init(clock: $0.clock, ledger: $0.ledger, epoch: $0.epoch)
                },
                ledgerPolicies: approvals.map { approval in
                    KeyTemplate.ledgerPolicy(
                        approvalKey: KeyTemplate.approvalKey(trust.approvalKey).name,
                        policyRef: approval.reference.policyRef)
                }))
    }

    /// A failed check closes the appraisal: the nonce is spent, and only newer evidence counts.
    private func refuse(
        _ evidence: Evidence, _ appraisal: EvidenceAppraisal, _ hash: [UInt8],
        _ nonce: NonceRecord, _ record: inout EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws -> BundleOutcome {
        let reasons = Verdict(appraisal).failures
        try transaction.insert(
            AppraisalRecord(
                id: AppraisalID(random: random), enrollment: record.id, evidenceHash: hash,
                ordinal: nonce.ordinal, receivedAt: now(), isVerified: false,
                clock: ClockInfo(clock: 0, resetCount: 0, restartCount: 0, safe: false), epoch: 0,
                ledger: 0, selection: evidence.selection, values: PCRValues(), notes: reasons))
        try audit(
            "evidence.refused", record.device, reasons.joined(separator: "; "), transaction)
        // An unproven enrollment gets no nonce in clear: they would prove nothing.
        guard record.state != .unproven else {
            return BundleOutcome(
                reply: nil, device: record.device, outcome: .refused, notes: reasons,
                isRepeated: false)
        }
        return try reply(
            .refused, to: hash, of: &record, issuing: nil, notes: reasons, transaction)
    }

    /// Evidence over a nonce from inside the encrypted response shows that the TPM of the
    /// endorsement key has the attestation key.
    private func prove(
        _ record: inout EnrollmentRecord, _ transaction: any VendorStoreWriting
    ) throws {
        guard record.state == .unproven else { return }
        let others = try transaction.enrollments(pairwiseID: record.pairwiseID).filter {
            $0.id != record.id && $0.state != .unproven && $0.incarnation == record.incarnation
        }
        guard others.isEmpty else {
            throw ServiceError.conflict(
                "another request of this device took its place as enrollment \(record.incarnation)")
        }
        record.state = .pending
        try transaction.update(record)
        try audit(
            "device.proven", record.device, "enrollment \(record.incarnation)", transaction)
        try noteHardware(record, transaction)
        if try transaction.isInInventory(record.endorsementHash) {
            try admit(&record, model: nil, by: "inventory", transaction)
        }
    }

    /// Builds, signs and stores a reply.
    ///
    /// - Parameters:
    ///   - appraisal: from which the leases of all licenses are renewed; `nil` to issue nothing.
    ///   - new: a license that is issued now; then no other is renewed.
    func reply(
        _ wanted: ReplyOutcome, to hash: [UInt8], of record: inout EnrollmentRecord,
        issuing appraisal: AppraisalRecord?, new: LicenseRecord? = nil,
        receipt: PASETOToken? = nil, notes: [String], _ transaction: any VendorStoreWriting
    ) throws -> BundleOutcome {
        var outcome = wanted
        var notes = notes
        var contents: [(type: SectionType, bytes: [UInt8])] = []
        if let receipt { contents.append((.receipt, Reply.section(token: receipt))) }
        // A device that does not say what it has would not know what to do with it.
        if 1..<trust.sequence ~= record.trustSequence { contents += Reply.parts(trustToken) }
        let licenses =
            try new.map { [$0] } ?? transaction.licenses(of: record.id).filter { $0.ending == nil }
        var lifetime = Self.firstNonceLifetime
        var announced: [Migrated] = []
        let at = now()
        let (epoch, target) = try epochs(appraisal, record, licenses, new, transaction)
        if let appraisal {
            if record.state == .approved {
                contents += try approvals(role: .ledger, for: record, transaction)
                    .filter { $0.values == appraisal.values }
                    .map { (.approval, try $0.encoded()) }
                for license in licenses {
                    do {
                        let (parts, migrated) = try issue(
                            license, appraisal, epoch: epoch, record, transaction)
                        contents += try parts + sections(migrated, record)
                        announced.append(migrated)
                        lifetime = max(lifetime, migrated.terms.nonceLifetimeSeconds)
                    } catch ServiceError.licenseOver {
                        notes.append("\(license.id): the license is over; no lease was issued")
                    } catch let error as ServiceError where new == nil {
                        outcome = .pendingBootState
                        notes.append("\(license.id): \(error.explanation)")
                    }
                }
            } else {
                outcome = .pendingDevice
                notes.append(ServiceError.notApproved(record.device).explanation)
            }
        }
        for license in licenses {
            lifetime = max(lifetime, try terms(of: license).nonceLifetimeSeconds)
        }
        // The device keeps what the last reply said, so each one says all that is to come.
        if record.state == .approved {
            for license in try transaction.licenses(of: record.id)
            where license.ending == nil && license.endsAt > at
                && !announced.contains(where: { $0.license.id == license.id })
            {
                let waiting = try migrate(license, record, isRenewed: false, transaction)
                contents += try sections(waiting, record)
                announced.append(waiting)
            }
        }
        let (nonces, expiresAt) = try freshNonces(
            for: record.id, lifetime: lifetime, transaction)
        record.replySequence += 1
        try transaction.update(record)
        let position = ReplyPosition(
            server: try transaction.serverIncarnation(), sequence: record.replySequence)
        let head = (outcome, position, record.incarnation)
        let name = record.attestationKey.name
        let revoked = try transaction.licenses(of: record.id)
            .filter { $0.ending == .revoked }.map(\.id)
        let demand = try demand(of: record, transaction)
        if let demand {
            try transaction.insert(said: Self.askedHash(demand.selection), to: record.id)
        }
        var headerHash: [UInt8] = []
        let bytes = try Reply.encoded(contents: contents, nonces: nonces) { container in
            let header = ReplyHeader(
                answers: hash, outcome: head.0, position: head.1, incarnation: head.2,
                serverAt: at, noncesExpireAt: expiresAt, epochTarget: target, revoked: revoked,
                measurements: demand, contents: container)
            let token = try ring.withIssuerKey(keys, trust) {
                try header.signed(for: name, with: $0)
            }
            headerHash = Reply.hash(ofSection: token)
            return token
        }
        try transaction.insert(
            reply: bytes, to: hash, of: record.id, sequence: record.replySequence)
        try transaction.insert(said: headerHash, to: record.id)
        for one in announced {
            for terms in one.announced where terms.isNew {
                try transaction.insert(
                    AnnouncementRecord(
                        license: one.license.id, version: terms.terms.version, header: headerHash,
                        notBefore: terms.notBefore, isHeard: false))
            }
        }
        return BundleOutcome(
            reply: bytes, device: record.device, outcome: outcome, notes: notes, isRepeated: false)
    }

    private func process(retirement plain: [UInt8]) throws -> BundleOutcome {
        let retirement = try Retirement(decoding: plain)
        return try store.write { transaction in
            let found = try transaction.enrollments(pairwiseID: retirement.pairwiseID)
                .first {
                    $0.incarnation == retirement.incarnation && $0.state != .unproven
                }
            guard var record = found, retirement.vendorID == trust.vendorID.bytes else {
                throw ServiceError.unknownDevice(
                    "dev_" + Base32.encode([UInt8](retirement.pairwiseID.prefix(20))))
            }
            if record.state == .retired {
                return BundleOutcome(
                    reply: nil, device: record.device, outcome: .accepted,
                    notes: ["the enrollment was retired before"], isRepeated: true)
            }
            let demanded = try statement(record).epochCounter
            let counter: CertifiedCounter
            do throws(CertificationError) {
                counter = try CertifyingKey(record.attestationKey).verifyCounter(
                    retirement.epochCounter, is: demanded,
                    qualifyingData: Retirement.qualifyingData(
                        vendorID: retirement.vendorID, incarnation: retirement.incarnation))
            } catch {
                throw ServiceError.refused(["the certification of the epoch counter: \(error)"])
            }
            // A surrender counts when the epoch is above that of every lease.
            if let highest = try transaction.highestEpoch(of: record.id), counter.value <= highest {
                throw ServiceError.refused([
                    "the epoch counter is \(counter.value), and a lease of epoch \(highest) is out"
                ])
            }
            // A lease that this server forgot may have the epoch that is certified: no proof then.
            let isWhole = try record.heardIn == transaction.serverIncarnation()
            let isVacated = try isEvicted(retirement, counter, record) && isWhole
            record.state = .retired
            try transaction.update(record)
            for var license in try transaction.licenses(of: record.id)
            where license.ending != .vacated {
                license.ending = isVacated ? .vacated : .retired
                try transaction.update(license)
            }
            let note =
                isVacated
                ? "retired at epoch \(counter.value); no session of that boot can still open a lease"
                : isWhole
                    ? "retired at epoch \(counter.value); a session that was opened before may open a lease once more until the machine is restarted"
                    : "retired at epoch \(counter.value); the server was restored from a backup, and a lease that it forgot may run to its end"
            try audit(
                "device.retired", record.device, "enrollment \(record.incarnation): \(note)",
                transaction)
            return BundleOutcome(
                reply: nil, device: record.device, outcome: .accepted, notes: [note],
                isRepeated: false)
        }
    }

    /// Whether PCR 15 was extended with the certification, and quoted in the same boot.
    private func isEvicted(
        _ retirement: Retirement, _ counter: CertifiedCounter, _ record: EnrollmentRecord
    ) throws -> Bool {
        guard let eviction = retirement.eviction else { return false }
        let register = PCRIndex.all[15]
        let selection = PCRSelection(.sha256, [register])
        var values = PCRValues()
        values[.sha256, register] = eviction.expected(after: retirement.epochCounter)
        let key = record.attestationKey
        let quote = QuoteAppraisal(
            UnverifiedQuote(
                attestation: eviction.quote, signature: eviction.quoteSignature, values: values),
            expecting: QuoteExpectation(
                key: .publicArea(key), nonce: Retirement.Eviction.nonce(retirement.epochCounter),
                minimumNonceSize: 32, selection: selection,
                qualifiedSigner: key.name.qualified(
                    below: TPMName(handle: .endorsement), hash: key.nameAlgorithm)))
        guard let clock = quote.verified?.attestation.clockInfo else {
            throw ServiceError.refused(
                ["the quote over PCR 15: "] + Verdict(quote).failures)
        }
        guard clock.resetCount == counter.clockInfo.resetCount,
            clock.restartCount == counter.clockInfo.restartCount
        else { throw ServiceError.refused(["the quote over PCR 15 is of another boot"]) }
        return true
    }
}
