/// A handle: what a command acts on.
///
/// `TPM_HANDLE`, Part 2, section 7.
public struct TPMHandle: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let owner = TPMHandle(rawValue: 0x4000_0001)
    public static let null = TPMHandle(rawValue: 0x4000_0007)
    /// The password pseudo-session.
    public static let passwordSession = TPMHandle(rawValue: 0x4000_0009)
    public static let lockout = TPMHandle(rawValue: 0x4000_000A)
    public static let endorsement = TPMHandle(rawValue: 0x4000_000B)
    public static let platform = TPMHandle(rawValue: 0x4000_000C)

    /// The handle of a PCR.
    public static func pcr(_ index: PCRIndex) -> TPMHandle {
        TPMHandle(rawValue: UInt32(index.rawValue))
    }

    /// The most significant octet, `TPM_HT`.
    public var kind: UInt8 { UInt8(rawValue >> 24) }
    /// An NV index.
    public var isNVIndex: Bool { kind == 0x01 }
    /// An HMAC or policy session.
    public var isSession: Bool { kind == 0x02 || kind == 0x03 }
    /// A loaded, volatile object.
    public var isTransient: Bool { kind == 0x80 }
    /// An object that survives a reset.
    public var isPersistent: Bool { kind == 0x81 }

    public var description: String {
        let digits = String(rawValue, radix: 16)
        return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// A platform configuration register.
///
/// PC Client Platform TPM Profile: 24 PCRs.
public struct PCRIndex: RawRepresentable, Sendable, Hashable, Comparable {
    public let rawValue: UInt8

    /// - Returns: `nil` unless `0 ≤ rawValue < 24`.
    public init?(rawValue: UInt8) {
        guard rawValue < 24 else { return nil }
        self.rawValue = rawValue
    }

    public static func < (left: PCRIndex, right: PCRIndex) -> Bool {
        left.rawValue < right.rawValue
    }

    /// Every PCR in ascending order.
    public static let all: [PCRIndex] = (UInt8(0)..<24).compactMap(PCRIndex.init)
    /// PCR 0 to 7: firmware, its configuration, the boot loader and Secure Boot.
    public static let firmware: [PCRIndex] = [PCRIndex](all.prefix(8))

    /// What a software-started value of this PCR is after a reset: ones for the DRTM registers.
    ///
    /// PC Client Platform TPM Profile, "PCR Attributes": 17 to 22 start at all ones.
    public func resetValue(digestSize: Int) -> [UInt8] {
        [UInt8](repeating: (17...22).contains(rawValue) ? 0xFF : 0x00, count: digestSize)
    }
}
