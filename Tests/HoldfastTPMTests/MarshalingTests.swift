import CTSS2Marshalling
import Glibc
import HoldfastCrypto
import HoldfastStage
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// What somebody made of bytes.
private enum Reading: Equatable {
    /// Read to the end; with the bytes that come out when it is written again, where it can be.
    case accepted([UInt8]?)
    case refused(WireError?)
}

/// One step of libtss2-mu: reads a structure, and writes it again.
@safe private struct PeerStep: Sendable {
    let run: @Sendable ([UInt8], inout Int) -> [UInt8]?

    private init(run: @escaping @Sendable ([UInt8], inout Int) -> [UInt8]?) { self.run = run }

    /// - Parameter write: `nil` where only the reading is compared.
    @safe init<T: SendableMetatype>(
        _: T.Type,
        _ read:
            @escaping @Sendable (
                UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<Int>?, UnsafeMutablePointer<T>?
            ) -> UInt32,
        _ write: (
            @Sendable (
                UnsafePointer<T>?, UnsafeMutablePointer<UInt8>?, Int, UnsafeMutablePointer<Int>?
            ) -> UInt32
        )? = nil
    ) {
        run = { bytes, offset in
            let value = UnsafeMutablePointer<T>.allocate(capacity: 1)
            defer { unsafe value.deallocate() }
            unsafe memset(value, 0, MemoryLayout<T>.size)
            guard unsafe read(bytes, bytes.count, &offset, value) == 0 else { return nil }
            guard let write = unsafe write else { return [] }
            var out = [UInt8](repeating: 0, count: 16_384)
            var length = 0
            guard unsafe write(value, &out, out.count, &length) == 0 else { return nil }
            return [UInt8](out[..<length])
        }
    }

    static let byte = PeerStep(UInt8.self) { unsafe Tss2_MU_UINT8_Unmarshal($0, $1, $2, $3) }
    static let number = PeerStep(UInt32.self) { unsafe Tss2_MU_UINT32_Unmarshal($0, $1, $2, $3) }
    static let name = PeerStep(TPM2B_NAME.self) {
        unsafe Tss2_MU_TPM2B_NAME_Unmarshal($0, $1, $2, $3)
    }
    static let digest = PeerStep(TPM2B_DIGEST.self) {
        unsafe Tss2_MU_TPM2B_DIGEST_Unmarshal($0, $1, $2, $3)
    }
    static let publicArea = PeerStep(TPM2B_PUBLIC.self) {
        unsafe Tss2_MU_TPM2B_PUBLIC_Unmarshal($0, $1, $2, $3)
    }
    /// `TPM2B_ATTEST` and what is in it, of which libtss2-mu knows nothing by itself.
    static let attestation = PeerStep { bytes, offset in
        let start = offset
        guard outerAttestation.run(bytes, &offset) != nil else { return nil }
        var inner = 0
        let content = [UInt8](bytes[(start + 2)..<offset])
        guard innerAttestation.run(content, &inner) != nil, inner == content.count else {
            return nil
        }
        return []
    }
    private static let outerAttestation = PeerStep(TPM2B_ATTEST.self) {
        unsafe Tss2_MU_TPM2B_ATTEST_Unmarshal($0, $1, $2, $3)
    }
    private static let innerAttestation = PeerStep(TPMS_ATTEST.self) {
        unsafe Tss2_MU_TPMS_ATTEST_Unmarshal($0, $1, $2, $3)
    }
    static let ticket = PeerStep(
        TPMT_TK_VERIFIED.self, { unsafe Tss2_MU_TPMT_TK_VERIFIED_Unmarshal($0, $1, $2, $3) },
        { unsafe Tss2_MU_TPMT_TK_VERIFIED_Marshal($0, $1, $2, $3) })
    static let signature = PeerStep(
        TPMT_SIGNATURE.self, { unsafe Tss2_MU_TPMT_SIGNATURE_Unmarshal($0, $1, $2, $3) },
        { unsafe Tss2_MU_TPMT_SIGNATURE_Marshal($0, $1, $2, $3) })
}

