public import HoldfastCrypto

/// The public area of an object.
///
/// It decodes to exactly the bytes that it encodes to, so its Name is the TPM's.
///
/// `TPMT_PUBLIC`, Part 2, section 12.2.4.
public struct PublicArea: WireStructure, Sendable, Hashable {
    /// What depends on the type of the object, together with its unique field.
    public enum Kind: Sendable, Hashable {
        /// An RSA key; exponent 0 means 65,537.
        case rsa(
            symmetric: SymmetricDefinition, scheme: AsymmetricScheme, bits: UInt16,
            exponent: UInt32, modulus: [UInt8])
        /// A key on a curve; the KDF scheme is null, as in every TCG template.
        case ecc(
            symmetric: SymmetricDefinition, scheme: AsymmetricScheme, curve: EllipticCurve,
            x: [UInt8], y: [UInt8])
        /// Sealed data: a keyed hash object with a null scheme.
        case keyedHash(unique: [UInt8])
    }

    /// The hash that makes the Name.
    public var nameAlgorithm: HashAlgorithm
    public var attributes: ObjectAttributes
    /// Empty, or a digest of ``nameAlgorithm``.
    public var authPolicy: [UInt8]
    public var kind: Kind

    public init(
        nameAlgorithm: HashAlgorithm, attributes: ObjectAttributes, authPolicy: [UInt8], kind: Kind
    ) {
        self.nameAlgorithm = nameAlgorithm
        self.attributes = attributes
        self.authPolicy = authPolicy
        self.kind = kind
    }

    /// The longest marshaled area that is read: RSA-4096 with a SHA-512 policy has 614 bytes.
    public static let maximumSize = 1024

    /// The Name.
    public var name: TPMName { TPMName(hash: nameAlgorithm, publicArea: wireBytes) }

    /// The key, when this is a point on a curve.
    ///
    /// - Throws: when it is not of that kind or not on the curve.
    public func ecPublicKey() throws(KeyError) -> ECPublicKey {
        guard case .ecc(_, _, let curve, let x, let y) = kind else { throw .notOnCurve }
        return try ECPublicKey(curve: curve, x: x, y: y)
    }

    public func encode(into writer: inout WireWriter) {
        let type: AlgorithmID =
            switch kind {
            case .rsa: .rsa
            case .ecc: .ecc
            case .keyedHash: .keyedHash
            }
        writer.uint16(type.rawValue)
        nameAlgorithm.encode(into: &writer)
        writer.uint32(attributes.rawValue)
        writer.sized(authPolicy)
        switch kind {
        case .rsa(let symmetric, let scheme, let bits, let exponent, let modulus):
            symmetric.encode(into: &writer)
            scheme.encode(into: &writer)
            writer.uint16(bits)
            writer.uint32(exponent)
            writer.sized(modulus)
        case .ecc(let symmetric, let scheme, let curve, let x, let y):
            symmetric.encode(into: &writer)
            scheme.encode(into: &writer)
            writer.uint16(curve.id)
            writer.uint16(AlgorithmID.null.rawValue)
            writer.sized(x)
            writer.sized(y)
        case .keyedHash(let unique):
            writer.uint16(AlgorithmID.null.rawValue)
            writer.sized(unique)
        }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let type = AlgorithmID(rawValue: try reader.uint16())
        nameAlgorithm = try HashAlgorithm(from: &reader, field: "nameAlg")
        attributes = ObjectAttributes(rawValue: try reader.uint32())
        authPolicy = try reader.sized("authPolicy", maximum: 64)
        guard authPolicy.isEmpty || authPolicy.count == nameAlgorithm.digestSize else {
            throw .sizeMismatch(field: "authPolicy")
        }
        switch type {
        case .rsa:
            let symmetric = try SymmetricDefinition(from: &reader)
            let scheme = try AsymmetricScheme(from: &reader)
            let bits = try reader.uint16()
            let exponent = try reader.uint32()
            let modulus = try reader.sized("modulus", maximum: 512)
            guard modulus.isEmpty || modulus.count * 8 == Int(bits) else {
                throw .sizeMismatch(field: "modulus")
            }
            kind = .rsa(
                symmetric: symmetric, scheme: scheme, bits: bits, exponent: exponent,
                modulus: modulus)
        case .ecc:
            let symmetric = try SymmetricDefinition(from: &reader)
            let scheme = try AsymmetricScheme(from: &reader)
            let curve = try EllipticCurve(id: try reader.uint16())
            let kdf = try reader.uint16()
            guard kdf == AlgorithmID.null.rawValue else {
                throw .unknownValue(field: "kdf", value: UInt64(kdf))
            }
            let x = try reader.sized("x", maximum: curve.coordinateSize)
            let y = try reader.sized("y", maximum: curve.coordinateSize)
            kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: x, y: y)
        case .keyedHash:
            let scheme = try reader.uint16()
            guard scheme == AlgorithmID.null.rawValue else {
                throw .unknownValue(field: "scheme", value: UInt64(scheme))
            }
            kind = .keyedHash(unique: try reader.sized("unique", maximum: 64))
        default: throw .unknownValue(field: "type", value: UInt64(type.rawValue))
        }
    }
}

/// The public area of an NV index.
///
/// `TPMS_NV_PUBLIC`, Part 2, section 13.5.
public struct NVPublicArea: WireStructure, Sendable, Hashable {
    public var index: TPMHandle
    public var nameAlgorithm: HashAlgorithm
    public var attributes: NVAttributes
    public var authPolicy: [UInt8]
    /// Bytes of data; 8 for a counter.
    public var dataSize: UInt16

    public init(
        index: TPMHandle, nameAlgorithm: HashAlgorithm, attributes: NVAttributes,
        authPolicy: [UInt8], dataSize: UInt16
    ) {
        self.index = index
        self.nameAlgorithm = nameAlgorithm
        self.attributes = attributes
        self.authPolicy = authPolicy
        self.dataSize = dataSize
    }

    /// The Name; it changes with the first write, when the TPM sets `written`.
    public var name: TPMName { TPMName(hash: nameAlgorithm, publicArea: wireBytes) }

    /// The same area after the first write.
    public var written: NVPublicArea {
        var area = self
        area.attributes.insert(.written)
        return area
    }

    public func encode(into writer: inout WireWriter) {
        writer.uint32(index.rawValue)
        nameAlgorithm.encode(into: &writer)
        writer.uint32(attributes.rawValue)
        writer.sized(authPolicy)
        writer.uint16(dataSize)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        index = TPMHandle(rawValue: try reader.uint32())
        guard index.isNVIndex else {
            throw .unknownValue(field: "nvIndex", value: UInt64(index.rawValue))
        }
        nameAlgorithm = try HashAlgorithm(from: &reader, field: "nameAlg")
        attributes = NVAttributes(rawValue: try reader.uint32())
        authPolicy = try reader.sized("authPolicy", maximum: 64)
        guard authPolicy.isEmpty || authPolicy.count == nameAlgorithm.digestSize else {
            throw .sizeMismatch(field: "authPolicy")
        }
        dataSize = try reader.uint16()
    }
}
