import HoldfastStage

/// Repeatable choices: the same seed gives the same corpus but for the keys.
struct CorpusDice: RandomNumberGenerator {
    private var numbers: SeededNumbers

    init(seed: UInt64) { numbers = SeededNumbers(seed) }

    mutating func next() -> UInt64 { numbers.next() }

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
