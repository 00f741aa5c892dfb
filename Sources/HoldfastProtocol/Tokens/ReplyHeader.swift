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
    /// The evidence is older than what was appraised last; it changes nothing.
    case stale
    /// The evidence is refused; the operator of the server sees why.
    case refused
}

/// The signed head of a reply: which request it answers, when, and what belongs to it.
///
/// docs/spec/formats.md, "Reply".
public struct ReplyHeader: Sendable, Hashable {
    /// SHA-256 of the plaintext of the request.
    public var answers: [UInt8]
    public var outcome: ReplyOutcome
    /// Rises with every reply to one enrollment; a lower one is never applied after a higher one.
    public var sequence: UInt64
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
    /// Every other section of the reply: type and SHA-256.
    public var sections: [Section]

    /// A section by its hash.
    public struct Section: Sendable, Hashable {
        public var type: UInt16
        public var hash: [UInt8]
    }

    /// The most sections of a reply.
    public static let maximumSections = 512

    /// Describes the sections of a reply that is to be signed.
    public init(
        answers: [UInt8], outcome: ReplyOutcome, sequence: UInt64, incarnation: UInt32,
        serverAt: UInt64, noncesExpireAt: UInt64, epochTarget: UInt64? = nil,
        revoked: [LicenseID] = [], contents: Container
    ) {
        self.epochTarget = epochTarget
        self.revoked = revoked
        self.answers = answers
        self.outcome = outcome
        self.sequence = sequence
        self.incarnation = incarnation
        self.serverAt = serverAt
        self.noncesExpireAt = noncesExpireAt
        sections = Self.sections(of: contents)
    }

    /// The list that a header must have for a document.
    static func sections(of container: Container) -> [Section] {
        container.contents.filter { $0.type != .replyHeader }.map { section in
            Section(
                type: section.type.rawValue, hash: HashAlgorithm.sha256.digest(section.bytes))
        }
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
        sequence = try claims.number("sequence", in: 1...UInt64(1) << 53)
        self.incarnation = UInt32(try claims.number("incarnation", in: 1...UInt64(UInt32.max)))
        guard self.incarnation == incarnation else { throw .otherDevice }
        serverAt = try claims.number("serverAt", in: 1...UInt64(1) << 53)
        noncesExpireAt = try claims.number("noncesExpireAt", in: 1...UInt64(1) << 53)
        epochTarget = try claims.optionalNumber("epochTarget", in: 1...UInt64.max)
        revoked = try claims.list("revoked", counts: 0...Self.maximumSections) {
            (value) throws(TokenError) in
            var one = ClaimsReader(single: value, name: "revoked")
            return LicenseID(unchecked: try one.bytes("revoked", count: 16))
        }
        sections = try claims.list("sections", counts: 0...Self.maximumSections) {
            (value) throws(TokenError) in
            var one = try ClaimsReader(object: value, of: "sections")
            let read = Section(
                type: UInt16(try one.number("type", in: 0...UInt64(UInt16.max))),
                hash: try one.bytes("hash", count: 32))
            try one.finish()
            return read
        }
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        var members: [String: CanonicalJSON] = [
            "kind": .string(TokenKind.reply.rawValue),
            "revoked": .array(revoked.map { .string(Base64URL.encode($0.bytes)) }),
            "answers": .string(Base64URL.encode(answers)), "outcome": .string(outcome.rawValue),
            "sequence": .number(sequence), "incarnation": .number(UInt64(incarnation)),
            "serverAt": .number(serverAt), "noncesExpireAt": .number(noncesExpireAt),
            "sections": .array(
                sections.map { section in
                    .object([
                        "type": .number(UInt64(section.type)),
                        "hash": .string(Base64URL.encode(section.hash)),
                    ])
                }),
        ]
        if let epochTarget { members["epochTarget"] = .number(epochTarget) }
        return .object(members)
    }
}
