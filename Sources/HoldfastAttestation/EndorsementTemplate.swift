import HoldfastCrypto
import HoldfastTPMWire

/// The TCG's templates of endorsement keys that are accepted, without the unique field.
///
/// TCG EK Credential Profile 2.5, annex B: L-1 and L-2 of the low range, whose policy is PolicyA
/// alone, and H-1 to H-3 of the high range.
enum EndorsementTemplate {
    static let all: [(name: String, area: PublicArea)] = [
        ("ecc-p384", KeyTemplate.endorsementKeyP384),
        ("ecc-p256", KeyTemplate.endorsementKeyP256),
        ("ecc-p256-low-range", low(eccP256)),
        ("rsa-2048-low-range", low(rsa2048)),
        ("rsa-2048", high(rsa2048)),
    ]

    private static let eccP256 = PublicArea.Kind.ecc(
        symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: [], y: [])
    private static let rsa2048 = PublicArea.Kind.rsa(
        symmetric: .aesCFB(bits: 128), scheme: .null, bits: 2048, exponent: 0, modulus: [])

    private static func low(_ kind: PublicArea.Kind) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0003_00B2),
            authPolicy: KeyTemplate.endorsementPolicy(.sha256).policyA.digest, kind: kind)
    }

    private static func high(_ kind: PublicArea.Kind) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0003_00F2),
            authPolicy: KeyTemplate.endorsementPolicy(.sha256).digest, kind: kind)
    }
}

extension PublicArea {
    /// The area with the unique field of a template: what is left is what was asked for.
    var withoutUnique: PublicArea {
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
}
