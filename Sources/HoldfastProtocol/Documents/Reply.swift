public import HoldfastCrypto

/// What a server answers to evidence: a signed head, fresh nonces, and what was issued.
///
/// It is not encrypted: whoever carries it can read it, and change nothing.
///
/// docs/spec/formats.md, "Reply".
public struct Reply: Sendable, Hashable {
    public let header: ReplyHeader
    /// Four of 32 bytes, in the order in which they are used.
    public let nonces: [[UInt8]]
    public let documents: [LicenseDocument]
    public let approvals: [ApprovalDocument]
    /// Of the checkpoint in the evidence, when it was settled.
    public let receipt: Receipt?
    /// Terms that are to come for licenses of the device.
    public let announced: [AnnouncedTerms]
    /// A newer trust statement than the one that the reply was read with, and the token.
    public let trust: NewerTrust?

    private static let sections: Set<SectionType> = [
        .replyHeader, .nonces, .terms, .license, .leaseStatement, .sealedLease, .importBlob,
        .approval, .receipt, .termsMigration, .trustStatement,
    ]

    /// Makes a reply.
    ///
    /// - Parameters:
    ///   - contents: every section but the header and the nonces.
    ///   - nonces: four of 32 bytes, one after the other.
    ///   - header: makes the header for what is in the reply.
    public static func encoded(
        contents: [(type: SectionType, bytes: [UInt8])], nonces: [UInt8],
        header: (Container) throws -> PASETOToken
    ) throws -> [UInt8] {
        // Terms serve several licenses and stand once.
        var distinct: [(type: SectionType, bytes: [UInt8])] = [(.nonces, nonces)]
        for part in contents
        where !distinct.contains(where: { $0.type == part.type && $0.bytes == part.bytes }) {
            distinct.append(part)
        }
        let token = try header(Container(.reply, distinct))
        return try Container(
            .reply, distinct + [(.replyHeader, IssuedToken.section(token))]
        ).encoded
    }

    /// The token of the header as it was received; ``init(decoding:in:)`` verifies it.
    public static func header(in bytes: [UInt8]) throws(DocumentError) -> PASETOToken {
        try IssuedToken.token(
            section: Container(decoding: bytes).required(.replyHeader), .replyHeader)
    }

    /// What a checkpoint says of a reply's header and of a receipt: SHA-256 of the section.
    public static func hash(ofSection token: PASETOToken) -> [UInt8] {
        HashAlgorithm.sha256.digest(IssuedToken.section(token))
    }

    /// Reads and verifies a reply as a whole.
    ///
    /// A trust statement in it that is newer than the one in force says which keys sign the rest.
    ///
    /// - Parameter present: the statement in force; without it a reply may bring none.
    public init(
        decoding bytes: [UInt8], in context: LicenseDocument.Context,
        replacing present: TrustStatement? = nil
    ) throws {
        let container = try Container(decoding: bytes)
        try container.demand(.reply, sections: Self.sections)
        trust = try container.newerTrust(than: present)
        var context = context
        if let newer = trust?.statement { context.count(by: newer) }
        header = try ReplyHeader(
            verifying: IssuedToken.token(
                section: container.required(.replyHeader), .replyHeader),
            issuers: context.issuers, incarnation: context.incarnation,
            attestationKey: context.attestationKey)
        guard header.contentsHash == ReplyHeader.hash(of: container) else {
            throw DocumentError.malformed(.replyHeader)
        }
        let joined = try container.fixed(
            .nonces, EnrollmentResponse.nonceSize * EnrollmentResponse.nonceCount)
        nonces = EnrollmentResponse.nonces(joined)
        let (announced, sections) = try AnnouncedTerms.all(in: container, context)
        self.announced = announced
        documents = try LicenseDocument.documents(in: container, beside: sections, context)
        approvals = try container.all(.approval).map { bytes in
            try ApprovalDocument(decoding: bytes, trusting: context.approvalKey)
        }
        receipt = try container[.receipt].map { section in
            try Receipt(
                verifying: IssuedToken.token(section: section, .receipt),
                issuers: context.issuers, incarnation: context.incarnation,
                attestationKey: context.attestationKey)
        }
    }

    /// A trust statement as a section of a reply.
    public static func parts(_ trust: PASETOToken) -> [(type: SectionType, bytes: [UInt8])] {
        [(.trustStatement, IssuedToken.section(trust))]
    }

    /// A token as a section of a document.
    public static func section(token: PASETOToken) -> [UInt8] { IssuedToken.section(token) }

    /// The token of the receipt as it was received; ``init(decoding:in:)`` verifies it.
    public static func receipt(in bytes: [UInt8]) throws(DocumentError) -> PASETOToken? {
        guard let section = try Container(decoding: bytes)[.receipt] else { return nil }
        return try IssuedToken.token(section: section, .receipt)
    }
}
