public import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastTPMWire

/// Every check of a boot against an appraisal policy; the list is closed.
public enum PolicyCheck: String, Sendable, Hashable, CaseIterable {
    /// An issuer of the vendor's signed the policy.
    case signed = "policy-signed"
    /// Every register that the policy has values for is quoted, and no other but those it names.
    case registers = "policy-registers"
    /// Each has one of its values.
    case references = "policy-references"
    /// The TPM's firmware is one that the policy names.
    case firmware = "policy-firmware"
    /// The event log shows every fact that is required.
    case facts = "policy-facts"
    /// Firmware was told to refuse what the policy names.
    case revoked = "policy-dbx"
    /// What was started is vouched for by certificates that the policy names.
    case authorities = "policy-authorities"
    /// A measurement list passed the IMA policy that the policy names.
    case measurements = "policy-ima"
}

/// Proof that an issuer of a vendor's signed a policy.
public struct VerifiedPolicy: Sendable, Hashable {
    public let policy: AppraisalPolicy

    /// Verifies a token.
    ///
    /// - Parameter issuers: from the trust statement.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey]
    ) throws(TokenError) {
        policy = try AppraisalPolicy(verifying: token, issuers: issuers)
    }
}

/// A policy, and where it comes from.
public enum PolicyOrigin: Sendable, Hashable {
    case signed(VerifiedPolicy)
    /// A file of whoever verifies.
    case ownFile(AppraisalPolicy)

    /// What is demanded.
    public var policy: AppraisalPolicy {
        switch self {
        case .signed(let verified): verified.policy
        case .ownFile(let policy): policy
        }
    }
}

/// The verdict on a boot against an appraisal policy: every check with its outcome.
public struct PolicyAppraisal: Sendable {
    /// One result for each check, in the order of ``PolicyCheck``.
    public let results: [CheckResult<PolicyCheck>]
    /// The rules of the measurement list let nothing pass that they do not name.
    let isListClosed: Bool
    /// The checks that failed; empty when the policy is met.
    public var refusals: [CheckResult<PolicyCheck>] { results.filter { $0.outcome == .failed } }

    /// Appraises a boot.
    ///
    /// - Parameters:
    ///   - quote: proven; a policy says nothing about values that are anybody's.
    ///   - log: of the same boot, which explains the values or shows nothing.
    ///   - list: of the same boot, with the fingerprint of the policy that it was appraised with.
    public init(
        _ origin: PolicyOrigin, of quote: VerifiedQuote?, log: EventLogAppraisal?,
        list: MeasuredList?
    ) {
        let appraiser = Appraiser(
            policy: origin.policy, origin: origin, values: quote?.values,
            firmware: quote?.attestation.firmwareVersion,
            boot: log.flatMap { ProvenBoot($0, quote?.values) }, list: list)
        isListClosed = list?.isClosed == true
        // A check that is added must be written, or the switch does not compile.
        results = PolicyCheck.allCases.map(appraiser.run)
    }

    /// A measurement list that was appraised.
    public struct MeasuredList: Sendable {
        let appraisal: IMAAppraisal
        let policy: [UInt8]?
        let isClosed: Bool

        /// Pairs a verdict with the policy that was asked for.
        public init(_ appraisal: IMAAppraisal, policy: IMAPolicy?) {
            self.appraisal = appraisal
            self.policy = policy?.fingerprint
            isClosed = policy?.isClosed == true
        }
    }

    /// What a log shows of the registers whose values it explains, and of no other.
    fileprivate struct ProvenBoot {
        let facts: EventLogFacts
        private let explained: PCRValues

        /// - Parameter values: of the quote; what the log explains beside them counts for nothing.
        init?(_ log: EventLogAppraisal, _ values: PCRValues?) {
            guard log.refusals.isEmpty, let facts = log.facts, let values else { return nil }
            var explained = PCRValues()
            for (register, value) in log.explained.values where values.values[register] == value {
                explained[register.hash, register.index] = value
            }
            guard !explained.values.isEmpty else { return nil }
            self.facts = facts
            self.explained = explained
        }

        func proves(_ indexes: [PCRIndex]) -> Bool { !explained.banks(with: indexes).isEmpty }
    }

