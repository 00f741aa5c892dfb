public import HoldfastProtocol
import HoldfastTPMWire

/// What a running program goes by between two looks at the TPM: a value without clock, disk or TPM.
///
/// The TPM is asked at intervals that the terms give, and when a license is about to change its state.
/// When it does not answer, or files cannot be read, what it said last is held for as long as the terms
/// say, while the license goes on aging; after that the license is as without a TPM.
///
/// Instants are of the machine's running time (CLOCK_BOOTTIME), which no user can set.
///
/// docs/spec/licensing.md, "Running programs".
public struct HeldLicenses: Sendable {
    /// One license, and what was found of it.
    public struct License: Sendable, Hashable {
        public var document: LicenseDocument
        public var situation: LicenseSituation

        public init(document: LicenseDocument, situation: LicenseSituation) {
            self.document = document
            self.situation = situation
        }
    }

    /// What a look found.
    public struct Seen: Sendable, Hashable {
        public var licenses: [License]
        /// The device gave its enrollment up.
        public var isRetired: Bool

        public init(licenses: [License], isRetired: Bool) {
            self.licenses = licenses
            self.isRetired = isRetired
        }
    }

    /// Why a look found nothing.
    public struct Problem: Sendable, Hashable {
        /// A name that does not change.
        public var code: String
        public var message: String
        public var advice: String?
        /// The vendor has not answered this device: no license is to be held.
        public var isUnenrolled: Bool

        public init(code: String, message: String, advice: String?, isUnenrolled: Bool = false) {
            self.code = code
            self.message = message
            self.advice = advice
            self.isUnenrolled = isUnenrolled
        }
    }

    /// The last look that the TPM answered, and when.
    private var answered: (seen: Seen, at: Duration)?
    /// What came after it.
    private var later: Later = .nothing
    /// The documents that were read last, whether the TPM answered or not.
    private var documents: [LicenseDocument] = []
    /// A test license, in a program that asked for one: then there is nothing else.
    private var test: TestStanding?

    private enum Later: Sendable {
        case nothing
        /// The TPM did not answer; what is known without it.
        case absent(Seen)
        case failed(Problem)
    }

    /// Nothing was looked at yet.
    public init() {}

    /// What went wrong at the last look.
    public var problem: Problem? {
        if case .failed(let problem) = later { problem } else { nil }
    }

    /// Takes what a look found.
    ///
    /// - Parameter instant: when it began.
    public mutating func take(_ seen: Seen, at instant: Duration) {
        let seen = counted(seen)
        test = nil
        documents = seen.licenses.map(\.document)
        if seen.licenses.contains(where: {
            $0.situation.clock == nil || $0.situation.lease == .absent
        }) {
            later = .absent(seen)
        } else {
            answered = (seen, instant)
            later = .nothing
        }
    }

    /// Takes a test license that a look found.
    public mutating func take(_ standing: TestStanding) {
        self = HeldLicenses()
        test = standing
    }

    /// Takes that a look failed.
    ///
    /// - Parameter found: the documents, when they could be read all the same.
    public mutating func take(_ problem: Problem, documents found: [LicenseDocument]? = nil) {
        if problem.isUnenrolled {
            answered = nil
            documents = []
        }
        if let found { documents = found }
        test = nil
        later = .failed(problem)
    }

    /// Usage that was recorded while a look was under way is not forgotten by it, and a ledger that cannot
    /// be read for a moment is the one that was read before.
    private func counted(_ seen: Seen) -> Seen {
        var seen = seen
        for place in seen.licenses.indices {
            let known = usage
            let now = seen.licenses[place].situation.usage
            seen.licenses[place].situation.usage =
                known.map { known in
                    now.map { known.later($0) } ?? known
                } ?? now
        }
        return seen
    }

    /// What the ledger said last.
    private var usage: KnownUsage? {
        answered?.seen.licenses.lazy.compactMap(\.situation.usage).first
    }

    /// Takes what the ledger says by now.
    ///
    /// - Returns: whether an answer may be another one by it.
    public mutating func take(_ usage: KnownUsage) -> Bool {
        typealias Answers = [[String: Bool]]
        func answers(_ held: HeldLicenses) -> Answers {
            var all = [held.test?.allowances.mapValues(\.isSpent) ?? [:]]
            var seen = [held.answered?.seen]
            if case .absent(let later) = held.later { seen.append(later) }
            for license in seen.flatMap({ $0?.licenses ?? [] }) {
                all.append(
                    LicenseStanding(license.document, in: license.situation).allowances.mapValues(
                        \.isSpent))
            }
            return all
        }
        func taken(_ seen: Seen) -> Seen {
            var seen = seen
            for place in seen.licenses.indices {
                let known = seen.licenses[place].situation.usage
                seen.licenses[place].situation.usage = known?.later(usage) ?? usage
            }
            return seen
        }
        let before = answers(self)
        test?.count(usage.totals)
        if let (seen, at) = answered { answered = (taken(seen), at) }
        if case .absent(let seen) = later { later = .absent(taken(seen)) }
        return answers(self) != before
    }

