/// What is wrong with bytes that should be a TPM structure.
public enum WireError: Error, Sendable, Hashable {
    /// The bytes end before the field does.
    case truncated
    /// Bytes are left over after the last field.
    case trailingBytes(Int)
    /// A length field is above the maximum for its type.
    case tooLong(field: String, length: Int, maximum: Int)
    /// A value that no specification defines, or that Holdfast does not accept.
    case unknownValue(field: String, value: UInt64)
    /// A size field differs from the size of what it contains.
    case sizeMismatch(field: String)
}

extension WireError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .truncated: "the structure is cut short"
        case .trailingBytes(let count): "\(count) bytes follow the end of the structure"
        case .tooLong(let field, let length, let maximum):
            "`\(field)` says \(length) bytes, at most \(maximum) are allowed"
        case .unknownValue(let field, let value):
            "`\(field)` has the unknown value 0x\(String(value, radix: 16))"
        case .sizeMismatch(let field): "the size of `\(field)` is not that of its content"
        }
    }
}

/// A cursor over the bytes of a TPM structure, big-endian.
///
/// Every length is checked against what is there and against a maximum before anything is copied.
/// Copy the cursor to look ahead. Secrets never pass through it.
public struct WireReader: Sendable {
    private let bytes: [UInt8]
    private let end: Int
    /// Offset of the next byte.
    public private(set) var position: Int

    /// Starts at the first byte.
    public init(_ bytes: [UInt8]) {
        self.init(bytes, from: 0, to: bytes.count)
    }

    private init(_ bytes: [UInt8], from start: Int, to end: Int) {
        self.bytes = bytes
        self.position = start
        self.end = end
    }

    /// How many bytes are left.
    public var remaining: Int { end - position }

    /// Throws unless everything was read.
    public func finish() throws(WireError) {
        guard remaining == 0 else { throw .trailingBytes(remaining) }
    }

    /// Reads one byte.
    public mutating func uint8() throws(WireError) -> UInt8 {
        guard remaining >= 1 else { throw .truncated }
        defer { position += 1 }
        return bytes[position]
    }

    /// Reads two bytes.
    public mutating func uint16() throws(WireError) -> UInt16 {
        guard remaining >= 2 else { throw .truncated }
        defer { position += 2 }
        return UInt16(bytes[position]) << 8 | UInt16(bytes[position + 1])
    }

    /// Reads four bytes.
    public mutating func uint32() throws(WireError) -> UInt32 {
        UInt32(try uint16()) << 16 | UInt32(try uint16())
    }

    /// Reads eight bytes.
    public mutating func uint64() throws(WireError) -> UInt64 {
        UInt64(try uint32()) << 32 | UInt64(try uint32())
    }

    /// Reads `count` bytes as they are.
    public mutating func bytes(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, remaining >= count else { throw .truncated }
        defer { position += count }
        return [UInt8](bytes[position..<position + count])
    }

    /// Reads a `TPM2B`: a 16-bit length and as many bytes.
    ///
    /// - Parameter maximum: in bytes, from the definition of the type.
    public mutating func sized(_ field: String, maximum: Int) throws(WireError) -> [UInt8] {
        let length = Int(try uint16())
        guard length <= maximum else {
            throw .tooLong(field: field, length: length, maximum: maximum)
        }
        return try bytes(length)
    }

    /// Splits off the next `count` bytes as a cursor of their own.
    public mutating func section(_ count: Int) throws(WireError) -> WireReader {
        guard count >= 0, remaining >= count else { throw .truncated }
        defer { position += count }
        return WireReader(bytes, from: position, to: position + count)
    }

    /// Reads a `TPM2B` that wraps a structure, and demands that the structure fills it.
    ///
    /// - Returns: `nil` when the length is zero.
    public mutating func sizedStructure<T>(
        _ field: String, _ decode: (inout WireReader) throws(WireError) -> T
    ) throws(WireError) -> T? {
        let length = Int(try uint16())
        guard length > 0 else { return nil }
        var inner = try section(length)
        let value = try decode(&inner)
        guard inner.remaining == 0 else { throw .sizeMismatch(field: field) }
        return value
    }

    /// Reads everything that is left.
    public mutating func rest() -> [UInt8] {
        defer { position = end }
        return [UInt8](bytes[position..<end])
    }

    /// The bytes from `start` to the cursor, exactly as received.
    public func consumed(since start: Int) -> [UInt8] { [UInt8](bytes[start..<position]) }
}
