import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("policy digests")
struct PolicyTests {
    @Test(
        "the endorsement key policies of the EK Credential Profile",
        arguments: [
            (
                HashAlgorithm.sha256,
                "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa",
                "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
            ),
            (
                HashAlgorithm.sha384,
                "8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53",
                "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
            ),
        ])
    func endorsement(hash: HashAlgorithm, policyA: String, either: String) {
        let policy = KeyTemplate.endorsementPolicy(hash)
        #expect(hexadecimal(policy.policyA.digest) == policyA)
        #expect(hexadecimal(policy.digest) == either)
    }

    @Test("PolicyAuthorize forgets what came before it")
    func authorizeResets() throws {
        let key = TPMName(hash: .sha256, publicArea: [1])
        let authorize = PolicyAssertion.authorize(key: key, policyRef: [2])
        let pcr = PolicyAssertion.pcr(
            PCRSelection(.sha256, [PCRIndex.all[7]]), digest: [UInt8](repeating: 3, count: 32))
        let alone = Policy(hash: .sha256, [authorize]).digest
        #expect(Policy(hash: .sha256, [pcr, authorize]).digest == alone)
        #expect(Policy(hash: .sha256, [authorize, pcr]).digest != alone)
        let other = PolicyAssertion.authorize(key: key, policyRef: [3])
        #expect(Policy(hash: .sha256, [other]).digest != alone)
    }

    private static let lease = LeasePolicy(
        approvalKey: TPMName(hash: .sha256, publicArea: [1]),
        policyRef: [UInt8](repeating: 2, count: 32),
        epochCounter: KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0100)).written, epoch: 5,
        lowestClock: 1000, highestClock: 2000, highestResetCount: 3, highestRestartCount: 0)

    @Test("each field of a lease policy changes its digest", arguments: 0..<8)
    func everyFieldCounts(field: Int) {
        var changed = Self.lease
        switch field {
        case 0: changed.approvalKey = TPMName(hash: .sha256, publicArea: [2])
        case 1: changed.policyRef[31] ^= 1
        case 2: changed.epochCounter.index = TPMHandle(rawValue: 0x0180_0102)
        case 3: changed.epoch += 1
        case 4: changed.lowestClock += 1
        case 5: changed.highestClock += 1
        case 6: changed.highestResetCount += 1
        default: changed.highestRestartCount += 1
        }
        #expect(changed.policy.digest != Self.lease.policy.digest)
        #expect(changed.policy.assertions.count == 6)
    }

    @Test("the lower bound of the clock saturates")
    func lowestClock() {
        #expect(LeasePolicy.lowestClock(issuedAt: 0) == 0)
        #expect(LeasePolicy.lowestClock(issuedAt: 4_200_000) == 0)
        #expect(LeasePolicy.lowestClock(issuedAt: 4_200_001) == 1)
        #expect(LeasePolicy.lowestClock(issuedAt: .max) == UInt64.max - 4_200_000)
    }

    @Test("an approval verifies under its key, and not when a byte of it differs")
    func approval() throws {
        let key = ECPrivateKey(curve: .p256, random: .system)
        let approval = try PCRApproval(
            selection: PCRSelection(.sha256, [PCRIndex.all[7]]),
            pcrDigest: [UInt8](repeating: 1, count: 32),
            policyRef: [UInt8](repeating: 2, count: 32), signingWith: key)
        guard case .ecdsa(.sha256, let r, let s) = approval.signature else {
            Issue.record("an approval is signed with ECDSA and SHA-256")
            return
        }
        try key.publicKey.verifyECDSA(r: r, s: s, over: approval.signedBytes, hash: .sha256)
        var other = approval
        other.policyRef[0] ^= 1
        #expect(throws: KeyError.signatureInvalid) {
            try key.publicKey.verifyECDSA(r: r, s: s, over: other.signedBytes, hash: .sha256)
        }
        other = approval
        other.pcrDigest[0] ^= 1
        #expect(throws: KeyError.signatureInvalid) {
            try key.publicKey.verifyECDSA(r: r, s: s, over: other.signedBytes, hash: .sha256)
        }
    }
}
