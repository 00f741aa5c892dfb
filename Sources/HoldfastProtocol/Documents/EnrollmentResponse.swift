public import HoldfastCrypto
public import HoldfastTPMWire

/// The answer to an enrollment request: a credential that only the device's TPM opens, and, under the
/// secret in it, the device statement and four nonces.
///
/// By file nothing is compared: only evidence over one of these nonces proves that the TPM of the
/// endorsement key has the attestation key.
///
/// docs/spec/formats.md, "Enrollment response".
public struct EnrollmentResponse: Sendable, Hashable {
    /// For `TPM2_ActivateCredential`.
    public let credential: CredentialBlob
    private let encrypted: [UInt8]

    private static let sections: Set<SectionType> = [
        .credentialIdentity, .credentialSecret, .encryptedResponse,
    ]
    /// Bytes of a nonce, and how many there are.
    public static let nonceSize = 32
    public static let nonceCount = 4

    /// Makes a response.
    ///
    /// - Parameters:
    ///   - statement: signed by the issuer; about this request and these nonces.
    ///   - trust: the trust statement, when the device has an older one.
    ///   - nonces: four of 32 bytes, one after the other.
    ///   - request: the plaintext of the request.
    ///   - key: the endorsement key, from the verified certificate.
    public init(
        statement: PASETOToken, trust: PASETOToken? = nil, nonces: [UInt8], request: [UInt8],
        attestationKey: TPMName, endorsementKey key: PublicArea, random: RandomSource
    ) throws {
        let inner = try Container(
            .enrollmentResponse,
            [(.deviceStatement, IssuedToken.section(statement)), (.nonces, nonces)]
                + (trust.map(Reply.parts) ?? []))
        let secret = random.secret(32)
        let nonce = XChaCha20Nonce(random: random)
        encrypted =
            nonce.bytes
            + (try XChaCha20Poly1305.seal(
                inner.encoded.span, nonce: nonce, associatedData: [],
                key: Self.key(secret, request)))
        credential = try CredentialBlob(
            protecting: secret, for: attestationKey, key: key, random: random)
    }

    /// The key for the rest: keyed hash of the request under the secret, so that a response to
    /// another request opens nothing.
    private static func key(
        _ secret: borrowing SecretBytes, _ request: [UInt8]
    ) throws(CryptoError) -> SecretBytes {
        var derived = try framedKeyedHash(
            .request, key: secret, HashAlgorithm.sha256.digest(request))
        defer { wipe(&derived) }
        return SecretBytes(copying: derived)
    }

    /// The document.
    public func encoded() throws(DocumentError) -> [UInt8] {
        try Container(
            .enrollmentResponse,
            [
                (.credentialIdentity, credential.identityObject),
                (.credentialSecret, credential.encryptedSecret), (.encryptedResponse, encrypted),
            ]
        ).encoded
    }

    /// Reads a response; the TPM says whether it is for this device.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        let container = try Container(decoding: bytes)
        try container.demand(.enrollmentResponse, sections: Self.sections)
        credential = CredentialBlob(
            identityObject: try container.required(.credentialIdentity),
            encryptedSecret: try container.required(.credentialSecret))
        encrypted = try container.required(.encryptedResponse)
        guard encrypted.count > 24 else { throw .malformed(.encryptedResponse) }
    }

    /// What was under the secret.
    public struct Content: Sendable, Hashable {
        public let statement: DeviceStatement
        /// The statement as it was received.
        public let token: PASETOToken
        /// Four nonces of 32 bytes, in the order in which they are used.
        public let nonces: [[UInt8]]
        /// A newer trust statement than the one that the device has.
        public let trust: NewerTrust?
    }

    /// Opens the response with the secret that the TPM released.
    ///
    /// - Parameters:
    ///   - request: the plaintext of the request that was made.
    ///   - trust: the statement in force; a newer one in the response says who signs the rest.
    /// - Throws: `.authenticationFailed` for another request or a changed response; ``TokenError``
    ///   when the statement is not about this device, this request and these nonces.
    public func open(
        with secret: borrowing SecretBytes, request: [UInt8], trust: TrustStatement,
        attestationKey: TPMName
    ) throws -> Content {
        let nonce = try XChaCha20Nonce([UInt8](encrypted[..<24]))
        let plain = try XChaCha20Poly1305.open(
            [UInt8](encrypted[24...]), nonce: nonce, associatedData: [],
            key: Self.key(secret, request))
        let inner = try Container(
            decoding: plain.withBytes { bytes in bytes.indices.map { bytes[$0] } })
        try inner.demand(
            .enrollmentResponse, sections: [.deviceStatement, .nonces, .trustStatement])
        let newer = try inner.newerTrust(than: trust)
        let nonces = try inner.required(.nonces)
        guard nonces.count == Self.nonceSize * Self.nonceCount else {
            throw DocumentError.malformed(.nonces)
        }
        let token = try IssuedToken.token(
            section: inner.required(.deviceStatement), .deviceStatement)
        // The same request gets the same response, also when its key was retired meanwhile; it says what
        // the device itself asked for, and grants nothing.
        let statement = try DeviceStatement(
            verifying: token, issuers: (newer?.statement ?? trust).everyIssuerKey,
            attestationKey: attestationKey)
        guard statement.requestHash == HashAlgorithm.sha256.digest(request),
            statement.noncesHash == HashAlgorithm.sha256.digest(nonces)
        else { throw TokenError.otherDevice }
        return Content(
            statement: statement, token: token,
            nonces: Self.nonces(nonces), trust: newer)
    }

    /// Nonces that stand one after the other.
    public static func nonces(_ joined: [UInt8]) -> [[UInt8]] {
        stride(from: 0, to: joined.count - nonceSize + 1, by: nonceSize).map { start in
            [UInt8](joined[start..<start + nonceSize])
        }
    }
}
