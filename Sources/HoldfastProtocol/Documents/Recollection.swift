public import HoldfastCrypto
import HoldfastTPMWire

/// What a device kept of what its vendor signed, for a server that was restored from a backup.
///
/// The devices are the server's backup: everything in here but the request is signed by the vendor,
/// and the device statement names the request by its hash. So the server believes its own
/// signatures, and nothing else.
///
/// docs/spec/formats.md, "Recollection".
public struct Recollection: Sendable, Hashable {
    /// The device statement.
    public var statement: PASETOToken
    /// The enrollment request that it answers, as it was written.
    public var request: [UInt8]
    /// The head of the last reply that was applied, if one was.
    public var replyHeader: PASETOToken?
    /// The newest receipt of each era, ``maximumReceipts`` at most.
    public var receipts: [PASETOToken]
    /// Licenses, with their terms and the statement of the newest lease of each.
    public var terms: [PASETOToken]
    public var licenses: [PASETOToken]
    public var leases: [PASETOToken]
    /// Approvals of boot states, as whole documents.
    public var approvals: [[UInt8]]

    /// The code with which a server asks for a recollection.
    public static let recallCode = "RECALL"
    /// The most receipts; the newest eras count.
    public static let maximumReceipts = 64
    /// The most licenses; also the most approvals.
    public static let maximumLicenses = 64

    private static let sections: Set<SectionType> = [
        .deviceStatement, .enrollmentRequest, .replyHeader, .keptReceipt, .terms, .license,
        .leaseStatement, .approval,
    ]

    public init(
        statement: PASETOToken, request: [UInt8], replyHeader: PASETOToken?,
        receipts: [PASETOToken], terms: [PASETOToken], licenses: [PASETOToken],
        leases: [PASETOToken], approvals: [[UInt8]]
    ) {
        self.statement = statement
        self.request = request
        self.replyHeader = replyHeader
        self.receipts = receipts
        self.terms = terms
        self.licenses = licenses
        self.leases = leases
        self.approvals = approvals
    }

    /// The document.
    func encoded() throws(DocumentError) -> [UInt8] {
        var parts: [(type: SectionType, bytes: [UInt8])] = [
            (.deviceStatement, IssuedToken.section(statement)), (.enrollmentRequest, request),
        ]
        if let replyHeader { parts.append((.replyHeader, IssuedToken.section(replyHeader))) }
        parts += receipts.map { (.keptReceipt, IssuedToken.section($0)) }
        // Terms serve several licenses and stand once.
        parts += Set(terms).map { (.terms, IssuedToken.section($0)) }
        parts += licenses.map { (.license, IssuedToken.section($0)) }
        parts += leases.map { (.leaseStatement, IssuedToken.section($0)) }
        return try Container(.recollection, parts + approvals.map { (.approval, $0) }).encoded
    }

    /// Reads a recollection; no signature is checked yet.
    init(decoding bytes: [UInt8]) throws(DocumentError) {
        let container = try Container(decoding: bytes)
        try container.demand(.recollection, sections: Self.sections)
        func tokens(
            _ type: SectionType, most: Int
        ) throws(DocumentError) -> [PASETOToken] {
            let sections = container.all(type)
            guard sections.count <= most else { throw .tooLong }
            return try sections.map { (section) throws(DocumentError) in
                try IssuedToken.token(section: section, type)
            }
        }
        statement = try IssuedToken.token(
            section: container.required(.deviceStatement), .deviceStatement)
        request = try container.required(.enrollmentRequest)
        replyHeader = try tokens(.replyHeader, most: 1).first
        receipts = try tokens(.keptReceipt, most: Self.maximumReceipts)
        terms = try tokens(.terms, most: Self.maximumLicenses)
        licenses = try tokens(.license, most: Self.maximumLicenses)
        leases = try tokens(.leaseStatement, most: Self.maximumLicenses)
        approvals = container.all(.approval)
        guard approvals.count <= Self.maximumLicenses else { throw .tooLong }
    }
}

