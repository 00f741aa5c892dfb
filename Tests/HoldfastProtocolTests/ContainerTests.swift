import HoldfastCrypto
import HoldfastProtocol
import Testing

@Suite("containers")
struct ContainerTests {
    private func sample() throws -> Container {
        try Container(
            .enrollmentRequest,
            [
                (.leaseParentSalt, [UInt8](repeating: 2, count: 16)),
                (.hardwareFact, [UInt8](repeating: 9, count: 32)),
                (.vendorID, [UInt8](repeating: 1, count: 32)),
                (.hardwareFact, [UInt8](repeating: 8, count: 32)),
            ])
    }

    @Test("a document decodes to what it encodes to")
    func roundTrip() throws {
        let container = try sample()
        let read = try Container(decoding: container.encoded)
        #expect(read == container)
        #expect(read.encoded == container.encoded)
        #expect(read.kind == .enrollmentRequest)
        #expect(try read.required(.vendorID) == [UInt8](repeating: 1, count: 32))
        #expect(read.all(.hardwareFact).count == 2)
    }

    @Test("the bytes of a small document are these")
    func bytes() throws {
        let container = try Container(.approval, [(.note, [0x68, 0x69])])
        #expect(
            Hex.encode(container.encoded) == "48465354" + "0001" + "06" + "0016" + "00000002"
                + "6869")
    }

    @Test("a document that is cut is refused, unless the cut is between sections")
    func cut() throws {
        let bytes = try sample().encoded
        var shorter = 0
        for length in bytes.indices {
            guard let read = try? Container(decoding: [UInt8](bytes[..<length])) else { continue }
            // A whole document of fewer sections: what is missing is named when it is asked for.
            #expect(read.encoded.count == length)
            shorter += 1
        }
        #expect(shorter == 4)
        #expect(throws: DocumentError.missing(.endorsementKey)) {
            try sample().required(.endorsementKey)
        }
    }

    @Test("bytes behind the end are refused")
    func trailing() throws {
        let bytes = try sample().encoded
        #expect(throws: DocumentError.lengthWrong) { try Container(decoding: bytes + [0]) }
        #expect(throws: DocumentError.lengthWrong) {
            try Container(decoding: bytes + [0, 22, 0, 0])
        }
    }

    @Test("a document has one form: no bit flip gives the same content")
    func oneForm() throws {
        let container = try sample()
        for bit in 0..<container.encoded.count * 8 {
            var bytes = container.encoded
            bytes[bit / 8] ^= 1 << (bit % 8)
            if let read = try? Container(decoding: bytes) {
                #expect(read != container)
                #expect(read.encoded == bytes)
            }
        }
    }

    @Test("foreign bytes, other versions and unknown kinds are told apart")
    func foreign() throws {
        let bytes = try sample().encoded
        #expect(throws: DocumentError.notADocument) { try Container(decoding: []) }
        #expect(throws: DocumentError.notADocument) {
            try Container(decoding: [0x50, 0x4B, 3, 4, 0, 0, 0])
        }
        var other = bytes
        other[5] = 2
        #expect(throws: DocumentError.notADocument) { try Container(decoding: other) }
        other = bytes
        other[6] = 99
        #expect(throws: DocumentError.wrongKind(99)) { try Container(decoding: other) }
        #expect(throws: DocumentError.unknownSection(0x7FFF)) {
            try Container(decoding: Array("HFST".utf8) + [0, 1, 1, 0x7F, 0xFF, 0, 0, 0, 0])
        }
    }

    @Test("sections out of order and sections that repeat are refused")
    func order() throws {
        let head = Array("HFST".utf8) + [0, 1, 1]
        let salt: [UInt8] = [0, 6, 0, 0, 0, 1, 7]
        let vendor: [UInt8] = [0, 1, 0, 0, 0, 1, 7]
        #expect(try Container(decoding: head + vendor + salt).kind == .enrollmentRequest)
        #expect(throws: DocumentError.orderWrong(.vendorID)) {
            try Container(decoding: head + salt + vendor)
        }
        #expect(throws: DocumentError.orderWrong(.leaseParentSalt)) {
            try Container(decoding: head + salt + salt)
        }
        #expect(throws: DocumentError.orderWrong(.hardwareFact)) {
            try Container(.enrollmentRequest, [(.hardwareFact, [1]), (.hardwareFact, [1])])
        }
    }

    @Test("a section longer than its type allows is refused before it is read")
    func tooLong() throws {
        let claimed: [UInt8] = [0, 1, 0xFF, 0xFF, 0xFF, 0xFF]
        #expect(throws: DocumentError.tooLong) {
            try Container(decoding: Array("HFST".utf8) + [0, 1, 1] + claimed)
        }
        #expect(throws: DocumentError.tooLong) {
            try Container(.enrollmentRequest, [(.vendorID, [UInt8](repeating: 0, count: 33))])
        }
    }
}
