import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("the value of an attested counter")
struct AttestationCounterTests {
    private let area = KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0001)).written

    private func attestation(_ attested: Attestation.Attested) -> Attestation {
        Attestation(
            qualifiedSigner: area.name, extraData: [],
            clockInfo: ClockInfo(clock: 1, resetCount: 2, restartCount: 3, safe: true),
            firmwareVersion: 4, attested: attested)
    }

    private func nv(
        _ name: TPMName, offset: UInt16 = 0, _ contents: [UInt8] = [0, 0, 0, 0, 0, 0, 1, 2]
    ) -> Attestation {
        attestation(.nv(indexName: name, offset: offset, contents: contents))
    }

    @Test("eight bytes at offset 0 of the demanded index")
    func accepted() throws {
        #expect(try nv(area.name).counterValue(of: area.name) == 0x0102)
        let full = [UInt8](repeating: 0xFF, count: 8)
        #expect(try nv(area.name, full).counterValue(of: area.name) == .max)
    }

    @Test("a part, or more than the whole", arguments: [0, 1, 4, 7, 9, 16])
    func sizes(_ size: Int) {
        let part = nv(area.name, [UInt8](repeating: 1, count: size))
        #expect(throws: AttestationError.partial) { try part.counterValue(of: area.name) }
    }

    @Test("another offset", arguments: [1, 4, 8, 0xFFFF] as [UInt16])
    func offsets(_ offset: UInt16) {
        let part = nv(area.name, offset: offset)
        #expect(throws: AttestationError.partial) { try part.counterValue(of: area.name) }
    }

    @Test("another index: not written, another handle, another type, another policy")
    func otherIndex() {
        var others = [
            KeyTemplate.counter(at: area.index),
            KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0002)).written, area, area,
        ]
        others[2].attributes.remove(.counter)
        others[3].authPolicy[0] ^= 1
        for other in others {
            #expect(throws: AttestationError.otherIndex) {
                try nv(other.name).counterValue(of: area.name)
            }
        }
    }

    @Test("an attestation of another type")
    func otherType() {
        for other in [
            Attestation.Attested.certify(name: area.name, qualifiedName: area.name),
            .quote(selection: .empty, pcrDigest: [0, 0, 0, 0, 0, 0, 1, 2]),
        ] {
            #expect(throws: AttestationError.otherKind) {
                try attestation(other).counterValue(of: area.name)
            }
        }
    }

    @Test("a digest certification of newer TPMs, type 0x801C, does not parse")
    func digestType() throws {
        var bytes = nv(area.name).wireBytes
        #expect(bytes[4..<6] == [0x80, 0x14])
        bytes[5] = 0x1C
        #expect(throws: WireError.unknownValue(field: "type", value: 0x801C)) {
            try Attestation(wireBytes: bytes)
        }
    }
}
