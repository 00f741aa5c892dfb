/// How texts of firmware become values that can be compared.
///
/// docs/spec/hardware.md, "Normalisation".
enum FactText {
    /// Between the parts of a value; no part contains it.
    static let separator = "\u{1F}"
    /// The most bytes of one part.
    private static let maximumSize = 256

    /// A text without control characters and surplus white space.
    ///
    /// - Returns: `nil` when nothing is left, or the text is known to be worthless.
    static func normalized(_ text: String) -> String? {
        let words = text.unicodeScalars
            .map { isBlank($0) ? " " : Character($0) }
            .split(separator: " ").map { String($0) }
        let joined = words.joined(separator: " ")
        guard !joined.isEmpty, joined.utf8.count <= maximumSize, !isWorthless(joined) else {
            return nil
        }
        return joined
    }

    private static func isBlank(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value <= 0x20 || (0x7F...0xA0).contains(scalar.value) || scalar.value == 0xFFFD
    }

    /// Lower-case hexadecimal digits.
    ///
    /// - Parameters:
    ///   - count: how many digits there must be.
    ///   - ignoring: characters that may stand between them.
    /// - Returns: `nil` for anything else, and when all digits are 0 or all are F.
    static func hexadecimal(
        _ text: String, count: Range<Int>, ignoring: Set<Character> = []
    ) -> String? {
        let digits = text.filter { !ignoring.contains($0) && !$0.isWhitespace }.lowercased()
        guard count.contains(digits.count), digits.allSatisfy({ "0123456789abcdef".contains($0) }),
            digits.contains(where: { $0 != "0" }), digits.contains(where: { $0 != "f" })
        else { return nil }
        return digits
    }

    /// A UUID in its usual form.
    ///
    /// - Returns: `nil` when it is none, or one that many machines have.
    static func uuid(_ text: String) -> String? {
        guard let digits = hexadecimal(text, count: 32..<33, ignoring: ["-"]),
            !worthlessUUIDs.contains(digits), Set(digits).count > 2
        else { return nil }
        return digits
    }

    /// The permanent address of an interface: universally administered, of one station.
    static func address(_ text: String) -> String? {
        guard let digits = hexadecimal(text, count: 12..<13, ignoring: [":"]),
            let first = UInt8(digits.prefix(2), radix: 16), first & 3 == 0,
            !hypervisorPrefixes.contains(String(digits.prefix(6))),
            // An EEPROM that was never written, or the example of a data sheet.
            !["001122334455", "0000000000ff"].contains(digits)
        else { return nil }
        return digits
    }

    /// Whether a text is a placeholder of firmware makers.
    private static func isWorthless(_ text: String) -> Bool {
        let plain = text.lowercased().filter { $0.isLetter || $0.isNumber }
        return Set(plain).count < 2 || placeholders.contains(plain)
            || plain.hasPrefix("tobefilled") || counting.hasPrefix(plain)
            || "0123456789abcdef".hasPrefix(plain)
    }

    private static let counting = "12345678901234567890"

    /// Letters and digits alone, lower-case.
    private static let placeholders: Set<String> = [
        "defaultstring", "none", "na", "notapplicable", "notavailable", "notspecified",
        "notprovided", "notset", "unknown", "undefined", "invalid", "empty", "null", "oem",
        "systemserialnumber", "systemproductname", "systemmanufacturer", "systemversion",
        "baseboardserialnumber", "baseboardproductname", "boardserialnumber", "mbserial",
        "chassisserialnumber", "serialnumber", "serial", "sernum", "chassisversion",
        "chassismanufacturer", "assettag", "baseboardassettag", "chassisassettag",
        "type1productconfigid", "type1skunumber", "sku", "filledbyoem", "test", "sample",
        "productname", "allseries", "xxxxxxxxxxxx", "abcdefghijkl",
    ]

    private static let worthlessUUIDs: Set<String> = [
        "03000200040005000006000700080009", "00020003000400050006000700080009",
        "11111111222233334444555555555555", "123456781234567890abcddeefaabbcc",
        "00112233445566778899aabbccddeeff", "0123456789abcdef0123456789abcdef",
    ]

    /// What hypervisors give out: VMware, Hyper-V, VirtualBox, Xen, Parallels.
    private static let hypervisorPrefixes: Set<String> = [
        "000569", "000c29", "001c14", "005056", "00155d", "080027", "00163e", "001c42",
    ]
}
