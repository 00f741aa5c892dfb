import Foundation
import GRDB
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastTPMWire

/// Random changes of ledgers behind their backs: each must be seen, and be called what it is.
///
/// docs/robustness.md, "A ledger that somebody changes".
public final class LedgerMutations {
    /// What is done to a ledger.
    public enum Kind: String, Sendable, CaseIterable {
        /// A value becomes another one.
        case edit
        /// The last rows go.
        case truncate
        /// Values or rows change places.
        case reorder
        /// Values or rows of an older copy, another era or another device come in.
        case splice
        /// A row goes.
        case delete
        /// A row comes.
        case insert
        /// A table, or the whole file, is another device's.
        case swap
        /// Tables, or the whole file, are an older copy's.
        case restore
        /// Bytes of the file become others, below SQLite.
        case file
    }

    /// What came of it.
    public struct Report: Sendable {
        /// How many changes were made, of each kind.
        public var counts: [Kind: Int] = [:]
        /// How often each code was the answer to each kind.
        public var codes: [Kind: [String: Int]] = [:]
        /// Changes that nobody saw, or that were called something else, the first hundred.
        public var findings: [String] = []
        public var misses = 0

        public var total: Int { counts.values.reduce(0, +) }
        /// One line for each kind.
        public var lines: [String] {
            Kind.allCases.map { kind in
                let codes = (codes[kind] ?? [:]).sorted { ($1.value, $0.key) < ($0.value, $1.key) }
                return "\(kind) \(counts[kind] ?? 0): "
                    + codes.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            }
        }
    }

    /// What a ledger is called: by its counter, and by its records.
    private struct Verdict {
        var counter: String?
        var records: String?
        var isSeen: Bool { counter != nil || records != nil }
    }

    /// A change, and what it must be called.
    private struct Change {
        var image: LedgerImage
        let what: String
        /// What the records may be called; `nil` stands for nothing.
        var records: Set<String?>
        /// What the counter may say.
        var counter: Set<String?> = [nil]
    }

    private let directory: String
    private var random: SeededNumbers
    private var report = Report()
    private let only: Kind?

    private init(_ directory: String, _ seed: UInt64, _ only: Kind?) {
        self.directory = directory
        self.only = only
        random = SeededNumbers(seed)
    }

    /// Makes so many changes, each to an untouched ledger; one that changes nothing does not count.
    ///
    /// - Parameters:
    ///   - only: changes of one kind; `nil` for all.
    ///   - parent: a directory in memory; what is made in it is removed.
    public static func run(
        count: Int, seed: UInt64, only: Kind? = nil, in parent: String = "/dev/shm",
        progress: (Int) -> Void = { _ in }
    ) throws -> Report {
        let directory = parent + "/holdfast-ledgers-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let trial = LedgerMutations(directory, seed, only)
        var ledger = 0
        while trial.report.total < count {
            ledger += 1
            let end = min(count, trial.report.total + 2_000)
            try trial.change(Life(trial.directory + "/\(ledger)", &trial.random), until: end)
            progress(trial.report.total)
        }
        return trial.report
    }

    // MARK: Ledgers to change

    /// A ledger with a past, an older copy of it, and that of another device.
    private struct Life {
        let path: String
        let counter: ModelCounter
        let store: LedgerStore
        let image: LedgerImage
        let old: LedgerImage
        let other: LedgerImage
        /// The file as it lies on a disk.
        let file: [UInt8]

        init(_ path: String, _ random: inout SeededNumbers) throws {
            let source = Self.source(&random)
            self.path = path
            var old: LedgerImage?
            (counter, store) = try Self.live(path, source, &random) { old = $0 }
            let queue = try DatabaseQueue(path: path)
            image = try queue.read { try LedgerImage($0) }
            try queue.backup(to: DatabaseQueue(path: path + "-clean"))
            var older: LedgerImage?
            _ = try Self.live(path + "-other", source, &random) { older = $0 }
            other = try DatabaseQueue(path: path + "-other").read { try LedgerImage($0) }
            guard let old, older != nil else { preconditionFailure("a life has a past") }
            self.old = old
            // Nobody has it open any more.
            file = try Files.read(path + "-clean", maximum: 1 << 22)
        }