/// A structure, or the parameters of a response, that both sides read.
private struct Subject: Sendable, CustomTestStringConvertible {
    let name: String
    let good: @Sendable (inout SeededNumbers) -> [UInt8]
    let ours: @Sendable ([UInt8]) -> Reading
    let steps: [PeerStep]
    let isStructure: Bool
    var testDescription: String { name }

    /// A structure, whose bytes are compared as well.
    init<T: WireStructure & SendableMetatype>(
        _ name: String, _: T.Type, _ step: PeerStep,
        good: @escaping @Sendable (inout SeededNumbers) -> [UInt8]
    ) {
        self.name = name
        self.good = good
        steps = [step]
        isStructure = true
        ours = { bytes in
            do throws(WireError) { return .accepted(try T(wireBytes: bytes).wireBytes) } catch {
                return .refused(error)
            }
        }
    }

    /// The parameters of a response.
    init<C: TPMCommand & SendableMetatype>(
        _: C.Type, handle: UInt32 = 0, _ steps: [PeerStep],
        good: @escaping @Sendable (inout SeededNumbers) -> [UInt8]
    ) {
        name = C.code.specificationName
        self.good = good
        self.steps = steps
        isStructure = false
        ours = { bytes in
            var reader = WireReader(bytes)
            do throws(WireError) {
                _ = try C.decode(handle: TPMHandle(rawValue: handle), parameters: &reader)
                try reader.finish()
                return .accepted(nil)
            } catch {
                return .refused(error)
            }
        }
    }

    /// What libtss2-mu makes of it, and how much it leaves.
    func theirs(_ bytes: [UInt8]) -> (reading: Reading, left: Int) {
        var offset = 0
        var written: [UInt8] = []
        for step in steps {
            guard let again = step.run(bytes, &offset) else { return (.refused(nil), 0) }
            written += again
        }
        return (.accepted(isStructure ? written : nil), bytes.count - offset)
    }
}

/// Why we refuse what libtss2-mu reads.
///
/// It carries bytes, and what a TPM answered is judged elsewhere there. Every class is met in the
/// test, and there is no other.
private enum Stricter: String, CaseIterable {
    /// Bytes behind the end: libtss2-mu says how far it read, ours is about the whole.
    case trailing
    /// An algorithm, curve, mode or scheme that Holdfast does not use: it would be carried, and
    /// nothing could be proven with it.
    case algorithm
    /// A type of attestation that Holdfast asks for nowhere.
    case attestation
    /// The magic, a flag or a tag with a value that the specification does not give it.
    case value
    /// A length that the type does not have: a policy that is no digest of the Name's algorithm, a
    /// Name that is none, a modulus of another size than stated, a register without its value.
    case size
    /// A length above what Holdfast reads of it.
    case limit
    /// A `TPM2B` whose content is longer than it says: libtss2-mu reads on behind its end.
    case overrun

    init?(_ error: WireError, in subject: String) {
        switch error {
        case .trailingBytes: self = .trailing
        case .sizeMismatch: self = .size
        case .tooLong: self = .limit
        case .truncated:
            let nested = ["TPM2_CreatePrimary", "TPM2_ReadPublic", "TPM2_NV_ReadPublic"]
            guard nested.contains(subject) else { return nil }
            self = .overrun
        case .unknownValue(let field, _):
            switch field {
            case "nameAlg", "hashAlg", "hash", "symmetric", "mode", "keyBits", "scheme", "sigAlg",
                "curveID", "kdf", "name":
                self = .algorithm
            case "type" where subject == "TPMT_PUBLIC" || subject.hasPrefix("TPM2_"):
                self = .algorithm
            case "type": self = .attestation
            case "magic", "safe", "tag", "moreData", "sizeofSelect", "nvIndex", "capability":
                self = .value
            default: return nil
            }
        }
    }
}

extension SeededNumbers {
    fileprivate mutating func pick<T>(_ all: [T]) -> T {
        all[Int.random(in: all.indices, using: &self)]
    }

