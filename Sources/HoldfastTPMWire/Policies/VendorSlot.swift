/// Where a vendor's objects are on a TPM: one of 128 places.
///
/// A slot says where to look; what is found there counts by its Name alone.
///
/// docs/spec/formats.md, "TPM templates".
public struct VendorSlot: Sendable, Hashable {
    /// 0 to 127.
    public let number: UInt32

    /// Every slot, in the order in which they are taken.
    public static let all: [VendorSlot] = (0..<128).map(VendorSlot.init(number:))

    private init(number: UInt32) { self.number = number }

    /// - Returns: `nil` from 128 on.
    public init?(_ number: UInt32) {
        guard number < 128 else { return nil }
        self.number = number
    }

    /// The slot of an epoch counter.
    ///
    /// - Returns: `nil` when no slot has its epoch counter there.
    public init?(epochCounter handle: TPMHandle) {
        guard let slot = Self.all.first(where: { $0.epochCounter == handle }) else { return nil }
        self = slot
    }

    /// The persistent handle of the lease parent.
    public var leaseParent: TPMHandle { TPMHandle(rawValue: 0x8101_8000 + number) }
    /// The NV index of the epoch counter.
    public var epochCounter: TPMHandle { TPMHandle(rawValue: 0x0180_0100 + 2 * number) }
    /// The NV index of the ledger counter.
    public var ledgerCounter: TPMHandle { TPMHandle(rawValue: 0x0180_0101 + 2 * number) }
}
