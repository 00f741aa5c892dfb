import Foundation
import GRDB
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastTPMWire

/// The power is cut at every write of a device's ledger and of the vendor's records.
///
/// docs/robustness.md, "Power that is cut".
public final class PowerCuts {
    /// What came of it.
    public struct Report: Sendable {
        /// States of a disk that were tried, no two of them the same.
        public var points: [String: Int] = [:]
        /// How often something was there at a cut.
        public var seen: [String: Int] = [:]
        /// What did not hold, the first hundred.
        public var findings: [String] = []
        public var misses = 0

        public var total: Int { points.values.reduce(0, +) }
    }

    /// What is true of a device at a time, whatever its disk holds.
    private struct Truth {
        /// What the TPM says.
        var counter: ModelCounter
        /// What was recorded, and counts.
        var total: UInt64 = 0
        var receipts = 0
        /// Which copy of the vendor's records is theirs now.
        var vendor = 0
        /// What the device knows beside its ledger.
        var device: ModelDevice
        /// Somebody raised the counter, or damaged a record, and nobody has looked yet.
        var isRaised = false
        var isDamaged = false
    }

    private static let time: UInt64 = 1_800_000_000
    private let directory: String
    private let keys: VendorKeys
    private var random: SeededNumbers
    private var report = Report()
    /// The disks that were tried.
    private var known: Set<Int> = []
    private var names = 0

    private init(_ directory: String, _ seed: UInt64) throws {
        self.directory = directory
        random = SeededNumbers(seed)
        keys = VendorKeys(directory: directory + "/vendor")
        _ = try keys.create(
            .init(endorsementKeys: [], urls: [], selection: "sha256:7"), random: .system)
    }

    /// Tries at least so many states of disks.
    ///
    /// - Parameters:
    ///   - share: one of how many states is tried; 1 tries all.
    ///   - parent: a directory in memory; what is made in it is removed.
    public static func run(
        points: Int, seed: UInt64, share: Int = 1, in parent: String = "/dev/shm",
        progress: (Int) -> Void = { _ in }
    ) throws -> Report {
        let directory = parent + "/holdfast-cuts-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let trial = try PowerCuts(directory, seed)
        while trial.report.total < points {
            try trial.device(1.0 / Double(share))
            try trial.vendor(1.0 / Double(share))
            progress(trial.report.total)
        }
        return trial.report
    }

    private func place() -> String {
        names += 1
        return directory + "/\(names)"
    }

    private func demand(_ holds: Bool, _ what: @autoclosure () -> String) {
        guard !holds else { return }
        report.misses += 1
        if report.findings.count < 100 { report.findings.append(what()) }
    }

    /// Tries states that a disk may be in, each with the number of the last promise.
    private func cuts(
        _ name: String, _ events: [DiskEvent], _ path: String, _ share: Double,
        _ body: (String, Int) throws -> Void
    ) throws {
        var state = DiskState()
        for event in events {
            state.take(event)
            guard let promised = state.promised else { continue }
            for luck in DiskState.Luck.allCases where random.chance(share) {
                let files = state.cut(luck, &random)
                guard known.insert(Self.hash(files, promised)).inserted else { continue }
                report.points[name, default: 0] += 1
                let cut = place()
                defer { try? FileManager.default.removeItem(atPath: cut) }
                try DiskState.write(files, from: path, to: cut)
                do { try body(cut, promised) } catch {
                    demand(false, "\(name), promise \(promised), \(luck): \(error)")
                }
            }
        }
    }

    private static func hash(_ files: [String: [UInt8]], _ promised: Int) -> Int {
        var hasher = Hasher()
        for (name, bytes) in files.sorted(by: { $0.key < $1.key }) {
            hasher.combine(name)
            unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        }
        hasher.combine(promised)
        return hasher.finalize()
    }

    // MARK: The device

    private func open(_ path: String) throws -> LedgerStore {
        try LedgerStore(path: path + "/ledger.sqlite", random: .system)
    }

    private func service(_ path: String) throws -> (SQLiteStore, VendorService) {
        let store = try SQLiteStore(path: path)
        return (
            store,
            try VendorService(keys: keys, store: store, random: .system, now: { Self.time })
        )
    }

    private static func total(_ store: LedgerStore) throws -> UInt64 {
        guard let head = try store.head() else { return 0 }
        let sums = try head.genesis.totals.adding(head.frontier.sums())
        return sums.entries.reduce(0) { $0 + $1.total }
    }

