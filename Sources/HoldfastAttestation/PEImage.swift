public import HoldfastCrypto

/// An image that firmware starts: PE/COFF, as boot loaders, kernels with an EFI stub and unified
/// kernel images are.
///
/// Firmware measures its Authenticode digest, which leaves out the checksum and the signatures: a
/// signed image and the same one without a signature have one digest.
///
/// Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash"; PC Client
/// Platform Firmware Profile, "Measuring PE/COFF images".
public struct PEImage: Sendable {
    /// A section as it lies in the file.
    public struct Section: Sendable, Hashable {
        /// Without the zeros behind it.
        public let name: String
        /// What a loader puts into memory: the virtual size, zeros behind what the file has.
        public let content: [UInt8]
    }

    /// The largest file that is read: a unified kernel image has 50 to 200 MB.
    public static let maximumSize = 512 << 20
    private static let maximumSections = 96

    private let bytes: [UInt8]
    /// What is hashed, in order.
    private let hashed: [Range<Int>]
    /// Those that a unified kernel image measures: with a dot before the name.
    public let sections: [Section]

    /// Reads an image.
    ///
    /// - Returns: `nil` when it is not one, or is cut short.
    public init?(_ bytes: [UInt8]) {
        func number(_ place: Int, _ size: Int) -> Int? {
            guard place >= 0, place + size <= bytes.count else { return nil }
            return (0..<size).reversed().reduce(0) { $0 << 8 | Int(bytes[place + $1]) }
        }
        guard number(0, 2) == 0x5A4D, let header = number(0x3C, 4),
            number(header, 4) == 0x0000_4550, let sectionCount = number(header + 6, 2),
            sectionCount <= Self.maximumSections, let optionalSize = number(header + 20, 2),
            let magic = number(header + 24, 2), magic == 0x10B || magic == 0x20B
        else { return nil }
        let optional = header + 24
        let directories = optional + (magic == 0x20B ? 112 : 96)
        let checksum = optional + 64
        guard let headerSize = number(optional + 60, 4), headerSize <= bytes.count,
            let directoryCount = number(directories - 4, 4)
        else { return nil }
        // The fifth directory: where the signatures are.
        let entry = directories + 4 * 8
        let hasEntry = directoryCount > 4 && entry + 8 <= optional + optionalSize
        var signatures = 0
        guard checksum + 4 <= headerSize, !hasEntry || entry + 8 <= headerSize else { return nil }
        var ranges = [0..<checksum]
        if hasEntry {
            guard let size = number(entry + 4, 4) else { return nil }
            signatures = size
            ranges += [checksum + 4..<entry, entry + 8..<headerSize]
        } else {
            ranges.append(checksum + 4..<headerSize)
        }
        var end = headerSize
        var raw: [Range<Int>] = []
        var sections: [Section] = []
        for index in 0..<sectionCount {
            let place = optional + optionalSize + 40 * index
            guard let virtualSize = number(place + 8, 4), let size = number(place + 16, 4),
                let start = number(place + 20, 4), place + 40 <= bytes.count
            else { return nil }
            guard size == 0 || start + size <= bytes.count else { return nil }
            if size > 0 {
                raw.append(start..<start + size)
                end += size
            }
            // Sections that overlap have more bytes than the file: none of them is copied.
            guard end <= bytes.count else { return nil }
            let name = bytes[place..<place + 8].prefix { $0 != 0 }
            guard name.allSatisfy({ (0x20...0x7E).contains($0) }) else { return nil }
            let present = min(virtualSize, size)
            guard virtualSize <= Self.maximumSize else { return nil }
            guard name.first == 0x2E else { continue }
            let content =
                size > 0
                ? [UInt8](bytes[start..<start + present])
                    + [UInt8](repeating: 0, count: min(virtualSize - present, 1 << 20)) : []
            sections.append(Section(name: String(decoding: name, as: UTF8.self), content: content))
        }
        ranges += raw.sorted { $0.lowerBound < $1.lowerBound }
        guard signatures <= bytes.count else { return nil }
        let rest = bytes.count - signatures
        guard end <= rest else { return nil }
        // What stands behind the sections and is no signature.
        if end < rest { ranges.append(end..<rest) }
        self.bytes = bytes
        self.sections = sections
        hashed = ranges
    }

    /// The digest that firmware extends.
    public func authenticodeDigest(_ hash: HashAlgorithm) -> [UInt8] {
        var joined: [UInt8] = []
        joined.reserveCapacity(bytes.count)
        for range in hashed { joined += bytes[range] }
        return hash.digest(joined)
    }

    /// The content of a section, by its name.
    public func section(_ name: String) -> [UInt8]? {
        sections.first { $0.name == name }?.content
    }
}
