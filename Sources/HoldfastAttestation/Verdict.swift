public import HoldfastErrors
public import HoldfastTPMWire

/// A verdict as it is printed, in text and in JSON.
public struct Verdict: Sendable, Hashable, Codable {
    /// One check.
    public struct Check: Sendable, Hashable, Codable {
        public let id: String
        public let outcome: CheckOutcome
        public let reason: String
    }

    /// `valid` or `refused`.
    public let verdict: String
    public let checks: [Check]

    /// The verdict on a quote.
    public init(_ appraisal: QuoteAppraisal) {
        self.init(appraisal.results, isProved: appraisal.verified != nil)
    }

    /// The verdict on an endorsement key certificate.
    public init(_ appraisal: EndorsementAppraisal) {
        self.init(appraisal.results, isProved: appraisal.verified != nil)
    }

    /// The verdict on a boot event log.
    public init(_ appraisal: EventLogAppraisal) {
        self.init(appraisal.results, isProved: appraisal.refusals.isEmpty)
    }

    /// The verdict on a measurement list.
    public init(_ appraisal: IMAAppraisal) {
        self.init(appraisal.results, isProved: appraisal.refusals.isEmpty)
    }

    /// The verdict on a boot against an appraisal policy.
    public init(_ appraisal: PolicyAppraisal) {
        self.init(appraisal.results, isProved: appraisal.refusals.isEmpty)
    }

    /// One verdict of two: valid when both are, with the checks of both.
    public func and(_ other: Verdict) -> Verdict {
        Verdict(
            verdict: verdict == "valid" ? other.verdict : verdict, checks: checks + other.checks)
    }

    private init(verdict: String, checks: [Check]) {
        self.verdict = verdict
        self.checks = checks
    }

    init<Check: RawRepresentable<String>>(
        _ results: [CheckResult<Check>], isProved: Bool
    ) {
        verdict = isProved ? "valid" : "refused"
        checks = results.map { result in
            Verdict.Check(
                id: result.check.rawValue, outcome: result.outcome, reason: result.reason)
        }
    }

    /// A line for each check, the verdict last.
    public var text: String {
        let lines = checks.map { check in
            let outcome = check.outcome.rawValue
            let padding = String(repeating: " ", count: max(1, 16 - outcome.count))
            return outcome + padding + check.id + (check.reason.isEmpty ? "" : ": \(check.reason)")
        }
        return (lines + ["verdict: \(verdict)"]).joined(separator: "\n")
    }
}

extension EvidenceFormatError: OperatorError {
    public var explanation: String { "the file is not what belongs here: \(expected)" }
    public var remedy: String? { "check which file was given for which option" }
    public var stableCode: String { "EVIDENCE_UNREADABLE" }
    public var exitStatus: ExitStatus { .refused }
}

extension EventLogError: OperatorError {
    public var explanation: String { description }
    public var remedy: String? { "take /sys/kernel/security/tpm0/binary_bios_measurements again" }
    public var stableCode: String { "EVENT_LOG_UNREADABLE" }
    public var exitStatus: ExitStatus { .refused }
}
