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
    /// Keys that sign licenses, leases and receipts; 1 to 8.
    public let issuerKeys: [Ed25519PublicKey]
    /// Keys to which documents for the server are sealed, the present one first; 1 to 8.
    public let sealingKeys: [SealingPublicKey]
    /// The key that approves boot states.
    public let approvalKey: ECPublicKey
    /// SHA-256 of the server's public keys in TLS; up to 8.
    public let tlsKeys: [[UInt8]]
    /// One rule for each model of TPM; up to 64.
    public let endorsementKeys: [EndorsementKeyRule]
    /// Salt of hardware facts, 16 bytes.
    public let factSalt: [UInt8]
    /// Where the server is; up to 8.
    public let urls: [String]
    /// PCRs that are quoted when nothing else is said.
    public let selection: PCRSelection

    /// Which vendor this is.
    public var vendorID: VendorID { VendorID(rootKey: rootKey) }

    public init(
        rootKey: Ed25519PublicKey, sequence: UInt64, issuerKeys: [Ed25519PublicKey],
        sealingKeys: [SealingPublicKey], approvalKey: ECPublicKey, tlsKeys: [[UInt8]],
        endorsementKeys: [EndorsementKeyRule], factSalt: [UInt8], urls: [String],
        selection: PCRSelection
    ) {
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
        sequence = try claims.number("sequence", in: 1...UInt64(1) << 53)
        issuerKeys = try claims.list("issuerKeys", counts: 1...8) { (value) throws(TokenError) in
            try ClaimsReader.key(
                ClaimsReader.text(value, "issuerKeys", maximum: 64), "issuerKeys")
        }
        sealingKeys = try claims.list("sealingKeys", counts: 1...8) {
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
        tlsKeys = try claims.list("tlsKeys", counts: 0...8) { (value) throws(TokenError) in
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
        .object([
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
        ])
    }
}
