import CryptoExtras
import Foundation
import HoldfastCrypto
import Testing

@Suite("RSA public keys")
struct RSAPublicKeyTests {
    private static let signer = Result { try _RSA.Signing.PrivateKey(keySize: .bits2048) }

    @Test("PEM and DER, in either form, are the same key")
    func forms() throws {
        let signer = try Self.signer.get().publicKey
        let key = try RSAPublicKey(pem: signer.pemRepresentation)
        #expect(try RSAPublicKey(pem: signer.pkcs1PEMRepresentation) == key)
        #expect(try RSAPublicKey(der: [UInt8](signer.derRepresentation)) == key)
        #expect(try RSAPublicKey(modulus: key.modulus, exponent: 65_537) == key)
        for wrong in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            #expect(throws: KeyError.rsaKeyInvalid) { try RSAPublicKey(pem: wrong) }
        }
        #expect(throws: KeyError.rsaKeyInvalid) { try RSAPublicKey(der: [0x30, 0x00]) }
    }

    @Test("each padding verifies its own signatures, with the hash that is named")
    func paddings() throws {
        let signer = try Self.signer.get()
        let key = try RSAPublicKey(pem: signer.publicKey.pemRepresentation)
        let message = Array("message".utf8)
        let pkcs1 = [UInt8](
            try signer.signature(for: message, padding: .insecurePKCS1v1_5).rawRepresentation)
        let pss = [UInt8](try signer.signature(for: message, padding: .PSS).rawRepresentation)
        try key.verify(pkcs1, over: message, hash: .sha256, padding: .pkcs1)
        try key.verify(pss, over: message, hash: .sha256, padding: .pss)
        for (signature, hash, padding) in [
            (pkcs1, HashAlgorithm.sha256, RSASignaturePadding.pss), (pss, .sha256, .pkcs1),
            (pkcs1, .sha384, .pkcs1), (pss, .sha512, .pss), ([], .sha256, .pkcs1),
            (pkcs1 + [0], .sha256, .pkcs1), ([0] + pkcs1, .sha256, .pkcs1),
        ] {
            #expect(throws: KeyError.signatureInvalid) {
                try key.verify(signature, over: message, hash: hash, padding: padding)
            }
        }
        #expect(throws: KeyError.hashNotAccepted) {
            try key.verify(pkcs1, over: message, hash: .sha1, padding: .pkcs1)
        }
    }
}
