import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

@Suite("what a server forgets", .timeLimit(.minutes(20)))
struct RetentionTests {
    private static let year: UInt64 = 400 * 86_400

    /// A device with a license that settled twice.
    private func lived() async throws -> (Vendor, FieldDevice, String) {
        let (vendor, device, id) = try await Vendor.withLicense()
        for _ in 0..<2 {
            try device.meter("scan", 3)
            try vendor.sync(device)
        }
        return (vendor, device, id)
    }

    /// Every byte that the records have on the disk.
    private func disk(_ vendor: Vendor) throws -> [UInt8] {
        try ["", "-wal"].flatMap {
            try Files.readIfPresent(
                vendor.directory.path + "/records.sqlite" + $0, maximum: 1 << 26) ?? []
        }
    }

    @Test("old records are gone from the disk, and everything that goes on is there")
    func forgets() async throws {
        let (vendor, device, id) = try await lived()
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let appraisals = try vendor.store.read { try $0.appraisals(of: record.id, limit: 100) }
        let oldest = try #require(appraisals.last)
        #expect(appraisals.count >= 3)
        let usage = try vendor.service.usage(id).first?.totals
        let before = try vendor.service.devices()
        #expect(try disk(vendor).firstRange(of: oldest.evidenceHash) != nil)
        #expect(try disk(vendor).firstRange(of: Array("device.approved".utf8)) != nil)

        // By then each lease but the last has ended that long ago.
        vendor.clock.advance(3 * Self.year)
        let counted = try vendor.service.forget(olderThan: Self.year, isTrial: true)
        #expect(counted.appraisals > 0 && counted.audit > 0 && counted.settlements > 0)
        // Counting forgets nothing.
        #expect(
            try vendor.store.read { try $0.appraisals(of: record.id, limit: 100) } == appraisals)
        #expect(try vendor.service.forget(olderThan: Self.year, isTrial: false) == counted)
        #expect(try disk(vendor).firstRange(of: oldest.evidenceHash) == nil)
        #expect(try disk(vendor).firstRange(of: Array("device.approved".utf8)) == nil)

        let left = try vendor.store.read { try $0.appraisals(of: record.id, limit: 100) }
        #expect(left.first == appraisals.first)
        #expect(left.count < appraisals.count)
        #expect(try vendor.service.usage(id).first?.totals == usage)
        #expect(
            try vendor.service.devices().map(\.device) == before.map(\.device))
        // The audit says that it was done, and how much.
        let audit = try vendor.store.read { try $0.audit(limit: 10) }
        #expect(audit.map(\.action) == ["records.forgotten"])
        #expect(try vendor.service.forget(olderThan: Self.year, isTrial: false).total == 0)
        // The device goes on: it settles once what it used meanwhile, and nothing twice.
        try device.meter("scan", 4)
        let outcome = try vendor.sync(device)
        #expect(outcome.outcome != .refused)
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 10])
        #expect(try vendor.service.usage(id).first?.forked == false)
    }

    @Test("what is younger stays, and nothing is asked for that would break a device's answer")
    func keeps() async throws {
        let (vendor, _, _) = try await lived()
        #expect {
            _ = try vendor.service.forget(olderThan: Self.year - 1, isTrial: false)
        } throws: { error in
            guard case .badArgument? = error as? ServiceError else { return false }
            return true
        }
        vendor.clock.advance(Self.year - 1)
        // Replies to evidence that is still known stay as well.
        #expect(try vendor.service.forget(olderThan: Self.year, isTrial: false).total == 0)
        #expect(try vendor.service.forget(olderThan: .max, isTrial: false).total == 0)
    }

    @Test("hardware of a device goes when its enrollment has ended that long, not before")
    func hardware() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await vendor.admit(device)
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let fact = try #require(HardwareFact([UInt8](repeating: 1, count: HardwareFact.size)))
        try vendor.store.write { try $0.insert(fact, of: record.id) }
        vendor.clock.advance(Self.year + 1)
        // It lives.
        #expect(try vendor.service.forget(olderThan: Self.year, isTrial: false).hardware == 0)
        try vendor.sync(device)
        _ = try vendor.service.process(device.with { try $0.retire().encoded })
        // It was heard of just now.
        #expect(try vendor.service.forget(olderThan: Self.year, isTrial: false).hardware == 0)
        #expect(try !vendor.store.read { try $0.hardware(of: record.id) }.isEmpty)
        vendor.clock.advance(Self.year + 1)
        #expect(try vendor.service.forget(olderThan: Self.year, isTrial: false).hardware >= 1)
        #expect(try vendor.store.read { try $0.hardware(of: record.id) }.isEmpty)
    }
}
