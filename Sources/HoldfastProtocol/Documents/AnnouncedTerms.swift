public import HoldfastCrypto

/// Terms that are to come for a license, with what says so; both verified, each about the other.
///
/// docs/spec/formats.md, "Terms migration".
public struct AnnouncedTerms: Sendable, Hashable {
    public let migration: TermsMigration
    public let terms: Terms

    /// The sections for a reply; ``all(in:_:)`` says whether they fit.
    public static func parts(
        migration: PASETOToken, terms: PASETOToken
    ) -> [(type: SectionType, bytes: [UInt8])] {
        [(.termsMigration, IssuedToken.section(migration)), (.terms, IssuedToken.section(terms))]
    }

    /// What a container announces, with the sections of terms that this takes.
    ///
    /// - Throws: ``DocumentError`` or ``TokenError``; also when the terms are not there, or are not
    ///   those that the migration names.
    static func all(
        in container: Container, _ context: LicenseDocument.Context
    ) throws -> (announced: [AnnouncedTerms], sections: [[UInt8]]) {
        var sections: [[UInt8]] = []
        let announced = try container.all(.termsMigration).map { section in
            let migration = try TermsMigration(
                verifying: IssuedToken.token(section: section, .termsMigration),
                issuers: context.issuers, attestationKey: context.attestationKey)
            let found = container.all(.terms).first {
                HashAlgorithm.sha256.digest($0) == migration.termsHash
            }
            guard let found else { throw DocumentError.missing(.terms) }
            sections.append(found)
            let terms = try Terms(
                verifying: IssuedToken.token(section: found, .terms), issuers: context.issuers)
            guard terms.id == migration.terms, terms.version == migration.to else {
                throw DocumentError.malformed(.terms)
            }
            return AnnouncedTerms(migration: migration, terms: terms)
        }
        return (announced, sections)
    }

    /// What a device keeps of a reply: what it announces, and nothing else.
    ///
    /// - Returns: `nil` when nothing is announced.
    public static func kept(
        of reply: [UInt8], in context: LicenseDocument.Context
    ) throws -> [UInt8]? {
        let container = try Container(decoding: reply)
        let sections = Set(try all(in: container, context).sections)
        guard !sections.isEmpty else { return nil }
        return try Container(
            .migrations,
            container.contents.filter {
                $0.type == .termsMigration || ($0.type == .terms && sections.contains($0.bytes))
            }.map { ($0.type, $0.bytes) }
        ).encoded
    }

    /// Reads what a device kept; everything is verified again.
    public static func kept(
        decoding bytes: [UInt8], in context: LicenseDocument.Context
    ) throws -> [AnnouncedTerms] {
        let container = try Container(decoding: bytes)
        try container.demand(.migrations, sections: [.termsMigration, .terms])
        let (announced, sections) = try all(in: container, context)
        guard !announced.isEmpty else { throw DocumentError.missing(.termsMigration) }
        guard Set(container.all(.terms)) == Set(sections) else {
            throw DocumentError.malformed(.terms)
        }
        return announced
    }
}
