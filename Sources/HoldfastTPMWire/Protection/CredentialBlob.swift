public import HoldfastCrypto

/// A secret that only the TPM that holds both the key and the named object can open.
///
/// `TPM2_MakeCredential`, Part 3; Part 1, section 24.
public struct CredentialBlob: Sendable, Hashable {
    /// Content of `TPM2B_ID_OBJECT`.
    public let identityObject: [UInt8]
    /// Content of `TPM2B_ENCRYPTED_SECRET`.
    public let encryptedSecret: [UInt8]

    /// Takes a blob as it was received; a TPM judges it.
    public init(identityObject: [UInt8], encryptedSecret: [UInt8]) {
        self.identityObject = identityObject
        self.encryptedSecret = encryptedSecret
    }

    /// Makes one in software.
    ///
    /// - Parameters:
    ///   - secret: at most 32 bytes.
    ///   - name: the Name of the object whose presence is to be proved, computed by the caller
    ///     from the public area that it stores.
    ///   - key: the endorsement key, from the verified certificate.
    public init(
        protecting secret: borrowing SecretBytes, for name: TPMName, key: PublicArea,
        random: RandomSource
    ) throws(ProtectionError) {
        guard secret.count <= 32 else { throw .secretTooLong }
        let shared = try SharedSeed(for: key, purpose: .credential, random: random)
        let sized = secret.withLengthPrefix()
        let wrap = try OuterWrap(key: key, seed: shared.seed)
        identityObject = try sized.withBytes { (bytes) throws(ProtectionError) in
            try wrap.wrap(bytes, name: name)
        }
        encryptedSecret = shared.encrypted
    }
}

extension SecretBytes {
    /// The bytes as `TPM2B`, still in guarded memory.
    borrowing func withLengthPrefix() -> SecretBytes {
        withBytes { source in
            SecretBytes(count: source.count + 2) { (target: inout MutableSpan<UInt8>) in
                target[0] = UInt8(source.count >> 8)
                target[1] = UInt8(source.count & 0xFF)
                for index in source.indices { target[index + 2] = source[index] }
            }
        }
    }
}
