public import HoldfastCrypto

/// An algorithm identifier of the TCG Algorithm Registry.
///
/// `TPM_ALG_ID`, Part 2, section 6.3.
public struct AlgorithmID: RawRepresentable, Sendable, Hashable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let rsa = AlgorithmID(rawValue: 0x0001)
    public static let sha1 = AlgorithmID(rawValue: 0x0004)
    public static let hmac = AlgorithmID(rawValue: 0x0005)
    public static let aes = AlgorithmID(rawValue: 0x0006)
    public static let keyedHash = AlgorithmID(rawValue: 0x0008)
    public static let xor = AlgorithmID(rawValue: 0x000A)
    public static let sha256 = AlgorithmID(rawValue: 0x000B)
    public static let sha384 = AlgorithmID(rawValue: 0x000C)
    public static let sha512 = AlgorithmID(rawValue: 0x000D)
    public static let null = AlgorithmID(rawValue: 0x0010)
    public static let rsassa = AlgorithmID(rawValue: 0x0014)
    public static let rsaes = AlgorithmID(rawValue: 0x0015)
    public static let rsapss = AlgorithmID(rawValue: 0x0016)
    public static let oaep = AlgorithmID(rawValue: 0x0017)
    public static let ecdsa = AlgorithmID(rawValue: 0x0018)
    public static let ecdh = AlgorithmID(rawValue: 0x0019)
    public static let ecc = AlgorithmID(rawValue: 0x0023)
    public static let symcipher = AlgorithmID(rawValue: 0x0025)
    public static let cfb = AlgorithmID(rawValue: 0x0043)

    /// The hash function, when this is one that Holdfast computes.
    public var hash: HashAlgorithm? {
        switch self {
        case .sha1: .sha1
        case .sha256: .sha256
        case .sha384: .sha384
        case .sha512: .sha512
        default: nil
        }
    }
}

extension HashAlgorithm {
    /// The identifier in the TCG Algorithm Registry.
    public var id: AlgorithmID {
        switch self {
        case .sha1: .sha1
        case .sha256: .sha256
        case .sha384: .sha384
        case .sha512: .sha512
        }
    }

    /// The name that `tpm2-tools` and log files use, for example `sha256`.
    public var name: String {
        switch self {
        case .sha1: "sha1"
        case .sha256: "sha256"
        case .sha384: "sha384"
        case .sha512: "sha512"
        }
    }

    init(from reader: inout WireReader, field: String) throws(WireError) {
        let id = AlgorithmID(rawValue: try reader.uint16())
        guard let hash = id.hash else {
            throw .unknownValue(field: field, value: UInt64(id.rawValue))
        }
        self = hash
    }

    func encode(into writer: inout WireWriter) { writer.uint16(id.rawValue) }
}

extension EllipticCurve {
    /// `TPM_ECC_CURVE`, Part 2, section 6.4.
    public var id: UInt16 {
        switch self {
        case .p256: 0x0003
        case .p384: 0x0004
        }
    }

    init(id: UInt16) throws(WireError) {
        switch id {
        case 0x0003: self = .p256
        case 0x0004: self = .p384
        default: throw .unknownValue(field: "curveID", value: UInt64(id))
        }
    }
}
