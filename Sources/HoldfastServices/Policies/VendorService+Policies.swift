import HoldfastAttestation
import HoldfastCrypto
public import HoldfastProtocol
import HoldfastTPMWire
import Synchronization

/// A policy that is in force, as an operator sees it.
public struct PolicyReport: Sendable, Codable {
    public let id: String
    public let version: UInt32
    /// `model:NAME`, or `device:` and a pairwise id in hexadecimal.
    public let scope: String
    public let appliedAt: UInt64
}

extension VendorService {
    /// Puts a policy in force for its model, or for one device.
    ///
    /// The highest version of a policy is remembered for good: what was tightened is not loosened by
    /// an older file.
    ///
    /// - Parameters:
    ///   - policy: signed by an issuer of this vendor's, or about to be.
    ///   - imaPolicy: the file that the policy names; `nil` when it names none.
    ///   - device: `nil` for every device of the policy's model.
    /// - Throws: ``ServiceError/policyExists(_:_:)`` for a version that is not above the present one.
    public func apply(
        policy: AppraisalPolicy, imaPolicy: [UInt8]?, device: String?
    ) throws -> PolicyReport {
        try check(policy, imaPolicy)
        return try store.write { transaction in
            let scope: PolicyScope =
                try device.map { .device(try record($0, transaction).pairwiseID) }
                ?? .model(policy.model)
            if let other = try transaction.policyID(for: scope), other != policy.id {
                throw ServiceError.badArgument(
                    "the policy `\(other)` is in force there; `policy withdraw` takes it out")
            }
            let present = try transaction.policy(policy.id)
            let isSame = try present.map { present in
                var same = policy
                let known = try known.policy(present, trust.everyIssuerKey).policy
                same.issuedAt = known.issuedAt
                return same == known
            }
            guard isSame == true || policy.version > present?.version ?? 0 else {
                throw ServiceError.policyExists(policy.id, present?.version ?? 0)
            }
            if isSame != true {
                var dated = policy
                dated.issuedAt = now()
                let token = try ring.withIssuerKey(keys, trust) { try dated.signed(with: $0) }
                try transaction.insert(
                    PolicyRecord(
                        id: policy.id, version: policy.version, token: token.text,
                        imaPolicy: imaPolicy, appliedAt: now()))
            }
            try transaction.set(policyID: policy.id, for: scope)
            try audit(
                "policy.apply", subject(of: scope), "\(policy.id), version \(policy.version)",
                transaction)
            return PolicyReport(
                id: policy.id, version: policy.version, scope: scope.text, appliedAt: now())
        }
    }

    /// Takes the policy of a model or of a device out of force.
    ///
    /// - Returns: its name.
    public func withdrawPolicy(model: String?, device: String?) throws -> String {
        try store.write { transaction in
            let scope: PolicyScope
            switch (model, device) {
            case (let name?, nil): scope = .model(name)
            case (nil, let text?): scope = .device(try record(text, transaction).pairwiseID)
            default: throw ServiceError.badArgument("give a model or a device")
            }
            guard let id = try transaction.policyID(for: scope) else {
                throw ServiceError.badArgument("no policy is in force there")
            }
            try transaction.set(policyID: nil, for: scope)
            try audit("policy.withdraw", subject(of: scope), id, transaction)
            return id
        }
    }

    /// Every policy that is in force, by scope.
    public func policies() throws -> [PolicyReport] {
        try store.read { transaction in
            try transaction.policyScopes().compactMap { scope, id in
                try transaction.policy(id).map {
                    PolicyReport(
                        id: id, version: $0.version, scope: scope, appliedAt: $0.appliedAt)
                }
            }
        }
    }

    private func subject(of scope: PolicyScope) -> String {
        switch scope {
        case .model(let name): "model:" + name
        case .device(let id): "dev_" + Base32.encode([UInt8](id.prefix(20)))
        }
    }

