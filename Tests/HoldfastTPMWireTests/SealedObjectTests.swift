import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("what a lease demands of its sealed object")
struct SealedObjectTests {
    private let policy = LeasePolicy(
        approvalKey: TPMName(handle: .owner), policyRef: [UInt8](repeating: 1, count: 32),
        epochCounter: KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0001)).written, epoch: 5,
        lowestClock: 10, highestClock: 20, highestResetCount: 3, highestRestartCount: 0)

    private var area: PublicArea {
        PublicArea(
            nameAlgorithm: .sha256, attributes: .noDA, authPolicy: policy.policy.digest,
            kind: .keyedHash(unique: [UInt8](repeating: 2, count: 32)))
    }

    private func expect(
        _ error: SealedObjectError, _ bytes: [UInt8],
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(throws: error, sourceLocation: sourceLocation) {
            try policy.demand(ofSealedObject: bytes)
        }
    }

    @Test("the object of the lease")
    func accepted() throws {
        try policy.demand(ofSealedObject: area.wireBytes)
        var other = area
        other.kind = .keyedHash(unique: [UInt8](repeating: 3, count: 32))
        try policy.demand(ofSealedObject: other.wireBytes)
    }

    @Test("every field of the lease is in the policy")
    func policies() {
        var others = [LeasePolicy](repeating: policy, count: 8)
        others[0].approvalKey = TPMName(handle: .endorsement)
        others[1].policyRef[31] ^= 1
        others[2].epochCounter.index = TPMHandle(rawValue: 0x0180_0002)
        others[3].epoch += 1
        others[4].lowestClock -= 1
        others[5].highestClock += 1
        others[6].highestResetCount += 1
        others[7].highestRestartCount += 1
        for other in others {
            var changed = area
            changed.authPolicy = other.policy.digest
            expect(.otherPolicy, changed.wireBytes)
        }
        var none = area
        none.authPolicy = []
        expect(.otherPolicy, none.wireBytes)
    }

    @Test("every other bit of the attributes", arguments: 0..<32)
    func attributes(_ bit: Int) {
        var changed = area
        changed.attributes = ObjectAttributes(rawValue: changed.attributes.rawValue ^ 1 << bit)
        expect(.otherAttributes, changed.wireBytes)
    }

    @Test("another kind of object, another hash, another length of unique")
    func kinds() {
        var key = area
        key.kind = .ecc(
            symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256,
            x: [UInt8](repeating: 1, count: 32), y: [UInt8](repeating: 1, count: 32))
        expect(.otherKind, key.wireBytes)
        for size in [0, 31, 33] {
            var changed = area
            changed.kind = .keyedHash(unique: [UInt8](repeating: 2, count: size))
            expect(.otherKind, changed.wireBytes)
        }
        var wide = area
        wide.nameAlgorithm = .sha384
        wide.authPolicy = [UInt8](repeating: 0, count: 48)
        expect(.otherKind, wide.wireBytes)
    }

    @Test("cut anywhere, and extended")
    func sizes() {
        let bytes = area.wireBytes
        for length in bytes.indices { expect(.malformed, [UInt8](bytes.prefix(length))) }
        expect(.malformed, bytes + [0])
        expect(.malformed, [])
    }

    @Test("every single bit but those of the unique field")
    func bits() throws {
        let bytes = area.wireBytes
        for bit in 0..<8 * (bytes.count - 32) {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: SealedObjectError.self) {
                try policy.demand(ofSealedObject: changed)
            }
        }
    }
}
