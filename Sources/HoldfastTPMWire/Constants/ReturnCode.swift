/// What a TPM answered, or a layer below it.
///
/// `TPM_RC`, Part 2, section 6.6. Match with the canonical constants: `case .policyFail` matches
/// whatever the index of the parameter, session or handle is; ``rawValue`` keeps it.
public struct ReturnCode: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// What a format-one code is about.
    public enum Subject: Sendable, Hashable {
        case handle(Int), parameter(Int), session(Int)
    }

    /// Who speaks: bits 16 to 31.
    ///
    /// TCG TSS 2.0 Overview, section 3.4 "Return codes".
    public enum Layer: Sendable, Hashable {
        /// The TPM, or a resource manager in its place with the codes of a TPM.
        case tpm
        /// Software between us and the TPM with codes of its own; the number of the layer.
        case below(UInt32)
    }

    public var layer: Layer {
        let number = rawValue >> 16
        return number == 0 || number == 11 ? .tpm : .below(number)
    }

    /// A code of format one carries an index of what it is about.
    public var isFormatOne: Bool { layer == .tpm && rawValue & 0x80 != 0 }

    /// The code without that index, and without the layer where it is the TPM's.
    public var canonical: UInt32 {
        guard layer == .tpm else { return rawValue }
        return isFormatOne ? rawValue & 0xBF : rawValue & 0xFFFF
    }

    /// What the code is about, if it says so; counted from 1.
    public var subject: Subject? {
        guard isFormatOne else { return nil }
        let index = Int(rawValue >> 8 & 0xF)
        if rawValue & 0x40 != 0 { return index == 0 ? nil : .parameter(index) }
        if index == 0 || index == 8 { return nil }
        return index > 8 ? .session(index - 8) : .handle(index)
    }

    /// Tells whether a code is of the given kind, whatever it is about.
    public static func ~= (pattern: ReturnCode, code: ReturnCode) -> Bool {
        pattern.canonical == code.canonical
    }

    public static let success = ReturnCode(rawValue: 0)
    public static let initialize = ReturnCode(rawValue: 0x100)
    public static let failure = ReturnCode(rawValue: 0x101)
    public static let authType = ReturnCode(rawValue: 0x124)
    public static let policy = ReturnCode(rawValue: 0x126)
    public static let pcr = ReturnCode(rawValue: 0x127)
    public static let pcrChanged = ReturnCode(rawValue: 0x128)
    public static let upgrade = ReturnCode(rawValue: 0x12D)
    public static let authUnavailable = ReturnCode(rawValue: 0x12F)
    public static let reboot = ReturnCode(rawValue: 0x130)
    public static let commandSize = ReturnCode(rawValue: 0x142)
    public static let commandCode = ReturnCode(rawValue: 0x143)
    public static let nvRange = ReturnCode(rawValue: 0x146)
    public static let nvLocked = ReturnCode(rawValue: 0x148)
    public static let nvAuthorization = ReturnCode(rawValue: 0x149)
    public static let nvUninitialized = ReturnCode(rawValue: 0x14A)
    public static let nvSpace = ReturnCode(rawValue: 0x14B)
    public static let nvDefined = ReturnCode(rawValue: 0x14C)
    public static let attributes = ReturnCode(rawValue: 0x82)
    public static let hash = ReturnCode(rawValue: 0x83)
    public static let value = ReturnCode(rawValue: 0x84)
    public static let hierarchy = ReturnCode(rawValue: 0x85)
    public static let handle = ReturnCode(rawValue: 0x8B)
    public static let authFail = ReturnCode(rawValue: 0x8E)
    public static let size = ReturnCode(rawValue: 0x95)
    public static let signature = ReturnCode(rawValue: 0x9B)
    public static let policyFail = ReturnCode(rawValue: 0x9D)
    public static let integrity = ReturnCode(rawValue: 0x9F)
    public static let ticket = ReturnCode(rawValue: 0xA0)
    public static let badAuth = ReturnCode(rawValue: 0xA2)
    public static let policyCC = ReturnCode(rawValue: 0xA4)
    public static let contextGap = ReturnCode(rawValue: 0x901)
    public static let objectMemory = ReturnCode(rawValue: 0x902)
    public static let sessionMemory = ReturnCode(rawValue: 0x903)
    public static let memory = ReturnCode(rawValue: 0x904)
    public static let sessionHandles = ReturnCode(rawValue: 0x905)
    public static let objectHandles = ReturnCode(rawValue: 0x906)
    public static let yielded = ReturnCode(rawValue: 0x908)
    public static let canceled = ReturnCode(rawValue: 0x909)
    public static let testing = ReturnCode(rawValue: 0x90A)
    public static let referenceH0 = ReturnCode(rawValue: 0x910)
    public static let nvRate = ReturnCode(rawValue: 0x920)
    public static let lockout = ReturnCode(rawValue: 0x921)
    public static let retry = ReturnCode(rawValue: 0x922)
    public static let nvUnavailable = ReturnCode(rawValue: 0x923)

    /// There is no room for another object or session.
    public var saysFull: Bool {
        switch self {
        case .objectMemory, .sessionMemory, .objectHandles, .sessionHandles, .memory: true
        default: false
        }
    }

    /// The TPM asks to send the command once more.
    public var asksToResend: Bool {
        switch self {
        case .retry, .yielded, .testing, .nvRate: true
        default: false
        }
    }

    public var description: String { "0x" + String(rawValue, radix: 16) }
}
