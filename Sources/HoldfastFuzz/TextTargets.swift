import HoldfastAttestation
import HoldfastCrypto
import HoldfastProtocol
import HoldfastServices
import HoldfastTPMWire

let textTargets: [FuzzTarget] = [textEncoding, canonicalJSON, policyFile, imaPolicy, termsFile]

/// Hexadecimal, base 32 and base64url, and the ids that are written so.
private let textEncoding = FuzzTarget(
    "text-encoding", maximumSize: 256, accepted: 4,
    seeds: {
        let bytes = [UInt8](0..<20)
        return [
            Hex.encode(bytes), Base32.encode(bytes), Base64URL.encode(bytes),
            LicenseID(unchecked: [UInt8](0..<16)).description,
        ].map { Array($0.utf8) }
    },
    check: { bytes in
        try demand(
            try Base64URL.decode(Base64URL.encode(bytes)) == bytes, "base64url is not undone")
        try demand(
            try Base32.decode(variableTime: Base32.encode(bytes)) == bytes, "base 32 is not undone")
        try demand(
            try Hex.decode(variableTime: Hex.encode(bytes)) == bytes, "hexadecimal is not undone")
        guard let text = String(validating: bytes, as: UTF8.self) else { return false }
        var accepted = false
        if let read = try? Base64URL.decode(text) {
            try demand(Base64URL.encode(read) == text, "bytes have two texts in base64url")
            accepted = true
        }
        if let read = try? Base32.decode(variableTime: text) {
            try demand(
                Base32.encode(read).lowercased() == text.lowercased(),
                "bytes have two texts in base 32")
            accepted = true
        }
        if let read = try? Hex.decode(variableTime: text) {
            try demand(Hex.encode(read) == text.lowercased(), "bytes have two texts in hexadecimal")
            accepted = true
        }
        if let id = LicenseID(parsing: text) {
            try demand(LicenseID(parsing: id.description) == id, "an id changed")
            accepted = true
        }
        return accepted
    })

private let canonicalJSON = FuzzTarget(
    "canonical-json", maximumSize: 1024, accepted: 2,
    seeds: {
        [
            #"{"a":[1,true,"x"],"b":{"c":18446744073709551615}}"#, #""\\\"\u001f""#,
            #"{"a":[],"a":0}"#, "[[[[[[[0]]]]]]]", "[[[[[[[[0]]]]]]]]",
        ].map { Array($0.utf8) }
    },
    check: { bytes in
        guard let value = try? CanonicalJSON(decoding: bytes) else { return false }
        try demand(value.encoded == bytes, "a value has two encodings")
        return true
    })

private let policyFile = FuzzTarget(
    "policy-file",
    seeds: {
        let digest = String(repeating: "ab", count: 32)
        return [
            Array(
                """
                {"id": "gateway", "version": 2, "model": "gateway", "onDrift": "flag",
                 "references": {"sha256:0": ["\(digest)"], "sha256:7": ["\(digest)"]},
                 "unchecked": ["sha256:14"], "require": {"secureBoot": true},
                 "revoked": ["\(digest)"], "authorities": ["\(digest)"],
                 "firmware": ["2019100100000000"], "imaPolicy": "\(digest)"}
                """.utf8)
        ]
    },
    check: { bytes in
        guard let file = try? AppraisalPolicyFile(bytes) else { return false }
        _ = file.plainText
        let again = try AppraisalPolicyFile(file.encoded())
        try demand(again == file, "a policy changed when it was written")
        // What is accepted can be issued.
        _ = try file.policy.signed(with: Sample.shared.get().issuer())
        return true
    })

private let imaPolicy = FuzzTarget(
    "ima-policy",
    seeds: {
        let digest = String(repeating: "cd", count: 32)
        return [
            Array(
                """
                {"version": 1, "files": {"/bin/a": ["sha256:\(digest)", "verity:sha256:\(digest)"]},
                 "buffers": {"kexec-cmdline": ["sha256:\(digest)"]}, "require": ["/bin/a"],
                 "deny": ["sha256:\(digest)"], "others": "accept", "violations": "accept",
                 "sha1": "refuse", "bootAggregate": "unchecked"}
                """.utf8)
        ]
    },
    check: { bytes in
        guard let policy = try? IMAPolicy(bytes) else { return false }
        try demand(policy.fingerprint.count == 32, "a policy without a fingerprint")
        var writer = IMAListWriter()
        writer.measure(
            "/bin/a",
            digest: .init(
                kind: "ima", algorithm: "sha256", bytes: [UInt8](repeating: 0xCD, count: 32)))
        var appraiser = IMAAppraiser(
            explaining: nil, policy: policy, continuing: nil, boot: nil)
        appraiser.append(writer.bytes)
        _ = appraiser.finish()
        return true
    })

private let termsFile = FuzzTarget(
    "terms-file",
    seeds: {
        [
            Array(
                """
                {"id": "standard", "version": 1, "class": "test", "lease": "600s",
                 "renewAfter": "300s", "graceAfter": "450s", "softAfter": "400s",
                 "degraded": "600s", "resets": 5, "restarts": 0, "evidenceValidity": "1h",
                 "nonceLifetime": "2h", "defaultEnforcement": "strict",
                 "enforcement": {"preview": "soft"}, "degradedEntitlements": ["preview"]}
                """.utf8)
        ]
    },
    check: { bytes in
        guard let file = try? TermsFile(bytes) else { return false }
        var terms = file.terms
        terms.issuedAt = 1_800_000_000
        // What the operator is told is fine can be issued.
        let token = try terms.signed(with: Sample.shared.get().issuer())
        let read = try Terms(
            verifying: token, issuers: [Sample.shared.get().issuer().publicKey])
        try demand(read == terms, "terms changed when they were signed")
        return true
    })