/// A recollection of which every part is the vendor's own word about one enrollment.
public struct VerifiedRecollection: Sendable {
    public let statement: DeviceStatement
    public let statementToken: PASETOToken
    /// The request that the statement names by its hash.
    public let request: EnrollmentRequest
    public let replyHeader: ReplyHeader?
    /// ``Reply/hash(ofSection:)`` of it.
    public let replyHash: [UInt8]?
    /// By sequence, with the tokens.
    public let receipts: [(receipt: Receipt, token: PASETOToken)]
    public let leases: [Lease]
    public let approvals: [ApprovalDocument]
    /// How many documents are left out, being signed by keys that the vendor retired: these are nobody's
    /// word any more.
    public let disbelieved: Int
    /// The head of the last reply, when a key that was retired signed it.
    public let disbelievedHead: ReplyHeader?

    /// A lease with what it was issued under.
    public struct Lease: Sendable {
        public let license: License
        public let licenseToken: PASETOToken
        public let terms: Terms
        public let termsToken: PASETOToken
        public let statement: LeaseStatement
    }

    /// Verifies every part.
    ///
    /// - Parameters:
    ///   - trust: the vendor's own.
    ///   - known: the device statement of the vendor's record, as text; it counts by whichever key.
    /// - Throws: ``TokenError`` or ``DocumentError`` when any part is not the vendor's, is about
    ///   another device or enrollment, or does not fit the others; then none is believed.
    public init(
        _ recollection: Recollection, trust: TrustStatement, known: String? = nil
    ) throws {
        func isBelieved(_ token: PASETOToken) -> Bool {
            !trust.retiredIssuerKeys.contains { token.names(issuer: $0) }
        }
        let issuers = trust.issuerKeys
        request = try EnrollmentRequest(decoding: recollection.request)
        let key = request.keys.attestationKey.name
        statementToken = recollection.statement
        let statement = try DeviceStatement(
            verifying: recollection.statement,
            issuers: recollection.statement.text == known ? trust.everyIssuerKey : issuers,
            attestationKey: key)
        guard statement.requestHash == HashAlgorithm.sha256.digest(recollection.request) else {
            throw TokenError.otherDevice
        }
        self.statement = statement
        let head = recollection.replyHeader.flatMap { isBelieved($0) ? $0 : nil }
        replyHeader = try head.map { token in
            try ReplyHeader(
                verifying: token, issuers: issuers, incarnation: statement.incarnation,
                attestationKey: key)
        }
        replyHash = head.map(Reply.hash)
        receipts = try recollection.receipts.filter(isBelieved).map { token in
            let receipt = try Receipt(
                verifying: token, issuers: issuers, incarnation: statement.incarnation,
                attestationKey: key)
            return (receipt, token)
        }.sorted { $0.receipt.sequence < $1.receipt.sequence }
        let terms = try recollection.terms.filter(isBelieved).map { token in
            (token: token, terms: try Terms(verifying: token, issuers: issuers))
        }
        let licenses = try recollection.licenses.filter(isBelieved).map { token in
            let license = try License(verifying: token, issuers: issuers, attestationKey: key)
            return (token: token, license: license)
        }
        // What is left out takes along what hangs on it.
        let isWhole =
            terms.count == recollection.terms.count
            && licenses.count == recollection.licenses.count
        leases = try recollection.leases.filter(isBelieved).compactMap { token -> Lease? in
            let lease = try LeaseStatement(
                verifying: token, issuers: issuers, attestationKey: key)
            guard lease.incarnation == statement.incarnation else { throw TokenError.otherDevice }
            guard let license = licenses.first(where: { $0.license.id == lease.license }) else {
                guard isWhole else { return nil }
                throw DocumentError.missing(.license)
            }
            let under = terms.first {
                HashAlgorithm.sha256.digest(IssuedToken.section($0.token)) == lease.termsHash
            }
            guard let under else {
                guard isWhole else { return nil }
                throw DocumentError.missing(.terms)
            }
            return Lease(
                license: license.license, licenseToken: license.token, terms: under.terms,
                termsToken: under.token, statement: lease)
        }
        approvals = try recollection.approvals.map { bytes in
            try ApprovalDocument(decoding: bytes, trusting: trust.approvalKey)
        }
        disbelieved =
            recollection.receipts.count - receipts.count + recollection.leases.count - leases.count
        // A courier may have made it: it is for an operator to see, and decides nothing.
        disbelievedHead = try recollection.replyHeader.flatMap { isBelieved($0) ? nil : $0 }.map {
            try ReplyHeader(
                verifying: $0, issuers: trust.everyIssuerKey,
                incarnation: statement.incarnation, attestationKey: key)
        }
    }
}
