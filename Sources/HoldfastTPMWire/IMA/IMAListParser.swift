import HoldfastCrypto

/// Reads a measurement list piece by piece: `binary_runtime_measurements` or its ASCII form.
///
/// Give it bytes with ``append(_:)``, take entries with ``next()`` until there is none, and say
/// ``end()`` behind the last byte. It keeps the entry that is being read and no other. Which form
/// it is, and for the binary one which byte order and which template hash, the first entry shows;
/// all others must be the same.
///
/// The kernel writes numbers in its own byte order, or little-endian with `ima_canonical_fmt`.
public struct IMAListParser: Sendable {
    /// How a list is written.
    public enum Form: String, Sendable, Hashable {
        case ascii
        case littleEndian = "little-endian"
        case bigEndian = "big-endian"
    }

    /// The longest entry that is accepted, in bytes; the kernel's own are a few thousand at most.
    public static let maximumEntry = 1 << 20
    /// How many entries are accepted.
    public static let maximumEntries = 1 << 24

    /// What the first entry showed.
    public private(set) var form: Form?
    /// How many entries were read.
    public private(set) var count = 0
    private var digestSize = 20
    private var buffer: [UInt8] = []
    private var position = 0
    /// What was read and given up.
    private var released = 0
    /// No line ends before this place.
    private var scanned = 0
    private var isEnded = false
    /// Lengths are hashed in this order; of an ASCII list the first entry shows it.
    private var hashesBigEndian: Bool?

    /// How many bytes the entries have that were read.
    public var consumed: Int { released + position }

    /// Begins a list.
    public init() {}

    /// Adds the next bytes.
    public mutating func append(_ bytes: [UInt8]) {
        if position > 0 {
            buffer.removeFirst(position)
            released += position
            scanned = max(0, scanned - position)
            position = 0
        }
        buffer += bytes
    }

    /// Says that nothing follows.
    public mutating func end() { isEnded = true }

    /// The next entry.
    ///
    /// - Returns: `nil` when more bytes are needed, or after ``end()`` when there is none.
    public mutating func next() throws(IMAError) -> IMAEntry? {
        guard position < buffer.count else {
            guard !isEnded || count > 0 else { throw .empty }
            return nil
        }
        if form == nil {
            form = try recognized()
            guard form != nil else { return nil }
        }
        guard count < Self.maximumEntries else {
            throw .tooLarge(
                entry: count, field: "entries", size: count + 1, maximum: Self.maximumEntries)
        }
        let entry = form == .ascii ? try line() : try binary()
        guard let entry else {
            guard !isEnded else { throw .truncated(entry: count) }
            guard available <= 2 * Self.maximumEntry else {
                throw .tooLarge(
                    entry: count, field: "size", size: available,
                    maximum: Self.maximumEntry)
            }
            return nil
        }
        count += 1
        return entry
    }

    /// Which form the first bytes are of; `nil` when they are too few.
    private mutating func recognized() throws(IMAError) -> Form? {
        // A number, the longest digest, a length and a name.
        guard isEnded || buffer.count >= 4 + 64 + 4 + IMATemplate.maximumName else { return nil }
        if buffer.prefix(4).contains(where: { (0x30...0x39).contains($0) }),
            buffer.prefix(3).allSatisfy({ $0 == 0x20 || (0x30...0x39).contains($0) })
        {
            return .ascii
        }
        // The size of the template hash is that for which a name follows: since Linux 6.10 there is
        // a list for each bank.
        for form in [Form.littleEndian, .bigEndian] {
            guard let pcr = number(at: 0, form), pcr < 24 else { continue }
            for size in [20, 32, 48, 64] {
                guard let length = number(at: 4 + size, form),
                    (1...UInt32(IMATemplate.maximumName)).contains(length),
                    8 + size + Int(length) <= buffer.count,
                    buffer[(8 + size)..<(8 + size + Int(length))].allSatisfy({
                        (0x21...0x7E).contains($0)
                    })
                else { continue }
                digestSize = size
                hashesBigEndian = form == .bigEndian
                return form
            }
        }
        throw .notAList
    }

