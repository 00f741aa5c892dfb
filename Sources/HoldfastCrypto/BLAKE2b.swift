/// The hash function BLAKE2b, with and without a key.
///
/// RFC 7693; libsodium `crypto_generichash`.
public enum BLAKE2b {
    /// Lengths of output, in bytes, that are made.
    public static let outputSizes = 16...64
    /// Lengths of key, in bytes, that are accepted.
    public static let keySizes = 16...64

    /// Hashes a message.
    ///
    /// - Parameters:
    ///   - message: any length.
    ///   - outputSize: 16 to 64 bytes; anything else is a mistake in the program.
    /// - Returns: `outputSize` bytes.
    public static func hash(_ message: [UInt8], outputSize: Int) -> [UInt8] {
        precondition(outputSizes.contains(outputSize), "BLAKE2b makes 16 to 64 bytes")
        return [UInt8](count: outputSize) { Sodium.blake2b(message.span, key: Span(), into: &$0) }
    }

    /// Hashes a message under a key: a message authentication code or a pseudo-random function.
    ///
    /// - Parameters:
    ///   - message: any length.
    ///   - key: 16 to 64 bytes.
    ///   - outputSize: 16 to 64 bytes; anything else is a mistake in the program.
    /// - Returns: `outputSize` bytes.
    /// - Throws: `.lengthInvalid` when the key is too short or too long.
    public static func hash(
        _ message: [UInt8], key: borrowing SecretBytes, outputSize: Int
    ) throws(CryptoError) -> [UInt8] {
        try key.withBytes { (key) throws(CryptoError) in
            try hash(message, key: key, outputSize: outputSize)
        }
    }

    static func hash(
        _ message: [UInt8], key: Span<UInt8>, outputSize: Int
    ) throws(CryptoError) -> [UInt8] {
        precondition(outputSizes.contains(outputSize), "BLAKE2b makes 16 to 64 bytes")
        guard keySizes.contains(key.count) else { throw .lengthInvalid }
        return [UInt8](count: outputSize) { Sodium.blake2b(message.span, key: key, into: &$0) }
    }

    /// Hashes secret bytes without a key; the hash is public.
    static func hash(secret message: borrowing SecretBytes, outputSize: Int) -> [UInt8] {
        message.withBytes { message in
            [UInt8](count: outputSize) { Sodium.blake2b(message, key: Span(), into: &$0) }
        }
    }

    /// Derives a secret from a key and a message that is public.
    static func derive(
        _ message: [UInt8], key: borrowing SecretBytes, outputSize: Int
    ) -> SecretBytes {
        SecretBytes(count: outputSize) { target in
            key.withBytes { Sodium.blake2b(message.span, key: $0, into: &target) }
        }
    }
}
