import Foundation
import HoldfastCrypto
import HoldfastProtocol
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// The story of a license on two software TPMs, told with the commands that a person would type.
///
/// Every claim is checked as it is made; one that does not hold makes the demonstration fail. It
/// shows what exists and nothing else.
public struct Demonstration {
    /// What was claimed and whether it held.
    public struct Claim: Sendable {
        public let text: String
        public let held: Bool
    }

    private let say: (String) -> Void
    private let programs: String
    private let random = RandomSource.system
    private var claims: [Claim] = []

    /// - Parameters:
    ///   - programs: the directory with the programs of this package.
    ///   - say: prints a line.
    public init(programs: String, _ say: @escaping (String) -> Void) {
        self.programs = programs
        self.say = say
    }

    /// Tells the story in directories of its own, which are removed afterwards.
    ///
    /// - Returns: the claims; the demonstration succeeded when all of them held.
    public mutating func run() throws -> [Claim] {
        let first = try Actor(random)
        let second = try Actor(random)
        let work =
            FileManager.default.temporaryDirectory.path
            + "/holdfast-demo-" + Hex.encode(random.bytes(8))
        try FileManager.default.createDirectory(
            atPath: work, withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(atPath: work) }
        var stage = Stage(
            programs: Programs(directory: programs, work: work), first: first, second: second,
            since: monotonicMicroseconds())
        try tell(&stage)
        say("")
        for claim in claims { say("\(claim.held ? "shown    " : "NOT SHOWN")  \(claim.text)") }
        return claims
    }

    /// A machine with a software TPM that can be asked how long it took.
    private final class Actor {
        let transient: TransientMachine
        let proxy: TimingProxy
        private let random: RandomSource

        init(_ random: RandomSource) throws {
            self.random = random
            transient = try TransientMachine(.manufactured)
            try transient.machine.powerOn(.documented, ca: nil, random: random)
            proxy = try TimingProxy(before: transient.machine.socketPath)
        }

        deinit { proxy.close() }

        /// The boot of now, repeated after a power cut.
        private var boot = SoftwareBoot.documented

        func cutPower() throws {
            try transient.machine.kill()
            try transient.machine.powerOn(boot, ca: nil, random: random)
        }

        func reboot(_ boot: SoftwareBoot) throws {
            self.boot = boot
            try transient.machine.powerOff(random: random)
            try transient.machine.powerOn(boot, ca: nil, random: random)
        }

        /// Lends a connection of our own, for what no command of ours does.
        func with<R>(_ body: (TPMConnection) throws -> R) rethrows -> R {
            let connection = transient.machine.connection(random: random)
            defer { connection.close() }
            return try body(connection)
        }
    }

    private struct Stage {
        let programs: Programs
        let first: Actor
        let second: Actor
        var since: Double

        func device(
            _ arguments: String..., state: String = "device", on machine: Actor? = nil,
            before: [String] = []
        ) throws -> Answer {
            try programs.run(
                "holdfast", arguments, tpm: (machine ?? first).proxy.path, state: state,
                before: before)
        }

        func vendor(_ arguments: String...) throws -> Answer {
            try programs.run("holdfast-server", arguments)
        }

        func path(_ name: String) -> String { programs.work + "/" + name }
    }

    private mutating func tell(_ stage: inout Stage) throws {
        say("Holdfast on two software TPMs: two machines in the field, and a vendor, by file.")
        try setUp(&stage)
        let device = try enroll(&stage)
        try license(&stage, device)
        try clocks(&stage)
        try copies(&stage)
        try bootChange(&stage, device)
        try shortLease(&stage, device)
        try meter(&stage, device)
        try network(&stage, device)
        try revoke(&stage, device)
        try leave(&stage, device)
        for machine in [stage.first, stage.second] {
            try machine.with { tpm in
                claim(
                    "no object and no session is left behind in \(machine === stage.first ? "the first" : "the second") TPM",
                    try tpm.handles(from: 0x8000_0000).isEmpty
                        && tpm.handles(from: 0x0200_0000).isEmpty)
            }
        }
    }

    // MARK: Chapters

