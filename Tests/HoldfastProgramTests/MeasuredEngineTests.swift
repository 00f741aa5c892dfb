import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// R38: the verifier knows the unmodified engine.
///
/// This test is the kernel: it hashes a file before it "runs" it, extends PCR 10 of a software TPM,
/// and writes the list.
@Suite("a measured engine", .timeLimit(.minutes(20)))
struct MeasuredEngineTests {
    private static let pcrs = "sha256:" + (0...10).map(String.init).joined(separator: ",")

    /// A kernel that measures.
    private final class Kernel {
        let bench: Bench
        var list = IMAListWriter()

        init() throws {
            bench = try Bench()
            let values = try withTPM { connection in
                var values = PCRValues()
                for part in [PCRIndex.all[0..<5], PCRIndex.all[5..<10]] {
                    let answer = try connection.run(
                        PCRReadCommand(PCRSelection(.sha256, Array(part))), [])
                    for (register, value) in answer.values.values {
                        values[register.hash, register.index] = value
                    }
                }
                return values
            }
            try extend(list.bootAggregate(of: values, bank: .sha256, through: 9))
        }

        func withTPM<T>(_ body: (TPMConnection) throws -> T) throws -> T {
            let connection = bench.machine.machine.connection(random: .system)
            defer { connection.close() }
            return try body(connection)
        }

        func extend(_ record: IMAListWriter.Record) throws {
            try withTPM { connection in
                let banks = try connection.activeBanks()
                try connection.run(
                    PCRExtendCommand(
                        PCRIndex.all[10], digests: banks.map { ($0, record.extended($0)) }),
                    [.emptyAuth])
            }
            try bench.write(list.bytes, "list")
        }

        /// Hashes a file and runs it.
        func run(_ name: String) throws {
            let digest = IMAEntry.Digest(
                kind: "ima", algorithm: "sha256",
                bytes: HashAlgorithm.sha256.digest(try bench.bytes(name)))
            try extend(list.measure("/usr/bin/" + name, digest: digest))
        }

        /// Quotes, and has the verifier judge the quote with the list.
        func verify(_ more: String...) throws -> Answer {
            let nonce = Hex.encode(RandomSource.system.bytes(32))
            let files = [
                "--message", "message", "--signature", "signature", "--public", "public",
                "--pcr-values", "values",
            ]
            let question = ["--nonce", nonce, "--pcrs", MeasuredEngineTests.pcrs]
            let quoted = try bench.run("holdfast", ["quote"] + question + files)
            try #require(quoted.status == 0, "\(quoted.errors)")
            return try bench.run(
                "holdfast-server",
                ["verify", "quote"] + question + files + ["--ima-log", "list", "--format", "json"]
                    + more)
        }

        func failed(_ answer: Answer) throws -> [String] {
            let checks = try #require(try answer.json()["checks"] as? [[String: Any]])
            return checks.filter { $0["outcome"] as? String == "failed" }
                .compactMap { $0["id"] as? String }
        }
    }

