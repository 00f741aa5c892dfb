public import HoldfastCrypto

/// An entity in a command: its handle, and the Name that goes into the command's digest.
public struct EntityReference: Sendable, Hashable {
    public let handle: TPMHandle
    public let name: TPMName

    /// An object or an NV index.
    public init(_ handle: TPMHandle, name: TPMName) {
        self.handle = handle
        self.name = name
    }

    /// A PCR, a session, a hierarchy: its Name is its handle.
    public init(_ handle: TPMHandle) {
        self.init(handle, name: TPMName(handle: handle))
    }
}

/// One TPM command with its response, as Part 3 defines them.
///
/// A command is a value; nothing happens until a connection executes it.
public protocol TPMCommand {
    /// The response parameters, decoded.
    associatedtype Response
    static var code: CommandCode { get }
    /// How many of the first handles need an authorization.
    static var authorizationCount: Int { get }
    /// Whether a handle stands before the parameters of the response.
    static var returnsHandle: Bool { get }
    /// The handle area, in order.
    var handles: [EntityReference] { get }
    func encodeParameters(into writer: inout WireWriter)
    /// Reads the response.
    ///
    /// - Parameter handle: the response handle, or `TPM_RH_NULL` where there is none.
    static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> Response
}

extension TPMCommand {
    public static var authorizationCount: Int { 0 }
    public static var returnsHandle: Bool { false }
    public var handles: [EntityReference] { [] }
    public func encodeParameters(into writer: inout WireWriter) {}
}

extension TPMCommand where Response == Void {
    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) {}
}

/// A structure that was parsed together with the bytes that came from outside, which is what a
/// signature or a Name is over.
public struct AsReceived<Value: WireStructure & Sendable & Hashable>: Sendable, Hashable {
    public let value: Value
    public let bytes: [UInt8]

    /// Parses bytes that must hold exactly one structure.
    public init(bytes: [UInt8]) throws(WireError) {
        value = try Value(wireBytes: bytes)
        self.bytes = bytes
    }
}

extension WireReader {
    /// Reads a `TPM2B` with a public area and demands that it encodes to what was received.
    mutating func sizedPublic() throws(WireError) -> PublicArea {
        let bytes = try sized("publicArea", maximum: PublicArea.maximumSize)
        let area = try PublicArea(wireBytes: bytes)
        guard area.wireBytes == bytes else { throw .sizeMismatch(field: "publicArea") }
        return area
    }
}

/// A command whose first parameter is secret: it is encrypted from guarded memory into the command.
public protocol SecretParameterCommand: TPMCommand {
    /// The content of the first parameter, a `TPM2B`.
    var secretParameter: SymmetricSecret { get }
    /// Appends the parameters behind it.
    func encodeRest(into writer: inout WireWriter)
}

extension SecretParameterCommand {
    public func encodeParameters(into writer: inout WireWriter) {
        secretParameter.withBytes { secret in
            writer.uint16(UInt16(secret.count))
            for index in secret.indices { writer.uint8(secret[index]) }
        }
        encodeRest(into: &writer)
    }
}
