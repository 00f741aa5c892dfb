public import HoldfastErrors

/// Why an endorsement key certificate is refused.
public enum EndorsementError: Error, Sendable, Hashable {
    /// Not a certificate, or one that cannot be read.
    case malformed
    /// There is no root to trust.
    case noRoots
    /// A certificate that the manifest beside it does not name: its fingerprint.
    case notPinned(String)
    /// No path to a trusted root; why, for each path that was tried.
    case pathInvalid([String])
    /// A key on a curve, or of a kind, that is not supported.
    case keyNotSupported
    /// The endorsement key that the device states is not the one in the certificate.
    case keyMismatch
    /// The endorsement key does not have the TCG's template: it may be a key in software.
    case templateMismatch
}

extension EndorsementError: OperatorError {
    public var explanation: String {
        switch self {
        case .malformed: "the file is not an X.509 certificate that can be read"
        case .noRoots: "there is no root certificate to trust"
        case .notPinned(let fingerprint):
            "a certificate among those to trust is not in the manifest: SHA-256 \(fingerprint)"
        case .pathInvalid(let reasons):
            "the certificate does not lead to a trusted TPM maker: "
                + reasons.joined(separator: "; ")
        case .keyNotSupported:
            "the endorsement key is neither on P-256 or P-384 nor RSA of 2048 bits or more"
        case .keyMismatch: "the endorsement key is not the one in the certificate"
        case .templateMismatch:
            "the endorsement key does not have a template that is known: it may be software"
        }
    }
    public var remedy: String? {
        switch self {
        case .malformed: "check which file was given"
        case .noRoots: "give a directory with the TPM maker's certificates, *.pem"
        case .notPinned:
            "find out where it comes from; then name it in manifest.json, or take it away"
        case .pathInvalid:
            "add the maker's certificates if this maker is to be trusted; check the date"
        case .keyNotSupported: "use another endorsement key of this TPM"
        case .keyMismatch: "treat the request as forged"
        case .templateMismatch:
            "a genuine key has a template of the TCG; treat the request as forged"
        }
    }
    public var stableCode: String {
        switch self {
        case .malformed, .noRoots: "EK_CERTIFICATE_UNREADABLE"
        case .pathInvalid, .notPinned: "EK_NOT_TRUSTED"
        case .keyNotSupported: "EK_NOT_SUPPORTED"
        case .keyMismatch, .templateMismatch: "EK_MISMATCH"
        }
    }
    public var exitStatus: ExitStatus { .refused }
}
