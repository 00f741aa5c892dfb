import HoldfastCrypto
import HoldfastStage
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("sealing to this TPM", .timeLimit(.minutes(20)))
struct SealingTests {
    private static let pin = SymmetricSecret(Array("2580".utf8))
    private static let otherPIN = SymmetricSecret(Array("0852".utf8))

    private func bytes(_ secret: borrowing SecretBytes) -> [UInt8] {
        secret.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }

    private func seal(
        _ secret: [UInt8], _ text: String, pin: SymmetricSecret? = nil, _ tpm: TPMConnection
    ) throws -> SealedBlob {
        let policy = try tpm.policy(PolicyText(text), keys: [:])
        let made = try tpm.seal(SecretBytes(copying: secret), policy: policy, pin: pin)
        // What is opened is what lay in the file.
        return try SealedBlob(file: made.wireBytes)
    }

    private func refusal(
        _ blob: SealedBlob, _ tpm: TPMConnection, pin: SymmetricSecret? = nil
    ) -> TPMError? {
        do throws(TPMError) {
            _ = try tpm.unseal(blob, with: UnsealingMeans(pin: pin))
            return nil
        } catch { return error }
    }

    @Test("it opens while the PCRs stay, after a reboot too, and names the ones that changed")
    func pcrs() throws {
        let machine = try TestTPM()
        let secret = RandomSource.system.bytes(32)
        let blob = try seal(secret, "pcrs sha256:7", machine.connection)
        #expect(try bytes(machine.connection.unseal(blob, with: UnsealingMeans())) == secret)
        try machine.reboot()
        #expect(try bytes(machine.connection.unseal(blob, with: UnsealingMeans())) == secret)
        try machine.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        let error = refusal(blob, machine.connection)
        #expect(error?.code == .pcrsChanged)
        #expect(error?.description.contains("PCR 7 changed") == true)
        #expect(machine.connection.occupiedSlots == 0)
    }

