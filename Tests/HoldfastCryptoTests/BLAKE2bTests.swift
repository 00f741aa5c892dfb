import HoldfastCrypto
import Testing

@Suite("BLAKE2b") struct BLAKE2bTests {
    @Test("hashes abc as RFC 7693, appendix A does")
    func knownAnswer() throws {
        let expected =
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
            + "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
        #expect(Hex.encode(BLAKE2b.hash(utf8("abc"), outputSize: 64)) == expected)
    }

    @Test("hashes under a key as Python's hashlib does")
    func keyed() throws {
        let hash = try BLAKE2b.hash(
            utf8("abc"), key: SecretBytes(copying: counting(32)), outputSize: 32)
        #expect(
            Hex.encode(hash) == "d63a32d3e44738d7907f964316c241adaba0abfeabc32349677578a15a203f7f")
    }

    @Test("refuses keys that are too short or too long", arguments: [0, 15, 65])
    func keyLength(count: Int) throws {
        #expect(throws: CryptoError.lengthInvalid) {
            try BLAKE2b.hash([], key: SecretBytes(count: count) { _ in }, outputSize: 32)
        }
    }
}