    fileprivate mutating func hash() -> HashAlgorithm { pick(HashAlgorithm.allCases) }

    fileprivate mutating func name() -> TPMName {
        TPMName(hash: hash(), publicArea: bytes(4))
    }

    fileprivate mutating func selection() -> PCRSelection {
        PCRSelection(
            joining: (0..<Int.random(in: 0...3, using: &self)).map { _ in
                PCRSelection(hash(), PCRIndex.all.filter { _ in Bool.random(using: &self) })
            })
    }

    fileprivate mutating func clock() -> ClockInfo {
        ClockInfo(
            clock: next(), resetCount: UInt32(truncatingIfNeeded: next()),
            restartCount: UInt32(truncatingIfNeeded: next()), safe: Bool.random(using: &self))
    }

    fileprivate mutating func attestation() -> Attestation {
        let attested: Attestation.Attested
        switch Int.random(in: 0..<3, using: &self) {
        case 0: attested = .quote(selection: selection(), pcrDigest: bytes(hash().digestSize))
        case 1: attested = .certify(name: name(), qualifiedName: name())
        default:
            attested = .nv(
                indexName: name(), offset: UInt16(truncatingIfNeeded: next()),
                contents: bytes(Int.random(in: 0...64, using: &self)))
        }
        return Attestation(
            qualifiedSigner: name(), extraData: bytes(Int.random(in: 0...64, using: &self)),
            clockInfo: clock(), firmwareVersion: next(), attested: attested)
    }

    fileprivate mutating func signature() -> Signature {
        switch Int.random(in: 0..<3, using: &self) {
        case 0: .ecdsa(hash: hash(), r: bytes(32), s: bytes(pick([32, 48])))
        case 1: .rsassa(hash: hash(), signature: bytes(pick([256, 384])))
        default: .rsapss(hash: hash(), signature: bytes(256))
        }
    }

    fileprivate mutating func scheme() -> AsymmetricScheme {
        let hash = hash()
        return pick([
            .null, .ecdsa(hash), .rsassa(hash), .rsapss(hash), .rsaes, .oaep(hash), .ecdh(hash),
        ])
    }

    fileprivate mutating func publicArea() -> PublicArea {
        let hash = hash()
        let symmetric = pick([
            SymmetricDefinition.none, .aesCFB(bits: 128), .aesCFB(bits: 192), .aesCFB(bits: 256),
        ])
        let kind: PublicArea.Kind
        switch Int.random(in: 0..<3, using: &self) {
        case 0:
            let bits = pick([2048, 3072])
            kind = .rsa(
                symmetric: symmetric,
                scheme: pick([.null, .rsassa(hash), .rsapss(hash), .rsaes, .oaep(hash)]),
                bits: UInt16(bits), exponent: pick([0, 65_537]),
                modulus: bytes(pick([0, bits / 8])))
        case 1:
            let curve = pick(EllipticCurve.allCases)
            kind = .ecc(
                symmetric: symmetric, scheme: pick([.null, .ecdsa(hash), .ecdh(hash)]),
                curve: curve, x: bytes(curve.coordinateSize), y: bytes(curve.coordinateSize))
        default: kind = .keyedHash(unique: bytes(32))
        }
        return PublicArea(
            nameAlgorithm: hash,
            attributes: ObjectAttributes(rawValue: UInt32(truncatingIfNeeded: next())),
            authPolicy: bytes(pick([0, hash.digestSize])), kind: kind)
    }

    fileprivate mutating func index() -> NVPublicArea {
        let hash = hash()
        return NVPublicArea(
            index: TPMHandle(rawValue: 0x0180_0000 | UInt32(truncatingIfNeeded: next()) & 0xFFFF),
            nameAlgorithm: hash,
            attributes: NVAttributes(rawValue: UInt32(truncatingIfNeeded: next())),
            authPolicy: bytes(pick([0, hash.digestSize])), dataSize: 8)
    }

