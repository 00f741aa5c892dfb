public import HoldfastCrypto

/// The Name of an entity: algorithm and digest of its public area, or a handle.
///
/// Part 1, section 16 "Names"; `TPM2B_NAME`.
public struct TPMName: Sendable, Hashable, CustomStringConvertible {
    /// The bytes, algorithm identifier included.
    public let bytes: [UInt8]

    /// The longest Name: an algorithm identifier and a SHA-512 digest.
    public static let maximumSize = 66

    /// Takes Name bytes as a TPM or a document states them.
    ///
    /// - Throws: unless it is empty, a handle, or an algorithm that Holdfast knows with a digest
    ///   of its size.
    public init(bytes: [UInt8]) throws(WireError) {
        switch bytes.count {
        case 0, 4: break
        default:
            guard bytes.count > 2 else { throw .sizeMismatch(field: "name") }
            let id = AlgorithmID(rawValue: UInt16(bytes[0]) << 8 | UInt16(bytes[1]))
            guard let hash = id.hash else {
                throw .unknownValue(field: "name", value: UInt64(id.rawValue))
            }
            guard bytes.count == 2 + hash.digestSize else { throw .sizeMismatch(field: "name") }
        }
        self.bytes = bytes
    }

    /// The Name of an entity whose Name is its handle: PCR, session, permanent handle.
    public init(handle: TPMHandle) {
        var writer = WireWriter(capacity: 4)
        writer.uint32(handle.rawValue)
        bytes = writer.bytes
    }

    /// The Name of a public area: algorithm and digest over the marshaled area.
    public init(hash: HashAlgorithm, publicArea: [UInt8]) {
        var writer = WireWriter(capacity: 2 + hash.digestSize)
        hash.encode(into: &writer)
        writer.raw(hash.digest(publicArea))
        bytes = writer.bytes
    }

    /// The qualified Name of an object with this Name below `parent`.
    ///
    /// Part 1, section 16: `nameAlg || H(QN parent || Name)`; a primary's parent is its hierarchy.
    public func qualified(below parent: TPMName, hash: HashAlgorithm) -> TPMName {
        TPMName(hash: hash, publicArea: parent.bytes + bytes)
    }

    init(from reader: inout WireReader, field: String) throws(WireError) {
        self = try TPMName(bytes: try reader.sized(field, maximum: Self.maximumSize))
    }

    public var description: String { hexadecimal(bytes) }
}

/// Lower-case hexadecimal text of bytes.
package func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 0xF)])
    }
    return String(decoding: text, as: UTF8.self)
}

/// Reads hexadecimal text of either case; its time depends on the content.
///
/// - Returns: `nil` unless it is an even number of digits.
package func bytes(hexadecimal text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0 else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(digits.count / 2)
    for position in stride(from: 0, to: digits.count, by: 2) {
        guard let high = nibble(digits[position]), let low = nibble(digits[position + 1]) else {
            return nil
        }
        result.append(high << 4 | low)
    }
    return result
}

private func nibble(_ digit: UInt8) -> UInt8? {
    switch digit {
    case 0x30...0x39: digit - 0x30
    case 0x41...0x46: digit - 0x41 + 10
    case 0x61...0x66: digit - 0x61 + 10
    default: nil
    }
}
