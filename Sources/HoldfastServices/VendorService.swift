public import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Synchronization

/// The vendor's side: enrolls, appraises, approves and issues, over a store.
///
/// Time and randomness are passed in; every operation is one transaction.
public struct VendorService: Sendable {
    let keys: VendorKeys
    let store: any VendorStore
    let trust: TrustStatement
    /// The statement as devices get it.
    let trustToken: PASETOToken
    let random: RandomSource
    /// UTC seconds.
    let now: @Sendable () -> UInt64
    private let statements: VerifiedStatements
    let known: KnownPolicies
    let ring: KeyRing

    /// How long the first nonces may be answered, before terms say so: 400 days.
    static let firstNonceLifetime: UInt64 = 400 * 86_400

    /// - Parameter now: UTC seconds on the server's clock.
    public init(
        keys: VendorKeys, store: any VendorStore, random: RandomSource,
        now: @escaping @Sendable () -> UInt64
    ) throws {
        self.keys = keys
        self.store = store
        self.random = random
        self.now = now
        statements = VerifiedStatements()
        known = KnownPolicies()
        ring = KeyRing()
        trustToken = try keys.trustToken()
        trust = try TrustStatement(verifying: trustToken, replacing: nil)
    }

    private init(_ other: VendorService, token: PASETOToken) throws {
        keys = other.keys
        store = other.store
        random = other.random
        now = other.now
        statements = other.statements
        known = other.known
        ring = other.ring
        trustToken = token
        trust = try TrustStatement(verifying: token, replacing: other.trust)
    }

    /// The same service, with the trust statement as its file has it now.
    ///
    /// One call goes by one statement from its beginning to its end; the next one by a newer one, when a
    /// key was exchanged meanwhile.
    package func refreshed() throws -> VendorService {
        let token = try keys.trustToken()
        guard token != trustToken else { return self }
        return try VendorService(self, token: token)
    }

    /// Opens what a device sealed to this server.
    ///
    /// - Returns: with the key that opened it, to which the content must be bound.
    /// - Throws: ``ServiceError/sealingKeyUnknown`` for a key that the trust statement does not list.
    func open(_ envelope: [UInt8]) throws -> (plain: [UInt8], key: SealingPublicKey) {
        let sealed = try SealedEnvelope(decoding: envelope)
        let key = trust.sealingKeys.first { SealedEnvelope.keyID(of: $0) == sealed.keyID }
        guard let key else { throw ServiceError.sealingKeyUnknown }
        return (try ring.withSealingKey(keys, key) { try sealed.open(with: $0) }, key)
    }

    /// The keyed hash under which an endorsement key is remembered.
    ///
    /// - Parameter digest: SHA-256 of the key's public area.
    func endorsementHash(_ digest: [UInt8]) throws -> [UInt8] {
        try framedKeyedHash(.template, key: keys.recordKey(), Array("ek".utf8), digest)
    }

    /// Draws four nonces and stores them.
    func freshNonces(
        for enrollment: Int64, lifetime: UInt64, _ transaction: any VendorStoreWriting
    ) throws -> (joined: [UInt8], expiresAt: UInt64) {
        var ordinal = try transaction.lastOrdinal(of: enrollment)
        let expiresAt = now() + lifetime
        var joined: [UInt8] = []
        for _ in 0..<EnrollmentResponse.nonceCount {
            ordinal += 1
            let nonce = random.bytes(EnrollmentResponse.nonceSize)
            try transaction.insert(
                NonceRecord(
                    nonce: nonce, enrollment: enrollment, ordinal: ordinal, expiresAt: expiresAt,
                    usedBy: nil))
            joined += nonce
        }
        return (joined, expiresAt)
    }

    /// The verified statement of a record; it is verified once and then remembered.
    func statement(_ record: EnrollmentRecord) throws -> DeviceStatement {
        if let known = statements.known(record) { return known }
        let statement = try DeviceStatement(
            verifying: PASETOToken(parsing: record.statement), issuers: trust.everyIssuerKey,
            attestationKey: record.attestationKey.name)
        statements.remember(statement, of: record)
        return statement
    }