        private static func source(_ random: inout SeededNumbers) -> RandomSource {
            let key = (0..<4).map { _ in random.next() }
            let state = SeededBytes(key[0] ^ key[3])
            return RandomSource { state.bytes($0) }
        }

        /// Meters, seals, and perhaps a rollback and a repair.
        private static func live(
            _ path: String, _ source: RandomSource, _ random: inout SeededNumbers,
            keep: (LedgerImage) -> Void
        ) throws -> (ModelCounter, LedgerStore) {
            var counter = ModelCounter(random: source)
            counter.value = UInt64.random(in: 1...3, using: &random)
            let store = try LedgerStore(path: path, random: source)
            try store.beginFirstEra(counter: counter.value, ticks: 0)
            func use(_ least: Int = 0) throws {
                for _ in 0..<Int.random(in: least...3, using: &random) {
                    let meter = ["scan", "map", "print"][Int.random(in: 0..<3, using: &random)]
                    try store.append(
                        [
                            .init(
                                meter: meter,
                                termsVersion: UInt32.random(in: 1...2, using: &random),
                                quantity: UInt32.random(in: 1...99, using: &random))
                        ], ticks: counter.value, day: 1)
                }
            }
            func seal() throws {
                try counter.seal(store, random.chance(0.3) ? .certified : .unapprovedBoot)
            }
            try use(1)
            try seal()
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                try use()
                try seal()
            }
            try use()
            if random.chance(0.3) {
                _ = try store.repair(counter.beginning, code: "LEDGER_EDITED")
                try use()
                try seal()
            }
            // Before the last seal, and shorter: what was not sealed yet can be taken back unseen.
            keep(try DatabaseQueue(path: path).read { try LedgerImage($0) })
            try use(1)
            try seal()
            try use()
            if random.chance(0.5) {
                // Somebody raises the counter.
                counter.value += UInt64.random(in: 1...3, using: &random)
                guard try counter.compare(store) == .rollback else {
                    preconditionFailure("a counter that is ahead is a rollback")
                }
                try use()
                for _ in 0..<Int.random(in: 0...2, using: &random) {
                    try seal()
                    try use()
                }
            }
            return (counter, store)
        }
    }

    /// Bytes that a seed repeats, for keys and salts of ledgers that nobody bills.
    private final class SeededBytes: @unchecked Sendable {
        // One thread lives the lives.
        private var numbers: SeededNumbers
        init(_ seed: UInt64) { numbers = SeededNumbers(seed) }
        func bytes(_ count: Int) -> [UInt8] {
            (0..<count).map { _ in UInt8(truncatingIfNeeded: numbers.next() >> 24) }
        }
    }

    // MARK: Judging

    private func verdict(_ store: LedgerStore, _ counter: ModelCounter) throws -> Verdict {
        var verdict = Verdict()
        do throws(LedgerStoreError) {
            verdict.counter =
                LedgerWitness.finding(
                    try store.situation(), counter.value)?.description
        } catch { verdict.counter = error.stableCode }
        do throws(LedgerStoreError) { _ = try counter.witness.verify(store) } catch {
            verdict.records = error.stableCode
        }
        return verdict
    }

    private func note(_ kind: Kind, _ what: String, _ verdict: Verdict, isRight: Bool) {
        report.counts[kind, default: 0] += 1
        let code = verdict.records ?? verdict.counter ?? "unseen"
        report.codes[kind, default: [:]][code, default: 0] += 1
        guard !isRight else { return }
        report.misses += 1
        guard report.findings.count < 100 else { return }
        report.findings.append(
            "\(kind): \(what): \(verdict.records ?? "-"), counter \(verdict.counter ?? "-")")
    }

    private func change(_ life: Life, until end: Int) throws {
        defer {
            for ending in ["", "-other", "-clean"].flatMap({ [$0, $0 + "-wal", $0 + "-shm"] }) {
                try? Files.remove(life.path + ending)
            }
        }
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        let queue = try DatabaseQueue(path: life.path, configuration: configuration)
        try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = OFF") }
        func judge() throws -> Verdict { try verdict(life.store, life.counter) }
        let untouched = try judge()
        guard !untouched.isSeen else {
            note(.edit, "an untouched ledger", untouched, isRight: false)
            report.counts[.edit, default: 0] += end
            return
        }
        while report.total < end {
            let kind = kind()
            if kind == .file {
                try changeFile(life)
                continue
            }
            guard let change = change(life, kind), !change.image.isSame(life.image) else {
                continue
            }
            do {
                try queue.write { try change.image.apply(to: $0, from: life.image) }
            } catch is DatabaseError {
                // The tables do not take it; nothing happened.
                continue
            }
            let found = try judge()
            note(
                kind, change.what, found,
                isRight: found.isSeen && change.records.contains(found.records)
                    && change.counter.contains(found.counter))
            try queue.write { try life.image.apply(to: $0, from: change.image) }
        }
    }

    private func kind() -> Kind {
        if let only { return only }
        if random.chance(0.4) { return .edit }
        if random.chance(0.05) { return .file }
        return Kind.allCases[Int.random(in: 1..<Kind.allCases.count - 1, using: &random)]
    }

    // MARK: Changes

    private static let edited = "LEDGER_EDITED", damaged = "LEDGER_DAMAGED"
    private static let reordered = "LEDGER_REORDERED", truncated = "LEDGER_TRUNCATED"
    private static let spliced = "LEDGER_SPLICED", forged = "LEDGER_FORGED"
    private static let foreign = "LEDGER_FOREIGN"
    private static let anyRecords: Set<String?> = [
        nil, edited, damaged, reordered, truncated, spliced, forged, foreign,
    ]
    private static let anyCounter: Set<String?> = [
        nil, "ROLLBACK_SUSPECT", "COUNTER_LOST", damaged,
    ]

    private func any<T>(_ values: [T]) -> T? { values.randomElement(using: &random) }

    /// A row that is evidence.
    private func row(_ table: LedgerImage.Table, _ image: LedgerImage) -> Int? {
        any(image[table].indices.filter { !image.isLeft(table, image[table][$0]) })
    }

    private func change(_ life: Life, _ kind: Kind) -> Change? {
        switch kind {
        case .edit: edit(life.image)
        case .truncate: truncate(life.image)
        case .reorder: reorder(life.image)
        case .splice: splice(life)
        case .delete: delete(life.image)
        case .insert: insert(life.image)
        case .swap: swap(life)
        case .restore: restore(life)
        case .file: nil
        }
    }

    /// A value that is another one.
    private func mutated(_ value: DatabaseValue) -> DatabaseValue {
        switch value.storage {
        case .blob(let data):
            var bytes = [UInt8](data)
            guard !bytes.isEmpty else { return value }
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes.removeLast(Int.random(in: 1...max(1, bytes.count), using: &random))
            case 1: bytes.append(UInt8.random(in: 0...255, using: &random))
            case 2:
                let place = Int.random(in: 0..<bytes.count, using: &random)
                bytes[place] = bytes[place] &+ UInt8.random(in: 1...255, using: &random)
            default:
                let bit = Int.random(in: 0..<bytes.count * 8, using: &random)
                bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            }
            return Data(bytes).databaseValue
        case .int64(let number):
            let isNear = Bool.random(using: &random)
            return
                (isNear
                ? number &+ Int64.random(in: -3...3, using: &random)
                : number ^ (1 << Int64.random(in: 0..<64, using: &random))).databaseValue
        case .string(let text):
            var letters = Array(text)
            switch Int.random(in: 0..<3, using: &random) {
            case 0: letters.removeLast()
            case 1: letters.append("x")
            default: letters[Int.random(in: 0..<letters.count, using: &random)] = "y"
            }
            return String(letters).databaseValue
        default: return value
        }
    }

    private func edit(_ image: LedgerImage) -> Change? {
        let table = [LedgerImage.Table.era, .record, .record, .meter, .checkpoint, .checkpoint][
            Int.random(in: 0..<6, using: &random)]
        var changed = image
        if table == .era, random.chance(0.1) {
            // The mark of an era that is left behind comes or goes.
            guard let place = any(Array(image[.era].indices)) else { return nil }
            changed[.era][place][6] =
                image[.era][place][6].isNull ? "LEDGER_EDITED".databaseValue : .null
            return Change(image: changed, what: "the mark of an era", records: [Self.edited])
        }
        guard let place = row(table, image) else { return nil }
        let before = image[table][place]
        let column = Int.random(in: 0..<table.columns.count, using: &random)
        let isCertified = LedgerImage.checkpoint(before)?.grade == .certified
        if table == .era && column > 4 || table == .checkpoint && column == 6 { return nil }
        // What the ledger key signed is for the vendor to check.
        if table == .checkpoint && column > 3 && isCertified { return nil }
        var row = before
        row[column] =
            row[column].isNull && table == .era
            ? Data([0, 0, 0, 0, 0, 0, 0, 9]).databaseValue : mutated(row[column])
        guard row[column] != before[column] else { return nil }
        changed[table][place] = row
        var change = Change(
            image: changed, what: "\(table).\(table.columns[column]) of \(before[0]), \(before[1])",
            records: [])
        let bytes = LedgerImage.bytes(row[column])
        switch (table, table.columns[column]) {
        case (.record, "bytes"):
            let old = try? LedgerRecord(decoding: LedgerImage.bytes(before[2]))
            let new = try? LedgerRecord(decoding: bytes)
            change.records = [
                new.map { $0.sequence == old?.sequence } ?? true ? Self.edited : Self.reordered
            ]
        case (.record, "sequence"):
            change.records = [Self.reordered]
            change.counter = Self.anyCounter
        case (.record, _):
            change.records = [Self.reordered, Self.truncated, Self.edited]
            change.counter = Self.anyCounter
        case (.meter, _): change.records = [Self.edited]
        case (.era, "number"):
            change.records = [Self.reordered]
            change.counter = Self.anyCounter
        case (.era, "era"):
            change.records = [bytes.count == 8 ? Self.spliced : Self.damaged]
            change.counter = Self.anyCounter
        case (.era, "genesis"):
            if LedgerImage.genesis(row) == nil {
                change.records = [Self.damaged]
                change.counter = [nil, Self.damaged]
            } else {
                change.records = [Self.edited, Self.spliced]
            }
        case (.era, "begun_at"):
            change.records = [bytes.count == 8 ? nil : Self.damaged]
            change.counter = Self.anyCounter
        case (.era, _):
            guard let range = LedgerImage.range(row[column]) else {
                change.records = [Self.damaged]
                change.counter = [nil, Self.damaged]
                break
            }
            let end = LedgerImage.range(before[column])?.end ?? 0
            change.records = [range.end > end ? Self.truncated : Self.edited]
            if range.end != end { change.counter = Self.anyCounter }
        case (.checkpoint, "era"):
            change.records = [Self.reordered, Self.spliced]
            // Into an era that is left behind: as if it were gone.
            if image.isLeft(.checkpoint, row) { change.records.insert(nil) }
            change.counter = Self.anyCounter
        case (.checkpoint, "counter"):
            change.records =
                bytes.count == 8 ? [Self.reordered, Self.spliced] : [Self.damaged, Self.spliced]
            change.counter = Self.anyCounter
        case (.checkpoint, "bytes"):
            guard let new = LedgerImage.checkpoint(row), let old = LedgerImage.checkpoint(before)
            else {
                change.records = [Self.damaged]
                change.counter = [nil, Self.damaged]
                break
            }
            change.records = [
                new.counter != old.counter
                    ? Self.reordered
                    : new.pairwiseID != old.pairwiseID || new.incarnation != old.incarnation
                        ? Self.foreign : Self.spliced
            ]
            if new.counter != old.counter || new.size != old.size {
                change.counter = Self.anyCounter
            }
        case (.checkpoint, "frontier"): change.records = [Self.edited]
        default:
            let isReadable =
                (try? SignedAttestation(
                    attestation: LedgerImage.bytes(row[4]), signature: LedgerImage.bytes(row[5])))
                != nil
            change.records = isReadable ? [Self.spliced, Self.forged] : [Self.damaged]
            if !isReadable { change.counter = [nil, Self.damaged] }
        }
        return change
    }

    private func truncate(_ image: LedgerImage) -> Change? {
        var changed = image
        let isRecords = random.chance(0.7)
        let table = isRecords ? LedgerImage.Table.record : .checkpoint
        guard let last = row(table, image) else { return nil }
        let era = image[table][last][0]
        let first = last
        let gone = image[table].indices.filter { $0 >= first && image[table][$0][0] == era }
        changed[table] = image[table].indices.filter { !gone.contains($0) }.map { image[table][$0] }
        return Change(
            image: changed, what: "the last \(gone.count) of \(table) in era \(era)",
            records: isRecords ? [Self.truncated] : [nil, Self.spliced],
            counter: isRecords ? [nil, "ROLLBACK_SUSPECT"] : Self.anyCounter)
    }

    private func reorder(_ image: LedgerImage) -> Change? {
        let table = [LedgerImage.Table.era, .record, .record, .meter, .checkpoint, .checkpoint][
            Int.random(in: 0..<6, using: &random)]
        guard let one = row(table, image), let two = row(table, image), one != two else {
            return nil
        }
        var changed = image
        let (left, right) = (image[table][one], image[table][two])
        var change = Change(
            image: image, what: "\(table) \(left[0]), \(left[1]) and \(right[0]), \(right[1])",
            records: [], counter: Self.anyCounter)
        let isSameEra = left[0] == right[0]
        switch table {
        case .era:
            let column = [0, 1, 2, 4][Int.random(in: 0..<4, using: &random)]
            changed[table][one][column] = right[column]
            changed[table][two][column] = left[column]
            change.records = [Self.edited, Self.spliced, Self.truncated, Self.reordered]
        case .record:
            changed[table][one][2] = right[2]
            changed[table][two][2] = left[2]
            change.records = [left[1] == right[1] ? Self.edited : Self.reordered]
            change.counter = [nil]
        case .meter:
            changed[table][one][1] = right[1]
            changed[table][two][1] = left[1]
            change.records = [Self.edited]
            change.counter = [nil]
        case .checkpoint:
            let column = Int.random(in: 2...5, using: &random)
            changed[table][one][column] = right[column]
            changed[table][two][column] = left[column]
            if column == 2 {
                change.records = [Self.reordered]
            } else if column == 3 {
                change.records = [isSameEra || left[3] != right[3] ? Self.edited : nil]
                change.counter = [nil]
            } else {
                change.records = [column == 4 ? Self.spliced : Self.forged]
                if column == 4 { change.records.insert(Self.forged) }
                change.counter = [nil]
            }
        }
        change.image = changed
        return change
    }

    private func splice(_ life: Life) -> Change? {
        let image = life.image
        let source = [life.old, life.other, life.other, image][
            Int.random(in: 0..<4, using: &random)]
        let table = [LedgerImage.Table.era, .record, .record, .meter, .checkpoint, .checkpoint][
            Int.random(in: 0..<6, using: &random)]
        guard let place = row(table, image), let taken = row(table, source) else { return nil }
        var changed = image
        let (before, from) = (image[table][place], source[table][taken])
        var change = Change(
            image: image, what: "\(table) \(before[0]), \(before[1]) from \(from[0]), \(from[1])",
            records: [])
        let isForeign =
            LedgerImage.checkpoint(from)?.pairwiseID != LedgerImage.checkpoint(before)?.pairwiseID
        switch table {
        case .record:
            changed[table][place][2] = from[2]
            change.records = [before[1] == from[1] ? Self.edited : Self.reordered]
        case .meter:
            changed[table][place][1] = from[1]
            change.records = [Self.edited]
        case .checkpoint:
            if random.chance(0.4) {
                // A seal of another place, with everything that proves it.
                changed[table][place] = Array(before[..<2] + from[2...])
                let isPlace =
                    LedgerImage.checkpoint(from)?.counter == LedgerImage.checkpoint(before)?.counter
                change.records = [
                    !isPlace ? Self.reordered : isForeign ? Self.foreign : Self.spliced
                ]
                change.counter = Self.anyCounter
            } else {
                changed[table][place][4] = from[4]
                changed[table][place][5] = from[5]
                change.records = [Self.spliced]
            }
        case .era:
            let column = [2, 4][Int.random(in: 0..<2, using: &random)]
            changed[table][place][column] = from[column]
            change.records = [Self.edited, Self.spliced, Self.truncated]
            change.counter = Self.anyCounter
        }
        change.image = changed
        return change
    }

    private func delete(_ image: LedgerImage) -> Change? {
        let table = [LedgerImage.Table.era, .record, .record, .meter, .checkpoint][
            Int.random(in: 0..<5, using: &random)]
        // An era that is left behind stays in the file as well.
        guard
            let place = table == .era ? any(Array(image[.era].indices)) : row(table, image)
        else { return nil }
        let gone = image[table][place]
        var changed = image
        changed[table].remove(at: place)
        var change = Change(
            image: changed, what: "\(table) \(gone[0]), \(gone[1])", records: [])
        let isLast = !changed[table].dropFirst(place).contains { $0[0] == gone[0] }
        switch table {
        case .record:
            change.records = [isLast ? Self.truncated : Self.reordered]
            if isLast { change.counter = [nil, "ROLLBACK_SUSPECT"] }
        case .meter: change.records = [Self.edited]
        case .checkpoint:
            change.records = isLast ? [nil, Self.spliced] : [Self.spliced]
            if isLast { change.counter = Self.anyCounter }
        case .era:
            change.records = [Self.reordered]
            change.counter = Self.anyCounter
        }
        return change
    }

    private func insert(_ image: LedgerImage) -> Change? {
        let table = LedgerImage.Table.allCases[Int.random(in: 0..<4, using: &random)]
        guard let place = row(table, image) else { return nil }
        var changed = image
        var row = image[table][place]
        var change = Change(image: image, what: "another \(table)", records: [])
        let lastEra = Int64(image[.era].count)
        switch table {
        case .record:
            let isOutside = random.chance(0.3)
            if isOutside {
                row[0] = (lastEra + Int64.random(in: 1...9, using: &random)).databaseValue
                change.records = [Self.reordered]
            } else {
                let end = image[table].filter { $0[0] == row[0] }.count
                row[1] = end.databaseValue
                if var record = try? LedgerRecord(decoding: LedgerImage.bytes(row[2])),
                    random.chance(0.7)
                {
                    record.sequence = UInt64(end)
                    row[2] = Data(record.encoded).databaseValue
                    change.records = [Self.edited]
                } else {
                    change.records = [Self.reordered]
                }
                change.counter = [nil, "ROLLBACK_SUSPECT"]
            }
        case .meter:
            row = [Int64.random(in: 1...99, using: &random).databaseValue, "more".databaseValue]
            change.records = [Self.edited]
        case .checkpoint:
            row[1] = mutated(row[1])
            change.records = [Self.reordered, Self.spliced, Self.damaged]
            change.counter = Self.anyCounter
        case .era:
            row[0] = (lastEra + 1).databaseValue
            change.records = [Self.spliced, Self.truncated, Self.edited]
            change.counter = Self.anyCounter
        }
        changed[table].append(row)
        change.image = changed
        return change
    }

    private func swap(_ life: Life) -> Change? {
        if random.chance(0.3) {
            return Change(
                image: life.other, what: "the whole file", records: [Self.foreign],
                counter: Self.anyCounter)
        }
        let table = LedgerImage.Table.allCases[Int.random(in: 0..<4, using: &random)]
        var changed = life.image
        changed[table] = life.other[table]
        let records: Set<String?> =
            switch table {
            case .record: [Self.edited, Self.reordered, Self.truncated]
            case .meter: [Self.edited]
            case .checkpoint: [Self.foreign, Self.spliced, Self.reordered]
            case .era: [Self.edited, Self.reordered, Self.spliced, Self.truncated]
            }
        return Change(
            image: changed, what: "the table \(table)", records: records,
            counter: Self.anyCounter)
    }

    private func restore(_ life: Life) -> Change? {
        if random.chance(0.3) {
            return Change(
                image: life.old, what: "the whole file", records: [nil],
                counter: ["ROLLBACK_SUSPECT"])
        }
        var changed = life.image
        let tables = LedgerImage.Table.allCases.filter { _ in random.chance(0.4) }
        for table in tables { changed[table] = life.old[table] }
        return Change(
            image: changed, what: "the tables \(tables)",
            records: Self.anyRecords.subtracting([Self.damaged, Self.forged, Self.foreign]),
            counter: Self.anyCounter)
    }

    // MARK: Below SQLite

    /// What a ledger says of itself once every record and checkpoint has verified.
    private struct Reading: Equatable {
        let era: UInt64?
        let genesis: LedgerGenesis
        let frontier: LedgerRange
        let meters: [UInt32: String]
        let checkpoint: Checkpoint?

        init?(_ store: LedgerStore) throws(LedgerStoreError) {
            guard let head = try store.head() else { return nil }
            era = head.era
            genesis = head.genesis
            frontier = head.frontier
            meters = try store.meters()
            checkpoint = try store.lastCheckpoint(of: head)?.checkpoint
        }
    }

    private func changeFile(_ life: Life) throws {
        var bytes = life.file
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
            let page = Int.random(in: 0..<bytes.count / 4096, using: &random) * 4096
            let other = Int.random(in: 0..<bytes.count / 4096, using: &random) * 4096
            bytes.replaceSubrange(page..<page + 4096, with: life.file[other..<other + 4096])
        case 1: bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
        default:
            for _ in 0...Int.random(in: 0..<4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
                    UInt8.random(in: 1...255, using: &random)
            }
        }
        let path = life.path + "-file"
        defer { for ending in ["", "-wal", "-shm"] { try? Files.remove(path + ending) } }
        try Files.write(bytes, to: path, mode: 0o600)
        do throws(LedgerStoreError) {
            let store = try LedgerStore(path: path, random: .system)
            var found = Verdict()
            do { found = try verdict(store, life.counter) } catch { throw .unusable("\(error)") }
            guard !found.isSeen else {
                return note(.file, "bytes of the file", found, isRight: true)
            }
            // Records and checkpoints hash to what is sealed; what is left is read as the ledger reads it.
            guard try Reading(store) != Reading(life.store) else { return }
            note(.file, "bytes of the file", found, isRight: false)
        } catch {
            note(
                .file, "bytes of the file", Verdict(records: error.stableCode), isRight: true)
        }
    }
}
