import HoldfastProtocol
import HoldfastTPMWire

/// Whether something may be used, and why.
///
/// Every instant in it is absolute and comes from signed documents: asked again in the same standing
/// it is the same, byte for byte, whatever a wall clock says.
public struct Decision: Sendable, Hashable, Codable {
    public let allowed: Bool
    /// What was asked for.
    public let entitlement: String
    public let state: LicenseState
    public let mode: LicenseMode
    public let flags: [LicenseFlag]
    /// The reason, as a name that does not change.
    public let code: String
    /// For the person at the device.
    public let message: String
    /// What to do; absent when there is nothing to do.
    public let advice: String?
    /// The license that grants it, if one does.
    public let license: String?
    /// The most that may be used, when there is a limit.
    public let limit: UInt64?
    public let next: LicenseStanding.NextChange?

    /// What is allowed in every state: nobody loses his work or the way back.
    public static let always: Set<String> = ["core", "export", "status", "renewal", "sync"]
    /// What is allowed as long as there is a license that was not taken back.
    public static let reading = "read-only"

    /// Decides on an entitlement.
    ///
    /// - Parameters:
    ///   - standings: of every license on the device.
    ///   - isEnrolled: whether the vendor has answered this device.
    ///   - isRetired: whether the device gave its enrollment up.
    public init(
        _ entitlement: String, standings: [LicenseStanding], isEnrolled: Bool, isRetired: Bool
    ) {
        if Self.always.contains(entitlement) || entitlement == Self.reading {
            self = Self.basic(entitlement, standings, isRetired)
            return
        }
        let candidates = standings.compactMap { standing in
            Self.decide(entitlement, standing)
        }
        let best =
            candidates.first { $0.allowed && $0.code != LicenseFlag.overage.rawValue }
            ?? candidates.first(where: \.allowed) ?? candidates.first
        if let best {
            self = best
            return
        }
        let state: LicenseState = isRetired ? .retired : .unenrolled
        let licensed = !standings.isEmpty
        self.init(
            allowed: false, entitlement: entitlement, state: Self.worst(standings) ?? state,
            code: licensed ? "NOT_GRANTED" : isEnrolled ? "NO_LICENSE" : "UNENROLLED",
            message: licensed
                ? "no license on this device grants `\(entitlement)`"
                : isEnrolled
                    ? "there is no license on this device"
                    : "this device is not enrolled with a vendor",
            advice: licensed
                ? "ask the vendor for a license that grants it"
                : isEnrolled
                    ? "install the license with `holdfast license install`"
                    : "run `holdfast enroll`")
    }

    init(
        allowed: Bool, entitlement: String, state: LicenseState, mode: LicenseMode = .normal,
        flags: [LicenseFlag] = [], code: String, message: String, advice: String?,
        license: String? = nil, limit: UInt64? = nil, next: LicenseStanding.NextChange? = nil
    ) {
        self.allowed = allowed
        self.entitlement = entitlement
        self.state = state
        self.mode = mode
        self.flags = flags
        self.code = code
        self.message = message
        self.advice = advice
        self.license = license
        self.limit = limit
        self.next = next
    }

    /// A refusal for a reason that is not the license's.
    init(refusing entitlement: String, code: String, message: String, advice: String?) {
        self.init(
            allowed: false, entitlement: entitlement, state: .degraded, code: code,
            message: message, advice: advice)
    }

    private static func worst(_ standings: [LicenseStanding]) -> LicenseState? {
        standings.map(\.state).max { a, b in
            (LicenseState.allCases.firstIndex(of: a) ?? 0)
                < (LicenseState.allCases.firstIndex(of: b) ?? 0)
        }
    }

