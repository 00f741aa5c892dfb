import Foundation
import Glibc
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Synchronization
import Testing

/// Looks at a process as often as it can, on a thread of its own.
private final class Looking: Sendable {
    private let isStopped = Mutex(false)
    private let ended = DispatchSemaphore(value: 0)

    init(_ watch: MemoryWatch, at process: Int32) {
        Thread.detachNewThread { [self] in
            while !isStopped.withLock({ $0 }), kill(process, 0) == 0 {
                watch.look(at: process, "it runs")
            }
            ended.signal()
        }
    }

    func stop() {
        isStopped.withLock { $0 = true }
        ended.wait()
    }
}

@Suite("where a secret lies", .timeLimit(.minutes(20)))
struct MemoryTests {
    /// In the environment of each program that is looked at: its copy on the stack is ordinary memory,
    /// and whoever does not find it looks in vain.
    private let control = Hex.encode(RandomSource.system.bytes(16))

    private func watch(_ secrets: [String: [UInt8]]) -> MemoryWatch {
        MemoryWatch(secrets.merging(["control": Array(control.utf8)]) { $1 })
    }

    /// Nothing but the control was in ordinary memory, and all else in guarded memory.
    private func expectGuarded(
        _ watch: MemoryWatch, _ names: Set<String>,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(watch.failures == [], sourceLocation: sourceLocation)
        #expect(watch.looks > 3, sourceLocation: sourceLocation)
        var ordinary = watch.ordinary
        #expect(ordinary.removeValue(forKey: "control") != nil, sourceLocation: sourceLocation)
        #expect(ordinary == [:], sourceLocation: sourceLocation)
        #expect(watch.guarded == names, sourceLocation: sourceLocation)
    }

    /// Lets a body use the TPM by a way on which a process is looked at before each command.
    private func watching<R>(
        _ bench: Bench, _ watch: MemoryWatch, _ body: (_ tpm: String) throws -> R
    ) throws -> R {
        let proxy = try TPMProxy(
            path: bench.file("watched-" + Hex.encode(RandomSource.system.bytes(4))),
            target: bench.machine.machine.socketPath
        ) { code, process in
            watch.look(at: process, "before " + String(code, radix: 16))
        }
        return try withExtendedLifetime(proxy) { try body("unix:" + proxy.path) }
    }

    private func run(
        _ bench: Bench, _ watch: MemoryWatch, _ arguments: [String], under: [String] = [],
        input: [UInt8]? = nil
    ) throws -> Answer {
        try watching(bench, watch) { tpm in
            let answer = try bench.run(
                "holdfast", arguments, tpm: tpm, under: under, input: input,
                more: ["CONTROL": control])
            #expect(answer.status == 0, "\(answer.errors)")
            return answer
        }
    }

    private func expectNowhere(_ secret: [UInt8], below path: String) throws {
        let files = try Files.ordinaryFiles(below: path)
        #expect(!files.isEmpty)
        for file in files {
            let bytes = try Files.read(path + "/" + file, maximum: 1 << 24)
            #expect(bytes.firstRange(of: secret) == nil, "\(file)")
        }
    }

    @Test("what is sealed and released is in guarded memory alone, and on no disk")
    func secret() throws {
        let bench = try Bench()
        let secret = RandomSource.system.bytes(100)
        let atSealing = watch(["secret": secret])
        let sealed = try run(bench, atSealing, ["seal", "--pcrs", "7"], input: secret)
        expectGuarded(atSealing, ["secret"])
        try bench.write(sealed.bytes, "blob")
        let atOpening = watch(["secret": secret])
        let opened = try run(bench, atOpening, ["unseal", "blob"])
        #expect(opened.bytes == secret)
        expectGuarded(atOpening, ["secret"])
        try expectNowhere(secret, below: bench.path)
    }

