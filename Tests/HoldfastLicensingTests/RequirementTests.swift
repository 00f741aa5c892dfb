import Foundation
import HoldfastCrypto
import HoldfastFuzz
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire
import Testing

/// Properties that requirements name, over everything that can be rather than by example.
@Suite("requirements of the licensing core")
struct RequirementTests {
    private static let day: UInt64 = 86_400_000

    private func parts(
        _ changes: (Fixture) throws -> Fixture.Changes = { _ in .init() }
    ) throws -> (document: LicenseDocument, rights: LeaseRights) {
        let fixture = Fixture()
        let document = try fixture.document(changes(fixture))
        return (
            document,
            try LeaseRights(
                opening: document.sealedLease, of: document.statement,
                attestationKey: fixture.attestationKey, key: SecretBytes(copying: fixture.leaseKey))
        )
    }

    private func clock(_ ticks: UInt64) -> ClockInfo {
        ClockInfo(clock: ticks, resetCount: 5, restartCount: 0, safe: true)
    }

    /// Every situation that differs in what decides.
    private func situations(_ rights: LeaseRights) -> [LicenseSituation] {
        let flags: [[LicenseFlag]] =
            [[]] + LicenseFlag.allCases.map { [$0] } + [[.bootChanged, .resetsSpent]]
        let leases: [LicenseSituation.Lease] =
            [.opened(rights), .cleared, .absent]
            + flags.map { .refused($0, changed: [PCRIndex.all[7]]) }
        let instants: [UInt64?] = [
            nil, 0, 1_000_000, 1_300_000, 1_400_001, 1_450_000, 1_600_000, 1_600_001, 1_800_001,
            .max,
        ]
        return leases.flatMap { lease in
            instants.flatMap { ticks in
                [(false, false), (true, false), (false, true), (true, true)].flatMap { ended in
                    [UInt64(0), 1_899_999_999, 1_900_000_000, .max].map { floor in
                        LicenseSituation(
                            lease: lease, clock: ticks.map(clock), floor: floor,
                            isRetired: ended.0, isRevoked: ended.1)
                    }
                }
            }
        }
    }

    @Test("R10: core, export, status, renewal and sync are allowed in every state with every flag")
    func always() throws {
        let (document, rights) = try parts()
        var states: Set<LicenseState> = []
        for situation in situations(rights) {
            let standing = LicenseStanding(document, in: situation)
            states.insert(standing.state)
            for name in ["core", "export", "status", "renewal", "sync"] {
                for isEnrolled in [true, false] {
                    let decision = Decision(
                        name, standings: [standing], isEnrolled: isEnrolled,
                        isRetired: situation.isRetired)
                    #expect(decision.allowed, "\(name) in \(standing.state)")
                }
            }
        }
        #expect(states == Set(LicenseState.allCases).subtracting([.unenrolled]))
        #expect(Decision("core", standings: [], isEnrolled: false, isRetired: false).allowed)
    }

    @Test("R11: every refusal has a reason in words and what to do, and every state is told apart")
    func told() throws {
        let (document, rights) = try parts()
        for situation in situations(rights) {
            let standing = LicenseStanding(document, in: situation)
            for name in ["scan", "preview", "hint", "other", "read-only"] {
                let decision = Decision(
                    name, standings: [standing], isEnrolled: true, isRetired: situation.isRetired)
                #expect(!decision.message.isEmpty && !decision.code.isEmpty)
                if !decision.allowed { #expect(decision.advice?.isEmpty == false) }
                // Nothing strict without what the TPM opened.
                if name == "scan", decision.allowed {
                    #expect(standing.mode == .normal && standing.rights != nil)
                }
            }
        }
    }

    @Test("R4: the claims of terms, a license and a lease are these and no others")
    func schema() throws {
        let known: [String: Set<String>] = [
            "license": [
                "kind", "license", "product", "entitlements", "terms", "termsVersion", "class",
                "endsAt", "issuedAt",
            ],
            "lease": [
                "kind", "license", "serial", "incarnation", "importBlob", "sealedLease",
                "termsHash",
                "objectName", "policyRef", "approvalKey", "epochCounter", "epoch", "issuedTicks",
                "lowestTicks", "renewTicks", "graceTicks", "endTicks", "softEndTicks",
                "degradedEndTicks", "highestResetCount", "highestRestartCount", "appraisal",
                "issuedAt", "endsAt", "allowances", "settled",
                "era",
            ],
            "terms": [
                "kind", "terms", "version", "class", "leaseTicks", "renewAfterTicks",
                "graceAfterTicks", "softAfterTicks", "degradedTicks", "resetAllowance",
                "restartAllowance", "evidenceValiditySeconds", "nonceLifetimeSeconds",
                "absenceSeconds", "recheckSeconds", "noticeSeconds", "enforcement",
                "defaultEnforcement", "degradedEntitlements", "overage", "issuedAt",
            ],
            "migration": [
                "kind", "license", "terms", "from", "to", "termsHash", "notBefore", "issuedAt",
            ],
        ]
        let signed = try parts().document.signedParts()
        let fixture = Fixture()
        let migration = try fixture.migration().signed(
            for: fixture.attestationKey, with: fixture.issuerKey())
        for token in [signed.terms, signed.license, signed.statement, migration] {
            // The signature comes after the claims.
            let claims = try #require(
                try JSONSerialization.jsonObject(with: Data(token.body.dropLast(64)))
                    as? [String: Any])
            let kind = try #require(claims["kind"] as? String)
            let names = try #require(known[kind])
            #expect(Set(claims.keys).subtracting(names) == [], "\(kind)")
            // Free text has no place in any of them: names, ids and numbers are all there is.
            for case let text as String in claims.values {
                #expect(text.allSatisfy { $0.isLetter || $0.isNumber || "-_.".contains($0) })
            }
        }
    }

