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
            guard bytes.count > 2 else { throw .truncated }
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
