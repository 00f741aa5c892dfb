import Foundation
import Glibc
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("seal and unseal from the command line", .timeLimit(.minutes(20)))
struct SealProgramTests {
    @Test(
        "a secret goes in at standard input and comes out of standard output, with a PIN from a file"
    )
    func pin() throws {
        let bench = try Bench()
        let secret = RandomSource.system.bytes(100)
        try bench.write(Array("2580\n".utf8), "pin")
        let sealed = try bench.run(
            "holdfast", ["seal", "--pcrs", "sha256:0,7", "--pin", "--pin-file", "pin"],
            input: secret)
        #expect(sealed.status == 0, "\(sealed.errors)")
        #expect(sealed.errors.contains("the PIN is given"))
        try bench.write(sealed.bytes, "blob")
        let opened = try bench.device("unseal", "blob", "--pin-file", "pin")
        #expect(opened.status == 0, "\(opened.errors)")
        #expect(opened.bytes == secret)
        let explained = try bench.device("unseal", "blob", "--explain", "--format", "json")
        #expect(
            try explained.json()["sentence"] as? String
                == "it opens when PCR 0, 7 of the sha256 bank have the values of the sealing and the PIN is given"
        )

        try bench.write(Array("2581\n".utf8), "wrong")
        let wrong = try bench.device("unseal", "blob", "--pin-file", "wrong")
        #expect(wrong.status == 2)
        #expect(wrong.code == "PIN_WRONG")
        #expect(wrong.errors.contains("left"))
        #expect(wrong.bytes.isEmpty)
        // No terminal to ask on.
        let none = try bench.device("unseal", "blob")
        #expect(none.status == 2)
        #expect(none.code == "PIN_NEEDED")
    }

    @Test("a changed PCR is named, and a blob that was changed is refused")
    func changed() throws {
        let bench = try Bench()
        let sealed = try bench.run(
            "holdfast",
            [
                "seal", "--pcrs", "7", "--policy", "command unseal", "--out", "blob", "--format",
                "json",
            ],
            input: [1, 2, 3])
        #expect(sealed.status == 0, "\(sealed.errors)")
        #expect(try sealed.json()["blob"] as? String == "blob")
        let mode = try FileManager.default.attributesOfItem(atPath: bench.file("blob"))
        #expect(mode[.posixPermissions] as? Int == 0o600)
        #expect(try bench.device("unseal", "blob").bytes == [1, 2, 3])
        var bytes = try bench.bytes("blob")
        bytes[60] ^= 1
        try bench.write(bytes, "damaged")
        #expect(try bench.device("unseal", "damaged").status == 2)

        try bench.machine.machine.powerOff(random: .system)
        try bench.machine.machine.powerOn(
            SoftwareBoot.documented.adding([.init([1], into: PCRIndex.all[7])]), ca: nil,
            random: .system)
        let refused = try bench.device("unseal", "blob")
        #expect(refused.status == 2)
        #expect(refused.code == "PCRS_CHANGED")
        #expect(refused.errors.contains("PCR 7 changed since it was sealed"))
        #expect(refused.bytes.isEmpty)
    }

    @Test("a branch without a PIN opens without anybody being asked; the other one asks")
    func branch() throws {
        let bench = try Bench()
        try bench.write(Array("2580\n".utf8), "pin")
        let sealed = try bench.run(
            "holdfast",
            ["seal", "--policy", "(pcrs 7 or pin)", "--pin-file", "pin", "--out", "blob"],
            input: [7])
        #expect(sealed.status == 0, "\(sealed.errors)")
        #expect(try bench.device("unseal", "blob").bytes == [7])
        try bench.machine.machine.powerOff(random: .system)
        try bench.machine.machine.powerOn(
            SoftwareBoot.documented.adding([.init([1], into: PCRIndex.all[7])]), ca: nil,
            random: .system)
        #expect(try bench.device("unseal", "blob").code == "PIN_NEEDED")
        #expect(try bench.device("unseal", "blob", "--pin-file", "pin").bytes == [7])
    }

    @Test("a quote by a key on P-384 is valid, and not under another nonce")
    func quote384() throws {
        let bench = try Bench()
        let nonce = String(repeating: "5a", count: 20)
        let files = [
            "--message", "message", "--signature", "signature", "--public", "public",
            "--pcr-values", "values",
        ]
        let quoted = try bench.run(
            "holdfast",
            ["quote", "--key", "ecc-p384", "--nonce", nonce, "--pcrs", "sha256:0,7+sha384:4"]
                + files)
        #expect(quoted.status == 0, "\(quoted.errors)")
        func verify(_ nonce: String) throws -> Int32 {
            try bench.run(
                "holdfast-server",
                ["verify", "quote", "--nonce", nonce, "--pcrs", "sha256:0,7+sha384:4"] + files
            ).status
        }
        #expect(try verify(nonce) == 0)
        #expect(try verify(String(repeating: "5b", count: 20)) == 2)
    }

    @Test(
        "what cannot be sealed is refused before the TPM is asked",
        arguments: [
            ([], 64), (["--policy", "open sesame"], 64), (["--pcrs", "99"], 64),
            (["--policy", "approved by nowhere"], 1), (["--pcrs", "sha256:16"], 2),
        ] as [([String], Int32)])
    func refused(arguments: [String], status: Int32) throws {
        let bench = try Bench()
        let answer = try bench.run("holdfast", ["seal"] + arguments, input: [1])
        #expect(answer.status == status, "\(answer.errors)")
        #expect(answer.bytes.isEmpty)
        let long = try bench.run(
            "holdfast", ["seal", "--pcrs", "7"], input: [UInt8](repeating: 1, count: 129))
        #expect(long.status == 1)
        #expect(long.code == "SECRET_UNUSABLE")
    }

    // MARK: The pinned key

    /// The answer of a TPM that denies having persistent objects.
    private static func hiding(
        _ command: [UInt8], _ answer: [UInt8], isDenied: Bool
    ) -> [UInt8] {
        switch Array(command[6..<10]) {
        case [0, 0, 1, 0x7A]:
            // TPM2_GetCapability for handles from 0x81000000 on.
            guard command[10..<15] == [0, 0, 0, 1, 0x81] else { return answer }
            return [0x80, 0x01, 0, 0, 0, 19, 0, 0, 0, 0] + [0] + [0, 0, 0, 1] + [0, 0, 0, 0]
        case [0, 0, 1, 0x73] where isDenied && command[10] == 0x81:
            // TPM2_ReadPublic: TPM_RC_HANDLE.
            return [0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x8B]
        default: return answer
        }
    }

    @Test(
        "from an enrolled machine no secret goes to a TPM that hides the enrolled key, but with --unpinned",
        arguments: [false, true])
    func hidden(isDenied: Bool) throws {
        let bench = try Bench()
        _ = try bench.license()
        let sealed = try bench.run(
            "holdfast", ["seal", "--pcrs", "7", "--out", "blob"], input: [1, 2, 3])
        #expect(sealed.status == 0, "\(sealed.errors)")
        let proxy = try TPMProxy(
            path: bench.file("hiding"), target: bench.machine.machine.socketPath,
            answer: { Self.hiding($0, $1, isDenied: isDenied) })
        defer { withExtendedLifetime(proxy) {} }
        func run(_ arguments: String...) throws -> Answer {
            try bench.run("holdfast", arguments, tpm: "unix:" + proxy.path, input: [4, 5])
        }
        for answer in [try run("seal", "--pcrs", "7"), try run("unseal", "blob")] {
            #expect(answer.status != 0)
            #expect(answer.code == "KEYS_LOST", "\(answer.errors)")
            #expect(answer.bytes.isEmpty)
        }
        let believed = try run("seal", "--unpinned", "--pcrs", "7", "--out", "other")
        #expect(believed.status == 0, "\(believed.errors)")
        #expect(try run("unseal", "--unpinned", "blob").bytes == [1, 2, 3])
        #expect(try run("unseal", "--unpinned", "other").bytes == [4, 5])
        // What was sealed either way opens either way: the storage key is the same.
        #expect(try bench.device("unseal", "other").bytes == [4, 5])
        #expect(try bench.device("unseal", "--unpinned", "blob").bytes == [1, 2, 3])
    }

    // MARK: Approvals

    @Test("of several approvals the one of the present state opens, wherever it stands")
    func approvals() throws {
        let bench = try Bench()
        let key = ECPrivateKey(curve: .p256, random: .system)
        let stranger = ECPrivateKey(curve: .p256, random: .system)
        try bench.write(Array(key.publicKey.pem.utf8), "key.pem")
        let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
        func approve(_ name: String, by key: ECPrivateKey, change: UInt8 = 0) throws {
            let tpm = TPMConnection(
                UnixSocketTransport(path: bench.machine.machine.socketPath), random: .system)
            defer { tpm.close() }
            var digest = try #require(
                try tpm.readPCRs(selection).digest(of: selection, hash: .sha256))
            digest[0] ^= change
            let approval = try PCRApproval(
                selection: selection, pcrDigest: digest, policyRef: [], signingWith: key)
            try bench.write(approval.signature.wireBytes, name)
        }
        try approve("present", by: key)
        try approve("other", by: key, change: 1)
        try approve("foreign", by: stranger)
        let sealed = try bench.run(
            "holdfast", ["seal", "--policy", "approved by key.pem", "--out", "blob"], input: [9])
        #expect(sealed.status == 0, "\(sealed.errors)")
        func open(_ files: [String]) throws -> Answer {
            try bench.run(
                "holdfast",
                ["unseal", "blob", "--approval-key", "key.pem", "--approved-pcrs", "sha256:7"]
                    + files.flatMap { ["--approval", $0] })
        }
        for files in [
            ["present"], ["other", "present"], ["present", "other"],
            ["foreign", "other", "present"], ["present", "present"],
        ] {
            let opened = try open(files)
            #expect(opened.bytes == [9], "\(files): \(opened.errors)")
        }
        for files in [["other"], ["foreign"], ["other", "foreign"]] {
            let refused = try open(files)
            #expect(refused.status == 2, "\(files): \(refused.errors)")
            #expect(refused.bytes.isEmpty)
        }
        #expect(try open(["present", "blob"]).bytes.isEmpty)
        #expect(try bench.device("unseal", "blob", "--approval", "present").status == 64)

        try bench.machine.machine.powerOff(random: .system)
        try bench.machine.machine.powerOn(
            SoftwareBoot.documented.adding([.init([1], into: PCRIndex.all[7])]), ca: nil,
            random: .system)
        #expect(try open(["present", "other"]).status == 2)
        try approve("next", by: key)
        #expect(try open(["present", "next"]).bytes == [9])
    }

    // MARK: The terminal

    @Test("what is typed as a PIN is not shown, and opens")
    func typed() throws {
        let bench = try Bench()
        try bench.write([7], "secret")
        let sealing = try PseudoTerminal(
            bench, ["seal", "--pin", "--out", "blob"], input: "secret")
        try sealing.wait(for: "PIN: ")
        #expect(!sealing.echoes)
        try sealing.type("2580\n")
        try sealing.wait(for: "PIN once more: ")
        try sealing.type("2580\n")
        #expect(try sealing.end().status == 0)
        let differing = try PseudoTerminal(bench, ["seal", "--pin"], input: "secret")
        try differing.wait(for: "PIN: ")
        try differing.type("2580\n")
        try differing.wait(for: "PIN once more: ")
        try differing.type("2581\n")
        let refused = try differing.end()
        #expect(refused.code == "PIN_UNUSABLE", "\(refused.errors)")
        #expect(refused.bytes.isEmpty)
        let opening = try PseudoTerminal(bench, ["unseal", "blob"])
        try opening.wait(for: "PIN: ")
        try opening.type("2580\n")
        let opened = try opening.end()
        #expect(opened.bytes == [7], "\(opened.errors)")
        for terminal in [sealing, differing, opening] {
            #expect(!terminal.shown.contains("258"), "\(terminal.shown)")
        }
    }

    @Test(
        "a signal while a PIN is typed ends the program, and the terminal shows again what is typed",
        arguments: [SIGINT, SIGQUIT, SIGTERM, SIGHUP], ["PIN: ", "PIN once more: "])
    func interrupted(signal: Int32, prompt: String) throws {
        let bench = try Bench()
        try bench.write([7], "secret")
        let terminal = try PseudoTerminal(
            bench, ["seal", "--pin", "--out", "blob"], input: "secret")
        try terminal.wait(for: "PIN: ")
        if prompt != "PIN: " {
            try terminal.type("2580\n")
            try terminal.wait(for: prompt)
        }
        #expect(!terminal.echoes)
        try terminal.type("25")
        switch signal {
        case SIGINT: try terminal.type("\u{3}")
        case SIGQUIT: try terminal.type("\u{1C}")
        default: try terminal.signal(signal)
        }
        let answer = try terminal.end()
        #expect(answer.status == 128 + signal, "\(answer.errors)")
        #expect(answer.bytes.isEmpty)
        #expect(!FileManager.default.fileExists(atPath: bench.file("blob")))
        #expect(!terminal.shown.contains("25"), "\(terminal.shown)")
    }
}
