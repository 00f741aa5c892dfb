/// Builds TPM structures, big-endian.
public struct WireWriter: Sendable {
    /// What was written so far.
    public private(set) var bytes: [UInt8] = []

    /// Starts empty.
    ///
    /// - Parameter capacity: bytes to reserve.
    public init(capacity: Int = 64) { bytes.reserveCapacity(capacity) }

    /// Appends one byte.
    public mutating func uint8(_ value: UInt8) { bytes.append(value) }

    /// Appends two bytes.
    public mutating func uint16(_ value: UInt16) {
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        bytes.append(UInt8(truncatingIfNeeded: value))
    }

    /// Appends four bytes.
    public mutating func uint32(_ value: UInt32) {
        uint16(UInt16(truncatingIfNeeded: value >> 16))
        uint16(UInt16(truncatingIfNeeded: value))
    }

    /// Appends eight bytes.
    public mutating func uint64(_ value: UInt64) {
        uint32(UInt32(truncatingIfNeeded: value >> 32))
        uint32(UInt32(truncatingIfNeeded: value))
    }

    /// Appends bytes as they are.
    public mutating func raw(_ value: [UInt8]) { bytes += value }

    /// Appends a `TPM2B`: a 16-bit length and the bytes.
    ///
    /// - Precondition: fewer than 65,536 bytes; callers build them, they are never from outside.
    public mutating func sized(_ value: [UInt8]) {
        uint16(UInt16(value.count))
        bytes += value
    }

    /// Overwrites four bytes that were written before: a size that is known at the end.
    public mutating func patch(_ value: UInt32, at offset: Int) {
        for octet in 0..<4 {
            bytes[offset + octet] = UInt8(truncatingIfNeeded: value >> UInt32(24 - 8 * octet))
        }
    }

    /// Appends a `TPM2B` around a structure.
    public mutating func sizedStructure(_ encode: (inout WireWriter) -> Void) {
        let start = bytes.count
        uint16(0)
        encode(&self)
        let length = UInt16(bytes.count - start - 2)
        bytes[start] = UInt8(length >> 8)
        bytes[start + 1] = UInt8(truncatingIfNeeded: length)
    }
}

/// A structure of TPM 2.0 Library Part 2 with its canonical encoding.
public protocol WireStructure {
    /// Appends the encoding.
    func encode(into writer: inout WireWriter)
    /// Reads one, and leaves the cursor behind it.
    init(from reader: inout WireReader) throws(WireError)
}

extension WireStructure {
    /// The encoding.
    public var wireBytes: [UInt8] {
        var writer = WireWriter()
        encode(into: &writer)
        return writer.bytes
    }

    /// Reads a structure that must fill `bytes`.
    public init(wireBytes bytes: [UInt8]) throws(WireError) {
        var reader = WireReader(bytes)
        self = try Self(from: &reader)
        try reader.finish()
    }
}
