/// Images as firmware starts them, with nothing in them that runs.
package enum ModelImage {
    /// Makes a PE32+ image without a signature; the sections are zeros.
    ///
    /// - Parameters:
    ///   - sections: names of at most 8 bytes, and where each lies in the file; they may overlap.
    ///   - size: of the file.
    ///   - headers: what the image says of the size of its headers.
    package static func image(
        _ sections: [(name: String, place: Range<Int>)], size: Int, headers: Int
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: size)
        func put(_ value: Int, _ count: Int, at place: Int) {
            for index in 0..<count {
                bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
            }
        }
        put(0x5A4D, 2, at: 0)
        put(0x80, 4, at: 0x3C)
        put(0x4550, 4, at: 0x80)
        put(0x8664, 2, at: 0x84)  // machine
        put(sections.count, 2, at: 0x86)
        put(240, 2, at: 0x94)  // size of the optional header
        put(0x20B, 2, at: 0x98)
        put(headers, 4, at: 0xD4)
        put(16, 4, at: 0x104)  // directories
        for (number, section) in sections.enumerated() {
            let place = 0x188 + 40 * number
            for (offset, octet) in section.name.utf8.enumerated() { bytes[place + offset] = octet }
            put(section.place.count, 4, at: place + 8)
            put(section.place.count, 4, at: place + 16)
            put(section.place.lowerBound, 4, at: place + 20)
        }
        return bytes
    }
}
