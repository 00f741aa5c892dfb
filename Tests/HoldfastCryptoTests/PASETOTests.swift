import HoldfastCrypto
import Testing

@Suite("PASETO v4") struct PASETOTests {
    static let seed = "b4cbfb43df4ce210727d953e4a713307fa19bb7d9f85041438d9e11b942a3774"
    static let localKey = "707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f"
    static let kid = "{\"kid\":\"zVhMiPBP9fRf2snEcT7gFTioeA9COcNy9DfgL1W60haN\"}"

    // 4-S-3, 4-E-7 and 4-F-3 of the published vectors, which are always here.
    static let inline = [
        PublishedVector(
            name: "inline 4-S-3", expectFail: false,
            publicKey: "1eb9dbbbbc047c03fd70604e0071f0987e16b28b757225c11f00415d0e20b1a2",
            secretKeySeed: seed,
            token: "v4.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAyMi0wMS0w"
                + "MVQwMDowMDowMCswMDowMCJ9NPWciuD3d0o5eXJXG5pJy-DiVEoyPYWs1YSTwWHNJq6DZD3je5gf-0"
                + "M4JR9ipdUSJbIovzmBECeaWmaqcaP0DQ.eyJraWQiOiJ6VmhNaVBCUDlmUmYyc25FY1Q3Z0ZUaW9lQ"
                + "TlDT2NOeTlEZmdMMVc2MGhhTiJ9",
            payload:
                "{\"data\":\"this is a signed message\",\"exp\":\"2022-01-01T00:00:00+00:00\"}",
            footer: kid, implicitAssertion: "{\"test-vector\":\"4-S-3\"}"),
        PublishedVector(
            name: "inline 4-E-7", expectFail: false, key: localKey,
            nonce: "df654812bac492663825520ba2f6e67cf5ca5bdc13d4e7507a98cc4c2fcc3ad8",
            token:
                "v4.local.32VIErrEkmY4JVILovbmfPXKW9wT1OdQepjMTC_MOtjA4kiqw7_tcaOM5GNEcnTxl60WkwM"
                + "sYXw6FSNb_UdJPXjpzm0KW9ojM5f4O2mRvE2IcweP-PRdoHjd5-RHCiExR1IK6t40KCCWLA7GYL9KFH"
                + "zKlwY9_RnIfRrMQpueydLEAZGGcA.eyJraWQiOiJ6VmhNaVBCUDlmUmYyc25FY1Q3Z0ZUaW9lQTlDT2"
                + "NOeTlEZmdMMVc2MGhhTiJ9",
            payload:
                "{\"data\":\"this is a secret message\",\"exp\":\"2022-01-01T00:00:00+00:00\"}",
            footer: kid, implicitAssertion: "{\"test-vector\":\"4-E-7\"}"),
        PublishedVector(
            name: "inline 4-F-3", expectFail: true, key: localKey,
            token:
                "v3.local.23e_2PiqpQBPvRFKzB0zHhjmxK3sKo2grFZRRLM-U7L0a8uHxuF9RlVz3Ic6WmdUUWTxCaY"
                + "ycwWV1yM8gKbZB2JhygDMKvHQ7eBf8GtF0r3K0Q_gF1PXOxcOgztak1eD1dPe9rLVMSgR0nHJXeIGYV"
                + "uVrVoLWQ.YXJiaXRyYXJ5LXN0cmluZy10aGF0LWlzbid0LWpzb24",
            footer: "arbitrary-string-that-isn't-json",
            implicitAssertion: "{\"test-vector\":\"4-F-3\"}"),
    ]

