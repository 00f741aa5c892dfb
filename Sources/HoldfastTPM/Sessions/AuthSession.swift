public import HoldfastCrypto
package import HoldfastTPMWire

/// A session that the TPM keeps for us: it authorizes commands, proves responses, hides secrets.
///
/// Lent by ``TPMConnection/withSession(_:salt:body:)``; it is of no use outside. A class, because
/// the nonces roll with every command and several commands share it.
public final class AuthSession {
    package let handle: TPMHandle
    let kind: StartAuthSessionCommand.Kind
    let hash: HashAlgorithm
    /// Empty for a session without a salt.
    let sessionKey: SymmetricSecret
    var nonceTPM: [UInt8]
    /// The TPM has removed the session after its last use.
    var ended = false
    /// PolicyAuthValue was run: the HMAC proves the object's authorization value.
    var provesAuthValue = false

    /// What a policy session has accumulated so far, computed here.
    var policyDigest: [UInt8]

    init(
        handle: TPMHandle, kind: StartAuthSessionCommand.Kind, hash: HashAlgorithm,
        sessionKey: SymmetricSecret, nonceTPM: [UInt8]
    ) {
        self.handle = handle
        self.kind = kind
        self.hash = hash
        self.sessionKey = sessionKey
        self.nonceTPM = nonceTPM
        policyDigest = [UInt8](repeating: 0, count: hash.digestSize)
    }

    var isSalted: Bool { sessionKey.count > 0 }

    /// AES-128 in all sessions of ours.
    static let cipher = SymmetricDefinition.aesCFB(bits: 128)
    static let nonceSize = 16

    /// The key of the HMAC over commands and responses.
    func hmacKey(_ authValue: SymmetricSecret) -> SymmetricSecret {
        kind == .hmac || provesAuthValue ? sessionKey.appending(authValue) : sessionKey
    }

    /// A policy session without a key has an empty HMAC.
    ///
    /// Part 1, section 19.6.
    func needsHMAC(_ authValue: SymmetricSecret) -> Bool {
        kind == .hmac || hmacKey(authValue).count > 0
    }

    /// Key and initial vector of parameter encryption.
    ///
    /// Part 1, section 21.3 "CFB Mode Parameter Encryption".
    func cipher(
        authValue: SymmetricSecret, nonceNewer: [UInt8], nonceOlder: [UInt8]
    ) -> (key: SymmetricSecret, iv: [UInt8]) {
        let bytes = kdfa(
            hash, key: sessionKey.appending(authValue), label: "CFB", contextU: nonceNewer,
            contextV: nonceOlder, bits: 256)
        return (bytes.extracting(0..<16), bytes.extracting(16..<32).copyBytes())
    }
}

/// How a command proves that it may act on an entity.
public struct Authorization {
    enum Kind {
        case password(SymmetricSecret)
        case session(AuthSession, authValue: SymmetricSecret, SessionAttributes)
    }

    let kind: Kind

    /// The empty password.
    public static var emptyAuth: Authorization { Authorization(kind: .password(.empty)) }

    /// The authorization value in clear: for a software TPM or where no secret is at stake.
    public static func password(_ value: [UInt8]) -> Authorization {
        Authorization(kind: .password(SymmetricSecret(value)))
    }

    /// An HMAC session that proves an authorization value without showing it.
    public static func hmac(_ session: AuthSession, authValue: [UInt8]) -> Authorization {
        .hmac(session, authValue: SymmetricSecret(authValue))
    }

    /// The same with a value that is wiped when nobody holds it any more.
    public static func hmac(
        _ session: AuthSession, authValue: SymmetricSecret
    ) -> Authorization {
        Authorization(kind: .session(session, authValue: authValue, .continueSession))
    }

    /// A session in which the TPM vouches for the answer of a command that needs no authorization.
    static func audit(_ session: AuthSession) -> Authorization {
        Authorization(
            kind: .session(session, authValue: .empty, [.continueSession, .audit]))
    }

    /// A satisfied policy session that may go on.
    public static func policy(_ session: AuthSession) -> Authorization {
        Authorization(kind: .session(session, authValue: .empty, .continueSession))
    }

    /// A satisfied policy session that the TPM removes when the command succeeds.
    public static func policyOnce(_ session: AuthSession) -> Authorization {
        .policyOnce(session, authValue: .empty)
    }

    /// The same for a policy that also asks for the object's authorization value.
    public static func policyOnce(
        _ session: AuthSession, authValue: SymmetricSecret
    ) -> Authorization {
        Authorization(kind: .session(session, authValue: authValue, []))
    }
}

extension SymmetricSecret {
    /// The empty authorization value.
    static let empty = SymmetricSecret([])
}
