import HoldfastCrypto
import Testing

@Suite("text encodings") struct TextEncodingTests {
    // RFC 4648, section 10, in the case and without the padding that we use.
    static let known = [
        ("", "", "", ""), ("f", "66", "my", "Zg"), ("fo", "666f", "mzxq", "Zm8"),
        ("foo", "666f6f", "mzxw6", "Zm9v"), ("foob", "666f6f62", "mzxw6yq", "Zm9vYg"),
        ("fooba", "666f6f6261", "mzxw6ytb", "Zm9vYmE"),
        ("foobar", "666f6f626172", "mzxw6ytboi", "Zm9vYmFy"),
    ]

    @Test("encodes and decodes as RFC 4648 does", arguments: known.indices)
    func knownAnswers(index: Int) throws {
        let (text, hex, base32, base64) = Self.known[index]
        #expect(Hex.encode(utf8(text)) == hex)
        #expect(Base32.encode(utf8(text)) == base32)
        #expect(Base64URL.encode(utf8(text)) == base64)
        #expect(try Hex.decode(variableTime: hex) == utf8(text))
        #expect(try Base32.decode(variableTime: base32) == utf8(text))
        #expect(try Base64URL.decode(base64) == utf8(text))
    }

    @Test("decodes what it encodes, at every length and with every value")
    func roundTrip() throws {
        for count in 0...300 {
            let bytes = counting(from: UInt8(truncatingIfNeeded: count &* 37), count)
            #expect(try Hex.decode(variableTime: Hex.encode(bytes)) == bytes)
            #expect(try Base32.decode(variableTime: Base32.encode(bytes)) == bytes)
            #expect(try Base64URL.decode(Base64URL.encode(bytes)) == bytes)
        }
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        #expect(try Base64URL.encode(Base64URL.decode(alphabet)) == alphabet)
    }

    /// Every text of up to two characters, and more where the end is what matters.
    @Test("accepts a text only when it is the one encoding of its bytes")
    func canonical() {
        var texts: [String] = []
        let characters = (0..<128).map { String(UnicodeScalar(UInt8($0))) }
        for first in characters {
            texts.append(first)
            for second in characters {
                texts += [first + second, "aa" + first + second, "aaaaaa" + first + second]
                texts += ["a" + first + second, "aaa" + first + second]
            }
        }
        for text in texts {
            if let bytes = try? Hex.decode(variableTime: text), Hex.encode(bytes) != text {
                Issue.record("hex takes \(text)")
            }
            if let bytes = try? Base32.decode(variableTime: text), Base32.encode(bytes) != text {
                Issue.record("base 32 takes \(text)")
            }
            if let bytes = try? Base64URL.decode(text), Base64URL.encode(bytes) != text {
                Issue.record("base 64 takes \(text)")
            }
        }
    }

    @Test(
        "refuses upper case, odd lengths and other characters",
        arguments: ["6", "6F", "0x", "g0", " 66", "66\n", "é", "6\u{301}"])
    func hexRefusals(text: String) {
        #expect(throws: CryptoError.encodingInvalid) { try Hex.decode(variableTime: text) }
    }

    @Test(
        "refuses upper case, padding, impossible lengths and trailing bits",
        arguments: ["MY", "my======", "m", "mzx", "mzxw6y", "mz", "mzxr", "m1", "m8", "ｍｙ"])
    func base32Refusals(text: String) {
        #expect(throws: CryptoError.encodingInvalid) { try Base32.decode(variableTime: text) }
    }

    @Test(
        "refuses padding, the other alphabet, impossible lengths and trailing bits",
        arguments: ["Zg==", "Z", "Zm9vY", "Zh", "Zm9", "++++", "////", "Zm9v\n", "Zm 9", "Zm9é"])
    func base64Refusals(text: String) {
        #expect(throws: CryptoError.encodingInvalid) { try Base64URL.decode(text) }
    }
}