    @Test(
        "reads and writes as the published vectors do",
        arguments: inline + PublishedVector.read("v4"))
    func published(vector: PublishedVector) throws {
        let text = try #require(vector.token)
        let footer = utf8(vector.footer ?? "")
        let implicit = utf8(vector.implicitAssertion ?? "")
        if vector.expectFail {
            #expect(throws: CryptoError.self) {
                let token = try PASETOToken(parsing: text)
                if let key = vector.key {
                    _ = try PASETO.decrypt(
                        token, key: SecretBytes(copying: hex(key)), expectedFooter: footer,
                        implicitAssertion: implicit)
                } else {
                    _ = try PASETO.verify(
                        token, with: Ed25519PublicKey(hex(vector.publicKey ?? "")),
                        expectedFooter: footer, implicitAssertion: implicit)
                }
            }
            return
        }
        let token = try PASETOToken(parsing: text)
        #expect(token.text == text)
        let payload = utf8(try #require(vector.payload))
        if let key = vector.key {
            let key = SecretBytes(copying: try hex(key))
            let opened = try PASETO.decrypt(
                token, key: key, expectedFooter: footer, implicitAssertion: implicit)
            #expect(opened.revealed() == payload)
            let made = try PASETO.encrypt(
                payload.span, footer: footer, implicitAssertion: implicit, key: key,
                random: fixed(hex(vector.nonce ?? "")))
            #expect(made.text == text)
        } else {
            let key = try Ed25519PrivateKey(
                seed: SecretBytes(copying: hex(vector.secretKeySeed ?? "")))
            let point = key.publicKey
            #expect(Hex.encode(point.bytes) == vector.publicKey)
            let verified = try PASETO.verify(
                token, with: point, expectedFooter: footer, implicitAssertion: implicit)
            #expect(verified.payload == payload)
            #expect(verified.footer == footer)
            #expect(verified.signer == point)
            let made = try PASETO.sign(
                payload, footer: footer, implicitAssertion: implicit, with: key)
            #expect(made.text == text)
        }
    }

    private func signer() throws -> Ed25519PrivateKey {
        try Ed25519PrivateKey(seed: SecretBytes(copying: hex(Self.seed)))
    }

    private func verify(
        _ token: PASETOToken, with key: Ed25519PublicKey? = nil, footer: [UInt8]? = nil,
        implicit: [UInt8] = [9]
    ) throws {
        _ = try PASETO.verify(
            token, with: key ?? signer().publicKey, expectedFooter: footer,
            implicitAssertion: implicit)
    }

    private func decrypt(
        _ token: PASETOToken, with key: [UInt8] = counting(32), footer: [UInt8]? = nil,
        implicit: [UInt8] = [9]
    ) throws {
        _ = try PASETO.decrypt(
            token, key: SecretBytes(copying: key), expectedFooter: footer,
            implicitAssertion: implicit)
    }

    private func small(_ purpose: PASETOPurpose) throws -> PASETOToken {
        switch purpose {
        case .v4Public:
            try PASETO.sign(utf8("{}"), footer: [1, 2], implicitAssertion: [9], with: signer())
        case .v4Local:
            try PASETO.encrypt(
                utf8("{}").span, footer: [1, 2], implicitAssertion: [9],
                key: SecretBytes(copying: counting(32)), random: .system)
        }
    }

    private func open(
        _ token: PASETOToken, footer: [UInt8]? = nil, implicit: [UInt8] = [9]
    ) throws {
        switch token.purpose {
        case .v4Public: try verify(token, footer: footer, implicit: implicit)
        case .v4Local: try decrypt(token, footer: footer, implicit: implicit)
        }
    }

