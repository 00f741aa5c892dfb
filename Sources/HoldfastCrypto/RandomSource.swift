/// Where random bytes come from: the system's generator, or a seeded one in a simulation.
public struct RandomSource: Sendable {
    private let generate: @Sendable (Int) -> [UInt8]

    /// Wraps a generator.
    ///
    /// - Parameter generate: returns as many bytes as it is asked for.
    public init(_ generate: @escaping @Sendable (Int) -> [UInt8]) { self.generate = generate }

    /// The operating system's generator, through libsodium `randombytes_buf`.
    public static let system = RandomSource { count in
        [UInt8](count: count) { Sodium.fillRandomly(&$0) }
    }

    /// Makes `count` random bytes.
    public func bytes(_ count: Int) -> [UInt8] {
        let made = generate(count)
        precondition(made.count == count, "a random source returns what it is asked for")
        return made
    }

    /// Makes `count` random bytes in guarded memory.
    public func secret(_ count: Int) -> SecretBytes {
        var made = bytes(count)
        defer { wipe(&made) }
        return SecretBytes(copying: made)
    }
}
