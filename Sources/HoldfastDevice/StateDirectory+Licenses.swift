import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastTPMWire

extension StateDirectory {
    // MARK: Nonces

    /// Marks the first nonce as used, before the evidence over it leaves.
    ///
    /// The last one stays: evidence over it is stale for the server, which answers with new ones.
    func spendNonce() throws {
        let left = try nonces()
        guard left.count > 1 else { return }
        try store(nonces: Array(left.dropFirst()))
    }

    func store(nonces: [[UInt8]]) throws {
        try Files.write(nonces.flatMap { $0 }, to: file("nonces"), mode: 0o640)
    }

    // MARK: Replies

    /// The head of the last reply that was applied, as it was received.
    func lastReplyToken() throws -> PASETOToken? {
        try read("reply", maximum: PASETOToken.maximumTextSize).map(Self.token)
    }

    /// The head of the last reply that was applied; verified each time it is read.
    ///
    /// - Returns: `nil` also when its key was retired since: whoever has a leaked one could place a head
    ///   after all others, and keep every later reply out.
    func lastReply(in context: LicenseDocument.Context) throws -> ReplyHeader? {
        try lastReplyToken().flatMap { token in
            try Self.unlessRetired(context) {
                try ReplyHeader(
                    verifying: token, issuers: $0.issuers, incarnation: $0.incarnation,
                    attestationKey: $0.attestationKey)
            }
        }
    }

    /// SHA-256 of the head of the last reply that was applied, as a section.
    func replyHash() throws -> [UInt8]? { try lastReplyToken().map(Reply.hash) }

    func store(reply token: PASETOToken) throws {
        try Files.write(Array((token.text + "\n").utf8), to: file("reply"), mode: 0o640)
    }

    // MARK: Terms to come

    /// What the last reply announced; it is for reading alone, and decides nothing.
    func announced(in context: LicenseDocument.Context) throws -> [AnnouncedTerms] {
        try read("terms-to-come", maximum: Container.maximumSize).flatMap { bytes in
            try Self.unlessRetired(context) { try AnnouncedTerms.kept(decoding: bytes, in: $0) }
        } ?? []
    }

    /// - Parameter announced: `nil` when there is nothing to come.
    func store(announced: [UInt8]?) throws {
        guard let announced else { return try Files.remove(file("terms-to-come")) }
        try Files.write(announced, to: file("terms-to-come"), mode: 0o640)
    }

    // MARK: Licenses

    private static let longestLicense = 1 << 17

    /// The file of a lease, without its ending.
    private func leaseFile(_ document: LicenseDocument) -> String {
        "licenses/\(document.license.id).\(document.statement.serial)"
    }

    /// Reads a document that may be by a key which the vendor retired.
    ///
    /// - Returns: `nil` for such a one: it is whole, and counts no more.
    private static func unlessRetired<R>(
        _ context: LicenseDocument.Context, _ body: (LicenseDocument.Context) throws -> R
    ) throws -> R? {
        do { return try body(context) } catch TokenError.foreignKey
            where !context.retiredIssuers.isEmpty
        {
            _ = try body(context.withRetired)
            return nil
        }
    }

    /// Every lease that is kept, by license and then by serial, the newest first.
    ///
    /// What a retired key signed is left out.
    ///
    /// - Throws: when a file was changed: every signature is checked each time.
    func licenses(in context: LicenseDocument.Context) throws -> [[LicenseDocument]] {
        guard Files.exists(file("licenses")) else { return [] }
        let documents = try Files.names(in: file("licenses"))
            .filter { $0.hasSuffix(".license") }
            .compactMap { name in
                let bytes = try Files.read(
                    file("licenses/" + name), maximum: Self.longestLicense)
                return try Self.unlessRetired(context) {
                    try LicenseDocument(decoding: bytes, in: $0)
                }
            }
        return Dictionary(grouping: documents, by: \.license.id).values
            .map { $0.sorted { $0.statement.serial > $1.statement.serial } }
            .sorted { $0[0].license.id.description < $1[0].license.id.description }
    }

    func store(_ document: LicenseDocument) throws {
        try Files.makePrivateDirectory(file("licenses"))
        try Files.write(
            document.encoded(), to: file(leaseFile(document) + ".license"), mode: 0o640)
    }

    func remove(_ document: LicenseDocument) throws {
        try Files.remove(file(leaseFile(document) + ".license"))
        try Files.remove(file(leaseFile(document) + ".object"))
    }

