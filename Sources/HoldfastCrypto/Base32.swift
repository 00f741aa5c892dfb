/// Base 32 text in lower case and without padding.
///
/// RFC 4648, section 6, but for case and padding.
public enum Base32 {
    private static let alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)

    /// Writes eight characters for five bytes, and the last ones as short as they can be.
    public static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count * 8 + 4) / 5)
        var pending: UInt32 = 0
        var count = 0
        for byte in bytes {
            pending = pending << 8 | UInt32(byte)
            count += 8
            while count >= 5 {
                count -= 5
                text.append(alphabet[Int(pending >> UInt32(count)) & 31])
            }
            pending &= 31
        }
        if count > 0 { text.append(alphabet[Int(pending << UInt32(5 - count)) & 31]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Reads the one text of some bytes; how long that takes tells about the bytes.
    ///
    /// - Throws: `.encodingInvalid` for anything else: upper case, padding, a length that no bytes
    ///   have, unused bits that are not zero.
    public static func decode(variableTime text: String) throws(CryptoError) -> [UInt8] {
        var bytes: [UInt8] = []
        var pending: UInt32 = 0
        var count = 0
        for character in text.utf8 {
            let value: UInt8
            switch character {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - UInt8(ascii: "a")
            case UInt8(ascii: "2")...UInt8(ascii: "7"): value = character - UInt8(ascii: "2") + 26
            default: throw .encodingInvalid
            }
            pending = pending << 5 | UInt32(value)
            count += 5
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: pending >> UInt32(count)))
                pending &= (1 << UInt32(count)) - 1
            }
        }
        // Five bits or more left over would be a character that carries nothing.
        guard count < 5, pending == 0 else { throw .encodingInvalid }
        return bytes
    }
}
