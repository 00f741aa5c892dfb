public import HoldfastCrypto
public import HoldfastTPMWire

/// What came of a request, in a word that helps no forger.
public enum ReplyOutcome: String, Sendable, Hashable, CaseIterable {
    /// The evidence passed; what was to be issued is in the reply.
    case accepted
    /// The evidence is good, and an operator has to admit the device.
    case pendingDevice = "pending-device"
    /// The evidence is good, and no approval covers the boot state.
    case pendingBootState = "pending-boot-state"
    /// The evidence is good, and what it shows does not meet the vendor's policy.
    case pendingPolicy = "pending-policy"
    /// The evidence is older than what was appraised last; it changes nothing.
    case stale
    /// The evidence is refused; the operator of the server sees why.
    case refused
}

/// Where a reply stands among those to one enrollment.
///
/// A server that was restored from a backup counts on from an older sequence: it takes a new
/// incarnation, so that what it says now comes after everything that it forgot.
///
/// docs/spec/formats.md, "Reply header".
public struct ReplyPosition: Sendable, Hashable, Comparable {
    /// The server's incarnation, from 1; one that was restored has a higher one.
    public var server: UInt64
    /// Rises with every reply of that incarnation.
    public var sequence: UInt64

    public init(server: UInt64, sequence: UInt64) {
        self.server = server
        self.sequence = sequence
    }

    /// By the server's incarnation, then by sequence.
    public static func < (one: Self, other: Self) -> Bool {
        (one.server, one.sequence) < (other.server, other.sequence)
    }
}

/// The signed head of a reply: which request it answers, when, and what belongs to it.
///
/// docs/spec/formats.md, "Reply".
public struct ReplyHeader: Sendable, Hashable {
    /// SHA-256 of the plaintext of the request.
    public var answers: [UInt8]
    public var outcome: ReplyOutcome
    /// Rises with every reply to one enrollment; a lower one is never applied after a higher one.
    public var position: ReplyPosition
    public var incarnation: UInt32
    /// UTC seconds on the server's clock.
    public var serverAt: UInt64
    /// UTC seconds until which the nonces may be answered.
    public var noncesExpireAt: UInt64
    /// The value that the epoch counter must reach, so that leases of licenses that ended do not open
    /// any more; absent when there is nothing to give up.
    public var epochTarget: UInt64?
    /// Licenses of the enrollment that were revoked.
    public var revoked: [LicenseID]
    /// What the next evidence has to show; absent when no policy is in force for the device.
    public var measurements: MeasurementDemand?
    /// SHA-256 of the reply without this header.
    public var contentsHash: [UInt8]

    /// The most licenses that are told as revoked.
    public static let maximumRevoked = 512

    /// Describes a reply that is to be signed.
    ///
    /// - Parameter contents: everything but the header.
    public init(
        answers: [UInt8], outcome: ReplyOutcome, position: ReplyPosition, incarnation: UInt32,
        serverAt: UInt64, noncesExpireAt: UInt64, epochTarget: UInt64? = nil,
        revoked: [LicenseID] = [], measurements: MeasurementDemand? = nil, contents: Container
    ) {
        self.measurements = measurements
        self.epochTarget = epochTarget
        self.revoked = revoked
        self.answers = answers
        self.outcome = outcome
        self.position = position
        self.incarnation = incarnation
        self.serverAt = serverAt
        self.noncesExpireAt = noncesExpireAt
        contentsHash = Self.hash(of: contents)
    }

    /// What the header of a document must name.
    static func hash(of container: Container) -> [UInt8] {
        HashAlgorithm.sha256.digest(container.encoded(without: [.replyHeader]))
    }

    /// Signs the header for an enrollment.
    public func signed(
        for attestationKey: TPMName, with key: borrowing Ed25519PrivateKey
    ) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(
            claims, for: .init(incarnation: incarnation, of: attestationKey), with: key)
        let read = try ReplyHeader(
            verifying: token, issuers: [key.publicKey], incarnation: incarnation,
            attestationKey: attestationKey)
        guard read == self else { throw .notCanonical }
        return token
    }

    /// Verifies a header for an enrollment of a device.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey], incarnation: UInt32,
        attestationKey: TPMName
    ) throws(TokenError) {
        let verified = try IssuedToken.verify(
            token, for: .init(incarnation: incarnation, of: attestationKey), issuers: issuers)
        var claims = try ClaimsReader(verified.payload, kind: .reply)
        answers = try claims.bytes("answers", count: 32)
        outcome = try claims.choice("outcome")
        position = ReplyPosition(
            server: try claims.number("server", in: 1...UInt64(1) << 53),
            sequence: try claims.number("sequence", in: 1...UInt64(1) << 53))
        self.incarnation = UInt32(try claims.number("incarnation", in: 1...UInt64(UInt32.max)))
        guard self.incarnation == incarnation else { throw .otherDevice }
        serverAt = try claims.number("serverAt", in: 1...UInt64(1) << 53)
        noncesExpireAt = try claims.number("noncesExpireAt", in: 1...UInt64(1) << 53)
        epochTarget = try claims.optionalNumber("epochTarget", in: 1...UInt64.max)
        revoked = try claims.list("revoked", counts: 0...Self.maximumRevoked) {
            (value) throws(TokenError) in
            var one = ClaimsReader(single: value, name: "revoked")
            return LicenseID(unchecked: try one.bytes("revoked", count: 16))
        }
        measurements = try claims.optionalReader("measurements").map {
            (claims) throws(TokenError) in try MeasurementDemand(claims)
        }
        contentsHash = try claims.bytes("contents", count: 32)
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        var members: [String: CanonicalJSON] = [
            "kind": .string(TokenKind.reply.rawValue),
            "revoked": .array(revoked.map { .string(Base64URL.encode($0.bytes)) }),
            "answers": .string(Base64URL.encode(answers)), "outcome": .string(outcome.rawValue),
            "server": .number(position.server), "sequence": .number(position.sequence),
            "incarnation": .number(UInt64(incarnation)),
            "serverAt": .number(serverAt), "noncesExpireAt": .number(noncesExpireAt),
            "contents": .string(Base64URL.encode(contentsHash)),
        ]
        if let epochTarget { members["epochTarget"] = .number(epochTarget) }
        if let measurements { members["measurements"] = measurements.claims }
        return .object(members)
    }
}
