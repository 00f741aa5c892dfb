/// Texts of keys: `k4.public`, `k4.secret` and `k4.local`, and their ids.
///
/// The text of a secret key is secret: it is written and read in guarded memory.
///
/// PASERK specification, version 4.
public enum PASERK {
    private static let publicHeader = "k4.public."
    private static let secretHeader = "k4.secret."
    private static let localHeader = "k4.local."

    // MARK: k4.public, k4.pid

    /// The text of a public key, `k4.public.…`.
    public static func text(of key: Ed25519PublicKey) -> String {
        publicHeader + Base64URL.encode(key.bytes)
    }

    /// Reads a public key, `k4.public.…`.
    ///
    /// - Throws: `.wrongKind`, `.encodingInvalid`, `.lengthInvalid`.
    public static func publicKey(parsing text: String) throws(CryptoError) -> Ed25519PublicKey {
        let encoded = try payloadRange(text.utf8.span, publicHeader, Ed25519PublicKey.size)
        return try Ed25519PublicKey(try Base64URL.decode(text.utf8.span.extracting(encoded)))
    }

    /// The id of a public key, `k4.pid.…`.
    public static func identifier(of key: Ed25519PublicKey) -> PASERKIdentifier {
        PASERKIdentifier(publicKeyText: text(of: key))
    }

    // MARK: k4.secret, k4.sid

    /// The text of a private key, `k4.secret.…` in ASCII, to be written to a key file.
    public static func text(of key: borrowing Ed25519PrivateKey) -> SecretBytes {
        key.withSeedAndPublicKey { encode($0, secretHeader) }
    }

    /// Reads a private key, `k4.secret.…` in ASCII.
    ///
    /// - Throws: `.wrongKind`, `.encodingInvalid`, `.lengthInvalid`; `.privateKeyInvalid` when the
    ///   public key that stands in the text is not that of the seed.
    public static func secretKey(parsing text: Span<UInt8>) throws(CryptoError) -> Ed25519PrivateKey
    {
        let size = Ed25519PrivateKey.seedSize + Ed25519PublicKey.size
        return try decode(text, secretHeader, size).withBytes { (pair) throws(CryptoError) in
            let key = try Ed25519PrivateKey(
                seed: pair.extracting(..<Ed25519PrivateKey.seedSize))
            let stated = try Ed25519PublicKey(
                pair.extracting(Ed25519PrivateKey.seedSize...))
            guard key.publicKey == stated else { throw .privateKeyInvalid }
            return key
        }
    }

    /// The id of a private key, `k4.sid.…`.
    public static func identifier(of key: borrowing Ed25519PrivateKey) -> PASERKIdentifier {
        PASERKIdentifier(.secretKey, ofText: text(of: key))
    }

    // MARK: k4.local, k4.lid

    /// The text of a key of encrypted tokens, `k4.local.…` in ASCII, to be written to a key file.
    ///
    /// - Throws: `.lengthInvalid` unless the key has 32 bytes.
    public static func text(ofLocalKey key: borrowing SecretBytes) throws(CryptoError)
        -> SecretBytes
    {
        guard key.count == PASETO.localKeySize else { throw .lengthInvalid }
        return key.withBytes { encode($0, localHeader) }
    }

    /// Reads a key of encrypted tokens, `k4.local.…` in ASCII.
    ///
    /// - Throws: `.wrongKind`, `.encodingInvalid`, `.lengthInvalid`.
    public static func localKey(parsing text: Span<UInt8>) throws(CryptoError) -> SecretBytes {
        try decode(text, localHeader, PASETO.localKeySize)
    }

    /// The id of a key of encrypted tokens, `k4.lid.…`.
    ///
    /// - Throws: `.lengthInvalid` unless the key has 32 bytes.
    public static func identifier(
        ofLocalKey key: borrowing SecretBytes
    ) throws(CryptoError) -> PASERKIdentifier {
        PASERKIdentifier(.localKey, ofText: try text(ofLocalKey: key))
    }

    // MARK: Parts

    private static func encode(_ bytes: Span<UInt8>, _ header: String) -> SecretBytes {
        let header = header.utf8.span
        return SecretBytes(count: header.count + Base64URL.encodedSize(bytes.count)) { target in
            for index in header.indices { target[index] = header[index] }
            Base64URL.encode(bytes, into: &target, at: header.count)
        }
    }

    private static func decode(
        _ text: Span<UInt8>, _ header: String, _ size: Int
    ) throws(CryptoError) -> SecretBytes {
        let encoded = try payloadRange(text, header, size)
        return try SecretBytes(count: size) {
            (target: inout MutableSpan<UInt8>) throws(CryptoError) in
            try Base64URL.decode(text.extracting(encoded), into: &target)
        }
    }

    /// Where the encoded key stands, once header and length are right.
    private static func payloadRange(
        _ text: Span<UInt8>, _ header: String, _ size: Int
    ) throws(CryptoError) -> Range<Int> {
        let header = header.utf8.span
        guard text.count >= header.count else { throw .wrongKind }
        for index in header.indices where text[index] != header[index] { throw .wrongKind }
        guard text.count - header.count == Base64URL.encodedSize(size) else {
            throw .lengthInvalid
        }
        return header.count..<text.count
    }
}
