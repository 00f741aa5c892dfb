/// A little-endian cursor over an event log; every read is checked before it happens.
struct LogCursor {
    let bytes: [UInt8]
    private(set) var position = 0
    /// Where the cursor must stop.
    let end: Int

    init(_ bytes: [UInt8], from start: Int, to end: Int) {
        self.bytes = bytes
        self.position = start
        self.end = end
    }

    var remaining: Int { end - position }

    mutating func uint8() -> UInt8? {
        guard remaining >= 1 else { return nil }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func uint16() -> UInt16? {
        guard remaining >= 2 else { return nil }
        defer { position += 2 }
        return UInt16(bytes[position]) | UInt16(bytes[position + 1]) << 8
    }

    mutating func uint32() -> UInt32? {
        guard remaining >= 4 else { return nil }
        defer { position += 4 }
        return UInt32(bytes[position]) | UInt32(bytes[position + 1]) << 8
            | UInt32(bytes[position + 2]) << 16 | UInt32(bytes[position + 3]) << 24
    }

    /// Steps over `count` bytes and tells where they are; nothing is copied.
    mutating func skip(_ count: Int) -> Range<Int>? {
        guard count >= 0, remaining >= count else { return nil }
        defer { position += count }
        return position..<position + count
    }

    /// Steps over a 32-bit length and as many bytes.
    mutating func sized() -> Range<Int>? {
        guard let size = uint32(), let count = Int(exactly: size) else { return nil }
        return skip(count)
    }
}
