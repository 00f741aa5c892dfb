import FoundationEssentials
import GRDB
public import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastTPMWire

extension LedgerStore {
    // MARK: Checkpoints

    /// The last checkpoint of an era.
    public func lastCheckpoint(of head: Head) throws(LedgerStoreError) -> Certified? {
        try read { try Self.lastCheckpoint(of: head, $0) }
    }

    static func lastCheckpoint(of head: Head, _ database: Database) throws -> Certified? {
        try Row.fetchOne(
            database,
            sql: "SELECT * FROM checkpoint WHERE era = ? ORDER BY counter DESC LIMIT 1",
            arguments: [head.number]
        ).map(certified)
    }

    static func certified(_ row: Row) throws -> Certified {
        let bytes = try row.bytes("bytes")
        let attestation = try row.optionalBytes("attestation")
        let signature = try row.optionalBytes("signature")
        do throws(WireError) {
            let checkpoint = try Checkpoint(decoding: bytes)
            guard let attestation, let signature else {
                return Certified(checkpoint: checkpoint, certification: nil)
            }
            return Certified(
                checkpoint: checkpoint,
                certification: try SignedAttestation(
                    attestation: attestation, signature: signature))
        } catch {
            throw LedgerStoreError.damaged(
                code: "LEDGER_DAMAGED", "a checkpoint makes no sense")
        }
    }

    /// Writes a checkpoint of the present head down, before the counter is raised for it.
    ///
    /// - Parameter make: from era, frontier, root and the hash of the checkpoint before.
    public func writeCheckpoint(
        counter: UInt64,
        _ make: (_ era: UInt64, _ size: UInt64, _ root: LedgerNode, _ previous: [UInt8]) throws
            -> Checkpoint
    ) throws(LedgerStoreError) -> Checkpoint {
        try write { database in
            guard var head = try Self.head(database) else { throw LedgerStoreError.noEra }
            let era = head.era ?? counter
            let before = try Self.lastCheckpoint(of: head, database)
            let made = try make(
                era, head.frontier.end, head.frontier.root(),
                before?.checkpoint.hash ?? [UInt8](repeating: 0, count: 32))
            try database.execute(
                sql: """
                    INSERT INTO checkpoint (counter, era, bytes, frontier, exported)
                    VALUES (?, ?, ?, ?, 0)
                    """,
                arguments: [
                    Self.data(counter), head.number, Data(made.encoded),
                    Data(Self.bytes(head.frontier)),
                ])
            head.era = era
            // The salts of what is sealed now say nothing of those that come.
            head.seed = random.bytes(32)
            try save(head, database)
            return made
        }
    }

