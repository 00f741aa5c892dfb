public import HoldfastCrypto
import HoldfastProtocol
public import HoldfastTPMWire

/// Every check of a boot event log; the list is closed.
///
/// A log proves nothing by itself: it is believed as far as it explains values that a TPM quoted.
public enum EventLogCheck: String, Sendable, Hashable, CaseIterable {
    /// Every byte belongs to an event that is well formed.
    case wellFormed = "log-well-formed"
    /// It explains at least one bank whole.
    case replays = "log-replays"
    /// It explains every value that is given: a register that it does not extend has its reset value.
    case explainsPCRs = "log-explains-pcrs"
    /// What firmware says of its steps in PCR 4 and 5 stands in the order in which they are taken.
    case actionOrder = "log-action-order"
    /// No separator says that firmware failed to measure.
    case noError = "log-no-error"
    /// What the firmware must refuse to start, it was told to refuse before it started anything.
    case revocations = "log-dbx"
}

/// The verdict on a boot event log: every check with its outcome.
public struct EventLogAppraisal: Sendable {
    /// One result for each check, in the order of ``EventLogCheck``.
    public let results: [CheckResult<EventLogCheck>]
    /// The replayed values of every bank that is explained whole.
    public let replayed: [HashAlgorithm: [PCRIndex: [UInt8]]]
    /// `nil` when the log cannot be read.
    public let facts: EventLogFacts?
    /// Every event in words.
    public let timeline: [BootStep]
    /// The values that it explains; none unless it explains all that were given.
    let explained: PCRValues

    /// Checks a log.
    ///
    /// - Parameters:
    ///   - bytes: the whole log as the kernel has it.
    ///   - userspace: what the running system measured after it; `nil` when there is no such log.
    ///   - values: what they must explain, all of it; `nil` when there is nothing to compare with.
    ///   - revocations: what dbx must hold; `nil` when nothing is asked for.
    public init(
        _ bytes: [UInt8], userspace: UserspaceLog?, explaining values: PCRValues?,
        revocations: RevokedImages?
    ) {
        var log: EventLog?
        var problem: String?
        var replayed: [HashAlgorithm: [PCRIndex: [UInt8]]] = [:]
        var gap: String? = "the log cannot be read"
        do throws(EventLogError) {
            let parsed = try EventLog(parsing: bytes)
            log = parsed
            do throws(EventLogError) {
                replayed = try parsed.replay()
                gap = nil
                if let userspace {
                    replayed = userspace.extend(replayed)
                    if replayed.isEmpty {
                        gap = "the log of systemd lacks digests for every bank of the event log"
                    }
                }
            } catch {
                gap = "\(error)"
            }
        } catch {
            problem = "\(error)"
        }
        self.replayed = replayed
        let facts = log.map { EventLogFacts($0, userspace: userspace) }
        self.facts = facts
        timeline = log.map(BootStep.timeline) ?? []
        let unexplained = values.map { gap ?? Self.unexplained($0, replayed) }
        explained = unexplained == .some(nil) ? values ?? PCRValues() : PCRValues()
        // A check that is added must be written, or the switch does not compile.
        results = EventLogCheck.allCases.map { check in
            let fault: String?
            switch check {
            case .wellFormed: fault = problem
            case .replays: fault = gap
            case .actionOrder: fault = log == nil ? "the log cannot be read" : facts?.disorder
            case .noError:
                fault =
                    facts.map { facts in
                        facts.errors.first.map { "firmware says in PCR \($0) that it failed" }
                    } ?? "the log cannot be read"
            case .revocations:
                guard let revocations else {
                    return CheckResult(
                        check: check, outcome: .notApplicable,
                        reason: "nothing says what dbx must hold")
                }
                // Without any values the whole log is anybody's, which another check says.
                fault =
                    values.map { $0.banks(with: AppraisalPolicy.vouching).isEmpty } == true
                    ? "there is no value of PCR 7, which holds dbx; quote it as well"
                    : revocations.refusal(of: facts)
            case .explainsPCRs:
                guard let unexplained else {
                    return CheckResult(
                        check: check, outcome: .notApplicable,
                        reason: "there are no values to compare with: the log may be anybody's")
                }
                fault = unexplained
            }
            return CheckResult(
                check: check, outcome: fault == nil ? .passed : .failed, reason: fault ?? "")
        }
    }

    /// No check failed.
    ///
    /// - Returns: the refusals; empty when there are none.
    public var refusals: [CheckResult<EventLogCheck>] { results.filter { $0.outcome == .failed } }

    /// The first value that the log does not explain.
    private static func unexplained(
        _ values: PCRValues, _ replayed: [HashAlgorithm: [PCRIndex: [UInt8]]]
    ) -> String? {
        guard !values.values.isEmpty else { return "there is no value to explain" }
        for register in values.values.keys.sorted() {
            let name = "PCR \(register.index.rawValue) in bank \(register.hash.name)"
            guard let bank = replayed[register.hash] else {
                return "the log does not explain the bank \(register.hash.name)"
            }
            let expected =
                bank[register.index]
                ?? register.index.resetValue(digestSize: register.hash.digestSize)
            guard values.values[register] == expected else {
                return bank[register.index] == nil
                    ? "\(name) has a value, and nothing in the log extends it"
                    : "\(name) has another value than the log replays to"
            }
        }
        return nil
    }
}

extension PCRValues {
    /// The banks that have a value of each of these registers.
    func banks(with indexes: [PCRIndex]) -> [HashAlgorithm] {
        HashAlgorithm.allCases.filter { hash in
            indexes.allSatisfy { self[hash, $0] != nil }
        }
    }
}
