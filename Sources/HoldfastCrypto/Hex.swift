/// Hexadecimal text in lower case.
///
/// RFC 4648, section 8, but for the case.
public enum Hex {
    private static let digits = Array("0123456789abcdef".utf8)

    /// Writes two digits for each byte.
    public static func encode(_ bytes: [UInt8]) -> String {
        let text = bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }

    /// Reads lower-case digits; how long that takes tells about the bytes.
    ///
    /// - Throws: `.encodingInvalid` for anything else, upper case and odd lengths included.
    public static func decode(variableTime text: String) throws(CryptoError) -> [UInt8] {
        var bytes: [UInt8] = []
        var high: UInt8?
        for character in text.utf8 {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            default: throw .encodingInvalid
            }
            if let first = high {
                bytes.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        guard high == nil else { throw .encodingInvalid }
        return bytes
    }
}
