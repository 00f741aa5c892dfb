import HoldfastCrypto
import HoldfastTCTI
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite struct SmokeTests {
    @Test func smoke() throws {
        let tpm = TPMConnection(try openTransport("unix:/tmp/swt/tpm.sock"), random: .system)
        print(try tpm.run(GetRandomCommand(count: 8)))
        print(try tpm.activeBanks(), try tpm.clock())
        print(try tpm.properties().count, try tpm.commands().count)
        let cert = try tpm.endorsementCertificate(.eccP384)
        print(cert?.count as Any)
        let vendor = [UInt8](repeating: 7, count: 32)
        let random = RandomSource.system
        try tpm.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            print("ek", ek.name)
            let ak = try tpm.withPrimary(
                KeyTemplate.attestationKey(vendorID: vendor), in: .endorsement
            ) { (ak) throws(TPMError) in
                let secret = SecretBytes(copying: random.bytes(32))
                guard
                    let blob = try? CredentialBlob(
                        protecting: secret, for: ak.name, key: ek.publicArea, random: .system)
                else { throw TPMError(.busy, "") }
                let opened = try tpm.activateCredential(
                    blob, for: ak, endorsementKey: ek, kind: .eccP384)
                print("activated", opened.count)
                let q = try tpm.quote(
                    PCRSelection(.sha256, PCRIndex.firmware), by: ak, nonce: random.bytes(32))
                print(q.quote.attestation.value.clockInfo)
                return 1
            }
            print(ak)
        }
        try tpm.withPrimary(KeyTemplate.leaseParent(unique: vendor), in: .owner) {
            (parent) throws(TPMError) in
            let auth = random.bytes(32)
            let free = TPMHandle(rawValue: 0x0180_0100)
            if let old = try tpm.nvPublicArea(at: free) {
                try tpm.run(
                    NVUndefineSpaceCommand(EntityReference(free, name: old.name)), [.emptyAuth])
            }
            let epoch = try tpm.defineCounter(
                KeyTemplate.counter(at: free), authValue: auth, salt: parent)
            let n = try tpm.readCounter(epoch)
            print("epoch", n)
            let vendorKey = ECPrivateKey(curve: .p256, random: random)
            let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
            let values = try tpm.readPCRs(selection)
            let ref = random.bytes(32)
            guard
                let approval = try? PCRApproval(
                    selection: selection,
                    pcrDigest: values.digest(of: selection, hash: .sha256)!, policyRef: ref,
                    signingWith: vendorKey)
            else { throw TPMError(.busy, "") }
            let clock = try tpm.clock()
            let lease = LeasePolicy(
                approvalKey: approval.key.name, policyRef: ref, epochCounter: epoch, epoch: n,
                lowestClock: 0, highestClock: clock.clock + 1_000_000, highestResetCount: 1000,
                highestRestartCount: 0)
            let secret = SecretBytes(copying: random.bytes(32))
            guard
                let blob = try? ImportBlob(
                    sealing: secret, attributes: KeyTemplate.sealedLeaseAttributes,
                    policy: lease.policy.digest, parent: parent.publicArea, random: random)
            else { throw TPMError(.busy, "") }
            let priv = try tpm.importBlob(blob, below: parent)
            try tpm.withLoaded(privateBlob: priv, publicArea: blob.publicArea, below: parent) {
                (object) throws(TPMError) in
                let opened = try tpm.unseal(
                    object, policy: lease.policy, with: PolicyMeans(approvals: [approval]),
                    salt: parent)
                print("unsealed", opened.count)
                let same = opened.withBytes { a in
                    secret.withBytes { b in
                        a.indices.allSatisfy { a[$0] == b[$0] }
                    }
                }
                #expect(same)
            }
        }
        #expect(tpm.occupiedSlots == 0)
    }
}
