public import HoldfastCrypto

/// The header of a crypto-agile log: which digests every event carries, and how long they are.
///
/// `TCG_EfiSpecIDEvent`, PC Client Platform Firmware Profile, "Specification ID Version Event".
public struct SpecificationID: Sendable, Hashable {
    /// A digest algorithm and the length of its digests in this log.
    public struct Algorithm: Sendable, Hashable {
        /// The identifier; one that Holdfast does not compute is carried by its size.
        public let id: AlgorithmID
        /// In bytes, 1 to ``SpecificationID/maximumDigestSize``.
        public let digestSize: Int

        /// Declares an algorithm by identifier and digest size.
        public init(id: AlgorithmID, digestSize: Int) {
            self.id = id
            self.digestSize = digestSize
        }

        /// Declares an algorithm that Holdfast computes.
        public init(_ hash: HashAlgorithm) {
            self.init(id: hash.id, digestSize: hash.digestSize)
        }
    }

    /// No TPM has more banks.
    public static let maximumAlgorithms = 16
    /// The longest digest of the TCG Algorithm Registry, in bytes.
    public static let maximumDigestSize = 64

    /// What begins the data of the header event, its terminator included.
    static let signature: [UInt8] = [UInt8]("Spec ID Event03\0".utf8)

    /// 0 for a client, 1 for a server.
    public var platformClass: UInt32 = 0
    /// Minor version of the profile.
    public var minorVersion: UInt8 = 0
    /// Major version of the profile: 2.
    public var majorVersion: UInt8 = 2
    /// Errata level of the profile.
    public var errata: UInt8 = 0
    /// Size of a UINTN in the event data: 1 for 32 bits, 2 for 64 bits.
    public var uintnSize: UInt8 = 2
    /// The declared algorithms in their order, none twice.
    public var algorithms: [Algorithm]
    /// At most 255 bytes of the vendor's.
    public var vendorInfo: [UInt8] = []

    /// Declares algorithms under version 2.0 of the profile, for a client with 64 bits.
    public init(algorithms: [Algorithm]) { self.algorithms = algorithms }

    /// Reads the data of the header event.
    init(parsing cursor: LogCursor) throws(EventLogError) {
        var cursor = cursor
        let cut = EventLogError.header(reason: "it is cut short")
        guard cursor.skip(Self.signature.count) != nil,
            let platformClass = cursor.uint32(), let minorVersion = cursor.uint8(),
            let majorVersion = cursor.uint8(), let errata = cursor.uint8(),
            let uintnSize = cursor.uint8(), let count = cursor.uint32()
        else { throw cut }
        guard (1...UInt32(Self.maximumAlgorithms)).contains(count) else {
            throw .header(reason: "it declares \(count) algorithms")
        }
        var algorithms: [Algorithm] = []
        for _ in 0..<count {
            guard let id = cursor.uint16(), let size = cursor.uint16() else { throw cut }
            let algorithm = Algorithm(id: AlgorithmID(rawValue: id), digestSize: Int(size))
            let expected = algorithm.id.hash?.digestSize ?? algorithm.digestSize
            guard algorithm.digestSize == expected,
                (1...Self.maximumDigestSize).contains(algorithm.digestSize)
            else {
                throw .header(reason: "digests of 0x\(String(id, radix: 16)) are \(size) bytes")
            }
            guard !algorithms.contains(where: { $0.id == algorithm.id }) else {
                throw .header(reason: "it declares 0x\(String(id, radix: 16)) twice")
            }
            algorithms.append(algorithm)
        }
        guard let vendorInfoSize = cursor.uint8(),
            let vendorInfo = cursor.skip(Int(vendorInfoSize))
        else { throw cut }
        guard cursor.remaining == 0 else {
            throw .header(reason: "\(cursor.remaining) bytes follow its end")
        }
        self.platformClass = platformClass
        self.minorVersion = minorVersion
        self.majorVersion = majorVersion
        self.errata = errata
        self.uintnSize = uintnSize
        self.algorithms = algorithms
        self.vendorInfo = [UInt8](cursor.bytes[vendorInfo])
    }

    /// The data of the header event.
    var encoded: [UInt8] {
        precondition(vendorInfo.count <= 255, "vendor information is at most 255 bytes")
        var bytes = Self.signature
        bytes.append(littleEndian: platformClass)
        bytes += [minorVersion, majorVersion, errata, uintnSize]
        bytes.append(littleEndian: UInt32(algorithms.count))
        for algorithm in algorithms {
            bytes.append(littleEndian: algorithm.id.rawValue)
            bytes.append(littleEndian: UInt16(algorithm.digestSize))
        }
        return bytes + [UInt8(vendorInfo.count)] + vendorInfo
    }
}
