public import HoldfastCrypto
public import HoldfastTPMWire

/// What a device must know of a vendor before anything else: the trust file.
///
/// Signed by the vendor's root key, which it names. The first one is trusted because of where the
/// file came from; later ones because of the same root key and a higher sequence.
///
/// docs/spec/formats.md, "Trust statement".
public struct TrustStatement: Sendable, Hashable {
    /// Which endorsement key counts for a model of TPM; a TPM has several, and nothing links them.
    public struct EndorsementKeyRule: Sendable, Hashable {
        /// As in the certificate, for example `id:49424D00`.
        public let manufacturer: String
        public let model: String
        /// A name of a kind of endorsement key, for example `ecc-p384`.
        public let kind: String

        public init(manufacturer: String, model: String, kind: String) {
            self.manufacturer = manufacturer
            self.model = model
            self.kind = kind
        }
    }

    /// The root key that signed the statement.
    public let rootKey: Ed25519PublicKey
    /// A lower one never replaces a higher one.
    public let sequence: UInt64
    /// Keys that sign licenses, leases and receipts, the present one first; 1 to 8.
    public let issuerKeys: [Ed25519PublicKey]
    /// Keys that signed before and count no more, the newest first; up to 32.
    ///
    /// They tell what was the vendor's word once from what never was.
    public let retiredIssuerKeys: [Ed25519PublicKey]
    /// Keys to which documents for the server are sealed, the present one first; 1 to 8.
    public let sealingKeys: [SealingPublicKey]
    /// The key that approves boot states.
    public let approvalKey: ECPublicKey
    /// SHA-256 of the server's public keys in TLS, present, earlier and next ones; up to 8.
    public let tlsKeys: [[UInt8]]
    /// One rule for each model of TPM; up to 64.
    public let endorsementKeys: [EndorsementKeyRule]
    /// Salt of hardware facts, 16 bytes.
    public let factSalt: [UInt8]
    /// Where the server is; up to 8.
    public let urls: [String]
    /// PCRs that are quoted when nothing else is said.
    public let selection: PCRSelection

    /// The most issuer keys, sealing keys or TLS keys at a time.
    public static let maximumKeys = 8
    /// The most retired issuer keys.
    public static let maximumRetired = 32

    /// Every key that ever signed, as far as the statement says; for a vendor's own records.
    public var everyIssuerKey: [Ed25519PublicKey] { issuerKeys + retiredIssuerKeys }

    /// Which vendor this is.
    public var vendorID: VendorID { VendorID(rootKey: rootKey) }

    public init(
        rootKey: Ed25519PublicKey, sequence: UInt64, issuerKeys: [Ed25519PublicKey],
        sealingKeys: [SealingPublicKey], approvalKey: ECPublicKey, tlsKeys: [[UInt8]],
        endorsementKeys: [EndorsementKeyRule], factSalt: [UInt8], urls: [String],
        selection: PCRSelection, retiredIssuerKeys: [Ed25519PublicKey] = []
    ) {
        self.retiredIssuerKeys = retiredIssuerKeys
        self.rootKey = rootKey
        self.sequence = sequence
        self.issuerKeys = issuerKeys
        self.sealingKeys = sealingKeys
        self.approvalKey = approvalKey
        self.tlsKeys = tlsKeys
        self.endorsementKeys = endorsementKeys
        self.factSalt = factSalt
        self.urls = urls
        self.selection = selection
    }

    // MARK: The file

    /// Signs the statement with the root key.
    ///
    /// - Throws: `.foreignKey` when it is another key than ``rootKey``, and what reading the result
    ///   would throw: a statement that devices refuse is not made.
    public func signed(with key: borrowing Ed25519PrivateKey) throws(TokenError) -> PASETOToken {
        guard key.publicKey == rootKey else { throw .foreignKey }
        let token: PASETOToken
        do throws(CryptoError) {
            token = try PASETO.sign(
                claims.encoded, footer: Array(PASERK.identifier(of: rootKey).text.utf8),
                implicitAssertion: [], with: key)
        } catch {
            throw .notAuthentic(error)
        }
        guard try TrustStatement(verifying: token, replacing: nil) == self else {
            throw .notCanonical
        }
        return token
    }

