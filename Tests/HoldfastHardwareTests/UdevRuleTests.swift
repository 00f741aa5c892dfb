import Foundation
import Testing

/// The rules for the TPM's nodes, tried by udev itself on devices that umockdev plays.
@Suite("udev rules", .serialized, .timeLimit(.minutes(20)))
struct UdevRuleTests {
    /// What udev would give a node.
    struct Outcome: Equatable {
        var owner: String?
        var group: String?
        var mode: String?
        var tags: Set<String> = []
    }

    /// The rules of Debian's package `tpm-udev` in our words, with their effect.
    static let distribution = """
        KERNEL=="tpm[0-9]*", TAG+="systemd", MODE="0660", OWNER="tss"
        KERNEL=="tpmrm[0-9]*", TAG+="systemd", MODE="0660", OWNER="tss", GROUP="tss"
        """

    /// Lets udev try rules on a device.
    ///
    /// Everything that udev writes or reads as rules is a file system in memory, which ends with the
    /// process: neither the rules of this machine nor its nodes are touched.
    private func outcome(
        of device: String, rules: KeyValuePairs<String, String>
    ) throws -> Outcome {
        var machine = Machine()
        machine.device(
            "/devices/pnp0/00:05/tpm/tpm0", "tpm", node: "tpm0", number: "10:224")
        machine.device(
            "/devices/pnp0/00:05/tpmrm/tpmrm0", "tpmrm", node: "tpmrm0", number: "252:65536")
        machine.device("/devices/pci0000:00/0000:00:1f.0/rtc/tpm9", "rtc")
        for (name, text) in rules { machine.file("rules/" + name, text + "\n") }
        let player = try Player(machine)
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.currentDirectoryURL = player.folder
        process.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        process.arguments = [
            "-euc",
            // Root needs no user namespace, and in a changed root nobody gets one.
            """
            if unshare --mount true 2>/dev/null; then become=; else become=--map-root-user; fi
            exec unshare $become --mount /bin/sh -euc "$@"
            """, "sh",
            """
            mkdir -p /dev/char
            for folder in /run /dev/char /usr/lib/udev/rules.d /etc/udev; do
                mount -t tmpfs none $folder
            done
            mkdir -p /run/udev/rules.d /etc/udev/rules.d
            echo isolated
            cp files/rules/* /run/udev/rules.d
            umockdev-run -d machine.umockdev -- udevadm test /sys/class/$1 2>&1
            """, "sh", device,
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(
            decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        try #require(
            text.contains("isolated"),
            """
            this test needs mount namespaces (`unshare --mount`, as another user with \
            `--map-root-user`) and the package udev, and this machine does not allow the one or \
            has not the other: \(text)
            """)
        try #require(process.terminationStatus == 0, "\(text)")
        var outcome = Outcome()
        for line in text.split(separator: "\n") {
            if let match = line.firstMatch(of: /\.rules:\d+ (OWNER|GROUP|MODE) (\S+)$/) {
                switch match.output.1 {
                case "OWNER": outcome.owner = String(match.output.2)
                case "GROUP": outcome.group = String(match.output.2)
                default: outcome.mode = String(match.output.2)
                }
            } else if line.hasPrefix("TAGS=") {
                outcome.tags = Set(line.dropFirst(5).split(separator: ":").map(String.init))
            }
        }
        return outcome
    }

    private func ours() throws -> String {
        try String(
            contentsOf: URL(filePath: #filePath).deletingLastPathComponent()
                .deletingLastPathComponent().deletingLastPathComponent()
                .appending(path: "udev-rules/60-holdfast-tpm.rules"), encoding: .utf8)
    }

    /// The number of a group of this machine.
    private func group(_ name: String) throws -> String {
        let groups = try String(contentsOf: URL(filePath: "/etc/group"), encoding: .utf8)
        let line = groups.split(separator: "\n").first { $0.hasPrefix(name + ":") }
        let fields = try #require(line, "there is no group \(name): install the package tpm-udev")
            .split(separator: ":", omittingEmptySubsequences: false)
        return String(fields[2])
    }

    @Test(
        "the managed node is for the group tss, and systemd learns of it",
        arguments: ["", "50-other.rules", "60-tpm-udev.rules", "99-other.rules"])
    func managed(other: String) throws {
        let rules = try rules(beside: other)
        let outcome = try outcome(of: "tpmrm/tpmrm0", rules: rules)
        #expect(
            try outcome
                == Outcome(owner: "0", group: group("tss"), mode: "0660", tags: ["systemd"]))
    }

    @Test(
        "the raw node is for root alone, whoever else has rules for it",
        arguments: ["", "50-other.rules", "60-tpm-udev.rules", "99-other.rules"])
    func raw(other: String) throws {
        let outcome = try outcome(of: "tpm/tpm0", rules: rules(beside: other))
        #expect([outcome.owner, outcome.group, outcome.mode] == ["0", "0", "0600"])
        #expect(outcome.tags == (other.isEmpty ? [] : ["systemd"]))
    }

    private func rules(beside other: String) throws -> KeyValuePairs<String, String> {
        let ours = try ours()
        return other.isEmpty
            ? ["60-holdfast-tpm.rules": ours]
            : ["60-holdfast-tpm.rules": ours, other: Self.distribution]
    }

    @Test("a device of another subsystem is left alone, whatever its name")
    func foreign() throws {
        let outcome = try outcome(of: "rtc/tpm9", rules: ["60-holdfast-tpm.rules": ours()])
        #expect(outcome == Outcome())
    }

    @Test("without our rules the test sees what the distribution's do")
    func control() throws {
        let outcome = try outcome(
            of: "tpm/tpm0", rules: ["60-tpm-udev.rules": Self.distribution])
        #expect(outcome.mode == "0660")
        #expect(outcome.owner != nil && outcome.owner != "0")
    }
}
