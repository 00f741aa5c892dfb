import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import HoldfastTPM
import Testing

@Suite("bad input to the programs", .timeLimit(.minutes(20)))
struct BadInputTests {
    /// Copies of a file that are cut, longer, or changed in one bit.
    private func damaged(_ bytes: [UInt8]) -> [(String, [UInt8])] {
        var made: [(String, [UInt8])] = [
            ("empty", []), ("one byte", [0]), ("half", Array(bytes.prefix(bytes.count / 2))),
            ("one byte less", Array(bytes.dropLast())), ("one byte more", bytes + [0]),
            ("twice", bytes + bytes), ("text", Array("hello\n".utf8)),
            ("zeros", [UInt8](repeating: 0, count: bytes.count)),
        ]
        for place in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 12)) {
            var flipped = bytes
            flipped[place] ^= 0x10
            made.append(("bit \(place)", flipped))
        }
        return made
    }

    /// Demands a refusal that a person can use.
    private func refused(
        _ answer: Answer, _ text: String, status: Int32 = 2,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(answer.isOrderly, "\(text): a signal", sourceLocation: sourceLocation)
        #expect(
            answer.status == status, "\(text): \(answer.status) \(answer.errors)",
            sourceLocation: sourceLocation)
        #expect(answer.code != nil, "\(text): \(answer.errors)", sourceLocation: sourceLocation)
        #expect(answer.output.isEmpty, "\(text)", sourceLocation: sourceLocation)
    }

    @Test("every damaged file is refused with a code and exit code 2, and the good one still works")
    func files() throws {
        let bench = try Bench()
        let id = try bench.license()
        // file, and the command that reads it
        let uses: [(String, (String) throws -> Answer)] = [
            (
                "vendor/trust",
                { try bench.device("enroll", "--trust", $0, "--request-out", "x", state: "fresh") }
            ),
            ("request", { try bench.vendor("enroll", "process", $0, "--out", "x") }),
            (
                "response",
                { try bench.device("enroll", "--response-in", $0, "--evidence-out", "x") }
            ),
            ("evidence", { try bench.vendor("bundle", "process", $0, "x") }),
            ("license", { try bench.device("license", "install", $0) }),
            ("reply", { try bench.device("bundle", "import", $0) }),
            ("approval", { try bench.device("approve", $0) }),
        ]
        for (name, use) in uses {
            for (kind, bytes) in damaged(try bench.bytes(name)) {
                // A text file may have white space at its end.
                if name == "vendor/trust", kind == "one byte less" { continue }
                try bench.write(bytes, "damaged")
                refused(try use("damaged"), "\(name), \(kind)")
            }
        }
        #expect(try bench.device("check", "scan").status == 0)
        #expect(try bench.device("license", "install", "license").status == 0)
        #expect(try bench.device("approve", "approval").status == 0)
        #expect(try bench.device("bundle", "export", "evidence-2").status == 0)
        #expect(try bench.vendor("bundle", "process", "evidence-2", "reply-2").status == 0)
        #expect(try bench.device("bundle", "import", "reply-2").status == 0)
        #expect(try bench.vendor("device", "show", id).status == 0)
        try slotsAreFree(bench)
    }

    @Test("a damaged state file is an error and never a license")
    func state() throws {
        let bench = try Bench()
        _ = try bench.license()
        let folder = bench.file("state")
        let names =
            try Files.names(in: folder + "/licenses").map { "licenses/" + $0 }
            + Files.names(in: folder + "/approvals").map { "approvals/" + $0 }
            + ["trust", "request", "statement", "reply"]
        for name in names {
            let good = try bench.bytes("state/" + name)
            for (kind, bytes) in damaged(good) {
                if ["trust", "statement", "reply"].contains(name), kind == "one byte less" {
                    continue
                }
                try bench.write(bytes, "state/" + name)
                let answer = try bench.device("check", "scan")
                if name.hasSuffix(".object") {
                    // Made again from the import blob.
                    #expect(answer.status == 0, "\(kind): \(answer.errors)")
                } else {
                    refused(answer, "\(name), \(kind)")
                }
            }
            try bench.write(good, "state/" + name)
            #expect(try bench.device("check", "scan").status == 0)
        }
        try slotsAreFree(bench)
    }

    @Test("a missing state file never makes a license")
    func missing() throws {
        let bench = try Bench()
        _ = try bench.license()
        for name in ["trust", "request", "statement"] {
            let good = try bench.bytes("state/" + name)
            try Files.remove(bench.file("state/" + name))
            let answer = try bench.device("check", "scan", "--format", "json")
            #expect(answer.status == 2)
            #expect(try answer.json()["code"] as? String == "UNENROLLED")
            try bench.write(good, "state/" + name)
        }
        #expect(try bench.device("check", "scan").status == 0)
        for name in try Files.names(in: bench.file("state/licenses"))
        where name.hasSuffix(".license") {
            try Files.remove(bench.file("state/licenses/" + name))
        }
        let none = try bench.device("check", "scan", "--format", "json")
        #expect(none.status == 2)
        #expect(try none.json()["code"] as? String == "NO_LICENSE")
        #expect(try bench.device("license", "install", "license").status == 0)
        #expect(try bench.device("check", "scan").status == 0)
    }

    @Test("commands that cannot run say why, with the right exit code")
    func exits() throws {
        let bench = try Bench()
        // Nothing is there yet.
        refused(try bench.device("status"), "status")
        refused(try bench.device("bundle", "export", "x"), "export")
        refused(try bench.device("retire", "--yes"), "retire")
        refused(try bench.vendor("device", "list"), "no keys", status: 1)
        let none = try bench.device("check", "scan", "--format", "json")
        #expect(none.status == 2)
        #expect(try none.json()["code"] as? String == "UNENROLLED")
        #expect(try bench.device("check", "core").status == 0)
        #expect(try bench.device("retire").status == 64)
        #expect(try bench.device("enroll").status == 64)
        #expect(try bench.device("nothing").status == 64)
        #expect(try bench.vendor("pcr", "approve", "--product", "p", "--out", "x").status == 64)

        let id = try bench.license()
        // No TPM: the license is degraded, and commands that need it say that nobody answers.
        func absent(_ arguments: String...) throws -> Answer {
            try bench.run("holdfast", arguments, tpm: "unix:" + bench.file("nothing.sock"))
        }
        let check = try absent("check", "scan", "--format", "json")
        #expect(check.status == 2)
        #expect(try check.json()["code"] as? String == "TPM_ABSENT")
        #expect(try check.json()["state"] as? String == "DEGRADED")
        #expect(try absent("check", "export").status == 0)
        refused(try absent("bundle", "export", "x"), "export without a TPM", status: 3)
        refused(try absent("retire", "--yes"), "retire without a TPM", status: 3)
        // Files that cannot be read or written.
        for name in ["missing", ".", "no/such"] {
            refused(try bench.device("license", "install", name), name, status: 1)
        }
        refused(try bench.device("bundle", "export", "no/such/folder"), "unwritable", status: 1)
        #expect(try bench.vendor("device", "show", "dev_nobody").status == 2)
        #expect(
            try bench.vendor(
                "license", "issue", "--device", id, "--product", "A b", "--entitlement", "scan",
                "--terms", "standard", "--until", "2099-12-31", "--out", "x"
            ).status == 2)
        #expect(
            try bench.vendor(
                "license", "issue", "--device", id, "--product", "scanner", "--entitlement",
                "scan", "--terms", "standard", "--until", "yesterday", "--out", "x"
            ).status == 64)
        #expect(try bench.device("check", "scan").status == 0)
    }

    @Test("a decision has every member, and the same ones again")
    func members() throws {
        let bench = try Bench()
        _ = try bench.license()
        let answer = try bench.device("check", "scan", "--format", "json")
        let decision = try answer.json()
        for key in [
            "allowed", "code", "entitlement", "flags", "license", "message", "mode", "next",
            "state",
        ] {
            #expect(decision[key] != nil, "\(key)")
        }
        #expect(try bench.device("check", "scan", "--format", "json").output == answer.output)
    }

    private func slotsAreFree(_ bench: Bench) throws {
        let connection = bench.machine.machine.connection(random: .system)
        defer { connection.close() }
        #expect(try connection.handles(from: 0x8000_0000).isEmpty)
        #expect(try connection.handles(from: 0x0200_0000).isEmpty)
    }
}
