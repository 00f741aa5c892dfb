import HoldfastLicensing
import Testing

@Suite("license states")
struct StateTests {
    /// The order in which time moves a license.
    private static let byTime: [LicenseState] = [.active, .renewDue, .grace, .degraded, .expired]
    private static let timeEvents: [LicenseEvent] = [
        .renewalDue, .graceBegun, .leaseEnded, .degradedEnded,
    ]

    /// The whole function, written out: rows are states, columns events in their order.
    private static let table: [LicenseState: String] = [
        //           lease  renew  grace  end    degEnd locked absent clear  revoke retire again
        .unenrolled:
            "active unenrolled unenrolled unenrolled unenrolled unenrolled unenrolled unenrolled unenrolled retired unenrolled",
        .active:
            "active renewDue active active active degraded degraded degraded revoked retired unenrolled",
        .renewDue:
            "active renewDue grace renewDue renewDue degraded degraded degraded revoked retired unenrolled",
        .grace:
            "active grace grace degraded grace degraded degraded degraded revoked retired unenrolled",
        .degraded:
            "active degraded degraded degraded expired degraded degraded degraded revoked retired unenrolled",
        .expired:
            "active expired expired expired expired expired expired expired revoked retired unenrolled",
        .revoked:
            "active revoked revoked revoked revoked revoked revoked revoked revoked retired unenrolled",
        .retired:
            "retired retired retired retired retired retired retired retired retired retired unenrolled",
    ]

    @Test("every state has a next one for every event", arguments: LicenseState.allCases)
    func total(state: LicenseState) throws {
        let row = try #require(Self.table[state]).split(separator: " ").map(String.init)
        #expect(row.count == LicenseEvent.allCases.count)
        for (event, expected) in zip(LicenseEvent.allCases, row) {
            #expect("\(state.after(event))" == expected, "\(state) after \(event)")
        }
    }

    @Test("time skips no state, and never leads back")
    func oneStep() throws {
        for state in LicenseState.allCases {
            for event in Self.timeEvents {
                let next = state.after(event)
                guard let from = Self.byTime.firstIndex(of: state) else {
                    #expect(next == state)
                    continue
                }
                let to = try #require(Self.byTime.firstIndex(of: next))
                #expect(to == from || to == from + 1)
            }
        }
    }

    @Test("a newer lease leads to ACTIVE from everywhere but RETIRED")
    func wayBack() {
        for state in LicenseState.allCases {
            #expect(
                state.after(.leaseInstalled) == (state == .retired ? .retired : .active))
        }
    }
}