    /// Reads and verifies a trust file.
    ///
    /// - Parameters:
    ///   - present: the statement in force; `nil` at enrollment, when the file is trusted because
    ///     of where it came from.
    /// - Throws: `.foreignKey` when the root key is not the present one's, `.superseded` when the
    ///   sequence is not higher and the statement is not the same.
    public init(
        verifying token: PASETOToken, replacing present: TrustStatement?
    ) throws(TokenError) {
        // The root key stands in the statement that it signs; until it verified, nothing else is
        // used of it.
        guard token.purpose == .v4Public, token.body.count > 64 else {
            throw .notAuthentic(.wrongKind)
        }
        var peek = try ClaimsReader([UInt8](token.body.dropLast(64)), kind: .trust)
        let root = try ClaimsReader.key(peek.text("rootKey", maximum: 64), "rootKey")
        if let present, present.rootKey != root { throw .foreignKey }
        let verified: VerifiedToken
        do throws(CryptoError) {
            verified = try PASETO.verify(
                token, with: root, expectedFooter: Array(PASERK.identifier(of: root).text.utf8),
                implicitAssertion: [])
        } catch {
            throw .notAuthentic(error)
        }
        self = try TrustStatement(verified)
        if let present, present != self, sequence <= present.sequence { throw .superseded }
    }

    private init(_ token: VerifiedToken) throws(TokenError) {
        var claims = try ClaimsReader(token.payload, kind: .trust)
        rootKey = try ClaimsReader.key(claims.text("rootKey", maximum: 64), "rootKey")
        sequence = try claims.number("sequence", in: 1...Self.maximumSequence)
        issuerKeys = try claims.list("issuerKeys", counts: 1...Self.maximumKeys) {
            (value) throws(TokenError) in
            try ClaimsReader.key(
                ClaimsReader.text(value, "issuerKeys", maximum: 64), "issuerKeys")
        }
        retiredIssuerKeys =
            try claims.optionalList("retiredIssuerKeys", counts: 1...Self.maximumRetired) {
                (value) throws(TokenError) in
                try ClaimsReader.key(
                    ClaimsReader.text(value, "retiredIssuerKeys", maximum: 64), "retiredIssuerKeys")
            } ?? []
        guard Set(issuerKeys).isDisjoint(with: retiredIssuerKeys) else {
            throw .malformed("retiredIssuerKeys")
        }
        sealingKeys = try claims.list("sealingKeys", counts: 1...Self.maximumKeys) {
            (value) throws(TokenError) in
            let bytes = try ClaimsReader.bytes(
                ClaimsReader.text(value, "sealingKeys", maximum: 64), "sealingKeys", 32)
            do throws(CryptoError) { return try SealingPublicKey(bytes) } catch {
                throw TokenError.malformed("sealingKeys")
            }
        }
        let point = try claims.bytes("approvalKey", count: 64)
        do throws(KeyError) {
            approvalKey = try ECPublicKey(
                curve: .p256, x: [UInt8](point[..<32]), y: [UInt8](point[32...]))
        } catch {
            throw .malformed("approvalKey")
        }
        tlsKeys = try claims.list("tlsKeys", counts: 0...Self.maximumKeys) {
            (value) throws(TokenError) in
            try ClaimsReader.bytes(
                ClaimsReader.text(value, "tlsKeys", maximum: 64), "tlsKeys", 32)
        }
        endorsementKeys = try claims.list("endorsementKeys", counts: 0...64) {
            (value) throws(TokenError) in
            var rule = try ClaimsReader(object: value, of: "endorsementKeys")
            let read = EndorsementKeyRule(
                manufacturer: try rule.text("manufacturer", maximum: 32),
                model: try rule.text("model", maximum: 64),
                kind: try rule.text("kind", maximum: 32))
            try rule.finish()
            return read
        }
        factSalt = try claims.bytes("factSalt", count: 16)
        urls = try claims.list("urls", counts: 0...8) { (value) throws(TokenError) in
            let url = try ClaimsReader.text(value, "urls", maximum: 256)
            guard url.hasPrefix("https://") else { throw TokenError.malformed("urls") }
            return url
        }
        guard let selection = PCRSelection(text: try claims.text("selection", maximum: 128)) else {
            throw .malformed("selection")
        }
        self.selection = selection
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        var members: [String: CanonicalJSON] = [
            "kind": .string(TokenKind.trust.rawValue),
            "rootKey": .string(PASERK.text(of: rootKey)),
            "sequence": .number(sequence),
            "issuerKeys": .array(issuerKeys.map { .string(PASERK.text(of: $0)) }),
            "sealingKeys": .array(sealingKeys.map { .string(Base64URL.encode($0.bytes)) }),
            "approvalKey": .string(Base64URL.encode(approvalKey.x + approvalKey.y)),
            "tlsKeys": .array(tlsKeys.map { .string(Base64URL.encode($0)) }),
            "endorsementKeys": .array(
                endorsementKeys.map { rule in
                    .object([
                        "manufacturer": .string(rule.manufacturer), "model": .string(rule.model),
                        "kind": .string(rule.kind),
                    ])
                }),
            "factSalt": .string(Base64URL.encode(factSalt)),
            "urls": .array(urls.map { .string($0) }),
            "selection": .string(selection.text),
        ]
        if !retiredIssuerKeys.isEmpty {
            members["retiredIssuerKeys"] = .array(
                retiredIssuerKeys.map { .string(PASERK.text(of: $0)) })
        }
        return .object(members)
    }
}