    @Test("a PIN is in guarded memory alone, from a file, a descriptor and the terminal")
    func pin() throws {
        let bench = try Bench()
        let pin = Hex.encode(RandomSource.system.bytes(12))
        let secret = RandomSource.system.bytes(32)
        try bench.write(secret, "secret")
        try bench.write(Array((pin + "\n").utf8), "pin")
        let secrets = ["PIN": Array(pin.utf8), "secret": secret]

        let fromFile = watch(secrets)
        _ = try run(
            bench, fromFile,
            ["seal", "--pcrs", "7", "--pin", "--pin-file", "pin", "--out", "blob"], input: secret)
        expectGuarded(fromFile, ["PIN", "secret"])
        let toOpen = watch(secrets)
        #expect(try run(bench, toOpen, ["unseal", "blob", "--pin-file", "pin"]).bytes == secret)
        expectGuarded(toOpen, ["PIN", "secret"])
        let fromDescriptor = watch(secrets)
        let opened = try run(
            bench, fromDescriptor, ["unseal", "blob", "--pin-fd", "3"],
            under: ["/bin/sh", "-c", "exec \"$@\" 3<pin", "sh"])
        #expect(opened.bytes == secret)
        expectGuarded(fromDescriptor, ["PIN", "secret"])

        let typedTwice = watch(secrets)
        try watching(bench, typedTwice) { tpm in
            let terminal = try PseudoTerminal(
                bench, ["seal", "--pin", "--pcrs", "7", "--out", "typed"], input: "secret",
                tpm: tpm, more: ["CONTROL": control])
            try terminal.wait(for: "PIN: ")
            try terminal.type(pin + "\n")
            try terminal.wait(for: "PIN once more: ")
            try terminal.type(pin + "\n")
            let answer = try terminal.end()
            #expect(answer.status == 0, "\(answer.errors)")
        }
        expectGuarded(typedTwice, ["PIN", "secret"])
        let typed = watch(secrets)
        try watching(bench, typed) { tpm in
            let terminal = try PseudoTerminal(
                bench, ["unseal", "typed"], tpm: tpm, more: ["CONTROL": control])
            try terminal.wait(for: "PIN: ")
            try terminal.type(pin + "\n")
            #expect(try terminal.end().bytes == secret)
        }
        expectGuarded(typed, ["PIN", "secret"])
    }

    /// A licensed device, the secret of its entitlement, and what the TPM releases for its lease.
    private func licensed() throws -> (bench: Bench, secret: [UInt8], leaseKey: [UInt8]) {
        let bench = try Bench()
        _ = try bench.license { vendor in
            let made = try vendor(
                "secret", "make", "--product", "scanner", "--entitlement", "scan", "--out", "key")
            #expect(made.status == 0, "\(made.errors)")
        }
        let tpm = TPMConnection(
            UnixSocketTransport(path: bench.machine.machine.socketPath), random: .system)
        defer { tpm.close() }
        let directory = try #require(try StateDirectory(reading: bench.file("state")))
        let trust = try #require(try directory.trust())
        let device = try EnrolledDevice(directory, tpm: tpm, random: .system)
        let document = try #require(try device.documents().first)
        let parent = try device.pinnedKey()
        let approvals = try ApprovalDocument.all(
            in: bench.bytes("approval"), trusting: trust.approvalKey)
        let object = try tpm.importBlob(document.importBlob, below: parent)
        let key = try tpm.withLoaded(
            privateBlob: object, publicArea: document.importBlob.publicArea, below: parent
        ) { (loaded) throws(TPMError) in
            try tpm.unseal(
                loaded, policy: document.statement.policy.policy,
                with: PolicyMeans(approvals: approvals.map(\.approval)), salt: parent)
        }
        return (bench, try bench.bytes("key"), key.withBytes { key in key.indices.map { key[$0] } })
    }

    @Test("the key of a lease is in guarded memory alone, whichever command opens it")
    func lease() throws {
        let (bench, secret, leaseKey) = try licensed()
        for arguments in [["check", "scan"], ["license", "install", "license"], ["status"]] {
            let watch = watch(["secret": secret, "lease key": leaseKey])
            _ = try run(bench, watch, arguments)
            // What a lease allows is read without the secrets in it.
            expectGuarded(watch, ["lease key"])
        }
        try expectNowhere(secret, below: bench.file("state"))
        try expectNowhere(leaseKey, below: bench.path)
    }

    /// A program in C that gets a secret and says what it does with it, a line at a time.
    private static let program = """
        #define _GNU_SOURCE
        #include <holdfast.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/mman.h>

        static void moment(const char *name) {
            puts(name);
            if (getchar() == EOF) exit(1);
        }

        int main(int count, char **given) {
            setvbuf(stdout, NULL, _IONBF, 0);
            setvbuf(stdin, NULL, _IONBF, 0);
            if (count != 4) return 64;
            unsigned char *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (own == MAP_FAILED || madvise(own, 4096, MADV_DONTDUMP) || mlock(own, 4096)) return 2;
            holdfast_guard *guard = holdfast_open(given[1], "scanner", given[2], given[3]);
            if (holdfast_secret(guard, "scan", own) != HOLDFAST_OK) return 3;
            moment("got it");
            explicit_bzero(own, 4096);
            moment("let it go");
            if (holdfast_secret(guard, "scan", own) != HOLDFAST_OK) return 4;
            unsigned char *copy = malloc(HOLDFAST_SECRET_SIZE);
            memcpy(copy, own, HOLDFAST_SECRET_SIZE);
            moment("copied it");
            holdfast_close(guard);
            return 0;
        }

        """

