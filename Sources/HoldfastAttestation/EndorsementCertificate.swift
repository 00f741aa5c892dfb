import Crypto
import FoundationEssentials
import HoldfastCrypto
import SwiftASN1
import X509

/// A certificate whose signature can be verified over what its maker wrote.
struct ReadCertificate: Sendable {
    let loose: LooseCertificate
    /// Parsed from the copy without known faults; for reading, not for verifying.
    let certificate: Certificate

    init?(der: [UInt8]) {
        guard let loose = LooseCertificate(der),
            let certificate = try? Certificate(derEncoded: loose.strictCopy)
        else { return nil }
        self.loose = loose
        self.certificate = certificate
    }

    /// One certificate in DER, or any number in PEM.
    ///
    /// - Returns: `nil` when the bytes hold none, or one that cannot be read.
    static func all(in bytes: [UInt8]) -> [ReadCertificate]? {
        if let one = ReadCertificate(der: bytes) { return [one] }
        // What people write before and between certificates is no part of them: RFC 7468, section 2.
        var text = ""
        var isInside = false
        for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
            if line.hasPrefix("-----BEGIN ") { isInside = true }
            if isInside { text += line + "\n" }
            if line.hasPrefix("-----END ") { isInside = false }
        }
        guard let documents = try? PEMDocument.parseMultiple(pemString: text), !documents.isEmpty
        else { return nil }
        var read: [ReadCertificate] = []
        for document in documents {
            guard document.discriminator == "CERTIFICATE",
                let one = ReadCertificate(der: document.derBytes)
            else { return nil }
            read.append(one)
        }
        return read
    }

    /// The public key, when it is of a kind that endorsement keys have.
    var key: VerificationKey? {
        let curve: EllipticCurve
        let point: [UInt8]
        if let key = P384.Signing.PublicKey(certificate.publicKey) {
            (curve, point) = (.p384, [UInt8](key.rawRepresentation))
        } else if let key = P256.Signing.PublicKey(certificate.publicKey) {
            (curve, point) = (.p256, [UInt8](key.rawRepresentation))
        } else {
            let der = [UInt8](certificate.publicKey.subjectPublicKeyInfoBytes)
            return (try? RSAPublicKey(der: der)).map(VerificationKey.rsa)
        }
        let size = curve.coordinateSize
        return
            (try? ECPublicKey(
                curve: curve, x: [UInt8](point[..<size]), y: [UInt8](point[size...])))
            .map(VerificationKey.ec)
    }

    /// Manufacturer, model and version from the directory names in the subject alternative name.
    var tpmNames: TPMNames? {
        guard let names = try? certificate.extensions.subjectAlternativeNames else { return nil }
        return TPMNames(names)
    }
}

/// What a certificate says of the TPM.
struct TPMNames: Sendable {
    let manufacturer: String
    let model: String
    let version: String

    /// TCG EK Credential Profile 2.5, section 3.1: tpmManufacturer, tpmModel and tpmVersion.
    ///
    /// - Returns: `nil` unless each of them is there once.
    init?(_ names: SubjectAlternativeNames) {
        let demanded: [ASN1ObjectIdentifier] = [
            [2, 23, 133, 2, 1], [2, 23, 133, 2, 2], [2, 23, 133, 2, 3],
        ]
        var found: [ASN1ObjectIdentifier: String] = [:]
        for case .directoryName(let name) in names {
            for attribute in name.joined() where demanded.contains(attribute.type) {
                guard let text = String(attribute.value), !text.isEmpty,
                    found.updateValue(text, forKey: attribute.type) == nil
                else { return nil }
            }
        }
        guard let manufacturer = found[demanded[0]], let model = found[demanded[1]],
            let version = found[demanded[2]]
        else { return nil }
        self.manufacturer = manufacturer
        self.model = model
        self.version = version
    }
}

/// Extensions of RFC 5280, section 4.2.1.
enum ExtensionID {
    static let keyUsage: ASN1ObjectIdentifier = [2, 5, 29, 15]
    static let subjectAlternativeName: ASN1ObjectIdentifier = [2, 5, 29, 17]
    static let basicConstraints: ASN1ObjectIdentifier = [2, 5, 29, 19]
    static let nameConstraints: ASN1ObjectIdentifier = [2, 5, 29, 30]
    static let certificatePolicies: ASN1ObjectIdentifier = [2, 5, 29, 32]
    static let extendedKeyUsage: ASN1ObjectIdentifier = [2, 5, 29, 37]
    /// `tcg-kp-EKCertificate`.
    static let endorsementUsage: ASN1ObjectIdentifier = [2, 23, 133, 8, 1]
    static let anyUsage: ASN1ObjectIdentifier = [2, 5, 29, 37, 0]
}
