import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastStage
import HoldfastTPMWire
import Testing

extension SeededNumbers {
    fileprivate mutating func below(_ limit: UInt64) -> UInt64 { next() % limit }
}

@Suite("random lives of devices against the server", .timeLimit(.minutes(20)))
struct RandomSettlementTests {
    /// A directory in memory: what is tested here is counting, not the disk.
    private func directory() throws -> String {
        let path = "/dev/shm/hf-random-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(path)
        return path
    }

    @Test(
        "bundles come late, twice, out of order, cut and not at all, the server restarts and is restored from backups: nothing is lost, nothing counts twice",
        arguments: [1, 2, 3, 4, 5] as [UInt64])
    func exactlyOnce(seed: UInt64) throws {
        let path = try directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        var random = SeededNumbers(seed)
        let keys = VendorKeys(directory: path + "/vendor")
        _ = try keys.create(
            .init(endorsementKeys: [], urls: [], selection: "sha256:7"), random: .system)
        /// The records; another file after each restoration.
        var records = path + "/records-0.sqlite"
        func start() throws -> (SQLiteStore, VendorService) {
            let store = try SQLiteStore(path: records)
            return (
                store,
                try VendorService(
                    keys: keys, store: store, random: .system, now: { 1_800_000_000 })
            )
        }
        var (store, service) = try start()
        var devices = try (0..<3).map { _ in
            try ModelDevice(keys, store, random: .system, now: 1_800_000_000)
        }
        /// What each device used, by era; what the server must come to.
        var used = [[String: UInt64]](repeating: [:], count: devices.count)
        /// Bundles that are under way, and replies.
        var bundles: [(device: Int, bytes: [UInt8])] = []
        var replies: [(device: Int, bytes: [UInt8])] = []
        var answered: [[UInt8]: [UInt8]] = [:]
        /// What the records were like at some time, and how often they were lost since.
        var backup: String?
        var restorations = 0
        let names = [1: "scan", 2: "map", 3: "extra"]

        func process(_ bundle: (device: Int, bytes: [UInt8])) throws {
            do {
                let outcome = try service.process(bundle.bytes)
                #expect(outcome.outcome != .refused, "seed \(seed): \(outcome.notes)")
                #expect(
                    !outcome.notes.contains { $0.hasPrefix("FORK") },
                    "seed \(seed): \(outcome.notes)")
                let reply = try #require(outcome.reply)
                if outcome.outcome == .accepted {
                    if let before = answered[bundle.bytes] { #expect(before == reply) }
                    answered[bundle.bytes] = reply
                }
                replies.append((bundle.device, reply))
            } catch ServiceError.stale {
                // It came too late and changed nothing.
            } catch ServiceError.recall {
                // The server asks for what it had signed; it travels like everything else.
                #expect(restorations > 0)
                bundles.append(
                    (bundle.device, try devices[bundle.device].evidence(recollecting: true)))
            }
        }

        for _ in 0..<2_200 {
            let number = Int(random.below(UInt64(devices.count)))
            switch random.below(18) {
            case 0...5:
                let meter = UInt32(random.below(3)) + 1
                let quantity = UInt32(random.below(1000)) + 1
                try devices[number].meter(meter, quantity: quantity)
                used[number][names[Int(meter)] ?? "", default: 0] += UInt64(quantity)
            case 6...8:
                bundles.append((number, try devices[number].evidence()))
            case 9, 10:
                // One of those that are under way arrives, not always the oldest; it may come again.
                guard !bundles.isEmpty else { continue }
                let place = Int(random.below(UInt64(bundles.count)))
                try process(bundles[place])
                if random.below(3) > 0 { bundles.remove(at: place) }
            case 11, 12:
                guard !replies.isEmpty else { continue }
                let place = Int(random.below(UInt64(replies.count)))
                let reply = replies.remove(at: place)
                try devices[reply.device].apply(reply.bytes)
            case 13:
                // Lost on the way.
                if !bundles.isEmpty, random.below(2) == 0 { bundles.removeFirst() }
                if !replies.isEmpty, random.below(2) == 0 { replies.removeFirst() }
            case 14:
                guard var damaged = bundles.last?.bytes else { continue }
                let bit = Int(random.below(UInt64(damaged.count * 8)))
                damaged[bit / 8] ^= 1 << (bit % 8)
                #expect(throws: (any Error).self) { try service.process(damaged) }
            case 15:
                (store, service) = try start()
            case 16:
                guard backup == nil || random.below(4) == 0 else { continue }
                backup = path + "/backup-" + Hex.encode(RandomSource.system.bytes(8))
                try store.backUp(to: backup ?? "")
            default:
                // The records are lost; half of the time nobody tells the server.
                guard let backup, random.below(4) == 0 else { continue }
                restorations += 1
                records = path + "/records-\(restorations).sqlite"
                let known = try service.incarnation()
                try SQLiteStore.restore(from: backup, to: records, keeping: records + ".kept")
                (store, service) = try start()
                if random.below(2) == 0 { _ = try service.beginRestored(above: known) }
                answered = [:]
            }
        }
        #expect(restorations > 3, "seed \(seed)")
        // In the end everybody reaches the server.
        for number in devices.indices {
            for _ in 0..<3 {
                var outcome: BundleOutcome
                do {
                    outcome = try service.process(try devices[number].evidence())
                } catch ServiceError.recall {
                    outcome = try service.process(
                        try devices[number].evidence(recollecting: true))
                }
                try devices[number].apply(try #require(outcome.reply))
            }
        }
        let reports = try service.usage()
        #expect(reports.count == devices.count)
        for (number, device) in devices.enumerated() {
            let report = try #require(reports.first { $0.device == device.pairwiseID.description })
            #expect(report.totals == used[number], "seed \(seed), device \(number)")
            #expect(!report.forked)
            #expect(report.eras <= 1)
        }
    }

    @Test("a device that goes back to an older state is flagged, and settled usage never shrinks")
    func rollbacks() throws {
        let path = try directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        var random = SeededNumbers(7)
        let keys = VendorKeys(directory: path + "/vendor")
        _ = try keys.create(
            .init(endorsementKeys: [], urls: [], selection: "sha256:7"), random: .system)
        let store = try SQLiteStore(path: path + "/records.sqlite")
        let service = try VendorService(
            keys: keys, store: store, random: .system, now: { 1_800_000_000 })
        var device = try ModelDevice(keys, store, random: .system, now: 1_800_000_000)
        var saved = device.state
        var settled: UInt64 = 0
        var flagged = 0
        for _ in 0..<600 {
            switch random.below(8) {
            case 0...2: try device.meter(1, quantity: UInt32(random.below(9)) + 1)
            case 3: saved = device.state
            case 4 where random.below(4) == 0:
                // The disk is put back; the TPM's counter, clock and nonces at the server are not.
                var old = saved
                let isOlder = old.ledgerCounter < device.state.ledgerCounter
                old.ledgerCounter = device.state.ledgerCounter
                old.clock = device.state.clock
                old.nonces = device.state.nonces
                device.state = old
                if isOlder { device.beginEra() }
            default:
                let outcome = try service.process(try device.evidence())
                flagged += outcome.notes.filter { $0.hasPrefix("ROLLBACK") }.count
                #expect(!outcome.notes.contains { $0.hasPrefix("FORK") })
                try device.apply(try #require(outcome.reply))
                let total = try #require(try service.usage().first).totals["scan"] ?? 0
                #expect(total >= settled)
                settled = total
            }
        }
        #expect(flagged > 0)
        #expect(settled > 0)
    }
}
