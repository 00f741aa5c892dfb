import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Synchronization

/// Random bytes that are the same in every run.
///
/// A seed that one process writes must be genuine to the next one.
final class RepeatedRandom: Sendable {
    private let state: Mutex<UInt64>
    init(_ seed: UInt64) { state = Mutex(seed) }

    var source: RandomSource {
        RandomSource { count in
            var bytes: [UInt8] = []
            while bytes.count < count {
                let number = self.state.withLock { state in
                    state &+= 1
                    return state
                }
                bytes += HashAlgorithm.sha256.digest(Array("holdfast fuzz \(number)".utf8))
            }
            return [UInt8](bytes[..<count])
        }
    }
}

/// A vendor and a device without a TPM, with one document of each kind.
struct Sample: Sendable {
    /// Keys are not copyable; the seed makes the same one again.
    let issuerSeed: [UInt8]
    private let sealingScalar: [UInt8]
    let approvalKey: ECPrivateKey
    let key: ECPrivateKey
    let attestationKey: PublicArea
    let leaseParent: PublicArea
    let epochCounter = KeyTemplate.counter(at: VendorSlot.all[0].epochCounter).written
    let ledgerCounter = KeyTemplate.counter(at: VendorSlot.all[0].ledgerCounter).written
    let leaseKey: [UInt8]
    let localKey: [UInt8]
    let nonce: [UInt8]
    let values: PCRValues
    let selection = PCRSelection(.sha256, [PCRIndex.all[0], PCRIndex.all[7]])
    let clock = ClockInfo(clock: 1_000_000, resetCount: 2, restartCount: 0, safe: true)
    let approval: ApprovalDocument
    let license: [(type: SectionType, bytes: [UInt8])]

    /// One for all targets.
    static let shared = Result { try Sample() }

    private init() throws {
        let random = RepeatedRandom(0).source
        issuerSeed = random.bytes(32)
        sealingScalar = random.bytes(32)
        approvalKey = ECPrivateKey(curve: .p256, random: random)
        key = ECPrivateKey(curve: .p256, random: random)
        var area = KeyTemplate.attestationKey(vendorID: [])
        area.kind = .ecc(
            symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: key.publicKey.x,
            y: key.publicKey.y)
        attestationKey = area
        var parent = KeyTemplate.leaseParent(unique: [])
        let parentKey = ECPrivateKey(curve: .p256, random: random).publicKey
        parent.kind = .ecc(
            symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: parentKey.x,
            y: parentKey.y)
        leaseParent = parent
        leaseKey = random.bytes(32)
        localKey = random.bytes(32)
        nonce = random.bytes(32)
        var values = PCRValues()
        for index in [0, 7] {
            values[.sha256, PCRIndex.all[index]] = random.bytes(32)
        }
        self.values = values
        let reference = try SampleLicense.reference()
        approval = try ApprovalDocument(
            reference: reference, values: values, note: "as it left the factory",
            signingWith: approvalKey)
        license = try SampleLicense(
            issuerSeed: issuerSeed, approvalKey: approvalKey.publicKey, attestationKey: area.name,
            parent: parent, epochCounter: epochCounter, leaseKey: leaseKey,
            entitlements: [.init(name: "scan", limit: 100), .init(name: "preview", limit: nil)]
        ).sections(random: random)
    }

    func issuer() throws -> Ed25519PrivateKey {
        try Ed25519PrivateKey(seed: SecretBytes(copying: issuerSeed))
    }

    func sealing() throws -> SealingPrivateKey {
        try SealingPrivateKey(scalar: SecretBytes(copying: sealingScalar))
    }

    // MARK: Statements

    func trust() throws -> TrustStatement {
        let root = try issuer().publicKey
        return TrustStatement(
            rootKey: root, sequence: 3, issuerKeys: [root],
            sealingKeys: [try sealing().publicKey], approvalKey: approvalKey.publicKey,
            tlsKeys: [HashAlgorithm.sha256.digest([1])],
            endorsementKeys: [
                .init(manufacturer: "id:00001014", model: "swtpm", kind: "ecc-p384")
            ], factSalt: [UInt8](repeating: 7, count: 16), urls: ["https://example.org"],
            selection: selection)
    }

