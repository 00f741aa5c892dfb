import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastStage
import HoldfastTPMWire
import Testing

@Suite("the power is cut at every write", .timeLimit(.minutes(20)))
struct PowerCutTests {
    private func directory() throws -> String {
        let path = "/dev/shm/hf-cut-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(path)
        return path
    }

    /// Every state that a disk may be in, up to a number of them, evenly spread.
    private func cuts(
        _ events: [DiskEvent], from first: Int, _ body: (DiskImage) throws -> Void
    ) throws {
        let step = max(1, (events.count - first) / 250)
        for count in stride(from: first, through: events.count, by: step) {
            for luck in DiskImage.Luck.allCases {
                try body(DiskImage(events, count: count, luck: luck))
            }
        }
    }

    @Test(
        "metering and checkpointing: what was promised is there, and the rest whole or not at all")
    func metering() throws {
        let path = try directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        RecordingDisk.shared.record(path)
        func open(_ path: String) throws -> LedgerStore {
            try LedgerStore(path: path + "/ledger.sqlite", random: .system)
        }
        func seal(_ store: LedgerStore, _ counter: UInt64) throws {
            let zeros = [UInt8](repeating: 0, count: 32)
            _ = try store.writeCheckpoint(counter: counter) { era, size, root, previous in
                Checkpoint(
                    pairwiseID: zeros, incarnation: 1, era: era, counter: counter,
                    previous: previous, size: size, root: root.hash, sums: root.sums,
                    receiptHash: zeros, replyHash: zeros,
                    clock: ClockInfo(clock: 0, resetCount: 0, restartCount: 0, safe: true),
                    grade: .certified)
            }
        }
        var total = 0
        var store: LedgerStore? = try open(path)
        try store?.beginFirstEra(counter: 1, ticks: 0)
        RecordingDisk.shared.promise(0, in: path)
        for round in 1...5 {
            for group in 1...4 {
                try store?.append(
                    (0..<group).map { _ in
                        .init(meter: "scan", termsVersion: 1, quantity: 1)
                    }, ticks: 0, day: 0)
                total += group
                RecordingDisk.shared.promise(total, in: path)
            }
            if let store { try seal(store, UInt64(round + 1)) }
            // Closing moves the log into the database: writes of another kind.
            store = nil
            store = try open(path)
        }
        store = nil
        let events = RecordingDisk.shared.take(path)
        let first = try #require(
            events.firstIndex { if case .promised = $0 { true } else { false } })
        #expect(events.count > 100)
        var seen: Set<Int> = []
        try cuts(events, from: first + 1) { image in
            let cut = try directory()
            try FileManager.default.removeItem(atPath: cut)
            defer { try? FileManager.default.removeItem(atPath: cut) }
            try image.write(from: path, to: cut)
            let found = try open(cut)
            _ = try found.verify { _, _ in }
            let count = Int(try #require(try found.head()).frontier.root().sums[1, 1])
            seen.insert(count)
            // At most the group that was being written is there beside what was promised.
            #expect((image.promised...image.promised + 4).contains(count))
            try found.append(
                [.init(meter: "scan", termsVersion: 1, quantity: 1)], ticks: 0, day: 0)
            _ = try found.verify { _, _ in }
        }
        #expect(seen.count > 10)
    }

    @Test("settling: an answered bundle stays settled, and one that comes again counts once")
    func settling() throws {
        let path = try directory()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let keysPath = try directory()
        defer { try? FileManager.default.removeItem(atPath: keysPath) }
        let keys = VendorKeys(directory: keysPath + "/vendor")
        _ = try keys.create(
            .init(endorsementKeys: [], urls: [], selection: "sha256:7"), random: .system)
        RecordingDisk.shared.record(path)
        func start(_ path: String) throws -> (SQLiteStore, VendorService) {
            let store = try SQLiteStore(path: path + "/records.sqlite")
            return (
                store,
                try VendorService(
                    keys: keys, store: store, random: .system, now: { 1_800_000_000 })
            )
        }
        var bundles: [[UInt8]] = []
        do {
            var (store, service) = try start(path)
            var device = try ModelDevice(keys, store, random: .system, now: 1_800_000_000)
            RecordingDisk.shared.promise(0, in: path)
            for number in 1...8 {
                try device.meter(1, quantity: 1)
                let evidence = try device.evidence()
                bundles.append(evidence)
                try device.apply(try #require(try service.process(evidence).reply))
                RecordingDisk.shared.promise(number, in: path)
                if number % 3 == 0 { (store, service) = try start(path) }
            }
            withExtendedLifetime(store) {}
        }
        let events = RecordingDisk.shared.take(path)
        let first = try #require(
            events.firstIndex { if case .promised = $0 { true } else { false } })
        #expect(events.count > 60)
        try cuts(events, from: first + 1) { image in
            let cut = try directory()
            try FileManager.default.removeItem(atPath: cut)
            defer { try? FileManager.default.removeItem(atPath: cut) }
            try image.write(from: path, to: cut)
            let (_, service) = try start(cut)
            func total() throws -> Int { Int(try service.usage().first?.totals["scan"] ?? 0) }
            let count = try total()
            #expect((image.promised...image.promised + 1).contains(count))
            // The device sends what was not answered once more, and what was answered as well.
            for (number, bundle) in bundles.enumerated()
            where number == count - 1 || number == count {
                _ = try service.process(bundle)
                #expect(try total() == number + 1)
            }
        }
    }
}
