import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("canonical JSON")
struct CanonicalJSONTests {
    @Test(
        "a value has one encoding",
        arguments: [
            #"{}"#, #"[]"#, #"{"a":1,"b":[true,false,"x"]}"#, #"18446744073709551615"#,
            #""\"\\\u0000\u001f/é""#, #"{"":0}"#, #"[[[[[[[1]]]]]]]"#,
        ])
    func canonical(text: String) throws {
        let value = try CanonicalJSON(decoding: Array(text.utf8))
        #expect(value.encoded == Array(text.utf8))
    }

    @Test(
        "any other encoding is refused",
        arguments: [
            "", " {}", "{} ", "{ }", #"{"b":1,"a":1}"#, #"{"a":1,"a":1}"#, "01", "-1", "1.0", "1e3",
            "null", #""\n""#, #""\/""#, #""\u0041""#, #""\u001F""#, "\"\u{1}\"", "[1,]", "[,1]",
            #"{"a":1,}"#, #"{"a"}"#, "[", "\"", "tru", "18446744073709551616", "[[[[[[[[1]]]]]]]]",
            "{}{}", "+1", "[1 ,2]",
        ])
    func refused(text: String) {
        #expect(throws: CanonicalJSON.NotCanonical.self, "\(text)") {
            try CanonicalJSON(decoding: Array(text.utf8))
        }
    }

    @Test("bytes that are not UTF-8 are refused")
    func notUTF8() {
        for bytes in [
            [0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22],
        ] {
            #expect(throws: CanonicalJSON.NotCanonical.self) {
                try CanonicalJSON(decoding: bytes.map { UInt8($0) })
            }
        }
    }
}

@Suite("trust statements")
final class TrustStatementTests {
    private let root = Ed25519PrivateKey.generate(random: .system)
    private let issuer = Ed25519PrivateKey.generate(random: .system)
    private let sealing = SealingPrivateKey.generate(random: .system)
    private let approval = ECPrivateKey(curve: .p256, random: .system)

