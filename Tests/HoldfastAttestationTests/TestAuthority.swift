import Crypto
import CryptoExtras
import Foundation
import SwiftASN1
import X509

/// TPM makers that exist in this test only, with everything right until it is made wrong.
struct TestAuthority {
    let name: DistinguishedName
    let key: Certificate.PrivateKey
    let certificate: Certificate
    private let signingKey: P256.Signing.PrivateKey
    private let signsWithRSA: Bool
    /// With what it signs unless told otherwise.
    var algorithm: Certificate.SignatureAlgorithm {
        signsWithRSA ? .sha256WithRSAEncryption : .ecdsaWithSHA256
    }

    var pem: [UInt8] { testPEM(testDER(certificate)) }

    /// What an authority's certificate says.
    struct Contents {
        var isAuthority = true
        var maximumPathLength: Int?
        var usage = KeyUsage(keyCertSign: true)
        var version = Certificate.Version.v3
        var notBefore = Date(timeIntervalSince1970: 1_600_000_000)
        var notAfter = Date(timeIntervalSince1970: 2_000_000_000)
        var more: [Certificate.Extension] = []
    }

    /// - Parameter issuer: `nil` for a root.
    init(
        _ name: String, below issuer: TestAuthority?, _ contents: Contents = Contents(),
        rsa: _RSA.Signing.PrivateKey? = nil, algorithm: Certificate.SignatureAlgorithm? = nil
    ) throws {
        self.name = try DistinguishedName {
            OrganizationName("Holdfast tests")
            CommonName(name)
        }
        signingKey = P256.Signing.PrivateKey()
        key = rsa.map { Certificate.PrivateKey($0) } ?? Certificate.PrivateKey(signingKey)
        signsWithRSA = rsa != nil
        var extensions = Certificate.Extensions()
        if contents.version == .v3 {
            let constraints: BasicConstraints =
                contents.isAuthority
                ? .isCertificateAuthority(maxPathLength: contents.maximumPathLength)
                : .notCertificateAuthority
            try extensions.append(Certificate.Extension(constraints, critical: true))
            try extensions.append(Certificate.Extension(contents.usage, critical: true))
            for more in contents.more { try extensions.append(more) }
        }
        let serial = Certificate.SerialNumber(bytes: [1, 2, 3] as [UInt8])
        certificate = try Certificate(
            version: contents.version, serialNumber: serial,
            publicKey: key.publicKey, notValidBefore: contents.notBefore,
            notValidAfter: contents.notAfter, issuer: issuer?.name ?? self.name,
            subject: self.name,
            signatureAlgorithm: algorithm ?? issuer?.algorithm
                ?? (rsa == nil ? .ecdsaWithSHA256 : .sha256WithRSAEncryption),
            extensions: extensions, issuerPrivateKey: issuer?.key ?? key)
    }

    /// Signs again after something in the signed part was changed, without another encoding.
    func sign(_ certificate: Certificate, changing: (inout [UInt8]) -> Void) throws -> [UInt8] {
        var signed = [UInt8](certificate.tbsCertificateBytes)
        changing(&signed)
        let signature = [UInt8](try signingKey.signature(for: signed).derRepresentation)
        let algorithm: [UInt8] = [
            0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02,
        ]
        return element(0x30, signed + algorithm + element(0x03, [0] + signature))
    }
}

/// An endorsement key certificate, with everything right until it is made wrong.
struct TestEndorsement {
    var publicKey = Certificate.PublicKey(P384.Signing.PrivateKey().publicKey)
    var usages: [ASN1ObjectIdentifier] = [[2, 23, 133, 8, 1]]
    var usage = KeyUsage(keyAgreement: true)
    var constraints: BasicConstraints? = .notCertificateAuthority
    var names: [(ASN1ObjectIdentifier, String)] = [
        ([2, 23, 133, 2, 1], "id:00000001"), ([2, 23, 133, 2, 2], "model-00001"),
        ([2, 23, 133, 2, 3], "id:00000002"),
    ]
    var isOneName = false
    var serial: [UInt8] = [0x01, 0x02]
    var version = Certificate.Version.v3
    var more: [Certificate.Extension] = []
    var notBefore = Date(timeIntervalSince1970: 1_600_000_000)
    var notAfter = Date(timeIntervalSince1970: 2_000_000_000)

    func issue(
        by issuer: TestAuthority, algorithm: Certificate.SignatureAlgorithm? = nil
    ) throws -> Certificate {
        var extensions = Certificate.Extensions()
        if let constraints {
            try extensions.append(Certificate.Extension(constraints, critical: true))
        }
        try extensions.append(Certificate.Extension(usage, critical: true))
        if !usages.isEmpty {
            try extensions.append(
                Certificate.Extension(
                    ExtendedKeyUsage(usages.map { ExtendedKeyUsage.Usage(oid: $0) }),
                    critical: false))
        }
        let attributes = names.map {
            RelativeDistinguishedName.Attribute(type: $0.0, utf8String: $0.1)
        }
        let name =
            isOneName
            ? DistinguishedName([RelativeDistinguishedName(attributes)])
            : DistinguishedName(attributes.map { RelativeDistinguishedName($0) })
        if !names.isEmpty {
            try extensions.append(
                Certificate.Extension(
                    SubjectAlternativeNames([.directoryName(name)]), critical: true))
        }
        for more in more { try extensions.append(more) }
        return try Certificate(
            version: version, serialNumber: Certificate.SerialNumber(bytes: serial),
            publicKey: publicKey, notValidBefore: notBefore, notValidAfter: notAfter,
            issuer: issuer.name, subject: DistinguishedName(),
            signatureAlgorithm: algorithm ?? issuer.algorithm, extensions: extensions,
            issuerPrivateKey: issuer.key)
    }
}

/// The encoding of a certificate.
func testDER(_ certificate: Certificate) -> [UInt8] {
    var serializer = DER.Serializer()
    try? serializer.serialize(certificate)
    return serializer.serializedBytes
}

/// DER in PEM.
func testPEM(_ der: [UInt8]) -> [UInt8] {
    Array(PEMDocument(type: "CERTIFICATE", derBytes: der).pemString.utf8)
}

private func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
    switch content.count {
    case ..<0x80: [tag, UInt8(content.count)] + content
    case ..<0x100: [tag, 0x81, UInt8(content.count)] + content
    default: [tag, 0x82, UInt8(content.count >> 8), UInt8(content.count & 0xFF)] + content
    }
}

extension [UInt8] {
    /// Overwrites the only place where these bytes stand.
    mutating func overwrite(_ old: [UInt8], with new: [UInt8]) {
        precondition(old.count == new.count)
        for start in indices where self[start...].starts(with: old) {
            replaceSubrange(start..<start + old.count, with: new)
            return
        }
        preconditionFailure("the bytes are not there")
    }
}
