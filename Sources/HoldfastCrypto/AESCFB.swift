import Crypto
import CryptoExtras

/// AES in 128-bit cipher feedback mode, as TPMs use it for parameters and protected structures.
///
/// Built on the block permutation so that plain text can stay in guarded memory.
///
/// NIST SP 800-38A, section 6.3.
public enum AESCFB {
    /// The key or the initial vector has the wrong length.
    public struct ParameterError: Error, Sendable, Hashable {}

    /// Encrypts a span of secret bytes.
    ///
    /// - Parameters:
    ///   - plaintext: any length.
    ///   - key: 16, 24 or 32 bytes.
    ///   - iv: 16 bytes.
    /// - Returns: as many bytes as the plain text has.
    /// - Throws: ``ParameterError``.
    public static func encrypt(
        _ plaintext: Span<UInt8>, key: SymmetricSecret, iv: [UInt8]
    ) throws(ParameterError) -> [UInt8] {
        let key = permutationKey(key)
        var feedback = iv
        defer {
            wipe(&feedback)
            Sodium.clearStack()
        }
        var output = [UInt8](repeating: 0, count: plaintext.count)
        for start in stride(from: 0, to: plaintext.count, by: 16) {
            try permute(&feedback, key)
            for index in start..<min(start + 16, plaintext.count) {
                output[index] = plaintext[index] ^ feedback[index - start]
                feedback[index - start] = output[index]
            }
        }
        return output
    }

    /// Decrypts into guarded memory.
    public static func decrypt(
        _ ciphertext: [UInt8], key: SymmetricSecret, iv: [UInt8]
    ) throws(ParameterError) -> SecretBytes {
        let key = permutationKey(key)
        var feedback = iv
        defer {
            wipe(&feedback)
            Sodium.clearStack()
        }
        return try SecretBytes(count: ciphertext.count) {
            (target: inout MutableSpan<UInt8>) throws(ParameterError) in
            for start in stride(from: 0, to: ciphertext.count, by: 16) {
                try permute(&feedback, key)
                for index in start..<min(start + 16, ciphertext.count) {
                    target[index] = ciphertext[index] ^ feedback[index - start]
                    feedback[index - start] = ciphertext[index]
                }
            }
        }
    }

    /// For swift-crypto, in ordinary memory; it wipes it when this call is over.
    private static func permutationKey(_ key: SymmetricSecret) -> SymmetricKey {
        unsafe key.withUnsafeBuffer { unsafe SymmetricKey(data: $0) }
    }

    private static func permute(
        _ block: inout [UInt8], _ key: SymmetricKey
    ) throws(ParameterError) {
        do { try AES.permute(&block, key: key) } catch { throw ParameterError() }
    }
}