    fileprivate mutating func ticket() -> [UInt8] {
        written { writer, random in
            writer.uint16(UInt16.random(in: 0x8021...0x8025, using: &random))
            writer.uint32(0x4000_0001)
            writer.sized(random.bytes(random.pick([0, 32, 64])))
        }
    }

    fileprivate mutating func written(
        _ body: (inout WireWriter, inout SeededNumbers) -> Void
    ) -> [UInt8] {
        var writer = WireWriter()
        body(&writer, &self)
        return writer.bytes
    }
}

extension Subject {
    /// Every structure that both sides know.
    fileprivate static let structures: [Subject] = [
        Subject(
            "TPMS_ATTEST", Attestation.self,
            PeerStep(
                TPMS_ATTEST.self, { unsafe Tss2_MU_TPMS_ATTEST_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPMS_ATTEST_Marshal($0, $1, $2, $3) })
        ) { $0.attestation().wireBytes },
        Subject("TPMT_SIGNATURE", Signature.self, .signature) { $0.signature().wireBytes },
        Subject(
            "TPMT_PUBLIC", PublicArea.self,
            PeerStep(
                TPMT_PUBLIC.self, { unsafe Tss2_MU_TPMT_PUBLIC_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPMT_PUBLIC_Marshal($0, $1, $2, $3) })
        ) { $0.publicArea().wireBytes },
        Subject(
            "TPMS_NV_PUBLIC", NVPublicArea.self,
            PeerStep(
                TPMS_NV_PUBLIC.self, { unsafe Tss2_MU_TPMS_NV_PUBLIC_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPMS_NV_PUBLIC_Marshal($0, $1, $2, $3) })
        ) { $0.index().wireBytes },
        Subject(
            "TPML_PCR_SELECTION", PCRSelection.self,
            PeerStep(
                TPML_PCR_SELECTION.self,
                { unsafe Tss2_MU_TPML_PCR_SELECTION_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPML_PCR_SELECTION_Marshal($0, $1, $2, $3) })
        ) { $0.selection().wireBytes },
        Subject(
            "TPMS_CLOCK_INFO", ClockInfo.self,
            PeerStep(
                TPMS_CLOCK_INFO.self, { unsafe Tss2_MU_TPMS_CLOCK_INFO_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPMS_CLOCK_INFO_Marshal($0, $1, $2, $3) })
        ) { $0.clock().wireBytes },
        Subject("TPMT_TK_VERIFIED", Ticket.self, .ticket) { $0.ticket() },
        Subject(
            "TPMT_SYM_DEF_OBJECT", SymmetricDefinition.self,
            PeerStep(
                TPMT_SYM_DEF_OBJECT.self,
                { unsafe Tss2_MU_TPMT_SYM_DEF_OBJECT_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPMT_SYM_DEF_OBJECT_Marshal($0, $1, $2, $3) })
        ) {
            $0.pick([SymmetricDefinition.none, .aesCFB(bits: 128), .aesCFB(bits: 256)]).wireBytes
        },
        Subject(
            "TPMT_ASYM_SCHEME", AsymmetricScheme.self,
            PeerStep(
                TPMT_ASYM_SCHEME.self,
                { unsafe Tss2_MU_TPMT_ASYM_SCHEME_Unmarshal($0, $1, $2, $3) },
                { unsafe Tss2_MU_TPMT_ASYM_SCHEME_Marshal($0, $1, $2, $3) })
        ) { $0.scheme().wireBytes },
    ]

