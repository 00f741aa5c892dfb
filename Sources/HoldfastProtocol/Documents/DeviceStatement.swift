public import HoldfastCrypto
public import HoldfastTPMWire

/// What a vendor says of an enrolled device: with it and public keys alone, an auditor can verify
/// everything else.
///
/// docs/spec/formats.md, "Device statement".
public struct DeviceStatement: Sendable, Hashable {
    /// 32 bytes.
    public var pairwiseID: PairwiseID
    /// Counts the enrollments of this pairwise id, from 1.
    public var incarnation: UInt32
    public var attestationKey: PublicArea
    /// Keys that sign checkpoints; up to 8.
    public var ledgerKeys: [PublicArea]
    public var leaseParent: PublicArea
    /// 16 bytes.
    public var leaseParentSalt: [UInt8]
    /// Written.
    public var epochCounter: NVPublicArea
    /// Written.
    public var ledgerCounter: NVPublicArea
    /// For example `ecc-p384`.
    public var endorsementKeyKind: String
    /// As in the endorsement key certificate.
    public var manufacturer: String
    public var model: String
    /// Ids of the checks that were made at enrollment; up to 64.
    public var checks: [String]
    /// SHA-256 of the request's plaintext.
    public var requestHash: [UInt8]
    /// SHA-256 of the nonces beside it.
    public var noncesHash: [UInt8]
    /// UTC seconds on the server's clock.
    public var issuedAt: UInt64

    public init(
        incarnation: UInt32, keys: EnrollmentRequest.Keys, ledgerKeys: [PublicArea],
        endorsementKeyKind: String, manufacturer: String, model: String, checks: [String],
        requestHash: [UInt8], nonces: [UInt8], issuedAt: UInt64
    ) {
        pairwiseID = PairwiseID(attestationKey: keys.attestationKey.name)
        self.incarnation = incarnation
        attestationKey = keys.attestationKey
        self.ledgerKeys = ledgerKeys
        leaseParent = keys.leaseParent
        leaseParentSalt = keys.leaseParentSalt
        epochCounter = keys.epochCounter
        ledgerCounter = keys.ledgerCounter
        self.endorsementKeyKind = endorsementKeyKind
        self.manufacturer = manufacturer
        self.model = model
        self.checks = checks
        self.requestHash = requestHash
        noncesHash = HashAlgorithm.sha256.digest(nonces)
        self.issuedAt = issuedAt
    }

    /// Signs the statement with an issuer key.
    public func signed(with key: borrowing Ed25519PrivateKey) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(
            claims,
            for: .init(incarnation: incarnation, of: attestationKey.name), with: key)
        guard
            try DeviceStatement(
                verifying: token, issuers: [key.publicKey], attestationKey: attestationKey.name)
                == self
        else { throw .notCanonical }
        return token
    }

    /// Verifies a statement.
    ///
    /// - Parameters:
    ///   - issuers: from the trust statement.
    ///   - attestationKey: Name of the key of the device that the statement must be about.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey], attestationKey name: TPMName
    ) throws(TokenError) {
        guard token.body.count > 64 else { throw .notAuthentic(.lengthInvalid) }
        // Which enrollment it is about stands in it; the number is used for nothing but the binding
        // that the signature covers.
        var peek = try ClaimsReader([UInt8](token.body.dropLast(64)), kind: .deviceStatement)
        let number = UInt32(try peek.number("incarnation", in: 1...UInt64(UInt32.max)))
        let verified = try IssuedToken.verify(
            token, for: .init(incarnation: number, of: name), issuers: issuers)

        var claims = try ClaimsReader(verified.payload, kind: .deviceStatement)
        incarnation = UInt32(try claims.number("incarnation", in: 1...UInt64(UInt32.max)))
        attestationKey = try claims.structure("attestationKey")
        pairwiseID = PairwiseID(attestationKey: attestationKey.name)
        guard attestationKey.name == name,
            try claims.bytes("pairwiseId", count: 32) == pairwiseID.bytes
        else { throw .otherDevice }
        ledgerKeys = try claims.list("ledgerKeys", counts: 0...8) { (value) throws(TokenError) in
            var one = ClaimsReader(single: value, name: "ledgerKeys")
            return try one.structure("ledgerKeys")
        }
        leaseParent = try claims.structure("leaseParent")
        leaseParentSalt = try claims.bytes("leaseParentSalt", count: 16)
        epochCounter = try claims.structure("epochCounter")
        ledgerCounter = try claims.structure("ledgerCounter")
        endorsementKeyKind = try claims.text("endorsementKeyKind", maximum: 32)
        manufacturer = try claims.text("manufacturer", maximum: 32)
        model = try claims.text("model", maximum: 64)
        checks = try claims.list("checks", counts: 1...64) { (value) throws(TokenError) in
            try ClaimsReader.text(value, "checks", maximum: 64)
        }
        requestHash = try claims.bytes("request", count: 32)
        noncesHash = try claims.bytes("nonces", count: 32)
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        func binary(_ bytes: [UInt8]) -> CanonicalJSON { .string(Base64URL.encode(bytes)) }
        return .object([
            "kind": .string(TokenKind.deviceStatement.rawValue),
            "pairwiseId": binary(pairwiseID.bytes),
            "incarnation": .number(UInt64(incarnation)),
            "attestationKey": binary(attestationKey.wireBytes),
            "ledgerKeys": .array(ledgerKeys.map { binary($0.wireBytes) }),
            "leaseParent": binary(leaseParent.wireBytes),
            "leaseParentSalt": binary(leaseParentSalt),
            "epochCounter": binary(epochCounter.wireBytes),
            "ledgerCounter": binary(ledgerCounter.wireBytes),
            "endorsementKeyKind": .string(endorsementKeyKind),
            "manufacturer": .string(manufacturer), "model": .string(model),
            "checks": .array(checks.map { .string($0) }),
            "request": binary(requestHash), "nonces": binary(noncesHash),
            "issuedAt": .number(issuedAt),
        ])
    }
}
