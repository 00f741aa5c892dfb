import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("appraisal policies")
struct AppraisalPolicyTests {
    private static let zeros = [UInt8](repeating: 0, count: 32)
    private static let ones = [UInt8](repeating: 1, count: 32)

    private static func register(_ text: String) throws -> PCRValues.Register {
        try #require(PCRValues.Register(text: text))
    }

    private static func policy() throws -> AppraisalPolicy {
        AppraisalPolicy(
            id: "boot", version: 2, model: "gateway", onDrift: .flag,
            references: [
                try register("sha256:4"): [ones, zeros], try register("sha256:7"): [ones],
                try register("sha384:7"): [[UInt8](repeating: 3, count: 48)],
            ], unchecked: [try register("sha256:10"), try register("sha256:1")],
            require: [.secureBoot: true, .uefiDebug: false], revoked: [ones, zeros],
            authorities: [zeros], firmware: [7, .max], imaPolicy: ones, issuedAt: 5)
    }

    @Test("a signed policy is read back, from an issuer and from nobody else")
    func signed() throws {
        let key = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        let other = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        let policy = try Self.policy()
        let token = try policy.signed(with: key)
        #expect(try AppraisalPolicy(verifying: token, issuers: [key.publicKey]) == policy)
        #expect(throws: TokenError.foreignKey) {
            try AppraisalPolicy(verifying: token, issuers: [other.publicKey])
        }
        #expect(throws: TokenError.foreignKey) {
            try AppraisalPolicy(verifying: token, issuers: [])
        }
        var body = token.body
        for place in stride(from: 0, to: body.count, by: 7) {
            body[place] ^= 1
            let changed = try PASETOToken(purpose: .v4Public, body: body, footer: token.footer)
            #expect(throws: TokenError.self, "byte \(place)") {
                try AppraisalPolicy(verifying: changed, issuers: [key.publicKey])
            }
            body[place] ^= 1
        }
        #expect(throws: TokenError.wrongKind("policy")) {
            try Terms(verifying: token, issuers: [key.publicKey])
        }
    }

    /// Signs changed claims with the right key.
    private func refusal(
        _ change: (inout [String: CanonicalJSON]) -> Void
    ) throws -> TokenError? {
        let key = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        let token = try Self.policy().signed(with: key)
        guard
            case .object(var members) = try CanonicalJSON(
                decoding: Array(token.body.dropLast(64)))
        else { return nil }
        change(&members)
        let other = try PASETO.sign(
            CanonicalJSON.object(members).encoded, footer: token.footer, implicitAssertion: [],
            with: key)
        do throws(TokenError) {
            _ = try AppraisalPolicy(verifying: other, issuers: [key.publicKey])
            return nil
        } catch { return error }
    }

    @Test("claims that cannot be meant are refused, though they are signed")
    func claims() throws {
        let value = CanonicalJSON.string(Base64URL.encode(Self.ones))
        let smaller = CanonicalJSON.string(Base64URL.encode(Self.zeros))
        #expect(try refusal { _ in } == nil)
        #expect(try refusal { $0["x-note"] = .string("a") } == .notCanonical)
        #expect(try refusal { $0["allow"] = .bool(true) } == .unknown("allow"))
        #expect(try refusal { $0["kind"] = .string("terms") } == .wrongKind("terms"))
        for name in [
            "policy", "version", "model", "onDrift", "references", "unchecked", "require",
            "revoked", "authorities", "firmware", "imaPolicy", "issuedAt",
        ] {
            #expect(try refusal { $0[name] = nil } == .missing(name))
            #expect(try refusal { $0[name] = .bool(true) } == .malformed(name))
        }
        let references: [[String: CanonicalJSON]] = [
            ["sha256:7": .array([])], ["sha256:7": .array([value, value])],
            ["sha256:24": .array([value])], ["sha256:07": .array([value])],
            ["7": .array([value])], ["sha256:7,8": .array([value])],
            ["sha384:7": .array([value])], ["sha256:10": .array([value])],
            ["sha1:7": .array([.string(Base64URL.encode([UInt8](repeating: 1, count: 20)))])],
        ]
        for members in references {
            #expect(try refusal { $0["references"] = .object(members) } == .malformed("references"))
        }
        #expect(
            try refusal {
                $0["references"] = .object([:])
                $0["require"] = .object([:])
            } == .missing("references"))
        #expect(
            try refusal { $0["require"] = .object(["safe": .bool(true)]) } == .malformed("require"))
        #expect(try refusal { $0["revoked"] = .array([value, smaller]) } == .notCanonical)
        #expect(try refusal { $0["revoked"] = .array([smaller, value]) } == nil)
        #expect(
            try refusal { $0["unchecked"] = .array([.string("sha1:1")]) } == .malformed("unchecked")
        )
    }

    @Test("a fact, dbx and authorities need their registers quoted, all in one bank")
    func registersOfFacts() throws {
        func policy(
            _ unchecked: String, _ require: [AppraisalPolicy.Fact: Bool], dbx: Bool = false,
            authorities: Bool = false
        ) throws -> TokenError? {
            let selection = try #require(PCRSelection(text: unchecked))
            let policy = AppraisalPolicy(
                id: "boot", version: 1, model: "gateway", onDrift: .refuse,
                references: [try Self.register("sha256:4"): [Self.ones]],
                unchecked: Set(
                    selection.banks.flatMap { bank in
                        bank.indexes.map { PCRValues.Register(bank.hash, $0) }
                    }), require: require, revoked: dbx ? [Self.ones] : [],
                authorities: authorities ? [Self.ones] : nil, firmware: [], imaPolicy: nil,
                issuedAt: 1)
            do throws(TokenError) { try policy.check() } catch { return error }
            return nil
        }
        for fact in [AppraisalPolicy.Fact.secureBoot, .uefiDebug, .dmaProtectionDisabled] {
            #expect(try policy("sha256:5", [fact: true]) == .unquoted("require"))
            #expect(try policy("sha384:7", [fact: true]) == nil)
        }
        #expect(try policy("sha256:7", [.exitBootServices: true]) == .unquoted("require"))
        #expect(try policy("sha256:5", [.exitBootServices: true]) == nil)
        #expect(try policy("sha256:0,1,2,3,5,6", [.separators: true]) == .unquoted("require"))
        #expect(
            try policy("sha256:0,1,2,3,5,6+sha384:7", [.separators: true]) == .unquoted("require"))
        // PCR 4 is compared.
        #expect(try policy("sha256:0,1,2,3,5,6,7", [.separators: true]) == nil)
        #expect(try policy("sha256:5", [:], dbx: true) == .unquoted("revoked"))
        #expect(try policy("sha256:7", [:], dbx: true) == nil)
        #expect(try policy("sha256:5", [:], authorities: true) == .unquoted("authorities"))
        #expect(try policy("sha256:7", [:], authorities: true) == nil)
    }
}
