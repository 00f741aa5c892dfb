public import HoldfastCrypto

/// Which part of a machine a hardware fact is about; the list is closed.
///
/// docs/spec/hardware.md, "Kinds".
public enum ComponentKind: UInt8, Sendable, Hashable, CaseIterable, Comparable {
    /// SMBIOS UUID, or the serial number in the device tree.
    case machine = 1
    /// Maker, name and serial number of the board.
    case board = 2
    /// Serial number of the chassis, or else the model of the machine.
    case chassis = 3
    /// SoC, or CPU.
    case processor = 4
    /// Permanent address of a network interface; one for each.
    case network = 5
    /// Serial number or WWN of a disk under the root file system; one for each.
    case rootDisk = 6
    /// Family of the TPM.
    case tpm = 7

    /// The name for people and in JSON.
    public var name: String {
        switch self {
        case .machine: "machine"
        case .board: "board"
        case .chassis: "chassis"
        case .processor: "processor"
        case .network: "network"
        case .rootDisk: "root-disk"
        case .tpm: "tpm"
        }
    }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The opaque id of one component of a machine, for one vendor.
///
/// Pseudonymous, not anonymous: whoever has the vendor's salt can try every address that a network
/// interface may have, at the price of one Argon2id each.
///
/// docs/spec/hardware.md, "Opaque ids".
public struct HardwareFact: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Length in bytes.
    public static let size = 32
    /// How often Argon2id fills the memory.
    public static let passes = 2
    /// How many bytes of memory Argon2id fills.
    public static let memory = 32 << 20

    public let kind: ComponentKind
    /// The number of the kind, then 31 bytes of hash.
    public let bytes: [UInt8]

    /// Reads an id.
    ///
    /// - Returns: `nil` when it has not 32 bytes or is of no kind that there is.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.size, let kind = bytes.first.flatMap(ComponentKind.init) else {
            return nil
        }
        self.kind = kind
        self.bytes = bytes
    }

    /// Makes the id of a component, on the device.
    ///
    /// - Parameters:
    ///   - value: normalised, in UTF-8.
    ///   - salt: the vendor's, 16 bytes.
    /// - Complexity: 32 MiB of memory, and a tenth of a second on a small machine.
    public init(
        _ kind: ComponentKind, value: [UInt8], salt: [UInt8]
    ) throws(CryptoError) {
        let input = framedHash(.hardwareFact, Array(kind.name.utf8), value)
        let hash = try Argon2id(passes: Self.passes, memory: Self.memory)
            .hash(input.span, salt: salt, outputSize: Self.size - 1)
        self.kind = kind
        bytes = [kind.rawValue] + hash
    }

    /// `hw_` and base 32 of 20 bytes of the hash, for people.
    public var description: String { "hw_" + Base32.encode([UInt8](bytes[1..<21])) }

    public static func < (left: Self, right: Self) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}
