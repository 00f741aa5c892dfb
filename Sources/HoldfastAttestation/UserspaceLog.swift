import FoundationEssentials
import HoldfastCrypto
import HoldfastTPMWire

/// The log of what systemd measured after the boot loader: `/run/log/systemd/tpm2-measure.log`.
///
/// Records of the TCG's Canonical Event Log in JSON, each between a record separator and a line
/// feed: RFC 7464. Strict, as ``EventLog`` is: a record that cannot be read is not left out.
public struct UserspaceLog: Sendable {
    /// One extension.
    public struct Record: Sendable, Hashable, Codable {
        public let pcr: Int
        /// As systemd calls it, for example `phase`; nothing proves it.
        public let kind: String?
        /// What was measured, when its digests are those of it.
        public let text: String?
    }

    /// The largest log that is accepted, in bytes.
    public static let maximumSize = 4 << 20
    /// Every extension in order.
    public let records: [Record]
    private let digests: [(PCRIndex, [HashAlgorithm: [UInt8]])]

    private struct Source: Decodable {
        struct Digest: Decodable {
            let hashAlg: String
            let digest: String
        }
        struct Content: Decodable {
            let string: String?
            let eventType: String?
        }

        /// A register; newer logs have records of NV indexes as well, which are no registers.
        let pcr: Int?
        let digests: [Digest]
        let content: Content?
    }

    /// Reads a log.
    public init(parsing bytes: [UInt8]) throws(EvidenceFormatError) {
        let wrong = EvidenceFormatError(
            expected: "a log of systemd, as /run/log/systemd/tpm2-measure.log")
        guard bytes.count <= Self.maximumSize else { throw wrong }
        var records: [Record] = []
        var digests: [(PCRIndex, [HashAlgorithm: [UInt8]])] = []
        for text in bytes.split(separator: 0x1E) {
            guard text.last == 0x0A,
                let source = try? JSONDecoder().decode(Source.self, from: Data(text))
            else { throw wrong }
            guard let pcr = source.pcr else { continue }
            guard let number = UInt8(exactly: pcr), let index = PCRIndex(rawValue: number),
                source.digests.count <= 16
            else { throw wrong }
            var known: [HashAlgorithm: [UInt8]] = [:]
            for digest in source.digests {
                guard let value = HoldfastTPMWire.bytes(hexadecimal: digest.digest) else {
                    throw wrong
                }
                guard let hash = HashAlgorithm.allCases.first(where: { $0.name == digest.hashAlg })
                else { continue }
                guard value.count == hash.digestSize, known[hash] == nil else { throw wrong }
                known[hash] = value
            }
            let string = source.content?.string
            let isMeasured =
                !known.isEmpty
                && known.allSatisfy { $0.key.digest(Array((string ?? "").utf8)) == $0.value }
            records.append(
                Record(
                    pcr: pcr, kind: source.content?.eventType.map { printable($0.utf8) },
                    text: isMeasured ? string.map { printable($0.utf8) } : nil))
            digests.append((index, known))
        }
        guard bytes.isEmpty || bytes.first == 0x1E else { throw wrong }
        self.records = records
        self.digests = digests
    }

    /// Goes on from registers in every bank for which each record has a digest.
    func extend(
        _ banks: [HashAlgorithm: [PCRIndex: [UInt8]]]
    ) -> [HashAlgorithm: [PCRIndex: [UInt8]]] {
        var extended: [HashAlgorithm: [PCRIndex: [UInt8]]] = [:]
        for (hash, registers) in banks {
            var registers = registers
            let isWhole = digests.allSatisfy { index, known in
                guard let digest = known[hash] else { return false }
                let before = registers[index] ?? index.resetValue(digestSize: hash.digestSize)
                registers[index] = hash.digest(before, digest)
                return true
            }
            if isWhole { extended[hash] = registers }
        }
        return extended
    }
}
