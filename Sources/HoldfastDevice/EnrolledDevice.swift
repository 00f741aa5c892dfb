public import HoldfastCrypto
public import HoldfastErrors
public import HoldfastLicensing
public import HoldfastProtocol
public import HoldfastTPM
public import HoldfastTPMWire

/// Why an enrolled device cannot do what it was asked for.
public enum DeviceError: Error, Sendable, Hashable, OperatorError {
    /// The reply is older than the one that was applied last.
    case replyOutdated
    /// The counters' authorization value is gone or is another one.
    case counterAuthMissing
    /// There is no nonce from the server left.
    case noNonce
    /// The device gave this enrollment up.
    case retired
    /// PCRs keep changing while they are quoted.
    case unsteady
    /// Usage was recorded that the vendor has not settled.
    case unsettled
    /// A request was made, and no response taken in.
    case notAnswered
    /// The measurement list has more entries than evidence takes.
    case listTooLong

    public var explanation: String {
        switch self {
        case .replyOutdated: "a newer file of the vendor was installed before this one"
        case .counterAuthMissing: "the file `counter-auth` of the state directory is not there"
        case .noNonce: "the state directory has no nonce of the vendor's server"
        case .retired: "this device gave its enrollment up"
        case .unsteady: "the boot measurements keep changing while they are quoted"
        case .unsettled: "usage was recorded that the vendor has not settled yet"
        case .notAnswered: "the vendor's response to the enrollment request is not here yet"
        case .listTooLong:
            "the kernel's measurement list has more than \(MeasurementList.maximumSize >> 20) MiB that the vendor does not know"
        }
    }
    public var remedy: String? {
        switch self {
        case .replyOutdated:
            "everything in it is here already; when a license is missing, export or sync once more"
        case .unsettled:
            "run `holdfast sync`, or export and import a bundle, first; or say --discard-usage"
        case .counterAuthMissing, .retired: "enroll again: `holdfast enroll --again …`"
        case .noNonce:
            "run `holdfast retire --yes`, then enroll again: `holdfast enroll --again …`"
        case .notAnswered:
            "take the request to the vendor, then run `holdfast enroll --response-in FILE --evidence-out FILE`"
        case .unsteady: "try again when the machine has finished booting"
        case .listTooLong:
            "restart the machine; then let the kernel measure less, or sync more often"
        }
    }
    public var stableCode: String {
        switch self {
        case .replyOutdated: "DOCUMENT_SUPERSEDED"
        case .counterAuthMissing: "COUNTER_AUTH_MISSING"
        case .noNonce: "NONCE_MISSING"
        case .retired: "RETIRED"
        case .unsteady: "TPM_TIMED_OUT"
        case .unsettled: "USAGE_UNSETTLED"
        case .notAnswered: "UNENROLLED"
        case .listTooLong: "MEASUREMENTS_TOO_LONG"
        }
    }
    public var exitStatus: ExitStatus { .refused }
}

/// A device that a vendor answered: its documents, and the TPM that they are about.
public struct EnrolledDevice {
    let state: StateDirectory
    let tpm: TPMConnection
    let random: RandomSource
    private let known: KnownVendor
    /// What the vendor said of this device.
    public let statement: DeviceStatement
    /// Where this system keeps what was measured.
    public var sources = MeasurementSources.kernel
    /// Whether the state of this boot is kept when a lease has opened, to say later what changed.
    public var remembersBoot = false
    /// Around each use of the ledger that looks make, for programs that fork meanwhile.
    package var gate: (() throws -> KnownUsage?) throws -> KnownUsage? = { try $0() }

    /// Reads and verifies what the state directory holds; the TPM is not asked yet.
    ///
    /// - Throws: ``NotEnrolled`` when the vendor has not answered.
    public init(_ state: StateDirectory, tpm: TPMConnection, random: RandomSource) throws {
        guard let trust = try state.trust(), let statement = try state.statement() else {
            guard try state.request() == nil else { throw DeviceError.notAnswered }
            throw NotEnrolled()
        }
        self.state = state
        self.tpm = tpm
        self.random = random
        known = KnownVendor(trust, coming: try state.comingTrust(after: trust))
        self.statement = statement
    }

    /// The trust statements that this one goes by; whoever has a copy of it goes by them as well when a
    /// reply brought another one.
    private final class KnownVendor {
        var trust: TrustStatement
        /// A newer one, while the documents that came with it are taken in.
        var coming: TrustStatement?

