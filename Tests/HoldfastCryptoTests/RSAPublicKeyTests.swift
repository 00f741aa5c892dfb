import CryptoExtras
import Foundation
@testable import HoldfastCrypto
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

    @Test("OAEP without a label is what BoringSSL opens; with one, changed or cut, it is not")
    func oaep() throws {
        let pair = try Self.signer.get()
        let opener = try _RSA.Encryption.PrivateKey(derRepresentation: pair.derRepresentation)
        let key = try RSAPublicKey(pem: pair.publicKey.pemRepresentation)
        func open(_ bytes: [UInt8]) throws -> [UInt8] {
            [UInt8](try opener.decrypt(bytes, padding: .PKCS1_OAEP_SHA256))
        }
        for count in [0, 1, 32, 256 - 66] {
            let secret = RandomSource.system.bytes(count)
            func encrypted(_ label: [UInt8]) throws -> [UInt8] {
                try key.encryptOAEP(
                    SymmetricSecret(secret), hash: .sha256, label: label, random: .system)
            }
            let good = try encrypted([])
            #expect(good.count == 256)
            #expect(try encrypted([]) != good)
            #expect(try open(good) == secret)
            #expect(throws: (any Error).self) { try open(encrypted(Array("IDENTITY".utf8))) }
            #expect(throws: (any Error).self) { try open(encrypted([0])) }
            var changed = good
            changed[200] ^= 1
            #expect(throws: (any Error).self) { try open(changed) }
            #expect(throws: (any Error).self) { try open(Array(good.dropLast())) }
        }
    }

    @Test("a secret that is too long, and SHA-1, are refused")
    func oaepLimits() throws {
        let key = try RSAPublicKey(pem: Self.signer.get().publicKey.pemRepresentation)
        func encrypt(_ count: Int, _ hash: HashAlgorithm) throws {
            _ = try key.encryptOAEP(
                SymmetricSecret([UInt8](repeating: 7, count: count)), hash: hash, label: [],
                random: .system)
        }
        try encrypt(256 - 98, .sha384)
        #expect(throws: KeyError.rsaKeyInvalid) { try encrypt(256 - 97, .sha384) }
        #expect(throws: KeyError.rsaKeyInvalid) { try encrypt(256 - 65, .sha256) }
        #expect(throws: KeyError.hashNotAccepted) { try encrypt(1, .sha1) }
    }

    @Test("the raw operation opens signatures, for each length, and fixes 0, 1 and n - 1")
    func rawOperation() throws {
        for size in [_RSA.Signing.KeySize.bits2048, .bits3072, .bits4096] {
            let pair = try _RSA.Signing.PrivateKey(keySize: size)
            let key = try RSAPublicKey(pem: pair.publicKey.pemRepresentation)
            let modulus = MontgomeryModulus(key.modulus)
            for number in 0..<20 {
                let message = [UInt8(number)]
                let signature = [UInt8](
                    try pair.signature(for: message, padding: .insecurePKCS1v1_5)
                        .rawRepresentation)
                let block = modulus.power65537(signature)
                #expect(block.count == key.modulus.count)
                #expect(block.starts(with: [0, 1, 0xFF, 0xFF]))
                #expect(Array(block.suffix(32)) == HashAlgorithm.sha256.digest(message))
            }
            let zero = [UInt8](repeating: 0, count: key.modulus.count)
            let one = zero.dropLast() + [1]
            // The modulus is odd: one less changes the last byte alone.
            let highest = key.modulus.dropLast() + [key.modulus.last! - 1]
            for fixed in [zero, Array(one), Array(highest)] {
                #expect(modulus.power65537(fixed) == fixed)
            }
        }
    }
}
