/// A certificate as its maker wrote it, and a copy for a strict parser.
///
/// Some TPM makers break rules of DER in places that change no meaning. The signature is over what
/// they wrote, so that is kept and verified; only the copy, which is read and never verified, has
/// the faults taken out: elements of a SET out of order (Nuvoton), integers with leading zeros
/// (STMicroelectronics), RSA keys marked for OAEP (Infineon), FALSE where it is the default and
/// trailing zeros in a list of bits (Intel).
///
/// Rec. ITU-T X.690, sections 8.3.2, 11.2.2, 11.5 and 11.6; RFC 4055, section 4.1.
struct LooseCertificate: Sendable {
    /// The signed part, byte for byte.
    let signedPart: [UInt8]
    /// The signature over ``signedPart``.
    let signature: [UInt8]
    /// The copy without the known faults.
    let strictCopy: [UInt8]
    /// The certificate as received, without what lay before and behind it.
    let bytes: [UInt8]

    /// The longest certificate that is read.
    static let maximumSize = 16_384
    /// How deep elements may lie in each other.
    private static let maximumDepth = 24

    /// Reads DER as it stands in NV: a header of the TCG may lie before it, erased NV behind it.
    ///
    /// - Returns: `nil` when it does not have the outer form of a certificate, or something else
    ///   than zeros or ones lies behind it.
    init?(_ stored: [UInt8]) {
        guard stored.count <= Self.maximumSize + 65_536 else { return nil }
        var start = 0
        // TCG_PCCLIENT_STORED_CERT of TPM 1.2: tag 0x1001, type 0 and the size.
        if stored.starts(with: [0x10, 0x01, 0x00]) { start = 5 }
        guard let outer = Element(in: stored, at: start, end: stored.count), outer.tag == 0x30,
            outer.end - start <= Self.maximumSize
        else { return nil }
        let rest = stored[outer.end...]
        guard rest.allSatisfy({ $0 == 0x00 }) || rest.allSatisfy({ $0 == 0xFF }) else {
            return nil
        }
        guard let signed = Element(in: stored, at: outer.content, end: outer.end),
            let algorithm = Element(in: stored, at: signed.end, end: outer.end),
            let bits = Element(in: stored, at: algorithm.end, end: outer.end),
            signed.tag == 0x30, algorithm.tag == 0x30, bits.tag == 0x03, bits.end == outer.end,
            bits.content < bits.end, stored[bits.content] == 0,
            let copy = Self.strict(stored, outer.start, outer.end, depth: 0)
        else { return nil }
        bytes = [UInt8](stored[outer.start..<outer.end])
        signedPart = [UInt8](stored[signed.start..<signed.end])
        signature = [UInt8](stored[(bits.content + 1)..<bits.end])
        strictCopy = copy
    }

    /// The same elements without the known faults.
    ///
    /// - Returns: `nil` when the bytes are not elements, or lie too deep in each other.
    static func strict(_ bytes: [UInt8]) -> [UInt8]? { strict(bytes, 0, bytes.count, depth: 0) }

    private static func strict(
        _ bytes: [UInt8], _ start: Int, _ end: Int, depth: Int
    ) -> [UInt8]? {
        guard depth < maximumDepth else { return nil }
        var elements: [[UInt8]] = []
        var position = start
        while position < end {
            guard let element = Element(in: bytes, at: position, end: end) else { return nil }
            var content: [UInt8]
            if element.isConstructed {
                guard
                    let inner = children(
                        bytes, element.content, element.end, isSet: element.tag == 0x31,
                        depth: depth + 1)
                else { return nil }
                content = inner
            } else {
                content = [UInt8](bytes[element.content..<element.end])
                if element.tag == 0x02 {
                    while content.count > 1, content[0] == 0, content[1] & 0x80 == 0 {
                        content.removeFirst()
                    }
                }
            }
            position = element.end
            // Every BOOLEAN in a certificate is FALSE by default, and then to be left out.
            if element.tag == 0x01, content == [0x00] { continue }
            elements.append(encoded(element.tag, content))
        }
        return Array(elements.joined())
    }

