import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

/// What a server that was restored from a backup learns from its devices.
///
/// A device keeps what the vendor signed, and the vendor believes its own signatures. Nothing here
/// needs to be fresh: a document that is older than what is known changes nothing.
extension VendorService {
    /// Whether the server lost what it said to a device, so that nothing may be issued or settled
    /// before the device brought it.
    ///
    /// The checkpoint names the last reply that the device applied and its last receipt. After a
    /// restoration each device brings what it has once, and again when a reply of before was under
    /// way.
    func isForgetful(
        of record: EnrollmentRecord, _ checkpoint: Checkpoint,
        _ transaction: any VendorStoreReading
    ) throws -> Bool {
        // A device that was never told anything has nothing to bring.
        guard !checkpoint.heard.isEmpty else { return false }
        guard try record.heardIn == transaction.serverIncarnation() else { return true }
        return try !checkpoint.heard.allSatisfy { try transaction.wasSaid($0, to: record.id) }
    }

    /// Makes the record of an enrollment again that the server has no record of.
    ///
    /// - Throws: when the vendor never told this enrollment anything: then it enrolls again.
    ///
    /// - Parameter trustSequence: of the trust statement that the device says it has.
    func remake(
        _ recollection: Recollection, trustSequence: UInt64?,
        _ transaction: any VendorStoreWriting
    ) throws -> EnrollmentRecord {
        let found = try VerifiedRecollection(recollection, trust: trust)
        guard found.replyHeader != nil else { throw ServiceError.unknownNonce }
        let statement = found.statement
        guard try transaction.enrollment(requestHash: statement.requestHash) == nil else {
            throw ServiceError.conflict(
                "the enrollment request of this device was answered once more since the server was restored"
            )
        }
        let endorsementKey = found.request.keys.endorsementKey.wireBytes
        var record = EnrollmentRecord(
            id: 0, requestHash: statement.requestHash, pairwiseID: statement.pairwiseID.bytes,
            incarnation: statement.incarnation, state: .pending,
            attestationKey: found.request.keys.attestationKey,
            statement: found.statementToken.text, response: [],
            endorsementHash: try endorsementHash(HashAlgorithm.sha256.digest(endorsementKey)),
            model: nil, createdAt: statement.issuedAt, replySequence: 0, heardIn: 0,
            trustSequence: trustSequence ?? 0)
        record.id = try transaction.insert(record)
        for fact in found.request.keys.hardwareFacts.compactMap({ HardwareFact($0) }) {
            try transaction.insert(fact, of: record.id)
        }
        return record
    }