    private struct Appraiser {
        let policy: AppraisalPolicy
        let origin: PolicyOrigin
        let values: PCRValues?
        let firmware: UInt64?
        let boot: ProvenBoot?
        let list: MeasuredList?

        func run(_ check: PolicyCheck) -> CheckResult<PolicyCheck> {
            func result(_ outcome: CheckOutcome, _ reason: String) -> CheckResult<PolicyCheck> {
                CheckResult(check: check, outcome: outcome, reason: reason)
            }
            switch check {
            case .signed:
                return switch origin {
                case .signed: result(.passed, "")
                case .ownFile:
                    result(.notApplicable, "the policy is a file of whoever verifies")
                }
            case .references:
                guard !policy.references.isEmpty else {
                    return result(.notApplicable, "the policy has no reference values")
                }
                let drift = drift()
                guard let reason = drift else { return result(.passed, "") }
                let isFlag = policy.onDrift == .flag && values != nil
                return result(isFlag ? .flagged : .failed, reason)
            case .registers: return judged(check, registers())
            case .firmware:
                guard !policy.firmware.isEmpty else {
                    return result(.notApplicable, "the policy takes every firmware of the TPM")
                }
                return judged(check, otherFirmware())
            case .facts:
                guard !policy.require.isEmpty else {
                    return result(.notApplicable, "the policy requires no fact")
                }
                return judged(check, missingFact())
            case .revoked:
                guard !policy.revoked.isEmpty else {
                    return result(.notApplicable, "the policy names no image to refuse")
                }
                return judged(
                    check,
                    unproven(AppraisalPolicy.vouching)
                        ?? RevokedImages(hashes: policy.revoked).refusal(of: boot?.facts))
            case .authorities:
                guard let authorities = policy.authorities else {
                    return result(.notApplicable, "the policy lets every certificate vouch")
                }
                return judged(check, stranger(authorities))
            case .measurements:
                guard let wanted = policy.imaPolicy else {
                    return result(.notApplicable, "the policy needs no measurement list")
                }
                return judged(check, measurements(wanted))
            }
        }

        private func judged(
            _ check: PolicyCheck, _ refusal: String?
        ) -> CheckResult<PolicyCheck> {
            CheckResult(
                check: check, outcome: refusal == nil ? .passed : .failed, reason: refusal ?? "")
        }

        private func registers() -> String? {
            guard let values else { return "the quote is refused" }
            let quoted = Set(values.values.keys)
            if let missing = policy.references.keys.filter({ !quoted.contains($0) }).min() {
                return "\(missing.text) has reference values and is not quoted"
            }
            let known = policy.unchecked.union(policy.references.keys)
            guard let extra = quoted.subtracting(known).min() else { return nil }
            return "\(extra.text) is quoted and the policy does not speak of it; give it reference "
                + "values, or name it in `unchecked`"
        }

        private func drift() -> String? {
            guard let values else { return "the quote is refused" }
            let other = policy.references.filter { register, references in
                values.values[register].map { !references.contains($0) } ?? false
            }.keys.sorted()
            guard !other.isEmpty else { return nil }
            return other.map(\.text).joined(separator: ", ")
                + (other.count == 1 ? " has a value" : " have values")
                + " that is no reference; `policy diff` compares two event logs"
        }

        private func otherFirmware() -> String? {
            guard let firmware else { return "the quote is refused" }
            guard !policy.firmware.contains(firmware) else { return nil }
            return
                "the TPM's firmware is \(AppraisalPolicyFile.text(ofVersion: firmware)), which the "
                + "policy does not name; update it"
        }

        /// Why the log shows nothing of registers.
        private func unproven(_ indexes: [PCRIndex]) -> String? {
            guard let boot else { return "no event log explains the values" }
            guard !boot.proves(indexes) else { return nil }
            let names = indexes.map { String($0.rawValue) }.joined(separator: ", ")
            return "PCR \(names) must be quoted in one bank for what the log says of it"
        }