    /// The parameters of every response that is more than a `TPM2B` by itself.
    fileprivate static let responses: [Subject] = [
        Subject(QuoteCommand.self, [.attestation, .signature]) { random in
            random.written { writer, random in
                writer.sized(random.attestation().wireBytes)
                writer.raw(random.signature().wireBytes)
            }
        },
        Subject(
            CreatePrimaryCommand.self, handle: 0x8000_0000,
            [
                .publicArea,
                // Creation data is passed over: nobody looks at it, so it may be anything.
                PeerStep(TPM2B_MAX_BUFFER.self) {
                    unsafe Tss2_MU_TPM2B_MAX_BUFFER_Unmarshal($0, $1, $2, $3)
                }, .digest, .ticket, .name,
            ]
        ) { random in
            random.written { writer, random in
                let area = random.publicArea()
                writer.sized(area.wireBytes)
                writer.sizedStructure { writer in
                    random.selection().encode(into: &writer)
                    writer.sized(random.bytes(32))
                    writer.uint8(1)
                    writer.uint16(0x0010)
                    writer.sized(random.name().bytes)
                    writer.sized(random.name().bytes)
                    writer.sized([])
                }
                writer.sized(random.bytes(32))
                writer.raw(random.ticket())
                writer.sized(area.name.bytes)
            }
        },
        Subject(ReadPublicCommand.self, [.publicArea, .name, .name]) { random in
            random.written { writer, random in
                let area = random.publicArea()
                writer.sized(area.wireBytes)
                writer.sized(area.name.bytes)
                writer.sized(random.name().bytes)
            }
        },
        Subject(
            NVReadPublicCommand.self,
            [
                PeerStep(TPM2B_NV_PUBLIC.self) {
                    unsafe Tss2_MU_TPM2B_NV_PUBLIC_Unmarshal($0, $1, $2, $3)
                }, .name,
            ]
        ) { random in
            random.written { writer, random in
                let area = random.index()
                writer.sized(area.wireBytes)
                writer.sized(area.name.bytes)
            }
        },
        Subject(
            PCRReadCommand.self,
            [
                .number,
                PeerStep(TPML_PCR_SELECTION.self) {
                    unsafe Tss2_MU_TPML_PCR_SELECTION_Unmarshal($0, $1, $2, $3)
                },
                PeerStep(TPML_DIGEST.self) {
                    unsafe Tss2_MU_TPML_DIGEST_Unmarshal($0, $1, $2, $3)
                },
            ]
        ) { random in
            random.written { writer, random in
                let hash = random.hash()
                let indexes = [PCRIndex](PCRIndex.all.prefix(Int.random(in: 0...8, using: &random)))
                writer.uint32(7)
                PCRSelection(hash, indexes).encode(into: &writer)
                writer.uint32(UInt32(indexes.count))
                for _ in indexes { writer.sized(random.bytes(hash.digestSize)) }
            }
        },
        Subject(
            GetCapabilityCommand.self,
            [
                .byte,
                PeerStep(TPMS_CAPABILITY_DATA.self) {
                    unsafe Tss2_MU_TPMS_CAPABILITY_DATA_Unmarshal($0, $1, $2, $3)
                },
            ]
        ) { random in
            random.written { writer, random in
                writer.uint8(random.pick([0, 1]))
                let kind = random.pick([0, 1, 2, 5, 6, 8] as [UInt32])
                let count = UInt32.random(in: 0...12, using: &random)
                writer.uint32(kind)
                if kind == 5 { return random.selection().encode(into: &writer) }
                writer.uint32(count)
                for _ in 0..<count {
                    switch kind {
                    case 0: writer.raw(random.bytes(6))
                    case 1, 2: writer.raw(random.bytes(4))
                    case 6: writer.raw(random.bytes(8))
                    default: writer.raw(random.bytes(2))
                    }
                }
            }
        },
        Subject(
            ReadClockCommand.self,
            [
                PeerStep(TPMS_TIME_INFO.self) {
                    unsafe Tss2_MU_TPMS_TIME_INFO_Unmarshal($0, $1, $2, $3)
                }
            ]
        ) { random in
            random.written { writer, random in
                writer.uint64(random.next())
                random.clock().encode(into: &writer)
            }
        },
        Subject(
            PolicySecretCommand.self,
            [
                PeerStep(TPM2B_TIMEOUT.self) {
                    unsafe Tss2_MU_TPM2B_TIMEOUT_Unmarshal($0, $1, $2, $3)
                }, .ticket,
            ]
        ) { random in
            random.written { writer, random in
                writer.sized(random.bytes(random.pick([0, 8])))
                writer.raw(random.ticket())
            }
        },
        Subject(VerifySignatureCommand.self, [.ticket]) { $0.ticket() },
        Subject(LoadCommand.self, handle: 0x8000_0000, [.name]) { random in
            random.written { writer, random in writer.sized(random.name().bytes) }
        },
        Subject(StartAuthSessionCommand.self, handle: 0x0300_0000, [.digest]) { random in
            random.written { writer, random in writer.sized(random.bytes(32)) }
        },
        Subject(
            ImportCommand.self,
            [
                PeerStep(TPM2B_PRIVATE.self) {
                    unsafe Tss2_MU_TPM2B_PRIVATE_Unmarshal($0, $1, $2, $3)
                }
            ]
        ) { random in
            random.written { writer, random in
                writer.sized(random.bytes(Int.random(in: 0...300, using: &random)))
            }
        },
        Subject(
            NVReadCommand.self,
            [
                PeerStep(TPM2B_MAX_NV_BUFFER.self) {
                    unsafe Tss2_MU_TPM2B_MAX_NV_BUFFER_Unmarshal($0, $1, $2, $3)
                }
            ]
        ) { random in
            random.written { writer, random in
                writer.sized(random.bytes(Int.random(in: 0...300, using: &random)))
            }
        },
        Subject(GetRandomCommand.self, [.digest]) { random in
            random.written { writer, random in writer.sized(random.bytes(16)) }
        },
        Subject(PolicyGetDigestCommand.self, [.digest]) { random in
            random.written { writer, random in writer.sized(random.bytes(32)) }
        },
    ]
}

