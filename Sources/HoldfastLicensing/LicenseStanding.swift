public import HoldfastProtocol
public import HoldfastTPMWire

/// What a device found when it asked its TPM about a license.
public struct LicenseSituation: Sendable, Hashable {
    /// What the TPM said to the lease.
    public enum Lease: Sendable, Hashable {
        case opened(LeaseRights)
        /// Why it does not open; nothing when the reason was not found.
        ///
        /// - Parameter changed: PCRs that differ from what is approved.
        case refused([LicenseFlag], changed: [PCRIndex])
        /// The lease parent is not in the TPM.
        case cleared
        /// There is no TPM that answers.
        case absent
    }

    public var lease: Lease
    /// The TPM's clock; `nil` when it cannot be read.
    public var clock: ClockInfo?
    /// UTC seconds: the highest server time in a document that was verified.
    public var floor: UInt64
    /// The device gave its enrollment up.
    public var isRetired: Bool
    /// The vendor revoked the license, in a document that was verified.
    public var isRevoked: Bool
    /// The TPM does not answer now, and this is what it said before.
    public var isHeld = false
    /// What the vendor announced for the license.
    public var announced: [AnnouncedTerms] = []
    /// What the ledger says, when the license has limits; `nil` when it could not be read.
    public var usage: KnownUsage?

    public init(
        lease: Lease, clock: ClockInfo?, floor: UInt64, isRetired: Bool, isRevoked: Bool = false,
        announced: [AnnouncedTerms] = [], usage: KnownUsage? = nil
    ) {
        self.announced = announced
        self.usage = usage
        self.isRevoked = isRevoked
        self.lease = lease
        self.clock = clock
        self.floor = floor
        self.isRetired = isRetired
    }
}

/// Where a license stands: state, mode and flags, and what changes next.
///
/// It follows from signed documents and the TPM alone; no wall clock is asked.
public struct LicenseStanding: Sendable, Hashable {
    public let document: LicenseDocument
    public let state: LicenseState
    public let mode: LicenseMode
    /// In the order of their names.
    public let flags: [LicenseFlag]
    /// What happened to the license so far, in order; the last one is the cause of the state.
    public let events: [LicenseEvent]
    public let next: NextChange?
    /// What the opened lease gives.
    public let rights: LeaseRights?
    /// PCRs that differ from what is approved.
    public let changedPCRs: [PCRIndex]
    /// Terms that are to come, the nearest first.
    public let announced: [AnnouncedTerms]
    /// Of entitlements with a limit: what is left.
    public let allowances: [String: Allowance]

    /// The next change that time brings.
    public struct NextChange: Sendable, Hashable, Codable {
        public let state: LicenseState
        /// The first TPM millisecond at which it holds.
        public let atTicks: UInt64
        /// UTC seconds, when the device is always on: not before this date.
        public let notBefore: UInt64
        public let why: String
    }

    /// Judges a license.
    public init(_ document: LicenseDocument, in situation: LicenseSituation) {
        self.document = document
        let statement = document.statement
        var flags: Set<LicenseFlag> = []
        var rights: LeaseRights?
        var mode = LicenseMode.normal
        var outside: LicenseEvent?
        var changed: [PCRIndex] = []
        switch situation.lease {
        case .opened(let opened): rights = opened
        case .refused(let reasons, let found):
            mode = .locked
            flags.formUnion(reasons)
            changed = found
        case .cleared:
            mode = .locked
            flags.insert(.cleared)
            outside = .tpmCleared
        case .absent:
            mode = .locked
            flags.insert(.tpmAbsent)
            outside = .tpmAbsent
        }
        var events: [LicenseEvent] = [.leaseInstalled]
        if situation.isHeld { flags.insert(.tpmAbsent) }
        if let clock = situation.clock?.clock {
            events += Self.passed(clock, document, situation.floor)
            if mode == .locked, clock > statement.softEndTicks { outside = .lockedPastSoftEnd }
        } else if outside == nil {
            outside = .tpmAbsent
        }
        if let outside { events.append(outside) }
        if situation.isRevoked { events.append(.revoked) }
        if situation.isRetired { events.append(.retired) }
        // An event that changes nothing is no cause: only those that moved the license are kept.
        var state = LicenseState.unenrolled
        var causes: [LicenseEvent] = []
        for event in events where state.after(event) != state {
            state = state.after(event)
            causes.append(event)
        }
        self.state = state
        self.mode = mode
        announced = situation.announced.filter {
            $0.migration.license == document.license.id
                && $0.migration.terms == document.terms.id
                && $0.migration.to > document.terms.version
        }.sorted {
            ($0.migration.notBefore, $0.migration.to) < ($1.migration.notBefore, $1.migration.to)
        }
        if !announced.isEmpty { flags.insert(.policyPending) }
        var allowances: [String: Allowance] = [:]
        for entitlement in document.license.entitlements {
            allowances[entitlement.name] = Allowance(entitlement, statement, situation.usage)
        }
        self.allowances = allowances
        if allowances.contains(where: { $0.value.isOverage(document.terms, $0.key) }) {
            flags.insert(.overage)
        }
        // What the TPM says to a lease that was given up is no news.
        self.flags = state == .revoked || state == .retired ? [] : flags.sorted()
        self.events = causes
        self.rights = rights
        changedPCRs = changed
        next = situation.clock.flatMap { Self.next(state, mode, $0.clock, statement) }
    }

    /// What time has brought, in order; the calendar's end is the lease's end.
    private static func passed(
        _ clock: UInt64, _ document: LicenseDocument, _ floor: UInt64
    ) -> [LicenseEvent] {
        let statement = document.statement
        let over = floor >= document.license.endsAt
        var events: [LicenseEvent] = []
        if over || clock >= statement.renewTicks { events.append(.renewalDue) }
        if over || clock >= statement.graceTicks { events.append(.graceBegun) }
        // The TPM opens the lease at T itself.
        if over || clock > statement.endTicks { events.append(.leaseEnded) }
        if clock > statement.degradedEndTicks { events.append(.degradedEnded) }
        return events
    }

    private static func next(
        _ state: LicenseState, _ mode: LicenseMode, _ clock: UInt64, _ statement: LeaseStatement
    ) -> NextChange? {
        func change(_ state: LicenseState, _ ticks: UInt64, _ why: String) -> NextChange {
            let later = ticks > statement.issuedTicks ? ticks - statement.issuedTicks : 0
            return NextChange(
                state: state, atTicks: ticks,
                notBefore: statement.issuedAt.saturating(later / 1000), why: why)
        }
        let byTime: NextChange?
        switch state {
        case .active:
            byTime = change(.renewDue, statement.renewTicks, "the lease should be renewed by then")
        case .renewDue:
            byTime = change(.grace, statement.graceTicks, "the grace of the lease begins")
        case .grace:
            byTime = change(
                .degraded, statement.endTicks.saturating(1), "the lease runs out on the TPM's clock"
            )
        case .degraded:
            byTime = change(
                .expired, statement.degradedEndTicks.saturating(1), "the degraded period is over")
        case .unenrolled, .expired, .revoked, .retired: byTime = nil
        }
        guard mode == .locked, let byTime, state != .degraded else { return byTime }
        let softEnd = statement.softEndTicks.saturating(1)
        guard softEnd <= byTime.atTicks else { return byTime }
        return change(
            .degraded, softEnd, "the TPM does not open the lease, and soft entitlements end")
    }
}
