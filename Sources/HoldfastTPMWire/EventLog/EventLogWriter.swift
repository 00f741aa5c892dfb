public import HoldfastCrypto

/// Writes a boot event log, as firmware would.
///
/// For simulated machines and for tests; what it writes, ``EventLog`` reads back.
public struct EventLogWriter: Sendable {
    /// The log so far.
    public private(set) var bytes: [UInt8] = []
    private let header: SpecificationID?

    /// Begins a crypto-agile log with digests of these algorithms.
    ///
    /// - Parameter algorithms: at least one, none twice.
    public init(algorithms: [HashAlgorithm]) {
        self.init(header: SpecificationID(algorithms: algorithms.map { .init($0) }))
    }

    /// Begins a crypto-agile log with this header.
    public init(header: SpecificationID) {
        precondition(
            (1...SpecificationID.maximumAlgorithms).contains(header.algorithms.count)
                && Set(header.algorithms.map(\.id)).count == header.algorithms.count,
            "a log declares 1 to 16 algorithms, none twice")
        self.header = header
        appendSHA1(
            pcr: 0, type: .noAction, digest: [UInt8](repeating: 0, count: 20),
            data: header.encoded)
    }

    /// Begins a SHA-1 log, which has no header.
    public static func sha1Only() -> EventLogWriter { EventLogWriter(header: nil, bytes: []) }

    private init(header: SpecificationID?, bytes: [UInt8]) {
        self.header = header
        self.bytes = bytes
    }

    /// Records that `data` was hashed and extended.
    public mutating func measure(_ data: [UInt8], as type: EventType, into pcr: PCRIndex) {
        let digests = algorithms.map { algorithm in
            BootEvent.Digest(
                algorithm.id,
                algorithm.id.hash.map { $0.digest(data) }
                    ?? [UInt8](repeating: 0, count: algorithm.digestSize))
        }
        append(pcr: UInt32(pcr.rawValue), type: type, digests: digests, data: data)
    }

    /// Records the locality of `TPM2_Startup`; before anything is measured into PCR 0.
    public mutating func startupLocality(_ locality: UInt8) {
        let zeros = algorithms.map { algorithm in
            BootEvent.Digest(algorithm.id, [UInt8](repeating: 0, count: algorithm.digestSize))
        }
        append(
            pcr: 0, type: .noAction, digests: zeros, data: EventLog.localitySignature + [locality])
    }

    /// Adds an event as it is; nothing is computed and nothing is checked but the sizes.
    ///
    /// - Parameters:
    ///   - pcr: any number, so that a test can write what a parser refuses.
    ///   - type: any number.
    ///   - digests: for a SHA-1 log exactly one of 20 bytes.
    ///   - data: what the event says about itself.
    public mutating func append(
        pcr: UInt32, type: EventType, digests: [BootEvent.Digest], data: [UInt8]
    ) {
        guard header != nil else {
            precondition(digests.count == 1, "an event of a SHA-1 log has one digest")
            return appendSHA1(pcr: pcr, type: type, digest: digests[0].bytes, data: data)
        }
        bytes.append(littleEndian: pcr)
        bytes.append(littleEndian: type.rawValue)
        bytes.append(littleEndian: UInt32(digests.count))
        for digest in digests {
            bytes.append(littleEndian: digest.algorithm.rawValue)
            bytes += digest.bytes
        }
        appendSized(data)
    }

    private var algorithms: [SpecificationID.Algorithm] { header?.algorithms ?? [.init(.sha1)] }

    private mutating func appendSHA1(
        pcr: UInt32, type: EventType, digest: [UInt8], data: [UInt8]
    ) {
        precondition(digest.count == 20, "a SHA-1 digest is 20 bytes")
        bytes.append(littleEndian: pcr)
        bytes.append(littleEndian: type.rawValue)
        bytes += digest
        appendSized(data)
    }

    private mutating func appendSized(_ data: [UInt8]) {
        bytes.append(littleEndian: UInt32(data.count))
        bytes += data
    }
}

extension [UInt8] {
    mutating func append(littleEndian value: some FixedWidthInteger & UnsignedInteger) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
}