    @Test("R2: terms, license and lease end apart, each where its own document says")
    func ends() throws {
        let (document, rights) = try parts()
        func state(_ ticks: UInt64, floor: UInt64 = 1_800_000_000) -> LicenseState {
            LicenseStanding(
                document,
                in: .init(
                    lease: .opened(rights), clock: clock(ticks), floor: floor, isRetired: false)
            ).state
        }
        // The lease ends on the TPM's clock; the license by a server's date; the terms' own time after both.
        #expect(state(1_600_000) == .grace && state(1_600_001) == .degraded)
        #expect(state(1_000_000, floor: 1_899_999_999) == .active)
        #expect(state(1_000_000, floor: 1_900_000_000) == .degraded)
        #expect(state(1_800_000) == .degraded && state(1_800_001) == .expired)
        // Longer terms move the last end and no other.
        let longer = try parts { _ in
            .init(statement: { $0.degradedEndTicks = 2_000_000 })
        }.document
        let standing = LicenseStanding(
            longer,
            in: .init(
                lease: .opened(rights), clock: clock(1_900_000), floor: 0, isRetired: false))
        #expect(standing.state == .degraded)
    }

    @Test(
        "400 days offline: every state in its order, and status a day before tells each change",
        arguments: [0.72, 0.857, 1.0, 1.2, 1.21])
    func offline(rate: Double) throws {
        let start: UInt64 = 1_000_000
        let (document, rights) = try parts { fixture in
            var policy = fixture.policy(of: try fixture.reference())
            policy.highestClock = start + 200 * Self.day
            let changed = policy
            return .init(
                terms: {
                    $0.leaseTicks = 200 * Self.day
                    $0.renewAfterTicks = 100 * Self.day
                    $0.graceAfterTicks = 150 * Self.day
                    $0.softAfterTicks = 150 * Self.day
                    $0.degradedTicks = 60 * Self.day
                    $0.nonceLifetimeSeconds = 400 * 86_400
                },
                statement: {
                    $0.renewTicks = start + 100 * Self.day
                    $0.graceTicks = start + 150 * Self.day
                    $0.softEndTicks = start + 150 * Self.day
                    $0.policy = changed
                    $0.degradedEndTicks = start + 260 * Self.day
                }, blobPolicy: changed.policy.digest)
        }
        func standing(_ ticks: UInt64) -> LicenseStanding {
            let isOpen = ticks <= document.statement.policy.highestClock
            return LicenseStanding(
                document,
                in: .init(
                    lease: isOpen ? .opened(rights) : .refused([], changed: []),
                    clock: clock(ticks), floor: 1_800_000_000, isRetired: false))
        }
        var seen: [LicenseState] = []
        var predicted: LicenseStanding.NextChange?
        for hour in 0...(400 * 24) {
            let ticks = start + UInt64(Double(hour) * 3_600_000 * rate)
            let now = standing(ticks)
            if now.state != seen.last {
                if let predicted {
                    #expect(predicted.state == now.state)
                    #expect(predicted.atTicks <= ticks)
                    #expect(predicted.atTicks > ticks - UInt64(3_600_000 * rate) - 1)
                    // The date that was promised has not passed before: a clock that is too fast aside.
                    if rate <= 1 {
                        #expect(1_800_000_000 + UInt64(hour) * 3600 >= predicted.notBefore)
                    }
                    // And a day of running time before, status said the same.
                    let before = try #require(standing(predicted.atTicks - Self.day).next)
                    #expect(before == predicted)
                }
                seen.append(now.state)
            }
            predicted = now.next
            #expect(
                Decision("core", standings: [now], isEnrolled: true, isRetired: false).allowed)
        }
        let all: [LicenseState] = [.active, .renewDue, .grace, .degraded, .expired]
        #expect(seen == all)
        #expect(predicted == nil)
    }
}