        init(_ trust: TrustStatement, coming: TrustStatement?) {
            self.trust = trust
            self.coming = coming
        }
    }

    /// The statement in force.
    var trust: TrustStatement { known.trust }

    /// What is known of the vendor.
    public var vendor: TrustStatement { trust }

    /// Asks the TPM for something that it answers at once.
    ///
    /// - Throws: when it does not.
    public func probe() throws(TPMError) { _ = try tpm.clock() }

    /// The TPM's clock in milliseconds; `nil` when it cannot be read.
    public func clock() -> UInt64? { try? tpm.clock().clock }

    /// What the server's time may be; `nil` without a receipt or a clock.
    public func time() throws -> TimeEstimate? {
        guard let receipt = try lastReceipt(), let clock = try? tpm.clock() else { return nil }
        return TimeEstimate(receipt, now: clock)
    }

    /// The newest receipt, verified again; `nil` when nothing was settled yet.
    func lastReceipt() throws -> Receipt? {
        guard state.hasLedger else { return nil }
        return try receipts(in: state.ledger(random: random)).first?.receipt
    }

    /// Receipts that were kept, the newest first; others may write to the file, and what does not
    /// verify is passed over.
    func receipts(
        in store: LedgerStore
    ) throws -> some Collection<(receipt: Receipt, token: PASETOToken)> {
        try store.receipts(limit: 256).lazy.compactMap { text in
            guard let token = try? PASETOToken(parsing: text),
                let receipt = try? Receipt(
                    verifying: token, issuers: context.issuers,
                    incarnation: statement.incarnation,
                    attestationKey: statement.attestationKey.name)
            else { return nil }
            return (receipt, token)
        }
    }

    var context: LicenseDocument.Context {
        var context = LicenseDocument.Context(trust: trust, device: statement)
        if let coming = known.coming { context.alsoCount(by: coming) }
        return context
    }

    /// The lease parent, found by its Name.
    ///
    /// - Returns: `nil` when it is not in this TPM.
    func leaseParent() throws(TPMError) -> LoadedObject? {
        try tpm.leaseParent(named: statement.leaseParent.name)
    }

    /// A decryption key of this TPM whose Name is pinned, to salt sessions to.
    ///
    /// - Throws: ``EnrollmentError/keysLost`` when it is not in this TPM, or somebody hides it.
    public func pinnedKey() throws -> LoadedObject { try demandParent() }

    func demandParent() throws -> LoadedObject {
        guard let parent = try leaseParent() else { throw EnrollmentError.keysLost }
        return parent
    }

    func counterAuth() throws -> [UInt8] {
        guard let auth = try state.preparation()?.counterAuth else {
            throw DeviceError.counterAuthMissing
        }
        return auth
    }

    /// Lends the attestation key; it must be the one that was enrolled.
    func withAttestationKey<R>(_ body: (LoadedObject) throws -> R) throws -> R {
        let result = try Provisioning(tpm).withAttestationKey(trust.vendorID) {
            (key) throws(TPMError) in
            guard key.publicArea == statement.attestationKey else {
                throw TPMError(.nameMismatch, "the attestation key is not the one of before")
            }
            return Result { try body(key) }
        }
        return try result.get()
    }

    // MARK: Evidence

    /// Makes evidence over the next nonce, sealed to the server: the ledger's head, certified, and
    /// a quote.
    ///
    /// The checkpoint raises the ledger counter first, so that the TPM has saved the clock that it
    /// attests. The nonce is spent on the disk before this returns.
    ///
    /// - Parameter recollecting: bring what the vendor signed, for a server that lost it. A file
    ///   always does, so that it takes one way.
    public func makeEvidence(recollecting: Bool) throws -> SealedEnvelope {
        try makeEvidence(bringing: recollecting ? recollection() : nil)
    }

    /// Makes evidence around what somebody else may have put together.
    package func makeEvidence(bringing recollection: Recollection?) throws -> SealedEnvelope {
        let envelope = try SealedEnvelope(
            sealing: evidence(bringing: recollection).encoded(), to: trust.sealingKeys[0],
            random: random)
        try state.spendNonce()
        return envelope
    }

    /// What would be sent now, section by section; nothing leaves, and no nonce is spent.
    public func previewEvidence() throws -> [(section: String, bytes: [UInt8])] {
        try evidence(bringing: nil).parts().map { ("\($0.type)", $0.bytes) }
    }

