import HoldfastCrypto
import HoldfastFuzz
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("what a running program goes by")
struct HeldLicensesTests {
    private let document: LicenseDocument
    private let rights: LeaseRights

    init() throws {
        let fixture = Fixture()
        document = try fixture.document(
            .init(terms: {
                $0.absenceSeconds = 120
                $0.recheckSeconds = 60
            }))
        rights = try LeaseRights(
            opening: document.sealedLease, of: document.statement,
            attestationKey: fixture.attestationKey, key: SecretBytes(copying: fixture.leaseKey))
    }

    private func seen(
        _ ticks: UInt64?, lease: LicenseSituation.Lease? = nil, isRevoked: Bool = false,
        isRetired: Bool = false
    ) -> HeldLicenses.Seen {
        .init(
            licenses: [
                .init(
                    document: document,
                    situation: .init(
                        lease: lease ?? (ticks == nil ? .absent : .opened(rights)),
                        clock: ticks.map {
                            ClockInfo(clock: $0, resetCount: 5, restartCount: 0, safe: true)
                        }, floor: 1_800_000_000, isRetired: isRetired, isRevoked: isRevoked))
            ], isRetired: isRetired)
    }

    private static let problem = HeldLicenses.Problem(
        code: "FILE_UNUSABLE", message: "m", advice: "a")

    @Test("before the first look nothing is allowed but what always is")
    func nothing() {
        let held = HeldLicenses()
        #expect(!held.decide("scan", at: .zero).allowed)
        #expect(held.decide("core", at: .zero).allowed)
        #expect(held.standings(at: .zero).isEmpty)
    }

    @Test("usage only rises within one ledger, in whatever order it is read")
    func usage() throws {
        let fixture = Fixture()
        let limited = try fixture.document(
            .init(
                license: { $0.entitlements[0].limit = 5 },
                statement: {
                    $0.allowances = ["scan": 5]
                    $0.era = 7
                }))
        let opened = try LeaseRights(
            opening: limited.sealedLease, of: limited.statement,
            attestationKey: fixture.attestationKey, key: SecretBytes(copying: fixture.leaseKey))
        func known(_ total: UInt64, era: UInt64 = 7) -> KnownUsage {
            KnownUsage(totals: ["scan": total], era: era, cause: .first)
        }
        func seen(_ usage: KnownUsage?) -> HeldLicenses.Seen {
            .init(
                licenses: [
                    .init(
                        document: limited,
                        situation: .init(
                            lease: .opened(opened),
                            clock: ClockInfo(
                                clock: 1_000_000, resetCount: 5, restartCount: 0, safe: true),
                            floor: 1_800_000_000, isRetired: false, usage: usage))
                ], isRetired: false)
        }
        func code(_ held: HeldLicenses) -> String { held.decide("scan", at: .zero).code }
        var held = HeldLicenses()
        held.take(seen(nil), at: .zero)
        #expect(code(held) == "LIMIT_UNKNOWN")
        held.take(seen(known(4)), at: .zero)
        #expect(code(held) == "ACTIVE")
        let reached = held.take(known(5))
        #expect(reached)
        #expect(code(held) == "LIMIT_REACHED")
        let beyond = held.take(known(6))
        #expect(!beyond)
        // A look that began before, and one that could not read the ledger.
        held.take(seen(known(4)), at: .zero)
        #expect(code(held) == "LIMIT_REACHED")
        held.take(seen(nil), at: .zero)
        #expect(code(held) == "LIMIT_REACHED")
        // Another ledger is another matter.
        held.take(seen(known(0, era: 8)), at: .zero)
        #expect(code(held) == "LIMIT_UNKNOWN")
        // One that counts less than was settled of it is not it.
        let settled = try fixture.document(
            .init(
                license: { $0.entitlements[0].limit = 5 },
                statement: {
                    $0.allowances = ["scan": 5]
                    $0.settled = ["scan": 3]
                    $0.era = 7
                }))
        for (total, left) in [(2, nil), (3, 2), (5, 0), (9, 0)] as [(UInt64, UInt64?)] {
            let standing = LicenseStanding(
                settled,
                in: .init(
                    lease: .opened(opened), clock: nil, floor: 0, isRetired: false,
                    usage: known(total)))
            #expect(standing.allowances["scan"]?.left == left)
        }
    }

    @Test("an answer of the TPM holds until the next look, however late it comes")
    func answered() {
        var held = HeldLicenses()
        held.take(seen(1_000_000), at: .seconds(10))
        let decision = held.decide("scan", at: .seconds(10))
        #expect(decision.allowed && decision.flags.isEmpty)
        #expect(held.decide("scan", at: .seconds(500)) == decision)
        held.take(seen(1_700_000), at: .seconds(501))
        #expect(held.decide("scan", at: .seconds(501)).state == .degraded)
    }

    @Test(
        "without an answer the last one is held for as long as the terms say, and is marked",
        arguments: [(0, true), (120, true), (121, false), (100_000, false)])
    func absent(seconds: Int, allowed: Bool) {
        var held = HeldLicenses()
        held.take(seen(1_000_000), at: .seconds(1000))
        held.take(seen(nil), at: .seconds(1000))
        let decision = held.decide("scan", at: .seconds(1000 + seconds))
        #expect(decision.allowed == allowed)
        #expect(decision.flags == [.tpmAbsent])
        #expect(decision.code == "TPM_ABSENT")
        #expect(decision.state == (allowed ? .active : .degraded))
    }