    /// Whether a license has limits, so that usage changes answers.
    public var hasLimits: Bool {
        documents.contains { !$0.statement.allowances.isEmpty } || test?.allowances.isEmpty == false
    }

    /// Whether the TPM answered at the last look.
    public var isAnswered: Bool {
        if case .nothing = later { answered != nil } else { false }
    }

    // MARK: What follows

    /// Where every license stands.
    public func standings(at now: Duration) -> [LicenseStanding] {
        switch later {
        case .nothing:
            (answered?.seen.licenses ?? []).map { LicenseStanding($0.document, in: $0.situation) }
        case .absent(let seen):
            seen.licenses.map { license in
                // A license that came or was taken back while the TPM was away is not held.
                guard !license.situation.isRevoked, !seen.isRetired,
                    let held = held(license.document.license.id, at: now)
                else { return LicenseStanding(license.document, in: license.situation) }
                return held
            }
        case .failed:
            (answered?.seen.licenses ?? []).compactMap {
                held($0.document.license.id, at: now)
            }
        }
    }

    /// What the TPM said of a license, aged, when that is not too long ago.
    private func held(_ id: LicenseID, at now: Duration) -> LicenseStanding? {
        guard let answered,
            let license = answered.seen.licenses.first(where: { $0.document.license.id == id })
        else { return nil }
        let away = max(.zero, now - answered.at)
        guard away <= Self.absence(license.document.terms) else { return nil }
        var situation = license.situation
        situation.clock?.clock.add(milliseconds: away)
        situation.isHeld = true
        return LicenseStanding(license.document, in: situation)
    }

    private static func absence(_ terms: Terms) -> Duration {
        .seconds(Int64(terms.absenceSeconds ?? Terms.defaultAbsenceSeconds))
    }

    /// Decides on an entitlement.
    public func decide(_ entitlement: String, at now: Duration) -> Decision {
        if let test { return test.decide(entitlement) }
        let standings = standings(at: now)
        let isRetired =
            switch later {
            case .nothing, .failed: answered?.seen.isRetired ?? false
            case .absent(let seen): seen.isRetired
            }
        let decision = Decision(
            entitlement, standings: standings, isEnrolled: problem?.isUnenrolled != true,
            isRetired: isRetired)
        // Nothing is held any more, and the reason is not that there is no license.
        if let problem, standings.isEmpty, !problem.isUnenrolled {
            return decision.because(problem)
        }
        return decision
    }

    /// The terms of every license that was seen last.
    public var terms: [Terms] { documents.map(\.terms) + (test.map { [$0.document.terms] } ?? []) }

    /// The version of the terms under which an entitlement is used; 0 when no license grants it.
    ///
    /// It stands in the documents: a TPM that was never there since the program started changes nothing.
    public func termsVersion(of entitlement: String) -> UInt32 {
        documents.first { document in
            document.license.entitlements.contains { $0.name == entitlement }
        }?.license.termsVersion ?? test?.document.terms.version ?? 0
    }

    /// The TPM's clock as it was last read, in milliseconds; 0 before.
    public var lastTicks: UInt64 {
        answered?.seen.licenses.first?.situation.clock?.clock ?? 0
    }

    /// How long until the TPM has to be asked again.
    ///
    /// Early enough for a clock that runs as fast as a user may choose: such a look may come before the
    /// change, and is followed by another.
    public func nextLook(at now: Duration) -> Duration {
        let seconds =
            terms.map { $0.recheckSeconds ?? Terms.defaultRecheckSeconds }.min()
            ?? Terms.defaultRecheckSeconds
        var wait = Duration.seconds(Int64(seconds))
        switch later {
        case .nothing:
            for license in answered?.seen.licenses ?? [] {
                guard let clock = license.situation.clock?.clock,
                    let next = LicenseStanding(license.document, in: license.situation).next
                else { continue }
                let left = next.atTicks > clock ? next.atTicks - clock : 0
                let (scaled, overflow) = left.multipliedReportingOverflow(by: 100)
                guard !overflow else { continue }
                wait = min(wait, .milliseconds(Int64(scaled / 121 + 1)))
            }
            if let answered { wait -= max(.zero, now - answered.at) }
        case .absent, .failed:
            // Somebody waits for it to come back; and the end of what is held has to be noticed.
            wait = min(wait, .seconds(10))
        }
        return max(wait, Self.shortestWait)
    }

    /// Between two looks, so that a license that is due does not keep a machine awake.
    private static let shortestWait = Duration.milliseconds(50)
}

extension UInt64 {
    fileprivate mutating func add(milliseconds duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let more = UInt64(Swift.max(0, seconds)).multipliedReportingOverflow(by: 1000)
        guard !more.overflow else {
            self = .max
            return
        }
        self = saturating(more.partialValue)
            .saturating(UInt64(Swift.max(0, attoseconds) / 1_000_000_000_000_000))
    }
}

extension Decision {
    /// The same with another reason, when it is a refusal.
    fileprivate func because(_ problem: HeldLicenses.Problem) -> Decision {
        allowed
            ? self
            : Decision(
                refusing: entitlement, code: problem.code, message: problem.message,
                advice: problem.advice)
    }
}