    /// What the TPM made of the import blob; it judges it each time.
    func object(of document: LicenseDocument) throws -> [UInt8]? {
        try read(leaseFile(document) + ".object", maximum: 4096)
    }

    func store(object: [UInt8], of document: LicenseDocument) throws {
        try Files.write(object, to: file(leaseFile(document) + ".object"), mode: 0o640)
    }

    // MARK: Approvals

    /// Approvals that are installed; one that was changed is an error, not a gap.
    func approvals(trusting key: ECPublicKey) throws -> [ApprovalDocument] {
        guard Files.exists(file("approvals")) else { return [] }
        return try Files.names(in: file("approvals")).filter { $0.hasSuffix(".approval") }.map {
            try ApprovalDocument(
                decoding: Files.read(file("approvals/" + $0), maximum: Container.maximumSize),
                trusting: key)
        }
    }

    func store(_ approval: ApprovalDocument) throws {
        try Files.makePrivateDirectory(file("approvals"))
        let bytes = try approval.encoded()
        // The same approval of the same state has one name, whatever its signature.
        let name = Hex.encode(
            [UInt8](HashAlgorithm.sha256.digest(approval.approval.signedBytes)[..<16]))
        try Files.write(bytes, to: file("approvals/\(name).approval"), mode: 0o640)
    }

    // MARK: Ledger

    private var ledgerFile: String { file("ledger/ledger.sqlite") }

    var hasLedger: Bool { Files.exists(ledgerFile) }

    /// The ledger that must be there.
    func openLedger(random: RandomSource) throws(LedgerStoreError) -> LedgerStore {
        try LedgerStore(path: ledgerFile, random: random)
    }

    /// Moves a file away that is no ledger any more, to where its group does not get.
    ///
    /// - Returns: where it is now.
    func setLedgerAside() throws -> String {
        let lock = try lockLedger()
        defer { withExtendedLifetime(lock) {} }
        let place = try newPlace(in: "damaged") + "/ledger.sqlite"
        for ending in ["-wal", "-shm", ""] where Files.exists(ledgerFile + ending) {
            try Files.move(ledgerFile + ending, to: place + ending)
        }
        return place
    }

    func ledger(random: RandomSource) throws -> LedgerStore {
        if mayWrite {
            try Files.makeSharedDirectory(file("ledger"))
            // For applications, which cannot make it.
            if !Files.exists(file("ledger-lock")) { _ = try lockLedger() }
        }
        return try LedgerStore(path: ledgerFile, random: random)
    }

    /// Held to end the ledger of an enrollment: nobody records anything meanwhile.
    func lockLedger() throws -> FileLock {
        // Not in the directory that the group may write to: nobody takes this one's place.
        try FileLock(file("ledger-lock"), patience: Self.patience)
    }

    /// Keeps the enrollment from ending while an application writes.
    ///
    /// - Parameter path: the state directory.
    /// - Throws: ``DeviceError/retired``; ``FileError`` when it is being ended.
    package static func whileRecording<R>(in path: String, _ body: () throws -> R) throws -> R {
        let lock = try FileLock(path + "/ledger-lock", shared: true, patience: patience)
        defer { withExtendedLifetime(lock) {} }
        guard !Files.exists(path + "/retirement") else { throw DeviceError.retired }
        return try body()
    }

    /// Begins the ledger of an enrollment; one that is there is left alone.
    ///
    /// - Parameter counter: the present value of the TPM's ledger counter.
    func createLedger(counter: UInt64, random: RandomSource) throws {
        try ledger(random: random).beginFirstEra(counter: counter, ticks: 0)
    }

    // MARK: Retirement

    /// The epoch that an interrupted run was on its way to.
    func epochIntent() throws -> UInt64? {
        guard let bytes = try read("epoch-intent", maximum: 8), bytes.count == 8 else {
            return nil
        }
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    func store(epochIntent target: UInt64) throws {
        var writer = WireWriter(capacity: 8)
        writer.uint64(target)
        try Files.write(writer.bytes, to: file("epoch-intent"), mode: 0o600)
    }

    func clearEpochIntent() throws { try Files.remove(file("epoch-intent")) }

    func retirement() throws -> Retirement? {
        guard let bytes = try read("retirement", maximum: Container.maximumSize) else {
            return nil
        }
        return try Retirement(decoding: bytes)
    }

    func store(_ retirement: Retirement) throws {
        let lock = try lockLedger()
        defer { withExtendedLifetime(lock) {} }
        try Files.write(retirement.encoded(), to: file("retirement"), mode: 0o640)
    }
}
