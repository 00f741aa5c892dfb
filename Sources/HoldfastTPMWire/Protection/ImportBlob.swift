public import HoldfastCrypto

/// Sealed data on its way to the storage key of one TPM.
///
/// The server makes it without the device: outer wrapper for the public key of the new parent, no
/// inner wrapper. `TPM2_Import`, Part 3; Part 1, section 23.
public struct ImportBlob: Sendable, Hashable {
    /// Marshaled `TPMT_PUBLIC` of the object.
    public let publicArea: [UInt8]
    /// Content of the duplicate's `TPM2B_PRIVATE`.
    public let duplicate: [UInt8]
    /// Content of `TPM2B_ENCRYPTED_SECRET`.
    public let encryptedSeed: [UInt8]

    /// Takes a blob as it was received; a TPM judges it.
    public init(publicArea: [UInt8], duplicate: [UInt8], encryptedSeed: [UInt8]) {
        self.publicArea = publicArea
        self.duplicate = duplicate
        self.encryptedSeed = encryptedSeed
    }

    /// The longest secret that every TPM seals.
    ///
    /// `MAX_SYM_DATA`, Part 2, section 11.1.14: 128 bytes.
    public static let maximumSecretSize = 128

    /// Wraps a secret to a storage key.
    ///
    /// - Parameters:
    ///   - secret: 1 to 128 bytes.
    ///   - attributes: without `fixedTPM` and `fixedParent`, since the object is imported.
    ///   - policy: the digest that must be satisfied to unseal.
    ///   - parent: public area of the storage key.
    public init(
        sealing secret: borrowing SecretBytes, attributes: ObjectAttributes, policy: [UInt8],
        parent: PublicArea, random: RandomSource
    ) throws(ProtectionError) {
        guard (1...Self.maximumSecretSize).contains(secret.count) else { throw .secretTooLong }
        let hash = HashAlgorithm.sha256
        let obfuscation = random.bytes(hash.digestSize)
        // TPM2B_SENSITIVE { type, authValue, seedValue, sensitive }, Part 2, section 12.3.2.4.
        let sensitive = secret.withBytes { source in
            var head = WireWriter(capacity: 48)
            head.uint16(UInt16(2 + 2 + 2 + obfuscation.count + 2 + source.count))
            head.uint16(AlgorithmID.keyedHash.rawValue)
            head.sized([])
            head.sized(obfuscation)
            head.uint16(UInt16(source.count))
            let prefix = head.bytes
            return SecretBytes(count: prefix.count + source.count) {
                (target: inout MutableSpan<UInt8>) in
                for index in prefix.indices { target[index] = prefix[index] }
                for index in source.indices { target[prefix.count + index] = source[index] }
            }
        }
        let area = PublicArea(
            nameAlgorithm: hash, attributes: attributes, authPolicy: policy,
            kind: .keyedHash(unique: secret.digest(hash, prefix: obfuscation)))
        let shared = try SharedSeed(for: parent, purpose: .duplication, random: random)
        let wrap = try OuterWrap(key: parent, seed: shared.seed)
        duplicate = try sensitive.withBytes { (bytes) throws(ProtectionError) in
            try wrap.wrap(bytes, name: area.name)
        }
        publicArea = area.wireBytes
        encryptedSeed = shared.encrypted
    }
}
