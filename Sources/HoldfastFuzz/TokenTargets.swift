import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

let tokenTargets: [FuzzTarget] = [token, trustFile, claims]

private let token = FuzzTarget(
    "token", maximumSize: 1024, accepted: 3,
    seeds: {
        let sample = try Sample.shared.get()
        let issuer = try sample.issuer()
        return [
            try PASETO.sign([1, 2, 3], footer: [4], implicitAssertion: [5], with: issuer).text,
            try PASETO.sign([1, 2, 3], footer: [], implicitAssertion: [5], with: issuer).text,
            try PASETO.encrypt(
                ([1, 2, 3] as [UInt8]).span, footer: [4], implicitAssertion: [5],
                key: SecretBytes(copying: sample.localKey), random: RepeatedRandom(4000).source
            ).text,
        ].map { Array($0.utf8) }
    },
    check: { bytes in
        guard let text = String(validating: bytes, as: UTF8.self),
            let token = try? PASETOToken(parsing: text)
        else { return false }
        try demand(token.text == text, "a token has two texts")
        let sample = try Sample.shared.get()
        for footer in [[4], []] as [[UInt8]] {
            if let verified = try? PASETO.verify(
                token, with: sample.issuer().publicKey, expectedFooter: footer,
                implicitAssertion: [5])
            {
                try demand(verified.payload == [1, 2, 3], "a token that nobody signed")
            }
            let opened = try? PASETO.decrypt(
                token, key: SecretBytes(copying: sample.localKey), expectedFooter: footer,
                implicitAssertion: [5]
            ).withBytes { bytes in bytes.indices.map { bytes[$0] } }
            try demand(opened ?? [1, 2, 3] == [1, 2, 3], "a token that nobody encrypted")
        }
        return true
    })

private let trustFile = FuzzTarget(
    "trust-file", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return try [sample.trust(), sample.newerTrust()].map {
            Array(try $0.signed(with: sample.issuer()).text.utf8)
        }
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        let trust = try sample.trust()
        guard let text = String(validating: bytes, as: UTF8.self),
            let token = try? PASETOToken(parsing: text)
        else { return false }
        // The first file of a vendor is taken as it is: whoever wrote it signed it.
        if let read = try? TrustStatement(verifying: token, replacing: nil) {
            try demand(
                read.vendorID == VendorID(rootKey: read.rootKey), "a vendor under another's name")
        }
        guard let read = try? TrustStatement(verifying: token, replacing: trust) else {
            return false
        }
        let newer = try sample.newerTrust()
        try demand(read == trust || read == newer, "a statement that the vendor did not sign")
        return true
    })

// MARK: Claims

/// Signs what the input says, so that everything behind the signature is reached.
private func signed(
    _ payload: [UInt8], about: [UInt8]?, assertion: [UInt8], _ sample: Sample
) throws -> PASETOToken {
    let issuer = try sample.issuer()
    let tag = about.map {
        "."
            + Base64URL.encode(
                DeviceBinding.recipientTag($0, attestationKey: sample.attestationKey.name))
    }
    return try PASETO.sign(
        payload, footer: Array((PASERK.identifier(of: issuer.publicKey).text + (tag ?? "")).utf8),
        implicitAssertion: assertion, with: issuer)
}

private let claims = FuzzTarget(
    "claims", maximumSize: 2048, accepted: 8,
    seeds: {
        let sample = try Sample.shared.get()
        let issuer = try sample.issuer()
        func payload(_ token: PASETOToken) -> [UInt8] { [UInt8](token.body.dropLast(64)) }
        var policy = AppraisalPolicy(
            id: "gateway", version: 1, model: "gateway", onDrift: .flag,
            references: [.init(.sha256, PCRIndex.all[7]): [sample.nonce]], unchecked: [],
            require: [.secureBoot: true], revoked: [sample.nonce], authorities: [sample.nonce],
            firmware: [7], imaPolicy: sample.nonce, issuedAt: 1_800_000_000)
        policy.unchecked = [.init(.sha256, PCRIndex.all[14])]
        let reply = try sample.reply()
        var found = [
            payload(try sample.terms().signed(with: issuer)),
            payload(try policy.signed(with: issuer)),
            payload(try sample.statement().signed(with: issuer)),
            payload(try Reply.header(in: reply)),
        ]
        if let receipt = try Reply.receipt(in: reply) { found.append(payload(receipt)) }
        let parts = try LicenseDocument(
            decoding: Container(.license, sample.license).encoded, in: sample.context()
        ).signedParts()
        found.append(
            payload(
                try sample.migration(to: sample.nonce).signed(
                    for: sample.attestationKey.name, with: issuer)))
        found.append(payload(try sample.testLicense().signed(with: issuer)))
        return found + [payload(parts.license), payload(parts.statement)]
            + [payload(try sample.trust().signed(with: issuer))]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        let issuers = [try sample.issuer().publicKey]
        let name = sample.attestationKey.name
        let open = try signed(bytes, about: nil, assertion: [], sample)
        let device = try signed(
            bytes, about: [0, 0, 0, 1], assertion: DeviceBinding.incarnation(1, of: name), sample)
        let id = [UInt8](repeating: 7, count: 16)
        let licensed = try signed(
            bytes, about: id, assertion: DeviceBinding.license(id, on: name), sample)
        let key = try sample.issuer()
        /// What was accepted is signed again as the same claims, unless it had unknown ones.
        func same(_ token: PASETOToken) throws {
            let text = String(decoding: bytes, as: UTF8.self)
            let again = [UInt8](token.body.dropLast(64))
            try demand(again == bytes || text.contains("\"x-"), "claims changed: \(text)")
        }
        var accepted = false
        if let read = try? Terms(verifying: open, issuers: issuers) {
            try same(read.signed(with: key))

            accepted = true
        }
        if let read = try? TestLicense(verifying: open, issuers: issuers) {
            try same(read.signed(with: key))
            accepted = true
        }
        if let read = try? AppraisalPolicy(verifying: open, issuers: issuers) {
            try same(read.signed(with: key))
            accepted = true
        }
        if let read = try? DeviceStatement(
            verifying: device, issuers: issuers, attestationKey: name)
        {
            try same(read.signed(with: key))
            accepted = true
        }
        if let read = try? ReplyHeader(
            verifying: device, issuers: issuers, incarnation: 1, attestationKey: name)
        {
            try same(read.signed(for: name, with: key))
            accepted = true
        }
        if let read = try? Receipt(
            verifying: device, issuers: issuers, incarnation: 1, attestationKey: name)
        {
            try same(read.signed(for: name, with: key))
            accepted = true
        }
        if let read = try? License(verifying: licensed, issuers: issuers, attestationKey: name) {
            try same(read.signed(for: name, with: key))
            accepted = true
        }
        if let read = try? TermsMigration(
            verifying: licensed, issuers: issuers, attestationKey: name)
        {
            try same(read.signed(for: name, with: key))
            accepted = true
        }
        if let read = try? LeaseStatement(
            verifying: licensed, issuers: issuers, attestationKey: name)
        {
            try same(read.signed(for: name, with: key))
            accepted = true
        }
        // Its root key stands in the statement; signed by another it is nobody's.
        if let read = try? TrustStatement(
            verifying: signed(bytes, about: nil, assertion: [], sample), replacing: nil)
        {
            try same(read.signed(with: key))
            accepted = true
        }
        return accepted
    })