    /// Stores what the TPM said to a checkpoint.
    public func store(
        _ certification: SignedAttestation, counter: UInt64
    ) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql: """
                    UPDATE checkpoint SET attestation = ?, signature = ?
                    WHERE counter = ? AND era = (SELECT max(number) FROM era)
                    """,
                arguments: [
                    Data(certification.attestation.bytes), Data(certification.signature.bytes),
                    Self.data(counter),
                ])
        }
    }

    // MARK: Proofs and receipts

    /// What leads from an earlier checkpoint's head of the present era to the present one's.
    ///
    /// - Returns: `nil` when there is no such checkpoint.
    public func consistency(
        from size: UInt64, to end: UInt64
    ) throws(LedgerStoreError) -> LedgerConsistency? {
        try read { database in
            guard let head = try Self.head(database) else { return nil }
            guard let before = try Self.frontier(of: size, head.number, database) else {
                return nil
            }
            let after = try Self.run(from: size, to: end, head.number, database)
            return LedgerConsistency(before: before, after: after)
        }
    }

    private static func frontier(
        of size: UInt64, _ era: Int64, _ database: Database
    ) throws -> LedgerRange? {
        if size == 0 { return LedgerRange() }
        let rows = try Row.fetchAll(
            database, sql: "SELECT frontier FROM checkpoint WHERE era = ? ORDER BY counter DESC",
            arguments: [era])
        for row in rows {
            let frontier = try row.range("frontier")
            if frontier.end == size { return frontier }
        }
        return nil
    }

    /// Proofs from the heads that the server may know: that of the last receipt, and those of the
    /// present era that left the device since.
    ///
    /// The newest ones come first when they are more than evidence has room for.
    ///
    /// - Parameters:
    ///   - acknowledged: the size in the last receipt of this era, or 0.
    ///   - end: the size of the present head.
    ///   - room: for the proofs, in bytes; that of the receipt is there in any case.
    public func proofs(
        since acknowledged: UInt64, to end: UInt64, room: Int = 2 << 20
    ) throws(LedgerStoreError) -> [LedgerConsistency] {
        try read { database in
            guard let head = try Self.head(database) else { return [] }
            var heads: [UInt64: LedgerRange] = [:]
            let rows = try Row.fetchCursor(
                database, sql: "SELECT frontier, exported FROM checkpoint WHERE era = ?",
                arguments: [head.number])
            while let row = try rows.next() {
                // Most of a frontier is not looked at when its size says enough.
                let bytes = try row.bytes("frontier")
                var reader = WireReader(bytes)
                let size = try reader.uint64() == 0 ? reader.uint64() : 0
                guard size > 0, size < end,
                    try size == acknowledged
                        || (size > acknowledged && row.integer("exported") != 0)
                else { continue }
                heads[size] = try row.range("frontier")
            }
            var proofs: [LedgerConsistency] = []
            var after = LedgerRange(at: end)
            var left = room
            // Every record is read once: a longer run is a shorter one with some before it.
            for (size, before) in heads.sorted(by: { $0.key > $1.key }) {
                var longer = try Self.run(from: size, to: after.start, head.number, database)
                try longer.append(after)
                after = longer
                let proof = LedgerConsistency(before: before, after: after)
                left -= proof.encoded.count
                if left >= 0 || size == acknowledged { proofs.append(proof) }
            }
            return proofs
        }
    }

    /// The nodes that cover some records of an era.
    private static func run(
        from start: UInt64, to end: UInt64, _ era: Int64, _ database: Database
    ) throws -> LedgerRange {
        var range = LedgerRange(at: start)
        let rows = try Row.fetchCursor(
            database,
            sql: """
                SELECT bytes FROM record WHERE era = ? AND sequence >= ? AND sequence < ?
                ORDER BY sequence
                """,
            arguments: [era, Int64(bitPattern: start), Int64(bitPattern: end)])
        while let row = try rows.next() {
            try range.append(LedgerRecord(decoding: row.bytes("bytes")).node)
        }
        guard range.end == end else {
            throw LedgerStoreError.damaged(
                code: "LEDGER_TRUNCATED", "records \(range.end) to \(end) are missing")
        }
        return range
    }

    /// Remembers that a checkpoint leaves the device: the server may know it from now on.
    public func markExported(counter: UInt64) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql: """
                    UPDATE checkpoint SET exported = 1
                    WHERE counter = ? AND era = (SELECT max(number) FROM era)
                    """, arguments: [Self.data(counter)])
        }
    }

    /// Keeps a receipt; it was verified.
    public func store(_ receipt: Receipt, token: PASETOToken) throws(LedgerStoreError) {
        try write { database in
            try database.execute(
                sql:
                    "INSERT OR REPLACE INTO receipt (sequence, era, checkpoint, token) VALUES (?, ?, ?, ?)",
                arguments: [
                    Int64(bitPattern: receipt.sequence), Self.data(receipt.era),
                    Data(receipt.checkpoint), token.text,
                ])
        }
    }

    /// Receipts as texts, the newest first; verify one before it is believed.
    package func receipts(limit: Int) throws(LedgerStoreError) -> [String] {
        try read { database in
            try String.fetchAll(
                database, sql: "SELECT token FROM receipt ORDER BY sequence DESC LIMIT ?",
                arguments: [limit])
        }
    }

    /// With what an era began, by its name.
    func genesis(of era: UInt64) throws(LedgerStoreError) -> LedgerGenesis? {
        try read { database in
            try Row.fetchOne(
                database, sql: "SELECT * FROM era WHERE era = ? ORDER BY number DESC LIMIT 1",
                arguments: [Self.data(era)]
            ).map { try Self.head($0).genesis }
        }
    }
}