    /// What comes after it, as when a key was retired.
    func newerTrust() throws -> TrustStatement {
        let trust = try trust()
        let retired = try Ed25519PrivateKey(seed: SecretBytes(copying: sealingScalar)).publicKey
        return TrustStatement(
            rootKey: trust.rootKey, sequence: 4, issuerKeys: trust.issuerKeys,
            sealingKeys: trust.sealingKeys, approvalKey: trust.approvalKey,
            tlsKeys: trust.tlsKeys + [HashAlgorithm.sha256.digest([2])],
            endorsementKeys: trust.endorsementKeys, factSalt: trust.factSalt, urls: trust.urls,
            selection: trust.selection, retiredIssuerKeys: [retired])
    }

    func keys() throws -> EnrollmentRequest.Keys {
        EnrollmentRequest.Keys(
            vendorID: try trust().vendorID.bytes, endorsementKey: leaseParent,
            endorsementCertificate: [0x30, 0x00], attestationKey: attestationKey,
            leaseParent: leaseParent, leaseParentSalt: [UInt8](repeating: 9, count: 16),
            epochCounter: epochCounter, ledgerCounter: ledgerCounter,
            hardwareFacts: [[1] + [UInt8](repeating: 3, count: 31)], trustSequence: 3)
    }

    func request() throws -> EnrollmentRequest {
        let keys = try keys()
        let data = try keys.qualifyingData()
        return EnrollmentRequest(
            keys: keys,
            certifications: .init(
                leaseParent: try sign(
                    data,
                    .certify(
                        name: leaseParent.name,
                        qualifiedName: leaseParent.name.qualified(
                            below: TPMName(handle: .owner), hash: .sha256))),
                epochCounter: try certify(epochCounter, 1, data),
                ledgerCounter: try certify(ledgerCounter, 1, data)))
    }

    func statement() throws -> DeviceStatement {
        DeviceStatement(
            incarnation: 1, keys: try keys(), ledgerKeys: [], endorsementKeyKind: "ecc-p384",
            manufacturer: "id:00001014", model: "swtpm", checks: ["endorsement"],
            requestHash: [UInt8](repeating: 5, count: 32),
            nonces: [UInt8](repeating: 6, count: 128), issuedAt: 1_800_000_000)
    }

    func context() throws -> LicenseDocument.Context {
        LicenseDocument.Context(trust: try trust(), device: try statement())
    }

    func terms() -> Terms { SampleLicense.terms }

    func receipt() throws -> PASETOToken {
        try Receipt(
            incarnation: 1, era: 2, checkpoint: [UInt8](repeating: 1, count: 32),
            root: [UInt8](repeating: 2, count: 32), size: 3,
            totals: MeterSums(.init(meter: 1, termsVersion: 3, total: 12)), grade: "certified",
            isForked: false, serverAt: 1_800_000_000, clock: clock, sequence: 1
        ).signed(for: attestationKey.name, with: issuer())
    }

    /// Terms that are to come for the license.
    func announced() throws -> [(type: SectionType, bytes: [UInt8])] {
        var terms = terms()
        terms.version = 4
        let token = try terms.signed(with: issuer())
        return AnnouncedTerms.parts(
            migration: try migration(
                to: HashAlgorithm.sha256.digest(LicenseDocument.section(terms: token))
            ).signed(for: attestationKey.name, with: issuer()), terms: token)
    }

    func testLicense() -> TestLicense {
        TestLicense(
            id: LicenseID(unchecked: [UInt8](repeating: 7, count: 16)), product: "scanner",
            entitlements: [.init(name: "scan", limit: 9)], termsHash: nonce,
            endsAt: 1_900_000_000, issuedAt: 1_800_000_000)
    }

    func migration(to termsHash: [UInt8]) -> TermsMigration {
        TermsMigration(
            license: LicenseID(unchecked: [UInt8](repeating: 7, count: 16)), terms: "standard",
            from: 3, to: 4, termsHash: termsHash, notBefore: 1_800_009_000,
            issuedAt: 1_800_000_000)
    }

