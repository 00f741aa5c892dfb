public import HoldfastCrypto
public import HoldfastTPMWire

extension TPMConnection {
    /// Lends the endorsement key.
    ///
    /// The persistent one is taken where its bytes stand in the certificate, since making an RSA key
    /// takes a TPM seconds; otherwise the key is made from the template, with what the maker of the
    /// TPM left in NV for its unique field. Only the verifier of the certificate says what it is
    /// worth.
    public func withEndorsementKey<R: ~Copyable>(
        _ kind: EndorsementKeyKind, _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        if let kept = try keptEndorsementKey(kind) { return try body(kept) }
        return try withPrimary(endorsementTemplate(kind), in: .endorsement, body)
    }

    private func keptEndorsementKey(
        _ kind: EndorsementKeyKind
    ) throws(TPMError) -> LoadedObject? {
        guard let handle = kind.conventionalHandle,
            try handles(from: 0x8101_0000).contains(handle),
            let certificate = try endorsementCertificate(kind)
        else { return nil }
        let found: LoadedObject
        do {
            found = try object(at: handle)
        } catch {
            // Something that we cannot read, and do not need.
            guard error.code == .malformedResponse else { throw error }
            return nil
        }
        let key = found.publicArea.identifyingBytes
        guard EndorsementKeyKind(found.publicArea) == kind, !key.isEmpty,
            certificate.firstRange(of: key) != nil
        else { return nil }
        return found
    }

    /// The template with the nonce of the low range, or the one that the maker left.
    ///
    /// A template that differs in more than the unique field is another kind of key, which no
    /// verifier of ours accepts; it is not used.
    ///
    /// TCG EK Credential Profile 2.5, sections 2.2.1.4 and 2.2.1.5.
    private func endorsementTemplate(_ kind: EndorsementKeyKind) throws(TPMError) -> PublicArea {
        if let left = try readOwnerIndex(kind.templateIndex, maximum: PublicArea.maximumSize),
            let area = try? PublicArea(wireBytes: left), EndorsementKeyKind(area) == kind
        {
            return area
        }
        guard let index = kind.nonceIndex,
            let nonce = try readOwnerIndex(index, maximum: 256)
        else { return kind.template }
        return kind.template(nonce: nonce)
    }

    /// The endorsement key certificate in NV, DER with what padding the vendor left behind it.
    ///
    /// - Returns: `nil` when the TPM has none of this kind.
    public func endorsementCertificate(
        _ kind: EndorsementKeyKind
    ) throws(TPMError) -> [UInt8]? {
        try readOwnerIndex(kind.certificateIndex, maximum: 4096)
    }

    /// Certificates of issuers that the maker of the TPM left in NV.
    ///
    /// The indexes from 0x01C00100 to 0x01C001FF hold certificates one after the other, and one may
    /// reach into the next index. What is no certificate ends the list: there is padding.
    ///
    /// - Parameter maximum: how many are returned at most; each has at most 4,096 bytes.
    ///
    /// TCG EK Credential Profile 2.5, section 2.2.1.5.2.
    public func endorsementIssuers(maximum: Int) throws(TPMError) -> [[UInt8]] {
        var bytes: [UInt8] = []
        let places = try handles(from: 0x0100_0000).map(\.rawValue).sorted()
        for place in places where (0x01C0_0100...0x01C0_01FF).contains(place) {
            guard bytes.count < maximum * 4096 else { break }
            bytes += try readOwnerIndex(TPMHandle(rawValue: place), maximum: 4096) ?? []
        }
        var found: [[UInt8]] = []
        var rest = bytes[...]
        // DER: a sequence whose length has two bytes.
        while found.count < maximum, rest.count > 4 {
            let start = rest.startIndex
            guard rest[start] == 0x30, rest[start + 1] == 0x82 else { break }
            let size = 4 + (Int(rest[start + 2]) << 8 | Int(rest[start + 3]))
            guard size <= rest.count, size <= 4096 else { break }
            found.append([UInt8](rest.prefix(size)))
            rest = rest.dropFirst(size)
        }
        return found
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
            if !kind.isLowRange {
                try run(PolicyORCommand(session: session.handle, branches: policy.branches))
            }
            // The secret comes back encrypted in the session that authorizes the endorsement key.
            return try runForSecret(
                ActivateCredentialCommand(
                    object: key.reference, key: endorsementKey.reference, credential: credential),
                [.emptyAuth, .policyOnce(session)])
        }
    }
}
