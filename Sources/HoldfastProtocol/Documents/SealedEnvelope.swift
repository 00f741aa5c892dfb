public import HoldfastCrypto
import HoldfastTPMWire

/// A document on its way to the server, which alone can read it: the same on every carrier.
///
/// "HFSX", u16 version 1, the first 8 bytes of SHA-256 of the sealing key, then an X25519 sealed box
/// of the container.
///
/// docs/spec/formats.md, "Sealed envelope".
public struct SealedEnvelope: Sendable, Hashable {
    /// The code with which a server refuses an envelope to a key that it does not have, or retired.
    public static let unknownKeyCode = "SEALING_KEY_UNKNOWN"
    private static let magic = Array("HFSX".utf8)
    private static let version: UInt16 = 1
    private static let headSize = 14

    /// Which of the server's sealing keys opens it, 8 bytes.
    public let keyID: [UInt8]
    private let box: [UInt8]

    /// The id of a sealing key in an envelope.
    public static func keyID(of key: SealingPublicKey) -> [UInt8] {
        [UInt8](HashAlgorithm.sha256.digest(key.bytes)[..<8])
    }

    /// Seals a document to the server.
    ///
    /// - Parameter key: the first sealing key of the trust statement.
    public init(
        sealing document: [UInt8], to key: SealingPublicKey, random: RandomSource
    ) throws(CryptoError) {
        keyID = Self.keyID(of: key)
        box = try key.seal(document.span, random: random)
    }

    /// The bytes.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: Self.headSize + box.count)
        writer.raw(Self.magic)
        writer.uint16(Self.version)
        writer.raw(keyID)
        writer.raw(box)
        return writer.bytes
    }

    /// Reads an envelope; nothing of it is known yet.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        guard bytes.count <= Container.maximumSize + Self.headSize + SealedBox.overhead else {
            throw .tooLong
        }
        var head = WireWriter(capacity: 6)
        head.raw(Self.magic)
        head.uint16(Self.version)
        guard bytes.starts(with: head.bytes) else { throw .notADocument }
        guard bytes.count > Self.headSize + SealedBox.overhead else { throw .lengthWrong }
        keyID = [UInt8](bytes[6..<Self.headSize])
        box = [UInt8](bytes[Self.headSize...])
    }

    /// Opens the envelope.
    ///
    /// - Parameter key: the one that ``keyID`` names.
    /// - Returns: the document's bytes; sealing hides them, it says nothing of who wrote them.
    /// - Throws: `.authenticationFailed` when it was sealed to another key or changed.
    public func open(with key: borrowing SealingPrivateKey) throws(CryptoError) -> [UInt8] {
        guard keyID == Self.keyID(of: key.publicKey) else { throw .authenticationFailed }
        return try key.open(box).withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }
}
