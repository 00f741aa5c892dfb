/// What an event says it measured.
///
/// Firmware writes it, no TPM vouches for it.
///
/// TCG PC Client Platform Firmware Profile, "Event Types".
public struct EventType: RawRepresentable, Sendable, Hashable {
    /// The number in the log.
    public let rawValue: UInt32
    /// Takes any number; unknown types are carried and extended.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// `EV_PREBOOT_CERT`.
    public static let prebootCertificate = EventType(rawValue: 0x0000_0000)
    /// `EV_POST_CODE`.
    public static let postCode = EventType(rawValue: 0x0000_0001)
    /// `EV_NO_ACTION`: informative, the only type that is not extended.
    public static let noAction = EventType(rawValue: 0x0000_0003)
    /// `EV_SEPARATOR`.
    public static let separator = EventType(rawValue: 0x0000_0004)
    /// `EV_ACTION`.
    public static let action = EventType(rawValue: 0x0000_0005)
    /// `EV_EVENT_TAG`.
    public static let eventTag = EventType(rawValue: 0x0000_0006)
    /// `EV_S_CRTM_CONTENTS`.
    public static let crtmContents = EventType(rawValue: 0x0000_0007)
    /// `EV_S_CRTM_VERSION`.
    public static let crtmVersion = EventType(rawValue: 0x0000_0008)
    /// `EV_CPU_MICROCODE`.
    public static let cpuMicrocode = EventType(rawValue: 0x0000_0009)
    /// `EV_PLATFORM_CONFIG_FLAGS`.
    public static let platformConfigurationFlags = EventType(rawValue: 0x0000_000A)
    /// `EV_TABLE_OF_DEVICES`.
    public static let tableOfDevices = EventType(rawValue: 0x0000_000B)
    /// `EV_COMPACT_HASH`.
    public static let compactHash = EventType(rawValue: 0x0000_000C)
    /// `EV_IPL`.
    public static let ipl = EventType(rawValue: 0x0000_000D)
    /// `EV_IPL_PARTITION_DATA`.
    public static let iplPartitionData = EventType(rawValue: 0x0000_000E)
    /// `EV_NONHOST_CODE`.
    public static let nonhostCode = EventType(rawValue: 0x0000_000F)
    /// `EV_NONHOST_CONFIG`.
    public static let nonhostConfiguration = EventType(rawValue: 0x0000_0010)
    /// `EV_NONHOST_INFO`.
    public static let nonhostInformation = EventType(rawValue: 0x0000_0011)
    /// `EV_OMIT_BOOT_DEVICE_EVENTS`.
    public static let omitBootDeviceEvents = EventType(rawValue: 0x0000_0012)
    /// `EV_EFI_VARIABLE_DRIVER_CONFIG`.
    public static let efiVariableDriverConfiguration = EventType(rawValue: 0x8000_0001)
    /// `EV_EFI_VARIABLE_BOOT`.
    public static let efiVariableBoot = EventType(rawValue: 0x8000_0002)
    /// `EV_EFI_BOOT_SERVICES_APPLICATION`.
    public static let efiBootServicesApplication = EventType(rawValue: 0x8000_0003)
    /// `EV_EFI_BOOT_SERVICES_DRIVER`.
    public static let efiBootServicesDriver = EventType(rawValue: 0x8000_0004)
    /// `EV_EFI_RUNTIME_SERVICES_DRIVER`.
    public static let efiRuntimeServicesDriver = EventType(rawValue: 0x8000_0005)
    /// `EV_EFI_GPT_EVENT`.
    public static let efiGPTEvent = EventType(rawValue: 0x8000_0006)
    /// `EV_EFI_ACTION`.
    public static let efiAction = EventType(rawValue: 0x8000_0007)
    /// `EV_EFI_PLATFORM_FIRMWARE_BLOB`.
    public static let efiPlatformFirmwareBlob = EventType(rawValue: 0x8000_0008)
    /// `EV_EFI_HANDOFF_TABLES`.
    public static let efiHandoffTables = EventType(rawValue: 0x8000_0009)
    /// `EV_EFI_PLATFORM_FIRMWARE_BLOB2`.
    public static let efiPlatformFirmwareBlob2 = EventType(rawValue: 0x8000_000A)
    /// `EV_EFI_HANDOFF_TABLES2`.
    public static let efiHandoffTables2 = EventType(rawValue: 0x8000_000B)
    /// `EV_EFI_VARIABLE_BOOT2`.
    public static let efiVariableBoot2 = EventType(rawValue: 0x8000_000C)
    /// `EV_EFI_HCRTM_EVENT`.
    public static let efiHardwareRootOfTrust = EventType(rawValue: 0x8000_0010)
    /// `EV_EFI_VARIABLE_AUTHORITY`.
    public static let efiVariableAuthority = EventType(rawValue: 0x8000_00E0)
    /// `EV_EFI_SPDM_FIRMWARE_BLOB`.
    public static let efiSPDMFirmwareBlob = EventType(rawValue: 0x8000_00E1)
    /// `EV_EFI_SPDM_FIRMWARE_CONFIG`.
    public static let efiSPDMFirmwareConfiguration = EventType(rawValue: 0x8000_00E2)
}