    /// Takes over what the vendor signed for an enrollment and has no record of.
    ///
    /// Called when the evidence around it is signed by the enrollment's key.
    ///
    /// - Returns: for the operator: what was taken over.
    func adopt(
        _ found: VerifiedRecollection, _ evidence: Evidence, _ record: inout EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws -> [String] {
        guard found.statementToken.text == record.statement else { throw TokenError.otherDevice }
        if let header = found.replyHeader, let hash = found.replyHash {
            try adopt(header, hash, &record, transaction)
        }
        // Evidence that was under way when the records were lost is older than what is known now.
        try transaction.retireNonces(of: record.id)
        let receipts = try adopt(receipts: found.receipts, record, transaction)
        for receipt in found.receipts.map(\.receipt) {
            // Receipts are kept beside the dictionary: a ledger that began anew has none of before.
            try insert(
                names: evidence.ledger.meters, of: [receipt.totals], era: receipt.era, record,
                transaction)
        }
        let leases = try adopt(
            leases: found.leases, revoked: found.replyHeader?.revoked ?? [], record, transaction)
        let approvals = try adopt(approvals: found.approvals, transaction)
        for case .model(let name) in found.leases.map(\.statement.reference.scope)
        where record.model == nil {
            record.model = name
        }
        // What it was granted, it was granted as a device that somebody had admitted.
        let admitted: Set<ReplyOutcome?> = [.accepted, .pendingBootState, .pendingPolicy]
        let wasAdmitted =
            !found.leases.isEmpty || admitted.contains(found.replyHeader?.outcome)
        if record.state == .pending, wasAdmitted {
            try admit(&record, model: nil, by: "what it brought", transaction)
        }
        record.heardIn = try transaction.serverIncarnation()
        try transaction.update(record)
        var note =
            "RESTORED: \(receipts) receipts, \(leases) leases and \(approvals) approvals were taken over from the device"
        if found.disbelieved > 0 {
            note +=
                "; \(found.disbelieved) receipts and leases were not, being signed by a key that was retired"
        }
        if let head = found.disbelievedHead {
            note += "; nor was its last reply, by such a key"
            if !head.revoked.isEmpty {
                note +=
                    ", which says that the vendor had revoked "
                    + head.revoked.map(\.description).joined(separator: ", ")
                    + ": revoke them again if that is so"
            }
        }
        try audit("device.recollected", record.device, note, transaction)
        return [note]
    }

    /// A reply of which this server knows nothing, of its present incarnation or a later one, was
    /// written by a server that these records were restored from: what is said from now on comes
    /// after it.
    private func adopt(
        _ header: ReplyHeader, _ hash: [UInt8], _ record: inout EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws {
        guard try !transaction.wasSaid(hash, to: record.id) else { return }
        // Whoever has a leaked key could otherwise use up the numbers of all devices with one head.
        let present = try transaction.serverIncarnation()
        guard header.position.server <= max(present, now()) + Self.mostRestorations,
            header.position.sequence <= record.replySequence + Self.mostForgotten
        else {
            throw ServiceError.conflict(
                "the last reply of this device claims to be number \(header.position.sequence) of server incarnation \(header.position.server): no server of this vendor is there yet; look at its clock, and whether an issuer key leaked"
            )
        }
        try transaction.insert(said: hash, to: record.id)
        record.replySequence = max(record.replySequence, header.position.sequence)
        if try header.position.server >= transaction.serverIncarnation() {
            try takeIncarnation(above: header.position.server, transaction)
        }
    }

    /// How many replies to one device records can lack.
    private static let mostForgotten: UInt64 = 1 << 32
    /// How far incarnations, which are times or follow each other, can be ahead of the clock.
    private static let mostRestorations: UInt64 = 1 << 16

    /// Takes a new incarnation.
    ///
    /// The number is the time where that is higher, so that two servers which were restored from one
    /// backup differ.
    func takeIncarnation(above known: UInt64, _ transaction: any VendorStoreWriting) throws {
        let present = try transaction.serverIncarnation()
        let next = max(present, known, now() - 1) + 1
        try transaction.update(serverIncarnation: next)
        try audit(
            "server.restored", "server",
            "RESTORED: the records are older than what was said; incarnation \(present) became \(next)",
            transaction)
    }

    /// The server's incarnation; it rises when records are put back from a backup.
    public func incarnation() throws -> UInt64 { try store.read { try $0.serverIncarnation() } }

    /// Begins after the records were put back from a backup.
    ///
    /// Every device is asked once for what the vendor had signed.
    ///
    /// - Parameter known: an incarnation that was in use before, when it is known.
    /// - Returns: the new incarnation.
    public func beginRestored(above known: UInt64) throws -> UInt64 {
        try store.write { transaction in
            try takeIncarnation(above: known, transaction)
            return try transaction.serverIncarnation()
        }
    }

    private func adopt(
        receipts: [(receipt: Receipt, token: PASETOToken)], _ record: EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws -> Int {
        var adopted = 0
        for (receipt, token) in receipts {
            let hash = Reply.hash(ofSection: token)
            guard try !transaction.wasSaid(hash, to: record.id) else { continue }
            try transaction.insert(said: hash, to: record.id)
            let head = try transaction.head(of: record.id, era: receipt.era)
            guard receipt.size > head?.size ?? 0 || head == nil else { continue }
            let last = try transaction.settlements(of: record.id, limit: 1).first?.sequence ?? 0
            // What was settled before stays, also where the receipt says less.
            let totals = try receipt.totals.larger(head?.totals ?? MeterSums())
            try transaction.insert(
                SettlementRecord(
                    enrollment: record.id, sequence: max(receipt.sequence, last + 1),
                    era: receipt.era, checkpoint: receipt.checkpoint, root: receipt.root,
                    size: receipt.size, totals: totals,
                    isForked: receipt.isForked || head?.isForked == true
                        || totals != receipt.totals, at: receipt.serverAt, receipt: token.text))
            adopted += 1
        }
        return adopted
    }

    private func adopt(
        leases: [VerifiedRecollection.Lease], revoked: [LicenseID], _ record: EnrollmentRecord,
        _ transaction: any VendorStoreWriting
    ) throws -> Int {
        var adopted = 0
        for lease in leases {
            let id = lease.license.id
            let statement = lease.statement
            var known = try transaction.licenses(of: record.id).first { $0.id == id }
            if known == nil {
                let made = LicenseRecord(
                    id: id, enrollment: record.id, product: lease.license.product,
                    license: lease.licenseToken.text, terms: lease.termsToken.text,
                    endsAt: lease.license.endsAt, ending: nil, serial: 0)
                try transaction.insert(made)
                known = made
                try adopt(terms: lease.terms, lease.termsToken, transaction)
            }
            guard var license = known, statement.serial > license.serial else { continue }
            license.serial = statement.serial
            // It went on under newer terms since.
            if try lease.terms.version > terms(of: license).version {
                license.license = lease.licenseToken.text
                license.terms = lease.termsToken.text
                try adopt(terms: lease.terms, lease.termsToken, transaction)
                try transaction.removeAnnouncements(of: id, through: lease.terms.version)
            }
            try transaction.update(license)
            try transaction.insert(
                LeaseRecord(
                    license: id, serial: statement.serial, appraisal: statement.appraisal,
                    epoch: statement.policy.epoch, endTicks: statement.policy.highestClock,
                    issuedAt: statement.issuedAt, endsAt: statement.endsAt))
            adopted += 1
        }
        for var license in try transaction.licenses(of: record.id)
        where license.ending == nil && revoked.contains(license.id) {
            license.ending = .revoked
            try transaction.update(license)
        }
        return adopted
    }

    private func adopt(
        terms: Terms, _ token: PASETOToken, _ transaction: any VendorStoreWriting
    ) throws {
        if let text = try transaction.terms(terms.id) {
            let present = try Terms(
                verifying: PASETOToken(parsing: text), issuers: trust.everyIssuerKey)
            guard terms.version > present.version else { return }
        }
        try transaction.insert(
            terms: token.text, id: terms.id, version: terms.version, at: now())
    }

    private func adopt(
        approvals: [ApprovalDocument], _ transaction: any VendorStoreWriting
    ) throws -> Int {
        let known = Set(try transaction.approvals().map(\.document))
        var adopted = 0
        for approval in approvals {
            let document = try approval.encoded()
            guard !known.contains(document) else { continue }
            try transaction.insert(
                ApprovalRecord(
                    reference: approval.reference, document: document, createdAt: now()))
            adopted += 1
        }
        return adopted
    }
}