    /// An attestation result has some 2,000 characters.
    private static let maximumAuditDetail = 8000

    func audit(
        _ action: String, _ subject: some CustomStringConvertible, _ detail: String,
        _ transaction: any VendorStoreWriting
    ) throws {
        try transaction.insert(entry(action, subject, detail))
    }

    /// An entry for what anybody can bring about: only so many of an action are kept.
    ///
    /// And only a few about one device, or they would hide what else happened to it.
    func boundedAudit(
        _ action: String, _ subject: some CustomStringConvertible, _ detail: String,
        keeping count: Int = 1000, _ transaction: any VendorStoreWriting
    ) throws {
        try transaction.insert(entry(action, subject, detail), keeping: count, ofSubject: 4)
    }

    private func entry(
        _ action: String, _ subject: some CustomStringConvertible, _ detail: String
    ) -> AuditRecord {
        AuditRecord(
            at: now(), action: action, subject: subject.description,
            detail: String(detail.prefix(Self.maximumAuditDetail)))
    }
}

extension EnrollmentRecord {
    /// `dev_…`, for people.
    public var device: String { "dev_" + Base32.encode([UInt8](pairwiseID.prefix(20))) }

    /// Whether something may still be issued for it.
    var isLive: Bool { state == .pending || state == .approved }
}

/// Device statements that were verified, so that they are not for each bundle again.
private final class VerifiedStatements: Sendable {
    private struct Known {
        let text: String
        let statement: DeviceStatement
    }

    private let known = Mutex<[Int64: Known]>([:])
    private static let most = 10_000

    /// The statement of a record, unless its text is another one by now.
    func known(_ record: EnrollmentRecord) -> DeviceStatement? {
        known.withLock { known in
            guard let found = known[record.id], found.text == record.statement else { return nil }
            return found.statement
        }
    }

    func remember(_ statement: DeviceStatement, of record: EnrollmentRecord) {
        known.withLock { known in
            if known.count >= Self.most { known.removeAll() }
            known[record.id] = Known(text: record.statement, statement: statement)
        }
    }
}

/// The keys that every bundle needs, read from their files once.
///
/// They stay in guarded memory for as long as the service lives.
final class KeyRing: Sendable {
    private let sealing = Places<SealingPrivateKey>()
    private let issuing = Places<Ed25519PrivateKey>()

    /// A key that is not copied, in a place that is shared.
    private final class Held<Key: ~Copyable & Sendable>: Sendable {
        let key: Key
        init(_ key: consuming Key) { self.key = key }
    }

    /// Where keys are once they were read, by their public halves.
    private final class Places<Key: ~Copyable & Sendable>: Sendable {
        private let kept = Mutex<[[UInt8]: Held<Key>]>([:])

        func held(_ name: [UInt8], _ read: () throws -> Key) throws -> Held<Key> {
            try kept.withLock { kept in
                if let held = kept[name] { return held }
                let made = Held(try read())
                // Few are in use at a time: the others were retired since.
                if kept.count >= TrustStatement.maximumKeys { kept.removeAll() }
                kept[name] = made
                return made
            }
        }
    }

    /// Lends a key that opens what devices seal.
    func withSealingKey<R>(
        _ keys: VendorKeys, _ key: SealingPublicKey,
        _ body: (borrowing SealingPrivateKey) throws -> R
    ) throws -> R {
        try body(sealing.held(key.bytes) { try keys.sealingKey(of: key) }.key)
    }

    /// Lends the key that signs: the one that a statement names, whatever the file says by now.
    func withIssuerKey<R>(
        _ keys: VendorKeys, _ trust: TrustStatement,
        _ body: (borrowing Ed25519PrivateKey) throws -> R
    ) throws -> R {
        let key = trust.issuerKeys[0]
        return try body(issuing.held(key.bytes) { try keys.issuerKey(of: key) }.key)
    }
}
