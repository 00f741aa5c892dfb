/// The password hash Argon2id with a fixed cost: one lane, version 1.3.
///
/// RFC 9106; libsodium `crypto_pwhash` with `crypto_pwhash_ALG_ARGON2ID13`.
public struct Argon2id: Sendable, Hashable {
    /// Length of a salt in bytes.
    public static let saltSize = 16
    /// How many passes are accepted.
    public static let acceptedPasses = 1...64
    /// How much memory is accepted, in bytes: 8 KiB to 1 GiB.
    public static let acceptedMemory = (8 << 10)...(1 << 30)
    /// Lengths of output in bytes.
    public static let outputSizes = 16...64
    /// The longest input in bytes.
    public static let maximumInputSize = 1 << 20

    /// How often the memory is filled.
    public let passes: Int
    /// How many bytes of memory are filled.
    public let memory: Int

    /// Sets the cost.
    ///
    /// - Parameters:
    ///   - passes: 1 to 64.
    ///   - memory: bytes, 8 KiB to 1 GiB; rounded down to whole KiB by the algorithm.
    /// - Throws: `.costNotAccepted`.
    public init(passes: Int, memory: Int) throws(CryptoError) {
        guard Self.acceptedPasses.contains(passes), Self.acceptedMemory.contains(memory) else {
            throw .costNotAccepted
        }
        self.passes = passes
        self.memory = memory
    }

    /// Hashes a password, or a fact that can be guessed.
    ///
    /// - Parameters:
    ///   - input: at most 1 MiB.
    ///   - salt: 16 bytes.
    ///   - outputSize: 16 to 64 bytes; anything else is a mistake in the program.
    /// - Returns: `outputSize` bytes.
    /// - Throws: `.lengthInvalid` for the salt, `.tooLarge` for the input, `.outOfMemory`.
    /// - Complexity: about a second for each GiB of `memory * passes`.
    public func hash(
        _ input: Span<UInt8>, salt: [UInt8], outputSize: Int
    ) throws(CryptoError) -> [UInt8] {
        precondition(Self.outputSizes.contains(outputSize), "Argon2id makes 16 to 64 bytes")
        guard salt.count == Self.saltSize else { throw .lengthInvalid }
        guard input.count <= Self.maximumInputSize else { throw .tooLarge }
        return try [UInt8](count: outputSize) {
            (hash: inout MutableSpan<UInt8>) throws(CryptoError) in
            try Sodium.argon2id(
                input, salt: salt.span, passes: passes, memory: memory, into: &hash)
        }
    }
}
