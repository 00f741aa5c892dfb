import Crypto
public import FoundationEssentials
public import HoldfastCrypto
public import HoldfastErrors
public import HoldfastTPMWire
import SwiftASN1
@_spi(FixedExpiryValidationTime) import X509

/// Why an endorsement key certificate is refused.
public enum EndorsementError: Error, Sendable, Hashable {
    /// Not a certificate, or one that cannot be read.
    case malformed
    /// There is no root to trust.
    case noRoots
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
        case .pathInvalid(let reasons):
            "the certificate does not lead to a trusted TPM maker: "
                + reasons.joined(separator: "; ")
        case .keyNotSupported: "the endorsement key is not on P-256 or P-384"
        case .keyMismatch: "the endorsement key is not the one in the certificate"
        case .templateMismatch:
            "the endorsement key does not have a template that is known: it may be software"
        }
    }
    public var remedy: String? {
        switch self {
        case .malformed: "check which file was given"
        case .noRoots: "give a directory with the TPM maker's certificates, *.pem"
        case .pathInvalid:
            "add the maker's certificates if this maker is to be trusted; check the date"
        case .keyNotSupported: "use another endorsement key of this TPM"
        case .keyMismatch: "treat the request as forged"
        case .templateMismatch:
            "only the high-range templates are known; if this key has one, treat it as forged"
        }
    }
    public var stableCode: String {
        switch self {
        case .malformed, .noRoots: "EK_CERTIFICATE_UNREADABLE"
        case .pathInvalid: "EK_NOT_TRUSTED"
        case .keyNotSupported: "EK_NOT_SUPPORTED"
        case .keyMismatch, .templateMismatch: "EK_MISMATCH"
        }
    }
    public var exitStatus: ExitStatus { .refused }
}

/// Proof that a TPM maker vouches for an endorsement key.
public struct VerifiedEndorsement: Sendable, Hashable {
    /// The certified key.
    public let key: ECPublicKey
    /// From the certificate, for example `id:49465800`.
    public let manufacturer: String
    public let model: String
    public let version: String
    /// SHA-256 of the certificate without padding.
    public let fingerprint: [UInt8]

    /// Demands that a public area is this key with the TCG's template.
    ///
    /// - Returns: the kind of endorsement key, for example `ecc-p384`.
    /// - Throws: `.keyMismatch` for another key, `.templateMismatch` for other attributes, another
    ///   policy or another cipher.
    ///
    /// TCG EK Credential Profile 2.5, annex B.
    public func demand(_ area: PublicArea) throws(EndorsementError) -> String {
        guard let stated = try? area.ecPublicKey(), stated == key else { throw .keyMismatch }
        let templates: [(PublicArea, String)] = [
            (KeyTemplate.endorsementKeyP384, "ecc-p384"),
            (KeyTemplate.endorsementKeyP256, "ecc-p256"),
        ]
        for (template, name) in templates {
            guard case .ecc(let symmetric, let scheme, let curve, _, _) = template.kind,
                case .ecc(_, _, _, let x, let y) = area.kind
            else { continue }
            var filled = template
            filled.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: x, y: y)
            if filled == area { return name }
        }
        throw .templateMismatch
    }
}

/// Verifies endorsement key certificates against TPM makers that an operator trusts.
///
/// RFC 5280, section 6; TCG EK Credential Profile 2.5, section 3.
public struct EndorsementPathVerifier: Sendable {
    private let roots: [Certificate]
    private let intermediates: [Certificate]

    /// - Parameters:
    ///   - roots: certificates that are trusted, each file with one in DER or any number in PEM.
    ///   - intermediates: certificates that may stand in a path, likewise.
    /// - Throws: `.noRoots`, `.malformed` when one of them cannot be read.
    public init(roots: [[UInt8]], intermediates: [[UInt8]]) throws(EndorsementError) {
        guard !roots.isEmpty else { throw .noRoots }
        self.roots = Array(try roots.map(Self.certificates).joined())
        self.intermediates = Array(try intermediates.map(Self.certificates).joined())
    }

    /// The certificate without what a TPM maker left behind it in NV; nothing is encoded again.
    ///
    /// - Returns: `nil` when the bytes do not begin with a DER sequence of a length that fits.
    public static func trimmed(_ bytes: [UInt8]) -> [UInt8]? {
        guard bytes.count > 4, bytes[0] == 0x30, bytes[1] == 0x82 else { return nil }
        let size = 4 + Int(bytes[2]) << 8 + Int(bytes[3])
        guard size <= bytes.count else { return nil }
        // Erased NV reads as zeros or ones; anything else behind a certificate is no padding.
        let rest = bytes[size...]
        guard rest.allSatisfy({ $0 == 0x00 }) || rest.allSatisfy({ $0 == 0xFF }) else {
            return nil
        }
        return [UInt8](bytes[..<size])
    }

    /// One certificate in DER, or one or more in PEM.
    private static func certificates(
        _ bytes: [UInt8]
    ) throws(EndorsementError) -> [Certificate] {
        do {
            if let der = trimmed(bytes) { return [try Certificate(derEncoded: der)] }
            let documents = try PEMDocument.parseMultiple(
                pemString: String(decoding: bytes, as: UTF8.self))
            guard !documents.isEmpty else { throw EndorsementError.malformed }
            return try documents.map { try Certificate(pemDocument: $0) }
        } catch {
            throw .malformed
        }
    }

