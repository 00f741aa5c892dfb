public import HoldfastCrypto

/// A kind of endorsement key: the TCG's template with the place of its certificate.
///
/// In the order in which a device prefers them when nothing else decides: RSA 2048 where the TPM
/// ships a certificate for it, curves otherwise.
///
/// TCG EK Credential Profile 2.5, section 2.2.1 "NV indices" and annex B.
public enum EndorsementKeyKind: String, Sendable, Hashable, CaseIterable {
    /// RSA 2048, low range, template L-1.
    case rsa2048LowRange = "rsa-2048-low-range"
    /// RSA 2048, high range, template H-1.
    case rsa2048 = "rsa-2048"
    /// ECC P-256, low range, template L-2.
    case eccP256LowRange = "ecc-p256-low-range"
    /// ECC P-256, high range, template H-2.
    case eccP256 = "ecc-p256"
    /// ECC P-384, high range, template H-3.
    case eccP384 = "ecc-p384"
    /// RSA 3072, high range, template H-6.
    case rsa3072 = "rsa-3072"

    /// The kind of a public area, whatever its unique field; `nil` when no template fits.
    public init?(_ area: PublicArea) {
        let shape = area.withoutUnique
        guard let kind = Self.allCases.first(where: { $0.template.withoutUnique == shape })
        else { return nil }
        self = kind
    }

    /// Low-range keys have PolicyA alone and may have a nonce or a template of the maker in NV.
    public var isLowRange: Bool { self == .rsa2048LowRange || self == .eccP256LowRange }

    /// The NV index of the certificate.
    public var certificateIndex: TPMHandle {
        let offset: UInt32 =
            switch self {
            case .rsa2048LowRange: 0x02
            case .eccP256LowRange: 0x0A
            case .rsa2048: 0x12
            case .eccP256: 0x14
            case .eccP384: 0x16
            case .rsa3072: 0x1C
            }
        return TPMHandle(rawValue: 0x01C0_0000 + offset)
    }

    /// The NV index of the nonce in the unique field; low range alone.
    public var nonceIndex: TPMHandle? {
        isLowRange ? TPMHandle(rawValue: certificateIndex.rawValue + 1) : nil
    }

    /// The NV index of a template that the maker of the TPM left.
    public var templateIndex: TPMHandle {
        TPMHandle(rawValue: certificateIndex.rawValue + (isLowRange ? 2 : 1))
    }

    /// Where makers of TPMs and systems keep the key, by convention; `nil` where there is none.
    ///
    /// TCG TPM v2.0 Provisioning Guidance, section 7.8.
    public var conventionalHandle: TPMHandle? {
        switch self {
        case .rsa2048LowRange: TPMHandle(rawValue: 0x8101_0001)
        case .eccP384: TPMHandle(rawValue: 0x8101_0016)
        default: nil
        }
    }

    /// The template of the key; in the low range the unique field is zeros.
    public var template: PublicArea { template(nonce: []) }

    /// The template with a nonce at the beginning of the unique field.
    ///
    /// - Parameter nonce: content of the index at ``nonceIndex``; ignored in the high range.
    ///
    /// Annex B.3.2: the nonce is the first bytes of the modulus or of x, the rest is zeros.
    public func template(nonce: [UInt8]) -> PublicArea {
        func filled(_ size: Int) -> [UInt8] {
            guard isLowRange else { return [] }
            let start = nonce.prefix(size)
            return start + [UInt8](repeating: 0, count: size - start.count)
        }
        let bits: UInt16 = nameAlgorithm == .sha384 ? 256 : 128
        let symmetric = SymmetricDefinition.aesCFB(bits: bits)
        let kind: PublicArea.Kind =
            switch self {
            case .rsa2048LowRange, .rsa2048:
                .rsa(
                    symmetric: symmetric, scheme: .null, bits: 2048, exponent: 0,
                    modulus: filled(256))
            case .rsa3072:
                .rsa(symmetric: symmetric, scheme: .null, bits: 3072, exponent: 0, modulus: [])
            case .eccP256LowRange:
                .ecc(
                    symmetric: symmetric, scheme: .null, curve: .p256, x: filled(32),
                    y: [UInt8](repeating: 0, count: 32))
            case .eccP256:
                .ecc(symmetric: symmetric, scheme: .null, curve: .p256, x: [], y: [])
            case .eccP384:
                .ecc(symmetric: symmetric, scheme: .null, curve: .p384, x: [], y: [])
            }
        return PublicArea(
            nameAlgorithm: nameAlgorithm,
            // High range: userWithAuth too, with PolicyOR in the place of PolicyA.
            attributes: ObjectAttributes(rawValue: isLowRange ? 0x0003_00B2 : 0x0003_00F2),
            authPolicy: isLowRange ? policy.policyA.digest : policy.digest, kind: kind)
    }

    /// The hash of Name and policy.
    public var nameAlgorithm: HashAlgorithm {
        self == .eccP384 || self == .rsa3072 ? .sha384 : .sha256
    }

    /// The policy that its use takes; in the low range its first branch alone.
    public var policy: EndorsementPolicy { KeyTemplate.endorsementPolicy(nameAlgorithm) }
}

extension PublicArea {
    /// The area with an empty unique field: what is left is what was asked for.
    public var withoutUnique: PublicArea {
        var area = self
        switch kind {
        case .rsa(let symmetric, let scheme, let bits, let exponent, _):
            area.kind = .rsa(
                symmetric: symmetric, scheme: scheme, bits: bits, exponent: exponent, modulus: [])
        case .ecc(let symmetric, let scheme, let curve, _, _):
            area.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: [], y: [])
        case .keyedHash: area.kind = .keyedHash(unique: [])
        }
        return area
    }

    /// The bytes that make the key: the modulus, or x; empty for sealed data.
    public var identifyingBytes: [UInt8] {
        switch kind {
        case .rsa(_, _, _, _, let modulus): modulus
        case .ecc(_, _, _, let x, _): x
        case .keyedHash: []
        }
    }
}