    /// What the vendor's server asked to be shown; `nil` when no policy asks for anything.
    package func measurementDemand() throws -> MeasurementDemand? {
        try state.lastReply(in: context)?.measurements
    }

    private func evidence(bringing recollection: Recollection?) throws -> Evidence {
        guard try state.retirement() == nil else { throw DeviceError.retired }
        try finishIntent()
        guard let nonce = try state.nonces().first else { throw DeviceError.noNonce }
        let parent = try demandParent()
        let subject = Evidence.Subject(
            vendorID: trust.vendorID.bytes, pairwiseID: statement.pairwiseID.bytes,
            incarnation: statement.incarnation, nonce: nonce)
        let ledger = try openLedger(below: parent)
        let sealed = try ledger.checkpoint()
        var demand = try measurementDemand()
        let values: PCRValues
        do {
            values = try tpm.readPCRs(demand?.selection ?? trust.selection)
        } catch {
            guard error.code == .notSupported, demand != nil else { throw error }
            // A policy names a bank that this TPM does not have: the vendor's server says so.
            demand = nil
            values = try tpm.readPCRs(trust.selection)
        }
        return try withAttestationKey { key in
            let epoch = try tpm.certifyCounter(
                statement.epochCounter, by: key.reference, keyAuthorization: .emptyAuth,
                qualifyingData: subject.counterData)
            return try quoted(
                Evidence(
                    subject: subject,
                    recollection: recollection, trustSequence: trust.sequence,
                    epochCounter: epoch,
                    ledgerCounter: sealed.certification,
                    ledger: ledger.evidence(
                        of: sealed.checkpoint, subject: subject, attestationKey: key),
                    selection: demand?.selection ?? trust.selection, values: values),
                showing: demand, by: key)
        }
    }

    /// What the vendor signed and the device kept.
    private func recollection() throws -> Recollection {
        guard let request = try state.request(), let statement = try state.statementToken() else {
            throw NotEnrolled()
        }
        let licenses = try state.licenses(in: context).compactMap(\.first)
            .suffix(Recollection.maximumLicenses).map { try $0.signedParts() }
        var eras: Set<UInt64> = []
        let receipts =
            state.hasLedger
            ? try receipts(in: state.ledger(random: random))
                .filter { eras.insert($0.receipt.era).inserted }
                .prefix(Recollection.maximumReceipts) : []
        return Recollection(
            statement: statement, request: try request.encoded(),
            replyHeader: try state.lastReplyToken(),
            receipts: receipts.map(\.token),
            terms: licenses.map(\.terms), licenses: licenses.map(\.license),
            leases: licenses.map(\.statement),
            approvals: try state.approvals(trusting: trust.approvalKey)
                .suffix(Recollection.maximumLicenses).map { try $0.encoded() })
    }

    /// The values are part of what the quote covers: when they change in between, once more.
    ///
    /// The lists are read after the values: they may be longer than what the values hold, and never
    /// shorter.
    private func quoted(
        _ evidence: Evidence, showing demand: MeasurementDemand?, by key: LoadedObject
    ) throws -> Evidence {
        var evidence = evidence
        evidence.eventLog = try demand.flatMap { try sources.log($0.eventLog) }
        for _ in 0..<5 {
            if let demand, demand.wantsList {
                evidence.measurementList = try sources.list(
                    after: demand.accepted, boot: tpm.clock())
            }
            let made = try tpm.quote(
                evidence.selection, by: key,
                nonce: evidence.extraData(for: trust.sealingKeys[0]))
            if made.values == evidence.values {
                evidence.quote = made.quote.attestation.bytes
                evidence.quoteSignature = made.quote.signature.bytes
                return evidence
            }
            evidence.values = made.values
        }
        throw DeviceError.unsteady
    }

    // MARK: Replies and approvals

    /// What a reply brought.
    public struct Applied: Sendable {
        public let outcome: ReplyOutcome
        /// Licenses that came, with where they stand now.
        public let standings: [LicenseStanding]
        public let approvals: Int
        /// What became different.
        public let changes: [LicenseChange]
        /// Why the receipt in it could not be kept; everything else was.
        public let ledgerProblem: LedgerStoreError?
    }

