import FoundationEssentials
import GRDB
import HoldfastCrypto
public import HoldfastLicensing
public import HoldfastProtocol
import HoldfastTPMWire

extension LedgerStore {
    /// Records usage; it is on the disk when this returns, all of it or nothing.
    ///
    /// - Parameters:
    ///   - ticks: the TPM's clock as it was last read.
    ///   - day: days since 1970 on the device's own clock; a hint.
    /// - Throws: ``LedgerStoreError/refused(_:)`` when one of them does not fit.
    public func append(
        _ usages: [Usage], ticks: UInt64, day: UInt32
    ) throws(LedgerStoreError) {
        try write { database in
            if let first = try append(database, usages, ticks, day).first { throw first.value }
        }
    }

    /// Records what fits, for usages that have nothing to do with each other.
    ///
    /// - Returns: which ones do not fit, by their place, and why.
    public func appendEach(
        _ usages: [Usage], ticks: UInt64, day: UInt32
    ) throws(LedgerStoreError) -> [Int: LedgerError] {
        try write { try append($0, usages, ticks, day) }
    }

    func append(
        _ database: Database, _ usages: [Usage], _ ticks: UInt64, _ day: UInt32
    ) throws -> [Int: LedgerError] {
        guard var head = try Self.head(database) else { throw LedgerStoreError.noEra }
        var room = try Room(head)
        var refused: [Int: LedgerError] = [:]
        var numbers: [String: UInt32] = [:]
        // Most of a batch is one meter: it is looked up once.
        var last: (name: String, number: UInt32)?
        let salts = SymmetricSecret(head.seed)
        let statement = try database.cachedStatement(
            sql: "INSERT INTO record (era, sequence, bytes) VALUES (?, ?, ?)")
        for (place, usage) in usages.enumerated() {
            let known: UInt32?
            if let last, last.name == usage.meter {
                known = last.number
            } else {
                known = try numbers[usage.meter] ?? Self.number(of: usage.meter, database)
            }
            let terms: UInt32
            do throws(LedgerError) {
                terms = try room.take(usage, known)
            } catch {
                refused[place] = error
                continue
            }
            let meter = try known ?? name(usage.meter, database, &head, ticks, day)
            if known == nil { room.named(meter, usage) }
            if last?.name != usage.meter {
                numbers[usage.meter] = meter
                last = (usage.meter, meter)
            }
            let record = try Self.makeRecord(
                head, salts, kind: .usage, meter: meter, terms: terms,
                quantity: usage.quantity, ticks, day, payload: nil)
            let bytes = record.encoded
            try head.frontier.append(record.node(encoded: bytes))
            try statement.execute(
                arguments: [head.number, Int64(bitPattern: record.sequence), Data(bytes)])
        }
        try save(head, database)
        return refused
    }

    /// What still fits: everything since the enrollment began is one sum, which each checkpoint and
    /// the next era must hold.
    private struct Room {
        private struct Place: Hashable {
            let meter: UInt32
            let termsVersion: UInt32
        }
        private var places: [Place: Int] = [:]
        private var totals: [UInt64] = []
        /// The one that was taken last: most of a batch is one.
        private var last: (place: Place, number: Int)?

        init(_ head: Head) throws(LedgerError) {
            for entry in try head.genesis.totals.adding(head.frontier.sums()).entries {
                add(Place(meter: entry.meter, termsVersion: entry.termsVersion), entry.total)
            }
        }

        private mutating func add(_ place: Place, _ total: UInt64) {
            places[place] = totals.count
            totals.append(total)
        }

        private mutating func number(of place: Place) -> Int? {
            if let last, last.place == place { return last.number }
            guard let number = places[place] else { return nil }
            last = (place, number)
            return number
        }

        /// Takes the place of a usage.
        ///
        /// Newer terms would need another place for each meter. When there is none left, what is used goes
        /// on being counted under the newest version that has one: it is counted rather than lost.
        ///
        /// - Parameter meter: its number; `nil` when it gets one now.
        /// - Returns: the version of terms that it is counted under.
        mutating func take(_ usage: Usage, _ meter: UInt32?) throws(LedgerError) -> UInt32 {
            guard usage.quantity > 0 else { throw .nothingToCount }
            let place = meter.map { Place(meter: $0, termsVersion: usage.termsVersion) }
            guard let place, let number = number(of: place) else {
                guard totals.count < MeterSums.maximumEntries else {
                    guard let version = newestVersion(of: meter) else { throw .tooManyMeters }
                    var usage = usage
                    usage.termsVersion = version
                    return try take(usage, meter)
                }
                if let place { add(place, UInt64(usage.quantity)) }
                return usage.termsVersion
            }
            let (total, overflow) = totals[number].addingReportingOverflow(UInt64(usage.quantity))
            guard !overflow else { throw .sumOverflow }
            totals[number] = total
            return usage.termsVersion
        }