    private mutating func setUp(_ stage: inout Stage) throws {
        chapter("The vendor makes keys, and trusts the makers of both TPMs")
        let roots = stage.path("roots")
        try FileManager.default.createDirectory(atPath: roots, withIntermediateDirectories: false)
        for (number, machine) in [stage.first, stage.second].enumerated() {
            let from = machine.transient.path + "/ek-roots"
            for name in try FileManager.default.contentsOfDirectory(atPath: from) {
                try FileManager.default.copyItem(
                    atPath: from + "/" + name, toPath: roots + "/\(number)-" + name)
            }
        }
        let made = try stage.vendor(
            "init", "--data", stage.path("vendor"), "--ek", "id:00001014/swtpm=ecc-p384",
            "--ek-roots", roots)
        claim("`holdfast-server init` makes keys and the trust file", made.status == 0)
        try FileManager.default.removeItem(atPath: stage.path("vendor/root.key"))
        finish(&stage)
    }

    private mutating func enroll(_ stage: inout Stage) throws -> String {
        chapter("The first machine enrolls: one file out, one back, and evidence")
        let request = try stage.device(
            "enroll", "--trust", "vendor/trust", "--request-out", "request")
        claim("`holdfast enroll --request-out` asks", request.status == 0)
        let answer = try stage.vendor(
            "enroll", "process", "request", "--out", "response", "--format", "json")
        let device = answer["device"] ?? ""
        claim(
            "`holdfast-server enroll process` checks the TPM's certificate and answers \(device)",
            answer.status == 0 && device.hasPrefix("dev_"))
        claim(
            "the record is unproven: a certificate is no secret",
            try state(stage, device) == "unproven")
        let second = try stage.device(
            "enroll", "--response-in", "response", "--evidence-out", "evidence")
        claim("its TPM opens the response, and quotes a nonce from inside", second.status == 0)
        let processed = try stage.vendor(
            "bundle", "process", "evidence", "reply", "--format", "json")
        claim(
            "`holdfast-server bundle process` finds the evidence good: the device is pending",
            try processed["outcome"] == "pending-device" && state(stage, device) == "pending")
        claim(
            "a changed byte of evidence opens nothing",
            try flipped(stage, "evidence", "forged")
                && stage.vendor("bundle", "process", "forged", "nothing").status == 2)
        finish(&stage)
        return device
    }

    private mutating func license(_ stage: inout Stage, _ device: String) throws {
        chapter("An operator admits it, approves its boot state and issues a license")
        let terms = """
            {"id": "field", "version": 1, "class": "test", "lease": "1h", "renewAfter": "30m",
             "graceAfter": "45m", "softAfter": "20m", "degraded": "1h", "resets": 5, "restarts": 0,
             "evidenceValidity": "1h", "nonceLifetime": "4h", "defaultEnforcement": "strict",
             "enforcement": {"preview": "soft"}}
            """
        try Data(terms.utf8).write(to: URL(filePath: stage.path("terms")))
        _ = try stage.vendor("terms", "apply", "terms")
        func issue() throws -> Answer {
            try stage.vendor(
                "license", "issue", "--device", device, "--product", "scanner", "--entitlement",
                "scan=100", "--entitlement", "preview", "--terms", "field", "--until",
                "2099-12-31", "--out", "license")
        }
        refused("nothing is issued to a device that nobody admitted", try issue(), "DEVICE_PENDING")
        _ = try stage.vendor("device", "approve", device, "--model", "gateway")
        refused(
            "nor to a boot state that nobody approved", try issue(), "BOOT_STATE_NOT_APPROVED")
        _ = try stage.vendor(
            "pcr", "approve", "--model", "gateway", "--from", device, "--product", "scanner",
            "--out", "approval-1")
        claim("then the license is issued", try issue().status == 0)
        claim(
            "`holdfast license install` verifies it whole, and the TPM opens the lease",
            try stage.device("license", "install", "license", "--format", "json")[
                "licenses.0.state"] == "ACTIVE")
        finish(&stage)
        chapter("The machine is offline")
        let check = try stage.device("check", "scan", "--format", "json")
        claim(
            "`holdfast check scan` allows, with reason, limit and the next change",
            check.status == 0 && check["state"] == "ACTIVE" && check["limit"] == "100"
                && check["next.state"] == "RENEW_DUE")
        claim(
            "what was not granted is refused, and core never is",
            try stage.device("check", "other").status == 2
                && stage.device("check", "core").status == 0)
        finish(&stage)
    }

