import Crypto
import FoundationEssentials
import HoldfastCrypto
import HoldfastServices
import NIOSSL
import SwiftASN1
import X509

/// Who the server is in TLS.
///
/// Devices pin the key and look at nothing else, for the wall clock decides nothing; so the
/// certificate is made anew at each start, and is valid for as long as dates go.
struct ServerIdentity {
    let configuration: TLSConfiguration

    init(_ keys: VendorKeys) throws {
        let key = try keys.tlsKey()
        let parsed = try key.scalar().withBytes { bytes in
            try P256.Signing.PrivateKey(rawRepresentation: bytes.indices.map { bytes[$0] })
        }
        let name = try DistinguishedName { CommonName("holdfast-server") }
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(),
            publicKey: Certificate.PublicKey(parsed.publicKey),
            notValidBefore: Date(timeIntervalSince1970: 946_684_800),
            notValidAfter: Date(timeIntervalSince1970: 253_402_300_799), issuer: name,
            subject: name, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                SubjectAlternativeNames([.dnsName("localhost")])
            }, issuerPrivateKey: Certificate.PrivateKey(parsed))
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: [
                .certificate(
                    try NIOSSLCertificate(bytes: serializer.serializedBytes, format: .der))
            ],
            privateKey: .privateKey(
                try NIOSSLPrivateKey(bytes: [UInt8](parsed.derRepresentation), format: .der)))
        configuration.minimumTLSVersion = .tlsv12
        self.configuration = configuration
    }
}