    /// Seals, and has the vendor settle.
    ///
    /// - Returns: the reply.
    private func settle(
        _ store: LedgerStore, _ truth: inout Truth, _ service: VendorService
    ) throws -> [UInt8]? {
        guard let head = try store.head(),
            let checkpoint = try store.lastCheckpoint(of: head)?.checkpoint
        else { throw LedgerStoreError.unusable("nothing is sealed") }
        let acknowledged = truth.device.acknowledged(in: checkpoint.era)
        let proofs = try store.proofs(since: acknowledged, to: checkpoint.size)
        try store.markExported(counter: checkpoint.counter)
        let outcome = try service.process(
            truth.device.evidence(
                Evidence.Ledger(
                    checkpoint: checkpoint, consistency: proofs, genesis: head.genesis,
                    meters: store.meters(), key: nil, keyCertification: nil)))
        demand(
            outcome.outcome != .refused && !outcome.notes.contains { $0.hasPrefix("FORK") },
            "settling: \(outcome.outcome) \(outcome.notes)")
        return outcome.reply
    }

    private func device(_ share: Double) throws {
        let path = place()
        let vendorPath = place()
        try Files.makePrivateDirectory(path)
        defer {
            for name in [path, vendorPath] { try? FileManager.default.removeItem(atPath: name) }
        }
        let (records, vendor) = try service(vendorPath)
        var copies: [[UInt8]] = []
        func copy() throws {
            let place = place()
            try DatabaseQueue(path: vendorPath).backup(to: DatabaseQueue(path: place))
            copies.append(try Files.read(place, maximum: 1 << 26))
            try Files.remove(place)
        }
        let model = try ModelDevice(keys, records, random: .system, now: Self.time)
        try copy()
        var truth = Truth(counter: model.counter, device: model)
        var truths: [Truth] = []
        func promise() {
            truths.append(truth)
            RecordingDisk.shared.promise(truths.count - 1, in: path)
        }
        RecordingDisk.shared.record(path)
        do {
            var store = try open(path)
            try store.beginFirstEra(counter: truth.counter.value, ticks: 0)
            promise()
            func use() throws {
                let group = (0...Int.random(in: 0..<4, using: &random)).map { _ in
                    LedgerStore.Usage(
                        meter: ["scan", "map", "print"][Int.random(in: 0..<3, using: &random)],
                        termsVersion: 1, quantity: UInt32.random(in: 1...9, using: &random))
                }
                try store.append(group, ticks: 0, day: 0)
                truth.total += group.reduce(0) { $0 + UInt64($1.quantity) }
                promise()
            }
            func seal() throws {
                let checkpoint = try truth.counter.write(store, .unapprovedBoot)
                promise()
                truth.counter.value += 1
                promise()
                try store.store(truth.counter.certify(checkpoint), counter: truth.counter.value)
                promise()
            }
            for step in 0..<40 {
                try use()
                switch step % 8 {
                case 1, 5: try seal()
                case 3:
                    try seal()
                    let reply = try settle(store, &truth, vendor)
                    try copy()
                    truth.vendor = copies.count - 1
                    promise()
                    guard let reply, let (receipt, token) = try truth.device.receipt(in: reply)
                    else { throw LedgerStoreError.unusable("nothing was settled") }
                    try store.store(receipt, token: token)
                    try truth.device.apply(reply)
                    truth.receipts += 1
                    promise()
                case 6:
                    // Closing moves the log into the database: writes of another kind.
                    store = try open(path)
                default: break
                }
                if step % 20 == 11 {
                    try seal()
                    truth.counter.value += 1
                    truth.isRaised = true
                    promise()
                    demand(
                        try truth.counter.compare(store) == .rollback,
                        "a counter that is ahead is a rollback")
                    truth.isRaised = false
                    promise()
                }
                if step % 20 == 17 {
                    // A record that was sealed, and two that were not.
                    try seal()
                    try use()
                    try use()
                    truth.isDamaged = true
                    promise()
                    try DatabaseQueue(path: path + "/ledger.sqlite").write {
                        try $0.execute(
                            sql: """
                                UPDATE record SET bytes = zeroblob(81)
                                WHERE sequence = 1 AND era = (SELECT max(number) FROM era)
                                """)
                    }
                    let kept = try store.repair(truth.counter.beginning, code: "LEDGER_EDITED")
                    demand(kept.lost == 0, "a repair lost \(kept.lost)")
                    truth.isDamaged = false
                    promise()
                }
            }
        }
        let events = RecordingDisk.shared.take(path)
        withExtendedLifetime(records) {}
        try cuts("device", events, path, share) { cut, promised in
            try check(cut, truths[promised], truths[min(promised + 1, truths.count - 1)], copies)
        }
    }

