/// Attributes of an object.
///
/// `TPMA_OBJECT`, Part 2, section 8.3.
public struct ObjectAttributes: OptionSet, Sendable, Hashable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let fixedTPM = ObjectAttributes(rawValue: 1 << 1)
    public static let stClear = ObjectAttributes(rawValue: 1 << 2)
    public static let fixedParent = ObjectAttributes(rawValue: 1 << 4)
    public static let sensitiveDataOrigin = ObjectAttributes(rawValue: 1 << 5)
    public static let userWithAuth = ObjectAttributes(rawValue: 1 << 6)
    public static let adminWithPolicy = ObjectAttributes(rawValue: 1 << 7)
    public static let noDA = ObjectAttributes(rawValue: 1 << 10)
    public static let encryptedDuplication = ObjectAttributes(rawValue: 1 << 11)
    public static let restricted = ObjectAttributes(rawValue: 1 << 16)
    public static let decrypt = ObjectAttributes(rawValue: 1 << 17)
    public static let sign = ObjectAttributes(rawValue: 1 << 18)

    /// Bits that no version of the specification gives a meaning; a TPM refuses to make a key with one.
    ///
    /// Bits 8, 9 and 19 are firmwareLimited, svnLimited and x509sign of later versions.
    public static let reserved = ObjectAttributes(rawValue: 0xFFF0_F009)
}

/// Attributes of an NV index, the type of the index among them.
///
/// `TPMA_NV`, Part 2, section 13.4.
public struct NVAttributes: OptionSet, Sendable, Hashable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let ownerWrite = NVAttributes(rawValue: 1 << 1)
    public static let authWrite = NVAttributes(rawValue: 1 << 2)
    /// `TPM_NT_COUNTER` in the type field.
    public static let counter = NVAttributes(rawValue: 1 << 4)
    public static let ownerRead = NVAttributes(rawValue: 1 << 17)
    public static let authRead = NVAttributes(rawValue: 1 << 18)
    public static let policyRead = NVAttributes(rawValue: 1 << 19)
    public static let noDA = NVAttributes(rawValue: 1 << 25)
    /// Set by the TPM with the first write; it changes the Name.
    public static let written = NVAttributes(rawValue: 1 << 29)
}

/// Attributes of a session in one command.
///
/// `TPMA_SESSION`, Part 2, section 8.4.
public struct SessionAttributes: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let continueSession = SessionAttributes(rawValue: 1 << 0)
    /// In a response: no other command came between those that the session audits.
    public static let auditExclusive = SessionAttributes(rawValue: 1 << 1)
    /// The first command parameter is encrypted.
    public static let decrypt = SessionAttributes(rawValue: 1 << 5)
    /// The first response parameter is encrypted.
    public static let encrypt = SessionAttributes(rawValue: 1 << 6)
    /// The session audits the command: it is there for the answer alone.
    public static let audit = SessionAttributes(rawValue: 1 << 7)
}
