import Foundation
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

/// One thing that is another one at the next boot.
struct OtherBoot: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let change: @Sendable (inout BootFixture) -> Void
    /// Register, cause, and a word of what happened.
    let told: [(Int, String, String)]

    static let all = [
        OtherBoot(
            testDescription: "firmware", change: { $0.firmware = "1.1" },
            told: [(0, "firmware", "version of the firmware")]),
        OtherBoot(
            testDescription: "Secure Boot keys", change: { $0.isSecureBootOn = false },
            told: [(7, "secure-boot-keys", "SecureBoot")]),
        OtherBoot(
            testDescription: "boot loader",
            change: { $0.bootLoader = BootFixture.image("grub 2.12") },
            told: [(4, "boot-loader", "grubx64.efi")]),
        OtherBoot(
            testDescription: "kernel", change: { $0.kernel = BootFixture.image("linux 6.2") },
            told: [(4, "kernel", "vmlinuz"), (9, "kernel", "vmlinuz")]),
        OtherBoot(
            testDescription: "command line", change: { $0.commandLine += " init=/bin/sh" },
            told: [(8, "command-line", "init=/bin/sh")]),
        OtherBoot(
            testDescription: "initial RAM disk", change: { $0.initialRAMDisk = [1] },
            told: [(9, "initial-ram-disk", "initrd")]),
    ]
}

@Suite("what changed since the last good boot", .timeLimit(.minutes(20)))
struct BootDiagnosisTests {
    private func changes(_ answer: Answer) throws -> [[String: Any]] {
        try #require(try answer.json()["boot"] as? [[String: Any]])
    }

    @Test("status and doctor name register, event, cause and next step of every kind of change")
    func named() throws {
        let bench = try Bench()
        try bench.reboot(BootFixture())
        _ = try bench.license("--pcrs", "sha256:0,4,7,8,9")
        let good = try bench.device("status", "--format", "json")
        #expect(try changes(good).isEmpty)
        let record = bench.file("state/good-boot")
        let attributes = try FileManager.default.attributesOfItem(atPath: record)
        #expect(attributes[.posixPermissions] as? Int == 0o600)

        for other in OtherBoot.all {
            var boot = BootFixture()
            other.change(&boot)
            try bench.reboot(boot)
            let status = try bench.device("status", "--format", "json")
            #expect(status.status == 0, "\(status.errors)")
            let found = try changes(status)
            #expect(found.count == other.told.count, "\(other.testDescription): \(found)")
            for (change, told) in zip(found, other.told) {
                #expect(change["pcr"] as? Int == told.0)
                #expect(change["bank"] as? String == "sha256")
                #expect(change["cause"] as? String == told.1)
                #expect((change["what"] as? String)?.contains(told.2) == true, "\(change)")
                #expect(change["isExplained"] as? Bool == true)
                #expect(change["event"] is Int)
                #expect((change["advice"] as? String)?.isEmpty == false)
            }
            let text = try bench.device("status").output
            #expect(text.contains("PCR \(other.told[0].0) of the sha256 bank"))
            #expect(text.contains("treat this machine as tampered with"))
            let doctor = try bench.device("doctor", "--format", "json")
            let findings = try #require(try doctor.json()["findings"] as? [[String: Any]])
            let ids = findings.compactMap { $0["id"] as? String }
            for told in other.told { #expect(ids.contains("boot-change-sha256-\(told.0)")) }
            #expect(try bench.device("check", "scan").status == 2)
        }

        // The former boot is a good one again.
        try bench.reboot(BootFixture())
        #expect(try bench.device("check", "scan").status == 0)
        let again = try bench.device("doctor", "--format", "json")
        #expect(!again.output.contains("boot-change"))
    }

    @Test("what the log does not show is not made up, and a log that is not there is no obstacle")
    func notShown() throws {
        let bench = try Bench()
        try bench.reboot(BootFixture())
        _ = try bench.license("--pcrs", "sha256:4,7")
        #expect(try bench.device("check", "scan").status == 0)
        try bench.reboot(
            BootFixture(), adding: [.init(Array("somebody".utf8), into: PCRIndex.all[4])])
        let hidden = try changes(bench.device("status", "--format", "json"))
        #expect(hidden.count == 1)
        #expect(hidden[0]["cause"] as? String == "running-system")
        #expect(hidden[0]["isExplained"] as? Bool == false)
        #expect(hidden[0]["event"] == nil)
        for content in [nil, [], Array("no log".utf8)] as [[UInt8]?] {
            try FileManager.default.removeItem(atPath: bench.eventLog)
            if let content { try bench.write(content, "event-log") }
            let without = try bench.device("status", "--format", "json")
            #expect(without.status == 0)
            #expect(try changes(without)[0]["cause"] as? String == "boot-loader")
            if content == nil { try bench.write([], "event-log") }
        }
        // A damaged record is as good as none.
        try bench.write([1, 2, 3], "state/good-boot")
        let damaged = try bench.device("status", "--format", "json")
        #expect(damaged.status == 0)
        #expect(try changes(damaged).isEmpty)
    }
}

@Suite("an update that was predicted", .timeLimit(.minutes(20)))
struct PredictionTests {
    /// The machine after the update, and the files that come with it.
    private static let update: BootFixture = {
        var boot = BootFixture()
        boot.bootLoader = BootFixture.image("grub 2.12")
        boot.kernel = BootFixture.image("linux 6.2")
        boot.initialRAMDisk = Array("initrd 6.2".utf8)
        boot.commandLine += " quiet"
        return boot
    }()

