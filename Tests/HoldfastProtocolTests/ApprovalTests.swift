import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("approvals")
struct ApprovalTests {
    private static let key = ECPrivateKey(curve: .p256, random: .system)

    private func values(_ byte: UInt8 = 7) -> PCRValues {
        var values = PCRValues()
        for index in PCRIndex.all.prefix(12) {
            values[.sha256, index] = [UInt8](repeating: byte, count: 32)
        }
        return values
    }

    private func reference(
        role: PolicyReference.Role = .lease(product: "mapper"),
        scope: PolicyReference.Scope = .model("gateway-3"), generation: UInt32 = 1,
        pcrs: String = "sha256:7,11"
    ) throws -> PolicyReference {
        try PolicyReference(
            role: role, scope: scope, generation: generation,
            selection: #require(PCRSelection(text: pcrs)))
    }

    private func document() throws -> ApprovalDocument {
        try ApprovalDocument(
            reference: reference(), values: values(), note: "October firmware",
            signingWith: Self.key)
    }

    @Test("an approval is read as it was written")
    func roundTrip() throws {
        let made = try document()
        let read = try ApprovalDocument(
            decoding: made.encoded(), trusting: Self.key.publicKey)
        #expect(read.reference == made.reference)
        #expect(read.approval == made.approval)
        #expect(read.note == "October firmware")
        #expect(read.values.values.count == 2)
    }

    @Test("no bit of an approval but those of its note can be changed")
    func bitFlips() throws {
        let bytes = try document().encoded()
        let noteBits = (bytes.count - 16) * 8
        for bit in 0..<noteBits {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: (any Error).self, "bit \(bit)") {
                try ApprovalDocument(decoding: changed, trusting: Self.key.publicKey)
            }
        }
    }

    @Test("an approval that is cut or has more behind it is refused")
    func lengths() throws {
        let bytes = try document().encoded()
        // Without the note, which is the last section, it is whole.
        for length in 0..<bytes.count - 22 {
            #expect(throws: (any Error).self) {
                try ApprovalDocument(
                    decoding: [UInt8](bytes[..<length]), trusting: Self.key.publicKey)
            }
        }
        #expect(throws: DocumentError.lengthWrong) {
            try ApprovalDocument(decoding: bytes + [0], trusting: Self.key.publicKey)
        }
    }

    @Test("the approval of another vendor's key is refused, whatever key it brings along")
    func foreignKey() throws {
        let other = ECPrivateKey(curve: .p256, random: .system)
        #expect(throws: DocumentError.malformed(.approvalKey)) {
            try ApprovalDocument(decoding: document().encoded(), trusting: other.publicKey)
        }
    }

    @Test("a boot state in which nothing was measured is not approved")
    func unmeasured() throws {
        #expect(throws: DocumentError.malformed(.approvedPCRValues)) {
            try ApprovalDocument(
                reference: reference(), values: values(0), note: "", signingWith: Self.key)
        }
        #expect(throws: DocumentError.missing(.approvedPCRValues)) {
            try ApprovalDocument(
                reference: reference(), values: PCRValues(), note: "", signingWith: Self.key)
        }
    }

    @Test("each part of a policy reference changes the policyRef")
    func policyRef() throws {
        var seen: Set<[UInt8]> = []
        let device = [UInt8](repeating: 5, count: 32)
        for reference in [
            try reference(), try reference(role: .lease(product: "planner")),
            try reference(role: .ledger), try reference(scope: .model("gateway-4")),
            try reference(scope: .device(device)), try reference(generation: 2),
            try reference(pcrs: "sha256:7"), try reference(pcrs: "sha384:7,11"),
        ] {
            #expect(seen.insert(reference.policyRef).inserted)
            #expect(try PolicyReference(decoding: reference.encoded) == reference)
        }
    }

    @Test("the policyRef of these parts, computed with Python's hashlib, is this")
    func knownPolicyRef() throws {
        #expect(
            Hex.encode(try reference().policyRef)
                == "0101608bcb389c90b25d8cfed86096380904754ac325b2bfe0b13666cc1be862")
    }

    @Test(
        "selections that prove nothing are refused",
        arguments: ["sha256:16", "sha256:7,23", "sha256:17", "sha1:7", "sha256:7+sha384:7"])
    func selections(text: String) throws {
        #expect(throws: DocumentError.malformed(.policyReference)) { try reference(pcrs: text) }
    }

    @Test("names that are empty or too long are refused")
    func names() throws {
        let long = String(repeating: "x", count: 65)
        #expect(throws: DocumentError.malformed(.policyReference)) {
            try reference(role: .lease(product: ""))
        }
        #expect(throws: DocumentError.malformed(.policyReference)) {
            try reference(role: .lease(product: long))
        }
        #expect(throws: DocumentError.malformed(.policyReference)) {
            try reference(scope: .model(long))
        }
        #expect(throws: DocumentError.malformed(.policyReference)) {
            try reference(scope: .device([1, 2, 3]))
        }
    }
}
