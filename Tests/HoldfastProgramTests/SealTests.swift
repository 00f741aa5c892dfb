import Foundation
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
}
