/// Base 64 text with the URL alphabet and without padding.
///
/// Characters are computed, not looked up: the time depends on the length, and on whether a text
/// is accepted, so that keys may pass through.
///
/// RFC 4648, section 5.
public enum Base64URL {
    /// How many characters `count` bytes take.
    static func encodedSize(_ count: Int) -> Int { (count * 4 + 2) / 3 }

    /// How many bytes `count` characters stand for; no bytes have a text of `nil`.
    static func decodedSize(_ count: Int) -> Int? {
        count % 4 == 1 ? nil : count / 4 * 3 + max(count % 4 - 1, 0)
    }

    /// Writes four characters for three bytes, and the last ones as short as they can be.
    public static func encode(_ bytes: [UInt8]) -> String {
        String(decoding: encodeToArray(bytes.span), as: UTF8.self)
    }

    /// Reads the one text of some bytes.
    ///
    /// - Throws: `.encodingInvalid` for anything else: padding, other characters, a length that no
    ///   bytes have, unused bits that are not zero.
    public static func decode(_ text: String) throws(CryptoError) -> [UInt8] {
        try decode(text.utf8.span)
    }

    static func encodeToArray(_ bytes: Span<UInt8>) -> [UInt8] {
        [UInt8](count: encodedSize(bytes.count)) { encode(bytes, into: &$0, at: 0) }
    }

    static func decode(_ text: Span<UInt8>) throws(CryptoError) -> [UInt8] {
        guard let size = decodedSize(text.count) else { throw .encodingInvalid }
        return try [UInt8](count: size) {
            (target: inout MutableSpan<UInt8>) throws(CryptoError) in
            try decode(text, into: &target)
        }
    }

    /// Writes ``encodedSize(_:)`` characters from `start` on.
    static func encode(_ bytes: Span<UInt8>, into text: inout MutableSpan<UInt8>, at start: Int) {
        var position = start
        var index = 0
        while index < bytes.count {
            let left = min(bytes.count - index, 3)
            let second = left > 1 ? Int(bytes[index + 1]) : 0
            let third = left > 2 ? Int(bytes[index + 2]) : 0
            let group = Int(bytes[index]) << 16 | second << 8 | third
            for place in 0...left {
                text[position + place] = character(group >> (18 - 6 * place) & 63)
            }
            position += left + 1
            index += 3
        }
    }

    /// Fills `bytes`, which has room for ``decodedSize(_:)`` bytes exactly.
    static func decode(
        _ text: Span<UInt8>, into bytes: inout MutableSpan<UInt8>
    ) throws(CryptoError) {
        let zero = UInt8(ascii: "A")
        var flaws: Int32 = 0
        var index = 0
        var position = 0
        while index < text.count {
            let left = min(text.count - index, 4)
            let group = values(
                SIMD4(
                    text[index], left > 1 ? text[index + 1] : zero,
                    left > 2 ? text[index + 2] : zero, left > 3 ? text[index + 3] : zero))
            let bits = group[0] << 18 | group[1] << 12 | group[2] << 6 | group[3]
            bytes[position] = UInt8(truncatingIfNeeded: bits >> 16)
            if left > 2 { bytes[position + 1] = UInt8(truncatingIfNeeded: bits >> 8) }
            if left > 3 { bytes[position + 2] = UInt8(truncatingIfNeeded: bits) }
            // A character that is none is negative; so are unused bits that are not zero.
            flaws |= group[0] | group[1] | group[2] | group[3]
            flaws |= -(bits & (1 << (8 * (4 - Int32(left))) - 1) & 0xffff)
            index += 4
            position += 3
        }
        guard flaws >= 0 else { throw .encodingInvalid }
    }

    /// The character of a value of 0 to 63; `x >> 8` is -1 for a negative x and 0 otherwise.
    private static func character(_ value: Int) -> UInt8 {
        var character = value &+ 0x41
        character &+= (25 &- value) >> 8 & 6
        character &-= (51 &- value) >> 8 & 75
        character &-= (61 &- value) >> 8 & 13
        character &+= (62 &- value) >> 8 & 49
        return UInt8(truncatingIfNeeded: character)
    }

    /// The values of four characters; -1 for one that is none.
    private static func values(_ characters: SIMD4<UInt8>) -> SIMD4<Int32> {
        let c = SIMD4<Int32>(truncatingIfNeeded: characters)
        var values = SIMD4<Int32>(repeating: -1)
        values &+= (((0x40 &- c) & (c &- 0x5b)) &>> 8) & (c &- 64)
        values &+= (((0x60 &- c) & (c &- 0x7b)) &>> 8) & (c &- 70)
        values &+= (((0x2f &- c) & (c &- 0x3a)) &>> 8) & (c &+ 5)
        values &+= (((0x2c &- c) & (c &- 0x2e)) &>> 8) & 63
        values &+= (((0x5e &- c) & (c &- 0x60)) &>> 8) & 64
        return values
    }
}
