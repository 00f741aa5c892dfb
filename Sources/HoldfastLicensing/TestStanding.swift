public import HoldfastProtocol

/// Where a test license stands: on a machine without a TPM, in the state that whoever tests has chosen.
///
/// docs/sdk.md, "Without a TPM".
public struct TestStanding: Sendable, Hashable {
    public let document: TestLicenseDocument
    public let state: LicenseState
    public let mode: LicenseMode
    /// Of entitlements with a limit: what is left.
    public private(set) var allowances: [String: Allowance] = [:]

    /// What a tester may choose.
    public static let states: [String: (LicenseState, LicenseMode)] = {
        var states: [String: (LicenseState, LicenseMode)] = ["LOCKED": (.active, .locked)]
        for state in LicenseState.allCases { states[state.rawValue] = (state, .normal) }
        return states
    }()

    /// Judges a test license.
    ///
    /// - Parameters:
    ///   - chosen: one of ``states``; anything else is ACTIVE.
    ///   - wallClock: UTC seconds: without a TPM there is no other clock, and nothing but a test depends on
    ///     it.
    ///   - used: totals by meter.
    public init(
        _ document: TestLicenseDocument, chosen: String, wallClock: UInt64, used: [String: UInt64]
    ) {
        self.document = document
        let isOver = wallClock >= document.license.endsAt
        (state, mode) =
            isOver ? (.expired, .normal) : Self.states[chosen] ?? (.active, .normal)
        count(used)
    }

    /// Takes what was used by now.
    ///
    /// - Parameter used: totals by meter.
    mutating func count(_ used: [String: UInt64]) {
        for entitlement in document.license.entitlements {
            guard let limit = entitlement.limit else { continue }
            allowances[entitlement.name] = Allowance(
                limit: limit, used: used[entitlement.name] ?? 0)
        }
    }

    /// The standing in plain words.
    public var explanation: (code: String, message: String, advice: String?) {
        let text =
            mode == .locked
            ? "as when the TPM does not open the lease" : "as in state \(state.rawValue)"
        return (
            mode == .locked ? "LOCKED" : state.rawValue,
            "this is a TEST license without a TPM, \(text)",
            state == .active && mode == .normal
                ? nil : "choose another state: `holdfast test set STATE`"
        )
    }

    /// Decides on an entitlement, by the same rules as with a TPM.
    public func decide(_ name: String) -> Decision {
        if Decision.always.contains(name) || name == Decision.reading {
            let isGranted =
                name != Decision.reading || ![.unenrolled, .revoked, .retired].contains(state)
            return plain(name, isGranted, isGranted ? "ALWAYS_ALLOWED" : "NO_LICENSE")
        }
        guard let granted = document.license.entitlements.first(where: { $0.name == name }) else {
            return plain(name, false, "NOT_GRANTED")
        }
        return Decision(
            Decision.Question(
                entitlement: granted, terms: document.terms,
                license: document.license.id.description, state: state, mode: mode, flags: flags,
                notice: explanation, isOpened: true, allowance: allowances[name], next: nil))
    }

    private var flags: [LicenseFlag] {
        let isOver = allowances.contains { $0.value.isOverage(document.terms, $0.key) }
        return isOver ? [.overage, .test] : [.test]
    }

    /// What does not depend on an entitlement of the license.
    private func plain(_ name: String, _ allowed: Bool, _ code: String) -> Decision {
        Decision(
            allowed: allowed, entitlement: name, state: state, mode: mode, flags: flags,
            code: code, message: explanation.message, advice: explanation.advice,
            license: document.license.id.description)
    }
}