    private func statement(
        sequence: UInt64 = 1, urls: [String] = ["https://licenses.example/"],
        rootKey: Ed25519PublicKey? = nil
    ) throws -> TrustStatement {
        TrustStatement(
            rootKey: rootKey ?? root.publicKey, sequence: sequence,
            issuerKeys: [issuer.publicKey], sealingKeys: [sealing.publicKey],
            approvalKey: approval.publicKey, tlsKeys: [[UInt8](repeating: 3, count: 32)],
            endorsementKeys: [
                .init(manufacturer: "id:00001014", model: "swtpm", kind: "ecc-p384")
            ], factSalt: [UInt8](repeating: 4, count: 16), urls: urls,
            selection: try #require(PCRSelection(text: "sha256:7")))
    }

    @Test("a statement is read as it was signed")
    func roundTrip() throws {
        let made = try statement()
        let text = try made.signed(with: root).text
        let read = try TrustStatement(verifying: PASETOToken(parsing: text), replacing: nil)
        #expect(read == made)
        #expect(read.vendorID == VendorID(rootKey: root.publicKey))
    }

    @Test("no bit of a statement can be changed, and nothing is cut or added")
    func bitFlips() throws {
        let token = try statement().signed(with: root)
        for bit in 0..<token.body.count * 8 {
            var body = token.body
            body[bit / 8] ^= 1 << (bit % 8)
            let changed = try PASETOToken(
                purpose: token.purpose, body: body, footer: token.footer)
            #expect(throws: TokenError.self, "bit \(bit)") {
                try TrustStatement(verifying: changed, replacing: nil)
            }
        }
        for bit in 0..<token.footer.count * 8 {
            var footer = token.footer
            footer[bit / 8] ^= 1 << (bit % 8)
            let changed = try PASETOToken(
                purpose: token.purpose, body: token.body, footer: footer)
            #expect(throws: TokenError.self) {
                try TrustStatement(verifying: changed, replacing: nil)
            }
        }
        for body in [Array(token.body.dropLast()), Array(token.body.dropFirst()), token.body + [0]]
        {
            let changed = try PASETOToken(
                purpose: token.purpose, body: body, footer: token.footer)
            #expect(throws: TokenError.self) {
                try TrustStatement(verifying: changed, replacing: nil)
            }
        }
    }

    @Test("only the same root key and a higher sequence replace a statement")
    func replacement() throws {
        let present = try statement(sequence: 5)
        let newer = try statement(sequence: 6).signed(with: root)
        #expect(try TrustStatement(verifying: newer, replacing: present).sequence == 6)
        let same = try present.signed(with: root)
        #expect(try TrustStatement(verifying: same, replacing: present) == present)
        let older = try statement(sequence: 4).signed(with: root)
        #expect(throws: TokenError.superseded) {
            try TrustStatement(verifying: older, replacing: present)
        }
        let otherAtSame = try statement(sequence: 5, urls: []).signed(with: root)
        #expect(throws: TokenError.superseded) {
            try TrustStatement(verifying: otherAtSame, replacing: present)
        }
        let stranger = Ed25519PrivateKey.generate(random: .system)
        let foreign = try statement(sequence: 9, rootKey: stranger.publicKey)
            .signed(with: stranger)
        #expect(throws: TokenError.foreignKey) {
            try TrustStatement(verifying: foreign, replacing: present)
        }
    }

    @Test("a statement is signed by the key that it names")
    func ownKey() throws {
        let stranger = Ed25519PrivateKey.generate(random: .system)
        #expect(throws: TokenError.foreignKey) { try statement().signed(with: stranger) }
        let token = try statement().signed(with: root)
        let forged = try PASETO.sign(
            [UInt8](token.body.dropLast(64)), footer: token.footer, implicitAssertion: [],
            with: stranger)
        #expect(throws: TokenError.notAuthentic(.signatureInvalid)) {
            try TrustStatement(verifying: forged, replacing: nil)
        }
    }

    @Test("claims that are missing, unknown or out of range are refused though they are signed")
    func claims() throws {
        let payload = [UInt8](try statement().signed(with: root).body.dropLast(64))
        guard case .object(let members) = try CanonicalJSON(decoding: payload) else {
            Issue.record("a payload is an object")
            return
        }
        let footer = Array(PASERK.identifier(of: root.publicKey).text.utf8)
        func refusal(_ change: (inout [String: CanonicalJSON]) -> Void) throws -> TokenError? {
            var changed = members
            change(&changed)
            let token = try PASETO.sign(
                CanonicalJSON.object(changed).encoded, footer: footer, implicitAssertion: [],
                with: root)
            do throws(TokenError) {
                _ = try TrustStatement(verifying: token, replacing: nil)
                return nil
            } catch {
                return error
            }
        }
        for name in members.keys {
            #expect(try refusal { $0[name] = nil } == .missing(name))
            let wrong = try refusal { $0[name] = .bool(true) }
            #expect(wrong == .malformed(name), "\(name)")
        }
        #expect(try refusal { $0["extra"] = .number(1) } == .unknown("extra"))
        #expect(try refusal { $0["x-extra"] = .number(1) } == nil)
        #expect(try refusal { $0["kind"] = .string("license") } == .wrongKind("license"))
        #expect(try refusal { $0["sequence"] = .number(0) } == .malformed("sequence"))
        #expect(try refusal { $0["issuerKeys"] = .array([]) } == .malformed("issuerKeys"))
        #expect(
            try refusal { $0["urls"] = .array([.string("http://a")]) } == .malformed("urls"))
        #expect(
            try refusal {
                $0["approvalKey"] = .string(Base64URL.encode([UInt8](repeating: 1, count: 64)))
            }
                == .malformed("approvalKey"))
    }

    @Test("retired keys are told, and a key is not in both lists")
    func retired() throws {
        let trust = try statement()
        let former = Ed25519PrivateKey.generate(random: .system).publicKey
        func with(_ retired: [Ed25519PublicKey]) -> TrustStatement {
            TrustStatement(
                rootKey: trust.rootKey, sequence: 2, issuerKeys: trust.issuerKeys,
                sealingKeys: trust.sealingKeys, approvalKey: trust.approvalKey,
                tlsKeys: trust.tlsKeys, endorsementKeys: trust.endorsementKeys,
                factSalt: trust.factSalt, urls: trust.urls, selection: trust.selection,
                retiredIssuerKeys: retired)
        }
        let read = try TrustStatement(
            verifying: with([former]).signed(with: root), replacing: trust)
        #expect(read.retiredIssuerKeys == [former])
        #expect(read.everyIssuerKey == trust.issuerKeys + [former])
        #expect(throws: TokenError.malformed("retiredIssuerKeys")) {
            try with(trust.issuerKeys).signed(with: self.root)
        }
        let many = (0...TrustStatement.maximumRetired).map { _ in
            Ed25519PrivateKey.generate(random: .system).publicKey
        }
        #expect(throws: TokenError.malformed("retiredIssuerKeys")) {
            try with(many).signed(with: self.root)
        }
    }

    @Test("a token that is no trust statement is refused")
    func otherTokens() throws {
        let local = try PASETO.encrypt(
            Array("{}".utf8).span, footer: [], implicitAssertion: [],
            key: SecretBytes(copying: [UInt8](repeating: 1, count: 32)), random: .system)
        #expect(throws: TokenError.notAuthentic(.wrongKind)) {
            try TrustStatement(verifying: local, replacing: nil)
        }
        let empty = try PASETO.sign([], footer: [], implicitAssertion: [], with: root)
        #expect(throws: TokenError.self) { try TrustStatement(verifying: empty, replacing: nil) }
    }
}

@Suite("identifiers")
struct IdentifierTests {
    @Test("ids of two vendors for one device have nothing in common, and are these bytes")
    func pairwise() throws {
        let first = TPMName(hash: .sha256, publicArea: [1])
        let second = TPMName(hash: .sha256, publicArea: [2])
        #expect(PairwiseID(attestationKey: first) != PairwiseID(attestationKey: second))
        #expect(
            Hex.encode(PairwiseID(attestationKey: first).bytes)
                == "c3d296ed760a35bdef4bf3c61699e5589f34bb5e27dfb53d381a7747beb8bf2e")
        #expect(PairwiseID(attestationKey: first).description.hasPrefix("dev_"))
        #expect(PairwiseID(attestationKey: first).description.count == 36)
    }

    @Test("a binding differs by license, by incarnation and by device")
    func binding() {
        let here = TPMName(hash: .sha256, publicArea: [1])
        let there = TPMName(hash: .sha256, publicArea: [2])
        let license = [UInt8](repeating: 1, count: 16)
        let bindings: [[UInt8]] = [
            DeviceBinding.license(license, on: here), DeviceBinding.license(license, on: there),
            DeviceBinding.license([UInt8](repeating: 2, count: 16), on: here),
            DeviceBinding.incarnation(1, of: here), DeviceBinding.incarnation(2, of: here),
            DeviceBinding.incarnation(1, of: there),
        ]
        #expect(Set(bindings).count == bindings.count)
        #expect(DeviceBinding.recipientTag(license, attestationKey: here).count == 8)
        #expect(
            DeviceBinding.recipientTag(license, attestationKey: here)
                != DeviceBinding.recipientTag(license, attestationKey: there))
    }
}
