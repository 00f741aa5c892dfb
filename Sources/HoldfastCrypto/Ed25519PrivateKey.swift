/// An Ed25519 signing key in guarded memory.
///
/// RFC 8032, section 5.1.5.
public struct Ed25519PrivateKey: ~Copyable, Sendable {
    /// Length of a seed in bytes.
    public static let seedSize = 32

    /// Seed and public key, one after the other, as libsodium and `k4.secret` have them.
    private let secret: SecretBytes

    /// The public half.
    public let publicKey: Ed25519PublicKey

    /// Derives the key from its seed.
    ///
    /// - Parameter seed: 32 bytes.
    /// - Throws: `.lengthInvalid`.
    ///
    /// libsodium `crypto_sign_seed_keypair`.
    public init(seed: Span<UInt8>) throws(CryptoError) {
        guard seed.count == Self.seedSize else { throw .lengthInvalid }
        var point = [UInt8](repeating: 0, count: Ed25519PublicKey.size)
        let secret = SecretBytes(count: Self.seedSize + Ed25519PublicKey.size) { target in
            var publicTarget = point.mutableSpan
            Sodium.makeSigningKey(seed: seed, publicKey: &publicTarget, privateKey: &target)
        }
        publicKey = try Ed25519PublicKey(point)
        self.secret = secret
    }

    /// Derives the key from its seed.
    ///
    /// - Parameter seed: 32 bytes.
    /// - Throws: `.lengthInvalid`.
    public init(seed: borrowing SecretBytes) throws(CryptoError) {
        self = try seed.withBytes { (seed) throws(CryptoError) in
            try Ed25519PrivateKey(seed: seed)
        }
    }

    /// Makes a key from random bytes.
    public static func generate(random: RandomSource) -> Ed25519PrivateKey {
        do { return try Ed25519PrivateKey(seed: random.secret(seedSize)) } catch {
            preconditionFailure("a seed of the right length makes a key")
        }
    }

    /// Signs a message.
    ///
    /// libsodium `crypto_sign_detached`.
    public borrowing func sign(_ message: Span<UInt8>) -> Ed25519Signature {
        secret.withBytes { key in
            Ed25519Signature(
                made: [UInt8](count: Ed25519Signature.size) { signature in
                    Sodium.sign(message, privateKey: key, into: &signature)
                })
        }
    }

    /// Signs a message.
    public borrowing func sign(_ message: [UInt8]) -> Ed25519Signature { sign(message.span) }

    /// Lends seed and public key, 64 bytes.
    borrowing func withSeedAndPublicKey<R: ~Copyable, E: Error>(
        _ body: (Span<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        try secret.withBytes(body)
    }
}
