public import HoldfastTPMWire

/// An endorsement key of a manufactured software TPM.
///
/// `swtpm_setup` 0.7.1 makes both with their certificates, with or without `--ecc`, so there is
/// nothing to choose when a TPM is made; choose when a key is used.
public enum EKKind: Sendable, Hashable, CaseIterable {
    /// P-384 with SHA-384 and AES-256, template H-3 of the EK Credential Profile (high range).
    case eccP384
    /// RSA 2048 with SHA-256 and AES-128, template L-1 (low range).
    case rsa2048

    /// Where the key is persistent.
    public var handle: TPMHandle {
        switch self {
        case .eccP384: TPMHandle(rawValue: 0x8101_0016)
        case .rsa2048: TPMHandle(rawValue: 0x8101_0001)
        }
    }

    /// The NV index of its certificate, in DER.
    public var certificateIndex: TPMHandle {
        switch self {
        case .eccP384: TPMHandle(rawValue: 0x01C0_0016)
        case .rsa2048: TPMHandle(rawValue: 0x01C0_0002)
        }
    }
}
