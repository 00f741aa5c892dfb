/// Repeatable choices: the same seed gives the same corpus but for the keys.
struct CorpusDice: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }

    /// Below `limit`, which is at least one.
    mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &self) }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
    }

    /// The bytes with one bit changed.
    mutating func flipped(_ bytes: [UInt8]) -> [UInt8] {
        var changed = bytes
        changed[below(bytes.count)] ^= 1 << UInt8(below(8))
        return changed
    }

    /// The bytes without their end.
    mutating func cut(_ bytes: [UInt8]) -> [UInt8] { Array(bytes.prefix(below(bytes.count))) }

    /// The bytes with more behind them.
    mutating func longer(_ bytes: [UInt8]) -> [UInt8] { bytes + self.bytes(1 + below(16)) }
}
