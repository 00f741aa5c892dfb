import HoldfastCrypto

/// What `holdfast seal` writes: an object that one TPM opens, and the conditions for it.
///
/// Only the TPM protects it: the file may be copied, and whoever changes it makes it useless. The
/// policy in it is compared with the digest in the public area, and the PCR values only feed
/// messages. docs/spec/sealing.md, "Sealed blobs".
public struct SealedBlob: WireStructure, Sendable, Hashable {
    /// The Name of the storage key: the primary of ``KeyTemplate/storageKey`` on this TPM.
    public var parent: TPMName
    /// Marshaled `TPMT_PUBLIC`.
    public var publicArea: [UInt8]
    /// Content of `TPM2B_PRIVATE`.
    public var privateBlob: [UInt8]
    public var policy: Policy
    /// The values of the PCRs of the policy when it was sealed.
    public var pcrValues: PCRValues

    public init(
        parent: TPMName, publicArea: [UInt8], privateBlob: [UInt8], policy: Policy,
        pcrValues: PCRValues
    ) {
        self.parent = parent
        self.publicArea = publicArea
        self.privateBlob = privateBlob
        self.policy = policy
        self.pcrValues = pcrValues
    }

    /// The longest file that is read.
    public static let maximumSize = 16384
    private static let magic: [UInt8] = Array("HFSEALED".utf8)
    private static let version: UInt16 = 1

    public func encode(into writer: inout WireWriter) {
        writer.raw(Self.magic)
        writer.uint16(Self.version)
        writer.sized(parent.bytes)
        writer.sized(publicArea)
        writer.sized(privateBlob)
        writer.sizedStructure { policy.encode(into: &$0) }
        let registers = pcrValues.values.keys.sorted()
        writer.uint8(UInt8(registers.count))
        for register in registers {
            register.hash.encode(into: &writer)
            writer.uint8(register.index.rawValue)
            writer.raw(pcrValues.values[register] ?? [])
        }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        guard try reader.bytes(Self.magic.count) == Self.magic else {
            throw .unknownValue(field: "magic", value: 0)
        }
        let version = try reader.uint16()
        guard version == Self.version else {
            throw .unknownValue(field: "version", value: UInt64(version))
        }
        parent = try TPMName(from: &reader, field: "parent")
        publicArea = try reader.sized("publicArea", maximum: PublicArea.maximumSize)
        privateBlob = try reader.sized("privateBlob", maximum: 1024)
        guard
            let policy = try reader.sizedStructure(
                "policy",
                { (inner: inout WireReader) throws(WireError) in try Policy(from: &inner) })
        else { throw .sizeMismatch(field: "policy") }
        self.policy = policy
        pcrValues = PCRValues()
        for _ in 0..<(try reader.uint8()) {
            let hash = try HashAlgorithm(from: &reader, field: "bank")
            let number = try reader.uint8()
            guard let index = PCRIndex(rawValue: number), pcrValues[hash, index] == nil else {
                throw .unknownValue(field: "pcr", value: UInt64(number))
            }
            pcrValues[hash, index] = try reader.bytes(hash.digestSize)
        }
    }

    /// Reads a file, which has one form only, and whose policy is that of the object.
    public init(file bytes: [UInt8]) throws(SealedObjectError) {
        do { try self.init(wireBytes: bytes) } catch { throw .malformed }
        guard wireBytes == bytes else { throw .malformed }
        _ = try object()
    }

    /// The public area, which must be sealed data under the policy.
    public func object() throws(SealedObjectError) -> PublicArea {
        let area: PublicArea
        do { area = try PublicArea(wireBytes: publicArea) } catch { throw .malformed }
        guard area.wireBytes == publicArea else { throw .malformed }
        guard case .keyedHash = area.kind else { throw .otherKind }
        guard area.nameAlgorithm == policy.hash, area.authPolicy == policy.digest else {
            throw .otherPolicy
        }
        return area
    }
}

extension KeyTemplate {
    /// The parent of what `holdfast seal` makes: an ordinary storage key of the owner hierarchy.
    ///
    /// Its objects are fixed to it, so that `TPM2_Rewrap` and `TPM2_Duplicate` have nothing to work on.
    /// It is the primary that `tpm2_createprimary -C o -G ecc256 -a
    /// 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt'` makes.
    public static let storageKey = PublicArea(
        nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0003_0472),
        authPolicy: [],
        kind: .ecc(symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: [], y: []))

    /// Sealed data that never leaves its TPM.
    ///
    /// - Parameter guessable: a PIN stands before it, so that failed tries are counted; without one
    ///   it is exempt, and other people's wrong passwords do not lock it.
    public static func sealedData(policy: Policy, guessable: Bool) -> PublicArea {
        PublicArea(
            nameAlgorithm: policy.hash,
            attributes: guessable ? [.fixedTPM, .fixedParent] : [.fixedTPM, .fixedParent, .noDA],
            authPolicy: policy.digest, kind: .keyedHash(unique: []))
    }
}