    private mutating func clocks(_ stage: inout Stage) throws {
        chapter("Somebody turns the wall clock")
        let now = try stage.device("check", "scan", "--format", "json")
        for (name, clock) in [
            ("1970", "1970-01-02 00:00:00"), ("one year back", "-1y"), ("ten years ahead", "+10y"),
        ] {
            let turned = try stage.device(
                "check", "scan", "--format", "json", before: ["faketime", "-f", offset(clock)])
            claim(
                "\(name): the decision is the same, byte for byte",
                turned.status == 0 && turned.output == now.output && !now.output.isEmpty)
        }
        finish(&stage)
    }

    /// faketime's own notation: `@` begins an absolute start.
    private func offset(_ text: String) -> String {
        text.contains(":") ? "@" + text : text
    }

    private mutating func copies(_ stage: inout Stage) throws {
        chapter("The disk is copied to the second machine, which is enrolled as well")
        _ = try stage.device(
            "enroll", "--trust", "vendor/trust", "--request-out", "request-2", state: "other",
            on: stage.second)
        _ = try stage.vendor("enroll", "process", "request-2", "--out", "response-2")
        let enrolled = try stage.device(
            "enroll", "--response-in", "response-2", "--evidence-out", "evidence-2",
            state: "other", on: stage.second)
        claim("the second machine has an enrollment of its own", enrolled.status == 0)
        refused(
            "the first one's license file is refused there",
            try stage.device("license", "install", "license", state: "other", on: stage.second),
            "DEVICE_MISMATCH")
        try FileManager.default.copyItem(
            atPath: stage.path("device"), toPath: stage.path("copied"))
        let copied = try stage.device(
            "check", "scan", "--format", "json", state: "copied", on: stage.second)
        claim(
            "the whole state directory is copied: no lease opens",
            copied.status == 2 && copied["code"] == "CLEARED")
        try rawCopies(stage)
        finish(&stage)
    }

