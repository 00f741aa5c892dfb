import Foundation
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastStage
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// What tpm2-tools, which shares no code with us, says of the same things.
@Suite("tpm2-tools agrees", .timeLimit(.minutes(20)))
struct OracleTests {
    @Test("the policy digest of a lease is the one that tpm2_policy… compute")
    func leasePolicy() throws {
        let machine = try OracleMachine()
        let connection = machine.machine.connection(random: .system)
        let stage = try LeaseStage(connection, random: .system)
        let reference = RandomSource.system.bytes(32)
        let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
        let approval = try stage.approvePresent(selection, policyRef: reference)
        let lease = try stage.leasePolicy(
            policyRef: reference, milliseconds: 86_400_000, moreResets: 4)
        connection.endTransaction()

        var operand = WireWriter()
        operand.uint64(lease.epoch)
        try machine.write(operand.bytes, "epoch")
        try machine.write(reference, "reference")
        try machine.write(lease.approvalKey.bytes, "key.name")
        let index = stage.epochCounter.index.description
        let branches = KeyTemplate.counterPolicy.branchDigests(
            [[.commandCode(.policyNV)], [.commandCode(.nvRead)], [.commandCode(.nvCertify)]],
            from: [UInt8](repeating: 0, count: 32))
        for (number, branch) in branches.enumerated() {
            try machine.write(branch, "branch\(number)")
        }
        let status = try machine.run(
            """
            tpm2_startauthsession -S pcr.ctx
            tpm2_policypcr -S pcr.ctx -l \(selection.text) -L approved
            tpm2_flushcontext pcr.ctx
            tpm2_startauthsession -S trial.ctx
            tpm2_policyauthorize -S trial.ctx -i approved -q reference -n key.name -L digest
            tpm2_startauthsession --policy-session -S index.ctx
            tpm2_policycommandcode -S index.ctx TPM2_CC_PolicyNV
            tpm2_policyor -S index.ctx -L or sha256:branch0,branch1,branch2
            tpm2_policynv -S trial.ctx -C \(index) -P session:index.ctx -i epoch -L digest \
            \(index) eq
            tpm2_policycountertimer -S trial.ctx -L digest --uge clock=\(lease.lowestClock)
            tpm2_policycountertimer -S trial.ctx -L digest --ule clock=\(lease.highestClock)
            tpm2_policycountertimer -S trial.ctx -L digest --ule resets=\(lease.highestResetCount)
            tpm2_policycountertimer -S trial.ctx -L digest \
            --ule restarts=\(lease.highestRestartCount)
            """)
        #expect(status == 0)
        #expect(try machine.read("approved") == approval.policy.digest)
        #expect(try machine.read("or") == KeyTemplate.counterPolicy.digest)
        #expect(try machine.read("digest") == lease.policy.digest)
    }

    @Test("tpm2_checkquote accepts our quote, and no other nonce and no other message")
    func checkQuote() throws {
        let machine = try OracleMachine()
        let connection = machine.machine.connection(random: .system)
        let nonce = RandomSource.system.bytes(20)
        let selection = try #require(PCRSelection(text: "sha256:0,2,7+sha384:4"))
        try connection.withPrimary(KeyTemplate.attestationKey(vendorID: []), in: .endorsement) {
            (key) throws(TPMError) in
            let made = try connection.quote(selection, by: key, nonce: nonce)
            var area = WireWriter()
            area.sized(key.publicArea.wireBytes)
            do {
                try machine.write(area.bytes, "public")
                try machine.write(made.quote.attestation.bytes, "message")
                try machine.write(made.quote.signature.bytes, "signature")
                var changed = made.quote.attestation.bytes
                changed[changed.count - 1] ^= 1
                try machine.write(changed, "changed")
            } catch {
                throw TPMError(.invalidRequest, "\(error)")
            }
        }
        connection.endTransaction()
        let check = "tpm2_checkquote -u public -s signature -q "
        #expect(try machine.run(check + hexadecimal(nonce) + " -m message") == 0)
        #expect(try machine.run(check + hexadecimal(nonce.reversed()) + " -m message") != 0)
        #expect(try machine.run(check + hexadecimal(nonce) + " -m changed") != 0)
    }

    @Test("a blob of tpm2_makecredential opens, and not when a bit of it differs")
    func credential() throws {
        let machine = try OracleMachine()
        let connection = machine.machine.connection(random: .system)
        let secret = RandomSource.system.bytes(32)
        try machine.write(secret, "secret")
        let template = KeyTemplate.attestationKey(vendorID: RandomSource.system.bytes(32))
        let keys = try connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try connection.withPrimary(template, in: .endorsement) { (ak) throws(TPMError) in
                (ek.publicArea, ak.name)
            }
        }
        connection.endTransaction()
        var area = WireWriter()
        area.sized(keys.0.wireBytes)
        try machine.write(area.bytes, "ek.public")
        let made = try machine.run(
            "tpm2_makecredential -u ek.public -s secret -n \(keys.1) -o credential")
        #expect(made == 0)

        // The file: magic and version, then TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
        var reader = WireReader([UInt8](try machine.read("credential").dropFirst(8)))
        let blob = CredentialBlob(
            identityObject: try reader.sized("id", maximum: 256),
            encryptedSecret: try reader.sized("secret", maximum: 256))
        try connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try connection.withPrimary(template, in: .endorsement) { (ak) throws(TPMError) in
                let opened = try connection.activateCredential(
                    blob, for: ak, endorsementKey: ek, kind: .eccP384)
                #expect(opened.withBytes { bytes in bytes.indices.map { bytes[$0] } } == secret)
                var damaged = blob.identityObject
                damaged[damaged.count - 1] ^= 1
                let other = CredentialBlob(
                    identityObject: damaged, encryptedSecret: blob.encryptedSecret)
                do throws(TPMError) {
                    _ = try connection.activateCredential(
                        other, for: ak, endorsementKey: ek, kind: .eccP384)
                    Issue.record("a damaged credential was opened")
                } catch {
                    #expect(error.returnCode == ReturnCode(rawValue: 0x1DF))
                }
            }
        }
    }

    @Test("tpm2_pcrread and our YAML say the same")
    func pcrValues() throws {
        let machine = try OracleMachine()
        let connection = machine.machine.connection(random: .system)
        let selection = try #require(PCRSelection(text: "sha256:0,1,7,10,23+sha384:7"))
        let ours = try connection.readPCRs(selection).yaml
        connection.endTransaction()
        #expect(try machine.run("tpm2_pcrread \(selection.text) > theirs") == 0)
        let theirs = String(decoding: try machine.read("theirs"), as: UTF8.self)
        #expect(words(theirs) == words(ours))
    }

    private func words(_ text: String) -> [Substring] {
        text.split { $0 == " " || $0 == "\n" || $0 == ":" }
    }
}
