import HoldfastCrypto
import HoldfastFuzz
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("where a license stands")
struct StandingTests {
    private let document: LicenseDocument
    private let rights: LeaseRights

    init() throws {
        let fixture = Fixture()
        document = try fixture.document()
        rights = try LeaseRights(
            opening: document.sealedLease, of: document.statement,
            attestationKey: fixture.attestationKey, key: SecretBytes(copying: fixture.leaseKey))
    }

    private func standing(
        _ ticks: UInt64?, _ lease: LicenseSituation.Lease? = nil, floor: UInt64 = 1_800_000_000,
        isRetired: Bool = false
    ) -> LicenseStanding {
        LicenseStanding(
            document,
            in: .init(
                lease: lease ?? .opened(rights),
                clock: ticks.map {
                    ClockInfo(clock: $0, resetCount: 5, restartCount: 0, safe: true)
                }, floor: floor, isRetired: isRetired))
    }

    @Test(
        "the clock moves it at exactly the signed instants",
        arguments: [
            (UInt64(0), LicenseState.active), (1_299_999, .active), (1_300_000, .renewDue),
            (1_449_999, .renewDue), (1_450_000, .grace), (1_600_000, .grace),
            (1_600_001, .degraded), (1_800_000, .degraded), (1_800_001, .expired),
            (UInt64.max, .expired),
        ])
    func instants(ticks: UInt64, state: LicenseState) {
        #expect(standing(ticks).state == state)
        #expect(standing(ticks).mode == .normal)
    }

    @Test("the next change is the next signed instant, with a date that does not move")
    func nextChange() throws {
        let next = try #require(standing(1_000_500).next)
        #expect(next.state == .renewDue)
        #expect(next.atTicks == 1_300_000)
        #expect(next.notBefore == 1_800_000_300)
        #expect(standing(1_299_999).next == next)
        #expect(standing(1_300_000).next?.state == .grace)
        #expect(standing(1_500_000).next?.atTicks == 1_600_001)
        #expect(standing(1_700_000).next?.state == .expired)
        #expect(standing(1_900_000).next == nil)
        // Locked: soft entitlements end first.
        let locked = standing(1_350_000, .refused([.bootChanged], changed: []))
        #expect(locked.next?.state == .degraded)
        #expect(locked.next?.atTicks == 1_400_001)
    }

    @Test("a lock leaves the state alone until the soft end, then it is DEGRADED")
    func locked() {
        let refused = LicenseSituation.Lease.refused([.bootChanged], changed: [])
        #expect(standing(1_000_000, refused).state == .active)
        #expect(standing(1_000_000, refused).mode == .locked)
        #expect(standing(1_400_000, refused).state == .renewDue)
        #expect(standing(1_400_001, refused).state == .degraded)
        #expect(standing(1_400_001, refused).events.last == .lockedPastSoftEnd)
        #expect(standing(1_900_000, refused).state == .expired)
    }

    @Test("the calendar's end in a verified document is the lease's end, whatever the clock says")
    func calendar() {
        #expect(standing(1_000_000, floor: 1_899_999_999).state == .active)
        let over = standing(1_000_000, floor: 1_900_000_000)
        #expect(over.state == .degraded)
        #expect(over.events == [.leaseInstalled, .renewalDue, .graceBegun, .leaseEnded])
    }

    @Test("an absent or cleared TPM degrades, a retirement ends")
    func outside() {
        #expect(standing(nil, .absent).state == .degraded)
        #expect(standing(nil, .absent).flags == [.tpmAbsent])
        #expect(standing(1_000_000, .cleared).state == .degraded)
        #expect(standing(1_000_000, .cleared).flags == [.cleared])
        #expect(standing(1_000_000, isRetired: true).state == .retired)
        #expect(standing(1_000_000, .cleared, isRetired: true).state == .retired)
    }

    // MARK: Decisions

    private func allowed(_ standing: LicenseStanding) -> [String] {
        ["scan", "preview", "hint", "core", "export", "read-only", "other"].filter {
            Decision($0, standings: [standing], isEnrolled: true, isRetired: false).allowed
        }
    }

