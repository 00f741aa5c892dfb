import FoundationEssentials
import HoldfastAttestation
import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

/// What came of an enrollment request.
public struct EnrollmentOutcome: Sendable {
    /// For the device; the same request gets the same bytes.
    public let response: [UInt8]
    public let device: String
    public let incarnation: UInt32
    /// The request was answered before.
    public let isRepeated: Bool
}

extension VendorService {
    /// Checks an enrollment request and answers it.
    ///
    /// The record is unproven: it reserves nothing, and any number may stand beside each other, for
    /// an endorsement key certificate is no secret.
    ///
    /// - Parameter envelope: sealed to this server.
    /// - Throws: ``ServiceError/refused(_:)`` with every reason.
    public func enroll(_ envelope: [UInt8]) async throws -> EnrollmentOutcome {
        let (plain, _) = try open(envelope)
        let hash = HashAlgorithm.sha256.digest(plain)
        if let known = try store.read({ try $0.enrollment(requestHash: hash) }) {
            // A record that was made again from what the device brought has no response.
            guard !known.response.isEmpty else {
                throw ServiceError.conflict(
                    "this request was answered before the server was restored from a backup, and the device has the answer"
                )
            }
            return EnrollmentOutcome(
                response: known.response, device: known.device, incarnation: known.incarnation,
                isRepeated: true)
        }
        let request = try EnrollmentRequest(decoding: plain)
        let makers = try keys.makers()
        guard !makers.isEmpty else { throw ServiceError.noMakers }
        // What the TPM maker left in NV may stand in a path, and never ends one.
        let endorsement = try await EndorsementPathVerifier(
            roots: makers, intermediates: []
        ).appraise(
            request.keys.endorsementCertificate, chain: request.keys.endorsementIssuers,
            at: Date(timeIntervalSince1970: TimeInterval(now())))
        let endorsementHash = try endorsementHash(
            HashAlgorithm.sha256.digest(request.keys.endorsementKey.wireBytes))
        let isInInventory = try store.read { try $0.isInInventory(endorsementHash) }
        let appraisal = EnrollmentAppraisal(
            request, endorsement: endorsement, trust: trust, isInInventory: isInInventory)
        guard let verified = appraisal.verified else {
            let reasons = Verdict(appraisal).failures
            try store.write {
                try boundedAudit(
                    "enroll.refused", PairwiseID(attestationKey: request.keys.attestationKey.name),
                    reasons.joined(separator: "; "), $0)
            }
            throw ServiceError.refused(reasons)
        }
        return try store.write { transaction in
            try answer(verified, plain, hash, endorsementHash, transaction)
        }
    }

    /// How many unproven enrollments of an endorsement key stand beside each other.
    ///
    /// A certificate is no secret, so anybody can ask with it. Enough that a device on its way is not
    /// pushed out by a few, and few enough for the disk.
    static let keptUnproven = 64
    /// How many answers the audit remembers: a fleet's.
    static let keptAnswers = 100_000

    private func answer(
        _ verified: VerifiedRequest, _ plain: [UInt8], _ hash: [UInt8],
        _ endorsementHash: [UInt8], _ transaction: any VendorStoreWriting
    ) throws -> EnrollmentOutcome {
        let attestationKey = verified.request.keys.attestationKey
        let id = PairwiseID(attestationKey: attestationKey.name)
        let proven = try transaction.enrollments(pairwiseID: id.bytes).filter {
            $0.state != .unproven
        }
        let incarnation = (proven.map(\.incarnation).max() ?? 0) + 1
        // Nonces hang on the record, whose statement hangs on the nonces: the record comes first.
        var record = EnrollmentRecord(
            id: 0, requestHash: hash, pairwiseID: id.bytes, incarnation: incarnation,
            state: .unproven, attestationKey: attestationKey, statement: "", response: [],
            endorsementHash: endorsementHash, model: nil, createdAt: now(), replySequence: 0,
            heardIn: try transaction.serverIncarnation(),
            trustSequence: verified.request.keys.trustSequence ?? 0)
        let nonces = (0..<EnrollmentResponse.nonceCount).map { _ in
            random.bytes(EnrollmentResponse.nonceSize)
        }
        let joined = nonces.flatMap { $0 }
        let issuer = try keys.issuerKey(of: trust.issuerKeys[0])
        let token = try DeviceStatement(
            incarnation: incarnation, keys: verified.request.keys, ledgerKeys: [],
            endorsementKeyKind: verified.endorsementKeyKind,
            manufacturer: verified.endorsement.manufacturer, model: verified.endorsement.model,
            checks: verified.checks, requestHash: hash, nonces: joined, issuedAt: now()
        ).signed(with: issuer)
        record.statement = token.text
        let isBehind = 1..<trust.sequence ~= record.trustSequence
        record.response = try EnrollmentResponse(
            statement: token, trust: isBehind ? trustToken : nil, nonces: joined, request: plain,
            attestationKey: attestationKey.name,
            endorsementKey: verified.request.keys.endorsementKey, random: random
        ).encoded()
        record.id = try transaction.insert(record)
        for fact in verified.request.keys.hardwareFacts.compactMap({ HardwareFact($0) }) {
            try transaction.insert(fact, of: record.id)
        }
        for (number, nonce) in nonces.enumerated() {
            try transaction.insert(
                NonceRecord(
                    nonce: nonce, enrollment: record.id, ordinal: UInt64(number + 1),
                    expiresAt: now() + Self.firstNonceLifetime, usedBy: nil))
        }
        try transaction.removeUnproven(
            endorsementHash: endorsementHash, keeping: Self.keptUnproven)
        try boundedAudit(
            "enroll.answered", id,
            "enrollment \(incarnation), \(verified.endorsement.manufacturer) \(verified.endorsement.model)",
            keeping: Self.keptAnswers, transaction)
        return EnrollmentOutcome(
            response: record.response, device: record.device, incarnation: incarnation,
            isRepeated: false)
    }