    @Test("the PIN opens it; a wrong one and none do not, and the tries that are left are told")
    func pin() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let secret = RandomSource.system.bytes(16)
        let blob = try seal(secret, "pcrs 7 and pin", pin: Self.pin, tpm)
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans(pin: Self.pin))) == secret)
        #expect(refusal(blob, tpm)?.code == .pinNeeded)
        let before = try tpm.lockoutState().triesLeft
        let error = refusal(blob, tpm, pin: Self.otherPIN)
        #expect(error?.code == .pinWrong)
        let left = try tpm.lockoutState().triesLeft
        // One PIN, one try.
        #expect(left == before - 1)
        #expect(error?.description.contains(left == 1 ? "1 try is left" : "\(left) tries") == true)
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans(pin: Self.pin))) == secret)
        #expect(tpm.occupiedSlots == 0)
    }

    @Test("in lockout the right PIN is refused as well, and the wait is told; no lease is touched")
    func lockout() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let secret = RandomSource.system.bytes(16)
        let guessable = try seal(secret, "pin", pin: Self.pin, tpm)
        let plain = try seal(secret, "pcrs 7", tpm)
        for _ in 0..<(try tpm.lockoutState().triesLeft) {
            #expect(refusal(guessable, tpm, pin: Self.otherPIN)?.code == .pinWrong)
        }
        let error = refusal(guessable, tpm, pin: Self.pin)
        #expect(error?.code == .lockedOut)
        #expect(error?.description.contains("in at most") == true)
        // Without a PIN it is exempt: somebody else's wrong ones do not matter.
        #expect(try bytes(tpm.unseal(plain, with: UnsealingMeans())) == secret)
        #expect(tpm.occupiedSlots == 0)
    }

    @Test(
        "of several ways the one that is open is taken, and a PIN is only spent where it is asked")
    func ways() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let secret = RandomSource.system.bytes(16)
        let blob = try seal(
            secret, "(pcrs 7 or (pin or clock <= 1) and command unseal)", pin: Self.pin, tpm)
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans())) == secret)
        try tpm.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        #expect(refusal(blob, tpm)?.code == .pinNeeded)
        #expect(refusal(blob, tpm, pin: Self.otherPIN)?.code == .pinWrong)
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans(pin: Self.pin))) == secret)
        #expect(tpm.occupiedSlots == 0)
    }

    @Test("secret, PIN and what is released do not go over the bus as they are")
    func hidden() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let secret = Array("0123456789abcdef-a-secret".utf8)
        let pin = SymmetricSecret(Array("long-enough-a-pin".utf8))
        var bus: [[UInt8]] = []
        machine.interposer.before = { _, _ in bus.append(machine.interposer.lastCommand) }
        machine.interposer.alter = { _, response in
            bus.append(response)
            return response
        }
        let blob = try seal(secret, "pcrs 7 and pin", pin: pin, tpm)
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans(pin: pin))) == secret)
        #expect(!bus.isEmpty)
        for message in bus {
            #expect(message.firstRange(of: secret) == nil)
            #expect(message.firstRange(of: Array("long-enough".utf8)) == nil)
        }
    }

    @Test(
        "with a pinned key the session is salted to that, and an interposer has nothing to replace")
    func pinnedSalt() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let stage = try LeaseStage(tpm, random: .system)
        var salts: [UInt32] = []
        machine.interposer.before = { code, _ in
            guard code == .startAuthSession else { return }
            let command = machine.interposer.lastCommand
            salts.append(command[10..<14].reduce(0) { $0 << 8 | UInt32($1) })
        }
        let policy = try tpm.policy(PolicyText("pcrs 7"), keys: [:])
        let blob = try tpm.seal(
            SecretBytes(copying: [1, 2, 3]), policy: policy, pin: nil, salt: stage.parent)
        #expect(salts == [stage.parent.handle.rawValue])
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans())) == [1, 2, 3])
    }

    @Test("a changed response to TPM2_Create or TPM2_Unseal is noticed")
    func interposed() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let policy = try tpm.policy(PolicyText("pcrs 7"), keys: [:])
        for target in [CommandCode.create, .unseal] {
            machine.interposer.alter = { code, response in
                guard code == target, response.count > 40 else { return response }
                var changed = response
                changed[24] ^= 1
                return changed
            }
            let error: TPMError?
            do throws(TPMError) {
                let blob = try tpm.seal(
                    SecretBytes(copying: [1, 2, 3]), policy: policy, pin: nil)
                _ = try tpm.unseal(blob, with: UnsealingMeans())
                error = nil
            } catch let caught { error = caught }
            #expect([.responseNotAuthentic, .malformedResponse].contains(error?.code))
        }
    }

    @Test(
        "PCRs that guard nothing are refused",
        arguments: ["pcrs sha256:0", "pcrs sha256:16", "pcrs sha256:7,23", "pcrs 11"])
    func unmeasured(text: String) throws {
        let machine = try TestTPM()
        let policy = try machine.connection.policy(PolicyText(text), keys: [:])
        #expect {
            _ = try machine.connection.seal(
                SecretBytes(copying: [1]), policy: policy, pin: nil)
        } throws: { ($0 as? TPMError)?.code == .notMeasured }
    }

    @Test("a blob of another TPM, or of this one before it was cleared, says so")
    func otherTPM() throws {
        let machine = try TestTPM()
        let blob = try seal([1, 2, 3], "pcrs 7", machine.connection)
        let other = try TestTPM(freshSeeds: true)
        #expect(refusal(blob, other.connection)?.code == .blobForeign)
        try machine.connection.run(ClearCommand(), [.emptyAuth])
        #expect(refusal(blob, machine.connection)?.code == .blobForeign)
    }

    @Test("no bit of a blob can be changed but in what only feeds messages")
    func changed() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let secret = RandomSource.system.bytes(8)
        let blob = try seal(secret, "pcrs 7 and command unseal", tpm)
        let file = blob.wireBytes
        // The values of PCRs stand at the end: two bytes of the bank, one of the number, the digest.
        let decisive = file.count - (1 + 2 + 1 + 32)
        for place in stride(from: 0, to: decisive, by: 7) {
            var bytes = file
            bytes[place] ^= 0x10
            guard let read = try? SealedBlob(file: bytes) else { continue }
            #expect(refusal(read, tpm) != nil, "byte \(place)")
        }
        for cut in stride(from: 0, to: file.count, by: 11) {
            #expect(throws: SealedObjectError.self) { try SealedBlob(file: Array(file[..<cut])) }
        }
        #expect(throws: SealedObjectError.self) { try SealedBlob(file: file + [0]) }
        #expect(try bytes(tpm.unseal(blob, with: UnsealingMeans())) == secret)
    }

    @Test("what would never open, or would ask for nothing, is not sealed")
    func useless() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let written = try tpm.policy(PolicyText("nv-written yes"), keys: [:])
        #expect {
            _ = try tpm.seal(SecretBytes(copying: [1]), policy: written, pin: nil)
        } throws: { ($0 as? TPMError)?.code == .policyNotMet }
        let pin = try tpm.policy(PolicyText("pin"), keys: [:])
        #expect {
            _ = try tpm.seal(SecretBytes(copying: [1]), policy: pin, pin: nil)
        } throws: { ($0 as? TPMError)?.code == .pinNeeded }
        let long = try tpm.policy(PolicyText("pcrs 7"), keys: [:])
        #expect {
            _ = try tpm.seal(
                SecretBytes(copying: [UInt8](repeating: 1, count: 129)), policy: long, pin: nil)
        } throws: { ($0 as? TPMError)?.code == .invalidRequest }
    }

    @Test("what is sealed to is what the TPM vouches for: who changes an answer gains nothing")
    func vouched() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let stage = try LeaseStage(tpm, random: .system)
        let index = stage.epochCounter.index
        let texts: [(String, CommandCode)] = [
            ("pcrs 7", .pcrRead), ("nv \(index) >= 0000000000000000", .nvReadPublic),
            ("secret \(index)", .nvReadPublic),
            ("secret \(stage.parent.handle)", .readPublic),
        ]
        for (text, target) in texts {
            let parsed = try PolicyText(text)
            for salt in [stage.parent, nil] {
                // A bit of the last value: of what is read, not of how it is told.
                for place in [5, 40] {
                    machine.interposer.alter = { code, response in
                        guard code == target, response.count > 60 else { return response }
                        var changed = response
                        let end =
                            response[1] == 1
                            ? response.count
                            : 14 + Int(response[12]) << 8 + Int(response[13])
                        changed[min(end, response.count) - place] ^= 1
                        return changed
                    }
                    #expect {
                        _ = try tpm.seal(
                            SecretBytes(copying: [1]), under: parsed, keys: [:], pin: nil,
                            salt: salt)
                    } throws: { error in
                        [.responseNotAuthentic, .malformedResponse, .refused].contains(
                            (error as? TPMError)?.code)
                    }
                }
                machine.interposer.alter = nil
            }
        }
        let blob = try tpm.seal(
            SecretBytes(copying: [9]),
            under: PolicyText("pcrs 7 and nv \(index) >= 0000000000000000"),
            keys: [:], pin: nil, salt: stage.parent)
        #expect(
            try bytes(tpm.unseal(blob, with: UnsealingMeans(salt: stage.parent))) == [9])
        try expectNoSlots(of: tpm)
    }

    @Test("a way that is closed, whatever closes it, does not keep another one from being tried")
    func closedWays() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let key = ECPrivateKey(curve: .p256, random: .system)
        let keys = ["key": KeyTemplate.approvalKey(key.publicKey)]
        func sealed(_ text: String) throws -> SealedBlob {
            try tpm.seal(
                SecretBytes(copying: [5]), under: PolicyText(text), keys: keys, pin: Self.pin)
        }
        let before = try tpm.lockoutState().triesLeft
        // No signature is there.
        let approved = try sealed("(approved by key or pin)")
        #expect(try bytes(tpm.unseal(approved, with: UnsealingMeans(pin: Self.pin))) == [5])
        #expect(refusal(approved, tpm, pin: Self.otherPIN)?.code == .pinWrong)
        #expect(refusal(approved, tpm)?.code == .pinNeeded)
        // The password of the owner is another one than was given; the PIN has nothing to do with it.
        let owned = try sealed("(secret owner or pin)")
        var means = UnsealingMeans(
            secrets: [TPMName(handle: .owner): SymmetricSecret(Array("wrong".utf8))])
        #expect { _ = try tpm.unseal(owned, with: means) } throws: {
            ($0 as? TPMError)?.code == .pinNeeded
        }
        means.pin = Self.pin
        #expect(try bytes(tpm.unseal(owned, with: means)) == [5])
        // What it asks for is not there any more.
        let stage = try LeaseStage(tpm, random: .system)
        let gone = try sealed("(secret \(stage.parent.handle) or pin)")
        try tpm.removePersistent(stage.parent)
        #expect(try bytes(tpm.unseal(gone, with: UnsealingMeans(pin: Self.pin))) == [5])
        #expect(refusal(gone, tpm)?.code == .pinNeeded)
        #expect(try tpm.lockoutState().triesLeft == before - 1)
        try expectNoSlots(of: tpm)
    }

    @Test("after a change the register is named, and a missing signature is no missing approval")
    func changedOrUnsigned() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let key = ECPrivateKey(curve: .p256, random: .system)
        let keys = ["key": KeyTemplate.approvalKey(key.publicKey)]
        func sealed(_ text: String) throws -> SealedBlob {
            try tpm.seal(SecretBytes(copying: [5]), under: PolicyText(text), keys: keys, pin: nil)
        }
        let either = try sealed("(pcrs 7 or approved by key)")
        let signed = try sealed("approved by key")
        try tpm.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        #expect(refusal(either, tpm)?.code == .pcrsChanged)
        let error = refusal(signed, tpm)
        #expect(error?.code == .policyNotMet)
        #expect(error?.description.contains("--approval") == true)
        let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
        let digest = try #require(
            try tpm.readPCRs(selection).digest(of: selection, hash: .sha256))
        let approval = try PCRApproval(
            selection: selection, pcrDigest: digest, policyRef: [], signingWith: key)
        for blob in [either, signed] {
            #expect(
                try bytes(tpm.unseal(blob, with: UnsealingMeans(approvals: [approval]))) == [5])
        }
        #expect(throws: Never.self) { try approval.verify() }
        var other = approval
        other.pcrDigest[0] ^= 1
        #expect(throws: KeyError.self) { try other.verify() }
    }

    @Test("what a file could not hold is not sealed")
    func tooMuch() throws {
        let machine = try TestTPM()
        let tpm = machine.connection
        let most = [PolicyAssertion](repeating: .commandCode(.unseal), count: 32)
        let fitting = Policy(hash: .sha256, most)
        #expect(fitting.isWritable)
        let made = try tpm.seal(SecretBytes(copying: [1]), policy: fitting, pin: nil)
        #expect(throws: Never.self) { try SealedBlob(file: made.wireBytes) }
        var deep = [PolicyAssertion.commandCode(.unseal)]
        for _ in 0..<5 { deep = [.or([deep, deep])] }
        for policy in [
            Policy(hash: .sha256, most + [.commandCode(.unseal)]), Policy(hash: .sha256, deep),
            Policy(hash: .sha256, [PolicyAssertion](repeating: .commandCode(.unseal), count: 300)),
        ] {
            #expect(!policy.isWritable)
            #expect {
                _ = try tpm.seal(SecretBytes(copying: [1]), policy: policy, pin: nil)
            } throws: { ($0 as? TPMError)?.code == .policyNotMet }
        }
    }
}
