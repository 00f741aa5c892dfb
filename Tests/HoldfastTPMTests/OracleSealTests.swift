import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// Sealed by one, opened by the other: we and tpm2-tools on one TPM.
@Suite("tpm2-tools and we open what the other sealed", .timeLimit(.minutes(20)))
struct OracleSealTests {
    /// One type of policy.
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// In our words.
        let text: String
        /// Runs once, before anything is sealed.
        var prepare = ""
        /// In a session `s`, for the digest.
        let trial: String
        /// In a session `s`, to open.
        let satisfy: String
        /// Behind the session: `+PIN`.
        var suffix = ""
        var pin: String?
        /// Makes the condition false.
        var spoil = ""
        /// A session that does not hold, where nothing can be spoiled.
        var wrong: String?
    }

    private static let pcr = "tpm2_policypcr -Q -S s -l sha256:7"
    private static let extend =
        "tpm2_pcrextend 7:sha256=1111111111111111111111111111111111111111111111111111111111111111"
    private static let authorize =
        "tpm2_policyauthorize -Q -S s -i approved -q reference -n key.name"

    static let cases = [
        Case(
            testDescription: "policypcr", text: "pcrs sha256:7", trial: pcr, satisfy: pcr,
            spoil: extend),
        Case(
            testDescription: "policyauthorize", text: "approved by key for 0102",
            prepare:
                "tpm2_loadexternal -Q -C o -u key -c key.ctx -n key.name; tpm2_flushcontext -t",
            trial: authorize,
            satisfy: """
                tpm2_verifysignature -Q -c key.ctx -g sha256 -m signed -s signature -t ticket
                tpm2_flushcontext -t
                \(pcr)
                \(authorize) -t ticket
                """, spoil: extend),
        Case(
            testDescription: "policynv", text: "nv 0x01500001 = 0000000000000007",
            prepare: """
                tpm2_nvdefine -Q 0x1500001 -C o -s 8 -a 'ownerread|ownerwrite|authread|authwrite'
                printf '\\0\\0\\0\\0\\0\\0\\0\\7' >operand
                tpm2_nvwrite 0x1500001 -C o -i operand
                """,
            trial: "tpm2_policynv -S s -C 0x1500001 -i operand 0x1500001 eq",
            satisfy: "tpm2_policynv -S s -C 0x1500001 -i operand 0x1500001 eq",
            spoil: "printf '\\0\\0\\0\\0\\0\\0\\0\\10' >other; tpm2_nvwrite 0x1500001 -C o -i other"
        ),
        Case(
            testDescription: "policycountertimer", text: "clock <= 31536000000",
            trial: "tpm2_policycountertimer -S s --ule clock=31536000000",
            satisfy: "tpm2_policycountertimer -S s --ule clock=31536000000",
            spoil: "tpm2_setclock 31536000001"),
        Case(
            testDescription: "policyor", text: "(pcrs sha256:7 or clock <= 1)",
            prepare: """
                tpm2_startauthsession -S s; \(pcr) -L first; tpm2_flushcontext s
                tpm2_startauthsession -S s
                tpm2_policycountertimer -Q -S s -L second --ule clock=1; tpm2_flushcontext s
                """,
            trial: "tpm2_policyor -Q -S s sha256:first,second",
            satisfy: "\(pcr); tpm2_policyor -Q -S s sha256:first,second", spoil: extend),
        Case(
            testDescription: "policysecret", text: "secret endorsement",
            trial: "tpm2_policysecret -Q -S s -c e", satisfy: "tpm2_policysecret -Q -S s -c e",
            spoil: "tpm2_changeauth -c e changed"),
        Case(
            testDescription: "policyauthvalue", text: "pin",
            trial: "tpm2_policyauthvalue -S s", satisfy: "tpm2_policyauthvalue -S s",
            suffix: "+2580", pin: "2580"),
        Case(
            testDescription: "policypassword", text: "pin", trial: "tpm2_policypassword -S s",
            satisfy: "tpm2_policypassword -S s", suffix: "+2580", pin: "2580"),
        Case(
            testDescription: "policycommandcode", text: "command unseal",
            trial: "tpm2_policycommandcode -S s TPM2_CC_Unseal",
            satisfy: "tpm2_policycommandcode -S s TPM2_CC_Unseal",
            wrong: "tpm2_policycommandcode -S s TPM2_CC_NV_Read"),
    ]

    private static let parent = """
        tpm2_createprimary -Q -C o -g sha256 -G ecc256:aes128cfb -c parent.ctx \
        -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt'
        tpm2_flushcontext -t
        """

    /// Opens `FILE.public` and `FILE.private` with tpm2-tools, into `opened`.
    private static func open(_ file: String, _ satisfy: String, _ suffix: String) -> String {
        """
        rm -f opened s
        tpm2_load -Q -C parent.ctx -u \(file).public -r \(file).private -c object.ctx
        tpm2_flushcontext -t
        trap 'tpm2_flushcontext s; tpm2_flushcontext -t; tpm2_flushcontext -l' EXIT
        tpm2_startauthsession --policy-session -S s
        \(satisfy)
        tpm2_unseal -Q -c object.ctx -p session:s\(suffix) -o opened
        """
    }

    /// The machine, with everything that a case needs, and tidied after a script that failed.
    private final class Scene {
        let machine: OracleMachine
        let keys: [String: PublicArea]
        let approvals: [PCRApproval]

        init(_ type: Case) throws {
            machine = try OracleMachine()
            let key = ECPrivateKey(curve: .p256, random: .system)
            let area = KeyTemplate.approvalKey(key.publicKey)
            keys = ["key": area]
            let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
            let connection = machine.machine.connection(random: .system)
            let values = try connection.transaction { (tpm) throws(TPMError) in
                try tpm.readPCRs(selection)
            }
            let approval = try PCRApproval(
                selection: selection,
                pcrDigest: try #require(values.digest(of: selection, hash: .sha256)),
                policyRef: [1, 2], signingWith: key)
            approvals = [approval]
            var writer = WireWriter()
            writer.sized(area.wireBytes)
            try machine.write(writer.bytes, "key")
            try machine.write(approval.policy.digest, "approved")
            try machine.write([1, 2], "reference")
            try machine.write(approval.signedBytes, "signed")
            try machine.write(approval.signature.wireBytes, "signature")
            try #require(try machine.run(OracleSealTests.parent) == 0)
            if !type.prepare.isEmpty { try #require(try machine.run(type.prepare) == 0) }
        }

        func sized(_ bytes: [UInt8]) -> [UInt8] {
            var writer = WireWriter()
            writer.sized(bytes)
            return writer.bytes
        }

        func tools<R>(_ body: (TPMConnection) throws(TPMError) -> R) throws -> R {
            try machine.machine.connection(random: .system).transaction(body)
        }

        /// What tpm2_create wrote.
        func made(_ policy: Policy) throws -> SealedBlob {
            SealedBlob(
                parent: TPMName(handle: .null),
                publicArea: Array(try machine.read("theirs.public").dropFirst(2)),
                privateBlob: Array(try machine.read("theirs.private").dropFirst(2)),
                policy: policy, pcrValues: PCRValues())
        }

        /// Opens it on our side.
        func open(_ blob: SealedBlob, pin: String?) throws -> [UInt8] {
            let means = UnsealingMeans(
                pin: pin.map { SymmetricSecret(Array($0.utf8)) }, approvals: approvals)
            return try tools { (tpm) throws(TPMError) in
                try tpm.withStorageKey(nil) { (parent) throws(TPMError) in
                    let secret = try tpm.unseal(blob, below: parent, with: means)
                    return secret.withBytes { bytes in bytes.indices.map { bytes[$0] } }
                }
            }
        }
    }

    @Test(
        "each type of policy, both ways, and neither opens what should stay shut", arguments: cases)
    func bothWays(type: Case) throws {
        let scene = try Scene(type)
        let machine = scene.machine
        let text = try PolicyText(type.text)
        let policy = try scene.tools { (tpm) throws(TPMError) in
            try tpm.policy(text, keys: scene.keys)
        }

        // The digest is theirs.
        let trial = "tpm2_startauthsession -S s; \(type.trial) -L digest; tpm2_flushcontext s"
        #expect(try machine.run(trial) == 0)
        #expect(try machine.read("digest") == policy.digest)

        // They seal, we open.
        let theirs = RandomSource.system.bytes(32)
        try machine.write(theirs, "secret")
        #expect(
            try machine.run(
                """
                tpm2_create -Q -C parent.ctx -i secret -u theirs.public -r theirs.private -L digest \
                -a 'fixedtpm|fixedparent' \(type.pin.map { "-p \($0)" } ?? "")
                tpm2_flushcontext -t
                """) == 0)
        let foreign = try scene.made(policy)
        _ = try foreign.object()
        #expect(try scene.open(foreign, pin: type.pin) == theirs)

        // We seal, they open.
        let ours = RandomSource.system.bytes(32)
        let blob = try scene.tools { (tpm) throws(TPMError) in
            try tpm.seal(
                SecretBytes(copying: ours), policy: policy,
                pin: type.pin.map { SymmetricSecret(Array($0.utf8)) })
        }
        try machine.write(scene.sized(blob.publicArea), "ours.public")
        try machine.write(scene.sized(blob.privateBlob), "ours.private")
        #expect(try machine.run(Self.open("ours", type.satisfy, type.suffix)) == 0)
        #expect(try machine.read("opened") == ours)
        #expect(try scene.open(blob, pin: type.pin) == ours)

        // A session that satisfied nothing opens nothing, and neither does a password.
        #expect(try machine.run(Self.open("ours", "true", type.suffix)) != 0)
        #expect(
            try machine.run(
                """
                trap 'tpm2_flushcontext -t' EXIT
                tpm2_load -Q -C parent.ctx -u ours.public -r ours.private -c object.ctx
                tpm2_unseal -Q -c object.ctx -o opened
                """) != 0)
        // We do not take theirs under another policy.
        let other = try scene.tools { (tpm) throws(TPMError) in
            try tpm.policy(PolicyText([.command(.certify)]), keys: [:])
        }
        #expect(throws: SealedObjectError.otherPolicy) { try scene.made(other).object() }

        // The condition does not hold any more.
        if let pin = type.pin {
            let wrong = String(pin.reversed())
            #expect(throws: TPMError.self) { try scene.open(foreign, pin: wrong) }
            #expect(try machine.run(Self.open("ours", type.satisfy, "+" + wrong)) != 0)
        } else if let wrong = type.wrong {
            #expect(try machine.run(Self.open("ours", wrong, "")) != 0)
        } else {
            #expect(try machine.run(type.spoil) == 0)
            #expect(throws: TPMError.self) { try scene.open(foreign, pin: nil) }
            #expect(throws: TPMError.self) { try scene.open(blob, pin: nil) }
            #expect(try machine.run(Self.open("ours", type.satisfy, "")) != 0)
        }
    }

    @Test(
        "policynvwritten guards an index: the first write is allowed, by them or by us, and no other"
    )
    func nvWritten() throws {
        let machine = try OracleMachine()
        let policy = Policy(hash: .sha256, [.nvWritten(false)])
        let define = """
            tpm2_startauthsession -S s; tpm2_policynvwritten -Q -S s -L digest c; tpm2_flushcontext s
            for index in 0x1500002 0x1500003; do
                tpm2_nvdefine -Q $index -C o -s 4 -L digest -a 'ownerread|policywrite|authread'
            done
            printf abcd >data
            """
        #expect(try machine.run(define) == 0)
        #expect(try machine.read("digest") == policy.digest)
        let write = """
            trap 'tpm2_flushcontext s; tpm2_flushcontext -l' EXIT
            tpm2_startauthsession --policy-session -S s
            tpm2_policynvwritten -Q -S s c
            tpm2_nvwrite 0x1500002 -C 0x1500002 -P session:s -i data
            """
        #expect(try machine.run(write) == 0)
        #expect(try machine.run(write) != 0)

        let index = TPMHandle(rawValue: 0x0150_0003)
        func writeOurs() throws {
            try machine.machine.connection(random: .system).transaction {
                (tpm) throws(TPMError) in
                guard let area = try tpm.nvPublicArea(at: index) else {
                    throw TPMError(.invalidRequest, "the index is gone")
                }
                try tpm.withSession(.policy, hash: .sha256, salt: .none) {
                    (session) throws(TPMError) in
                    try tpm.satisfy(policy, in: session, with: PolicyMeans())
                    try tpm.run(
                        NVWriteCommand(
                            index: EntityReference(index, name: area.name), data: Array("abcd".utf8)
                        ),
                        [.policyOnce(session)])
                }
            }
        }
        try writeOurs()
        #expect(throws: TPMError.self) { try writeOurs() }
        #expect(try machine.run("tpm2_nvread 0x1500003 -C o -s 4 | cmp - data") == 0)
        #expect(
            try machine.run("tpm2_nvwrite 0x1500003 -C 0x1500003 -i data") != 0)
    }
}
