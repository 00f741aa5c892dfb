public import HoldfastCrypto
public import HoldfastTPMWire

/// Which vendor: H(vendor, root public key), so that none can pass for another.
///
/// docs/spec/formats.md, "Identifiers".
public struct VendorID: Sendable, Hashable {
    /// 32 bytes; also the unique field of the vendor's attestation key on a device.
    public let bytes: [UInt8]

    /// The id of the vendor with this root key.
    public init(rootKey: Ed25519PublicKey) { bytes = framedHash(.vendor, rootKey.bytes) }
}

/// Which device, for one vendor: H(pairwise, Name of the attestation key).
///
/// Ids of two vendors for one device have nothing in common.
///
/// docs/spec/formats.md, "Identifiers".
public struct PairwiseID: Sendable, Hashable, CustomStringConvertible {
    /// 32 bytes; the whole id decides.
    public let bytes: [UInt8]

    /// The id of the device with this attestation key.
    public init(attestationKey name: TPMName) { bytes = framedHash(.pairwise, name.bytes) }

    /// `dev_` and base 32 of the first 20 bytes, for people.
    public var description: String { "dev_" + Base32.encode([UInt8](bytes[..<20])) }
}

/// A random id of 16 bytes with a text form of its own: `PREFIX_` and base 32.
///
/// docs/spec/formats.md, "Identifiers".
public protocol OpaqueID: Sendable, Hashable, CustomStringConvertible {
    /// Before the underscore.
    static var prefix: String { get }
    /// 16 bytes.
    var bytes: [UInt8] { get }
    /// - Precondition: 16 bytes; use the initializers below for what comes from outside.
    init(unchecked bytes: [UInt8])
}

extension OpaqueID {
    public var description: String { Self.prefix + "_" + Base32.encode(bytes) }

    /// Draws a new one.
    public init(random: RandomSource) { self.init(unchecked: random.bytes(16)) }

    /// - Returns: `nil` for another number of bytes than 16.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        self.init(unchecked: bytes)
    }

    /// Reads the text form.
    ///
    /// - Returns: `nil` when it is not one.
    public init?(parsing text: String) {
        guard text.hasPrefix(Self.prefix + "_"),
            let bytes = try? Base32.decode(
                variableTime: String(text.dropFirst(Self.prefix.count + 1)))
        else { return nil }
        self.init(bytes)
    }
}

/// Which license.
public struct LicenseID: OpaqueID {
    public static let prefix = "lic"
    public let bytes: [UInt8]
    public init(unchecked bytes: [UInt8]) { self.bytes = bytes }
}

/// Which appraisal of evidence.
public struct AppraisalID: OpaqueID {
    public static let prefix = "apr"
    public let bytes: [UInt8]
    public init(unchecked bytes: [UInt8]) { self.bytes = bytes }
}

/// What a signed document is bound to, as PASETO's implicit assertion.
///
/// docs/spec/formats.md, "Tokens".
public enum DeviceBinding {
    /// For what belongs to one license on one device.
    ///
    /// - Parameter licenseID: 16 bytes.
    public static func license(_ licenseID: [UInt8], on attestationKey: TPMName) -> [UInt8] {
        framedHash(.deviceBinding, licenseID, attestationKey.bytes)
    }

    /// For what belongs to one enrollment of a device.
    public static func incarnation(_ number: UInt32, of attestationKey: TPMName) -> [UInt8] {
        framedHash(.deviceBinding, encoded(number), attestationKey.bytes)
    }

    /// The tag in a token's footer by which a device knows that it is meant, 8 bytes.
    ///
    /// - Parameter about: the license id, or the incarnation as four bytes.
    public static func recipientTag(_ about: [UInt8], attestationKey: TPMName) -> [UInt8] {
        [UInt8](framedHash(.recipient, about, attestationKey.bytes)[..<8])
    }

    private static func encoded(_ number: UInt32) -> [UInt8] {
        var writer = WireWriter(capacity: 4)
        writer.uint32(number)
        return writer.bytes
    }
}
