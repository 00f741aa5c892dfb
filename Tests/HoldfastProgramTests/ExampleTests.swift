import Foundation
import Glibc
import HoldfastFiles
import HoldfastSoftwareTPM
import Testing

/// The programs of `docs/examples`, compiled as a user does it and run as a user without rights.
@Suite("the examples of the documentation", .timeLimit(.minutes(20)))
struct ExampleTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let built = root.appending(path: ".build/debug")

    private struct Ended {
        let status: Int32
        let output: String
    }

    private func run(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> Ended {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = arguments
        var all = ProcessInfo.processInfo.environment
        for (name, value) in environment { all[name] = value }
        process.environment = all
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let said = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Ended(
            status: process.terminationReason == .exit ? process.terminationStatus : -1,
            output: String(decoding: said, as: UTF8.self))
    }

    /// The library under its names, as `make sdk` lays it down.
    private func lay(_ folder: String) throws {
        try Files.makePrivateDirectory(folder)
        #expect(unsafe chmod(folder, 0o755) == 0)
        for name in ["libholdfast.so", "libholdfast.so.0"] {
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/" + name,
                withDestinationPath: Self.built.path + "/libHoldfastLibrary.so")
        }
    }

    /// Compiles a program that finds the library at run time.
    private func compile(
        _ compiler: [String], _ source: String, to program: String, library: String
    ) throws {
        let compiled = try run(
            compiler + [
                "-Wall", "-Wextra", "-Werror", "-I", Self.root.path + "/Sources/CHoldfast/include",
                Self.root.path + "/docs/examples/" + source, "-o", program, "-L", library,
                "-lholdfast", "-Wl,-rpath,\(library)", "-Wl,--allow-shlib-undefined",
            ])
        #expect(compiled.status == 0, "\(compiled.output)")
    }

    /// The user `nobody`, in a group of its own that the directory and the TPM are opened for.
    private static let group: gid_t = 61_234

    private func unprivileged(_ arguments: [String]) -> [String] {
        [
            "setpriv", "--reuid=65534", "--regid=65534", "--groups=\(Self.group)",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
        ] + arguments
    }

    /// What an administrator does, as docs/sdk.md says.
    private func share(_ bench: Bench) throws {
        func give(_ path: String, mode: mode_t? = nil) {
            #expect(unsafe chown(path, uid_t.max, Self.group) == 0)
            if let mode { #expect(unsafe chmod(path, mode) == 0) }
        }
        give(bench.path, mode: 0o750)
        let state = bench.file("state")
        give(state, mode: 0o2750)
        for name in try Files.ordinaryFiles(below: state) { give(state + "/" + name) }
        for folder in ["licenses", "approvals"] { give(state + "/" + folder, mode: 0o2750) }
        give(state + "/ledger", mode: 0o2770)
        give(bench.machine.path, mode: 0o750)
        give(bench.machine.machine.socketPath, mode: 0o770)
    }

    @Test("C, C++, Python and Swift check, meter and get the secret, without any right but a group")
    func all() throws {
        let bench = try Bench()
        _ = try bench.license { vendor in
            let made = try vendor("secret", "make", "--product", "scanner", "--entitlement", "scan")
            #expect(made.status == 0, "\(made.errors)")
        }
        let vendor = try #require(
            try bench.device("identity", "--format", "json").json()["vendor"] as? String)
        try share(bench)
        let tpm = "unix:" + bench.machine.machine.socketPath
        let given = [vendor, bench.file("state"), tpm]
        let library = bench.file("library")
        try lay(library)
        try compile(
            ["clang", "-std=gnu11"], "meter.c", to: bench.file("in-c"), library: library)
        try compile(
            ["clang++", "-std=c++17"], "meter.cpp", to: bench.file("in-cpp"), library: library)

        let c = try run(unprivileged([bench.file("in-c")] + given))
        #expect(c.output == "scanning\nmetered\na secret of 32 bytes\n")
        #expect(c.status == 0)
        let cpp = try run(unprivileged([bench.file("in-cpp")] + given))
        #expect(cpp.output == "ACTIVE: the license is active\nmetered\n")
        #expect(cpp.status == 0)
        let python = try run(
            unprivileged(
                [
                    "/usr/bin/python3", Self.root.path + "/docs/examples/meter.py",
                    library + "/libholdfast.so.0",
                ] + given))
        #expect(python.output == "scanning\nmetered\n")
        #expect(python.status == 0)
        let swift = try run(
            unprivileged([Self.built.path + "/holdfast-example"] + given))
        #expect(swift.output == "scanning\nmetered\na secret of 32 bytes\n")
        #expect(swift.status == 0)
        let shown = try bench.device("ledger", "show", "--format", "json").json()
        #expect(shown["totals"] as? [String: Int] == ["scan": 14])

        // Without the group nothing is allowed, and the reason is said.
        let stranger = try run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", bench.path])
        #expect(stranger.status != 0)

        // What the TPM refuses, no variable of the environment brings back.
        let other = [String(vendor.reversed()), bench.file("state"), tpm]
        let variables = [
            "HOLDFAST_STATE": bench.file("state"), "HOLDFAST_TCTI": tpm, "HOLDFAST_DEBUG": "1",
            "HOLDFAST_TEST": "1", "TSS2_LOG": "all+TRACE", "TPM2TOOLS_TCTI": tpm,
        ]
        for arguments in [other, [vendor, bench.file("nowhere"), tpm]] {
            let refused = try run(
                unprivileged([bench.file("in-c")] + arguments), environment: variables)
            #expect(refused.status == 2)
            #expect(refused.output.hasPrefix("not scanning: "), "\(refused.output)")
        }
    }
}
