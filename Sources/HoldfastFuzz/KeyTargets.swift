import FoundationEssentials
import Crypto
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import SwiftASN1
import X509

let keyTargets: [FuzzTarget] = [certificate, quoteKey, paserk]

/// An authority that makes endorsement key certificates, in small.
private struct Authority: Sendable {
    let root: [UInt8]
    let endorsement: [UInt8]
    let publicKey: ECPublicKey

    /// One for all inputs.
    static let shared = Result { try Authority() }

    private init() throws {
        let random = RepeatedRandom(1000).source
        let signing = try P256.Signing.PrivateKey(rawRepresentation: random.bytes(32))
        let key = Certificate.PrivateKey(signing)
        let endorsed = ECPrivateKey(curve: .p256, random: random).publicKey
        publicKey = endorsed
        let name = try DistinguishedName { CommonName("root") }
        let before = Date(timeIntervalSince1970: 1_600_000_000)
        let after = Date(timeIntervalSince1970: 2_000_000_000)
        let root = try Certificate(
            version: .v3, serialNumber: .init(bytes: [1] as [UInt8]), publicKey: key.publicKey,
            notValidBefore: before, notValidAfter: after, issuer: name, subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true))
            }, issuerPrivateKey: key)
        let identifiers: [(ASN1ObjectIdentifier, String)] = [
            ([2, 23, 133, 2, 1], "id:00000001"), ([2, 23, 133, 2, 2], "model-1"),
            ([2, 23, 133, 2, 3], "id:00000002"),
        ]
        let names = DistinguishedName(
            identifiers.map {
                RelativeDistinguishedName(
                    RelativeDistinguishedName.Attribute(type: $0.0, utf8String: $0.1))
            })
        let point = try P256.Signing.PublicKey(rawRepresentation: endorsed.x + endorsed.y)
        let endorsement = try Certificate(
            version: .v3, serialNumber: .init(bytes: [2] as [UInt8]),
            publicKey: Certificate.PublicKey(point), notValidBefore: before, notValidAfter: after,
            issuer: name, subject: DistinguishedName(), signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(keyAgreement: true))
                try ExtendedKeyUsage([ExtendedKeyUsage.Usage(oid: [2, 23, 133, 8, 1])])
                Critical(SubjectAlternativeNames([.directoryName(names)]))
            }, issuerPrivateKey: key)
        self.root = try Self.der(root)
        self.endorsement = try Self.der(endorsement)
    }

    private static func der(_ certificate: Certificate) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }
}

private let certificate = FuzzTarget(
    "certificate", maximumSize: 2048, accepted: 3,
    seeds: {
        let authority = try Authority.shared.get()
        return [
            authority.endorsement, authority.endorsement + [0xFF, 0xFF],
            Array(
                ("words\n"
                    + PEMDocument(type: "CERTIFICATE", derBytes: authority.endorsement).pemString)
                    .utf8), authority.root,
        ]
    },
    waiting: { bytes in
        let authority = try Authority.shared.get()
        // As an authority it is read, and trusted, or refused.
        _ = try? EndorsementPathVerifier(roots: [bytes], intermediates: [bytes])
        let verifier = try EndorsementPathVerifier(
            roots: [authority.root], intermediates: [bytes])
        let appraisal = await verifier.appraise(
            bytes, at: Date(timeIntervalSince1970: 1_800_000_000))
        guard let verified = appraisal.verified else { return false }
        // Nobody else has the authority's key.
        try demand(verified.key == .ec(authority.publicKey), "another key was certified")
        try demand(
            verified.manufacturer == "id:00000001" && verified.model == "model-1",
            "another TPM was certified")
        return true
    })

private let quoteKey = FuzzTarget(
    "quote-key", maximumSize: 2048, accepted: 3,
    seeds: {
        let sample = try Sample.shared.get()
        var sized = WireWriter()
        sized.sized(sample.attestationKey.wireBytes)
        return [
            sample.attestationKey.wireBytes, sized.bytes, Array(sample.key.publicKey.pem.utf8),
            sample.key.publicKey.subjectPublicKeyInfo,
        ]
    },
    check: { bytes in
        if let key = try? RSAPublicKey(der: bytes) { _ = key.isFactorable }
        let attestation = EvidenceFiles.attestation(bytes)
        try demand(attestation.count <= bytes.count, "an attestation grew")
        guard let key = try? EvidenceFiles.key(bytes) else { return false }
        let sample = try Sample.shared.get()
        let quote = try sample.quote(sample.nonce)
        let appraisal = QuoteAppraisal(
            UnverifiedQuote(
                attestation: quote.attestation.bytes, signature: quote.signature.bytes,
                values: sample.values),
            expecting: QuoteExpectation(
                key: key, nonce: sample.nonce, minimumNonceSize: 16, selection: sample.selection,
                qualifiedSigner: nil))
        if appraisal.verified != nil {
            let read = try? key.publicArea.map { (area) in try area.ecPublicKey() }
            try demand(
                read.map { $0 == sample.key.publicKey } ?? (key == .bare(sample.key.publicKey)),
                "another key verifies the quote")
        }
        return true
    })

private let paserk = FuzzTarget(
    "paserk", maximumSize: 256, accepted: 3,
    seeds: {
        let sample = try Sample.shared.get()
        let issuer = try sample.issuer()
        let secret = PASERK.text(of: issuer)
        let local = try PASERK.text(ofLocalKey: SecretBytes(copying: sample.localKey))
        return [
            Array(PASERK.text(of: issuer.publicKey).utf8),
            Array(PASERK.identifier(of: issuer.publicKey).text.utf8),
            secret.withBytes { bytes in bytes.indices.map { bytes[$0] } },
            local.withBytes { bytes in bytes.indices.map { bytes[$0] } },
        ]
    },
    check: { bytes in
        var accepted = false
        func same(_ text: borrowing SecretBytes, _ what: String) throws {
            let again = text.withBytes { text in text.indices.map { text[$0] } }
            try demand(again == bytes, "\(what) has two texts")
            accepted = true
        }
        if let key = try? PASERK.secretKey(parsing: bytes.span) {
            try same(PASERK.text(of: key), "a secret key")
        }
        if let key = try? PASERK.localKey(parsing: bytes.span) {
            try same(PASERK.text(ofLocalKey: key), "a local key")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { return accepted }
        if let key = try? PASERK.publicKey(parsing: text) {
            try demand(PASERK.text(of: key) == text, "a public key has two texts")
            accepted = true
        }
        if let id = try? PASERKIdentifier(parsing: text) {
            try demand(id.text == text, "an id has two texts")
            accepted = true
        }
        return accepted
    })