    // MARK: Inventory

    /// Lists endorsement keys whose devices need nobody to admit them.
    ///
    /// - Parameter digests: SHA-256 of each key's public area, in hexadecimal.
    /// - Returns: how many there are now that were not there before.
    public func addToInventory(_ digests: [String]) throws -> Int {
        let hashes = try digests.map { text in
            guard let digest = try? Hex.decode(variableTime: text), digest.count == 32 else {
                throw ServiceError.badArgument(
                    "`\(text)` is not SHA-256 of an endorsement key's public area in hexadecimal")
            }
            return try endorsementHash(digest)
        }
        return try store.write { transaction in
            var added = 0
            for hash in Set(hashes) where try !transaction.isInInventory(hash) {
                try transaction.addToInventory(hash, at: now())
                added += 1
            }
            try audit("inventory.add", "inventory", "\(added) endorsement keys", transaction)
            return added
        }
    }

    // MARK: Devices

    /// The newest enrollment of a device.
    ///
    /// - Parameter text: `dev_…`, or a beginning of it that fits one device.
    func record(
        _ text: String, _ transaction: any VendorStoreReading
    ) throws -> EnrollmentRecord {
        guard let (first, last) = Self.pairwiseIDs(of: text) else {
            throw ServiceError.unknownDevice(text)
        }
        let all = try transaction.enrollments(pairwiseIDs: first, through: last)
        guard !all.isEmpty else { throw ServiceError.unknownDevice(text) }
        guard Set(all.map(\.pairwiseID)).count == 1 else {
            throw ServiceError.ambiguousDevice(text)
        }
        // An unproven enrollment does not hide the one that counts.
        guard let newest = all.last(where: { $0.state != .unproven }) ?? all.last else {
            throw ServiceError.unknownDevice(text)
        }
        return newest
    }

    /// The first and the last pairwise id of devices whose names begin with a text.
    private static func pairwiseIDs(of text: String) -> (first: [UInt8], last: [UInt8])? {
        // 20 bytes are 32 characters, of which `a` has no bit and `7` has all.
        let size = (name: 32, bytes: 20, id: 32)
        let name = text.dropFirst(4)
        guard text.hasPrefix("dev_"), name.utf8.count <= size.name else { return nil }
        func filled(with filler: String, _ rest: UInt8) -> [UInt8]? {
            let missing = String(repeating: filler, count: size.name - name.utf8.count)
            let start = try? Base32.decode(variableTime: name + missing)
            return start.map { $0 + [UInt8](repeating: rest, count: size.id - size.bytes) }
        }
        guard let first = filled(with: "a", 0), let last = filled(with: "7", 0xFF) else {
            return nil
        }
        return (first, last)
    }

    /// Admits a device.
    ///
    /// - Parameter model: a name for its kind of machine, for approvals of whole models.
    public func approve(device text: String, model: String?) throws -> EnrollmentRecord {
        if let model, !License.isName(model) {
            throw ServiceError.badArgument("a model is 1 to 64 of a-z, 0-9, `-`, `_` and `.`")
        }
        return try store.write { transaction in
            var record = try record(text, transaction)
            switch record.state {
            case .unproven: throw ServiceError.notProven(record.device)
            case .superseded, .retired: throw ServiceError.ended(record.device)
            case .pending, .approved: break
            }
            try admit(&record, model: model, by: "operator", transaction)
            return record
        }
    }

    /// Admits a proven enrollment, and ends earlier ones of the device.
    func admit(
        _ record: inout EnrollmentRecord, model: String?, by whom: String,
        _ transaction: any VendorStoreWriting
    ) throws {
        let sameKey = try transaction.enrollments(endorsementHash: record.endorsementHash)
        if let other = sameKey.first(where: {
            $0.pairwiseID != record.pairwiseID && $0.state == .approved
        }) {
            throw ServiceError.endorsementKeyTaken(by: other.device)
        }
        for var earlier in try transaction.enrollments(pairwiseID: record.pairwiseID)
        where earlier.id != record.id && earlier.isLive {
            earlier.state = .superseded
            try transaction.update(earlier)
        }
        record.state = .approved
        if let model { record.model = model }
        try transaction.update(record)
        try audit(
            "device.approve", record.device,
            "enrollment \(record.incarnation) by \(whom), model \(record.model ?? "none")",
            transaction)
    }
}

extension Verdict {
    /// The reasons of the checks that did not pass, each with its id.
    var failures: [String] {
        checks.filter { $0.outcome == .failed }.map { "\($0.id): \($0.reason)" }
    }
}
