public import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

/// The vendor's side: enrolls, appraises, approves and issues, over a store.
///
/// Time and randomness are passed in; every operation is one transaction.
public struct VendorService: Sendable {
    let keys: VendorKeys
    let store: any VendorStore
    let trust: TrustStatement
    let random: RandomSource
    /// UTC seconds.
    let now: @Sendable () -> UInt64

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
        trust = try keys.trust()
    }

    /// Opens what a device sealed to this server.
    func open(_ envelope: [UInt8]) throws -> [UInt8] {
        try SealedEnvelope(decoding: envelope).open(with: keys.sealingKey())
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

    func statement(_ record: EnrollmentRecord) throws -> DeviceStatement {
        try DeviceStatement(
            verifying: PASETOToken(parsing: record.statement), issuers: trust.issuerKeys,
            attestationKey: record.attestationKey.name)
    }

    func audit(
        _ action: String, _ subject: some CustomStringConvertible, _ detail: String,
        _ transaction: any VendorStoreWriting
    ) throws {
        try transaction.insert(
            AuditRecord(
                at: now(), action: action, subject: subject.description,
                detail: String(detail.prefix(2000))))
    }
}

extension EnrollmentRecord {
    /// `dev_…`, for people.
    public var device: String { "dev_" + Base32.encode([UInt8](pairwiseID.prefix(20))) }

    /// Whether something may still be issued for it.
    var isLive: Bool { state == .pending || state == .approved }
}
