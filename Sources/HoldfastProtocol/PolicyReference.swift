import HoldfastCrypto
public import HoldfastTPMWire

/// What an approval of a boot state is for; its hash is the policyRef in the TPM's policy.
///
/// Everything that must not be exchanged between approvals is in it. Without scope, bank and
/// selection the approval of one laboratory device would open every lease of the product.
///
/// docs/spec/formats.md, "Policy reference".
public struct PolicyReference: Sendable, Hashable {
    /// What the approved state may do.
    public enum Role: Sendable, Hashable {
        /// Open leases of a product.
        case lease(product: String)
        /// Sign checkpoints of the ledger.
        case ledger

        /// `lease PRODUCT` or `ledger`, for people.
        public var text: String {
            switch self {
            case .lease(let product): "lease \(product)"
            case .ledger: "ledger"
            }
        }
    }

    /// Which devices.
    public enum Scope: Sendable, Hashable {
        /// A vendor's name for a kind of machine.
        case model(String)
        /// One device, by its whole pairwise id of 32 bytes.
        case device([UInt8])

        /// `model:NAME` or `device:` and 64 hexadecimal digits.
        public var text: String {
            switch self {
            case .model(let name): "model:" + name
            case .device(let id): "device:" + Hex.encode(id)
            }
        }
    }

    public let role: Role
    public let scope: Scope
    /// Raised to withdraw the approvals of earlier generations with the next lease.
    public let generation: UInt32
    public let selection: PCRSelection

    /// The longest product and model name in bytes of UTF-8.
    public static let maximumNameSize = 64

    /// - Throws: `.malformed` when a name is empty or too long, a device id has not 32 bytes, or the
    ///   selection is empty, of several banks, of SHA-1, or has a PCR that anyone can reset.
    public init(
        role: Role, scope: Scope, generation: UInt32, selection: PCRSelection
    ) throws(DocumentError) {
        func named(_ text: String) -> Bool { (1...Self.maximumNameSize).contains(text.utf8.count) }
        if case .lease(let product) = role, !named(product) { throw .malformed(.policyReference) }
        switch scope {
        case .model(let name): guard named(name) else { throw .malformed(.policyReference) }
        case .device(let id): guard id.count == 32 else { throw .malformed(.policyReference) }
        }
        guard let bank = selection.banks.first, selection.banks.count == 1, bank.hash != .sha1,
            !bank.indexes.isEmpty, bank.indexes.allSatisfy({ $0.rawValue < 16 })
        else { throw .malformed(.policyReference) }
        self.role = role
        self.scope = scope
        self.generation = generation
        self.selection = selection
    }

    /// The policyRef, 32 bytes: H(policy-ref, product, role, scope, generation, bank, selection).
    public var policyRef: [UInt8] {
        var number = WireWriter(capacity: 4)
        number.uint32(generation)
        var bank = WireWriter(capacity: 2)
        bank.uint16(selection.banks[0].hash.id.rawValue)
        let product: [UInt8]?
        let name: String
        switch role {
        case .lease(let text): (product, name) = (Array(text.utf8), "lease")
        case .ledger: (product, name) = (nil, "ledger")
        }
        return framedHash(
            .policyReference, product, Array(name.utf8), Array(scope.text.utf8), number.bytes,
            bank.bytes, selection.wireBytes)
    }

    /// The parts as a section: role, product, scope, generation, selection.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: 128)
        switch role {
        case .lease(let product):
            writer.uint8(1)
            writer.sized(Array(product.utf8))
        case .ledger:
            writer.uint8(2)
            writer.sized([])
        }
        switch scope {
        case .model(let name):
            writer.uint8(1)
            writer.sized(Array(name.utf8))
        case .device(let id):
            writer.uint8(2)
            writer.sized(id)
        }
        writer.uint32(generation)
        selection.encode(into: &writer)
        return writer.bytes
    }

    /// Reads the section.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        let parts: (UInt8, [UInt8], UInt8, [UInt8], UInt32, PCRSelection)
        var reader = WireReader(bytes)
        do throws(WireError) {
            parts = (
                try reader.uint8(), try reader.sized("product", maximum: Self.maximumNameSize),
                try reader.uint8(), try reader.sized("scope", maximum: Self.maximumNameSize),
                try reader.uint32(), try PCRSelection(from: &reader)
            )
            try reader.finish()
        } catch {
            throw .malformed(.policyReference)
        }
        let role: Role
        switch (parts.0, String(validating: parts.1, as: UTF8.self)) {
        case (1, let product?): role = .lease(product: product)
        case (2, _) where parts.1.isEmpty: role = .ledger
        default: throw .malformed(.policyReference)
        }
        let scope: Scope
        switch (parts.2, String(validating: parts.3, as: UTF8.self)) {
        case (1, let name?): scope = .model(name)
        case (2, _): scope = .device(parts.3)
        default: throw .malformed(.policyReference)
        }
        try self.init(role: role, scope: scope, generation: parts.4, selection: parts.5)
    }
}
