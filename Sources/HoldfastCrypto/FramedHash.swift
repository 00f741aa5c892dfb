/// The one hash of identifiers and of everything that Holdfast signs: `H(label, f1 … fn)`.
///
/// - Parameters:
///   - label: the context.
///   - fields: each shorter than 4 GiB; an absent one hashes as one without bytes.
/// - Returns: SHA-256 of "holdfast/1/", the label, a zero byte, and for each field its length
///   (u32, big-endian) and its bytes.
public func framedHash(_ label: HashLabel, _ fields: [UInt8]?...) -> [UInt8] {
    HashAlgorithm.sha256.digest(frame(label, fields))
}

/// A keyed hash over the same framing as ``framedHash(_:_:)``.
///
/// - Parameters:
///   - label: the context.
///   - key: 16 to 64 bytes.
///   - fields: each shorter than 4 GiB; an absent one hashes as one without bytes.
/// - Returns: keyed BLAKE2b, 32 bytes.
/// - Throws: `.lengthInvalid` when the key is too short or too long.
public func framedKeyedHash(
    _ label: HashLabel, key: borrowing SecretBytes, _ fields: [UInt8]?...
) throws(CryptoError) -> [UInt8] {
    try BLAKE2b.hash(frame(label, fields), key: key, outputSize: 32)
}

/// A keyed hash over the same framing as ``framedHash(_:_:)``, with a key that several hold.
///
/// - Parameters:
///   - label: the context.
///   - key: 16 to 64 bytes.
///   - fields: each shorter than 4 GiB; an absent one hashes as one without bytes.
/// - Returns: keyed BLAKE2b, 32 bytes.
/// - Throws: `.lengthInvalid` when the key is too short or too long.
public func framedKeyedHash(
    _ label: HashLabel, key: SymmetricSecret, _ fields: [UInt8]?...
) throws(CryptoError) -> [UInt8] {
    try key.withBytes { (key) throws(CryptoError) in
        try BLAKE2b.hash(frame(label, fields), key: key, outputSize: 32)
    }
}

private func frame(_ label: HashLabel, _ fields: [[UInt8]?]) -> [UInt8] {
    var framed = Array("holdfast/1/\(label.rawValue)\0".utf8)
    for field in fields {
        let bytes = field ?? []
        let length = UInt32(bytes.count)
        for shift in [24, 16, 8, 0] { framed.append(UInt8(truncatingIfNeeded: length >> shift)) }
        framed += bytes
    }
    return framed
}
