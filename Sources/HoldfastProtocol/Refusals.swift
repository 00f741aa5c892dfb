public import HoldfastCrypto
public import HoldfastErrors
public import HoldfastTPMWire

// What the lower layers refuse, in the words of an operator. They know no operator themselves.

extension CryptoError: OperatorError {
    public var explanation: String {
        switch self {
        case .authenticationFailed: "the file was changed, or was made for somebody else"
        case .signatureInvalid: "the signature is not valid"
        default: String(describing: self)
        }
    }
    public var remedy: String? {
        switch self {
        case .authenticationFailed, .signatureInvalid, .footerMismatch:
            "copy the file again; check whom it was made for"
        case .outOfMemory: "free memory and try again"
        default: "check which file was given"
        }
    }
    public var stableCode: String {
        switch self {
        case .authenticationFailed, .signatureInvalid, .footerMismatch: "SIGNATURE_INVALID"
        case .outOfMemory: "OUT_OF_MEMORY"
        default: "DOCUMENT_INVALID"
        }
    }
    public var exitStatus: ExitStatus { self == .outOfMemory ? .failure : .refused }
}

extension KeyError: OperatorError {
    public var explanation: String {
        switch self {
        case .notOnCurve: "a public key is not a point on its curve"
        case .signatureInvalid: "the signature is not valid"
        case .hashNotAccepted: "the signature is made with a hash that is not accepted"
        case .privateKeyInvalid: "a private key is not valid"
        case .rsaKeyInvalid: "an RSA key is not of a size that is accepted"
        }
    }
    public var remedy: String? { "copy the file again; check whom it was made for" }
    public var stableCode: String { "SIGNATURE_INVALID" }
    public var exitStatus: ExitStatus { .refused }
}

extension SealedObjectError: OperatorError {
    public var explanation: String { description }
    public var remedy: String? { "treat the file as forged; ask the vendor for another one" }
    public var stableCode: String { "SEALED_OBJECT_INVALID" }
    public var exitStatus: ExitStatus { .refused }
}

extension WireError: OperatorError {
    public var explanation: String { description }
    public var remedy: String? { "copy the file again, or have it made again" }
    public var stableCode: String { "DOCUMENT_INVALID" }
    public var exitStatus: ExitStatus { .refused }
}

extension ProtectionError: OperatorError {
    public var explanation: String { description }
    public var remedy: String? { "use another endorsement key of this TPM" }
    public var stableCode: String { "EK_NOT_SUPPORTED" }
    public var exitStatus: ExitStatus { .refused }
}
