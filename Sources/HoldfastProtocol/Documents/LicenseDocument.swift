public import HoldfastCrypto
public import HoldfastTPMWire

/// A license with its terms and one lease, every part verified and each about the others.
///
/// It is what a device keeps of a license, and what a reply carries for each.
///
/// docs/spec/formats.md, "License document".
public struct LicenseDocument: Sendable, Hashable {
    public let license: License
    public let terms: Terms
    public let statement: LeaseStatement
    /// Encrypted; the key is in the TPM's hands.
    public let sealedLease: PASETOToken
    public let importBlob: ImportBlob
    /// The sections as they were received.
    private let parts: [SectionType: [UInt8]]

    /// Whom a license must be from and for.
    public struct Context: Sendable, Hashable {
        /// From the trust statement.
        public var issuers: [Ed25519PublicKey]
        /// Likewise: what they signed was the vendor's word, and counts no more.
        public var retiredIssuers: [Ed25519PublicKey]
        public var approvalKey: ECPublicKey
        /// Of this device.
        public var attestationKey: TPMName
        public var incarnation: UInt32
        /// From the device statement; written.
        public var epochCounter: NVPublicArea

        public init(trust: TrustStatement, device: DeviceStatement) {
            issuers = trust.issuerKeys
            retiredIssuers = trust.retiredIssuerKeys
            approvalKey = trust.approvalKey
            attestationKey = device.attestationKey.name
            incarnation = device.incarnation
            epochCounter = device.epochCounter
        }

        /// Goes by another trust statement of the same vendor.
        public mutating func count(by trust: TrustStatement) {
            issuers = trust.issuerKeys
            retiredIssuers = trust.retiredIssuerKeys
            approvalKey = trust.approvalKey
        }

        /// Goes by a newer one as well, of which the device has taken in a part.
        public mutating func alsoCount(by trust: TrustStatement) {
            issuers += trust.issuerKeys.filter { !issuers.contains($0) }
            retiredIssuers += trust.retiredIssuerKeys.filter {
                !issuers.contains($0) && !retiredIssuers.contains($0)
            }
        }

        /// The same, with what retired keys signed: to tell it from what was changed, and for what says
        /// nothing of rights.
        public var withRetired: Context {
            var all = self
            all.issuers += retiredIssuers
            return all
        }
    }

    private static let types: Set<SectionType> = [
        .terms, .license, .leaseStatement, .sealedLease, .importBlob,
    ]

    /// Puts the sections of a new lease together; ``init(decoding:in:)`` says whether they fit.
    public static func parts(
        terms: PASETOToken, license: PASETOToken, statement: PASETOToken, sealedLease: PASETOToken,
        importBlob: ImportBlob
    ) -> [(type: SectionType, bytes: [UInt8])] {
        [
            (.terms, IssuedToken.section(terms)), (.license, IssuedToken.section(license)),
            (.leaseStatement, IssuedToken.section(statement)),
            (.sealedLease, section(sealedLease)), (.importBlob, section(importBlob)),
        ]
    }

    /// The section of an encrypted token, whose hash the statement has.
    public static func section(_ sealedLease: PASETOToken) -> [UInt8] {
        IssuedToken.section(sealedLease)
    }

    /// The section of terms, whose hash the statement has.
    public static func section(terms: PASETOToken) -> [UInt8] { IssuedToken.section(terms) }

    /// The section of an import blob, whose hash the statement has.
    public static func section(_ blob: ImportBlob) -> [UInt8] {
        var writer = WireWriter(capacity: 512)
        writer.sized(blob.publicArea)
        writer.sized(blob.duplicate)
        writer.sized(blob.encryptedSeed)
        return writer.bytes
    }

    private static func blob(_ bytes: [UInt8]) throws(DocumentError) -> ImportBlob {
        var reader = WireReader(bytes)
        do throws(WireError) {
            let blob = ImportBlob(
                publicArea: try reader.sized("publicArea", maximum: 1024),
                duplicate: try reader.sized("duplicate", maximum: 1024),
                encryptedSeed: try reader.sized("seed", maximum: 512))
            try reader.finish()
            return blob
        } catch {
            throw .malformed(.importBlob)
        }
    }

    /// The document as a device keeps it.
    public func encoded() throws(DocumentError) -> [UInt8] {
        try Container(.license, parts.map { ($0.key, $0.value) }).encoded
    }

