public import HoldfastCrypto

/// Defines an NV index, authorized by the owner.
///
/// `TPM2_NV_DefineSpace`, Part 3, "Non-volatile Storage". The authorization value is the first
/// parameter: execute it in a session that encrypts it.
public struct NVDefineSpaceCommand: SecretParameterCommand {
    public typealias Response = Void
    public static let code = CommandCode.nvDefineSpace
    public static let authorizationCount = 1
    /// The authorization value.
    public let secretParameter: SymmetricSecret
    let publicArea: NVPublicArea

    public init(auth: [UInt8], publicArea: NVPublicArea) {
        secretParameter = SymmetricSecret(auth)
        self.publicArea = publicArea
    }

    public var handles: [EntityReference] { [EntityReference(.owner)] }
    /// Appends what is not secret.
    public func encodeRest(into writer: inout WireWriter) {
        writer.sizedStructure { publicArea.encode(into: &$0) }
    }
}

/// Removes an NV index, authorized by the owner.
///
/// `TPM2_NV_UndefineSpace`, Part 3, "Non-volatile Storage".
public struct NVUndefineSpaceCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.nvUndefineSpace
    public static let authorizationCount = 1
    let index: EntityReference
    public init(_ index: EntityReference) { self.index = index }
    public var handles: [EntityReference] { [EntityReference(.owner), index] }
}

/// Reads the public area of an NV index.
///
/// `TPM2_NV_ReadPublic`, Part 3, "Non-volatile Storage".
public struct NVReadPublicCommand: TPMCommand {
    public static let code = CommandCode.nvReadPublic
    let index: EntityReference

    /// The Name is not known before; the command carries no session that would need it.
    public init(_ index: TPMHandle) { self.index = EntityReference(index) }

    /// Asks once more for what has this Name, in a session.
    public init(_ index: EntityReference) { self.index = index }

    public var handles: [EntityReference] { [index] }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> NVPublicArea {
        let bytes = try reader.sized("nvPublic", maximum: 140)
        let area = try NVPublicArea(wireBytes: bytes)
        guard try TPMName(from: &reader, field: "nvName") == area.name else {
            throw .sizeMismatch(field: "nvName")
        }
        return area
    }
}

/// Reads data of an NV index.
///
/// `TPM2_NV_Read`, Part 3, "Non-volatile Storage".
public struct NVReadCommand: TPMCommand {
    public static let code = CommandCode.nvRead
    public static let authorizationCount = 1
    let authorization: EntityReference
    let index: EntityReference
    let size: UInt16
    let offset: UInt16

    /// - Parameter authorization: who authorizes: the index itself, or the owner.
    public init(
        authorization: EntityReference, index: EntityReference, size: UInt16, offset: UInt16
    ) {
        self.authorization = authorization
        self.index = index
        self.size = size
        self.offset = offset
    }

    public var handles: [EntityReference] { [authorization, index] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.uint16(size)
        writer.uint16(offset)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> [UInt8] {
        try reader.sized("data", maximum: 2048)
    }
}

/// Adds one to a counter, authorized by its own authorization value.
///
/// `TPM2_NV_Increment`, Part 3, "Non-volatile Storage".
public struct NVIncrementCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.nvIncrement
    public static let authorizationCount = 1
    let index: EntityReference
    public init(_ index: EntityReference) { self.index = index }
    public var handles: [EntityReference] { [index, index] }
}
