import HoldfastCrypto
import Testing

@Suite("sealed boxes") struct SealedBoxTests {
    private func key(_ first: UInt8 = 0) throws -> SealingPrivateKey {
        try SealingPrivateKey(scalar: SecretBytes(copying: counting(from: first, 32)))
    }

    @Test("opens what libsodium's crypto_box_seal made")
    func foreign() throws {
        let box = try hex(
            "4cc6110529825c033f268d95ce4b1e71708c4624ae794483dc9043614a740260"
                + "183eeffbcd6a864f0738f6154a42bc29d14244cca891866c")
        let key = try key()
        #expect(
            Hex.encode(key.publicKey.bytes)
                == "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f")
        #expect(try key.open(box).revealed() == utf8("holdfast"))
    }

    @Test("seals the same way with the same random bytes")
    func deterministic() throws {
        let box = try key().publicKey.seal(
            utf8("holdfast").span, random: fixed(counting(from: 32, 32)))
        #expect(
            Hex.encode(box) == "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
                + "a7dfc4858cf3e0f81b1fdbfb1781ce7ded30bcfab6bb5f1a")
    }

    @Test("opens its own boxes, empty ones too", arguments: [0, 1, 1000])
    func roundTrip(count: Int) throws {
        let key = SealingPrivateKey.generate(random: .system)
        let box = try key.publicKey.seal(counting(count).span, random: .system)
        #expect(box.count == count + SealedBox.overhead)
        #expect(try key.open(box).revealed() == counting(count))
    }

    @Test("refuses every changed bit, every other length and another key")
    func changed() throws {
        let key = try key()
        let box = try key.publicKey.seal([1, 2, 3].span, random: .system)
        for wrong in damaged(box) {
            // The top bit of a coordinate is ignored by X25519, but it is part of the nonce.
            do {
                _ = try key.open(wrong)
                Issue.record("a changed box opens")
            } catch {}
        }
        let other = try self.key(1)
        do {
            _ = try other.open(box)
            Issue.record("a box opens with another key")
        } catch { #expect(error == .authenticationFailed) }
    }

    @Test("seals nothing to a key that reveals it")
    func smallOrder() throws {
        for first: UInt8 in [0, 1] {
            let weak = try SealingPublicKey([first] + [UInt8](repeating: 0, count: 31))
            #expect(throws: CryptoError.publicKeyInvalid) {
                try weak.seal([1].span, random: .system)
            }
        }
        #expect(throws: CryptoError.lengthInvalid) { try SealingPublicKey(counting(31)) }
        #expect(throws: CryptoError.lengthInvalid) { try SealingPublicKey(counting(33)) }
    }
}