    /// The tokens of terms, license and statement, as they were received.
    public func signedParts() throws(DocumentError) -> (
        terms: PASETOToken, license: PASETOToken, statement: PASETOToken
    ) {
        func token(_ type: SectionType) throws(DocumentError) -> PASETOToken {
            try IssuedToken.token(section: parts[type] ?? [], type)
        }
        return (try token(.terms), try token(.license), try token(.leaseStatement))
    }

    /// Reads what a device kept; everything is verified again.
    public init(decoding bytes: [UInt8], in context: Context) throws {
        let container = try Container(decoding: bytes)
        try container.demand(.license, sections: Self.types)
        let found = try Self.documents(in: container, context)
        guard found.count == 1, container.contents.count == Self.types.count else {
            throw DocumentError.malformed(.license)
        }
        self = found[0]
    }

    /// Every license of a container that has one lease for each.
    ///
    /// - Parameter others: sections of terms that are there for something else.
    /// - Throws: ``DocumentError``, ``TokenError`` or ``SealedObjectError``; also when a part
    ///   belongs to no license here.
    static func documents(
        in container: Container, beside others: [[UInt8]] = [], _ context: Context
    ) throws -> [LicenseDocument] {
        var left = container.contents.filter { section in
            types.contains(section.type)
                && !(section.type == .terms && others.contains(section.bytes))
        }.map { ($0.type, $0.bytes) }
        /// A section is found by its hash; terms may serve several licenses.
        func take(_ type: SectionType, _ hash: [UInt8]) throws(DocumentError) -> [UInt8] {
            let found = container.all(type).first { HashAlgorithm.sha256.digest($0) == hash }
            guard let found else { throw .missing(type) }
            left.removeAll { $0.0 == type && $0.1 == found }
            return found
        }
        let licenses = try container.all(.license).map { section in
            (
                section,
                try License(
                    verifying: IssuedToken.token(section: section, .license),
                    issuers: context.issuers, attestationKey: context.attestationKey)
            )
        }
        let documents = try container.all(.leaseStatement).map { section in
            let statement = try LeaseStatement(
                verifying: IssuedToken.token(section: section, .leaseStatement),
                issuers: context.issuers, attestationKey: context.attestationKey)
            guard let license = licenses.first(where: { $0.1.id == statement.license }) else {
                throw DocumentError.missing(.license)
            }
            left.removeAll {
                ($0.0 == .leaseStatement && $0.1 == section)
                    || ($0.0 == .license && $0.1 == license.0)
            }
            return try LicenseDocument(
                license.1, statement,
                [
                    .license: license.0, .leaseStatement: section,
                    .terms: take(.terms, statement.termsHash),
                    .sealedLease: take(.sealedLease, statement.sealedLeaseHash),
                    .importBlob: take(.importBlob, statement.importBlobHash),
                ], context)
        }
        guard Set(documents.map(\.license.id)).count == documents.count else {
            throw DocumentError.orderWrong(.leaseStatement)
        }
        if let orphan = left.first { throw DocumentError.malformed(orphan.0) }
        return documents
    }

    private init(
        _ license: License, _ statement: LeaseStatement, _ parts: [SectionType: [UInt8]],
        _ context: Context
    ) throws {
        self.license = license
        self.statement = statement
        self.parts = parts
        terms = try Terms(
            verifying: IssuedToken.token(section: parts[.terms] ?? [], .terms),
            issuers: context.issuers)
        guard terms.id == license.terms, terms.version == license.termsVersion,
            terms.licenseClass == license.licenseClass
        else { throw DocumentError.malformed(.terms) }
        sealedLease = try IssuedToken.token(
            section: parts[.sealedLease] ?? [], .sealedLease, purpose: .v4Local)
        importBlob = try Self.blob(parts[.importBlob] ?? [])
        guard statement.incarnation == context.incarnation,
            statement.policy.epochCounter == context.epochCounter
        else { throw TokenError.otherDevice }
        guard statement.policy.approvalKey == KeyTemplate.approvalKey(context.approvalKey).name,
            case .lease(let product) = statement.reference.role, product == license.product
        else { throw DocumentError.malformed(.leaseStatement) }
        // Whoever knows the lease parent can wrap an object of his own to it: the digest is
        // recomputed before anything is loaded.
        try statement.policy.demand(ofSealedObject: importBlob.publicArea)
        guard TPMName(hash: .sha256, publicArea: importBlob.publicArea) == statement.objectName
        else { throw DocumentError.malformed(.importBlob) }
    }
}
