import HoldfastCrypto

/// Prepares the TPM for power loss, so that the clock and the counters are saved.
///
/// `TPM2_Shutdown`, Part 3, "Start-up".
public struct ShutdownCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.shutdown

    /// `TPM_SU`.
    public enum Kind: UInt16, Sendable {
        /// The next start is a TPM Reset.
        case clear = 0
        /// State is kept for a TPM Resume or Restart.
        case state = 1
    }

    let kind: Kind
    public init(_ kind: Kind) { self.kind = kind }

    public func encodeParameters(into writer: inout WireWriter) { writer.uint16(kind.rawValue) }
}

/// Random bytes from the TPM.
///
/// `TPM2_GetRandom`, Part 3, "Random Number Generator".
public struct GetRandomCommand: TPMCommand {
    public static let code = CommandCode.getRandom
    let count: UInt16

    /// - Parameter count: a TPM returns at most the size of its largest digest.
    public init(count: UInt16) { self.count = count }

    public func encodeParameters(into writer: inout WireWriter) { writer.uint16(count) }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> [UInt8] {
        try reader.sized("randomBytes", maximum: 64)
    }
}

/// What a TPM can do and holds.
///
/// `TPM2_GetCapability`, Part 3, "Capability Commands".
public struct GetCapabilityCommand: TPMCommand {
    public static let code = CommandCode.getCapability

    /// `TPM_CAP`.
    public enum Capability: UInt32, Sendable {
        case algorithms = 0, handles = 1, commands = 2, pcrs = 5, properties = 6, curves = 8
    }

    /// One page of an answer.
    public enum Page: Sendable, Hashable {
        case algorithms([AlgorithmID])
        case handles([TPMHandle])
        case commands([CommandCode])
        /// The allocated banks; a bank with an empty bitmap is not active. Banks of hashes that
        /// Holdfast does not compute are left out.
        case pcrs([PCRSelection.Bank])
        case properties([UInt32: UInt32])
        case curves([UInt16])
    }

    let capability: Capability
    let property: UInt32
    let count: UInt32

    public init(_ capability: Capability, from property: UInt32, count: UInt32) {
        self.capability = capability
        self.property = property
        self.count = count
    }

    public func encodeParameters(into writer: inout WireWriter) {
        writer.uint32(capability.rawValue)
        writer.uint32(property)
        writer.uint32(count)
    }

    /// - Returns: the page, and whether more follow.
    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> CapabilityAnswer {
        let more = try reader.uint8()
        guard more <= 1 else { throw .unknownValue(field: "moreData", value: UInt64(more)) }
        let raw = try reader.uint32()
        guard let capability = Capability(rawValue: raw) else {
            throw .unknownValue(field: "capability", value: UInt64(raw))
        }
        let count = Int(try reader.uint32())
        guard count <= 1024 else {
            throw .tooLong(field: "capabilityData", length: count, maximum: 1024)
        }
        let page: Page
        switch capability {
        case .algorithms:
            var found: [AlgorithmID] = []
            for _ in 0..<count {
                found.append(AlgorithmID(rawValue: try reader.uint16()))
                _ = try reader.uint32()
            }
            page = .algorithms(found)
        case .handles:
            var found: [TPMHandle] = []
            for _ in 0..<count { found.append(TPMHandle(rawValue: try reader.uint32())) }
            page = .handles(found)
        case .commands:
            var found: [CommandCode] = []
            // TPMA_CC: the command index is the low 16 bits, bit 29 says vendor specific.
            for _ in 0..<count { found.append(CommandCode(rawValue: try reader.uint32() & 0xFFFF)) }
            page = .commands(found)
        case .pcrs:
            var found: [PCRSelection.Bank] = []
            for _ in 0..<count {
                let id = AlgorithmID(rawValue: try reader.uint16())
                let bitmap = try reader.bytes(Int(try reader.uint8()))
                if let hash = id.hash { found.append(.init(hash: hash, bitmap: bitmap)) }
            }
            page = .pcrs(found)
        case .properties:
            var found: [UInt32: UInt32] = [:]
            for _ in 0..<count {
                let key = try reader.uint32()
                found[key] = try reader.uint32()
            }
            page = .properties(found)
        case .curves:
            var found: [UInt16] = []
            for _ in 0..<count { found.append(try reader.uint16()) }
            page = .curves(found)
        }
        return CapabilityAnswer(page: page, more: more == 1)
    }
}

/// A page of capabilities and whether there are more.
public struct CapabilityAnswer: Sendable, Hashable {
    public let page: GetCapabilityCommand.Page
    public let more: Bool
}

/// The time of the TPM.
///
/// `TPM2_ReadClock`, Part 3, "Clocks and Timers".
public struct ReadClockCommand: TPMCommand {
    public static let code = CommandCode.readClock
    public init() {}

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> TimeInfo {
        TimeInfo(time: try reader.uint64(), clockInfo: try ClockInfo(from: &reader))
    }
}

/// Milliseconds since the TPM started, and its clock.
///
/// `TPMS_TIME_INFO`, Part 2, section 10.11.6.
public struct TimeInfo: Sendable, Hashable {
    public let time: UInt64
    public let clockInfo: ClockInfo
}
