/// The id of a key, which may stand in a footer: a hash of its text, with what kind of key it is.
///
/// PASERK specification, operations/ID.md.
public struct PASERKIdentifier: Sendable, Hashable {
    /// What kind of key an id names; the value is the header of the text.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// A public key.
        case publicKey = "k4.pid."
        /// A private key.
        case secretKey = "k4.sid."
        /// A key of encrypted tokens.
        case localKey = "k4.lid."
    }

    /// Length of the hash in bytes.
    public static let size = 33

    /// What kind of key it names.
    public let kind: Kind
    private let storage: FixedBytes<33>

    /// Hashes the text of a public key.
    init(publicKeyText text: String) {
        kind = .publicKey
        storage = FixedBytes(
            made: BLAKE2b.hash(
                Array((Kind.publicKey.rawValue + text).utf8), outputSize: Self.size))
    }

    /// Hashes the text of a key, in guarded memory because the text may be secret.
    init(_ kind: Kind, ofText text: borrowing SecretBytes) {
        let header = kind.rawValue.utf8.span
        let message = text.withBytes { text in
            SecretBytes(count: header.count + text.count) { target in
                for index in header.indices { target[index] = header[index] }
                for index in text.indices { target[header.count + index] = text[index] }
            }
        }
        let hash = BLAKE2b.hash(secret: message, outputSize: Self.size)
        self.kind = kind
        storage = FixedBytes(made: hash)
    }

    /// Reads an id, `k4.pid.…`, `k4.sid.…` or `k4.lid.…`.
    ///
    /// - Throws: `.wrongKind`, `.encodingInvalid`, `.lengthInvalid`.
    public init(parsing text: String) throws(CryptoError) {
        guard let kind = Kind.allCases.first(where: { text.utf8.starts(with: $0.rawValue.utf8) })
        else { throw .wrongKind }
        let characters = text.utf8.span
        let start = kind.rawValue.utf8.count
        guard characters.count - start == Base64URL.encodedSize(Self.size) else {
            throw .lengthInvalid
        }
        let bytes = try Base64URL.decode(characters.extracting(start...))
        self.kind = kind
        storage = try FixedBytes(bytes.span)
    }

    /// The id as text.
    public var text: String { kind.rawValue + Base64URL.encode(storage.array) }
}
