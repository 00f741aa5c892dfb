public import HoldfastCrypto

/// Begins a session.
///
/// `TPM2_StartAuthSession`, Part 3, "Session Commands".
public struct StartAuthSessionCommand: TPMCommand {
    public static let code = CommandCode.startAuthSession
    public static let returnsHandle = true

    /// `TPM_SE`.
    public enum Kind: UInt8, Sendable {
        case hmac = 0, policy = 1
        /// A policy session that computes a digest and authorizes nothing.
        case trial = 3
    }

    let saltKey: EntityReference
    let bind: EntityReference
    let nonceCaller: [UInt8]
    let encryptedSalt: [UInt8]
    let kind: Kind
    let symmetric: SymmetricDefinition
    let hash: HashAlgorithm

    /// - Parameters:
    ///   - saltKey: a loaded decryption key, or `TPM_RH_NULL` for no salt.
    ///   - bind: an entity whose authorization value goes into the session key, or `TPM_RH_NULL`.
    ///   - nonceCaller: 16 bytes to the size of `hash`.
    ///   - encryptedSalt: `TPM2B_ENCRYPTED_SECRET` content; empty without a salt key.
    public init(
        saltKey: EntityReference, bind: EntityReference = EntityReference(.null),
        nonceCaller: [UInt8], encryptedSalt: [UInt8], kind: Kind,
        symmetric: SymmetricDefinition, hash: HashAlgorithm
    ) {
        self.saltKey = saltKey
        self.bind = bind
        self.nonceCaller = nonceCaller
        self.encryptedSalt = encryptedSalt
        self.kind = kind
        self.symmetric = symmetric
        self.hash = hash
    }

    public var handles: [EntityReference] { [saltKey, bind] }

    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(nonceCaller)
        writer.sized(encryptedSalt)
        writer.uint8(kind.rawValue)
        symmetric.encode(into: &writer)
        hash.encode(into: &writer)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> StartedSession {
        guard handle.isSession else {
            throw .unknownValue(field: "sessionHandle", value: UInt64(handle.rawValue))
        }
        return StartedSession(handle: handle, nonceTPM: try reader.sized("nonceTPM", maximum: 64))
    }
}

/// A session as the TPM announces it.
public struct StartedSession: Sendable, Hashable {
    public let handle: TPMHandle
    public let nonceTPM: [UInt8]
}

/// Removes a transient object or a session.
///
/// `TPM2_FlushContext`, Part 3, "Context Management".
public struct FlushContextCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.flushContext
    let handle: TPMHandle
    public init(_ handle: TPMHandle) { self.handle = handle }

    /// The handle is a parameter of this command, not in the handle area.
    public func encodeParameters(into writer: inout WireWriter) { writer.uint32(handle.rawValue) }
}

/// Makes a loaded object persistent, or removes a persistent one.
///
/// `TPM2_EvictControl`, Part 3, "Context Management".
public struct EvictControlCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.evictControl
    public static let authorizationCount = 1
    let object: EntityReference
    let persistent: TPMHandle

    /// - Parameters:
    ///   - object: a transient object to be kept, or the persistent one to be removed.
    ///   - persistent: where to; the object's own handle to remove it.
    public init(object: EntityReference, persistent: TPMHandle) {
        self.object = object
        self.persistent = persistent
    }

    public var handles: [EntityReference] { [EntityReference(.owner), object] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.uint32(persistent.rawValue)
    }
}
