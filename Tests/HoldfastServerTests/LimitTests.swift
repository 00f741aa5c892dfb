import Foundation
import GRDB
import HoldfastDevice
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

@Suite("limits of entitlements", .timeLimit(.minutes(20)))
struct LimitTests {
    /// A device whose license allows `scan` and `hint` so many times, and `preview` without a limit.
    private func ready(
        _ limit: UInt64 = 10, overage: String? = nil
    ) async throws -> (vendor: Vendor, device: FieldDevice, id: String) {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms(overage: overage))
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        try license(limit, vendor, device, id)
        return (vendor, device, id)
    }

    private func license(
        _ limit: UInt64, _ vendor: Vendor, _ device: FieldDevice, _ id: String
    ) throws {
        let issued = try vendor.service.issue(
            .init(
                device: id, product: "scanner",
                entitlements: [
                    .init(name: "scan", limit: limit), .init(name: "hint", limit: limit),
                    .init(name: "preview", limit: nil),
                ], terms: "standard", endsAt: vendor.clock.now + 86_400))
        _ = try device.with { try $0.apply(reply: issued.reply) }
    }

    private func check(_ device: FieldDevice, _ name: String = "scan") throws -> Decision {
        try device.with { try $0.decide(name) }
    }

    private func used(_ device: FieldDevice) throws -> UInt64? {
        let standing = try #require(try device.with { try $0.standings() }.first)
        return try #require(standing.allowances["scan"]).used
    }

    @Test("a limit is used up offline, no renewal refills it, and a new license does")
    func reached() async throws {
        let (vendor, device, id) = try await ready()
        #expect(try check(device).allowed)
        #expect(try check(device).limit == 10)
        try device.meter("scan", 9)
        #expect(try check(device).allowed)
        #expect(try used(device) == 9)
        try device.meter("scan", 1)
        #expect(try !check(device).allowed)
        #expect(try check(device).code == "LIMIT_REACHED")
        #expect(try check(device).state == .active)
        // What has no limit, and what is never refused, goes on.
        #expect(try check(device, "preview").allowed)
        #expect(try check(device, "preview").code == "ACTIVE")
        // Usage that happened all the same is recorded.
        try device.meter("scan", 2)
        for _ in 0..<2 {
            #expect(try used(device) == 12)
            #expect(try device.with { try $0.standings() }.first?.flags == [])
            try vendor.sync(device)
            #expect(try check(device).code == "LIMIT_REACHED")
        }
        let report = try vendor.service.devices(id)[0].licenses[0]
        #expect(report.limits.first { $0.entitlement == "scan" }?.used == 12)

        // What was used before a license does not count against it.
        try license(5, vendor, device, id)
        #expect(try check(device).allowed)
        #expect(try check(device).limit == 5)
        try device.meter("scan", 4)
        #expect(try check(device).allowed)
        try vendor.sync(device)
        #expect(try check(device).allowed)
        try device.meter("scan", 1)
        #expect(try check(device).code == "LIMIT_REACHED")
        try vendor.sync(device)
        #expect(try check(device).code == "LIMIT_REACHED")
    }

    @Test("where the terms count what is beyond, it goes on and is flagged")
    func counted() async throws {
        let (vendor, device, _) = try await ready(overage: "count")
        try device.meter("scan", 10)
        #expect(try check(device).allowed)
        #expect(try check(device).code == "OVERAGE")
        #expect(try check(device).flags == [.overage])
        try device.meter("scan", 1)
        #expect(try check(device).flags == [.overage])
        try vendor.sync(device)
        #expect(try check(device).allowed)
    }

    @Test("advisory entitlements are told of a limit and not refused")
    func advisory() async throws {
        let (_, device, _) = try await ready()
        try device.meter("hint", 11)
        #expect(try check(device, "hint").allowed)
        #expect(try check(device, "hint").code == "OVERAGE")
        #expect(try check(device).allowed)
    }

    @Test("who loses the ledger, or puts an older one back, has no more for it")
    func lost() async throws {
        let (vendor, device, _) = try await ready()
        try device.meter("scan", 2)
        try vendor.sync(device)
        let ledger = device.path + "/ledger"
        let kept = device.directory.path + "/kept"
        try FileManager.default.copyItem(atPath: ledger, toPath: kept)
        try device.meter("scan", 8)
        _ = try device.with { try $0.openLedger().checkpoint() }
        #expect(try check(device).code == "LIMIT_REACHED")

        // An older copy lacks what the TPM has sealed since: the vendor has to look at it.
        try FileManager.default.removeItem(atPath: ledger)
        try FileManager.default.copyItem(atPath: kept, toPath: ledger)
        for _ in 0..<2 {
            #expect(try check(device).code == "LIMIT_UNKNOWN")
            #expect(try used(device) == nil)
        }
        let outcome = try vendor.sync(device)
        #expect(outcome.notes.contains { $0.contains("ROLLBACK_SUSPECT") })
        #expect(try used(device) == 2)

        // Without any, nobody knows how much is left.
        try FileManager.default.removeItem(atPath: ledger)
        #expect(try !check(device).allowed)
        #expect(try check(device).code == "LIMIT_UNKNOWN")
        #expect(try used(device) == nil)
        #expect(try check(device, "preview").allowed)
        try device.meter("scan", 1)
        #expect(try check(device).code == "LIMIT_UNKNOWN")
        // The vendor knows what was settled, and says so with the next lease.
        try vendor.sync(device)
        #expect(try check(device).allowed)
        #expect(try used(device) == 3)
        try device.meter("scan", 7)
        #expect(try check(device).code == "LIMIT_REACHED")
    }

    private func edit(_ device: FieldDevice, _ sql: String) throws {
        let path = device.path + "/ledger/ledger.sqlite"
        try DatabaseQueue(path: path).write { try $0.execute(sql: sql) }
    }

    @Test("no repair, other name or other era of a ledger refills a limit")
    func edited() async throws {
        let (vendor, device, _) = try await ready()
        try device.meter("scan", 4)
        try vendor.sync(device)
        try device.meter("scan", 6)
        #expect(try check(device).code == "LIMIT_REACHED")
        try edit(device, "UPDATE meter SET name = 'other' WHERE name = 'scan'")
        #expect(try check(device).code == "LIMIT_UNKNOWN")
        try edit(device, "UPDATE meter SET name = 'scan' WHERE name = 'other'")
        #expect(try check(device).code == "LIMIT_REACHED")
        try edit(device, "UPDATE record SET bytes = zeroblob(length(bytes)) WHERE sequence = 2")
        _ = try? device.with { try $0.repairLedger() }
        #expect(try !check(device).allowed)
        #expect(try ["LIMIT_UNKNOWN", "LIMIT_REACHED"].contains(check(device).code))
    }

    @Test("a license with as many limits as there can be is renewed")
    func many() async throws {
        let (vendor, device, id) = try await ready()
        let names = (0..<License.maximumEntitlements).map {
            "meter-\($0)-" + String(repeating: "x", count: 50)
        }
        let issued = try vendor.service.issue(
            .init(
                device: id, product: "scanner",
                entitlements: names.map { .init(name: $0, limit: .max) }, terms: "standard",
                endsAt: vendor.clock.now + 86_400))
        _ = try device.with { try $0.apply(reply: issued.reply) }
        for name in names { try device.meter(name, .max) }
        for _ in 0..<2 { try vendor.sync(device) }
        #expect(try check(device, names[63]).allowed)
    }

    @Test("of two licenses the one with something left counts")
    func two() async throws {
        let (vendor, device, id) = try await ready(2, overage: "count")
        try device.meter("scan", 2)
        #expect(try check(device).code == "OVERAGE")
        try vendor.sync(device)
        try license(5, vendor, device, id)
        #expect(try check(device).code == "ACTIVE")
        #expect(try check(device).limit == 5)
    }

    @Test("a ledger that cannot be read refuses what has a limit, and nothing else")
    func unreadable() async throws {
        let (_, device, _) = try await ready()
        try device.meter("scan", 1)
        for ending in ["", "-wal", "-shm"] {
            let path = device.path + "/ledger/ledger.sqlite" + ending
            if FileManager.default.fileExists(atPath: path) {
                try Data(repeating: 7, count: 4096).write(to: URL(filePath: path))
            }
        }
        #expect(try check(device).code == "LIMIT_UNKNOWN")
        #expect(try check(device, "preview").allowed)
        #expect(try check(device, "core").allowed)
    }
}