    @Test(
        "an application's secret and the lease's key are in guarded memory alone, until it copies")
    func guardian() throws {
        let (bench, secret, leaseKey) = try licensed()
        let vendor = try #require(
            try bench.device("identity", "--format", "json").json()["vendor"] as? String)
        let library = bench.file("library")
        try NativeProgram.lay(library)
        try bench.write(Array(Self.program.utf8), "program.c")
        try NativeProgram.compile(
            ["clang", "-std=gnu11"], bench.file("program.c"), to: bench.file("program"),
            library: library)
        let secrets = ["secret": secret, "lease key": leaseKey]
        let atCommands = watch(secrets)
        let process = Process()
        let asked = Pipe()
        let said = Pipe()
        try watching(bench, atCommands) { tpm in
            process.executableURL = URL(filePath: bench.file("program"))
            process.arguments = [vendor, bench.file("state"), tpm]
            process.environment = ["CONTROL": control]
            process.standardInput = asked
            process.standardOutput = said
            try process.run()
            func moment(_ name: String, ordinary: Set<String>, guarded: Set<String>) throws {
                var line = Data()
                while line.last != 0x0A {
                    let more = try said.fileHandleForReading.read(upToCount: 1) ?? Data()
                    try #require(!more.isEmpty)
                    line += more
                }
                #expect(String(decoding: line, as: UTF8.self) == name + "\n")
                // Before the copy it is clean at commands too, whichever thread sent them.
                var before = atCommands.ordinary
                before["control"] = nil
                #expect(before == [:])
                let now = watch(secrets)
                now.look(at: process.processIdentifier, name)
                #expect(now.failures == [])
                #expect(Set(now.ordinary.keys) == ordinary.union(["control"]))
                #expect(now.guarded == guarded)
                try asked.fileHandleForWriting.write(contentsOf: Data([0x0A]))
            }
            try moment("got it", ordinary: [], guarded: ["secret"])
            try moment("let it go", ordinary: [], guarded: [])
            // The scan can fail: what an application copies is found.
            try moment("copied it", ordinary: ["secret"], guarded: ["secret"])
            process.waitUntilExit()
        }
        #expect(process.terminationStatus == 0)
        #expect(atCommands.failures == [])
        #expect(atCommands.guarded.contains("lease key"))
        #expect(atCommands.ordinary["lease key"] == nil)
        #expect(atCommands.ordinary["control"] != nil)
    }

    @Test(
        "a server signs, opens and hashes with keys in guarded memory; P-256 keys are its libraries'"
    )
    func server() throws {
        let bench = try Bench()
        try bench.makeVendor()
        let names = ["root", "issuer", "sealing", "record", "approval", "tls"]
        var keys: [String: [UInt8]] = [:]
        for name in names { keys[name] = try bench.bytes("vendor/\(name).key") }
        let token = try bench.bytes("vendor/admin.token")
        keys["administrator's token"] = token
        let server = try bench.serve(environment: ["CONTROL": control])
        let watch = watch(keys)
        let looking = Looking(watch, at: server.number)
        func look(_ moment: String) { watch.look(at: server.number, moment) }
        look("it listens")
        let enrolled = try bench.device(
            "enroll", "--trust", "vendor/trust", "--server", server.url, "--format", "json")
        #expect(enrolled.status == 0, "\(enrolled.errors)")
        look("it enrolled a device")
        let id = try #require(try enrolled.json()["device"] as? String)
        for arguments in [
            ["device", "approve", id, "--model", "gateway"],
            [
                "pcr", "approve", "--model", "gateway", "--from", id, "--product", "scanner",
                "--out", "approval",
            ], ["terms", "apply", "terms"],
            [
                "license", "issue", "--device", id, "--product", "scanner", "--entitlement", "scan",
                "--terms", "standard", "--until", "2099-12-31", "--out", "license",
            ],
        ] {
            try bench.write(Array(Bench.terms.utf8), "terms")
            let answer = try bench.run("holdfast-server", arguments)
            #expect(answer.status == 0, "\(answer.errors)")
        }
        for number in 0..<3 {
            let synchronized = try bench.device("sync", "--server", server.url)
            #expect(synchronized.status == 0, "\(synchronized.errors)")
            look("it answered \(number)")
        }
        looking.stop()
        #expect(watch.failures == [])
        var ordinary = watch.ordinary
        #expect(ordinary.removeValue(forKey: "control") != nil)
        // What the scan does find: docs/attacks.md says why.
        #expect(ordinary.removeValue(forKey: "tls") != nil)
        #expect(ordinary == [:])
        #expect(server.stop() == 0)
    }
}