    @Test("each entitlement is held as the terms say")
    func enforcement() {
        let refused = LicenseSituation.Lease.refused([.bootChanged], changed: [PCRIndex.all[7]])
        let all = ["scan", "preview", "hint", "core", "export", "read-only"]
        for ticks in [1_000_000, 1_300_000, 1_500_000] as [UInt64] {
            #expect(allowed(standing(ticks)) == all)
        }
        #expect(
            allowed(standing(1_000_000, refused))
                == ["preview", "hint", "core", "export", "read-only"])
        for ended in [standing(1_700_000), standing(1_450_000, refused), standing(nil, .absent)] {
            #expect(allowed(ended) == ["preview", "hint", "core", "export", "read-only"])
        }
        #expect(allowed(standing(1_900_000)) == ["hint", "core", "export", "read-only"])
        #expect(allowed(standing(1_000_000, isRetired: true)) == ["core", "export"])
    }

    @Test("strict needs the lease that the TPM opened, not the signed license alone")
    func strictNeedsTheLease() {
        let less = LeaseRights(
            license: rights.license, serial: rights.serial, entitlements: ["preview"])
        let decision = Decision(
            "scan", standings: [standing(1_000_000, .opened(less))], isEnrolled: true,
            isRetired: false)
        #expect(!decision.allowed)
        #expect(decision.code == "NOT_IN_LEASE")
        #expect(
            Decision(
                "preview", standings: [standing(1_000_000, .opened(less))], isEnrolled: true,
                isRetired: false
            ).allowed)
    }

    @Test("without a license there is a reason and a way on")
    func nothing() {
        let none = Decision("scan", standings: [], isEnrolled: false, isRetired: false)
        #expect(!none.allowed)
        #expect(none.code == "UNENROLLED")
        #expect(none.state == .unenrolled)
        #expect(none.advice != nil)
        let enrolled = Decision("scan", standings: [], isEnrolled: true, isRetired: false)
        #expect(enrolled.code == "NO_LICENSE")
        #expect(Decision("core", standings: [], isEnrolled: false, isRetired: false).allowed)
        #expect(!Decision("read-only", standings: [], isEnrolled: false, isRetired: false).allowed)
    }

    @Test("a decision is the same at every instant of a state")
    func stable() {
        let first = Decision(
            "scan", standings: [standing(1_000_000)], isEnrolled: true, isRetired: false)
        for ticks in stride(from: 1_000_001, to: 1_299_999, by: 9973) {
            let later = Decision(
                "scan", standings: [standing(UInt64(ticks))], isEnrolled: true, isRetired: false)
            #expect(later == first)
        }
    }

    @Test("of two licenses the one that allows decides")
    func two() throws {
        let good = standing(1_000_000)
        let bad = standing(1_900_000)
        for order in [[good, bad], [bad, good]] {
            #expect(
                Decision("scan", standings: order, isEnrolled: true, isRetired: false).allowed)
        }
    }
}

@Suite("the schedule of a lease")
struct ScheduleTests {
    private let terms = Fixture().terms()
    private let clock = ClockInfo(clock: 5_000_000, resetCount: 3, restartCount: 1, safe: true)

    @Test("it counts from the attested clock")
    func schedule() throws {
        let made = try #require(
            LeaseSchedule(terms: terms, attested: clock, now: 1000, licenseEndsAt: 1_000_000))
        #expect(made.issuedTicks == 5_000_000)
        #expect(made.renewTicks == 5_300_000)
        #expect(made.graceTicks == 5_450_000)
        #expect(made.softEndTicks == 5_400_000)
        #expect(made.endTicks == 5_600_000)
        #expect(made.degradedEndTicks == 5_800_000)
        #expect(made.lowestTicks == 800_000)
        #expect(made.highestResetCount == 7)
        #expect(made.highestRestartCount == 1)
        #expect(made.endsAt == 1600)
    }

    @Test("the end of the license cuts it short, and nothing begins after it")
    func clipped() throws {
        let made = try #require(
            LeaseSchedule(terms: terms, attested: clock, now: 1000, licenseEndsAt: 1100))
        #expect(made.endTicks == 5_100_000)
        #expect(made.renewTicks == 5_100_000)
        #expect(made.softEndTicks == 5_100_000)
        #expect(made.endsAt == 1100)
        for end in [1000, 999, 0] as [UInt64] {
            #expect(
                LeaseSchedule(terms: terms, attested: clock, now: 1000, licenseEndsAt: end) == nil)
        }
    }

    @Test("no clock that a user may set stops the program")
    func extremes() throws {
        for ticks in [0, 1, UInt64.max - 1, UInt64.max, 0xFFFF_0000_0000_0000] {
            let made = try #require(
                LeaseSchedule(
                    terms: terms,
                    attested: ClockInfo(
                        clock: ticks, resetCount: .max, restartCount: .max, safe: false),
                    now: 1, licenseEndsAt: .max))
            #expect(made.endTicks >= made.issuedTicks)
            #expect(made.degradedEndTicks >= made.endTicks)
            #expect(made.highestResetCount == .max)
        }
    }
}

@Suite("the estimate of the server's time")
struct TimeEstimateTests {
    private func receipt(_ clock: ClockInfo) -> Receipt {
        Receipt(
            incarnation: 1, era: 1, checkpoint: [], root: [], size: 0, totals: MeterSums(),
            grade: "", isForked: false, serverAt: 1_000_000, clock: clock, sequence: 1)
    }

    private func clock(_ ticks: UInt64, resets: UInt32 = 3, restarts: UInt32 = 0) -> ClockInfo {
        ClockInfo(clock: ticks, resetCount: resets, restartCount: restarts, safe: true)
    }

    @Test("the slowest clock that a user may choose still lies inside")
    func bounds() {
        let made = receipt(clock(5_000))
        let now = TimeEstimate(made, now: clock(5_000 + 72_000))
        #expect(now.notBefore == 1_000_000)
        #expect(now.notAfter == 1_000_100)
        #expect(TimeEstimate(made, now: clock(5_000)).notAfter == 1_000_000)
        #expect(TimeEstimate(made, now: clock(5_001)).notAfter == 1_000_001)
    }

    @Test("after a restart, and with a clock that went back or far ahead, there is no later bound")
    func unbounded() {
        let made = receipt(clock(5_000))
        for now in [
            clock(6_000, resets: 4), clock(6_000, restarts: 1), clock(4_999), clock(.max),
        ] {
            #expect(TimeEstimate(made, now: now).notAfter == nil)
        }
    }
}