    @Test("refuses every change of the parts of a small token", arguments: PASETOPurpose.allCases)
    func changedParts(purpose: PASETOPurpose) throws {
        let token = try small(purpose)
        try open(token)
        try open(token, footer: [1, 2])
        for body in damaged(token.body) {
            #expect(throws: CryptoError.self) {
                try open(PASETOToken(purpose: purpose, body: body, footer: token.footer))
            }
        }
        for footer in damaged(token.footer) {
            #expect(throws: CryptoError.self) {
                try open(PASETOToken(purpose: purpose, body: token.body, footer: footer))
            }
            let error = #expect(throws: CryptoError.self) { try open(token, footer: footer) }
            #expect(error == .footerMismatch)
        }
        for implicit in damaged([9]) {
            #expect(throws: CryptoError.self) { try open(token, implicit: implicit) }
        }
    }

    @Test("refuses every change of the text of a small token", arguments: PASETOPurpose.allCases)
    func changedText(purpose: PASETOPurpose) throws {
        let text = utf8(try small(purpose).text)
        for wrong in damaged(text) {
            guard let wrong = String(validating: wrong, as: UTF8.self) else { continue }
            #expect(throws: CryptoError.self, "\(wrong)") { try open(PASETOToken(parsing: wrong)) }
        }
    }

    @Test("refuses another key")
    func otherKey() throws {
        let signed = try small(.v4Public)
        let other = Ed25519PrivateKey.generate(random: .system).publicKey
        #expect(throws: CryptoError.signatureInvalid) { try verify(signed, with: other) }
        let sealed = try small(.v4Local)
        #expect(throws: CryptoError.authenticationFailed) {
            try decrypt(sealed, with: counting(from: 1, 32))
        }
        for count in [0, 31, 33] {
            #expect(throws: CryptoError.lengthInvalid) {
                try decrypt(sealed, with: counting(count))
            }
        }
    }

    @Test("refuses a token of the other purpose, even with the same bytes")
    func otherPurpose() throws {
        let signed = try small(.v4Public)
        let sealed = try small(.v4Local)
        #expect(throws: CryptoError.wrongKind) { try verify(sealed) }
        #expect(throws: CryptoError.wrongKind) { try decrypt(signed) }
        let relabelled = try PASETOToken(
            purpose: .v4Public, body: sealed.body, footer: sealed.footer)
        #expect(throws: CryptoError.signatureInvalid) { try verify(relabelled) }
        let other = try PASETOToken(purpose: .v4Local, body: signed.body, footer: signed.footer)
        #expect(throws: CryptoError.authenticationFailed) { try decrypt(other) }
    }

    @Test("text and parts are the same token", arguments: PASETOPurpose.allCases)
    func forms(purpose: PASETOPurpose) throws {
        for footer in [[], [1]] as [[UInt8]] {
            let token = try PASETOToken(purpose: purpose, body: counting(70), footer: footer)
            #expect(try PASETOToken(parsing: token.text) == token)
        }
    }

    @Test(
        "refuses text that is not exactly a token",
        arguments: [
            "", "v4", "v4.", "v4.public", "v4.public.", "v4.local.", "V4.public.{64}",
            "v2.local.{64}",
            "v4.public.{64}.", "v4.public.{64}.Zg.", "v4.public.{64}.Zg.Zg", "v4.public.{64}==",
            "v4.public.{64}.Zg==", "v4.public.{63}", "v4.local.{63}", " v4.public.{64}",
            "v4.public.{64}\n", "v4.secret.{64}", "k4.public.{64}", "v4.public..{64}",
        ])
    func malformed(pattern: String) throws {
        let text =
            pattern
            .replacing("{64}", with: Base64URL.encode(counting(64)))
            .replacing("{63}", with: Base64URL.encode(counting(63)))
        #expect(throws: CryptoError.self) { try PASETOToken(parsing: text) }
    }

    @Test("refuses more bytes than the named limits, and takes as many")
    func limits() throws {
        let footer = counting(PASETOToken.maximumFooterSize)
        let payload = counting(PASETO.maximumPayloadSize)
        let implicit = counting(PASETO.maximumImplicitAssertionSize)
        let token = try PASETO.sign(
            payload, footer: footer, implicitAssertion: implicit, with: signer())
        #expect(token.text.utf8.count == PASETOToken.maximumTextSize)
        try verify(PASETOToken(parsing: token.text), footer: footer, implicit: implicit)
        #expect(throws: CryptoError.tooLarge) { try verify(token, implicit: implicit + [0]) }
        #expect(throws: CryptoError.tooLarge) { try PASETOToken(parsing: token.text + "A") }
        #expect(throws: CryptoError.tooLarge) {
            try PASETOToken(purpose: .v4Public, body: token.body + [0], footer: [])
        }
        #expect(throws: CryptoError.tooLarge) {
            try PASETOToken(purpose: .v4Public, body: token.body, footer: footer + [0])
        }
        for (payload, footer, implicit) in [
            (payload + [0], [], []), ([], footer + [0], []), ([], [], implicit + [0]),
        ] as [([UInt8], [UInt8], [UInt8])] {
            #expect(throws: CryptoError.tooLarge) {
                try PASETO.sign(
                    payload, footer: footer, implicitAssertion: implicit, with: signer())
            }
            #expect(throws: CryptoError.tooLarge) {
                try PASETO.encrypt(
                    payload.span, footer: footer, implicitAssertion: implicit,
                    key: SecretBytes(copying: counting(32)), random: .system)
            }
        }
    }
}