        private func missingFact() -> String? {
            for fact in AppraisalPolicy.Fact.allCases {
                guard let wanted = policy.require[fact] else { continue }
                if let reason = unproven(fact.registers) { return reason }
                guard let boot, fact.value(in: boot.facts) != wanted else { continue }
                return "the event log does not show that "
                    + AppraisalPolicyFile.words(fact, wanted)
            }
            return nil
        }

        private func stranger(_ authorities: Set<[UInt8]>) -> String? {
            if let reason = unproven(AppraisalPolicy.vouching) { return reason }
            guard let facts = boot?.facts else { return "no event log explains the values" }
            let known = Set(authorities.map(hexadecimal))
            if let other = facts.otherAuthorities.first {
                return "PCR 7 holds something that is no certificate: \(other)"
            }
            let stranger = facts.authorities.first { !known.contains($0.certificate.sha256) }
            guard let stranger else { return nil }
            return "`\(stranger.certificate.subject ?? stranger.certificate.sha256)` vouched for "
                + "something, and the policy does not name it"
        }

        private func measurements(_ wanted: [UInt8]) -> String? {
            guard let list else { return "no measurement list was given" }
            guard list.policy == wanted else {
                return "the list was appraised under another IMA policy than "
                    + hexadecimal(wanted)
            }
            guard list.appraisal.refusals.isEmpty, list.appraisal.facts.proven != nil else {
                return "the measurement list is refused"
            }
            return nil
        }
    }
}

extension AppraisalPolicy {
    /// A policy that the present state of a machine meets, for a person to look at and to sign.
    ///
    /// - Parameters:
    ///   - values: of a reference machine.
    ///   - log: which must explain them; `nil` demands no facts.
    ///   - unchecked: registers that differ from boot to boot.
    ///   - imaPolicy: that lists must pass.
    ///   - firmware: of the machine's TPM; `nil` takes every one.
    /// - Throws: when the log does not explain the values.
    public static func learned(
        id: String, version: UInt32, model: String, from values: PCRValues,
        log: EventLogAppraisal?, unchecked: Set<PCRValues.Register>, imaPolicy: IMAPolicy?,
        firmware: UInt64? = nil
    ) throws(PolicyFormatError) -> AppraisalPolicy {
        var references: [PCRValues.Register: Set<[UInt8]>] = [:]
        for (register, value) in values.values where !unchecked.contains(register) {
            references[register] = [value]
        }
        var require: [Fact: Bool] = [:]
        var revoked: Set<[UInt8]> = []
        var authorities: Set<[UInt8]>?
        if let log {
            if let refusal = log.refusals.first {
                throw PolicyFormatError("nothing is learned: \(refusal.reason)")
            }
            guard let boot = PolicyAppraisal.ProvenBoot(log, values) else {
                throw PolicyFormatError("nothing is learned: the event log explains no value")
            }
            let facts = boot.facts
            // What is wrong with a machine is not what others must have.
            let good: [Fact: Bool] = [
                .secureBoot: true, .uefiDebug: false, .dmaProtectionDisabled: false,
                .exitBootServices: true, .separators: true,
            ]
            require = good.filter {
                boot.proves($0.key.registers) && $0.key.value(in: facts) == $0.value
            }
            let showsVouching = boot.proves(vouching)
            revoked = showsVouching ? facts.revoked ?? [] : []
            if showsVouching, facts.secureBoot == true, !facts.authorities.isEmpty,
                facts.otherAuthorities.isEmpty
            {
                authorities = Set(
                    facts.authorities.compactMap { bytes(hexadecimal: $0.certificate.sha256) })
            }
        }
        let policy = AppraisalPolicy(
            id: id, version: version, model: model, onDrift: .refuse, references: references,
            unchecked: unchecked, require: require, revoked: revoked, authorities: authorities,
            firmware: firmware.map { [$0] } ?? [], imaPolicy: imaPolicy?.fingerprint, issuedAt: 1)
        do throws(TokenError) { try policy.check() } catch {
            throw PolicyFormatError("nothing is learned: \(error.explanation)")
        }
        return policy
    }
}