    /// A reply with the license, terms to come, the approval and a receipt.
    ///
    /// - Parameter trust: a trust statement that it brings.
    func reply(with trust: PASETOToken? = nil) throws -> [UInt8] {
        let issuer = try issuer()
        let receipt = try receipt()
        return try Reply.encoded(
            contents: license + announced() + [
                (.approval, try approval.encoded()), (.receipt, Reply.section(token: receipt)),
            ] + (trust.map(Reply.parts) ?? []), nonces: [UInt8](repeating: 6, count: 128)
        ) { try header(of: $0, issuer) }
    }

    func header(
        of contents: Container, _ issuer: borrowing Ed25519PrivateKey
    ) throws -> PASETOToken {
        try ReplyHeader(
            answers: [UInt8](repeating: 4, count: 32), outcome: .accepted,
            position: ReplyPosition(server: 1, sequence: 2), incarnation: 1,
            serverAt: 1_800_000_000, noncesExpireAt: 1_800_007_200, epochTarget: 6,
            revoked: [LicenseID(unchecked: [UInt8](repeating: 8, count: 16))],
            contents: contents
        ).signed(for: attestationKey.name, with: issuer)
    }

    // MARK: What a TPM signs

    func certify(
        _ area: NVPublicArea, _ value: UInt64, _ data: [UInt8]
    ) throws -> SignedAttestation {
        var writer = WireWriter(capacity: 8)
        writer.uint64(value)
        return try sign(data, .nv(indexName: area.name, offset: 0, contents: writer.bytes))
    }

    func quote(_ data: [UInt8]) throws -> SignedAttestation {
        try sign(
            data,
            .quote(
                selection: selection,
                pcrDigest: values.digest(of: selection, hash: .sha256) ?? []))
    }

    func sign(_ data: [UInt8], _ attested: Attestation.Attested) throws -> SignedAttestation {
        let bytes = Attestation(
            qualifiedSigner: attestationKey.name.qualified(
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

    // MARK: Evidence

    func evidence(recollecting: Bool) throws -> Evidence {
        let trust = try trust()
        let issuer = try issuer()
        let checkpoint = checkpoint
        let subject = Evidence.Subject(
            vendorID: trust.vendorID.bytes, pairwiseID: checkpoint.pairwiseID, incarnation: 1,
            nonce: nonce)
        var before = LedgerRange()
        try before.append(record.node)
        var after = LedgerRange(at: 1)
        try after.append(record.node)
        var evidence = Evidence(
            subject: subject,
            recollection: recollecting
                ? Recollection(
                    statement: try statement().signed(with: issuer),
                    request: try request().encoded(), replyHeader: nil, receipts: [],
                    terms: [try terms().signed(with: issuer)], licenses: [], leases: [],
                    approvals: [try approval.encoded()]) : nil,
            trustSequence: recollecting ? 3 : nil,
            epochCounter: try certify(epochCounter, 1, subject.counterData),
            ledgerCounter: try certify(ledgerCounter, 4, checkpoint.hash),
            ledger: Evidence.Ledger(
                checkpoint: checkpoint,
                consistency: [LedgerConsistency(before: before, after: after)], genesis: .first,
                meters: [1: "scan", 2: "map"], key: nil, keyCertification: nil),
            selection: selection, values: values)
        let quote = try quote(evidence.extraData(for: sealing().publicKey))
        evidence.quote = quote.attestation.bytes
        evidence.quoteSignature = quote.signature.bytes
        return evidence
    }

    var record: LedgerRecord {
        LedgerRecord(
            sequence: 0, meter: 1, termsVersion: 3, quantity: 12, ticks: 1_000, day: 20_000,
            kind: .usage, payloadHash: [UInt8](repeating: 0, count: 32),
            salt: [UInt8](repeating: 1, count: 16))
    }

    var checkpoint: Checkpoint {
        let zeros = [UInt8](repeating: 0, count: 32)
        return Checkpoint(
            pairwiseID: PairwiseID(attestationKey: attestationKey.name).bytes, incarnation: 1,
            era: 2, counter: 4, previous: zeros, size: 1, root: record.node.hash,
            sums: record.node.sums, receiptHash: zeros, replyHash: zeros, clock: clock,
            grade: .unapprovedBoot)
    }
}