    private static let components = [
        "--replace", "boot-loader=grub", "--replace", "kernel=vmlinuz", "--replace",
        "initrd=initrd", "--replace", "command-line=cmdline",
    ]

    /// A licensed device, and an approval that was made from files alone.
    private func prepared() throws -> Bench {
        let bench = try Bench()
        try bench.reboot(BootFixture())
        _ = try bench.license("--pcrs", "sha256:0,4,7,8,9")
        #expect(try bench.device("check", "scan").status == 0)
        try bench.write(BootFixture().log, "before")
        try bench.write(Self.update.bootLoader, "grub")
        try bench.write(Self.update.kernel, "vmlinuz")
        try bench.write(Self.update.initialRAMDisk, "initrd")
        try bench.write(Array((Self.update.commandLine + "\n").utf8), "cmdline")
        let predicted = try bench.run(
            "holdfast-server",
            [
                "pcr", "predict", "--event-log", "before", "--out", "values", "--event-log-out",
                "predicted", "--format", "json",
            ] + Self.components)
        #expect(predicted.status == 0, "\(predicted.errors)")
        #expect((try predicted.json()["changes"] as? [Any])?.count == 5)
        // The log of the boot after the update, event by event but for the texts of GRUB.
        let replayed = try EventLog(parsing: bench.bytes("predicted")).replay()
        #expect(try replayed == EventLog(parsing: Self.update.log).replay())
        let approved = try bench.vendor(
            "pcr", "approve", "--model", "gateway", "--pcr-values", "values", "--product",
            "scanner", "--out", "approval-2")
        #expect(approved.status == 0, "\(approved.errors)")
        return bench
    }

    @Test("the approval is installed before the reboot, and the lease opens after it")
    func before() throws {
        let bench = try prepared()
        #expect(try bench.device("approve", "approval-2").status == 0)
        #expect(try bench.device("check", "scan").status == 0)
        try bench.reboot(Self.update)
        let check = try bench.device("check", "scan")
        #expect(check.status == 0, "\(check.output)")
        // The way back stays open.
        try bench.reboot(BootFixture())
        #expect(try bench.device("check", "scan").status == 0)
    }

    @Test("the approval is installed after the reboot: locked until then, and explained")
    func after() throws {
        let bench = try prepared()
        try bench.reboot(Self.update)
        #expect(try bench.device("check", "scan").status == 2)
        let status = try bench.device("status", "--format", "json")
        let causes = try #require(try status.json()["boot"] as? [[String: Any]])
            .compactMap { $0["cause"] as? String }
        #expect(causes == ["boot-loader", "command-line", "kernel"])
        #expect(try bench.device("approve", "approval-2").status == 0)
        #expect(try bench.device("check", "scan").status == 0)
    }

    @Test(
        "the hooks of the documentation do it: the vendor's at the build, the device's at the package"
    )
    func hooks() throws {
        let bench = try prepared()
        let components = Self.components.filter { $0 != "--replace" }
        try FileManager.default.createDirectory(
            atPath: bench.file("approvals"), withIntermediateDirectories: false)
        #expect(
            try bench.hook(
                "predict-update",
                ["gateway", "scanner", "before", "approvals/linux.approval"] + components) == 0)
        // Something else that lies there keeps no package from being installed.
        try bench.write([1, 2, 3], "approvals/broken.approval")
        let approvals = ["HOLDFAST_APPROVALS": bench.file("approvals")]
        #expect(try bench.hook("kernel-postinst", ["6.2"], more: approvals) == 0)
        try bench.reboot(Self.update)
        #expect(try bench.device("check", "scan").status == 0)
        #expect(try bench.hook("predict-update", []) == 64)
    }

    @Test("a prediction that does not come true opens nothing, and the difference is named")
    func wrong() throws {
        let bench = try prepared()
        #expect(try bench.device("approve", "approval-2").status == 0)
        var other = Self.update
        other.commandLine += " init=/bin/sh"
        try bench.reboot(other)
        let check = try bench.device("check", "scan")
        #expect(check.status == 2)
        #expect(check.output.contains("PCR 8"))
        let status = try bench.device("status").output
        #expect(status.contains("init=/bin/sh"))
    }

    @Test(
        "what cannot be predicted is refused, with what could be meant",
        arguments: [
            ("kernel=cmdline", "not a PE image"), ("uki=vmlinuz", "section .linux"),
            ("image:/nowhere.efi=grub", "nothing that is"), ("event:999=grub", "nothing that is"),
            ("section:.linux=grub", "nothing that is"), ("sound=grub", "nothing that is"),
        ])
    func refused(component: String, word: String) throws {
        let bench = try Bench()
        try bench.write(BootFixture().log, "before")
        try bench.write(BootFixture.image("a"), "grub")
        try bench.write(BootFixture.image("b"), "vmlinuz")
        try bench.write(Array("text".utf8), "cmdline")
        let answer = try bench.vendor(
            "pcr", "predict", "--event-log", "before", "--replace", component)
        #expect(answer.status == 2)
        #expect(answer.code == "PREDICTION_IMPOSSIBLE")
        #expect(answer.errors.contains(word), "\(answer.errors)")
    }
}
