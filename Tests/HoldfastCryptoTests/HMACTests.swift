import HoldfastCrypto
import Testing

@Suite("HMAC") struct HMACTests {
    struct Vector: Sendable {
        let key: [UInt8]
        let message: [UInt8]
        let codes: [HashAlgorithm: String]
    }

    /// RFC 4231, cases 1, 2 and 6: a short key, a shorter one, and one longer than every block.
    static let vectors = [
        Vector(
            key: [UInt8](repeating: 0x0B, count: 20), message: utf8("Hi There"),
            codes: [
                .sha256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
                .sha384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
                    + "faea9ea9076ede7f4af152e8b2fa9cb6",
            ]),
        Vector(
            key: utf8("Jefe"), message: utf8("what do ya want for nothing?"),
            codes: [
                .sha256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
                .sha384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
                    + "8e2240ca5e69e2c78b3239ecfab21649",
            ]),
        Vector(
            key: [UInt8](repeating: 0xAA, count: 131),
            message: utf8("Test Using Larger Than Block-Size Key - Hash Key First"),
            codes: [
                .sha256: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
                .sha384: "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
                    + "0c2ef6ab4030fe8296248df163f44952",
            ]),
    ]

    @Test("makes what RFC 4231 publishes, in one part and in several", arguments: vectors)
    func published(vector: Vector) {
        let key = SymmetricSecret(vector.key)
        for (hash, code) in vector.codes {
            #expect(Hex.encode(hash.hmac(key: key, vector.message)) == code)
            let (head, rest) = (Array(vector.message[..<3]), Array(vector.message[3...]))
            #expect(Hex.encode(hash.hmac(key: key, head, [], rest)) == code)
        }
    }

    @Test("two secrets are one after the other, and an empty one adds nothing")
    func joined() {
        let all = SymmetricSecret(counting(20))
        let head = all.extracting(0..<7)
        let rest = all.extracting(7..<20)
        #expect(head.appending(rest).copyBytes() == counting(20))
        #expect(head.appending(Array(counting(20)[7...])).copyBytes() == counting(20))
        let empty = SymmetricSecret([])
        #expect(empty.count == 0)
        #expect(empty.appending(all).copyBytes() == counting(20))
        #expect(all.appending(empty).copyBytes() == counting(20))
        #expect("\(all)" == "SymmetricSecret(20 bytes, not shown)")
    }
}
