public import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastServices
public import HoldfastTPMWire

/// A device whose TPM is played in software: it signs what a TPM would, with a key of its own.
///
/// For measurements and random tests of the server, which need thousands of pieces of evidence. It
/// proves nothing about a TPM, and its record is put into the store past enrollment.
public struct ModelDevice {
    private let key: ECPrivateKey
    private let attestationKey: PublicArea
    private let counters: (epoch: NVPublicArea, ledger: NVPublicArea)
    private let vendorID: VendorID
    private let sealingKey: SealingPublicKey
    private let selection: PCRSelection
    private let random: RandomSource
    private let values: PCRValues
    private let context: LicenseDocument.Context
    private let statement: PASETOToken
    private let request: [UInt8]

    /// What the TPM and the disk hold; a test may copy it and put it back.
    public struct State: Sendable {
        public var clock = ClockInfo(clock: 1_000, resetCount: 1, restartCount: 0, safe: true)
        public var ledgerCounter: UInt64 = 1
        public var epoch: UInt64 = 1
        public var era: UInt64?
        public var genesis = LedgerGenesis.first
        public var frontier = LedgerRange()
        public var previous = [UInt8](repeating: 0, count: 32)
        /// Frontiers of heads that left the device.
        public var heads: [LedgerRange] = [LedgerRange()]
        /// Every record of the era.
        public var leaves: [LedgerNode] = []
        public var nonces: [[UInt8]] = []
        /// The head of the last reply that was applied.
        public var header: (header: ReplyHeader, token: PASETOToken)?
        /// The newest receipt of each era.
        public var receipts: [UInt64: (receipt: Receipt, token: PASETOToken)] = [:]
        var lastReceipt: (receipt: Receipt, token: PASETOToken)? {
            receipts.values.max { $0.receipt.sequence < $1.receipt.sequence }
        }
    }

    public var state = State()
    public let pairwiseID: PairwiseID
    /// The record's number in the store.
    public let enrollment: Int64

    /// Makes a device and admits it.
    public init(
        _ keys: VendorKeys, _ store: any VendorStore, random: RandomSource, now: UInt64
    ) throws {
        self.random = random
        let trust = try keys.trust()
        vendorID = trust.vendorID
        sealingKey = trust.sealingKeys[0]
        selection = trust.selection
        key = ECPrivateKey(curve: .p256, random: random)
        attestationKey = Self.attestationKey(key)
        pairwiseID = PairwiseID(attestationKey: attestationKey.name)
        let slot = VendorSlot.all[0]
        counters = (
            KeyTemplate.counter(at: slot.epochCounter).written,
            KeyTemplate.counter(at: slot.ledgerCounter).written
        )
        var parent = KeyTemplate.leaseParent(unique: [])
        let parentKey = ECPrivateKey(curve: .p256, random: random).publicKey
        parent.kind = .ecc(
            symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: parentKey.x,
            y: parentKey.y)
        var values = PCRValues()
        for bank in selection.banks {
            for index in bank.indexes {
                values[bank.hash, index] = bank.hash.digest([index.rawValue])
            }
        }
        self.values = values
        let nonces = (0..<4).map { _ in random.bytes(32) }
        let described = EnrollmentRequest.Keys(
            vendorID: vendorID.bytes, endorsementKey: parent, endorsementCertificate: [],
            attestationKey: attestationKey, leaseParent: parent,
            leaseParentSalt: random.bytes(16), epochCounter: counters.epoch,
            ledgerCounter: counters.ledger, hardwareFacts: [])
        let qualifyingData = try described.qualifyingData()
        // Nobody looks at these: the record is put into the store past enrollment.
        let certified = try Self.certify(
            counters.epoch, 1, qualifyingData, State().clock, attestationKey, key)
        request = try EnrollmentRequest(
            keys: described,
            certifications: .init(
                leaseParent: certified, epochCounter: certified, ledgerCounter: certified)
        ).encoded()
        let requestHash = HashAlgorithm.sha256.digest(request)
        let issuer = try keys.issuerKey()
        let about = DeviceStatement(
            incarnation: 1, keys: described, ledgerKeys: [], endorsementKeyKind: "model",
            manufacturer: "model", model: "model", checks: ["none"], requestHash: requestHash,
            nonces: nonces.flatMap { $0 }, issuedAt: now)
        context = LicenseDocument.Context(trust: trust, device: about)
        statement = try about.signed(with: issuer)
        let record = EnrollmentRecord(
            id: 0, requestHash: requestHash, pairwiseID: pairwiseID.bytes, incarnation: 1,
            state: .approved, attestationKey: attestationKey, statement: statement.text,
            response: [], endorsementHash: random.bytes(32), model: nil, createdAt: now,
            replySequence: 0, heardIn: 1)
        enrollment = try store.write { transaction in
            let id = try transaction.insert(record)
            for (number, nonce) in nonces.enumerated() {
                try transaction.insert(
                    NonceRecord(
                        nonce: nonce, enrollment: id, ordinal: UInt64(number + 1),
                        expiresAt: now + 1_000_000_000, usedBy: nil))
            }
            return id
        }
        state.nonces = nonces
    }