    private static func basic(
        _ entitlement: String, _ standings: [LicenseStanding], _ isRetired: Bool
    ) -> Decision {
        let state = standings.first?.state ?? (isRetired ? .retired : .unenrolled)
        let granted =
            always.contains(entitlement)
            || standings.contains { ![.unenrolled, .revoked, .retired].contains($0.state) }
        let first = standings.first
        return Decision(
            allowed: granted, entitlement: entitlement, state: state, mode: first?.mode ?? .normal,
            flags: first?.flags ?? [], code: granted ? "ALWAYS_ALLOWED" : "NO_LICENSE",
            message: granted
                ? "`\(entitlement)` does not depend on the state of a license"
                : "there is no license in force on this device",
            advice: granted ? nil : "ask the vendor for a license",
            license: first?.document.license.id.description, next: first?.next)
    }

    private static func decide(
        _ name: String, _ standing: LicenseStanding
    ) -> Decision? {
        let document = standing.document
        guard let granted = document.license.entitlements.first(where: { $0.name == name }) else {
            return nil
        }
        return Decision(
            Question(
                entitlement: granted, terms: document.terms,
                license: document.license.id.description, state: standing.state,
                mode: standing.mode, flags: standing.flags, notice: standing.explanation,
                isOpened: standing.rights?.entitlements.contains(name) == true,
                allowance: standing.allowances[name], next: standing.next))
    }

    /// An entitlement that a license grants, and all that decides about it.
    struct Question {
        var entitlement: License.Entitlement
        var terms: Terms
        var license: String
        var state: LicenseState
        var mode: LicenseMode
        var flags: [LicenseFlag]
        /// The standing in plain words.
        var notice: (code: String, message: String, advice: String?)
        /// The lease in force opens it.
        var isOpened: Bool
        var allowance: Allowance?
        var next: LicenseStanding.NextChange?
    }

    private typealias Answer = (allowed: Bool, code: String, message: String, advice: String?)

    /// Decides.
    init(_ question: Question) {
        var answer = Self.answer(question)
        // A limit takes nothing from who is refused for another reason, and says nothing to him.
        if answer.allowed, let limited = Self.limited(question) { answer = limited }
        self.init(
            allowed: answer.allowed, entitlement: question.entitlement.name,
            state: question.state, mode: question.mode, flags: question.flags, code: answer.code,
            message: answer.message, advice: answer.advice, license: question.license,
            limit: question.entitlement.limit, next: question.next)
    }

    private static func answer(_ question: Question) -> Answer {
        let (notice, name) = (question.notice, question.entitlement.name)
        let enforcement = question.terms.enforcement(of: name)
        switch question.state {
        case .active, .renewDue, .grace:
            switch (question.mode, enforcement) {
            case (.normal, .strict) where !question.isOpened:
                // The signed license grants it, the lease that the TPM opened does not.
                return (
                    false, "NOT_IN_LEASE", "the lease in force does not open `\(name)`",
                    "renew the license"
                )
            case (.normal, _):
                return (true, notice.code, notice.message, notice.advice)
            case (.locked, .strict):
                return (false, notice.code, notice.message, notice.advice)
            case (.locked, .soft), (.locked, .advisory):
                return (
                    true, notice.code,
                    notice.message + "; `\(name)` goes on for a while all the same", notice.advice
                )
            }
        case .degraded:
            let kept = question.terms.degradedEntitlements.contains(name)
            return (kept || enforcement == .advisory, notice.code, notice.message, notice.advice)
        case .expired:
            return (enforcement == .advisory, notice.code, notice.message, notice.advice)
        case .unenrolled, .revoked, .retired:
            return (false, question.state.rawValue, notice.message, notice.advice)
        }
    }

    /// What a limit says that is used up; `nil` when it says nothing.
    private static func limited(_ question: Question) -> Answer? {
        let name = question.entitlement.name
        guard let allowance = question.allowance, allowance.isSpent else { return nil }
        let goesOn =
            question.terms.overage == .count || question.terms.enforcement(of: name) == .advisory
        switch (goesOn, allowance.left) {
        case (true, nil): return nil
        case (true, _):
            // What the state has to say comes first; the flag tells this beside it.
            guard question.state == .active, question.mode == .normal else { return nil }
            return (
                true, LicenseFlag.overage.rawValue,
                "the limit of \(allowance.limit) is used up; `\(name)` goes on, and what is used is counted",
                "ask the vendor for a higher limit"
            )
        case (false, nil):
            return (
                false, "LIMIT_UNKNOWN",
                "the ledger that counted `\(name)` cannot be read, or is lost, so that nobody knows how much is left",
                "renew the license: the vendor knows what was settled; see `holdfast ledger verify`"
            )
        case (false, _):
            return (
                false, "LIMIT_REACHED", "the limit of \(allowance.limit) for `\(name)` is used up",
                "ask the vendor for a higher limit"
            )
        }
    }
}