    /// What must hold of a device whose power was cut: between two promises.
    private func check(
        _ path: String, _ truth: Truth, _ next: Truth, _ copies: [[UInt8]]
    ) throws {
        var truth = truth
        let store = try open(path)
        let finding = try truth.counter.compare(store)
        demand(
            finding == nil || (truth.isRaised && finding == .rollback), "called \(finding as Any)")
        do throws(LedgerStoreError) { _ = try truth.counter.witness.verify(store) } catch {
            demand(truth.isDamaged, "called \(error.stableCode)")
            let before = try Self.total(store)
            let kept = try store.repair(truth.counter.beginning, code: error.stableCode)
            demand(
                try kept.lost == 0 && Self.total(store) == before,
                "a repair lost \(kept.lost), and not what it says")
            report.seen["repaired", default: 0] += 1
        }
        if finding != nil { report.seen["era begun", default: 0] += 1 }
        _ = try truth.counter.witness.verify(store)
        // A group is there whole or not at all, and what was promised is there.
        var total = try Self.total(store)
        demand(
            total == truth.total || total == next.total,
            "\(total) is neither \(truth.total) nor \(next.total)")
        if total != truth.total { report.seen["kept beyond the promise", default: 0] += 1 }
        let receipts = try store.receipts(limit: 1000).count
        demand((truth.receipts...next.receipts).contains(receipts), "\(receipts) receipts")
        // What was written down and not raised, or not certified, is finished.
        if let head = try store.head(), let last = try store.lastCheckpoint(of: head),
            last.certification == nil
        {
            report.seen["seal finished", default: 0] += 1
            if truth.counter.value == last.checkpoint.counter - 1 { truth.counter.value += 1 }
            try store.store(
                truth.counter.certify(last.checkpoint), counter: truth.counter.value)
        }
        try store.append([.init(meter: "scan", termsVersion: 1, quantity: 1)], ticks: 0, day: 0)
        total += 1
        try truth.counter.seal(store)
        _ = try truth.counter.witness.verify(store)
        demand(try Self.total(store) == total, "it does not go on from \(total - 1)")
        guard random.chance(0.25) else { return }
        // The vendor comes to the same, whatever of the last settlement the device remembers.
        let records = place()
        defer { for ending in ["", "-wal", "-shm"] { try? Files.remove(records + ending) } }
        try Files.write(copies[truth.vendor], to: records, mode: 0o600)
        let (_, vendor) = try service(records)
        _ = try settle(store, &truth, vendor)
        let settled = try vendor.usage().first?.totals.values.reduce(0, +) ?? 0
        demand(settled == total, "settled \(settled) of \(total)")
        report.seen["settled after the cut", default: 0] += 1
    }

    // MARK: The vendor

    private func vendor(_ share: Double) throws {
        let path = place()
        try Files.makePrivateDirectory(path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        func start(_ path: String) throws -> (SQLiteStore, VendorService) {
            try service(path + "/records.sqlite")
        }
        RecordingDisk.shared.record(path)
        var bundles: [[UInt8]] = []
        do {
            var (store, service) = try start(path)
            var device = try ModelDevice(keys, store, random: .system, now: Self.time)
            RecordingDisk.shared.promise(0, in: path)
            for number in 1...24 {
                if number % 10 == 0 { device.beginEra() }
                try device.meter(UInt32.random(in: 1...3, using: &random), quantity: 1)
                let evidence = try device.evidence()
                bundles.append(evidence)
                guard let reply = try service.process(evidence).reply else {
                    throw LedgerStoreError.unusable("nothing was settled")
                }
                try device.apply(reply)
                RecordingDisk.shared.promise(number, in: path)
                if number % 5 == 0 { (store, service) = try start(path) }
            }
            withExtendedLifetime(store) {}
        }
        try cuts("vendor", RecordingDisk.shared.take(path), path, share) { cut, promised in
            let (_, service) = try start(cut)
            func settled() throws -> Int {
                Int(try service.usage().first?.totals.values.reduce(0, +) ?? 0)
            }
            let count = try settled()
            demand(
                (promised...promised + 1).contains(count),
                "\(count) settlements, \(promised) were answered")
            // The device sends what was not answered once more, and what was answered as well.
            for (number, bundle) in bundles.enumerated()
            where number == count - 1 || number == count {
                _ = try service.process(bundle)
                demand(try settled() == number + 1, "bundle \(number) counted twice, or not")
            }
        }
    }
}