    /// Verifies a reply as a whole and takes it in; it may be taken in again.
    ///
    /// A lease stays beside an older one until it has opened once. A newer trust statement in it comes
    /// into force last: an interrupted run goes by both, and the same reply finishes it.
    ///
    /// - Throws: ``DeviceError/replyOutdated``, ``TokenError``, ``DocumentError``,
    ///   ``SealedObjectError``; nothing is changed then.
    public func apply(reply bytes: [UInt8]) throws -> Applied {
        guard try state.retirement() == nil else { throw DeviceError.retired }
        let reply = try Reply(
            decoding: bytes, in: LicenseDocument.Context(trust: trust, device: statement),
            replacing: trust)
        // One step and no more: a counter is not to be used up by a document.
        if let target = reply.header.epochTarget,
            try target > tpm.readCounter(statement.epochCounter) + 1
        {
            throw DocumentError.malformed(.replyHeader)
        }
        // A key that this very reply retires says nothing of where it stands.
        let judge =
            reply.trust.map { LicenseDocument.Context(trust: $0.statement, device: statement) }
            ?? context
        if let last = try state.lastReply(in: judge), reply.header.position < last.position {
            return try applyLate(reply, after: last)
        }
        return try goingBy(reply.trust, of: reply) { try takeIn(reply, bytes) }
    }

    /// What was taken in of a reply.
    private struct Taken {
        /// What is to be told of.
        var licenses: Set<LicenseID>
        var changes: [LicenseChange]
        var problem: LedgerStoreError?
    }

    /// Takes a reply in, and with it the trust statement by which it is signed.
    private func goingBy(
        _ newer: NewerTrust?, of reply: Reply, _ body: () throws -> Taken
    ) throws -> Applied {
        guard let newer else { return try applied(reply, body()) }
        let held = try licenseIDs()
        let at = reply.header.serverAt
        let change = LicenseChange.trust(
            from: trust, to: newer.statement, at: at, cause: Self.cause(reply))
        record([change])
        try state.store(comingTrust: newer.token)
        known.coming = newer.statement
        var taken = try body()
        try state.takeComingTrust()
        known.trust = newer.statement
        known.coming = nil
        let lost = try held.subtracting(licenseIDs()).map {
            LicenseChange(at: at, .licenseVoid, $0.description, cause: Self.cause(reply))
        }
        record(lost)
        taken.changes = [change] + taken.changes + lost
        return try applied(reply, taken)
    }

    /// Licenses of which there is a lease that counts.
    private func licenseIDs() throws -> Set<LicenseID> {
        Set(try state.licenses(in: context).joined().map(\.license.id))
    }

    private func takeIn(_ reply: Reply, _ bytes: [UInt8]) throws -> Taken {
        let isRepeated = try state.lastReply(in: context) == reply.header
        let cause = Self.cause(reply)
        var changes = try take(
            reply.documents, of: reply, beside: state.licenses(in: context).compactMap(\.first))
        // Nonces that came with a reply are spent in its wake: a repeated one brings none back.
        if !isRepeated { try state.store(nonces: reply.nonces) }
        var problem: LedgerStoreError?
        if let receipt = reply.receipt, let token = try Reply.receipt(in: bytes) {
            // A ledger that cannot be used is no reason to keep what was revoked; the receipt comes
            // again with the next settlement.
            do {
                let settled = try self.changes(
                    by: receipt, at: reply.header.serverAt, cause: cause)
                record(settled)
                changes += settled
                try state.ledger(random: random).store(receipt, token: token)
            } catch let error as LedgerStoreError {
                problem = error
            }
        }
        let announced = try announcements(of: reply, cause: cause)
        record(announced)
        changes += announced
        try state.store(announced: AnnouncedTerms.kept(of: bytes, in: context))
        try state.store(reply: Reply.header(in: bytes))
        // The leases of what stays are on the disk; now what was revoked is given up.
        if let target = reply.header.epochTarget { try raiseEpoch(to: target) }
        // What was revoked is told as well.
        return Taken(
            licenses: Set(reply.documents.map(\.license.id) + reply.header.revoked),
            changes: changes, problem: problem)
    }

    /// Takes from a reply that comes after a later one what is not superseded.
    ///
    /// These are licenses and leases that are not here yet, and approvals. Nonces and the epoch are
    /// those of the later one.
    private func applyLate(_ reply: Reply, after last: ReplyHeader) throws -> Applied {
        let present = try state.licenses(in: context).compactMap(\.first)
        let wanted = reply.documents.filter { document in
            Self.isNewer(document, than: present)
                && !last.revoked.contains(document.license.id)
        }
        guard !wanted.isEmpty || reply.trust != nil else { throw DeviceError.replyOutdated }
        return try goingBy(reply.trust, of: reply) {
            Taken(
                licenses: Set(wanted.map(\.license.id)),
                changes: try take(wanted, of: reply, beside: present), problem: nil)
        }
    }

