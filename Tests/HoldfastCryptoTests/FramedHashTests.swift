import HoldfastCrypto
import Testing

@Suite("framed hash") struct FramedHashTests {
    @Test("hashes as Python does over the framing of the specification")
    func knownAnswers() throws {
        #expect(
            Hex.encode(framedHash(.vendor, counting(32)))
                == "179d59073f308531f29ed086868b28e0ab5a10906433183d1f61ffad751194f7")
        #expect(
            Hex.encode(framedHash(.policyReference, nil, utf8("lease"), utf8("model:A")))
                == "0c24aed1904112c4019b55d7313cfdf21fa1d5030e2fc3409022343bb05bb979")
        #expect(
            Hex.encode(framedHash(.deviceBinding))
                == "0e285c9d58de16493b1c0c3a60d3b08d0995af38b636a9bcf0824ed523a76662")
        let keyed = "fe24621294601714aa0ce006b51fd24b0d8395f853754db31ecf491fe2ddea3f"
        #expect(
            try Hex.encode(
                framedKeyedHash(
                    .pairwise, key: SecretBytes(copying: counting(32)), utf8("abc"))) == keyed)
        #expect(
            try Hex.encode(
                framedKeyedHash(.pairwise, key: SymmetricSecret(counting(32)), utf8("abc")))
                == keyed)
    }

    @Test("labels, and where fields end, make a difference; absent and empty do not")
    func separation() {
        let hashes = HashLabel.allCases.map { framedHash($0, [1], [2]) }
        #expect(Set(hashes).count == HashLabel.allCases.count)
        #expect(framedHash(.vendor, [1], [2]) != framedHash(.vendor, [1, 2]))
        #expect(framedHash(.vendor, [1], [2]) != framedHash(.vendor, [1, 2], nil))
        #expect(framedHash(.vendor, [1], nil) != framedHash(.vendor, [1]))
        #expect(framedHash(.vendor, [1], nil) == framedHash(.vendor, [1], []))
    }

    @Test("the list of labels is the one of the specification")
    func labels() {
        #expect(
            HashLabel.allCases.map(\.rawValue) == [
                "vendor", "template", "pairwise", "recipient", "device-binding", "evidence",
                "request", "policy-ref", "checkpoint", "hardware-fact",
            ])
    }

    @Test("refuses keys that are too short or too long", arguments: [0, 15, 65])
    func keyLength(count: Int) throws {
        #expect(throws: CryptoError.lengthInvalid) {
            try framedKeyedHash(.pairwise, key: SymmetricSecret(counting(count)), [1])
        }
    }
}
