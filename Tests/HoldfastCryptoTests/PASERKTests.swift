import HoldfastCrypto
import Testing

@Suite("PASERK k4") struct PASERKTests {
    // The published vectors of the key 70…8f, which are always here.
    static let key = "707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f"
    static let pair = key + "1ce56a48c82ff99162a14bc544612674e5d61fb9317e65d4055780fdbcb4dc35"
    static let encoded = "cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8"

    private static func inline(_ name: String, _ key: String, _ text: String) -> PublishedVector {
        PublishedVector(name: "inline \(name)", expectFail: false, key: key, paserk: text)
    }

    /// What a type of text is made from and read back to; both throw what is refused.
    private func write(_ type: String, _ key: [UInt8]) throws -> String {
        switch type {
        case "k4.public": PASERK.text(of: try Ed25519PublicKey(key))
        case "k4.pid": PASERK.identifier(of: try Ed25519PublicKey(key)).text
        case "k4.local":
            String(
                decoding: try PASERK.text(ofLocalKey: SecretBytes(copying: key)).revealed(),
                as: UTF8.self)
        case "k4.lid": try PASERK.identifier(ofLocalKey: SecretBytes(copying: key)).text
        case "k4.secret":
            String(decoding: PASERK.text(of: try secretKey(key)).revealed(), as: UTF8.self)
        default: PASERK.identifier(of: try secretKey(key)).text
        }
    }

    /// The vectors give seed and public key; only reading a text compares the two.
    private func secretKey(_ pair: [UInt8]) throws -> Ed25519PrivateKey {
        let text = utf8("k4.secret." + Base64URL.encode(pair))
        return try PASERK.secretKey(parsing: text.span)
    }

    private func read(_ type: String, _ text: String) throws -> [UInt8] {
        switch type {
        case "k4.public": try PASERK.publicKey(parsing: text).bytes
        case "k4.local": try PASERK.localKey(parsing: utf8(text).span).revealed()
        default:
            try Base64URL.decode(
                String(
                    decoding: PASERK.text(of: PASERK.secretKey(parsing: utf8(text).span))
                        .revealed().dropFirst(10), as: UTF8.self))
        }
    }

    @Test(
        "writes and reads as the published vectors do",
        arguments: [
            inline("k4.public", key, "k4.public." + encoded),
            inline("k4.local", key, "k4.local." + encoded),
            inline("k4.pid", key, "k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs"),
            inline("k4.lid", key, "k4.lid.iVtYQDjr5gEijCSjJC3fQaJm7nCeQSeaty0Jixy8dbsk"),
            inline("k4.sid", pair, "k4.sid.gHYyx8y5YzqKEZeYoMDqUOKejdSnY_AWhYZiSCMjR1V5"),
            inline(
                "k4.secret", pair,
                "k4.secret.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8c5WpIyC_5kWKhS8VEYSZ05dYfuTF"
                    + "-ZdQFV4D9vLTcNQ"),
        ]
            + ["public", "pid", "secret", "sid", "local", "lid"].flatMap {
                PublishedVector.read("k4.\($0)")
            })
    func published(vector: PublishedVector) throws {
        let name = vector.name.replacing("inline ", with: "")
        let type = String(name.prefix { $0 != "-" })
        if vector.expectFail {
            if let key = vector.key {
                #expect(throws: CryptoError.self) { try write(type, hex(key)) }
            }
            if let text = vector.paserk {
                #expect(throws: CryptoError.self) { try read(type, text) }
            }
            return
        }
        let text = try #require(vector.paserk)
        let key = try hex(try #require(vector.key))
        #expect(try write(type, key) == text)
        if type.hasSuffix("id") {
            #expect(try PASERKIdentifier(parsing: text).text == text)
        } else {
            #expect(try read(type, text) == key)
        }
    }

    @Test("refuses texts that were shortened, extended or changed in a header")
    func changed() throws {
        for type in ["k4.public", "k4.local", "k4.secret"] {
            let text = try write(type, hex(type == "k4.secret" ? Self.pair : Self.key))
            for length in 0..<text.utf8.count {
                #expect(throws: CryptoError.self) { try read(type, String(text.prefix(length))) }
            }
            for wrong in [
                text + "A", text + "=", text + "\n", " " + text, text.uppercased(),
                "k3" + text.dropFirst(2), "v4" + text.dropFirst(2),
                type + "-" + text.dropFirst(type.count + 1), String(text.dropLast()) + "B",
            ] {
                #expect(throws: CryptoError.self, "\(wrong)") { try read(type, wrong) }
            }
        }
        #expect(throws: CryptoError.wrongKind) { try read("k4.public", "k4.local." + Self.encoded) }
        #expect(throws: CryptoError.wrongKind) { try read("k4.local", "k4.public." + Self.encoded) }
        for wrong in ["", "k4.pid.", "k4.pid." + Self.encoded, "k4.public." + Self.encoded] {
            #expect(throws: CryptoError.self) { try PASERKIdentifier(parsing: wrong) }
        }
    }

    @Test("refuses every changed bit of a private key whose public key stands beside it")
    func halves() throws {
        let pair = try hex(Self.pair)
        for wrong in damaged(pair) {
            #expect(throws: CryptoError.self) { _ = try secretKey(wrong) }
        }
    }

    @Test("ids of different kinds of key differ")
    func kinds() throws {
        let bytes = try hex(Self.key)
        let identifiers = Set([
            PASERK.identifier(of: try Ed25519PublicKey(bytes)),
            try PASERK.identifier(ofLocalKey: SecretBytes(copying: bytes)),
            PASERK.identifier(of: try Ed25519PrivateKey(seed: bytes.span)),
        ])
        #expect(identifiers.count == 3)
        #expect(Set(identifiers.map(\.kind)).count == 3)
    }
}