    /// What cannot be met by anybody is not put in force.
    private func check(_ policy: AppraisalPolicy, _ imaPolicy: [UInt8]?) throws {
        let spoken = policy.unchecked.union(policy.references.keys)
        for bank in trust.selection.banks {
            for index in bank.indexes where !spoken.contains(.init(bank.hash, index)) {
                throw ServiceError.badArgument(
                    "the policy does not speak of \(PCRValues.Register(bank.hash, index).text), which every device quotes; give it reference values, or name it in `unchecked`"
                )
            }
        }
        guard let wanted = policy.imaPolicy else {
            guard imaPolicy == nil else {
                throw ServiceError.badArgument("the policy names no IMA policy")
            }
            return
        }
        guard let imaPolicy else {
            throw ServiceError.badArgument("the policy names an IMA policy; give its file as well")
        }
        guard try IMAPolicy(imaPolicy).fingerprint == wanted else {
            throw ServiceError.badArgument(
                "the policy names another IMA policy: one with SHA-256 \(Hex.encode(wanted))")
        }
        guard spoken.contains(where: { $0.index.rawValue == 10 }) else {
            throw ServiceError.badArgument(
                "the policy needs a measurement list, which PCR 10 holds; name sha256:10 in `unchecked`"
            )
        }
    }

    // MARK: Devices

