/// A value of the JSON that our tokens hold: no floats, no null, no negative numbers.
///
/// Each value has one encoding: keys in the order of their UTF-8 bytes, no white space, and only
/// quotes, backslashes and control characters escaped. Decoding accepts that encoding alone, so two
/// readers cannot disagree on duplicate keys, big numbers or the like.
///
/// docs/spec/formats.md, "Tokens"; RFC 8259.
public enum CanonicalJSON: Sendable, Hashable {
    case object([String: CanonicalJSON])
    case array([CanonicalJSON])
    case string(String)
    case number(UInt64)
    case bool(Bool)

    /// The bytes are not the one encoding of a value.
    public struct NotCanonical: Error, Sendable, Hashable {}

    /// The deepest nesting.
    public static let maximumDepth = 8

    /// The bytes.
    public var encoded: [UInt8] {
        var bytes: [UInt8] = []
        encode(into: &bytes)
        return bytes
    }

    private func encode(into bytes: inout [UInt8]) {
        switch self {
        case .object(let members):
            bytes.append(Self.openBrace)
            let keys = members.keys.sorted {
                $0.utf8.lexicographicallyPrecedes($1.utf8)
            }
            for (number, key) in keys.enumerated() {
                if number > 0 { bytes.append(Self.comma) }
                Self.encode(key, into: &bytes)
                bytes.append(Self.colon)
                members[key]?.encode(into: &bytes)
            }
            bytes.append(Self.closeBrace)
        case .array(let elements):
            bytes.append(Self.openBracket)
            for (number, element) in elements.enumerated() {
                if number > 0 { bytes.append(Self.comma) }
                element.encode(into: &bytes)
            }
            bytes.append(Self.closeBracket)
        case .string(let text): Self.encode(text, into: &bytes)
        case .number(let value): bytes += Array(String(value).utf8)
        case .bool(let value): bytes += Array((value ? "true" : "false").utf8)
        }
    }

    private static func encode(_ text: String, into bytes: inout [UInt8]) {
        bytes.append(quote)
        for byte in text.utf8 {
            switch byte {
            case quote, backslash: bytes += [backslash, byte]
            case 0..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                bytes += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: bytes.append(byte)
            }
        }
        bytes.append(quote)
    }

    /// Reads the one encoding of a value.
    public init(decoding bytes: [UInt8]) throws(NotCanonical) {
        var parser = Parser(bytes: bytes)
        self = try parser.value(depth: 0)
        // What the parser lets pass, white space or another order, encodes to other bytes.
        guard parser.position == bytes.count, encoded == bytes else { throw NotCanonical() }
    }

    private struct Parser {
        let bytes: [UInt8]
        var position = 0

        init(bytes: [UInt8]) { self.bytes = bytes }

        var next: UInt8? { position < bytes.count ? bytes[position] : nil }

        mutating func expect(_ byte: UInt8) throws(NotCanonical) {
            guard next == byte else { throw NotCanonical() }
            position += 1
        }

        mutating func take(_ text: String) -> Bool {
            let wanted = Array(text.utf8)
            guard bytes.count - position >= wanted.count,
                bytes[position..<position + wanted.count].elementsEqual(wanted)
            else { return false }
            position += wanted.count
            return true
        }

        mutating func value(depth: Int) throws(NotCanonical) -> CanonicalJSON {
            guard depth < maximumDepth, let byte = next else { throw NotCanonical() }
            switch byte {
            case openBrace: return try object(depth)
            case openBracket: return try array(depth)
            case quote: return .string(try string())
            case 0x30...0x39: return .number(try number())
            default:
                if take("true") { return .bool(true) }
                if take("false") { return .bool(false) }
                throw NotCanonical()
            }
        }

        mutating func object(_ depth: Int) throws(NotCanonical) -> CanonicalJSON {
            var members: [String: CanonicalJSON] = [:]
            try expect(openBrace)
            while next != closeBrace {
                if !members.isEmpty { try expect(comma) }
                let key = try string()
                try expect(colon)
                let value = try value(depth: depth + 1)
                guard members.updateValue(value, forKey: key) == nil else { throw NotCanonical() }
            }
            try expect(closeBrace)
            return .object(members)
        }

        mutating func array(_ depth: Int) throws(NotCanonical) -> CanonicalJSON {
            var elements: [CanonicalJSON] = []
            try expect(openBracket)
            while next != closeBracket {
                if !elements.isEmpty { try expect(comma) }
                elements.append(try value(depth: depth + 1))
            }
            try expect(closeBracket)
            return .array(elements)
        }

        mutating func number() throws(NotCanonical) -> UInt64 {
            let start = position
            while let byte = next, (0x30...0x39).contains(byte) { position += 1 }
            guard position - start <= 20,
                let value = UInt64(String(decoding: bytes[start..<position], as: UTF8.self))
            else { throw NotCanonical() }
            return value
        }

        mutating func string() throws(NotCanonical) -> String {
            try expect(quote)
            var content: [UInt8] = []
            while let byte = next, byte != quote {
                position += 1
                guard byte == backslash else {
                    content.append(byte)
                    continue
                }
                if next == quote || next == backslash {
                    content.append(bytes[position])
                    position += 1
                } else if take("u00"), bytes.count - position >= 2,
                    let value = UInt8(
                        String(decoding: bytes[position..<position + 2], as: UTF8.self), radix: 16)
                {
                    content.append(value)
                    position += 2
                } else {
                    throw NotCanonical()
                }
            }
            try expect(quote)
            guard let text = String(validating: content, as: UTF8.self) else {
                throw NotCanonical()
            }
            return text
        }
    }

    private static let quote = UInt8(ascii: "\"")
    private static let backslash = UInt8(ascii: "\\")
    private static let comma = UInt8(ascii: ",")
    private static let colon = UInt8(ascii: ":")
    private static let openBrace = UInt8(ascii: "{")
    private static let closeBrace = UInt8(ascii: "}")
    private static let openBracket = UInt8(ascii: "[")
    private static let closeBracket = UInt8(ascii: "]")
}
