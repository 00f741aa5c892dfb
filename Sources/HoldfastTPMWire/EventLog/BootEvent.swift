/// One entry of a boot event log: what firmware says it extended into a PCR.
///
/// Only the digests are vouched for, and only after the replayed PCR equals a quoted one. Type and
/// data are claims until they are recomputed from the digest.
///
/// `TCG_PCR_EVENT2`, or `TCG_PCClientPCREvent` in a SHA-1 log and for the header.
public struct BootEvent: Sendable {
    /// A digest and its algorithm.
    public struct Digest: Sendable, Hashable {
        /// The algorithm.
        public let algorithm: AlgorithmID
        /// As many bytes as the header declares.
        public let bytes: [UInt8]

        /// Pairs a digest with its algorithm.
        public init(_ algorithm: AlgorithmID, _ bytes: [UInt8]) {
            self.algorithm = algorithm
            self.bytes = bytes
        }
    }

    /// Where the digest of one algorithm lies in the log; an event of a SHA-1 log has one.
    enum Layout: Sendable {
        case sha1(Range<Int>)
        /// Pairs of a 16-bit identifier and a digest, checked by the parser.
        case agile(Range<Int>, [SpecificationID.Algorithm])
    }

    /// The PCR as the log has it: below 24, except that ``EventType/noAction`` may name any.
    public let pcr: UInt32
    /// What the event says it measured.
    public let type: EventType
    private let log: [UInt8]
    private let layout: Layout
    private let dataRange: Range<Int>

    init(pcr: UInt32, type: EventType, log: [UInt8], layout: Layout, data: Range<Int>) {
        self.pcr = pcr
        self.type = type
        self.log = log
        self.layout = layout
        self.dataRange = data
    }

    /// The register that this event extends; `nil` for ``EventType/noAction``.
    public var extendedPCR: PCRIndex? {
        guard type != .noAction else { return nil }
        return UInt8(exactly: pcr).flatMap(PCRIndex.init)
    }

    /// The event data, which no TPM vouches for, as a view of the log.
    public var untrustedData: ArraySlice<UInt8> { log[dataRange] }

    /// The digest of this algorithm as a view of the log, or `nil` when the event has none.
    public func digest(_ algorithm: AlgorithmID) -> ArraySlice<UInt8>? {
        switch layout {
        case .sha1(let range): return algorithm == .sha1 ? log[range] : nil
        case .agile(let range, let declared):
            var position = range.lowerBound
            while position < range.upperBound {
                let id = AlgorithmID(
                    rawValue: UInt16(log[position]) | UInt16(log[position + 1]) << 8)
                let size = declared.first { $0.id == id }?.digestSize ?? 0
                position += 2
                if id == algorithm { return log[position..<position + size] }
                position += size
            }
            return nil
        }
    }

    /// The event as the log has it, with its data or without.
    func encoded(keepingData: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: pcr)
        bytes.append(littleEndian: type.rawValue)
        switch layout {
        case .sha1(let range): bytes += log[range]
        case .agile(let range, _):
            bytes.append(littleEndian: UInt32(digests.count))
            bytes += log[range]
        }
        let data = keepingData ? untrustedData : []
        bytes.append(littleEndian: UInt32(data.count))
        return bytes + data
    }

    /// Every digest in the order of the log.
    public var digests: [Digest] {
        switch layout {
        case .sha1(let range): return [Digest(.sha1, [UInt8](log[range]))]
        case .agile(let range, let declared):
            var digests: [Digest] = []
            var position = range.lowerBound
            while position < range.upperBound {
                let id = AlgorithmID(
                    rawValue: UInt16(log[position]) | UInt16(log[position + 1]) << 8)
                let size = declared.first { $0.id == id }?.digestSize ?? 0
                position += 2
                digests.append(Digest(id, [UInt8](log[position..<position + size])))
                position += size
            }
            return digests
        }
    }
}
