import HoldfastCrypto
import Testing

@Suite("Ed25519") struct Ed25519Tests {
    // RFC 8032, section 7.1, tests 1 and 2.
    static let known = [
        (
            seed: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            point: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            message: "",
            signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                + "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
        (
            seed: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            point: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            message: "72",
            signature: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                + "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ]

    @Test("signs and verifies as RFC 8032 does", arguments: known.indices)
    func knownAnswer(index: Int) throws {
        let known = Self.known[index]
        let key = try Ed25519PrivateKey(seed: SecretBytes(copying: hex(known.seed)))
        let message = try hex(known.message)
        #expect(try key.publicKey.bytes == hex(known.point))
        let signature = key.sign(message)
        #expect(try signature.bytes == hex(known.signature))
        try key.publicKey.verify(signature, over: message)
    }

    @Test("refuses every changed bit and every other length of a signature")
    func changedSignature() throws {
        let key = Ed25519PrivateKey.generate(random: .system)
        let point = key.publicKey
        for wrong in damaged(key.sign([1, 2, 3]).bytes) {
            #expect(throws: CryptoError.self) {
                try point.verify(Ed25519Signature(wrong), over: [1, 2, 3])
            }
        }
    }

    @Test("refuses another message and another key")
    func changedMessage() throws {
        let key = Ed25519PrivateKey.generate(random: .system)
        let point = key.publicKey
        let message = counting(20)
        let signature = key.sign(message)
        for wrong in damaged(message) {
            #expect(throws: CryptoError.signatureInvalid) {
                try point.verify(signature, over: wrong)
            }
        }
        for wrong in damaged(point.bytes) {
            #expect(throws: CryptoError.self) {
                try Ed25519PublicKey(wrong).verify(signature, over: message)
            }
        }
    }

    @Test("refuses S plus the group order: a signature has one form")
    func malleability() throws {
        let known = Self.known[0]
        var signature = try hex(known.signature)
        let order = try hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
        var carry = 0
        for index in 0..<32 {
            let sum = Int(signature[32 + index]) + Int(order[index]) + carry
            signature[32 + index] = UInt8(truncatingIfNeeded: sum)
            carry = sum >> 8
        }
        #expect(carry == 0)
        let point = try Ed25519PublicKey(hex(known.point))
        let changed = try Ed25519Signature(signature)
        #expect(throws: CryptoError.signatureInvalid) { try point.verify(changed, over: []) }
    }

    @Test("a point of small order verifies nothing")
    func smallOrder() throws {
        // With the neutral element as key, R = S * B holds for any message.
        let neutral = try Ed25519PublicKey([1] + [UInt8](repeating: 0, count: 31))
        let signature = try Ed25519Signature([1] + [UInt8](repeating: 0, count: 63))
        #expect(throws: CryptoError.signatureInvalid) {
            try neutral.verify(signature, over: [1])
        }
    }

    @Test("refuses seeds of another length", arguments: [0, 31, 33, 64])
    func seedLength(count: Int) throws {
        let seed = SecretBytes(count: count) { _ in }
        let error = #expect(throws: CryptoError.self) { _ = try Ed25519PrivateKey(seed: seed) }
        #expect(error == .lengthInvalid)
    }
}
