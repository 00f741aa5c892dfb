import Foundation
import GRDB
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("metering and settlement", .timeLimit(.minutes(20)))
struct SettlementTests {
    private func ready() async throws -> (Vendor, FieldDevice, String) {
        let vendor = try Vendor()
        let device = try FieldDevice()
        return (vendor, device, try await vendor.admit(device))
    }

    private func meter(_ device: FieldDevice, _ name: String, _ quantity: UInt32 = 1) throws {
        try device.meter(name, quantity)
    }

    /// Evidence out, reply in.
    private func sync(_ vendor: Vendor, _ device: FieldDevice) throws -> BundleOutcome {
        let outcome = try vendor.service.process(device.evidence())
        _ = try device.with { try $0.apply(reply: outcome.reply ?? []) }
        return outcome
    }

    private func totals(_ vendor: Vendor, _ id: String) throws -> [String: UInt64] {
        try #require(try vendor.service.usage(id).first).totals
    }

    /// A copy of the state directory, for later.
    private func copy(_ device: FieldDevice, to name: String) throws {
        try FileManager.default.copyItem(
            atPath: device.path, toPath: device.directory.path + "/" + name)
    }

    private func restore(_ device: FieldDevice, from name: String) throws {
        try FileManager.default.removeItem(atPath: device.path)
        try FileManager.default.copyItem(
            atPath: device.directory.path + "/" + name, toPath: device.path)
    }

