import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire

// Commands that Holdfast never sends: an attacker does.

/// `TPM2_Rewrap`: gives a duplicate another outer wrapper.
struct RewrapCommand: TPMCommand {
    static let code = CommandCode.rewrap
    static let authorizationCount = 1
    let oldParent: EntityReference
    let newParent: EntityReference
    let blob: ImportBlob
    let name: TPMName

    var handles: [EntityReference] { [oldParent, newParent] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.sized(blob.duplicate)
        writer.sized(name.bytes)
        writer.sized(blob.encryptedSeed)
    }

    /// - Returns: the duplicate and the seed for the new parent.
    static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> (duplicate: [UInt8], encryptedSeed: [UInt8]) {
        let duplicate = try reader.sized("outDuplicate", maximum: 1024)
        return (duplicate, try reader.sized("outSymSeed", maximum: 512))
    }
}

/// `TPM2_Duplicate`, without an inner wrapper.
struct DuplicateCommand: TPMCommand {
    static let code = CommandCode.duplicate
    static let authorizationCount = 1
    let object: EntityReference
    let newParent: EntityReference

    var handles: [EntityReference] { [object, newParent] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.sized([])
        SymmetricDefinition.none.encode(into: &writer)
    }

    static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> [UInt8] {
        _ = try reader.sized("encryptionKeyOut", maximum: 64)
        let duplicate = try reader.sized("duplicate", maximum: 1024)
        _ = try reader.sized("outSymSeed", maximum: 512)
        return duplicate
    }
}

/// `TPM2_ClockSet`.
struct ClockSetCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.clockSet
    static let authorizationCount = 1
    let clock: UInt64

    var handles: [EntityReference] { [EntityReference(.owner)] }
    func encodeParameters(into writer: inout WireWriter) { writer.uint64(clock) }
}

/// `TPM2_ClockRateAdjust`.
struct ClockRateAdjustCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.clockRateAdjust
    static let authorizationCount = 1
    /// -3, coarse slower, to 3, coarse faster.
    let step: Int8

    var handles: [EntityReference] { [EntityReference(.owner)] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.uint8(UInt8(bitPattern: step))
    }
}

/// `TPMS_CONTEXT`.
struct SavedContext {
    var sequence: UInt64
    var handle: TPMHandle
    var hierarchy: TPMHandle
    var blob: [UInt8]
}

/// `TPM2_ContextSave`.
struct ContextSaveCommand: TPMCommand {
    static let code = CommandCode.contextSave
    let handle: TPMHandle

    var handles: [EntityReference] { [EntityReference(handle)] }
    static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> SavedContext {
        let sequence = try reader.uint64()
        let handle = TPMHandle(rawValue: try reader.uint32())
        let hierarchy = TPMHandle(rawValue: try reader.uint32())
        return SavedContext(
            sequence: sequence, handle: handle, hierarchy: hierarchy,
            blob: try reader.sized("contextBlob", maximum: 4096))
    }
}

/// `TPM2_ContextLoad`.
struct ContextLoadCommand: TPMCommand {
    static let code = CommandCode.contextLoad
    static let returnsHandle = true
    let context: SavedContext

    func encodeParameters(into writer: inout WireWriter) {
        writer.uint64(context.sequence)
        writer.uint32(context.handle.rawValue)
        writer.uint32(context.hierarchy.rawValue)
        writer.sized(context.blob)
    }

    static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> TPMHandle {
        handle
    }
}

/// `TPM2_Clear`.
struct ClearCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.clear
    static let authorizationCount = 1
    var handles: [EntityReference] { [EntityReference(.lockout)] }
}

/// `TPM2_ChangeEPS`: another endorsement seed, as if it were another TPM.
struct ChangeEPSCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode(rawValue: 0x124)
    static let authorizationCount = 1
    var handles: [EntityReference] { [EntityReference(.platform)] }
}

/// `TPM2_Startup`.
struct StartupCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.startup
    let kind: ShutdownCommand.Kind
    func encodeParameters(into writer: inout WireWriter) { writer.uint16(kind.rawValue) }
}

/// `TPM2_PCR_Reset`.
struct PCRResetCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.pcrReset
    static let authorizationCount = 1
    let index: PCRIndex
    var handles: [EntityReference] { [EntityReference(.pcr(index))] }
}

/// `TPM2_NV_Write`.
struct NVWriteCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.nvWrite
    static let authorizationCount = 1
    let index: EntityReference
    let data: [UInt8]

    var handles: [EntityReference] { [index, index] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.sized(data)
        writer.uint16(0)
    }
}

/// `TPM2_NV_Increment`, by whoever.
struct NVIncrementByCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.nvIncrement
    static let authorizationCount = 1
    let authorization: EntityReference
    let index: EntityReference
    var handles: [EntityReference] { [authorization, index] }
}

