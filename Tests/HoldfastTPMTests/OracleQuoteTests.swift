import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import Testing

/// Quotes made by tpm2-tools, which share no code with us.
@Suite("quotes of tpm2-tools", .timeLimit(.minutes(20)))
struct OracleQuoteTests {
    private let machine: OracleMachine
    private let nonce = RandomSource.system.bytes(20)

    init() throws { machine = try OracleMachine() }

    private func failures(
        _ selection: String, key: String, values: String, nonce: [UInt8]? = nil
    ) throws -> Set<QuoteCheck> {
        let selection = try #require(PCRSelection(text: selection))
        let appraisal = QuoteAppraisal(
            UnverifiedQuote(
                attestation: EvidenceFiles.attestation(try machine.read("message")),
                signature: try machine.read("signature"),
                values: try EvidenceFiles.pcrValues(machine.read(values), of: selection)),
            expecting: QuoteExpectation(
                key: try EvidenceFiles.key(machine.read(key)), nonce: nonce ?? self.nonce,
                minimumNonceSize: 16, selection: selection, qualifiedSigner: nil))
        let failed = appraisal.results.filter { $0.outcome == .failed }.map(\.check)
        #expect((appraisal.verified == nil) == !failed.isEmpty)
        return Set(failed)
    }

    @Test(
        "are accepted as tpm2_checkquote accepts them, and refused with another nonce or PCR",
        arguments: ["ecc -s ecdsa -g sha256", "rsa -s rsassa -g sha256", "rsa -s rsapss -g sha384"])
    func quotes(key: String) throws {
        let hash = try #require(key.split(separator: " ").last)
        let scheme = key.split(separator: " ")[2]
        let selection = "sha256:0,1,2,3,4,5,6,7+sha384:0,7"
        let text = hexadecimal(nonce)
        let quote = "tpm2_quote -c ak -l \(selection) -q \(text) -g \(hash) --scheme \(scheme)"
        try #require(
            try machine.run(
                """
                tpm2_createek -G ecc -c ek -u ek.public
                tpm2_createak -C ek -c ak -G \(key) -u public
                tpm2_flushcontext -t
                tpm2_readpublic -c ak -f pem -o pem
                tpm2_flushcontext -t
                \(quote) -m message -s signature -o values
                tpm2_flushcontext -t
                tpm2_pcrread \(selection) -o bare >yaml
                """) == 0)
        for values in ["values", "yaml", "bare"] {
            #expect(try failures(selection, key: "public", values: values) == [], "\(values)")
        }
        // A bare key does not say its hash; that of RSA is taken for SHA-256.
        #expect(
            try failures(selection, key: "pem", values: "values")
                == (hash == "sha384" ? [.signatureScheme] : []))
        let other = RandomSource.system.bytes(20)
        #expect(
            try failures(selection, key: "public", values: "values", nonce: other) == [.nonce])
        #expect(
            try failures("sha256:0,1,2,3,4,5,6,7", key: "public", values: "values")
                == [.selection])

        let check = "tpm2_checkquote -u pem -m message -s signature -f values -g \(hash) -q "
        // tpm2_checkquote 5.4 knows no RSAPSS.
        #expect((try machine.run(check + text) == 0) == (scheme != "rsapss"))
        #expect(try machine.run(check + hexadecimal(other)) != 0)

        // After another extension the values of now are not those that were signed.
        try #require(
            try machine.run("tpm2_pcrextend 7:sha256=\(String(repeating: "ab", count: 32))") == 0)
        try #require(try machine.run("tpm2_pcrread \(selection) >yaml") == 0)
        #expect(try failures(selection, key: "public", values: "yaml") == [.pcrDigest])
    }
}
