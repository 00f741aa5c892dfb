public import HoldfastCrypto
public import HoldfastTPMWire

/// What a session is salted to.
public enum SessionSalt: Sendable {
    /// No salt: the session hides nothing and proves nothing about responses. For a policy session
    /// that only authorizes.
    case none
    /// A loaded decryption key whose public area the caller has pinned: whoever does not hold its
    /// private half cannot read or forge anything in the session.
    case key(LoadedObject)
}

/// What a session is bound to.
public struct SessionBinding: Sendable {
    let object: EntityReference
    let authValue: SymmetricSecret

    /// - Parameter authValue: of the object; the TPM finds out with the first command.
    public init(_ object: EntityReference, authValue: SymmetricSecret) {
        self.object = object
        self.authValue = authValue
    }
}

extension TPMConnection {
    /// Lends a session, and removes it from the TPM afterwards.
    ///
    /// - Parameters:
    ///   - kind: HMAC, policy or trial.
    ///   - hash: of the session; a policy must be of the same hash.
    ///   - salt: the pinned key.
    ///   - bind: an object and its authorization value, which goes into the session key: whoever
    ///     does not know it neither authorizes nor reads anything, even with the salt.
    ///
    /// `TPM2_StartAuthSession`, Part 1, section 19.6.
    public func withSession<R: ~Copyable>(
        _ kind: StartAuthSessionCommand.Kind, hash: HashAlgorithm, salt: SessionSalt,
        bind: SessionBinding? = nil, _ body: (AuthSession) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let session = try startSession(kind, hash: hash, salt: salt, bind: bind)
        defer { release(session) }
        return try body(session)
    }

    private func startSession(
        _ kind: StartAuthSessionCommand.Kind, hash: HashAlgorithm, salt: SessionSalt,
        bind: SessionBinding?
    ) throws(TPMError) -> AuthSession {
        let nonce = random.bytes(AuthSession.nonceSize)
        var seed: SharedSeed?
        var key = EntityReference(.null)
        if case .key(let object) = salt {
            do throws(ProtectionError) {
                seed = try SharedSeed(for: object.publicArea, purpose: .session, random: random)
            } catch {
                throw TPMError(.invalidRequest, "the session cannot be salted: \(error)")
            }
            key = object.reference
        }
        let started = try run(
            StartAuthSessionCommand(
                saltKey: key, bind: bind?.object ?? EntityReference(.null), nonceCaller: nonce,
                encryptedSalt: seed?.encrypted ?? [], kind: kind,
                symmetric: seed == nil ? .none : AuthSession.cipher, hash: hash))
        let sessionKey =
            seed.map { seed in
                kdfa(
                    hash, key: (bind?.authValue ?? .empty).appending(seed.seed), label: "ATH",
                    contextU: started.nonceTPM,
                    contextV: nonce, bits: hash.digestSize * 8)
            } ?? SymmetricSecret([])
        return AuthSession(
            handle: started.handle, kind: kind, hash: hash, sessionKey: sessionKey,
            nonceTPM: started.nonceTPM)
    }
}