    @Test("R38: unmodified it is accepted, and modified it is refused, end to end")
    func engine() throws {
        let engine = Array("#!/bin/sh\necho licensed work\n".utf8)
        let rules = """
            { "version": 1, "others": "accept", "require": ["/usr/bin/engine"],
              "files": { "/usr/bin/engine":
                ["sha256:\(Hex.encode(HashAlgorithm.sha256.digest(engine)))"] } }
            """
        let kernel = try Kernel()
        try kernel.bench.write(Array(rules.utf8), "policy")
        try kernel.bench.write(engine, "engine")
        let before = try kernel.verify("--ima-policy", "policy")
        #expect(before.status == 2)
        #expect(try kernel.failed(before) == ["ima-required"])

        try kernel.run("engine")
        let accepted = try kernel.verify("--ima-policy", "policy", "--ima-state-out", "state-1")
        #expect(accepted.status == 0, "\(accepted.output)")
        #expect(try kernel.failed(accepted) == [])

        // One byte of the engine is another, and it runs.
        var modified = engine
        modified[modified.count - 2] ^= 1
        try kernel.bench.write(modified, "engine")
        let honest = kernel.list.bytes
        try kernel.run("engine")
        let refused = try kernel.verify("--ima-policy", "policy", "--ima-state-out", "state-2")
        #expect(refused.status == 2)
        #expect(try kernel.failed(refused) == ["ima-files"])
        #expect(!Files.exists(kernel.bench.file("state-2")))

        // The machine's owner edits the list: it does not replay any more.
        let whole = kernel.list.bytes
        try kernel.bench.write(honest, "list")
        #expect(
            try kernel.failed(kernel.verify("--ima-policy", "policy"))
                == ["ima-explains-pcr10", "ima-bank-hash", "ima-boot-aggregate"])
        var forged = IMAListWriter()
        let digest = IMAEntry.Digest(
            kind: "ima", algorithm: "sha256", bytes: HashAlgorithm.sha256.digest(engine))
        forged.measure("/usr/bin/engine", digest: digest)
        try kernel.bench.write(honest + forged.bytes, "list")
        #expect(
            try kernel.failed(kernel.verify("--ima-policy", "policy"))
                == ["ima-explains-pcr10", "ima-bank-hash", "ima-boot-aggregate"])

        // The next appraisal of the boot reads on behind the last accepted one, and refuses too.
        try kernel.bench.write(Array(whole[honest.count...]), "list")
        let next = try kernel.verify("--ima-policy", "policy", "--ima-state", "state-1")
        #expect(try kernel.failed(next) == ["ima-files"])

        // Another boot: the state of this one is worth nothing.
        let machine = kernel.bench.machine.machine
        try machine.powerOff(random: .system)
        try machine.powerOn(.documented, ca: nil, random: .system)
        try kernel.bench.write([], "list")
        let other = try kernel.verify("--ima-policy", "policy", "--ima-state", "state-1")
        #expect(other.status == 2)
        #expect(try kernel.failed(other).contains("ima-same-boot"))
    }

    @Test("options that belong together are asked for, and a bad policy says what is wrong with it")
    func options() throws {
        let kernel = try Kernel()
        try kernel.bench.write(Array(#"{"version": 1, "allow": {}}"#.utf8), "policy")
        let bad = try kernel.bench.vendor("verify", "ima", "list", "--ima-policy", "policy")
        #expect(bad.status == 2 && bad.code == "POLICY_UNREADABLE")
        #expect(bad.errors.contains("`allow`"))
        let alone = try kernel.bench.vendor("verify", "ima", "list")
        #expect(alone.status == 0)
        let nothing = try kernel.bench.vendor("verify", "ima", "policy")
        #expect(nothing.status == 2 && nothing.output.contains("ima-well-formed"))
    }

    @Test("a signed policy decides over a boot: learned, signed, met, drifted")
    func policy() throws {
        let kernel = try Kernel()
        let bench = kernel.bench
        try bench.makeVendor()
        try kernel.bench.write(Array(#"{"version": 1, "others": "accept"}"#.utf8), "ima-policy")
        let ima = ["--ima-policy", "ima-policy"]
        #expect(try kernel.verify("--ima-policy", "ima-policy").status == 0)
        let learned = try bench.run(
            "holdfast-server",
            [
                "policy", "learn", "--id", "boot", "--model", "gateway", "--pcr-values", "values",
                "--unchecked", "sha256:10", "--out", "policy.json",
            ] + ima)
        #expect(learned.status == 0, "\(learned.errors)")
        let signed = try bench.vendor("policy", "sign", "policy.json", "--out", "policy")
        #expect(signed.status == 0 && signed.output == learned.output, "\(signed.errors)")
        let told = try bench.vendor("policy", "explain", "policy", "--trust", "vendor/trust")
        #expect(told.output == signed.output)

        let met = try kernel.verify(
            "--policy", "policy", "--trust", "vendor/trust", "--ima-policy", "ima-policy")
        #expect(met.status == 0, "\(met.output)")
        let own = try kernel.verify("--policy", "policy.json", "--ima-policy", "ima-policy")
        #expect(own.status == 0)
        #expect(
            try kernel.failed(kernel.verify("--policy", "policy.json")) == ["policy-ima"])
        // For whoever relies on the verifier.
        #expect(try bench.vendor("ear-key", "--out", "ear", "--public", "ear.pem").status == 0)
        #expect(try bench.vendor("ear-key", "--out", "ear", "--public", "ear.pem").status == 64)
        let result = try kernel.verify(
            "--policy", "policy.json", "--ima-policy", "ima-policy", "--ear-key", "ear",
            "--ear-out", "result")
        #expect(result.status == 0)
        let parts = String(decoding: try bench.bytes("result"), as: UTF8.self)
            .split(separator: ".")
        let claims = String(
            decoding: try Base64URL.decode(String(parts[1])), as: UTF8.self)
        #expect(claims.contains(#""ear.status":"affirming""#))
        #expect(claims.contains(#""executables":2"#))
        let facts = try #require(try result.json()["facts"] as? [String: Any])
        #expect((facts["ima"] as? [String: Any])?["proven"] as? Int == 1)
        // Who may sign, the trust file says.
        #expect(try kernel.verify("--policy", "policy").status == 64)
        var damaged = try bench.bytes("policy")
        damaged[20] ^= 1
        try bench.write(damaged, "damaged")
        let refused = try bench.vendor("policy", "explain", "damaged", "--trust", "vendor/trust")
        #expect(refused.status == 2 && refused.code == "SIGNATURE_INVALID")

        // Something else starts.
        try kernel.withTPM { connection in
            try connection.run(
                PCRExtendCommand(
                    PCRIndex.all[4],
                    digests: [(.sha256, [UInt8](repeating: 1, count: 32))]), [.emptyAuth])
        }
        let drifted = try kernel.verify(
            "--policy", "policy", "--trust", "vendor/trust", "--ima-policy", "ima-policy")
        #expect(drifted.status == 2)
        #expect(
            try kernel.failed(drifted)
                == ["ima-boot-aggregate", "policy-references", "policy-ima"])
    }

    @Test("a folder is judged, and a log that contradicts the values beside it exits with 2")
    func folder() throws {
        let bench = try Bench()
        try Files.makePrivateDirectory(bench.file("folder"))
        let absent = try bench.vendor("verify", "folder", "absent", "--if-present")
        #expect(absent.status == 0 && absent.output.contains("there is no folder"))
        #expect(try bench.vendor("verify", "folder", "absent").status == 1)
        #expect(try bench.vendor("verify", "folder", "folder").status == 0)
        var log = EventLogWriter(algorithms: [.sha256])
        log.measure([1], as: .crtmVersion, into: PCRIndex.all[0])
        try bench.write(log.bytes, "folder/log")
        try bench.write([], "folder/other")
        let judged = try bench.vendor("verify", "folder", "folder")
        #expect(judged.status == 0 && judged.output.contains("1 valid, 1 refused"))
        #expect(try bench.vendor("verify", "folder", "folder", "--all-valid").status == 2)
        let zeros = String(repeating: "0", count: 64)
        try bench.write(Array("sha256:\n  0 : 0x\(zeros)\n".utf8), "folder/log.yaml")
        #expect(try bench.vendor("verify", "folder", "folder").status == 2)
    }
}