    static func attestationKey(_ key: ECPrivateKey) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0005_0472),
            authPolicy: [],
            kind: .ecc(
                symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: key.publicKey.x,
                y: key.publicKey.y))
    }

    // MARK: A ledger on a disk

    /// The counter of a ledger that is kept elsewhere.
    var counter: ModelCounter { ModelCounter(key, attestationKey, value: state.ledgerCounter) }

    /// How many records of an era the newest receipt is about.
    func acknowledged(in era: UInt64) -> UInt64 {
        state.lastReceipt.map { $0.receipt.era == era ? $0.receipt.size : 0 } ?? 0
    }

    /// The receipt in a reply.
    func receipt(in reply: [UInt8]) throws -> (receipt: Receipt, token: PASETOToken)? {
        guard let receipt = try Reply(decoding: reply, in: context).receipt,
            let token = try Reply.receipt(in: reply)
        else { return nil }
        return (receipt, token)
    }

    // MARK: Use

    /// Records usage of a meter.
    public mutating func meter(_ meter: UInt32, quantity: UInt32) throws {
        let sequence = state.frontier.end
        let leaf = LedgerRecord(
            sequence: sequence, meter: meter, termsVersion: 1, quantity: quantity, ticks: 0, day: 0,
            kind: .usage, payloadHash: [UInt8](repeating: 0, count: 32), salt: random.bytes(16)
        ).node
        try state.frontier.append(leaf)
        state.leaves.append(leaf)
    }

    /// Begins a new era, as after a rollback.
    public mutating func beginEra() {
        state.genesis = LedgerGenesis(
            cause: .rollback, previousEra: 0, previousSize: 0,
            previousRoot: [UInt8](repeating: 0, count: 32), distance: 1, totals: MeterSums())
        state.era = nil
        state.frontier = LedgerRange()
        state.leaves = []
        state.heads = [LedgerRange()]
        state.previous = [UInt8](repeating: 0, count: 32)
    }

    /// Seals the head and makes evidence over the next nonce, sealed to the server.
    ///
    /// - Parameter recollecting: bring what the vendor signed.
    public mutating func evidence(recollecting: Bool = false) throws -> [UInt8] {
        state.ledgerCounter += 1
        state.clock.clock += 10
        let era = state.era ?? state.ledgerCounter
        state.era = era
        let root = try state.frontier.root()
        let zeros = [UInt8](repeating: 0, count: 32)
        let checkpoint = Checkpoint(
            pairwiseID: pairwiseID.bytes, incarnation: 1, era: era, counter: state.ledgerCounter,
            previous: state.previous, size: state.frontier.end, root: root.hash, sums: root.sums,
            receiptHash: state.lastReceipt.map { Reply.hash(ofSection: $0.token) } ?? zeros,
            replyHash: state.header.map { Reply.hash(ofSection: $0.token) } ?? zeros,
            clock: state.clock, grade: .unapprovedBoot)
        state.previous = checkpoint.hash
        var proofs: [LedgerConsistency] = []
        let last = state.lastReceipt?.receipt
        let acknowledged = last?.era == era ? last?.size ?? 0 : 0
        for head in state.heads
        where head.end >= max(1, acknowledged) && head.end < state.frontier.end {
            var after = LedgerRange(at: head.end)
            for leaf in state.leaves[Int(head.end)...] { try after.append(leaf) }
            proofs.append(LedgerConsistency(before: head, after: after))
        }
        if state.heads.last != state.frontier { state.heads.append(state.frontier) }
        return try evidence(
            Evidence.Ledger(
                checkpoint: checkpoint, consistency: proofs, genesis: state.genesis,
                meters: [1: "scan", 2: "map", 3: "extra"], key: nil, keyCertification: nil),
            recollecting: recollecting)
    }

    /// Makes evidence of a ledger that is sealed, over the next nonce, sealed to the server.
    mutating func evidence(
        _ ledger: Evidence.Ledger, recollecting: Bool = false
    ) throws -> [UInt8] {
        guard let nonce = state.nonces.first else { throw DocumentError.malformed(.nonce) }
        if state.nonces.count > 1 { state.nonces.removeFirst() }
        let checkpoint = ledger.checkpoint
        state.clock.clock = max(state.clock.clock, checkpoint.clock.clock)
        let subject = Evidence.Subject(
            vendorID: vendorID.bytes, pairwiseID: pairwiseID.bytes, incarnation: 1, nonce: nonce)
        var evidence = Evidence(
            subject: subject,
            recollection: recollecting
                ? Recollection(
                    statement: statement, request: request, replyHeader: state.header?.token,
                    receipts: state.receipts.values.map(\.token), terms: [], licenses: [],
                    leases: [], approvals: []) : nil,
            epochCounter: try certify(counters.epoch, state.epoch, subject.counterData),
            ledgerCounter: try certify(counters.ledger, checkpoint.counter, checkpoint.hash),
            ledger: ledger, selection: selection, values: values)
        // The order in which a device asks its TPM: ledger, epoch, quote.
        let quote = try Self.sign(
            evidence.extraData(for: sealingKey),
            .quote(
                selection: selection,
                pcrDigest: values.digest(of: selection, hash: .sha256) ?? []), state.clock,
            attestationKey, key)
        evidence.quote = quote.attestation.bytes
        evidence.quoteSignature = quote.signature.bytes
        return try SealedEnvelope(
            sealing: evidence.encoded(), to: sealingKey, random: random
        ).encoded
    }

    /// Takes a reply in, unless a later one was: nonces, and what the receipt acknowledges.
    public mutating func apply(_ bytes: [UInt8]) throws {
        let reply = try Reply(decoding: bytes, in: context)
        guard state.header.map({ $0.header.position < reply.header.position }) ?? true
        else { return }
        state.header = (reply.header, try Reply.header(in: bytes))
        state.nonces = reply.nonces
        if let receipt = reply.receipt, let token = try Reply.receipt(in: bytes),
            receipt.sequence >= state.receipts[receipt.era]?.receipt.sequence ?? 0
        {
            state.receipts[receipt.era] = (receipt, token)
        }
    }

    private func certify(
        _ area: NVPublicArea, _ value: UInt64, _ data: [UInt8]
    ) throws -> SignedAttestation {
        try Self.certify(area, value, data, state.clock, attestationKey, key)
    }

    static func certify(
        _ area: NVPublicArea, _ value: UInt64, _ data: [UInt8], _ clock: ClockInfo,
        _ signer: PublicArea, _ key: ECPrivateKey
    ) throws -> SignedAttestation {
        var writer = WireWriter(capacity: 8)
        writer.uint64(value)
        return try sign(
            data, .nv(indexName: area.name, offset: 0, contents: writer.bytes), clock, signer, key)
    }

    private static func sign(
        _ data: [UInt8], _ attested: Attestation.Attested, _ clock: ClockInfo,
        _ signer: PublicArea, _ key: ECPrivateKey
    ) throws -> SignedAttestation {
        let bytes = Attestation(
            qualifiedSigner: signer.name.qualified(
                below: TPMName(handle: .endorsement), hash: .sha256),
            extraData: data, clockInfo: clock, firmwareVersion: 1, attested: attested
        ).wireBytes
        let raw = try key.signECDSA(bytes)
        return try SignedAttestation(
            attestation: bytes,
            signature: Signature.ecdsa(
                hash: .sha256, r: [UInt8](raw[..<32]), s: [UInt8](raw[32...])
            ).wireBytes)
    }
}
