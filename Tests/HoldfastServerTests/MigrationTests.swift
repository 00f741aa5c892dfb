import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("newer terms", .timeLimit(.minutes(20)))
struct MigrationTests {
    private func ready() async throws -> (vendor: Vendor, device: FieldDevice, id: String) {
        try await Vendor.withLicense()
    }

    private func standing(_ device: FieldDevice) throws -> LicenseStanding {
        try #require(try device.with { try $0.standings() }.first)
    }

    private func length(_ standing: LicenseStanding) -> UInt64 {
        standing.document.statement.endTicks - standing.document.statement.issuedTicks
    }

    private func version(_ device: FieldDevice) throws -> UInt32 {
        try standing(device).document.terms.version
    }

    @Test("R43: they come when their notice is over, and the first lease under them is no shorter")
    func notice() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 3)
        _ = try vendor.service.apply(
            Vendor.terms(version: 2, lease: "450s", soft: "300s", resets: 2, notice: "100s"))
        // New licenses are under them at once.
        let told = vendor.clock.now
        try vendor.sync(device)
        var now = try standing(device)
        #expect(now.document.terms.version == 1)
        #expect(length(now) == 600_000)
        #expect(now.flags == [.policyPending])
        #expect(now.announced.map(\.migration.notBefore) == [told + 100])
        #expect(now.announced.map(\.terms.leaseTicks) == [450_000])
        #expect(now.state == .active)
        #expect(try device.with { try $0.decide("scan") }.allowed)
        let log = try device.with { try $0.changes(limit: 100) }
        #expect(log.filter { $0.kind == .termsAnnounced }.map(\.new) == ["standard 2"])

        vendor.clock.advance(99)
        try vendor.sync(device)
        now = try standing(device)
        #expect(now.document.terms.version == 1)
        #expect(now.announced.map(\.migration.notBefore) == [told + 100])
        let again = try device.with { try $0.changes(limit: 100) }
        #expect(again.count { $0.kind == .termsAnnounced } == 1)
        var report = try vendor.service.devices(id)[0].licenses[0]
        #expect(report.termsVersion == 1)
        #expect(report.termsToCome.map(\.isHeard) == [true])

        vendor.clock.advance(1)
        try vendor.sync(device)
        now = try standing(device)
        #expect(now.document.terms.version == 2)
        #expect(now.document.license.termsVersion == 2)
        #expect(now.announced == [])
        #expect(now.flags == [])
        // Transitional: whoever planned by the old terms has time for it.
        #expect(length(now) == 600_000)
        #expect(
            now.document.statement.softEndTicks - now.document.statement.issuedTicks == 400_000)
        let changed = try device.with { try $0.changes(limit: 100) }
        #expect(changed.filter { $0.kind == .termsChanged }.map(\.new) == ["standard 2"])
        report = try vendor.service.devices(id)[0].licenses[0]
        #expect(report.termsVersion == 2)
        #expect(report.termsToCome.isEmpty)

        // No renewal cuts short what somebody has, though its terms give less.
        let end = now.document.statement.endTicks
        for _ in 0..<2 {
            try vendor.sync(device)
            #expect(try standing(device).document.statement.endTicks == end)
        }
        try device.tpm.connection.setClock(end - 400_000)
        try vendor.sync(device)
        #expect(try length(standing(device)) == 450_000)
        #expect(try device.with { try $0.decide("scan") }.allowed)
        // Usage goes on, under both versions together.
        try device.with { enrolled in
            try enrolled.openLedger().append(
                [.init(meter: "scan", termsVersion: 2, quantity: 4)], day: 0)
        }
        try vendor.sync(device)
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 7])
        #expect(try vendor.service.termsReports().map(\.licenses) == [["2": 1]])
    }

    @Test("R43: a reply that was lost tells nobody, and the notice begins with the next one")
    func lost() async throws {
        let (vendor, device, _) = try await ready()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "500s", notice: "100s"))
        #expect(try vendor.service.process(device.evidence()).outcome == .accepted)
        vendor.clock.advance(200)
        let told = vendor.clock.now
        try vendor.sync(device)
        #expect(try version(device) == 1)
        #expect(try standing(device).announced.map(\.migration.notBefore) == [told + 100])
        // Nor does evidence that says nothing of that reply.
        vendor.clock.advance(99)
        try vendor.sync(device)
        #expect(try version(device) == 1)
        vendor.clock.advance(1)
        try vendor.sync(device)
        #expect(try version(device) == 2)
    }

    @Test(
        "R43: who slept through three versions is told of the newest, with the longest notice of them"
    )
    func slept() async throws {
        let (vendor, device, _) = try await ready()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "500s", notice: "50s"))
        _ = try vendor.service.apply(Vendor.terms(version: 3, resets: 1, notice: "300s"))
        _ = try vendor.service.apply(Vendor.terms(version: 4, lease: "550s", notice: "10s"))
        vendor.clock.advance(5000)
        let told = vendor.clock.now
        try vendor.sync(device)
        #expect(try version(device) == 1)
        #expect(try standing(device).announced.map(\.migration.to) == [4])
        #expect(try standing(device).announced.map(\.migration.notBefore) == [told + 300])
        vendor.clock.advance(299)
        try vendor.sync(device)
        #expect(try version(device) == 1)
        vendor.clock.advance(1)
        try vendor.sync(device)
        #expect(try version(device) == 4)
    }

    @Test("R43: what was told keeps its day when still newer terms follow")
    func both() async throws {
        let (vendor, device, id) = try await ready()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "500s", notice: "100s"))
        let told = vendor.clock.now
        try vendor.sync(device)
        _ = try vendor.service.apply(Vendor.terms(version: 3, lease: "450s", notice: "400s"))
        vendor.clock.advance(50)
        try vendor.sync(device)
        #expect(try standing(device).announced.map(\.migration.to) == [2, 3])
        #expect(
            try standing(device).announced.map(\.migration.notBefore) == [told + 100, told + 450])
        vendor.clock.advance(50)
        try vendor.sync(device)
        #expect(try version(device) == 2)
        #expect(try standing(device).announced.map(\.migration.to) == [3])
        #expect(try standing(device).announced.map(\.migration.from) == [2])
        vendor.clock.advance(349)
        try vendor.sync(device)
        #expect(try version(device) == 2)
        vendor.clock.advance(1)
        try vendor.sync(device)
        #expect(try version(device) == 3)
        // Another license of the same terms is under the newest from its beginning.
        let second = try vendor.license(id, ["map"])
        _ = try device.with { try $0.apply(reply: second.reply) }
        #expect(try device.with { try $0.standings() }.map(\.document.terms.version) == [3, 3])
    }

    @Test("R43: every reply says what is to come, also one that renews nothing")
    func otherReplies() async throws {
        let (vendor, device, id) = try await ready()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "500s", notice: "100s"))
        let told = vendor.clock.now
        try vendor.sync(device)
        vendor.clock.advance(10)
        let second = try vendor.license(id, ["map"])
        _ = try device.with { try $0.apply(reply: second.reply) }
        let first = try #require(
            try device.with { try $0.standings() }.first { $0.document.terms.version == 1 })
        // It was heard by nobody yet, so the day is that of the reply that came last.
        #expect(first.announced.map(\.migration.notBefore) == [told + 110])
        // A boot state that waits for the operator.
        try device.tpm.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        let waiting = try vendor.service.process(device.evidence())
        #expect(waiting.outcome == .pendingBootState)
        _ = try device.with { try $0.apply(reply: waiting.reply ?? []) }
        let still = try #require(
            try device.with { try $0.standings() }.first { $0.document.terms.version == 1 })
        #expect(still.announced.map(\.migration.notBefore) == [told + 110])
        #expect(still.flags.contains(.policyPending))
    }

    @Test("terms that take nothing away come with the next renewal")
    func better() async throws {
        let (vendor, device, _) = try await ready()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "700s", resets: 6))
        try vendor.sync(device)
        #expect(try version(device) == 2)
        #expect(try length(standing(device)) == 700_000)
    }

    @Test("terms that take something away need notice, and keep their class")
    func refusals() async throws {
        let (vendor, _, _) = try await ready()
        for worse in [
            try Vendor.terms(version: 2, lease: "599s"), try Vendor.terms(version: 2, soft: "399s"),
            try Vendor.terms(version: 2, degraded: "599s"), try Vendor.terms(version: 2, resets: 4),
            try Vendor.terms(version: 2, lease: "599s", notice: "0s"),
        ] {
            #expect {
                try vendor.service.apply(worse)
            } throws: { error in
                guard case ServiceError.termsNeedNotice(let losses) = error else { return false }
                return losses.count == 1
            }
        }
        #expect(throws: ServiceError.self) {
            try vendor.service.apply(
                Vendor.terms(
                    version: 2, lease: "2h", renew: "1h", grace: "1h", soft: "1h", degraded: "0h",
                    notice: "1d", licenseClass: "production"))
        }
        #expect(try vendor.service.terms("standard").version == 1)
    }

    @Test("a server that was restored goes on under the newer terms, not back to the earlier")
    func restored() async throws {
        let (vendor, device, id) = try await ready()
        let backup = try vendor.backUp()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "700s"))
        try vendor.sync(device)
        try vendor.restore(backup)
        try vendor.sync(device)
        #expect(try version(device) == 2)
        #expect(try vendor.service.devices(id)[0].licenses.map(\.termsVersion) == [2])
        #expect(try vendor.service.terms("standard").version == 2)
    }

    @Test("what a device keeps of terms to come is verified each time, and decides nothing")
    func kept() async throws {
        let (vendor, device, _) = try await ready()
        _ = try vendor.service.apply(Vendor.terms(version: 2, lease: "500s", notice: "100s"))
        try vendor.sync(device)
        let path = device.path + "/terms-to-come"
        let good = try Files.read(path, maximum: 1 << 20)
        try device.with { try $0.demandTermsToCome() }
        var changed = (0..<good.count / 13).map { step in
            var bad = good
            bad[step * 13] ^= 1
            return bad
        }
        changed += [0, 1, good.count - 1].map { Array(good[..<$0]) } + [good + good]
        for bad in changed {
            try Files.write(bad, to: path, mode: 0o640)
            #expect(throws: (any Error).self) { try device.with { try $0.demandTermsToCome() } }
        }
        for _ in 0..<2 {
            #expect(try standing(device).state == .active)
            #expect(try standing(device).announced == [])
            #expect(try device.with { try $0.decide("scan") }.allowed)
            try Files.remove(path)
        }
        try vendor.sync(device)
        #expect(try standing(device).announced.count == 1)
    }
}
