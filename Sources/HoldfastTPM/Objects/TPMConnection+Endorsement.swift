public import HoldfastCrypto
public import HoldfastTPMWire

/// A kind of endorsement key with the place of its certificate.
///
/// TCG EK Credential Profile 2.5, section 2.2.1 "NV indices".
public enum EndorsementKeyKind: String, Sendable, Hashable, CaseIterable {
    /// ECC P-384, high range.
    case eccP384 = "ecc-p384"
    /// ECC P-256, high range.
    case eccP256 = "ecc-p256"

    /// The NV index of the certificate.
    public var certificateIndex: TPMHandle {
        switch self {
        case .eccP256: TPMHandle(rawValue: 0x01C0_0014)
        case .eccP384: TPMHandle(rawValue: 0x01C0_0016)
        }
    }

    /// The template of the key.
    public var template: PublicArea {
        switch self {
        case .eccP384: KeyTemplate.endorsementKeyP384
        case .eccP256: KeyTemplate.endorsementKeyP256
        }
    }

    /// The policy that its use takes.
    public var policy: EndorsementPolicy { KeyTemplate.endorsementPolicy(template.nameAlgorithm) }
}

extension TPMConnection {
    /// Lends the endorsement key.
    public func withEndorsementKey<R: ~Copyable>(
        _ kind: EndorsementKeyKind, _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        try withPrimary(kind.template, in: .endorsement, body)
    }

    /// The endorsement key certificate in NV, DER with what padding the vendor left behind it.
    ///
    /// - Returns: `nil` when the TPM has none of this kind.
    public func endorsementCertificate(
        _ kind: EndorsementKeyKind
    ) throws(TPMError) -> [UInt8]? {
        try readOwnerIndex(kind.certificateIndex, maximum: 4096)
    }

    /// Opens a credential.
    ///
    /// - Parameters:
    ///   - credential: made for the Name of `key`.
    ///   - endorsementKey: loaded.
    /// - Returns: the secret, in guarded memory.
    /// - Throws: `.refused` with `integrity` when it was made for another Name or another key.
    public func activateCredential(
        _ credential: CredentialBlob, for key: LoadedObject, endorsementKey: LoadedObject,
        kind: EndorsementKeyKind
    ) throws(TPMError) -> SecretBytes {
        let policy = kind.policy
        return try withSession(.policy, hash: policy.hash, salt: .key(endorsementKey)) {
            (session) throws(TPMError) in
            try satisfy(policy.policyA, in: session, with: PolicyMeans())
            try run(PolicyORCommand(session: session.handle, branches: policy.branches))
            // The secret comes back encrypted in the session that authorizes the endorsement key.
            return try runForSecret(
                ActivateCredentialCommand(
                    object: key.reference, key: endorsementKey.reference, credential: credential),
                [.emptyAuth, .policyOnce(session)])
        }
    }
}
