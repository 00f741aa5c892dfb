/// An X25519 private key that opens sealed boxes, in guarded memory.
///
/// RFC 7748, section 6.1.
public struct SealingPrivateKey: ~Copyable, Sendable {
    /// Length of a key in bytes.
    public static let size = 32

    private let scalar: SecretBytes

    /// The public half.
    public let publicKey: SealingPublicKey

    /// Takes a private scalar.
    ///
    /// - Parameter scalar: 32 bytes; any will do.
    /// - Throws: `.lengthInvalid`.
    public init(scalar: consuming SecretBytes) throws(CryptoError) {
        guard scalar.count == Self.size else { throw .lengthInvalid }
        let point = scalar.withBytes { scalar in
            [UInt8](count: SealingPublicKey.size) {
                Sodium.x25519PublicKey(of: scalar, into: &$0)
            }
        }
        publicKey = try SealingPublicKey(point)
        self.scalar = scalar
    }

    /// Makes a key from random bytes.
    public static func generate(random: RandomSource) -> SealingPrivateKey {
        do { return try SealingPrivateKey(scalar: random.secret(size)) } catch {
            preconditionFailure("a scalar of the right length makes a key")
        }
    }

    /// Opens a sealed box into guarded memory.
    ///
    /// - Throws: `.authenticationFailed` when the box was changed or sealed to another key;
    ///   `.lengthInvalid` when it is shorter than ``SealedBox/overhead``; `.tooLarge`.
    ///
    /// libsodium `crypto_box_seal_open`.
    public borrowing func open(_ box: [UInt8]) throws(CryptoError) -> SecretBytes {
        guard box.count >= SealedBox.overhead else { throw .lengthInvalid }
        let size = box.count - SealedBox.overhead
        guard size <= SealedBox.maximumPlaintextSize else { throw .tooLarge }
        let own = publicKey.storage
        return try scalar.withBytes { (scalar) throws(CryptoError) in
            try SecretBytes(count: size) {
                (target: inout MutableSpan<UInt8>) throws(CryptoError) in
                try Sodium.openSealedBox(
                    box.span, publicKey: own.inline.span, privateKey: scalar, into: &target)
            }
        }
    }
}
