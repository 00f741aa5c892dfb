import Foundation
import GRDB
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import Testing

@Suite("repair of a ledger", .timeLimit(.minutes(20)))
struct RepairTests {
    private func ready() async throws -> (Vendor, FieldDevice, String) {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        _ = try vendor.service.apply(Vendor.terms())
        let issued = try vendor.license(id, ["scan"])
        _ = try device.with { try $0.apply(reply: issued.reply) }
        return (vendor, device, id)
    }

    private func sql(_ device: FieldDevice, _ text: String) throws {
        try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite").write {
            try $0.execute(sql: text)
        }
    }

    private func total(_ vendor: Vendor, _ id: String) throws -> UInt64? {
        try vendor.service.usage(id).first?.totals["scan"]
    }

    @Test("nothing is repaired where nothing is damaged")
    func sound() async throws {
        let (_, device, _) = try await ready()
        try device.meter("scan", 3)
        #expect(try device.with { try $0.repairLedger() } == nil)
        #expect(try device.with { try $0.openLedger().totals() } == ["scan": 3])
    }

    @Test("an edited record is left behind, what was sealed counts, and later usage is taken over")
    func edited() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 2)
        try device.meter("scan", 1)
        // Record 2 was sealed; its quantity is changed.
        try sql(
            device,
            "UPDATE record SET bytes = zeroblob(length(bytes)) WHERE sequence = 2")
        #expect(throws: LedgerStoreError.self) {
            try device.with { try $0.openLedger().verify() }
        }
        let repaired = try #require(try device.with { try $0.repairLedger() })
        #expect(repaired.code == "LEDGER_EDITED")
        #expect(repaired.kept == 2 && repaired.lost == 0 && repaired.setAside == nil)
        try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            #expect(ledger.finding == nil)
            #expect(try ledger.totals() == ["scan": 8])
            _ = try ledger.verify()
        }
        #expect(try device.with { try $0.repairLedger() } == nil)
        try device.meter("scan", 4)
        let outcome = try vendor.sync(device)
        #expect(outcome.outcome == .accepted)
        #expect(outcome.notes.contains { $0.hasPrefix("LEDGER_REPAIR") }, "\(outcome.notes)")
        #expect(try total(vendor, id) == 12)
    }

    @Test("records that cannot be read after the last seal are named as lost")
    func lost() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 5)
        try vendor.sync(device)
        for _ in 0..<3 { try device.meter("scan", 10) }
        try sql(
            device,
            "UPDATE record SET bytes = x'00' WHERE sequence = (SELECT max(sequence) - 1 FROM record)"
        )
        let repaired = try #require(try device.with { try $0.repairLedger() })
        #expect(repaired.kept == 1 && repaired.lost == 2)
        #expect(try device.with { try $0.openLedger().totals() } == ["scan": 15])
        try vendor.sync(device)
        #expect(try total(vendor, id) == 15)
    }

    @Test(
        "a file that is no database is kept, and a new ledger begins; what was settled stays settled"
    )
    func noDatabase() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 2)
        let file = device.path + "/ledger/ledger.sqlite"
        for ending in ["-wal", "-shm"] { try Files.remove(file + ending) }
        try Files.write([UInt8](repeating: 0x41, count: 5000), to: file, mode: 0o660)
        #expect(throws: LedgerStoreError.self) { try device.meter("scan", 1) }
        let repaired = try #require(try device.with { try $0.repairLedger() })
        let place = try #require(repaired.setAside)
        #expect(try Files.read(place, maximum: 5000).count == 5000)
        try device.meter("scan", 3)
        try vendor.sync(device)
        #expect(try total(vendor, id) == 8)
    }

    @Test("whoever gave the enrollment up has nothing to repair, nor has another TPM")
    func refused() async throws {
        let (_, device, _) = try await ready()
        let other = try FieldDevice(of: .second())
        try FileManager.default.copyItem(atPath: device.path, toPath: other.path)
        #expect(throws: EnrollmentError.keysLost) { try other.with { try $0.repairLedger() } }
        _ = try device.with { try $0.retire(discarding: true) }
        #expect(throws: DeviceError.retired) { try device.with { try $0.repairLedger() } }
    }
}