    /// The policy in force for an enrollment: its device's own before its model's.
    func policy(
        for record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> KnownPolicies.Known? {
        var scopes: [PolicyScope] = [.device(record.pairwiseID)]
        if let model = record.model { scopes.append(.model(model)) }
        for scope in scopes {
            guard let id = try transaction.policyID(for: scope) else { continue }
            guard let found = try transaction.policy(id) else { continue }
            return try known.policy(found, trust.everyIssuerKey)
        }
        return nil
    }

    /// What the next evidence of a device has to show; `nil` without a policy.
    func demand(
        of record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> MeasurementDemand? {
        guard let policy = try policy(for: record, transaction) else { return nil }
        let newest = try transaction.listStates(of: record.id).lazy.compactMap {
            try? IMAState(parsing: $0)
        }.first
        var accepted: MeasurementDemand.Accepted?
        if let newest, let rules = policy.imaPolicy, newest.wasMade(under: rules) {
            accepted = .init(
                resetCount: newest.boot.resetCount, restartCount: newest.boot.restartCount,
                entries: UInt64(newest.entries))
        }
        return MeasurementDemand(
            for: policy.policy, beside: trust.selection, accepted: accepted)
    }

    /// How the store remembers that a selection was asked of a device.
    static func askedHash(_ selection: PCRSelection) -> [UInt8] {
        HashAlgorithm.sha256.digest(Array("selection ".utf8), Array(selection.text.utf8))
    }

    /// What a device was asked to quote: what leases are bound to, or more for a policy.
    ///
    /// Evidence that was made before a policy came or changed answers what was asked then; the
    /// policy is not met by it, and that is no forgery.
    func askedSelection(
        of evidence: Evidence, _ record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> PCRSelection {
        guard evidence.selection != trust.selection else { return trust.selection }
        if try transaction.wasSaid(Self.askedHash(evidence.selection), to: record.id) {
            return evidence.selection
        }
        return try demand(of: record, transaction)?.selection ?? trust.selection
    }

    /// What a policy says of proven evidence.
    struct PolicyJudgement {
        let verdict: PolicyVerdict
        /// Where the next measurement list may begin.
        let state: [UInt8]?
        /// The attestation result, as JSON.
        let result: [UInt8]
    }

    /// Judges proven evidence by the policy of its device.
    ///
    /// - Returns: `nil` when none is in force.
    func judge(
        _ evidence: Evidence, _ appraisal: EvidenceAppraisal, _ verified: VerifiedEvidence,
        _ record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> PolicyJudgement? {
        guard let known = try policy(for: record, transaction) else { return nil }
        let values = verified.quote.values
        var whole = Verdict(appraisal)
        let list = try known.imaPolicy.flatMap { rules in
            try judge(list: evidence.measurementList, by: rules, verified, record, transaction)
        }
        let log = evidence.eventLog.map { bytes in
            EventLogAppraisal(
                bytes, userspace: nil, explaining: list == nil ? values : values.withoutIMA,
                revocations: nil)
        }
        let judged = PolicyAppraisal(
            .signed(known.verified), of: verified.quote, log: log,
            list: list.map { .init($0, policy: known.imaPolicy) })
        if let log { whole = whole.and(Verdict(log)) }
        if let list { whole = whole.and(Verdict(list)) }
        whole = whole.and(Verdict(judged))
        let reasons = Verdict(judged).failures + (list.map { Verdict($0).failures } ?? [])
        // A log that does not explain the quote shows nothing; the policy says so where it matters.
        let more = judged.refusals.isEmpty ? [] : log.map { Verdict($0).failures } ?? []
        let result = AttestationResult(
            whole, quote: appraisal.quote, policy: .init(known.policy, judged),
            nonce: evidence.subject.nonce)
        let refusals = reasons + more
        return PolicyJudgement(
            verdict: PolicyVerdict(
                id: known.policy.id, version: known.policy.version,
                refusals: refusals.map { String($0.prefix(400)) }),
            state: refusals.isEmpty ? try list?.state?.encoded() : nil,
            result: result.claims(issuedAt: now()))
    }

    /// A list that begins with the boot, or where an accepted one ended.
    ///
    /// A reply that got lost leaves the device with an older place; as many are kept as a device has
    /// nonces.
    private func judge(
        list: MeasurementList?, by rules: IMAPolicy, _ verified: VerifiedEvidence,
        _ record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> IMAAppraisal? {
        guard let list else { return nil }
        let boot = BootInstance(verified.quote.attestation.clockInfo)
        var state: IMAState?
        if list.first > 0 {
            state = try transaction.listStates(of: record.id).lazy.compactMap {
                try? IMAState(parsing: $0)
            }.first {
                $0.boot == boot && UInt64($0.entries) == list.first && $0.wasMade(under: rules)
            }
            // Without its beginning it does not replay to the quoted value, and is refused for that.
        }
        var appraiser = IMAAppraiser(
            explaining: verified.quote.values, policy: rules, continuing: state, boot: boot)
        appraiser.append(list.bytes)
        return appraiser.finish()
    }

    /// How many places are kept where a list may go on.
    static let keptListStates = EnrollmentResponse.nonceCount + 1

    /// Refuses to issue anything from evidence that the policy of its device was not met by.
    func demandPolicy(
        _ appraisal: AppraisalRecord, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws {
        guard let policy = try policy(for: record, transaction)?.policy else { return }
        let name = "\(policy.id) \(policy.version)"
        guard let verdict = appraisal.policy, verdict.id == policy.id,
            verdict.version == policy.version
        else {
            throw ServiceError.policyNotMet(name, ["the evidence was not judged by it yet"])
        }
        guard verdict.isMet else { throw ServiceError.policyNotMet(name, verdict.refusals) }
    }
}

/// Policies that were verified and read, so that they are not for each bundle again.
final class KnownPolicies: Sendable {
    /// A policy with the rules for files that it names.
    struct Known: Sendable {
        let token: String
        let verified: VerifiedPolicy
        let imaPolicy: IMAPolicy?

        var policy: AppraisalPolicy { verified.policy }
    }

    private let known = Mutex<[String: Known]>([:])
    private static let most = 64

    func policy(_ record: PolicyRecord, _ issuers: [Ed25519PublicKey]) throws -> Known {
        if let found = known.withLock({ $0[record.id] }), found.token == record.token {
            return found
        }
        let read = Known(
            token: record.token,
            verified: try VerifiedPolicy(
                verifying: PASETOToken(parsing: record.token), issuers: issuers),
            imaPolicy: try record.imaPolicy.map { try IMAPolicy($0) })
        known.withLock { known in
            if known.count >= Self.most { known.removeAll() }
            known[record.id] = read
        }
        return read
    }
}