    private func number(at offset: Int, _ form: Form?) -> UInt32? {
        let start = position + offset
        guard offset >= 0, start + 4 <= buffer.count else { return nil }
        let bytes = buffer[start..<start + 4]
        return form == .bigEndian
            ? bytes.reduce(0) { $0 << 8 | UInt32($1) }
            : bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// Reads a length at an offset, against a maximum.
    private func length(
        at offset: Int, _ field: String, maximum: Int
    ) throws(IMAError) -> Int? {
        guard let value = number(at: offset, form) else { return nil }
        guard value <= UInt32(maximum) else {
            throw .tooLarge(entry: count, field: field, size: Int(value), maximum: maximum)
        }
        return Int(value)
    }

    /// The bytes at an offset; the caller has checked that they are there.
    private func slice(_ offset: Int, _ size: Int) -> [UInt8] {
        [UInt8](buffer[(position + offset)..<(position + offset + size)])
    }

    private var available: Int { buffer.count - position }

    // MARK: Binary

    private mutating func binary() throws(IMAError) -> IMAEntry? {
        guard let pcr = number(at: 0, form) else { return nil }
        try check(pcr: pcr)
        var offset = 4 + digestSize
        guard
            let nameLength = try length(
                at: offset, "template name", maximum: IMATemplate.maximumName)
        else { return nil }
        offset += 4
        guard available >= offset + nameLength else { return nil }
        let name = slice(offset, nameLength)
        offset += nameLength
        let template = printable(name)
        guard let form = IMATemplate(template) else {
            throw .unknownTemplate(entry: count, name: template)
        }
        let contents: [[UInt8]]
        let hashed: [UInt8]
        if form.isOriginal {
            guard let size = try length(at: offset + 20, "name", maximum: Self.maximumName)
            else { return nil }
            guard available >= offset + 24 + size else { return nil }
            contents = [slice(offset, 20), slice(offset + 24, size)]
            hashed = Self.original(contents)
            offset += 24 + size
        } else {
            guard
                let size = try length(at: offset, "template data", maximum: Self.maximumEntry)
            else { return nil }
            offset += 4
            guard available >= offset + size else { return nil }
            hashed = slice(offset, size)
            contents = try fields(hashed, form)
            offset += size
        }
        let entry = try IMAEntry(
            number: count, pcr: pcr, loggedDigest: slice(4, digestSize), template: template,
            form: form, contents: contents, hashed: hashed)
        position += offset
        return entry
    }

    /// Splits the data of a template; each field has its length before it.
    private func fields(_ data: [UInt8], _ template: IMATemplate) throws(IMAError) -> [[UInt8]] {
        var fields: [[UInt8]] = []
        var place = 0
        for _ in template.fields {
            guard place + 4 <= data.count else { break }
            let bytes = data[place..<place + 4]
            let size = (form == .bigEndian ? [UInt8](bytes) : bytes.reversed())
                .reduce(0) { $0 << 8 | Int($1) }
            place += 4
            guard size <= data.count - place else {
                throw .malformed(entry: count, reason: "a field is longer than the entry")
            }
            fields.append([UInt8](data[place..<place + size]))
            place += size
        }
        guard fields.count == template.fields.count, place == data.count else {
            throw .malformed(entry: count, reason: "its fields are not those of its template")
        }
        return fields
    }

    /// Of the template `ima`: `IMA_EVENT_NAME_LEN_MAX` of the kernel.
    private static let maximumName = 255

    /// What the kernel hashes for the template `ima`: the name is padded to 256 bytes.
    private static func original(_ contents: [[UInt8]]) -> [UInt8] {
        contents[0] + contents[1] + [UInt8](repeating: 0, count: 256 - contents[1].count)
    }

    private func check(pcr: UInt32) throws(IMAError) {
        guard pcr < 24 else {
            throw .malformed(entry: count, reason: "it names PCR \(pcr), which does not exist")
        }
    }

    // MARK: ASCII

    private mutating func line() throws(IMAError) -> IMAEntry? {
        let start = max(scanned, position)
        let found = buffer[start...].firstIndex(of: 0x0A)
        // A last line without its end: what it says must hash to its template hash as well.
        guard let end = found ?? (isEnded ? buffer.count : nil) else {
            scanned = buffer.count
            return nil
        }
        let line = buffer[position..<end]
        guard line.count <= 2 * Self.maximumEntry else {
            throw .tooLarge(
                entry: count, field: "line", size: line.count, maximum: 2 * Self.maximumEntry)
        }
        let words = line.drop { $0 == 0x20 }.split(
            separator: 0x20, maxSplits: 3, omittingEmptySubsequences: false)
        guard words.count == 4,
            let pcr = UInt32(String(decoding: words[0], as: UTF8.self)),
            let digest = bytes(hexadecimal: String(decoding: words[1], as: UTF8.self)),
            [20, 32, 48, 64].contains(digest.count), count == 0 || digest.count == digestSize
        else { throw .malformed(entry: count, reason: "the line is none of a list") }
        digestSize = digest.count
        try check(pcr: pcr)
        let name = printable(words[2])
        guard let template = IMATemplate(name) else {
            throw .unknownTemplate(entry: count, name: name)
        }
        guard template.fields.allSatisfy(\.isWholeInASCII) else {
            throw .binaryNeeded(entry: count, name: name)
        }
        guard let texts = Self.texts(words[3], template) else {
            throw .malformed(
                entry: count,
                reason: "its fields are not those of its template; a name with a line break is "
                    + "readable in binary_runtime_measurements alone")
        }
        var contents: [[UInt8]] = []
        for (field, text) in zip(template.fields, texts) {
            contents.append(try content(field, text))
        }
        func entry(bigEndian: Bool) throws(IMAError) -> IMAEntry {
            try IMAEntry(
                number: count, pcr: pcr, loggedDigest: digest, template: name, form: template,
                contents: contents,
                hashed: template.isOriginal
                    ? Self.original(contents) : Self.joined(contents, bigEndian: bigEndian))
        }
        var result = try entry(bigEndian: hashesBigEndian ?? false)
        if hashesBigEndian == nil, !template.isOriginal, !result.isViolation,
            let hash = HashAlgorithm.allCases.first(where: { $0.digestSize == digest.count })
        {
            let other = try entry(bigEndian: true)
            hashesBigEndian = other.templateDigest(hash) == digest
            if hashesBigEndian == true { result = other }
        }
        position = min(end + 1, buffer.count)
        scanned = position
        return result
    }

    /// The text of each field.
    ///
    /// A name may have spaces, and whoever copies a list may lose the space at the end of a line,
    /// behind which an empty signature stands. The template hash shows whether it was read right.
    private static func texts(
        _ line: ArraySlice<UInt8>, _ template: IMATemplate
    ) -> [ArraySlice<UInt8>]? {
        guard let name = template.fields.firstIndex(where: { $0 == .name || $0 == .nameNG }) else {
            return nil
        }
        var texts = line.split(separator: 0x20, omittingEmptySubsequences: false)
        while texts.count < template.fields.count, texts.count > name {
            texts.append(line[line.endIndex...])
        }
        let more = texts.count - template.fields.count
        guard more >= 0, texts.count > name + more else { return nil }
        let whole = texts[name].startIndex..<texts[name + more].endIndex
        texts.replaceSubrange(name...(name + more), with: [line[whole]])
        return texts
    }

    /// The content of a field from its ASCII form.
    private func content(
        _ field: IMATemplate.Field, _ text: ArraySlice<UInt8>
    ) throws(IMAError) -> [UInt8] {
        func hex(_ text: ArraySlice<UInt8>) throws(IMAError) -> [UInt8] {
            guard let bytes = bytes(hexadecimal: String(decoding: text, as: UTF8.self)) else {
                throw .malformed(entry: count, reason: "a field is not hexadecimal")
            }
            return bytes
        }
        switch field {
        case .name:
            guard text.count <= Self.maximumName else {
                throw .tooLarge(
                    entry: count, field: "name", size: text.count, maximum: Self.maximumName)
            }
            return [UInt8](text)
        case .nameNG: return [UInt8](text) + [0]
        case .digestNG, .digestNGv2, .moduleDigest:
            if field == .moduleDigest, text.isEmpty { return [] }
            let colon = text.lastIndex(of: 0x3A)
            let prefix = colon.map { text[...$0] } ?? [0x3A]
            return [UInt8](prefix) + [0]
                + (try hex(colon.map { text[($0 + 1)...] } ?? text))
        default: return try hex(text)
        }
    }

    private static func joined(_ contents: [[UInt8]], bigEndian: Bool) -> [UInt8] {
        var data: [UInt8] = []
        for content in contents {
            let size = UInt32(content.count)
            data.append(littleEndian: bigEndian ? size.byteSwapped : size)
            data += content
        }
        return data
    }
}