    @Test("usage is settled once, however often and in whatever order bundles come")
    func once() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        let first = try device.evidence()
        try meter(device, "scan", 6)
        let second = try device.evidence()
        // The first one is lost; the second settles both.
        let outcome = try vendor.service.process(second)
        #expect(outcome.notes == [])
        #expect(try totals(vendor, id) == ["scan": 11])
        #expect(try vendor.service.process(second).reply == outcome.reply)
        #expect(try vendor.service.process(first).outcome == .stale)
        #expect(try totals(vendor, id) == ["scan": 11])
        // The reply is lost as well: the next bundle carries a proof from every head.
        try meter(device, "scan", 1)
        try meter(device, "map", 2)
        #expect(try sync(vendor, device).notes == [])
        #expect(try totals(vendor, id) == ["scan": 12, "map": 2])
        try meter(device, "map", 1)
        #expect(try sync(vendor, device).notes == [])
        #expect(try totals(vendor, id) == ["scan": 12, "map": 3])
        #expect(try vendor.service.usage(id).first?.forked == false)
        #expect(try device.with { try $0.openLedger().totals() } == ["scan": 12, "map": 3])
        #expect(try device.with { try $0.openLedger().verify() }.eras == 1)
    }

    @Test("the same checkpoint gets the same receipt, byte for byte")
    func receipts() async throws {
        let (vendor, device, _) = try await ready()
        try meter(device, "scan")
        let outcome = try vendor.service.process(device.evidence())
        let token = try #require(try Reply.receipt(in: outcome.reply ?? []))
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let stored = try vendor.store.read { try $0.settlements(of: record.id, limit: 100) }
        #expect(stored.first?.receipt == token.text)
        let receipt = try Receipt(
            verifying: token, issuers: [vendor.keys.issuerKey().publicKey], incarnation: 1,
            attestationKey: record.attestationKey.name)
        #expect(receipt.totals[1, 1] == 1)
        #expect(receipt.grade.hasPrefix("attested-"))
        #expect(throws: TokenError.otherDevice) {
            try Receipt(
                verifying: token, issuers: [vendor.keys.issuerKey().publicKey], incarnation: 2,
                attestationKey: record.attestationKey.name)
        }
        for bit in stride(from: 0, to: token.body.count * 8, by: 23) {
            var body = token.body
            body[bit / 8] ^= 1 << (bit % 8)
            let changed = try PASETOToken(purpose: .v4Public, body: body, footer: token.footer)
            #expect(throws: TokenError.self) {
                try Receipt(
                    verifying: changed, issuers: [vendor.keys.issuerKey().publicKey],
                    incarnation: 1, attestationKey: record.attestationKey.name)
            }
        }
    }

    @Test("yesterday's state directory is named, closes the era, and usage goes on")
    func rollback() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        _ = try sync(vendor, device)
        try copy(device, to: "yesterday")
        try meter(device, "scan", 7)
        _ = try sync(vendor, device)
        #expect(try totals(vendor, id) == ["scan": 12])
        try restore(device, from: "yesterday")
        try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            #expect(ledger.finding == .rollback)
            let head = try #require(try ledger.store.head())
            #expect(head.genesis.cause == .rollback)
            #expect(head.genesis.distance == 1)
            // Limits go on counting from what was sealed.
            #expect(try ledger.totals() == ["scan": 5])
        }
        try meter(device, "scan", 2)
        // It is named once, not at each start.
        #expect(try device.with { try $0.openLedger().finding } == nil)
        // The nonces were restored as well: the first trip brings new ones.
        #expect(try sync(vendor, device).outcome == .stale)
        let outcome = try sync(vendor, device)
        #expect(outcome.outcome == .accepted)
        #expect(outcome.notes.contains { $0.hasPrefix("ROLLBACK_SUSPECT") })
        // Nothing that was settled is lost, and nothing counts twice.
        #expect(try totals(vendor, id) == ["scan": 14])
        #expect(try vendor.service.usage(id).first?.eras == 2)
        #expect(try device.with { try $0.openLedger().verify() }.eras == 2)
    }

    @Test(
        "one table from an older copy is a rollback as well",
        arguments: ["record", "era", "checkpoint"])
    func oneTable(table: String) async throws {
        let (vendor, device, _) = try await ready()
        try meter(device, "scan", 5)
        _ = try sync(vendor, device)
        try copy(device, to: "yesterday")
        try meter(device, "scan", 7)
        _ = try sync(vendor, device)
        let queue = try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite")
        let old = device.directory.path + "/yesterday/ledger/ledger.sqlite"
        try queue.inDatabase { database in
            try database.execute(sql: "PRAGMA foreign_keys = OFF")
            try database.execute(sql: "ATTACH ? AS old", arguments: [old])
            try database.execute(
                sql: """
                    DELETE FROM main.\(table);
                    INSERT INTO main.\(table) SELECT * FROM old.\(table);
                    """)
            try database.execute(sql: "DETACH old")
        }
        try queue.close()
        #expect(try device.with { try $0.openLedger().finding } == .rollback)
    }

    @Test("a ledger that was taken away is named, and settled totals stay")
    func deleted() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        _ = try sync(vendor, device)
        for ending in ["", "-wal", "-shm"] {
            try Files.remove(device.path + "/ledger/ledger.sqlite" + ending)
        }
        #expect(try device.with { try $0.openLedger().finding } == .rollback)
        try meter(device, "scan", 1)
        let outcome = try sync(vendor, device)
        #expect(outcome.notes.contains { $0.hasPrefix("ROLLBACK_SUSPECT") })
        #expect(try totals(vendor, id) == ["scan": 6])
    }

    @Test("somebody else who raises the counter is a suspicion and no loss")
    func raised() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        _ = try sync(vendor, device)
        let auth = try Files.read(device.path + "/counter-auth", maximum: 32)
        let request = try StateDirectory(device.path).request()
        let keys = try #require(request?.keys)
        let parent = try device.tpm.connection.object(at: VendorSlot.all[0].leaseParent)
        try device.tpm.connection.increment(keys.ledgerCounter, authValue: auth, salt: parent)
        device.tpm.connection.endTransaction()
        #expect(try device.with { try $0.openLedger().finding } == .rollback)
        _ = try sync(vendor, device)
        #expect(try totals(vendor, id) == ["scan": 5])
    }

    @Test("a checkpoint that is interrupted at any step is finished, and never made twice")
    func interrupted() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        let keys = try #require(try StateDirectory(device.path).request()).keys
        func counter() throws -> UInt64 {
            try device.tpm.connection.readCounter(keys.ledgerCounter)
        }
        func sql(_ text: String) throws {
            try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite").write {
                try $0.execute(sql: text)
            }
        }
        _ = try device.with { try $0.openLedger().checkpoint() }
        let sealed = try counter()
        // After the counter, before the certificate was stored.
        try sql(
            "UPDATE checkpoint SET attestation = NULL, signature = NULL WHERE counter = (SELECT max(counter) FROM checkpoint)"
        )
        try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            #expect(ledger.finding == nil)
            let head = try #require(try ledger.store.head())
            #expect(try ledger.store.lastCheckpoint(of: head)?.certification != nil)
        }
        #expect(try counter() == sealed)
        // Written down, before the counter was raised.
        try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            let head = try #require(try ledger.store.head())
            let last = try #require(try ledger.store.lastCheckpoint(of: head)).checkpoint
            _ = try ledger.store.writeCheckpoint(counter: sealed + 1) { era, size, root, previous in
                var next = last
                next.counter = sealed + 1
                next.previous = previous
                next.size = size
                next.root = root.hash
                next.sums = root.sums
                return next
            }
        }
        try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            #expect(ledger.finding == nil)
            let head = try #require(try ledger.store.head())
            #expect(try ledger.store.lastCheckpoint(of: head)?.certification != nil)
        }
        #expect(try counter() == sealed + 1)
        #expect(try device.with { try $0.openLedger().verify() }.eras == 1)
        _ = try sync(vendor, device)
        #expect(try totals(vendor, id) == ["scan": 5])
    }

    @Test("two heads that contradict each other are a fork: both are kept, the larger totals count")
    func fork() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        try meter(device, "map", 1)
        _ = try sync(vendor, device)
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let settled = try vendor.store.read {
            try #require(try $0.settlements(of: record.id, limit: 100).first)
        }
        // Root makes a ledger of his own that fits the counter and has the same era.
        let keys = try #require(try StateDirectory(device.path).request()).keys
        let counter = try device.tpm.connection.readCounter(keys.ledgerCounter)
        device.tpm.connection.endTransaction()
        for ending in ["", "-wal", "-shm"] {
            try Files.remove(device.path + "/ledger/ledger.sqlite" + ending)
        }
        let forged = try LedgerStore(path: device.path + "/ledger/ledger.sqlite", random: .system)
        try forged.beginFirstEra(counter: counter, ticks: 0)
        try forged.append(
            [
                .init(meter: "scan", termsVersion: 1, quantity: 2),
                .init(meter: "map", termsVersion: 1, quantity: 9),
            ], ticks: 0, day: 0)
        var writer = WireWriter(capacity: 8)
        writer.uint64(settled.era)
        let queue = try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite")
        let era = Data(writer.bytes)
        try queue.inDatabase { try $0.execute(sql: "UPDATE era SET era = ?", arguments: [era]) }
        try queue.close()
        let zeros = [UInt8](repeating: 0, count: 32)
        _ = try forged.writeCheckpoint(counter: counter) { era, size, root, previous in
            Checkpoint(
                pairwiseID: record.pairwiseID, incarnation: 1, era: era, counter: counter,
                previous: previous, size: size, root: root.hash, sums: root.sums,
                receiptHash: zeros, replyHash: zeros,
                clock: ClockInfo(clock: 0, resetCount: 0, restartCount: 0, safe: true),
                grade: .unapprovedBoot)
        }
        #expect(try device.with { try $0.openLedger().finding } == nil)
        let outcome = try sync(vendor, device)
        #expect(outcome.outcome == .accepted)
        #expect(outcome.notes.contains { $0.hasPrefix("FORK_SUSPECT") })
        #expect(try totals(vendor, id) == ["scan": 5, "map": 9])
        #expect(try vendor.service.usage(id).first?.forked == true)
        // It stays one until somebody has looked.
        try meter(device, "scan", 1)
        #expect(try sync(vendor, device).notes == [])
        #expect(try totals(vendor, id) == ["scan": 5, "map": 9])
        #expect(try vendor.service.usage(id).first?.forked == true)
        #expect(try vendor.store.read { try $0.settlements(of: record.id, limit: 100) }.count >= 3)
    }

    /// The frontier of a tree that is one subtree, with other totals than it has.
    private func emptied(_ range: LedgerRange) throws -> Data {
        var bytes = WireWriter(capacity: 64)
        bytes.uint64(0)
        bytes.uint64(range.end)
        bytes.raw(try range.root().hash)
        MeterSums().encode(into: &bytes)
        return Data(bytes.bytes)
    }

    @Test("totals that were settled do not shrink behind a root of one subtree", arguments: [0, 1])
    func shrunk(more: UInt32) async throws {
        let (vendor, device, id) = try await ready()
        // Genesis, the meter's name and two uses: four records.
        try meter(device, "scan", 5)
        try meter(device, "scan", 6)
        _ = try sync(vendor, device)
        #expect(try totals(vendor, id) == ["scan": 11])
        let head = try device.with { try #require(try $0.openLedger().store.head()) }
        #expect(head.frontier.end == 4)
        let frontier = try emptied(head.frontier)
        let queue = try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite")
        try queue.inDatabase {
            try $0.execute(sql: "UPDATE era SET frontier = ?", arguments: [frontier])
            try $0.execute(sql: "UPDATE checkpoint SET frontier = ?", arguments: [frontier])
        }
        try queue.close()
        if more > 0 { try meter(device, "scan", more) }
        let outcome = try sync(vendor, device)
        #expect(outcome.notes.contains { $0.hasPrefix("FORK_SUSPECT") })
        #expect(try totals(vendor, id) == ["scan": 11])
    }

    @Test("a ledger that begins a second time says why, or it is a fork")
    func secondBeginning() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        _ = try sync(vendor, device)
        let keys = try #require(try StateDirectory(device.path).request()).keys
        let counter = try device.tpm.connection.readCounter(keys.ledgerCounter)
        device.tpm.connection.endTransaction()
        for ending in ["", "-wal", "-shm"] {
            try Files.remove(device.path + "/ledger/ledger.sqlite" + ending)
        }
        let forged = try LedgerStore(path: device.path + "/ledger/ledger.sqlite", random: .system)
        try forged.beginFirstEra(counter: counter, ticks: 0)
        let outcome = try sync(vendor, device)
        #expect(outcome.notes.contains { $0.hasPrefix("FORK_SUSPECT") })
        #expect(try vendor.service.usage(id).first?.forked == true)
        #expect(try totals(vendor, id) == ["scan": 5])
    }

    @Test("names of meters that nothing was counted for are not kept")
    func names() async throws {
        let (vendor, device, id) = try await ready()
        try meter(device, "scan", 5)
        try meter(device, "\u{1B}[2J", 1)
        let queue = try DatabaseQueue(path: device.path + "/ledger/ledger.sqlite")
        try queue.inDatabase {
            try $0.execute(sql: "INSERT INTO meter (number, name) VALUES (77, 'nothing')")
        }
        try queue.close()
        #expect(try sync(vendor, device).notes == [])
        #expect(try totals(vendor, id) == ["scan": 5, "meter 2": 1])
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let names = try vendor.store.read { reading in
            try reading.heads(of: record.id).map {
                try reading.meterNames(of: record.id, era: $0.era)
            }
        }
        #expect(names == [[1: "scan"]])
    }
}