@Suite("marshaling beside libtss2-mu", .timeLimit(.minutes(20)))
struct MarshalingTests {
    /// It tells of every refusal on standard error otherwise.
    private static let quiet: Void = { _ = unsafe setenv("TSS2_LOG", "all+NONE", 1) }()

    /// Compares one input.
    ///
    /// - Returns: why we are stricter, where we are.
    private static func compare(_ bytes: [UInt8], _ subject: Subject) -> Stricter? {
        let ours = subject.ours(bytes)
        let theirs = subject.theirs(bytes)
        let shown = "\(subject.name) \(hexadecimal(bytes)): \(ours), theirs \(theirs)"
        switch (ours, theirs.reading) {
        case (.refused, .refused): return nil
        case (.accepted(let one), .accepted(let other)):
            #expect(one == other && theirs.left == 0, "\(shown)")
            return nil
        case (.accepted, .refused):
            Issue.record("accepted here alone: \(shown)")
            return nil
        case (.refused(let error), .accepted):
            let reason = error.flatMap { Stricter($0, in: subject.name) }
            #expect(reason != nil, "refused here alone, for no reason that is known: \(shown)")
            return reason
        }
    }

    @Test("both agree on good, changed and cut inputs, or we are stricter for a reason with a name")
    func agree() {
        Self.quiet
        var met: [Stricter: Int] = [:]
        for (number, subject) in (Subject.structures + Subject.responses).enumerated() {
            var random = SeededNumbers(UInt64(number) &+ 0x5EED)
            for _ in 0..<100 {
                let good = subject.good(&random)
                #expect(
                    subject.ours(good) == .accepted(subject.isStructure ? good : nil),
                    "\(subject.name) \(hexadecimal(good)): \(subject.ours(good))")
                var inputs = [good, good + [0]]
                for _ in 0..<20 { inputs.append(random.mutated(good)) }
                for _ in 0..<4 {
                    inputs.append(
                        [UInt8](good.prefix(Int.random(in: 0...good.count, using: &random))))
                }
                for bytes in inputs {
                    if let reason = Self.compare(bytes, subject) { met[reason, default: 0] += 1 }
                }
            }
        }
        // A mutation hits on another type of attestation in few runs only.
        for reason in Stricter.allCases where reason != .attestation {
            #expect(met[reason] ?? 0 > 0, "never met: \(reason)")
        }
    }
}
