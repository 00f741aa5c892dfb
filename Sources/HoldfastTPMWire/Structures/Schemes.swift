public import HoldfastCrypto

/// The symmetric algorithm of a storage key: none, or AES in CFB mode.
///
/// `TPMT_SYM_DEF_OBJECT`, Part 2, section 11.1.7.
public enum SymmetricDefinition: WireStructure, Sendable, Hashable {
    case none
    /// AES with this many bits of key: 128, 192 or 256.
    case aesCFB(bits: UInt16)

    public func encode(into writer: inout WireWriter) {
        switch self {
        case .none: writer.uint16(AlgorithmID.null.rawValue)
        case .aesCFB(let bits):
            writer.uint16(AlgorithmID.aes.rawValue)
            writer.uint16(bits)
            writer.uint16(AlgorithmID.cfb.rawValue)
        }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let id = AlgorithmID(rawValue: try reader.uint16())
        switch id {
        case .null: self = .none
        case .aes:
            let bits = try reader.uint16()
            guard bits == 128 || bits == 192 || bits == 256 else {
                throw .unknownValue(field: "keyBits", value: UInt64(bits))
            }
            let mode = AlgorithmID(rawValue: try reader.uint16())
            guard mode == .cfb else {
                throw .unknownValue(field: "mode", value: UInt64(mode.rawValue))
            }
            self = .aesCFB(bits: bits)
        default: throw .unknownValue(field: "symmetric", value: UInt64(id.rawValue))
        }
    }
}

/// The scheme of an asymmetric key or of one signature.
///
/// `TPMT_SIG_SCHEME` and `TPMT_ASYM_SCHEME`, Part 2, section 11.2.
public enum AsymmetricScheme: WireStructure, Sendable, Hashable {
    case null
    case ecdsa(HashAlgorithm)
    case rsassa(HashAlgorithm)
    case rsapss(HashAlgorithm)
    case rsaes
    case oaep(HashAlgorithm)
    case ecdh(HashAlgorithm)

    public func encode(into writer: inout WireWriter) {
        switch self {
        case .null: writer.uint16(AlgorithmID.null.rawValue)
        case .rsaes: writer.uint16(AlgorithmID.rsaes.rawValue)
        case .ecdsa(let hash): Self.encode(.ecdsa, hash, into: &writer)
        case .rsassa(let hash): Self.encode(.rsassa, hash, into: &writer)
        case .rsapss(let hash): Self.encode(.rsapss, hash, into: &writer)
        case .oaep(let hash): Self.encode(.oaep, hash, into: &writer)
        case .ecdh(let hash): Self.encode(.ecdh, hash, into: &writer)
        }
    }

    private static func encode(
        _ id: AlgorithmID, _ hash: HashAlgorithm, into writer: inout WireWriter
    ) {
        writer.uint16(id.rawValue)
        hash.encode(into: &writer)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let id = AlgorithmID(rawValue: try reader.uint16())
        switch id {
        case .null: self = .null
        case .rsaes: self = .rsaes
        case .ecdsa: self = .ecdsa(try HashAlgorithm(from: &reader, field: "hashAlg"))
        case .rsassa: self = .rsassa(try HashAlgorithm(from: &reader, field: "hashAlg"))
        case .rsapss: self = .rsapss(try HashAlgorithm(from: &reader, field: "hashAlg"))
        case .oaep: self = .oaep(try HashAlgorithm(from: &reader, field: "hashAlg"))
        case .ecdh: self = .ecdh(try HashAlgorithm(from: &reader, field: "hashAlg"))
        default: throw .unknownValue(field: "scheme", value: UInt64(id.rawValue))
        }
    }
}
