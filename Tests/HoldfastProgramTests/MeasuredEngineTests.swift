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

    @Test("R38: a device with a policy settles over HTTPS, and not with a modified engine")
    func served() throws {
        let engine = Array("#!/bin/sh\necho licensed work\n".utf8)
        let rules = """
            { "version": 1, "others": "accept", "require": ["/usr/bin/engine"],
              "files": { "/usr/bin/engine":
                ["sha256:\(Hex.encode(HashAlgorithm.sha256.digest(engine)))"] } }
            """
        let kernel = try Kernel()
        let bench = kernel.bench
        func done(_ answer: Answer, sourceLocation: SourceLocation = #_sourceLocation) {
            #expect(answer.status == 0, "\(answer.errors)", sourceLocation: sourceLocation)
        }
        try bench.write(Array(rules.utf8), "rules")
        try bench.write(engine, "engine")
        try kernel.run("engine")
        let id = try bench.license()
        done(try kernel.verify("--ima-policy", "rules"))
        done(
            try bench.vendor(
                "policy", "learn", "--id", "engine", "--model", "gateway", "--pcr-values",
                "values", "--unchecked", "sha256:8,9,10", "--ima-policy", "rules", "--out",
                "policy.json"))
        #expect(try bench.vendor("policy", "apply", "policy.json").status == 2)
        done(try bench.vendor("policy", "apply", "policy.json", "--ima-policy", "rules"))
        #expect(try bench.vendor("policy", "list").output.contains("model:gateway"))
        let server = try bench.serve()
        func sync() throws -> Answer {
            try bench.device("sync", "--server", server.url, "--ima-log", "list")
        }
        func totals() throws -> String { try bench.vendor("usage", "report").output }
        // It learns from the first answer what to show, and shows it at once.
        done(try bench.device("meter", "scan", "--quantity", "3"))
        done(try sync())
        #expect(try totals().contains("scan=3"))

        var modified = engine
        modified[modified.count - 2] ^= 1
        try bench.write(modified, "engine")
        try kernel.run("engine")
        done(try bench.device("meter", "scan", "--quantity", "4"))
        let refused = try sync()
        #expect(refused.status == 2 && refused.output.contains("POLICY_NOT_MET"))
        #expect(!refused.output.contains("/usr/bin/engine"))
        #expect(try totals().contains("scan=3"))
        let shown = try bench.vendor("device", "show", id).output
        #expect(shown.contains("NOT MET") && shown.contains("ima-files"))
        // The same by file.
        done(try bench.device("bundle", "export", "evidence", "--ima-log", "list"))
        let processed = try bench.vendor("bundle", "process", "evidence", "reply")
        #expect(processed.status == 2 && processed.output.contains("pending-policy"))
        done(try bench.vendor("policy", "withdraw", "--model", "gateway"))
        done(try bench.vendor("bundle", "process", "evidence", "reply"))
        done(try bench.device("bundle", "import", "reply"))
        #expect(try totals().contains("scan=7"))
        #expect(server.stop() == 0)
    }

    @Test("a log of 16 MiB is refused within a fixed memory")
    func hugeLog() throws {
        let kernel = try Kernel()
        let bench = kernel.bench
        var log = EventLogWriter(algorithms: [.sha256])
        for number in 0..<30_000 {
            log.measure(
                [UInt8](repeating: UInt8(number % 256), count: 60), as: .ipl, into: PCRIndex.all[8])
        }
        let whole = log.bytes
        try bench.write(whole, "large")
        var huge = whole
        while huge.count < 16 << 20 { huge += whole }
        try bench.write(huge, "huge")
        /// With 512 MiB of address space, of which the program itself takes most.
        func verify(_ name: String) throws -> Int32 {
            let process = Process()
            process.executableURL = URL(filePath: "/bin/bash")
            process.arguments = [
                "-c", "ulimit -d 65536; exec \"$0\" verify event-log \"$1\" >/dev/null 2>&1",
                try Bench.program("holdfast-server").path, bench.file(name),
            ]
            try process.run()
            process.waitUntilExit()
            return process.terminationStatus
        }
        #expect(whole.count < EventLog.maximumSize)
        #expect(try verify("large") == 0)
        #expect(try verify("huge") == 1)
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
                "--unchecked", "sha256:10", "--message", "message", "--out", "policy.json",
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
        // The IMA policy lets others pass: of what ran after the boot nothing is said.
        #expect(claims.contains(#""executables":3"#))
        let facts = try #require(try result.json()["facts"] as? [String: Any])
        #expect((facts["ima"] as? [String: Any])?["proven"] as? Int == 1)
        // The firmware of the reference machine is demanded.
        let firmware = try #require(facts["firmware"] as? String)
        let demanded = String(decoding: try bench.bytes("policy.json"), as: UTF8.self)
        #expect(firmware.count == 16 && demanded.contains("\"\(firmware)\""))
        #expect(facts["clockSafe"] as? Bool == true)
        #expect(facts["clockTicks"] as? UInt64 ?? 0 > 0)
        let other = demanded.replacing(firmware, with: "00000000000000ff")
        try bench.write(Array(other.utf8), "other.json")
        #expect(
            try kernel.failed(
                kernel.verify("--policy", "other.json", "--ima-policy", "ima-policy"))
                == ["policy-firmware"])
        let nothing = try bench.vendor(
            "policy", "learn", "--id", "boot", "--model", "gateway", "--pcr-values", "values",
            "--message", "signature", "--out", "nothing.json")
        #expect(nothing.status == 2 && nothing.code == "EVIDENCE_UNREADABLE")
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
