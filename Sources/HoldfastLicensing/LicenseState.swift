/// Where a license stands.
///
/// docs/spec/licensing.md, "States".
public enum LicenseState: String, Sendable, Hashable, CaseIterable, Codable {
    /// There is no license here.
    case unenrolled = "UNENROLLED"
    case active = "ACTIVE"
    /// Everything works; renewal is wanted.
    case renewDue = "RENEW_DUE"
    /// Everything works, with notice.
    case grace = "GRACE"
    /// What the terms keep.
    case degraded = "DEGRADED"
    /// Core, reading and export.
    case expired = "EXPIRED"
    case revoked = "REVOKED"
    /// The device gave its enrollment up.
    case retired = "RETIRED"

    /// The state after an event; there is one for each state and event.
    ///
    /// Time moves a license one state at a time. Only revocation, retirement, a TPM that is absent
    /// or was cleared, and a lock past its soft end skip states. A newer lease leads back to ACTIVE
    /// from everywhere but RETIRED.
    public func after(_ event: LicenseEvent) -> LicenseState {
        switch (self, event) {
        case (_, .enrolledAgain): .unenrolled
        case (.retired, _), (_, .retired): .retired
        case (_, .leaseInstalled): .active
        case (.unenrolled, _): .unenrolled
        case (.revoked, _), (_, .revoked): .revoked
        case (.active, .renewalDue): .renewDue
        case (.renewDue, .graceBegun): .grace
        case (.grace, .leaseEnded): .degraded
        case (.degraded, .degradedEnded): .expired
        case (.active, .lockedPastSoftEnd), (.renewDue, .lockedPastSoftEnd),
            (.grace, .lockedPastSoftEnd), (.active, .tpmAbsent), (.renewDue, .tpmAbsent),
            (.grace, .tpmAbsent), (.active, .tpmCleared), (.renewDue, .tpmCleared),
            (.grace, .tpmCleared):
            .degraded
        case (.active, _), (.renewDue, _), (.grace, _), (.degraded, _), (.expired, _): self
        }
    }
}

/// What moves a license from state to state.
public enum LicenseEvent: String, Sendable, Hashable, CaseIterable, Codable {
    /// A lease with a higher serial is in force.
    case leaseInstalled = "LEASE_INSTALLED"
    case renewalDue = "RENEWAL_DUE"
    case graceBegun = "GRACE_BEGUN"
    case leaseEnded = "LEASE_ENDED"
    case degradedEnded = "DEGRADED_ENDED"
    /// The TPM does not open the lease, and the time of soft entitlements is over.
    case lockedPastSoftEnd = "LOCKED_PAST_SOFT_END"
    case tpmAbsent = "TPM_ABSENT"
    /// The lease parent is not in the TPM.
    case tpmCleared = "TPM_CLEARED"
    case revoked = "REVOKED"
    case retired = "RETIRED"
    /// A new enrollment of the device began.
    case enrolledAgain = "ENROLLED_AGAIN"
}

/// Whether the TPM opens the lease.
public enum LicenseMode: String, Sendable, Hashable, Codable {
    case normal = "NORMAL"
    case locked = "LOCKED"
}

/// What else is to be known beside the state.
public enum LicenseFlag: String, Sendable, Hashable, CaseIterable, Comparable, Codable {
    /// The machine booted into a state that the vendor has not approved.
    case bootChanged = "BOOT_CHANGED"
    /// More resets or resumes than the lease survives.
    case resetsSpent = "RESETS_SPENT"
    /// The clock is below where it was when the lease was issued: it had been set ahead, and forgot.
    case timeUncertain = "TIME_UNCERTAIN"
    /// The epoch counter is not that of the lease.
    case epochRaised = "EPOCH_RAISED"
    case tpmAbsent = "TPM_ABSENT"
    case cleared = "CLEARED"
    /// A test license, on a machine without a TPM: nothing holds it.
    case test = "TEST"
    /// More was used than a limit, and the terms count it.
    case overage = "OVERAGE"
    /// Newer terms are known and not in force yet.
    case policyPending = "POLICY_PENDING"

    public static func < (a: LicenseFlag, b: LicenseFlag) -> Bool { a.rawValue < b.rawValue }
}