    /// What a forger does who throws our checks away: the TPM's own answer.
    private mutating func rawCopies(_ stage: Stage) throws {
        let folder = stage.path("device/licenses")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder)
        guard let license = names.first(where: { $0.hasSuffix(".license") }),
            let object = names.first(where: { $0.hasSuffix(".object") }),
            let section = try Container(
                decoding: [UInt8](Data(contentsOf: URL(filePath: folder + "/" + license))))[
                    .importBlob]
        else {
            claim("the first machine's lease is on its disk", false)
            return
        }
        var reader = WireReader(section)
        let blob = ImportBlob(
            publicArea: try reader.sized("public", maximum: 1024),
            duplicate: try reader.sized("duplicate", maximum: 1024),
            encryptedSeed: try reader.sized("seed", maximum: 512))
        let stored = [UInt8](try Data(contentsOf: URL(filePath: folder + "/" + object)))
        try stage.second.with { tpm in
            let parent = try tpm.object(at: VendorSlot.all[0].leaseParent)
            refused("past our checks, its TPM refuses to import the lease", .integrity) {
                () throws(TPMError) in _ = try tpm.importBlob(blob, below: parent)
            }
            refused("and to load what the first TPM made of it", .integrity) {
                () throws(TPMError) in
                try tpm.withLoaded(
                    privateBlob: stored, publicArea: blob.publicArea, below: parent
                ) { (_) throws(TPMError) in }
            }
        }
    }

    private mutating func bootChange(_ stage: inout Stage, _ device: String) throws {
        chapter("The first machine boots with Secure Boot changed")
        try stage.first.reboot(
            SoftwareBoot.documented.adding([
                .init(Array("secure boot off".utf8), into: PCRIndex.all[7])
            ]))
        let locked = try stage.device("check", "scan", "--format", "json")
        say("        " + (locked["message"] ?? ""))
        claim(
            "strict entitlements stop, and the PCR that changed is named",
            locked.status == 2 && locked["mode"] == "LOCKED" && locked["code"] == "BOOT_CHANGED"
                && (locked["message"] ?? "").contains("PCR 7"))
        claim(
            "soft ones go on for a while, and the state says so",
            try stage.device("check", "preview").status == 0 && locked["state"] == "ACTIVE")
        finish(&stage)
        chapter("The vendor approves the new state; the lease stays as it is")
        _ = try stage.device("bundle", "export", "evidence-3")
        claim(
            "evidence of the new state is good, and waits for the vendor's policy",
            try stage.vendor("bundle", "process", "evidence-3", "reply-3", "--format", "json")[
                "outcome"] == "pending-boot-state")
        _ = try stage.vendor(
            "pcr", "approve", "--model", "gateway", "--from", device, "--product", "scanner",
            "--out", "approval-2")
        claim(
            "a forged approval is refused when it is installed",
            try flipped(stage, "approval-2", "approval-3")
                && stage.device("approve", "approval-3").status == 2)
        claim(
            "the signed approval opens the lease again",
            try stage.device("approve", "approval-2").status == 0
                && stage.device("check", "scan").status == 0)
        finish(&stage)
    }

    private mutating func shortLease(_ stage: inout Stage, _ device: String) throws {
        chapter("A lease of eight seconds runs out on the TPM's clock; the wall clock is not asked")
        let terms = """
            {"id": "short", "version": 1, "class": "test", "lease": "8s", "renewAfter": "3s",
             "graceAfter": "6s", "softAfter": "8s", "degraded": "2s", "resets": 5, "restarts": 0,
             "evidenceValidity": "1h", "nonceLifetime": "1h", "defaultEnforcement": "strict"}
            """
        try Data(terms.utf8).write(to: URL(filePath: stage.path("terms-short")))
        _ = try stage.vendor("terms", "apply", "terms-short")
        _ = try stage.device("bundle", "import", "reply-3")
        _ = try stage.device("bundle", "export", "evidence-4")
        let renewal = try stage.vendor(
            "bundle", "process", "evidence-4", "reply-4", "--format", "json")
        let issued = try stage.vendor(
            "license", "issue", "--device", device, "--product", "scanner", "--entitlement",
            "burst", "--terms", "short", "--until", "2099-12-31", "--out", "license-short")
        _ = try stage.device("license", "install", "license-short")
        var seen: [String] = []
        var first: Answer?
        let start = monotonicMicroseconds()
        while monotonicMicroseconds() - start < 30_000_000, seen.last != "EXPIRED" {
            let check = try stage.device("check", "burst", "--format", "json")
            if first == nil { first = check }
            if let state = check["state"], state != seen.last { seen.append(state) }
            usleep(200_000)
        }
        say("        " + seen.joined(separator: " -> "))
        let order = ["ACTIVE", "RENEW_DUE", "GRACE", "DEGRADED", "EXPIRED"]
        claim(
            "it opens at first, and passes its states in order until it has expired",
            renewal["outcome"] == "accepted" && issued.status == 0 && first?.status == 0
                && seen.last == "EXPIRED" && order.filter(seen.contains) == seen)
        claim(
            "then its strict entitlement is refused, and export is not",
            try stage.device("check", "burst").status == 2
                && stage.device("check", "export").status == 0)
        claim(
            "the longer lease beside it is not touched",
            try stage.device("check", "scan").status == 0)
        finish(&stage)
    }

    private mutating func meter(_ stage: inout Stage, _ device: String) throws {
        chapter("Usage is metered offline, and settled by file")
        for quantity in ["3", "4"] {
            _ = try stage.device("meter", "scan", "--quantity", quantity)
        }
        try stage.first.cutPower()
        claim(
            "the power is cut after `holdfast meter`: what it recorded is there",
            try stage.device("ledger", "show", "--format", "json")["totals.scan"] == "7")
        claim(
            "every record is what the TPM sealed",
            try stage.device("ledger", "checkpoint").status == 0
                && stage.device("ledger", "verify").status == 0)
        _ = try stage.device("bundle", "export", "evidence-5")
        let settled = try stage.vendor("bundle", "process", "evidence-5", "reply-5")
        claim(
            "one file out settles it",
            try settled.status == 0 && total(stage) == "7")
        let again = try stage.vendor("bundle", "process", "evidence-5", "reply-6")
        claim(
            "the same file again: the same reply, byte for byte, and nothing counts twice",
            try again.status == 0 && same(stage, "reply-5", "reply-6") && total(stage) == "7")
        _ = try stage.device("bundle", "import", "reply-5")
        finish(&stage)

        chapter("Yesterday's state is restored")
        try FileManager.default.copyItem(
            atPath: stage.path("device"), toPath: stage.path("backup"))
        _ = try stage.device("meter", "scan", "--quantity", "5")
        _ = try stage.device("bundle", "export", "evidence-6")
        _ = try stage.vendor("bundle", "process", "evidence-6", "reply-7")
        try FileManager.default.removeItem(atPath: stage.path("device"))
        try FileManager.default.moveItem(
            atPath: stage.path("backup"), toPath: stage.path("device"))
        let found = try stage.device("meter", "scan")
        say("        " + (found.errors.split(separator: "\n").first.map(String.init) ?? ""))
        claim(
            "the TPM's counter names it, and metering goes on in a new era",
            found.status == 0 && found.errors.contains("ROLLBACK_SUSPECT"))
        // The nonces are yesterday's as well: the first trip brings new ones.
        _ = try stage.device("bundle", "export", "evidence-7")
        _ = try stage.vendor("bundle", "process", "evidence-7", "reply-8")
        _ = try stage.device("bundle", "import", "reply-8")
        _ = try stage.device("bundle", "export", "evidence-8")
        let told = try stage.vendor("bundle", "process", "evidence-8", "reply-9")
        claim(
            "the vendor is told, and what was settled stays settled",
            try told.output.contains("ROLLBACK_SUSPECT") && total(stage) == "13")
        _ = try stage.device("bundle", "import", "reply-9")
        finish(&stage)
    }

    private mutating func network(_ stage: inout Stage, _ device: String) throws {
        chapter("A connection returns: the same bytes over HTTPS")
        let server = try stage.programs.serve()
        _ = try stage.device("meter", "scan", "--quantity", "7")
        claim(
            "`holdfast sync` settles and renews in one trip",
            try stage.device("sync", "--server", server.url).status == 0
                && total(stage) == "20")
        server.stop()
        let port = String(server.url.split(separator: ":").last ?? "0")
        let gone = try stage.device("sync", "--server", server.url)
        claim(
            "the server is gone: exit code 3, and the license works on",
            try gone.status == 3 && gone.code == "SERVER_UNREACHABLE"
                && stage.device("check", "scan").status == 0)
        _ = try stage.vendor("backup", "--out", "backup")
        _ = try stage.device("meter", "scan", "--quantity", "2")
        let back = try stage.programs.serve(port: port)
        claim(
            "it is back, and what was metered meanwhile is settled once",
            try stage.device("sync", "--server", back.url).status == 0
                && stage.device("sync", "--server", back.url).status == 0 && total(stage) == "22")
        back.stop()
        let restored = try stage.vendor("restore", "--from", "backup", "--yes")
        claim(
            "the vendor's disk dies, and the records are put back from a backup of before",
            try restored.status == 0 && total(stage) == "20")
        let again = try stage.programs.serve(port: port)
        _ = try stage.device("meter", "scan")
        claim(
            "the device brings the receipt that the backup lacks: nothing lost, nothing twice",
            try stage.device("sync", "--server", again.url).status == 0 && total(stage) == "23")
        again.stop()
        finish(&stage)
    }

    private mutating func revoke(_ stage: inout Stage, _ device: String) throws {
        chapter("The vendor revokes one of two licenses")
        let issued = try stage.vendor(
            "license", "issue", "--device", device, "--product", "scanner", "--entitlement",
            "extra", "--terms", "field", "--until", "2099-12-31", "--out", "license-extra",
            "--format", "json")
        _ = try stage.device("license", "install", "license-extra")
        claim(
            "both licenses are in force",
            try stage.device("check", "extra").status == 0
                && stage.device("check", "scan").status == 0)
        _ = try stage.vendor("license", "revoke", issued["license"] ?? "")
        _ = try stage.device("bundle", "export", "evidence-9")
        _ = try stage.vendor("bundle", "process", "evidence-9", "reply-10")
        _ = try stage.device("bundle", "import", "reply-10")
        let revoked = try stage.device("check", "extra", "--format", "json")
        claim(
            "with the next reply its lease is given up in the TPM: \(revoked["state"] ?? "")",
            revoked.status == 2 && revoked["state"] == "REVOKED")
        claim("the other one opens in the new epoch", try stage.device("check", "scan").status == 0)
        finish(&stage)
    }

    /// What is settled for the meter of the story.
    private func total(_ stage: Stage) throws -> String? {
        try stage.vendor("usage", "report", "--format", "json")["0.totals.scan"]
    }

    private func same(_ stage: Stage, _ one: String, _ two: String) throws -> Bool {
        let first = try Data(contentsOf: URL(filePath: stage.path(one)))
        return try !first.isEmpty && first == Data(contentsOf: URL(filePath: stage.path(two)))
    }

    private mutating func leave(_ stage: inout Stage, _ device: String) throws {
        chapter("The machine is sold: it gives the license up, and proves it")
        try FileManager.default.removeItem(atPath: stage.path("copied"))
        try FileManager.default.copyItem(
            atPath: stage.path("device"), toPath: stage.path("yesterday"))
        claim(
            "`holdfast retire --yes` raises the epoch in the TPM",
            try stage.device("retire", "--yes", "--out", "proof").status == 0)
        let retired = try stage.device("check", "scan", "--format", "json")
        claim(
            "the device is RETIRED; core and export still work",
            try retired.status == 2 && retired["state"] == "RETIRED"
                && stage.device("check", "export").status == 0)
        let old = try stage.device("check", "scan", "--format", "json", state: "yesterday")
        say("        " + (old["message"] ?? ""))
        claim(
            "yesterday's backup is restored: the TPM refuses every lease of the old epoch",
            old.status == 2 && old["code"] == "EPOCH_RAISED")
        let proved = try stage.vendor("bundle", "process", "proof", "nothing")
        claim(
            "the proof ends the enrollment at the vendor",
            try proved.status == 0 && state(stage, device) == "retired")
        claim(
            "and the seat is free at once: no session of that boot can still open a lease",
            try stage.vendor("device", "show", device, "--format", "json")["licenses.0.seat"]
                == "free")
        refused(
            "and nothing is issued for it any more",
            try stage.vendor(
                "license", "issue", "--device", device, "--product", "scanner", "--entitlement",
                "scan", "--terms", "field", "--until", "2099-12-31", "--out", "nothing"),
            "ENROLLMENT_ENDED")
        _ = try stage.device(
            "enroll", "--trust", "vendor/trust", "--again", "--request-out", "request-2")
        _ = try stage.vendor("enroll", "process", "request-2", "--out", "response-2")
        let activated = try stage.device(
            "enroll", "--response-in", "response-2", "--evidence-out", "evidence-10", "--format",
            "json")
        claim(
            "its next owner enrolls it again: enrollment \(activated["incarnation"] ?? "?")",
            activated.status == 0 && activated["incarnation"] == "2")
        finish(&stage)
    }

    // MARK: Telling

    /// How far the enrollment of a device has come.
    private func state(_ stage: Stage, _ device: String) throws -> String? {
        try stage.vendor("device", "show", device, "--format", "json")["state"]
    }

    /// A copy of a file with one bit changed.
    private func flipped(_ stage: Stage, _ name: String, _ copy: String) throws -> Bool {
        var bytes = try Data(contentsOf: URL(filePath: stage.path(name)))
        guard bytes.count > 200 else { return false }
        bytes[bytes.count - 100] ^= 1
        try bytes.write(to: URL(filePath: stage.path(copy)))
        return true
    }

    private func chapter(_ text: String) { say("\n\(text)") }

    private func finish(_ stage: inout Stage) {
        let spent = [stage.first, stage.second].map { $0.proxy.take() }
        let tpm = spent.reduce(0) { $0 + $1.microseconds }
        let commands = spent.reduce(0) { $0 + $1.commands }
        let all = monotonicMicroseconds() - stage.since
        say(
            "   TPM \(milliseconds(tpm)) ms in \(commands) commands, everything else \(milliseconds(max(0, all - tpm))) ms"
        )
        stage.since = monotonicMicroseconds()
    }

    private func milliseconds(_ microseconds: Double) -> String {
        String(Int((microseconds / 1000).rounded()))
    }

    private mutating func claim(_ text: String, _ held: Bool) {
        say("   \(held ? "yes" : "NO ")  \(text)")
        claims.append(Claim(text: text, held: held))
    }

    /// A claim that a program refuses with exit code 2 and a code, and for no other reason.
    private mutating func refused(_ text: String, _ answer: Answer, _ code: String) {
        say("        " + (answer.errors.split(separator: "\n").first.map(String.init) ?? ""))
        claim(text, answer.status == 2 && answer.code == code)
    }

    /// A claim that the TPM refuses, for the reason that is expected and no other.
    private mutating func refused(
        _ text: String, _ code: ReturnCode, _ body: () throws(TPMError) -> Void
    ) {
        do throws(TPMError) {
            try body()
            claim(text, false)
        } catch {
            say("        \(error)")
            claim(text, error.returnCode.map { code ~= $0 } ?? false)
        }
    }
}