        private func newestVersion(of meter: UInt32?) -> UInt32? {
            places.keys.lazy.filter { $0.meter == meter }.map(\.termsVersion).max()
        }

        /// A meter that was taken without a number has one.
        mutating func named(_ meter: UInt32, _ usage: Usage) {
            add(Place(meter: meter, termsVersion: usage.termsVersion), UInt64(usage.quantity))
        }
    }

    private static func number(of meter: String, _ database: Database) throws -> UInt32? {
        try UInt32.fetchOne(
            database, sql: "SELECT number FROM meter WHERE name = ?", arguments: [meter])
    }

    /// Gives a meter its number.
    private func name(
        _ meter: String, _ database: Database, _ head: inout Head, _ ticks: UInt64, _ day: UInt32
    ) throws -> UInt32 {
        try database.execute(sql: "INSERT INTO meter (name) VALUES (?)", arguments: [meter])
        guard let number = UInt32(exactly: database.lastInsertedRowID) else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_EDITED", "a meter has a number that no record gave it")
        }
        try append(
            database, &head, kind: .meter, meter: number, ticks, day: day,
            payload: Array(meter.utf8))
        return number
    }

    private static func makeRecord(
        _ head: Head, _ salts: SymmetricSecret, kind: LedgerRecord.Kind, meter: UInt32,
        terms: UInt32, quantity: UInt32,
        _ ticks: UInt64, _ day: UInt32, payload: [UInt8]?
    ) throws -> LedgerRecord {
        let sequence = head.frontier.end
        var place = WireWriter(capacity: 8)
        place.uint64(sequence)
        let salt = try framedKeyedHash(
            .checkpoint, key: salts, saltField, place.bytes)
        return LedgerRecord(
            sequence: sequence, meter: meter, termsVersion: terms, quantity: quantity,
            ticks: ticks, day: day, kind: kind,
            payloadHash: payload.map { HashAlgorithm.sha256.digest($0) }
                ?? noPayload, salt: [UInt8](salt[..<16]))
    }

    private static let saltField = Array("salt".utf8)
    private static let noPayload = [UInt8](repeating: 0, count: 32)

    /// Appends a record that counts nothing.
    func append(
        _ database: Database, _ head: inout Head, kind: LedgerRecord.Kind, meter: UInt32,
        _ ticks: UInt64, day: UInt32, payload: [UInt8]
    ) throws {
        let record = try Self.makeRecord(
            head, SymmetricSecret(head.seed), kind: kind, meter: meter, terms: 0, quantity: 0,
            ticks, day, payload: payload)
        try head.frontier.append(record.node)
        try database.execute(
            sql: "INSERT INTO record (era, sequence, bytes) VALUES (?, ?, ?)",
            arguments: [head.number, Int64(bitPattern: record.sequence), Data(record.encoded)])
    }

    func save(_ head: Head, _ database: Database) throws {
        try database.execute(
            sql: "UPDATE era SET frontier = ?, seed = ?, era = ? WHERE number = ?",
            arguments: [
                Data(Self.bytes(head.frontier)), Data(head.seed), head.era.map(Self.data),
                head.number,
            ])
    }

    /// Names of meters by their numbers.
    public func meters() throws(LedgerStoreError) -> [UInt32: String] {
        try read { try Self.meters($0) }
    }

    /// What was used, by the name of the meter; all versions of terms, and all eras that this one knows of.
    ///
    /// - Returns: `nil` before the first era.
    public func usage() throws(LedgerStoreError) -> KnownUsage? {
        try read { database in
            guard let head = try Self.head(database) else { return nil }
            let sums = try head.genesis.totals.adding(head.frontier.sums())
            let names = try Self.meters(database)
            var totals: [String: UInt64] = [:]
            for entry in sums.entries {
                let name = names[entry.meter] ?? "meter \(entry.meter)"
                let (sum, overflow) = totals[name, default: 0].addingReportingOverflow(entry.total)
                totals[name] = overflow ? .max : sum
            }
            return KnownUsage(totals: totals, era: head.era, cause: head.genesis.cause)
        }
    }

    static func meters(_ database: Database) throws -> [UInt32: String] {
        var names: [UInt32: String] = [:]
        for row in try Row.fetchAll(database, sql: "SELECT * FROM meter") {
            guard let number = UInt32(exactly: try row.integer("number")) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_EDITED", "a meter has a number that no record gave it")
            }
            names[number] = try row.text("name")
        }
        return names
    }
}