/// A trust statement that a reply brought, verified with the root key of the one before.
public struct NewerTrust: Sendable, Hashable {
    public let statement: TrustStatement
    /// As it was received.
    public let token: PASETOToken
}

extension TrustStatement {
    /// The highest sequence.
    static let maximumSequence = UInt64(1) << 53

    /// The section that says which statement a device has.
    static func parts(sequence: UInt64?) -> [(type: SectionType, bytes: [UInt8])] {
        guard let sequence else { return [] }
        var writer = WireWriter(capacity: 8)
        writer.uint64(sequence)
        return [(.trustSequence, writer.bytes)]
    }
}

extension Container {
    /// Which trust statement the device has that wrote this; `nil` when it does not say.
    func trustSequence() throws(DocumentError) -> UInt64? {
        guard self[.trustSequence] != nil else { return nil }
        let number = try fixed(.trustSequence, 8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard (1...TrustStatement.maximumSequence).contains(number) else {
            throw .malformed(.trustSequence)
        }
        return number
    }

    /// The trust statement that a document carries beside others.
    ///
    /// - Parameter present: the statement in force, whose root key counts and no other.
    /// - Returns: `nil` also for one that is not newer: a document may have been long under way.
    /// - Throws: ``TokenError``; `.superseded` when it contradicts the present one, both being of one
    ///   sequence.
    func newerTrust(than present: TrustStatement?) throws -> NewerTrust? {
        guard let section = self[.trustStatement] else { return nil }
        guard let present else {
            throw DocumentError.unknownSection(SectionType.trustStatement.rawValue)
        }
        let token = try IssuedToken.token(section: section, .trustStatement)
        do throws(TokenError) {
            let found = try TrustStatement(verifying: token, replacing: present)
            return found == present ? nil : NewerTrust(statement: found, token: token)
        } catch .superseded {
            let older = try TrustStatement(verifying: token, replacing: nil)
            guard older.sequence < present.sequence else { throw TokenError.superseded }
            return nil
        }
    }
}
