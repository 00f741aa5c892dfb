import HoldfastCrypto

/// What a policy comparison does.
///
/// `TPM_EO`, Part 2, section 6.8. The signed ones are left out on purpose: with a signed
/// comparison a clock of 2^63 passes for ever.
public enum ComparisonOperation: UInt16, Sendable, Hashable {
    case equal = 0x0000
    case notEqual = 0x0001
    case unsignedGreater = 0x0003
    case unsignedLess = 0x0005
    case unsignedGreaterOrEqual = 0x0007
    case unsignedLessOrEqual = 0x0009
}

/// `TPM2_PolicyPCR`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyPCRCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyPCR
    let session: TPMHandle
    let selection: PCRSelection
    let digest: [UInt8]

    public init(session: TPMHandle, selection: PCRSelection, digest: [UInt8]) {
        self.session = session
        self.selection = selection
        self.digest = digest
    }

    public var handles: [EntityReference] { [EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(digest)
        selection.encode(into: &writer)
    }
}

/// `TPM2_PolicyAuthorize`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyAuthorizeCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyAuthorize
    let session: TPMHandle
    let approvedPolicy: [UInt8]
    let policyRef: [UInt8]
    let keySign: TPMName
    let ticket: Ticket

    public init(
        session: TPMHandle, approvedPolicy: [UInt8], policyRef: [UInt8], keySign: TPMName,
        ticket: Ticket
    ) {
        self.session = session
        self.approvedPolicy = approvedPolicy
        self.policyRef = policyRef
        self.keySign = keySign
        self.ticket = ticket
    }

    public var handles: [EntityReference] { [EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(approvedPolicy)
        writer.sized(policyRef)
        writer.sized(keySign.bytes)
        ticket.encode(into: &writer)
    }
}

/// `TPM2_PolicyNV`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyNVCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyNV
    public static let authorizationCount = 1
    let authorization: EntityReference
    let index: EntityReference
    let session: TPMHandle
    let operand: [UInt8]
    let offset: UInt16
    let operation: ComparisonOperation

    /// - Parameter authorization: who authorizes the reading: the index itself, or the owner.
    public init(
        authorization: EntityReference? = nil, index: EntityReference, session: TPMHandle,
        operand: [UInt8], offset: UInt16, operation: ComparisonOperation
    ) {
        self.authorization = authorization ?? index
        self.index = index
        self.session = session
        self.operand = operand
        self.offset = offset
        self.operation = operation
    }

    public var handles: [EntityReference] { [authorization, index, EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(operand)
        writer.uint16(offset)
        writer.uint16(operation.rawValue)
    }
}

/// `TPM2_PolicyCounterTimer`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyCounterTimerCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyCounterTimer
    let session: TPMHandle
    let operand: [UInt8]
    let offset: UInt16
    let operation: UInt16

    public init(
        session: TPMHandle, operand: [UInt8], offset: UInt16, operation: ComparisonOperation
    ) {
        self.session = session
        self.operand = operand
        self.offset = offset
        self.operation = operation.rawValue
    }

    public var handles: [EntityReference] { [EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(operand)
        writer.uint16(offset)
        writer.uint16(operation)
    }
}

/// `TPM2_PolicyOR`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyORCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyOR
    let session: TPMHandle
    let branches: [[UInt8]]

    /// - Parameter branches: two to eight digests.
    public init(session: TPMHandle, branches: [[UInt8]]) {
        self.session = session
        self.branches = branches
    }

    public var handles: [EntityReference] { [EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.uint32(UInt32(branches.count))
        for branch in branches { writer.sized(branch) }
    }
}

/// `TPM2_PolicySecret`, Part 3, "Enhanced Authorization (EA) Commands"; no expiry, no nonce.
public struct PolicySecretCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policySecret
    public static let authorizationCount = 1
    let entity: EntityReference
    let session: TPMHandle
    let policyRef: [UInt8]

    public init(entity: EntityReference, session: TPMHandle, policyRef: [UInt8]) {
        self.entity = entity
        self.session = session
        self.policyRef = policyRef
    }

    public var handles: [EntityReference] { [entity, EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized([])
        writer.sized([])
        writer.sized(policyRef)
        writer.uint32(0)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) {
        _ = try reader.sized("timeout", maximum: 16)
        _ = try Ticket(from: &reader)
    }
}

/// `TPM2_PolicyCommandCode`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyCommandCodeCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyCommandCode
    let session: TPMHandle
    let command: CommandCode

    public init(session: TPMHandle, command: CommandCode) {
        self.session = session
        self.command = command
    }

    public var handles: [EntityReference] { [EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) { writer.uint32(command.rawValue) }
}

/// `TPM2_PolicyAuthValue`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyAuthValueCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyAuthValue
    let session: TPMHandle
    public init(session: TPMHandle) { self.session = session }
    public var handles: [EntityReference] { [EntityReference(session)] }
}

/// `TPM2_PolicyNvWritten`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyNvWrittenCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.policyNvWritten
    let session: TPMHandle
    let written: Bool

    public init(session: TPMHandle, written: Bool) {
        self.session = session
        self.written = written
    }

    public var handles: [EntityReference] { [EntityReference(session)] }
    public func encodeParameters(into writer: inout WireWriter) { writer.uint8(written ? 1 : 0) }
}

/// `TPM2_PolicyGetDigest`, Part 3, "Enhanced Authorization (EA) Commands".
public struct PolicyGetDigestCommand: TPMCommand {
    public static let code = CommandCode.policyGetDigest
    let session: TPMHandle
    public init(session: TPMHandle) { self.session = session }
    public var handles: [EntityReference] { [EntityReference(session)] }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> [UInt8] {
        try reader.sized("policyDigest", maximum: 64)
    }
}
