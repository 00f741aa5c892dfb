import Foundation
import Glibc
import HoldfastFiles
import HoldfastSoftwareTPM
import Testing

/// The programs of `docs/examples`, compiled as a user does it and run as a user without rights.
@Suite("the examples of the documentation", .timeLimit(.minutes(20)))
struct ExampleTests {
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
        let examples = NativeProgram.root.path + "/docs/examples/"
        try NativeProgram.lay(library)
        try NativeProgram.compile(
            ["clang", "-std=gnu11"], examples + "meter.c", to: bench.file("in-c"),
            library: library)
        try NativeProgram.compile(
            ["clang++", "-std=c++17"], examples + "meter.cpp", to: bench.file("in-cpp"),
            library: library)

        let c = try NativeProgram.run(unprivileged([bench.file("in-c")] + given))
        #expect(c.output == "scanning\nmetered\na secret of 32 bytes\n")
        #expect(c.status == 0)
        let cpp = try NativeProgram.run(unprivileged([bench.file("in-cpp")] + given))
        #expect(cpp.output == "ACTIVE: the license is active\nmetered\n")
        #expect(cpp.status == 0)
        let python = try NativeProgram.run(
            unprivileged(
                [
                    "/usr/bin/python3", NativeProgram.root.path + "/docs/examples/meter.py",
                    library + "/libholdfast.so.0",
                ] + given))
        #expect(python.output == "scanning\nmetered\n")
        #expect(python.status == 0)
        let swift = try NativeProgram.run(
            unprivileged([NativeProgram.built.path + "/holdfast-example"] + given))
        #expect(swift.output == "scanning\nmetered\na secret of 32 bytes\n")
        #expect(swift.status == 0)
        let shown = try bench.device("ledger", "show", "--format", "json").json()
        #expect(shown["totals"] as? [String: Int] == ["scan": 14])

        // Without the group nothing is allowed, and the reason is said.
        let stranger = try NativeProgram.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", bench.path])
        #expect(stranger.status != 0)

        // What the TPM refuses, no variable of the environment brings back.
        let other = [String(vendor.reversed()), bench.file("state"), tpm]
        let variables = [
            "HOLDFAST_STATE": bench.file("state"), "HOLDFAST_TCTI": tpm, "HOLDFAST_DEBUG": "1",
            "HOLDFAST_TEST": "1", "TSS2_LOG": "all+TRACE", "TPM2TOOLS_TCTI": tpm,
        ]
        for arguments in [other, [vendor, bench.file("nowhere"), tpm]] {
            let refused = try NativeProgram.run(
                unprivileged([bench.file("in-c")] + arguments), environment: variables)
            #expect(refused.status == 2)
            #expect(refused.output.hasPrefix("not scanning: "), "\(refused.output)")
        }
    }
}
