import HoldfastCrypto
import HoldfastStage
import HoldfastTPMWire
import Testing

@Suite("structures")
struct StructureTests {
    static let areas: [PublicArea] = [
        EndorsementKeyKind.eccP384.template, EndorsementKeyKind.eccP256.template,
        KeyTemplate.attestationKey(vendorID: [UInt8](repeating: 1, count: 32)),
        KeyTemplate.leaseParent(unique: [UInt8](repeating: 2, count: 32)),
        PublicArea(
            nameAlgorithm: .sha256, attributes: .noDA, authPolicy: [],
            kind: .keyedHash(unique: [UInt8](repeating: 3, count: 32))),
        PublicArea(
            nameAlgorithm: .sha256, attributes: [.sign, .restricted], authPolicy: [],
            kind: .rsa(
                symmetric: .none, scheme: .rsapss(.sha256), bits: 2048, exponent: 0,
                modulus: [UInt8](repeating: 0xC1, count: 256))),
    ]

    @Test("a public area decodes to what it encodes to", arguments: areas.indices)
    func publicArea(number: Int) throws {
        let area = Self.areas[number]
        #expect(try PublicArea(wireBytes: area.wireBytes) == area)
    }

    @Test("a public area that is cut or has more behind it is refused", arguments: areas.indices)
    func publicAreaLength(number: Int) {
        let bytes = Self.areas[number].wireBytes
        for length in bytes.indices {
            #expect(throws: WireError.self) { try PublicArea(wireBytes: [UInt8](bytes[..<length])) }
        }
        #expect(throws: WireError.trailingBytes(1)) { try PublicArea(wireBytes: bytes + [0]) }
    }

    @Test("no byte string decodes to an area that encodes to something else")
    func canonical() {
        var generator = SeededNumbers(7)
        for area in Self.areas {
            for _ in 0..<400 {
                var bytes = area.wireBytes
                bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(
                    truncatingIfNeeded: generator.next())
                if let read = try? PublicArea(wireBytes: bytes) {
                    #expect(read.wireBytes == bytes)
                }
            }
        }
    }

    private static let quote = Attestation(
        qualifiedSigner: TPMName(hash: .sha256, publicArea: [1]),
        extraData: [UInt8](repeating: 4, count: 32),
        clockInfo: ClockInfo(clock: .max, resetCount: 1, restartCount: 2, safe: true),
        firmwareVersion: 3,
        attested: .quote(
            selection: PCRSelection(.sha256, PCRIndex.firmware),
            pcrDigest: [UInt8](repeating: 5, count: 32)))

    @Test("an attestation decodes, also with a clock of all ones")
    func attestation() throws {
        #expect(try Attestation(wireBytes: Self.quote.wireBytes) == Self.quote)
    }

    @Test("CVE-2024-29038: a structure that no TPM generated is refused")
    func magic() {
        for bit in 0..<32 {
            var bytes = Self.quote.wireBytes
            bytes[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: WireError.self) { try Attestation(wireBytes: bytes) }
        }
    }

    @Test("an attestation that is cut or has more behind it is refused")
    func attestationLength() {
        let bytes = Self.quote.wireBytes
        for length in bytes.indices {
            #expect(throws: WireError.self) {
                try Attestation(wireBytes: [UInt8](bytes[..<length]))
            }
        }
        #expect(throws: WireError.trailingBytes(1)) { try Attestation(wireBytes: bytes + [0]) }
    }

    @Test("random bytes never crash a parser")
    func garbage() {
        var generator = SeededNumbers(1)
        for _ in 0..<5000 {
            let bytes = (0..<Int(generator.next() % 120)).map { _ in
                UInt8(truncatingIfNeeded: generator.next())
            }
            _ = try? PublicArea(wireBytes: bytes)
            _ = try? NVPublicArea(wireBytes: bytes)
            _ = try? Attestation(wireBytes: bytes)
            _ = try? Signature(wireBytes: bytes)
            _ = try? PCRSelection(wireBytes: bytes)
            _ = try? Ticket(wireBytes: bytes)
        }
        #expect(throws: WireError.self) { try Ticket(wireBytes: []) }
    }

    @Test("selections in the notation of tpm2-tools")
    func selectionText() throws {
        let selection = try #require(PCRSelection(text: "sha256:0,7+sha384:16"))
        #expect(selection.text == "sha256:0,7+sha384:16")
        #expect(
            hexadecimal(selection.wireBytes) == "00000002" + "000b" + "03810000" + "000c"
                + "03000001")
        #expect(PCRSelection(text: "7") == PCRSelection(.sha256, [PCRIndex.all[7]]))
        for text in [
            "", "sha256", "sha256:", "sha256:24", "sha256:-1", "sha256:1,1", "sha256:1+sha256:2",
            "md5:1", "sha256:1+", "sha256:a", "sha256:1:2", "sha256: 1",
        ] {
            #expect(PCRSelection(text: text) == nil, "\(text)")
        }
    }

    @Test("a selection that is empty in every bank is empty")
    func emptySelection() throws {
        #expect(PCRSelection.empty.isEmpty)
        #expect(PCRSelection(.sha256, []).isEmpty)
        #expect(!PCRSelection(.sha256, [PCRIndex.all[0]]).isEmpty)
    }

    @Test("a resource manager speaks for the TPM; another layer's code is none of the TPM's")
    func layers() {
        let full = ReturnCode(rawValue: 0x000B_0902)
        #expect(full.layer == .tpm)
        #expect(ReturnCode.objectMemory ~= full)
        #expect(ReturnCode(rawValue: 0x000B_0922).asksToResend)
        #expect(ReturnCode.value ~= ReturnCode(rawValue: 0x000B_01C4))
        for raw in [0x000A_008B, 0x000C_0902, 0xFFFF_FF8B, 0x8028_0922] as [UInt32] {
            let foreign = ReturnCode(rawValue: raw)
            #expect(foreign.layer == .below(raw >> 16))
            #expect(!(ReturnCode.handle ~= foreign), "\(foreign)")
            #expect(!(ReturnCode.objectMemory ~= foreign), "\(foreign)")
            #expect(!foreign.asksToResend, "\(foreign)")
            #expect(foreign.subject == nil)
        }
    }

    @Test("return codes say what they are about")
    func returnCodes() {
        #expect(ReturnCode.policyFail ~= ReturnCode(rawValue: 0x99D))
        #expect(ReturnCode(rawValue: 0x99D).subject == .session(1))
        #expect(ReturnCode.value ~= ReturnCode(rawValue: 0x1C4))
        #expect(ReturnCode(rawValue: 0x1C4).subject == .parameter(1))
        #expect(ReturnCode.integrity ~= ReturnCode(rawValue: 0x1DF))
        #expect(ReturnCode.handle ~= ReturnCode(rawValue: 0x18B))
        #expect(ReturnCode(rawValue: 0x18B).subject == .handle(1))
        #expect(!(ReturnCode.policyFail ~= ReturnCode(rawValue: 0x126)))
        #expect(ReturnCode(rawValue: 0x126).subject == nil)
        #expect(ReturnCode(rawValue: 0x922).asksToResend)
        #expect(!ReturnCode(rawValue: 0x921).asksToResend)
    }
}
