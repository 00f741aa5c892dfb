public import FoundationEssentials

/// Why a key, a signature, a token or an encoded text was refused.
///
/// Keys on the curves of a TPM refuse with ``KeyError``.
public enum CryptoError: Error, Sendable, Hashable {
    /// A key, nonce, salt, signature or ciphertext has a length it cannot have.
    case lengthInvalid
    /// More bytes than the named maximum of what is read or written.
    case tooLarge
    /// The text is not the one encoding of any bytes.
    case encodingInvalid
    /// The public key is of a kind that reveals what is sealed to it.
    case publicKeyInvalid
    /// The two halves of a private key do not belong together.
    case privateKeyInvalid
    /// The signature is not the key's over these bytes.
    case signatureInvalid
    /// The ciphertext was changed, or the key, nonce or associated data is another.
    case authenticationFailed
    /// The text is not a token or a key of the version and purpose that is expected.
    case wrongKind
    /// The footer is not the expected one.
    case footerMismatch
    /// Cost parameters of a password hash are outside of the named limits.
    case costNotAccepted
    /// The memory that a password hash demands is not to be had.
    case outOfMemory
}

extension CryptoError: CustomStringConvertible, LocalizedError {
    /// What was refused, and what to do where that helps.
    public var description: String {
        switch self {
        case .lengthInvalid: "a key, signature or ciphertext has the wrong length"
        case .tooLarge: "the data is larger than is accepted"
        case .encodingInvalid: "the text is not correctly encoded"
        case .publicKeyInvalid: "nothing can be sealed to this public key"
        case .privateKeyInvalid: "the halves of the private key do not belong together"
        case .signatureInvalid: "the signature does not verify"
        case .authenticationFailed:
            "the ciphertext does not open: it was changed or made for another key"
        case .wrongKind: "the text is not a token or key of the expected version and purpose"
        case .footerMismatch: "the token's footer is not the expected one"
        case .costNotAccepted: "the cost of the password hash is outside of the accepted limits"
        case .outOfMemory:
            "not enough memory for the password hash\nhint: free memory and try again"
        }
    }

    /// The same as ``description``.
    public var errorDescription: String? { description }
}