    private static func children(
        _ bytes: [UInt8], _ start: Int, _ end: Int, isSet: Bool, depth: Int
    ) -> [UInt8]? {
        guard isSet else {
            // AlgorithmIdentifier of an OAEP key: the same numbers as any RSA key.
            if bytes[start..<end].starts(with: oaepIdentifier) { return rsaIdentifier }
            if let copy = readExtension(bytes, start, end, depth: depth) { return copy }
            return strict(bytes, start, end, depth: depth)
        }
        var elements: [[UInt8]] = []
        var position = start
        while position < end {
            guard let element = Element(in: bytes, at: position, end: end),
                let copy = strict(bytes, position, element.end, depth: depth)
            else { return nil }
            elements.append(copy)
            position = element.end
        }
        return Array(elements.sorted { $0.lexicographicallyPrecedes($1) }.joined())
    }

    /// An extension that is read: its value is DER in an octet string, with the same faults.
    ///
    /// - Returns: `nil` when this is none of them, or not one; then it is treated like anything.
    private static func readExtension(
        _ bytes: [UInt8], _ start: Int, _ end: Int, depth: Int
    ) -> [UInt8]? {
        guard let id = Element(in: bytes, at: start, end: end),
            [0x0F, 0x11, 0x13, 0x25].contains(where: {
                bytes[start..<id.end].elementsEqual([0x06, 0x03, 0x55, 0x1D, $0])
            }), var value = Element(in: bytes, at: id.end, end: end)
        else { return nil }
        var copy = [UInt8](bytes[start..<id.end])
        if value.tag == 0x01 {
            let critical = bytes[value.content..<value.end]
            if !critical.elementsEqual([0x00]) { copy += bytes[value.start..<value.end] }
            guard let next = Element(in: bytes, at: value.end, end: end) else { return nil }
            value = next
        }
        guard value.tag == 0x04, value.end == end,
            var inner = strict(bytes, value.content, value.end, depth: depth)
        else { return nil }
        if bytes[id.end - 1] == 0x0F { inner = withoutTrailingZeros(inner) }
        return copy + encoded(0x04, inner)
    }

    /// A BIT STRING that names bits ends with the last one that is set.
    private static func withoutTrailingZeros(_ bits: [UInt8]) -> [UInt8] {
        guard bits.count > 3, bits[0] == 0x03, Int(bits[1]) == bits.count - 2 else { return bits }
        var octets = [UInt8](bits[3...])
        if let last = octets.last, bits[2] < 8, last & (1 << bits[2] - 1) != 0 { return bits }
        while octets.last == 0 { octets.removeLast() }
        return encoded(0x03, [UInt8(octets.last?.trailingZeroBitCount ?? 0)] + octets)
    }

    /// `id-RSAES-OAEP`; parameters may follow.
    private static let oaepIdentifier: [UInt8] = [
        0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x07,
    ]
    /// `rsaEncryption` and NULL.
    private static let rsaIdentifier: [UInt8] = [
        0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00,
    ]

    private static func encoded(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        switch content.count {
        case ..<0x80: [tag, UInt8(content.count)] + content
        case ..<0x100: [tag, 0x81, UInt8(content.count)] + content
        default:
            // At most 16,384 bytes come in, and nothing grows.
            [
                tag, 0x82, UInt8(truncatingIfNeeded: content.count >> 8),
                UInt8(truncatingIfNeeded: content.count),
            ] + content
        }
    }

    /// Where an element lies; one octet of tag and a definite, minimal length.
    private struct Element {
        let tag: UInt8
        let start, content, end: Int

        var isConstructed: Bool { tag & 0x20 != 0 }

        init?(in bytes: [UInt8], at start: Int, end limit: Int) {
            guard start >= 0, limit <= bytes.count, limit - start >= 2, bytes[start] & 0x1F != 0x1F
            else { return nil }
            var length = Int(bytes[start + 1])
            var content = start + 2
            if length >= 0x80 {
                let octets = length & 0x7F
                guard (1...2).contains(octets), limit - content >= octets else { return nil }
                length = bytes[content..<content + octets].reduce(0) { $0 << 8 | Int($1) }
                guard length >= (octets == 1 ? 0x80 : 0x100) else { return nil }
                content += octets
            }
            guard length <= limit - content else { return nil }
            tag = bytes[start]
            self.start = start
            self.content = content
            end = content + length
        }
    }
}
