import Foundation
import GRDB
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import Testing

@Suite("repair of a ledger", .timeLimit(.minutes(20)))
struct RepairTests {
    private func sql(_ device: FieldDevice, _ text: String) throws {
        try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite").write {
            try $0.execute(sql: text)
        }
    }

    /// Leaves a file that is no database.
    private func ruin(_ device: FieldDevice) throws {
        let file = device.path + "/ledger/ledger.sqlite"
        for ending in ["-wal", "-shm"] { try Files.remove(file + ending) }
        try Files.write([UInt8](repeating: 0x41, count: 5000), to: file, mode: 0o660)
    }

    private func total(_ vendor: Vendor, _ id: String) throws -> UInt64? {
        try vendor.service.usage(id).first?.totals["scan"]
    }

    @Test("nothing is repaired where nothing is damaged")
    func sound() async throws {
        let (_, device, _) = try await Vendor.withLicense()
        try device.meter("scan", 3)
        #expect(try device.with { try $0.repairLedger() } == nil)
        #expect(try device.with { try $0.openLedger().totals() } == ["scan": 3])
    }

    @Test("an edited record is left behind, what was sealed counts, and later usage is taken over")
    func edited() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
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
        let (vendor, device, id) = try await Vendor.withLicense()
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
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 2)
        try ruin(device)
        #expect(throws: LedgerStoreError.self) { try device.meter("scan", 1) }
        let repaired = try #require(try device.with { try $0.repairLedger() })
        let place = try #require(repaired.setAside)
        #expect(try Files.read(place, maximum: 5000).count == 5000)
        try device.meter("scan", 3)
        try vendor.sync(device)
        #expect(try total(vendor, id) == 8)
    }

    /// Seals what is recorded and lets nothing leave.
    private func seal(_ device: FieldDevice) throws {
        _ = try device.with { try $0.openLedger().checkpoint() }
    }

    private func damage(_ device: FieldDevice, record sequence: Int) throws {
        try sql(
            device,
            "UPDATE record SET bytes = zeroblob(length(bytes)) WHERE sequence = \(sequence)")
    }

    /// A copy of the ledger, to be put back.
    private func copy(_ device: FieldDevice) throws -> () throws -> Void {
        let place = device.path + "/ledger"
        let copy = device.path + "-copy"
        try FileManager.default.copyItem(atPath: place, toPath: copy)
        return {
            try FileManager.default.removeItem(atPath: place)
            try FileManager.default.moveItem(atPath: copy, toPath: place)
        }
    }

    @Test("what was sealed and never settled counts with the next era, once")
    func sealed() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 7)
        try device.meter("map", 2)
        try seal(device)
        try damage(device, record: 2)
        let repaired = try #require(try device.with { try $0.repairLedger() })
        #expect(repaired.kept == 0 && repaired.lost == 0 && repaired.sealed == 6)
        #expect(throws: DeviceError.unsettled) { try device.with { try $0.retire() } }
        try vendor.sync(device)
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 12, "map": 2])
        try device.meter("scan", 1)
        try vendor.sync(device)
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 13, "map": 2])
        #expect(try vendor.service.usage(id).first?.forked == false)
        #expect(throws: Never.self) { try device.with { try $0.retire() } }
    }

    @Test("a copy from before a settlement bills nothing twice, and says what it goes on from")
    func restored() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 4)
        let restore = try copy(device)
        try vendor.sync(device)
        #expect(try total(vendor, id) == 9)
        try restore()
        try device.meter("scan", 1)
        let outcome = try vendor.sync(device)
        #expect(
            outcome.notes.contains {
                $0.hasPrefix("ROLLBACK_SUSPECT") && $0.contains("those count")
            }, "\(outcome.notes)")
        #expect(try total(vendor, id) == 10)
    }

    @Test("a damaged copy that was put back is repaired without what may be settled already")
    func restoredAndDamaged() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 4)
        let restore = try copy(device)
        try vendor.sync(device)
        try restore()
        try damage(device, record: 2)
        let repaired = try #require(try device.with { try $0.repairLedger() })
        #expect(repaired.kept == 0 && repaired.lost == 1)
        let outcome = try vendor.sync(device)
        #expect(outcome.notes.contains { $0.contains("those count") }, "\(outcome.notes)")
        #expect(try total(vendor, id) == 9)
    }

    @Test("an era whose first record is destroyed goes on from the last seal before it")
    func firstRecord() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try seal(device)
        try damage(device, record: 1)
        _ = try #require(try device.with { try $0.repairLedger() })
        try device.meter("scan", 3)
        try seal(device)
        try sql(
            device,
            "UPDATE record SET bytes = zeroblob(length(bytes)) WHERE sequence = 0 AND era = 2")
        let repaired = try #require(try device.with { try $0.repairLedger() })
        #expect(repaired.lost == 0)
        #expect(try device.with { try $0.openLedger().totals() } == ["scan": 8])
        try vendor.sync(device)
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 8])
    }

    @Test("a checkpoint that nobody certified is not counted on from")
    func unsealed() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 1)
        try seal(device)
        // Its sums say more, and its certificate is about another one.
        let place = device.path + "/ledger/ledger.sqlite"
        let queue = try DatabaseQueue(path: place)
        let newest = try await queue.read {
            try #require(
                try Data.fetchOne($0, sql: "SELECT bytes FROM checkpoint ORDER BY counter DESC"))
        }
        var forged = try Checkpoint(decoding: [UInt8](newest))
        forged.sums = MeterSums(.init(meter: 1, termsVersion: 1, total: 1_000_000))
        let bytes = Data(forged.encoded)
        try await queue.write {
            try $0.execute(
                sql: "UPDATE checkpoint SET bytes = ? WHERE bytes = ?", arguments: [bytes, newest])
        }
        try queue.close()
        let repaired = try #require(try device.with { try $0.repairLedger() })
        // The one before holds; what was recorded since may be in the one that does not.
        #expect(repaired.sealed == 3 && repaired.kept == 0 && repaired.lost == 1)
        try vendor.sync(device)
        #expect(try total(vendor, id) == 5)
        #expect(try device.with { try $0.openLedger().totals() } == ["scan": 5])
    }

    @Test("a name that was given another number means another meter in another era")
    func renumbered() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try device.meter("map", 3)
        try vendor.sync(device)
        try ruin(device)
        let place = try #require(try device.with { try $0.repairLedger() }?.setAside)
        let folder = (place as NSString).deletingLastPathComponent
        let mode = try FileManager.default.attributesOfItem(atPath: folder)[.posixPermissions]
        #expect(mode as? Int == 0o700)
        try device.meter("map", 10)
        try device.meter("scan", 20)
        try vendor.sync(device)
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 25, "map": 13])
    }

    @Test("an era that begins otherwise than it did, or after another root, is a fork")
    func forkedGenesis() async throws {
        let (vendor, device, id) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try damage(device, record: 2)
        _ = try #require(try device.with { try $0.repairLedger() })
        let genesis = try device.with { try #require(try $0.openLedger().store.head()).genesis }
        #expect(genesis.totals[1, 1] == 5 && genesis.previousSize == 3)
        func rewrite(_ change: (inout LedgerGenesis) -> Void) throws {
            var other = genesis
            change(&other)
            let bytes = Data(other.encoded)
            let queue = try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite")
            try queue.inDatabase {
                try $0.execute(
                    sql: "UPDATE era SET genesis = ? WHERE damaged IS NULL", arguments: [bytes])
            }
            try queue.close()
        }
        try rewrite { $0.previousRoot[0] ^= 1 }
        #expect(
            try vendor.sync(device).notes.contains { $0.contains("not those that were settled") })
        #expect(try vendor.service.usage(id).first?.forked == true)
        try rewrite { $0.totals = MeterSums() }
        #expect(try vendor.sync(device).notes.contains { $0.contains("began with something else") })
        #expect(try total(vendor, id) == 5)
    }

    @Test("what was revoked is given up although the ledger cannot be used")
    func revoked() async throws {
        let (vendor, device, _) = try await Vendor.withLicense()
        try device.meter("scan", 5)
        try vendor.sync(device)
        try device.meter("scan", 1)
        let license = try #require(try device.with { try $0.standings() }.first).document.license.id
        _ = try vendor.service.revoke(license: license.description)
        let evidence = try device.evidence()
        let reply = try #require(try vendor.service.process(evidence).reply)
        try ruin(device)
        let applied = try device.with { try $0.apply(reply: reply) }
        #expect(applied.ledgerProblem?.stableCode == "LEDGER_UNUSABLE")
        #expect(applied.standings.map(\.state) == [.revoked])
        #expect(try device.with { try $0.standings() }.map(\.state) == [.revoked])
    }

    @Test("whoever gave the enrollment up has nothing to repair, nor has another TPM")
    func refused() async throws {
        let (_, device, _) = try await Vendor.withLicense()
        let other = try FieldDevice(of: .second())
        try FileManager.default.copyItem(atPath: device.path, toPath: other.path)
        #expect(throws: EnrollmentError.keysLost) { try other.with { try $0.repairLedger() } }
        _ = try device.with { try $0.retire(discarding: true) }
        #expect(throws: DeviceError.retired) { try device.with { try $0.repairLedger() } }
    }
}
