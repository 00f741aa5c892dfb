import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("policies in words")
struct PolicyTextTests {
    @Test("what a person writes is read")
    func read() throws {
        let text = try PolicyText(
            "pcrs sha256:0,7 and (pin or clock<=5 or approved by key.pem for 0aff)"
                .replacing("clock<=5", with: "clock <= 5"))
        let selection = try #require(PCRSelection(text: "sha256:0,7"))
        #expect(
            text
                == PolicyText([
                    .pcrs(selection),
                    .or([
                        PolicyText([.pin]),
                        PolicyText([.time(.clock, .unsignedLessOrEqual, 5)]),
                        PolicyText([.approved(keyFile: "key.pem", policyRef: [0x0A, 0xFF])]),
                    ]),
                ]))
        #expect(
            try PolicyText("nv 0x01500001+8 != 00ff and secret owner and command unseal")
                == PolicyText([
                    .nv(
                        TPMHandle(rawValue: 0x0150_0001), offset: 8, .notEqual,
                        operand: [0, 0xFF]),
                    .secret(.owner), .command(.unseal),
                ]))
    }

    @Test(
        "anything else is refused",
        arguments: [
            "", "and", "pin pin", "pcrs", "pcrs 24", "pcrs sha256:", "(pin)", "(pin or", "pin)",
            "clock <= x", "clock << 5", "resets <= 4294967296", "nv 0x81000001 = 00",
            "nv 0x01500001 = 0", "nv 0x01500001 =", "secret somebody", "secret 0x80000000",
            "approved key", "approved by k for zz", "command jump", "nv-written perhaps",
            "((((((pin or pin) or pin) or pin) or pin) or pin) or pin)",
            "(pin or pin or pin or pin or pin or pin or pin or pin or pin)",
        ])
    func refused(text: String) {
        #expect(throws: PolicyTextError.self) { try PolicyText(text) }
    }

    private static let index = NVPublicArea(
        index: TPMHandle(rawValue: 0x0150_0001), nameAlgorithm: .sha256,
        attributes: [.ownerRead, .written], authPolicy: [], dataSize: 8)

    private static let policy = Policy(
        hash: .sha256,
        [
            .pcr(
                PCRSelection(.sha256, [PCRIndex.all[7]]), digest: [UInt8](repeating: 1, count: 32)),
            .or([
                [.authValue], [.secret(entity: TPMName(handle: .owner), policyRef: [])],
                [
                    .nv(index, operand: [7], offset: 0, .equal),
                    .or([[.commandCode(.unseal)], [.nvWritten(true)]]),
                ],
            ]),
            .counterTimer(.clock, .unsignedLessOrEqual, 5),
        ])

    @Test("a policy in a file is the one that was written, and its digest stays")
    func file() throws {
        let bytes = Self.policy.wireBytes
        let read = try Policy(wireBytes: bytes)
        #expect(read == Self.policy)
        #expect(read.digest == Self.policy.digest)
        #expect(read.asksForPIN)
        for cut in bytes.indices {
            #expect(throws: WireError.self) { try Policy(wireBytes: Array(bytes[..<cut])) }
        }
        #expect(throws: WireError.self) { try Policy(wireBytes: bytes + [0]) }
    }

    @Test("a policy explains itself in a sentence")
    func sentence() {
        let text = Self.policy.sentence
        #expect(
            text == """
                it opens when PCR 7 of the sha256 bank has the value of the sealing, either (the PIN \
                is given) or (the password of the owner is given) or (index 0x01500001 is equal to 07 \
                and either (it is unsealed, and nothing else) or (the index was written)) and the \
                TPM's clock is at most 5 ms
                """)
    }

    @Test("the ways through branches come in order, and are bounded")
    func ways() {
        #expect(Self.policy.ways(maximum: 64) == [[0], [1], [2, 0], [2, 1]])
        #expect(Self.policy.ways(maximum: 2).count == 2)
        #expect(Policy(hash: .sha256, []).ways(maximum: 4) == [[]])
    }
}