    @Test("what is held ages: the lease ends while the TPM is away")
    func aging() {
        var held = HeldLicenses()
        held.take(seen(1_590_000), at: .seconds(1000))
        held.take(seen(nil), at: .seconds(1001))
        #expect(held.decide("scan", at: .seconds(1009)).allowed)
        #expect(held.decide("scan", at: .seconds(1010)).state == .grace)
        let over = held.decide("scan", at: .seconds(1011))
        #expect(!over.allowed && over.state == .degraded)
    }

    @Test(
        "what was taken back or given up is not held, and a program that starts then holds nothing")
    func notHeld() {
        var held = HeldLicenses()
        held.take(seen(1_000_000), at: .zero)
        held.take(seen(nil, isRevoked: true), at: .seconds(1))
        #expect(held.decide("scan", at: .seconds(1)).state == .revoked)
        held.take(seen(1_000_000), at: .seconds(2))
        held.take(seen(nil, isRetired: true), at: .seconds(3))
        #expect(held.decide("scan", at: .seconds(3)).state == .retired)

        var late = HeldLicenses()
        late.take(seen(nil), at: .zero)
        #expect(late.decide("scan", at: .zero).state == .degraded)
        #expect(!late.decide("scan", at: .zero).allowed)
    }

    @Test("a refusal of the TPM is not held over: it stands at once")
    func refused() {
        var held = HeldLicenses()
        held.take(seen(1_000_000), at: .zero)
        held.take(
            seen(1_000_100, lease: .refused([.bootChanged], changed: [])), at: .seconds(1))
        #expect(!held.decide("scan", at: .seconds(1)).allowed)
        #expect(held.decide("preview", at: .seconds(1)).allowed)
        // And what is held afterwards is the refusal.
        held.take(seen(nil), at: .seconds(2))
        #expect(!held.decide("scan", at: .seconds(2)).allowed)
    }

    @Test("a failure is held over like an absence, then refuses by its name; no enrollment is not")
    func failed() {
        var held = HeldLicenses()
        held.take(seen(1_000_000), at: .zero)
        held.take(Self.problem)
        #expect(held.decide("scan", at: .seconds(120)).allowed)
        #expect(held.problem == Self.problem)
        let refused = held.decide("scan", at: .seconds(121))
        #expect(!refused.allowed && refused.code == "FILE_UNUSABLE" && refused.advice == "a")
        #expect(held.decide("core", at: .seconds(121)).allowed)
        held.take(.init(code: "UNENROLLED", message: "", advice: nil, isUnenrolled: true))
        #expect(held.decide("scan", at: .zero).code == "UNENROLLED")
        // What was seen before does not come back.
        held.take(Self.problem)
        #expect(!held.decide("scan", at: .zero).allowed)
    }

    @Test(
        "the next look comes before a change, also with the fastest clock, and as often as the terms say"
    )
    func nextLook() {
        var held = HeldLicenses()
        #expect(held.nextLook(at: .zero) == .seconds(600))
        held.take(seen(1_000_000), at: .seconds(5))
        #expect(held.nextLook(at: .seconds(5)) == .seconds(60))
        #expect(held.nextLook(at: .seconds(35)) == .seconds(30))
        // RENEW_DUE at 1,300,000: 12.1 s on the TPM's clock, which may run 1.21 times too fast.
        held.take(seen(1_300_000 - 12_100), at: .seconds(100))
        let wait = held.nextLook(at: .seconds(100))
        #expect(wait > .milliseconds(9_990) && wait <= .milliseconds(10_010))
        held.take(seen(nil), at: .seconds(200))
        #expect(held.nextLook(at: .seconds(200)) == .seconds(10))
        // A clock at its end, and instants that do not follow each other, lead to no storm.
        held.take(seen(.max), at: .seconds(300))
        #expect(held.nextLook(at: .seconds(300)) == .seconds(60))
        #expect(held.nextLook(at: .seconds(300_000)) == .milliseconds(50))
        #expect(held.nextLook(at: .zero) == .seconds(60))
    }

    @Test("usage is recorded under the terms of the license that grants it")
    func versions() {
        var held = HeldLicenses()
        #expect(held.termsVersion(of: "scan") == 0 && held.lastTicks == 0)
        held.take(seen(1_000_000), at: .zero)
        #expect(held.termsVersion(of: "scan") == 3 && held.lastTicks == 1_000_000)
        #expect(held.termsVersion(of: "other") == 0)
    }

    @Test("usage has the version of the documents, also when no TPM was ever there")
    func versionsWithoutTPM() {
        var late = HeldLicenses()
        late.take(seen(nil), at: .zero)
        #expect(!late.isAnswered)
        #expect(late.termsVersion(of: "scan") == 3 && late.lastTicks == 0)
        #expect(late.termsVersion(of: "other") == 0)
        // What is read later is what counts, and what cannot be read changes nothing.
        late.take(Self.problem)
        #expect(late.termsVersion(of: "scan") == 3)
        late.take(.init(licenses: [], isRetired: false), at: .zero)
        #expect(late.termsVersion(of: "scan") == 0)

        var hung = HeldLicenses()
        hung.take(Self.problem, documents: [document])
        #expect(hung.termsVersion(of: "scan") == 3)
        #expect(!hung.decide("scan", at: .zero).allowed && !hung.isAnswered)
        hung.take(.init(code: "UNENROLLED", message: "", advice: nil, isUnenrolled: true))
        #expect(hung.termsVersion(of: "scan") == 0)
    }

    @Test("whether the TPM answered at the last look")
    func isAnswered() {
        var held = HeldLicenses()
        #expect(!held.isAnswered)
        held.take(seen(1_000_000), at: .zero)
        #expect(held.isAnswered)
        held.take(seen(nil), at: .zero)
        #expect(!held.isAnswered)
        held.take(seen(1_000_000), at: .zero)
        held.take(Self.problem)
        #expect(!held.isAnswered)
    }
}