extension LicenseStanding {
    /// The standing in plain words: a name that does not change, what is the matter, what to do.
    public var explanation: (code: String, message: String, advice: String?) {
        let renew = "renew: run `holdfast bundle export FILE` and take the file to the vendor"
        let isOver = state == .revoked || state == .retired
        if !isOver, let flag = flags.first(where: { $0 == .cleared || $0 == .tpmAbsent }) {
            return flag == .cleared
                ? (
                    flag.rawValue,
                    "the key that opens the lease is not in this TPM: it was cleared, exchanged, or the files are another machine's",
                    "enroll again; the vendor knows what to do with the old license"
                )
                : (
                    flag.rawValue,
                    mode == .normal
                        ? "the TPM does not answer; everything goes on for a while all the same"
                        : "the TPM does not answer", "run `holdfast doctor`; nothing is lost"
                )
        }
        switch state {
        case .active where mode == .normal: return (state.rawValue, "the license is active", nil)
        case .renewDue where mode == .normal:
            return (state.rawValue, "everything works, and the license should be renewed", renew)
        case .grace where mode == .normal:
            return (
                state.rawValue, "everything works, and the license ends soon unless it is renewed",
                renew
            )
        case .active, .renewDue, .grace: return locked
        case .degraded:
            if events.last == .lockedPastSoftEnd {
                return (locked.code, locked.message + ", for too long by now", locked.advice)
            }
            return (
                state.rawValue, "the lease has run out; what the terms keep still works", renew
            )
        case .expired:
            return (
                state.rawValue, "the license has expired; core, reading and export still work",
                renew
            )
        case .revoked:
            return (state.rawValue, "the vendor has revoked the license", "ask the vendor")
        case .retired:
            return (
                state.rawValue, "this device gave its license up",
                "to use it again, enroll it anew: `holdfast enroll --again …`"
            )
        case .unenrolled:
            return (state.rawValue, "there is no license on this device", "run `holdfast enroll`")
        }
    }

    private var changedText: String {
        guard !changedPCRs.isEmpty else { return "" }
        return ": PCR " + changedPCRs.map { String($0.rawValue) }.joined(separator: ", ")
            + " differs"
    }

    private var locked: (code: String, message: String, advice: String?) {
        // What is to come, and what was used, is no reason for what the TPM says.
        switch flags.first(where: { ![.policyPending, .overage, .test].contains($0) }) {
        case .bootChanged:
            (
                LicenseFlag.bootChanged.rawValue,
                "this machine booted into a state that the vendor has not approved" + changedText,
                "undo the change, or install the vendor's approval for \(document.statement.reference.scope.text) with `holdfast approve FILE`"
            )
        case .resetsSpent:
            (
                LicenseFlag.resetsSpent.rawValue,
                "the machine was restarted more often than this lease allows",
                "renew: run `holdfast bundle export FILE` and take the file to the vendor"
            )
        case .timeUncertain:
            (
                LicenseFlag.timeUncertain.rawValue,
                "the TPM's clock is below where it was when the lease was issued",
                "renew: run `holdfast bundle export FILE` and take the file to the vendor"
            )
        case .epochRaised:
            (
                LicenseFlag.epochRaised.rawValue,
                "the TPM's counter says that this lease was given up",
                "install the newest license file, or renew"
            )
        case .tpmAbsent, .cleared, .policyPending, .overage, .test, nil:
            (
                "LOCKED", "the TPM does not open the lease",
                "run `holdfast status`; when it stays so, renew"
            )
        }
    }
}
