import Foundation
import HoldfastFiles
import HoldfastSoftwareTPM
import Testing

/// What the programs do, as the kernel saw it.
@Suite("the programs from outside", .timeLimit(.minutes(20)))
struct TraceTests {
    /// Runs a command of the device under another program.
    private func device(_ bench: Bench, under: [String], _ arguments: [String]) throws -> Answer {
        try bench.run("holdfast", arguments, under: under)
    }

    @Test("R1: check, status and meter open no socket to a network")
    func noNetwork() throws {
        let bench = try Bench()
        _ = try bench.license()
        for arguments in [["check", "scan"], ["status"], ["meter", "scan"]] {
            let trace = bench.file("trace")
            let answer = try device(
                bench,
                under: [
                    "strace", "-f", "-qq", "-e", "trace=socket,connect,sendto,bind", "-o", trace,
                ],
                arguments)
            #expect(answer.status == 0, "\(answer.errors)")
            let lines = String(
                decoding: try Files.read(trace, maximum: 1 << 24), as: UTF8.self
            ).split(separator: "\n")
            let sockets = lines.filter { $0.contains("socket(") }
            #expect(!sockets.isEmpty)
            #expect(sockets.filter { !$0.contains("socket(AF_UNIX") } == [])
            let connected = lines.filter { $0.contains("connect(") }
            #expect(!connected.isEmpty)
            // The C library asks the machine's own name service for the user's name.
            let known = [bench.machine.machine.socketPath, "/nscd/socket"]
            #expect(connected.filter { line in !known.contains { line.contains($0) } } == [])
        }
        // The same trace sees a network where there is one.
        let seen = try device(
            bench,
            under: [
                "strace", "-f", "-qq", "-e", "trace=socket", "-o", bench.file("trace"),
            ], ["sync", "--server", "https://127.0.0.1:1"])
        #expect(seen.status == 3)
        let trace = String(
            decoding: try Files.read(bench.file("trace"), maximum: 1 << 24), as: UTF8.self)
        #expect(trace.contains("socket(AF_INET"))
    }

    @Test(
        "R24: nothing is written, moved or removed but in the state directory and where it was told"
    )
    func ownFiles() throws {
        let bench = try Bench()
        _ = try bench.license()
        let state = bench.file("state")
        func foreign(_ arguments: [String], told: [String] = []) throws -> [Substring] {
            let trace = bench.file("trace")
            let names = [
                "openat", "open", "creat", "rename", "renameat", "renameat2", "unlink",
                "unlinkat", "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat",
                "truncate", "chmod", "fchmodat", "mknod", "mknodat",
            ]
            let answer = try device(
                bench,
                under: [
                    "strace", "-f", "-qq", "-y", "-e", "trace=" + names.joined(separator: ","),
                    "-o", trace,
                ],
                arguments)
            #expect(answer.status == 0, "\(arguments) \(answer.errors)")
            let lines = String(
                decoding: try Files.read(trace, maximum: 1 << 26), as: UTF8.self
            ).split(separator: "\n")
            let changing = lines.filter { line in
                // A call that another thread interrupted stands on two lines, and the path on the
                // first of them; signals and threads that end in a call have lines of their own.
                guard names.contains(where: { line.contains(" " + $0 + "(") }) else {
                    return false
                }
                guard line.contains(" open") else { return true }
                return ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].contains { line.contains($0) }
            }
            #expect(!changing.isEmpty, "\(arguments)")
            return changing.filter { line in
                ![state, "/dev/null", "/dev/tty"].contains { line.contains("\"" + $0) }
                    && !told.contains { line.contains("/" + $0) || line.contains("\"" + $0) }
            }
        }
        func expectNothing(_ arguments: [String], told: [String] = []) throws {
            let found = try foreign(arguments, told: told)
            #expect(found == [], "\(arguments): \(found)")
        }
        try expectNothing(["status"])
        try expectNothing(["meter", "scan"])
        try expectNothing(["ledger", "checkpoint"])
        try expectNothing(["bundle", "export", "evidence"], told: ["evidence"])
        #expect(try bench.vendor("bundle", "process", "evidence", "reply").status == 0)
        let before = try bench.device("change-log", "--format", "json").output
        try expectNothing(["bundle", "import", "reply"])
        // What was before stands beside what is.
        let after = try bench.device("change-log").output
        #expect(try bench.device("change-log", "--format", "json").output != before)
        #expect(after.contains("->") || after.contains("was"), "\(after)")
        // The same search finds what is somewhere else.
        #expect(try !foreign(["bundle", "export", "other"]).isEmpty)
    }

    @Test(
        "R17: no wall clock changes a decision",
        arguments: ["1970-01-02 00:00:00", "-1y", "+10y", "2106-02-07 06:28:15"])
    func wallClock(time: String) throws {
        let bench = try Bench()
        _ = try bench.license()
        let now = try bench.device("check", "scan", "--format", "json")
        let then = try device(
            bench,
            under: ["faketime", "-f", time.first == "-" || time.first == "+" ? time : "@" + time],
            ["check", "scan", "--format", "json"])
        #expect(then.status == 0, "\(then.errors)")
        #expect(then.output == now.output)
        let metered = try device(
            bench,
            under: ["faketime", "-f", time.first == "-" || time.first == "+" ? time : "@" + time],
            ["meter", "scan"])
        #expect(metered.status == 0, "\(metered.errors)")
        #expect(try bench.device("ledger", "verify").status == 0)
    }
}