    private static func cause(_ reply: Reply) -> String {
        "reply \(reply.header.position.server).\(reply.header.position.sequence)"
    }

    /// Newer means a higher serial of that license, and nothing else.
    private static func isNewer(
        _ document: LicenseDocument, than present: [LicenseDocument]
    ) -> Bool {
        let held = present.first { $0.license.id == document.license.id }
        return document.statement.serial > held?.statement.serial ?? 0
    }

    /// Keeps what is new of leases and approvals.
    ///
    /// What changes is written down first: an interrupted run writes a line twice rather than none.
    ///
    /// - Parameter present: the newest lease of each license that is here.
    private func take(
        _ documents: [LicenseDocument], of reply: Reply, beside present: [LicenseDocument]
    ) throws -> [LicenseChange] {
        let at = reply.header.serverAt
        let cause = Self.cause(reply)
        let newer = documents.filter { Self.isNewer($0, than: present) }
        let revoked = Set(try state.lastReply(in: context)?.revoked ?? [])
        let changes =
            try additions(reply.approvals, at: at, cause: cause)
            + newer.flatMap { document in
                LicenseChange.changes(
                    from: present.first { $0.license.id == document.license.id }, to: document,
                    at: at, cause: cause)
            }
            + reply.header.revoked.filter { !revoked.contains($0) }.map {
                LicenseChange(at: at, .licenseRevoked, $0.description, cause: cause)
            }
        record(changes)
        for approval in reply.approvals { try state.store(approval) }
        for document in newer { try state.store(document) }
        return changes
    }

    /// Which approvals are not here yet, as changes.
    private func additions(
        _ approvals: [ApprovalDocument], at: UInt64, cause: String
    ) throws -> [LicenseChange] {
        let known = try state.approvals(trusting: trust.approvalKey).map(\.approval.signedBytes)
        return approvals.filter { !known.contains($0.approval.signedBytes) }.map {
            LicenseChange(at: at, .approvalAdded, $0.reference.scope.text, cause: cause)
        }
    }

    private func applied(_ reply: Reply, _ taken: Taken) throws -> Applied {
        let standings = try standings()
        let noted = note(standings, cause: taken.changes.isEmpty ? nil : Self.cause(reply))
        return Applied(
            outcome: reply.header.outcome,
            standings: standings.filter { taken.licenses.contains($0.document.license.id) },
            approvals: reply.approvals.count, changes: taken.changes + noted,
            ledgerProblem: taken.problem)
    }

    /// How many leases of this device an approval can open: those that were issued for its product,
    /// scope and generation.
    public func leases(takenBy approval: ApprovalDocument) throws -> Int {
        try state.licenses(in: context).compactMap(\.first).count {
            $0.statement.reference == approval.reference
        }
    }

    /// Installs a vendor's approvals of a boot state, all of a file or none.
    ///
    /// - Throws: ``TokenError/otherDevice`` when it is for another device.
    public func install(approval bytes: [UInt8]) throws -> [ApprovalDocument] {
        let approvals = try ApprovalDocument.all(in: bytes, trusting: trust.approvalKey)
        for approval in approvals {
            if case .device(let id) = approval.reference.scope, id != statement.pairwiseID.bytes {
                throw TokenError.otherDevice
            }
        }
        record(try additions(approvals, at: lastServerTime(), cause: "file"))
        for approval in approvals { try state.store(approval) }
        return approvals
    }

    // MARK: Retirement

    /// Gives the enrollment up: raises the epoch above every lease and proves it.
    ///
    /// The target is on the disk before the TPM is touched, and reached by comparison: an
    /// interrupted run is finished by the next one, and never raises twice.
    ///
    /// - Returns: the proof, sealed to the server; the same one again when it was made before.
    ///
    /// - Parameter discarding: give usage up that the vendor has not settled.
    public func retire(discarding: Bool = false) throws -> SealedEnvelope {
        if try state.retirement() == nil, !discarding, try hasUnsettledUsage() {
            throw DeviceError.unsettled
        }
        let retirement = try state.retirement() ?? newRetirement()
        return try SealedEnvelope(
            sealing: retirement.encoded(), to: trust.sealingKeys[0], random: random)
    }

