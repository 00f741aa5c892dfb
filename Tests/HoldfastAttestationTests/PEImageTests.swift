import HoldfastAttestation
import HoldfastCrypto
import Testing

@Suite("images that firmware starts")
struct PEImageTests {
    /// A PE32+ image with these sections: names, and where each lies in the file.
    private func image(_ sections: [(String, Range<Int>)], size: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        func put(_ value: Int, _ count: Int, at place: Int) {
            for index in 0..<count {
                bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
            }
        }
        put(0x5A4D, 2, at: 0)
        put(0x80, 4, at: 0x3C)
        put(0x4550, 4, at: 0x80)
        put(sections.count, 2, at: 0x86)
        put(240, 2, at: 0x94)
        put(0x20B, 2, at: 0x98)
        put(0x1400, 4, at: 0x98 + 60)
        put(16, 4, at: 0x98 + 108)
        for (number, section) in sections.enumerated() {
            let place = 0x98 + 240 + 40 * number
            bytes.replaceSubrange(
                place..<place + section.0.utf8.count, with: Array(section.0.utf8))
            put(section.1.count, 4, at: place + 8)
            put(section.1.count, 4, at: place + 16)
            put(section.1.lowerBound, 4, at: place + 20)
        }
        return bytes
    }

    @Test("sections with a dot are kept, and of others the bytes are hashed alone")
    func sections() throws {
        let both = [(".linux", 0x1400..<0x1500), ("text", 0x1500..<0x1600)]
        let read = try #require(PEImage(image(both, size: 0x1600)))
        #expect(read.sections.map(\.name) == [".linux"])
        #expect(read.section(".linux")?.count == 0x100)
        var other = image(both, size: 0x1600)
        other[0x1580] ^= 1
        let changed = try #require(PEImage(other))
        #expect(changed.authenticodeDigest(.sha256) != read.authenticodeDigest(.sha256))
    }

    @Test("sections that overlap are refused before they are copied")
    func overlapping() {
        // Copied first, they were 96 times the file.
        let size = 32 << 20
        let all = (0..<96).map { _ in (".linux", 0x1400..<size) }
        let bytes = image(all, size: size)
        let begin = ContinuousClock.now
        #expect(PEImage(bytes) == nil)
        #expect(ContinuousClock.now - begin < .milliseconds(500))
        #expect(PEImage(image([all[0]], size: size)) != nil)
    }
}
