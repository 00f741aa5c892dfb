/// A fixed number of bytes that can be compared, which `InlineArray` by itself cannot.
struct FixedBytes<let size: Int>: Sendable, Hashable {
    /// The bytes; not named `bytes`, since the types above have that as an array.
    let inline: [size of UInt8]

    /// Copies bytes when there are exactly as many as there is room for.
    init(_ bytes: Span<UInt8>) throws(CryptoError) {
        guard bytes.count == size else { throw .lengthInvalid }
        inline = .init { index in bytes[index] }
    }

    /// Copies bytes of our own making, whose number is right.
    init(made bytes: [UInt8]) {
        precondition(bytes.count == size, "a value of fixed size was made with another")
        inline = .init { index in bytes[index] }
    }

    var array: [UInt8] { inline.indices.map { inline[$0] } }

    static func == (left: Self, right: Self) -> Bool {
        left.inline.indices.allSatisfy { left.inline[$0] == right.inline[$0] }
    }

    func hash(into hasher: inout Hasher) {
        for index in inline.indices { hasher.combine(inline[index]) }
    }
}