/// `TPM2_PolicyCounterTimer` with any operation, the signed ones too.
struct RawCounterTimerCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.policyCounterTimer
    /// `TPM_EO_SIGNED_LE`.
    static let signedLessOrEqual: UInt16 = 0x0008
    let session: TPMHandle
    let operand: [UInt8]
    let offset: UInt16
    let operation: UInt16

    var handles: [EntityReference] { [EntityReference(session)] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.sized(operand)
        writer.uint16(offset)
        writer.uint16(operation)
    }

    /// The digest that the TPM has in the session afterwards.
    static func extend(_ old: [UInt8], operand: [UInt8], offset: UInt16, operation: UInt16)
        -> [UInt8]
    {
        var arguments = WireWriter()
        arguments.raw(operand)
        arguments.uint16(offset)
        arguments.uint16(operation)
        var writer = WireWriter()
        writer.uint32(code.rawValue)
        return HashAlgorithm.sha256.digest(
            old, writer.bytes, HashAlgorithm.sha256.digest(arguments.bytes))
    }
}

/// `TPM2_Create` of sealed data below an ordinary storage key.
struct CreateSealedCommand: TPMCommand {
    static let code = CommandCode.create
    static let authorizationCount = 1
    let parent: EntityReference
    let data: [UInt8]

    var handles: [EntityReference] { [parent] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.sizedStructure { writer in
            writer.sized([])
            writer.sized(data)
        }
        writer.sizedStructure {
            PublicArea(
                nameAlgorithm: .sha256,
                attributes: [.fixedTPM, .fixedParent, .userWithAuth, .noDA], authPolicy: [],
                kind: .keyedHash(unique: [])
            ).encode(into: &$0)
        }
        writer.sized([])
        PCRSelection.empty.encode(into: &writer)
    }

    /// - Returns: content of `TPM2B_PRIVATE`.
    static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> [UInt8] {
        let sealed = try reader.sized("outPrivate", maximum: 1024)
        _ = reader.rest()
        return sealed
    }
}

/// Keys and computations of the attacker.
enum Attacker {
    /// An ordinary storage root key: userWithAuth is set.
    static let ordinaryStorageKey = PublicArea(
        nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0003_0472),
        authPolicy: [],
        kind: .ecc(symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: [], y: []))

    /// A storage key whose private half is in the attacker's hands.
    static func storageKey(_ key: ECPublicKey) -> PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: [.userWithAuth, .restricted, .decrypt],
            authPolicy: [],
            kind: .ecc(
                symmetric: .aesCFB(bits: 128), scheme: .null, curve: .p256, x: key.x, y: key.y))
    }

    /// Opens a duplicate in software: what Rewrap gave away.
    ///
    /// - Returns: the sealed data, or `nil` when it cannot be opened with this key.
    static func unwrap(
        duplicate: [UInt8], encryptedSeed: [UInt8], name: TPMName, with key: ECPrivateKey
    ) throws -> [UInt8]? {
        var seedReader = WireReader(encryptedSeed)
        let x = try seedReader.sized("x", maximum: 32)
        let y = try seedReader.sized("y", maximum: 32)
        let ephemeral = try ECPublicKey(curve: .p256, x: x, y: y)
        let seed = kdfe(
            .sha256, z: try key.sharedX(with: ephemeral), label: "DUPLICATE",
            partyU: ephemeral.x, partyV: key.publicKey.x, bits: 256)
        var reader = WireReader(duplicate)
        let integrity = try reader.sized("integrity", maximum: 32)
        let hidden = reader.rest()
        let integrityKey = kdfa(
            .sha256, key: seed, label: "INTEGRITY", contextU: [], contextV: [], bits: 256)
        guard HashAlgorithm.sha256.hmac(key: integrityKey, hidden, name.bytes) == integrity else {
            return nil
        }
        let storageKey = kdfa(
            .sha256, key: seed, label: "STORAGE", contextU: name.bytes, contextV: [], bits: 128)
        let opened = try AESCFB.decrypt(
            hidden, key: storageKey, iv: [UInt8](repeating: 0, count: 16))
        var sensitive = WireReader(copy(opened))
        _ = try sensitive.uint16()
        _ = try sensitive.uint16()
        _ = try sensitive.sized("authValue", maximum: 32)
        _ = try sensitive.sized("seedValue", maximum: 32)
        return try sensitive.sized("data", maximum: 128)
    }
}

/// A secret in ordinary memory, to be compared.
func copy(_ secret: borrowing SecretBytes) -> [UInt8] {
    secret.withBytes { span in span.indices.map { span[$0] } }
}
