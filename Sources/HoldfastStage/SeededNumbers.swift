/// Random numbers that come again with the same seed, so that a failure repeats: SplitMix64.
package struct SeededNumbers: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// Begins anew; the same seed gives the same numbers in every version.
    package init(_ seed: UInt64) { state = seed }

    /// The next number; all 64 bits are equally good.
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func chance(_ probability: Double) -> Bool {
        Double(next() >> 11) / Double(1 << 53) < probability
    }
}