    /// Whether anything was used that the last receipt does not cover.
    func hasUnsettledUsage() throws -> Bool {
        guard state.hasLedger else { return false }
        let store = try state.ledger(random: random)
        guard let head = try store.head() else { return false }
        let used = try head.genesis.totals.adding(head.frontier.sums())
        var settled = MeterSums()
        if let receipt = try lastReceipt() {
            // The vendor counts what an era began with, too.
            let before = try store.genesis(of: receipt.era)?.totals ?? MeterSums()
            settled = try before.adding(receipt.totals)
        }
        return used.entries.contains { $0.total > settled[$0.meter, $0.termsVersion] }
    }

    private func newRetirement() throws -> Retirement {
        // Another TPM has nothing to give up.
        _ = try demandParent()
        let present = try tpm.readCounter(statement.epochCounter)
        let highest = try state.licenses(in: context).joined().map(\.statement.policy.epoch).max()
        // The target stays on the disk until the proof is there: only then is the work done.
        try raiseEpoch(
            to: intent() ?? max(present, highest ?? 0) + 1, isFinal: false)
        let vendorID = trust.vendorID.bytes
        let (certified, eviction) = try withAttestationKey { key in
            let certified = try tpm.certifyCounter(
                statement.epochCounter, by: key.reference, keyAuthorization: .emptyAuth,
                qualifyingData: Retirement.qualifyingData(
                    vendorID: vendorID, incarnation: statement.incarnation))
            return (certified, try evict(certified, by: key))
        }
        let retirement = Retirement(
            vendorID: vendorID, pairwiseID: statement.pairwiseID.bytes,
            incarnation: statement.incarnation, epochCounter: certified, eviction: eviction)
        record([.init(at: try lastServerTime(), .retired, "enrollment", cause: "retire")])
        try state.store(retirement)
        try state.clearEpochIntent()
        return retirement
    }

    /// Ends every policy session of this boot by extending PCR 15, and quotes that.
    ///
    /// - Returns: `nil` when somebody else extended the register in between: the proof then comes
    ///   with the next boot.
    private func evict(
        _ certified: SignedAttestation, by key: LoadedObject
    ) throws -> Retirement.Eviction? {
        let register = PCRIndex.all[15]
        let selection = PCRSelection(.sha256, [register])
        let previous: [UInt8]
        do throws(TPMError) {
            guard let value = try tpm.readPCRs(selection)[.sha256, register] else { return nil }
            previous = value
        } catch {
            // A TPM without the bank: the next boot ends the sessions.
            guard error.code == .notSupported else { throw error }
            return nil
        }
        try tpm.extend(register, banks: [.sha256], with: certified.attestation.bytes)
        let quoted = try tpm.quote(
            selection, by: key, nonce: Retirement.Eviction.nonce(certified))
        let eviction = Retirement.Eviction(
            previous: previous, quote: quoted.quote.attestation.bytes,
            quoteSignature: quoted.quote.signature.bytes)
        return quoted.values[.sha256, register] == eviction.expected(after: certified)
            ? eviction : nil
    }

    // MARK: Epoch

    /// Raises the epoch counter to a value, by comparison: the target is on the disk before the TPM
    /// is touched, and an interrupted run is finished by the next one.
    ///
    /// - Parameter isFinal: nothing else has to be done before the target may be forgotten.
    func raiseEpoch(to target: UInt64, isFinal: Bool = true) throws {
        var value = try tpm.readCounter(statement.epochCounter)
        if value < target || !isFinal { try state.store(epochIntent: target) }
        let parent = try demandParent()
        while value < target {
            try tpm.increment(statement.epochCounter, authValue: counterAuth(), salt: parent)
            let raised = try tpm.readCounter(statement.epochCounter)
            guard raised > value else {
                throw TPMError(.malformedResponse, "the epoch counter does not rise")
            }
            value = raised
        }
        if isFinal { try state.clearEpochIntent() }
    }

    /// Finishes what an interrupted run began.
    func finishIntent() throws {
        if let target = try intent() { try raiseEpoch(to: target) }
    }

    /// The epoch that an interrupted run was on its way to.
    ///
    /// Never more than two steps: one for what was revoked and one for a retirement. A file that says
    /// more was damaged, and would use the counter up; the vendor tells the target again.
    private func intent() throws -> UInt64? {
        guard let target = try state.epochIntent() else { return nil }
        let (distance, isReached) = target.subtractingReportingOverflow(
            try tpm.readCounter(statement.epochCounter))
        guard isReached || distance <= 2 else {
            try state.clearEpochIntent()
            return nil
        }
        return target
    }
}
