import HoldfastCrypto
public import HoldfastErrors
import HoldfastProtocol
import HoldfastTPMWire

/// There is no enrollment in a state directory.
public struct NotEnrolled: Error, Sendable, Hashable, OperatorError {
    public init() {}

    public var explanation: String { "this device is not enrolled, and no request was made" }
    public var remedy: String? { "run `holdfast enroll`" }
    public var stableCode: String { "UNENROLLED" }
    public var exitStatus: ExitStatus { .refused }
}

/// Who a device is for one vendor; nothing in it names hardware, a host or a person.
public struct DeviceIdentity: Sendable, Hashable, Codable {
    /// The pairwise id as text.
    public let device: String
    /// The vendor id in hexadecimal.
    public let vendor: String
    /// Name of the attestation key in hexadecimal.
    public let attestationKey: String
    /// Name of the lease parent in hexadecimal.
    public let leaseParent: String
    /// Which enrollment of the device this is; absent until the vendor answered.
    public let incarnation: UInt32?

    /// Reads it from the request that was made.
    public init(_ state: StateDirectory) throws {
        guard let request = try state.request() else { throw NotEnrolled() }
        device = PairwiseID(attestationKey: request.keys.attestationKey.name).description
        vendor = Hex.encode(request.keys.vendorID)
        attestationKey = request.keys.attestationKey.name.description
        leaseParent = request.keys.leaseParent.name.description
        incarnation = try state.statement()?.incarnation
    }
}