    /// Verifies a certificate.
    ///
    /// - Parameters:
    ///   - bytes: PEM, or DER with padding behind it or without.
    ///   - date: at which every certificate of the path must be valid.
    public func verify(
        _ bytes: [UInt8], at date: Date
    ) async throws(EndorsementError) -> VerifiedEndorsement {
        let read = try Self.certificates(bytes)
        guard read.count == 1, let leaf = read.first else { throw .malformed }
        var verifier = Verifier(rootCertificates: CertificateStore(roots)) {
            RFC5280Policy(fixedExpiryValidationTime: date)
            EndorsementPolicy509()
        }
        let result = await verifier.validate(
            leaf: leaf, intermediates: CertificateStore(intermediates))
        switch result {
        case .couldNotValidate(let failures):
            let reasons = failures.map(\.policyFailureReason.description).filter { !$0.isEmpty }
            throw .pathInvalid(
                reasons.isEmpty ? ["no trusted certificate has signed it"] : reasons)
        case .validCertificate: break
        }
        guard let key = Self.key(leaf) else { throw .keyNotSupported }
        guard let names = TPMNames(leaf) else {
            throw .pathInvalid(["the certificate does not name the TPM"])
        }
        var serializer = DER.Serializer()
        guard (try? serializer.serialize(leaf)) != nil else { throw .malformed }
        return VerifiedEndorsement(
            key: key, manufacturer: names.manufacturer, model: names.model,
            version: names.version,
            fingerprint: HashAlgorithm.sha256.digest(
                Self.trimmed(bytes) ?? serializer.serializedBytes))
    }

    private static func key(_ certificate: Certificate) -> ECPublicKey? {
        let curve: EllipticCurve
        let point: [UInt8]
        if let key = P384.Signing.PublicKey(certificate.publicKey) {
            (curve, point) = (.p384, [UInt8](key.rawRepresentation))
        } else if let key = P256.Signing.PublicKey(certificate.publicKey) {
            (curve, point) = (.p256, [UInt8](key.rawRepresentation))
        } else {
            return nil
        }
        let size = curve.coordinateSize
        return try? ECPublicKey(
            curve: curve, x: [UInt8](point[..<size]), y: [UInt8](point[size...]))
    }
}

/// What an endorsement key certificate must say besides RFC 5280's rules.
private struct EndorsementPolicy509: VerifierPolicy {
    /// `tcg-kp-EKCertificate`.
    static let endorsement: ASN1ObjectIdentifier = [2, 23, 133, 8, 1]
    private static let subjectAlternativeName: ASN1ObjectIdentifier = [2, 5, 29, 17]
    private static let extendedKeyUsage: ASN1ObjectIdentifier = [2, 5, 29, 37]
    private static let keyUsage: ASN1ObjectIdentifier = [2, 5, 29, 15]

    let verifyingCriticalExtensions = [
        Self.subjectAlternativeName, Self.extendedKeyUsage, Self.keyUsage,
    ]

    func chainMeetsPolicyRequirements(
        chain: UnverifiedCertificateChain
    ) async -> PolicyEvaluationResult {
        let leaf = chain.leaf
        do {
            guard let usages = try leaf.extensions.extendedKeyUsage,
                usages.contains(where: { ASN1ObjectIdentifier($0) == Self.endorsement })
            else { return .failsToMeetPolicy(reason: "it is no endorsement key certificate") }
            if case .isCertificateAuthority? = try leaf.extensions.basicConstraints {
                return .failsToMeetPolicy(reason: "the certificate is that of an authority")
            }
            guard let usage = try leaf.extensions.keyUsage,
                usage.keyAgreement || usage.keyEncipherment, !usage.keyCertSign
            else { return .failsToMeetPolicy(reason: "its key usage is not that of a storage key") }
            guard TPMNames(leaf) != nil else {
                return .failsToMeetPolicy(reason: "the certificate does not name the TPM")
            }
            for issuer in chain.dropFirst() {
                if let usage = try issuer.extensions.keyUsage, !usage.keyCertSign {
                    return .failsToMeetPolicy(reason: "an issuer may not sign certificates")
                }
            }
            return .meetsPolicy
        } catch {
            return .failsToMeetPolicy(reason: "an extension cannot be read")
        }
    }
}

/// Manufacturer, model and version from the directory name in the subject alternative name.
private struct TPMNames {
    let manufacturer: String
    let model: String
    let version: String

    init?(_ certificate: Certificate) {
        guard let names = try? certificate.extensions.subjectAlternativeNames else { return nil }
        var found: [ASN1ObjectIdentifier: String] = [:]
        for case .directoryName(let name) in names {
            for attribute in name.joined() {
                found[attribute.type] = String(attribute.value)
            }
        }
        guard let manufacturer = found[[2, 23, 133, 2, 1]], let model = found[[2, 23, 133, 2, 2]],
            let version = found[[2, 23, 133, 2, 3]], !manufacturer.isEmpty
        else { return nil }
        self.manufacturer = manufacturer
        self.model = model
        self.version = version
    }
}
