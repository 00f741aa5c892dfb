import HoldfastAttestation
import HoldfastCrypto
import HoldfastStage
import Testing

@Suite("images that firmware starts")
struct PEImageTests {
    private func image(_ sections: [(String, Range<Int>)], size: Int) -> [UInt8] {
        ModelImage.image(
            sections.map { (name: $0.0, place: $0.1) }, size: size, headers: 0x1400)
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
