public import HoldfastCrypto

/// Derives a primary key from the seed of a hierarchy.
///
/// `TPM2_CreatePrimary`, Part 3, "Hierarchy Commands".
public struct CreatePrimaryCommand: TPMCommand {
    public static let code = CommandCode.createPrimary
    public static let authorizationCount = 1
    public static let returnsHandle = true
    let hierarchy: TPMHandle
    let template: PublicArea

    /// The key gets the empty authorization value.
    public init(hierarchy: TPMHandle, template: PublicArea) {
        self.hierarchy = hierarchy
        self.template = template
    }

    public var handles: [EntityReference] { [EntityReference(hierarchy)] }

    public func encodeParameters(into writer: inout WireWriter) {
        writer.sizedStructure { writer in
            writer.sized([])
            writer.sized([])
        }
        writer.sizedStructure { template.encode(into: &$0) }
        writer.sized([])
        PCRSelection.empty.encode(into: &writer)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> LoadedObject {
        let area = try reader.sizedPublic()
        _ = try reader.sized("creationData", maximum: 1024)
        _ = try reader.sized("creationHash", maximum: 64)
        _ = try Ticket(from: &reader)
        return try LoadedObject(
            handle: handle, publicArea: area, name: TPMName(from: &reader, field: "name"))
    }
}

/// Makes an object below a storage key: sealed data.
///
/// `TPM2_Create`, Part 3, "Object Commands". Run it with an encrypted command.
public struct CreateCommand: SecretParameterCommand {
    public static let code = CommandCode.create
    public static let authorizationCount = 1
    let parent: EntityReference
    let template: PublicArea
    let authValue: SymmetricSecret
    let data: SymmetricSecret

    /// - Parameters:
    ///   - authValue: at most a digest of the template's name algorithm.
    ///   - data: 1 to 128 bytes.
    public init(
        parent: EntityReference, template: PublicArea, authValue: SymmetricSecret,
        data: SymmetricSecret
    ) {
        self.parent = parent
        self.template = template
        self.authValue = authValue
        self.data = data
    }

    public var handles: [EntityReference] { [parent] }

    /// `TPMS_SENSITIVE_CREATE`.
    public var secretParameter: SymmetricSecret {
        authValue.sized.appending(data.sized)
    }

    /// Appends what is not secret.
    public func encodeRest(into writer: inout WireWriter) {
        writer.sizedStructure { template.encode(into: &$0) }
        writer.sized([])
        PCRSelection.empty.encode(into: &writer)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> CreatedObject {
        let blob = try reader.sized("outPrivate", maximum: 1024)
        let area = try reader.sizedPublic()
        _ = try reader.sized("creationData", maximum: 1024)
        _ = try reader.sized("creationHash", maximum: 64)
        _ = try Ticket(from: &reader)
        return CreatedObject(privateBlob: blob, publicArea: area)
    }
}

extension SymmetricSecret {
    /// The bytes as `TPM2B`.
    fileprivate var sized: SymmetricSecret {
        SymmetricSecret([UInt8(count >> 8), UInt8(count & 0xFF)]).appending(self)
    }
}

/// An object that was made and is not loaded.
public struct CreatedObject: Sendable, Hashable {
    /// Content of `TPM2B_PRIVATE`.
    public let privateBlob: [UInt8]
    public let publicArea: PublicArea
}

/// An object that occupies a slot of the TPM or is persistent.
public struct LoadedObject: Sendable, Hashable {
    public let handle: TPMHandle
    public let publicArea: PublicArea
    public var name: TPMName { publicArea.name }
    public var reference: EntityReference { EntityReference(handle, name: name) }

    /// - Throws: when the Name that the TPM states is not that of the public area, or the handle
    ///   is not that of an object.
    public init(handle: TPMHandle, publicArea: PublicArea, name: TPMName) throws(WireError) {
        guard handle.isTransient || handle.isPersistent else {
            throw .unknownValue(field: "objectHandle", value: UInt64(handle.rawValue))
        }
        guard publicArea.name == name else { throw .sizeMismatch(field: "name") }
        self.handle = handle
        self.publicArea = publicArea
    }
}

/// Loads a key pair below a storage key.
///
/// `TPM2_Load`, Part 3, "Object Commands". The response has the Name alone.
public struct LoadCommand: TPMCommand {
    public static let code = CommandCode.load
    public static let authorizationCount = 1
    public static let returnsHandle = true
    let parent: EntityReference
    let privateBlob: [UInt8]
    let publicArea: [UInt8]

    /// - Parameters:
    ///   - privateBlob: content of `TPM2B_PRIVATE`.
    ///   - publicArea: marshaled `TPMT_PUBLIC`.
    public init(parent: EntityReference, privateBlob: [UInt8], publicArea: [UInt8]) {
        self.parent = parent
        self.privateBlob = privateBlob
        self.publicArea = publicArea
    }

    public var handles: [EntityReference] { [parent] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(privateBlob)
        writer.sized(publicArea)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> EntityReference {
        guard handle.isTransient else {
            throw .unknownValue(field: "objectHandle", value: UInt64(handle.rawValue))
        }
        return EntityReference(handle, name: try TPMName(from: &reader, field: "name"))
    }
}

/// Loads a public key, so that the TPM can check a signature with it.
///
/// `TPM2_LoadExternal`, Part 3, "Object Commands".
public struct LoadExternalCommand: TPMCommand {
    public static let code = CommandCode.loadExternal
    public static let returnsHandle = true
    let publicArea: PublicArea
    let hierarchy: TPMHandle

    /// - Parameter hierarchy: not `TPM_RH_NULL` where a ticket is wanted.
    public init(publicArea: PublicArea, hierarchy: TPMHandle) {
        self.publicArea = publicArea
        self.hierarchy = hierarchy
    }

    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized([])
        writer.sizedStructure { publicArea.encode(into: &$0) }
        writer.uint32(hierarchy.rawValue)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> EntityReference {
        try LoadCommand.decode(handle: handle, parameters: &reader)
    }
}

/// Reads the public area of a loaded or persistent object.
///
/// `TPM2_ReadPublic`, Part 3, "Object Commands".
public struct ReadPublicCommand: TPMCommand {
    public static let code = CommandCode.readPublic
    let object: EntityReference

    /// The Name is not known before; the command carries no session that would need it.
    public init(_ object: TPMHandle) { self.object = EntityReference(object) }

    /// Asks once more for what has this Name, in a session.
    public init(_ object: EntityReference) { self.object = object }

    public var handles: [EntityReference] { [object] }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> PublicAreaAnswer {
        let area = try reader.sizedPublic()
        let name = try TPMName(from: &reader, field: "name")
        guard area.name == name else { throw .sizeMismatch(field: "name") }
        return PublicAreaAnswer(
            publicArea: area, qualifiedName: try TPMName(from: &reader, field: "qualifiedName"))
    }
}

/// A public area with the qualified Name that the TPM states for it.
public struct PublicAreaAnswer: Sendable, Hashable {
    public let publicArea: PublicArea
    public let qualifiedName: TPMName
}

/// Opens a credential: proves that key and attested object live in one TPM.
///
/// `TPM2_ActivateCredential`, Part 3, "Object Commands". The secret is the first response
/// parameter, encrypted by the session.
public struct ActivateCredentialCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.activateCredential
    public static let authorizationCount = 2
    let object: EntityReference
    let key: EntityReference
    let credential: CredentialBlob

    public init(object: EntityReference, key: EntityReference, credential: CredentialBlob) {
        self.object = object
        self.key = key
        self.credential = credential
    }

    public var handles: [EntityReference] { [object, key] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(credential.identityObject)
        writer.sized(credential.encryptedSecret)
    }
}

/// Releases sealed data: the first response parameter, encrypted by the session.
///
/// `TPM2_Unseal`, Part 3, "Object Commands".
public struct UnsealCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.unseal
    public static let authorizationCount = 1
    let object: EntityReference
    public init(_ object: EntityReference) { self.object = object }
    public var handles: [EntityReference] { [object] }
}

/// Turns a duplication blob into a private blob below the new parent.
///
/// `TPM2_Import`, Part 3, "Duplication Commands"; without an inner wrapper.
public struct ImportCommand: TPMCommand {
    public static let code = CommandCode.importObject
    public static let authorizationCount = 1
    let parent: EntityReference
    let blob: ImportBlob

    public init(parent: EntityReference, blob: ImportBlob) {
        self.parent = parent
        self.blob = blob
    }

    public var handles: [EntityReference] { [parent] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized([])
        writer.sized(blob.publicArea)
        writer.sized(blob.duplicate)
        writer.sized(blob.encryptedSeed)
        SymmetricDefinition.none.encode(into: &writer)
    }

    /// - Returns: content of `TPM2B_PRIVATE`.
    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> [UInt8] {
        try reader.sized("outPrivate", maximum: 1024)
    }
}
