import Foundation
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// The whole life of a device among everything that can go wrong with its TPM, for as long as wanted.
///
/// The real programs on a real software TPM, and a model that knows what may be allowed. The same
/// seed takes the same steps. docs/robustness.md.
public final class Soak {
    /// How it ended.
    public struct Report: Sendable {
        public var steps = 0
        public var programs = 0
        /// Faults that did strike, by kind.
        public var faults: [String: Int] = [:]
        /// Refusals, by code.
        public var refusals: [String: Int] = [:]
        public var settled: UInt64 = 0
        /// What must not be; empty when all is well.
        public var findings: [String] = []
    }

    private let programs: Programs
    private let transient: TransientMachine
    private let proxy: FaultProxy
    private let say: (String) -> Void
    private let random = RandomSource.system
    private var generator: SeededNumbers
    private var server: RunningServer?
    private var report = Report()
    private var model = Model()
    private var step = ""
    /// The last steps, which a finding is told with.
    private var history: [String] = []

    /// What the device may do, as far as the world outside its TPM knows.
    private struct Model {
        var device = ""
        var license = ""
        /// A lease is installed that nothing took back.
        var isLicensed = false
        /// PCR 7 is not as the vendor approved it.
        var isBootChanged = false
        /// The vendor has revoked the license; the device may not know yet.
        var isRevoked = false
        /// Recorded since the enrollment.
        var recorded: UInt64 = 0
        /// Settled in earlier enrollments.
        var before: UInt64 = 0

        var mayUse: Bool { isLicensed && !isBootChanged }
    }

    private static let boot = SoftwareBoot.documented

    /// - Parameters:
    ///   - programs: the directory with the programs of this package.
    ///   - say: prints a line.
    public init(programs directory: String, seed: UInt64, _ say: @escaping (String) -> Void) throws
    {
        generator = SeededNumbers(seed)
        self.say = say
        let work = "/tmp/holdfast-soak-" + Hex.encode(random.bytes(8))
        try FileManager.default.createDirectory(
            atPath: work, withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700])
        programs = Programs(directory: directory, work: work)
        transient = try TransientMachine(.manufactured)
        let machine = transient.machine
        try machine.powerOn(Self.boot, ca: nil, random: random)
        proxy = try FaultProxy(before: machine.socketPath) { try? machine.kill() }
    }

    // MARK: Running

    /// Goes on until the time is over, then settles and counts.
    public func run(seconds: Double) throws -> Report {
        defer {
            server?.stop()
            proxy.close()
            try? FileManager.default.removeItem(atPath: programs.work)
        }
        try setUp()
        let end = monotonicMicroseconds() + seconds * 1e6
        while monotonicMicroseconds() < end, report.findings.count < 5 {
            report.steps += 1
            try perform(steps.randomElement(using: &generator) ?? .check)
            if report.steps % 10 == 0 { try settle() }
        }
        step = "end"
        try settle()
        // What killed programs left is given back by the next one that needs the room.
        try exhaust()
        let left = try slots()
        expect(left == 0, "\(left) objects and sessions are left in the TPM")
        report.settled = try total()
        return report
    }

    private enum Step: String {
        case check, meter, sync, bundle, checkpoint, status, doctor
        case reboot, power, extend, harmless, clear, lockout, exhaust, revoke, serverKill
    }

    /// As often as they stand here.
    private let steps: [Step] = [
        .check, .check, .check, .check, .meter, .meter, .meter, .meter, .sync, .sync, .sync,
        .bundle, .bundle, .checkpoint, .checkpoint, .status, .doctor, .reboot, .power, .extend,
        .harmless, .clear, .lockout, .exhaust, .exhaust, .revoke, .serverKill,
    ]

    private func perform(_ chosen: Step) throws {
        let fault = generator.chance(0.6) ? randomFault() : nil
        step = "step \(report.steps), \(chosen.rawValue)" + (fault.map { ", \($0)" } ?? "")
        history = history.suffix(11) + [step]
        switch chosen {
        case .check: try check(fault)
        case .meter: try meter(fault)
        case .sync: try sync(fault)
        case .bundle: try bundle(fault)
        case .checkpoint: _ = try device(["ledger", "checkpoint"], fault)
        case .status: _ = try device(["status"], fault)
        case .doctor: _ = try device(["doctor"], fault)
        case .reboot:
            try transient.machine.powerOff(random: random)
            try transient.machine.powerOn(Self.boot, ca: nil, random: random)
            model.isBootChanged = false
        case .power:
            try transient.machine.kill()
            try restorePower()
        case .extend:
            try extend(7)
            model.isBootChanged = true
            try check(nil)
        case .harmless: try extend([14, 15, 16].randomElement(using: &generator) ?? 15)
        case .clear: try clear()
        case .lockout: try lockOut()
        case .exhaust: try exhaust()
        case .revoke: try revoke()
        case .serverKill:
            server?.kill()
            server = nil
            // Nobody answers: what is recorded is kept.
            let gone = try device(["sync", "--server", "https://127.0.0.1:9"], nil)
            expect(gone.status == 3, "a sync without a server ended with \(gone.status)")
        }
    }

    private func randomFault() -> Fault {
        let number = UInt32(truncatingIfNeeded: generator.next())
        let isExecuted = number & 1 == 1
        let codes: [UInt32] = [0x101, 0x902, 0x903, 0x921, 0x9A2, 0x1C4, 0x99D, 0x120, 0x923]
        let kind: Fault.Kind
        switch generator.next() % 12 {
        case 0, 1, 2: kind = .flip(number)
        case 3: kind = .error(codes[Int(number) % codes.count])
        case 4: kind = .truncate(number, isHonest: isExecuted)
        case 5:
            kind = .resend(
                [0x922, 0x908, 0x90A, 0x920][Int(number) % 4], times: number % 3 == 0 ? 1000 : 4)
        case 6: kind = .garbage(number)
        case 7: kind = .hangUp(isExecuted: isExecuted)
        case 8, 9: kind = .kill(isExecuted: isExecuted)
        default: kind = .power(isExecuted: isExecuted)
        }
        return Fault(command: Int(generator.next() % 50), kind: kind)
    }

    // MARK: Programs

    /// Runs the program on the device and judges how it ended.
    private func device(_ arguments: [String], _ fault: Fault?) throws -> Answer {
        let before = try slots()
        proxy.prepare(fault)
        let answer = try programs.run(
            "holdfast", arguments, tpm: proxy.path, state: "device")
        let hasStruck = proxy.outcome.hasStruck
        proxy.prepare(nil)
        if let fault, hasStruck {
            report.faults[String("\(fault.kind)".prefix { $0 != "(" }), default: 0] += 1
        }
        try restorePower()
        let after = try slots()
        let allowed = before + (hasStruck && fault?.mayLeak == true ? 3 : 0)
        expect(
            after <= allowed, "`\(arguments[0])` left \(after - before) objects or sessions behind")
        report.programs += 1
        judge(answer, arguments, wasKilled: hasStruck && isKill(fault))
        return answer
    }

    private func isKill(_ fault: Fault?) -> Bool {
        if case .kill? = fault?.kind { return true }
        return false
    }

    /// Every end is a known one, and says what to do.
    private func judge(_ answer: Answer, _ arguments: [String], wasKilled: Bool) {
        if answer.isKilled {
            expect(
                wasKilled && answer.status == SIGKILL,
                "`\(arguments[0])` ended by signal \(answer.status): \(answer.errors.suffix(600))")
            return
        }
        guard answer.status != 0 else { return }
        expect(
            answer.status == 2 || answer.status == 3,
            "`\(arguments[0])` ended with \(answer.status): \(answer.errors.suffix(600))")
        let code: String?
        if arguments[0] == "check", answer.code == nil {
            code = answer["code"] ?? answer["state"]
            expect(answer["advice"] != nil, "a refusal without a next step: \(answer.output)")
        } else if arguments[0] == "doctor", answer.code == nil {
            code = "DOCTOR"
        } else {
            code = answer.code
            expect(
                answer.errors.contains("hint: "), "a refusal without a next step: \(answer.errors)")
        }
        expect(
            code != nil && code != "UNEXPECTED_FAILURE" && code != "TPM_REQUEST_INVALID",
            "a refusal without a known code: \(answer.errors)\(answer.output)")
        report.refusals[code ?? "none", default: 0] += 1
    }

    private func vendor(_ arguments: [String]) throws -> Answer {
        try programs.run("holdfast-server", arguments)
    }

    /// The vendor's side must do what it is asked; nothing goes wrong with it here.
    @discardableResult
    private func must(_ arguments: String...) throws -> Answer {
        let answer = try vendor(arguments)
        expect(answer.status == 0, "the vendor's \(arguments.prefix(2)): \(answer.errors)")
        return answer
    }

    private func mustOnDevice(_ arguments: String...) throws -> Answer {
        let answer = try device(arguments, nil)
        expect(
            answer.status == 0, "\(arguments.prefix(2)) without a fault: \(answer.errors)")
        return answer
    }

    private func expect(_ condition: Bool, _ what: @autoclosure () -> String) {
        guard !condition else { return }
        report.findings.append("\(step): \(what())")
        say("FOUND \(step): \(what())")
        for earlier in history { say("  after \(earlier)") }
    }

    // MARK: The life of a license

    private func setUp() throws {
        step = "set-up"
        let work = programs.work
        try must(
            "init", "--data", work + "/vendor", "--ek", "id:00001014/swtpm=ecc-p384", "--ek-roots",
            transient.path + "/ek-roots")
        // Renewed at nearly every sync; it never runs out while this runs.
        let terms = """
            {"id": "field", "version": 1, "class": "test", "lease": "12h", "renewAfter": "5s",
             "graceAfter": "11h", "softAfter": "20m", "degraded": "1h", "resets": 100000,
             "restarts": 0, "evidenceValidity": "12h", "nonceLifetime": "24h",
             "defaultEnforcement": "strict"}
            """
        try Data(terms.utf8).write(to: URL(filePath: work + "/terms"))
        try must("terms", "apply", "terms")
        try enroll(again: false)
    }

    private func enroll(again: Bool) throws {
        let more = again ? ["--again", "--discard-usage"] : []
        let asked = try device(
            ["enroll", "--trust", "vendor/trust", "--request-out", "request"] + more, nil)
        expect(asked.status == 0, "no request: \(asked.errors)")
        let answer = try must(
            "enroll", "process", "request", "--out", "response", "--format", "json")
        model.device = answer["device"] ?? model.device
        _ = try mustOnDevice("enroll", "--response-in", "response", "--evidence-out", "evidence")
        try must("bundle", "process", "evidence", "reply")
        try must("device", "approve", model.device, "--model", "gateway")
        try must(
            "pcr", "approve", "--model", "gateway", "--from", model.device, "--product", "scanner",
            "--out", "approval")
        model.before = try total()
        model.recorded = 0
        try issue()
    }

    private func issue() throws {
        let issued = try must(
            "license", "issue", "--device", model.device, "--product", "scanner", "--entitlement",
            "scan", "--terms", "field", "--until", "2099-12-31", "--out", "license", "--format",
            "json")
        model.license = issued["license"] ?? ""
        _ = try mustOnDevice("license", "install", "license")
        model.isLicensed = true
        model.isRevoked = false
        try check(nil)
    }

    /// What may be used is never more than the model has; without a fault it is the same.
    private func check(_ fault: Fault?) throws {
        // A power cut in the middle of it brings the approved boot state back.
        let mightBefore = model.mayUse
        let answer = try device(["check", "scan", "--format", "json"], fault)
        let isAllowed = !answer.isKilled && answer.status == 0
        expect(
            mightBefore || model.mayUse || !isAllowed,
            "a lease opened that may not: \(answer.output)")
        guard fault == nil else { return }
        expect(
            isAllowed == model.mayUse,
            "expected \(model.mayUse): \(answer.output)\(answer.errors)")
    }

    private func meter(_ fault: Fault?) throws {
        let quantity = 1 + generator.next() % 9
        let answer = try device(
            ["meter", "scan", "--quantity", "\(quantity)", "--format", "json"], fault)
        if !answer.isKilled, answer.status == 0 {
            model.recorded += quantity
        } else {
            // It was all or nothing.
            let now = try recordedOnDevice()
            expect(
                now == model.recorded || now == model.recorded + quantity,
                "\(model.recorded) and perhaps \(quantity) were recorded, not \(now)")
            model.recorded = now
        }
    }

    private func recordedOnDevice() throws -> UInt64 {
        let shown = try mustOnDevice("ledger", "show", "--format", "json")
        return UInt64(shown["totals.scan"] ?? "0") ?? 0
    }

    private func sync(_ fault: Fault?) throws {
        let url = try serverURL()
        let answer = try device(["sync", "--server", url], fault)
        if !answer.isKilled, answer.status == 0, model.isRevoked, !model.isBootChanged {
            model.isLicensed = false
        } else if model.isRevoked {
            // The reply may be in, or not.
            try learnOfRevocation()
        }
    }

    /// After an interrupted trip: the device knows of the revocation, or it does not.
    private func learnOfRevocation() throws {
        guard model.isRevoked, model.isLicensed, !model.isBootChanged else { return }
        let answer = try device(["check", "scan", "--format", "json"], nil)
        model.isLicensed = answer.status == 0
    }

    private func bundle(_ fault: Fault?) throws {
        let out = try device(["bundle", "export", "evidence"], fault)
        guard !out.isKilled, out.status == 0 else { return }
        let processed = try vendor(["bundle", "process", "evidence", "reply", "--format", "json"])
        expect(
            [0, 2].contains(processed.status), "the vendor's bundle process: \(processed.errors)")
        guard processed.status == 0 else { return }
        _ = try device(["bundle", "import", "reply"], fault)
        try learnOfRevocation()
    }

    private func revoke() throws {
        guard model.isLicensed, !model.isRevoked else { return }
        try must("license", "revoke", model.license)
        model.isRevoked = true
    }

    private func serverURL() throws -> String {
        if server == nil { server = try programs.serve() }
        return server?.url ?? ""
    }

    /// What was settled for the meter, in all enrollments.
    private func total() throws -> UInt64 {
        let answer = try vendor(["usage", "report", "--format", "json"])
        var sum: UInt64 = 0
        var row = 0
        while answer["\(row)"] != nil {
            sum += UInt64(answer["\(row).totals.scan"] ?? "0") ?? 0
            row += 1
        }
        return sum
    }

    /// Back to a state in which everything works, and everything is settled exactly.
    private func settle() throws {
        let name = step
        step = "\(name), settling"
        if model.isBootChanged {
            try transient.machine.powerOff(random: random)
            try transient.machine.powerOn(Self.boot, ca: nil, random: random)
            model.isBootChanged = false
        }
        for _ in 0..<2 {
            let answer = try device(["sync", "--server", serverURL()], nil)
            expect(answer.status == 0, "sync without a fault: \(answer.errors)")
        }
        if model.isRevoked { model.isLicensed = false }
        try check(nil)
        let settled = try total()
        expect(
            settled == model.before + model.recorded,
            "settled \(settled), recorded \(model.before) + \(model.recorded)")
        if !model.isLicensed { try issue() }
        step = name
    }

    // MARK: The machine

    private func restorePower() throws {
        guard try !transient.machine.isRunning() else { return }
        try transient.machine.powerOn(Self.boot, ca: nil, random: random)
        model.isBootChanged = false
    }

    private func withTPM<R>(_ body: (TPMConnection) throws -> R) throws -> R {
        let connection = transient.machine.connection(random: random)
        defer { connection.close() }
        return try body(connection)
    }

    /// Transient objects and loaded sessions, as the TPM lists them.
    private func slots() throws -> Int {
        try withTPM { tpm in
            try tpm.handles(from: 0x8000_0000).count + tpm.handles(from: 0x0200_0000).count
        }
    }

    private func extend(_ index: Int) throws {
        try withTPM { tpm in
            try tpm.run(
                PCRExtendCommand(
                    PCRIndex.all[index], digests: [(.sha256, random.bytes(32))]), [.emptyAuth])
        }
    }

    /// Somebody takes every slot, and is gone.
    private func exhaust() throws {
        let transport = UnixSocketTransport(path: transient.machine.socketPath)
        defer { transport.close() }
        for _ in 0..<3 {
            _ = try transport.exchange(Self.createPrimary)
            _ = try transport.exchange(Self.startSession)
        }
        transport.endTransaction()
        try check(nil)
        try meter(nil)
    }

    /// `TPM2_CreatePrimary` and `TPM2_StartAuthSession` of somebody who flushes nothing.
    private static let createPrimary: [UInt8] = {
        let command = CreatePrimaryCommand(
            hierarchy: .owner, template: KeyTemplate.leaseParent(unique: [1]))
        return raw(command, password: true)
    }()
    private static let startSession: [UInt8] = raw(
        StartAuthSessionCommand(
            saltKey: EntityReference(.null), nonceCaller: [UInt8](repeating: 1, count: 16),
            encryptedSalt: [], kind: .policy, symmetric: .none, hash: .sha256), password: false)

    private static func raw<C: TPMCommand>(_ command: C, password: Bool) -> [UInt8] {
        var writer = WireWriter()
        writer.uint16(password ? 0x8002 : 0x8001)
        writer.uint32(0)
        writer.uint32(C.code.rawValue)
        for handle in command.handles { writer.uint32(handle.handle.rawValue) }
        if password { writer.raw([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]) }
        command.encodeParameters(into: &writer)
        writer.patch(UInt32(writer.bytes.count), at: 2)
        return writer.bytes
    }

    /// The owner clears the TPM: every lease is dead, and the device enrolls again.
    private func clear() throws {
        try withTPM { tpm in try tpm.run(ClearCommand(), [.emptyAuth]) }
        model.isLicensed = false
        model.isRevoked = false
        try check(nil)
        if model.isBootChanged {
            try transient.machine.powerOff(random: random)
            try transient.machine.powerOn(Self.boot, ca: nil, random: random)
            model.isBootChanged = false
        }
        let settled = try total()
        expect(
            settled <= model.before + model.recorded, "more was settled than was recorded")
        try enroll(again: true)
    }

    /// Wrong passwords until the TPM takes none any more; no key of ours is touched by that.
    private func lockOut() throws {
        let area = NVPublicArea(
            index: TPMHandle(rawValue: 0x0150_0001), nameAlgorithm: .sha256,
            attributes: [.authRead, .authWrite, .ownerWrite], authPolicy: [], dataSize: 8)
        let index = EntityReference(area.index, name: area.name)
        try withTPM { tpm in
            try tpm.run(NVDefineSpaceCommand(auth: [1], publicArea: area), [.emptyAuth])
            var isLocked = false
            for _ in 0..<64 where !isLocked {
                do throws(TPMError) {
                    _ = try tpm.run(
                        NVReadCommand(authorization: index, index: index, size: 8, offset: 0),
                        [.password([2])])
                } catch {
                    isLocked = error.returnCode == .lockout
                }
            }
            guard isLocked else { throw TPMError(.invalidRequest, "the TPM counts no tries") }
        }
        try check(nil)
        try meter(nil)
        _ = try device(["sync", "--server", serverURL()], nil)
        try learnOfRevocation()
        try withTPM { tpm in
            try tpm.run(DictionaryAttackLockResetCommand(), [.emptyAuth])
            try tpm.run(NVUndefineSpaceCommand(index), [.emptyAuth])
        }
    }
}

/// `TPM2_Clear`, by the lockout hierarchy.
private struct ClearCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.clear
    static let authorizationCount = 1
    var handles: [EntityReference] { [EntityReference(.lockout)] }
}

/// `TPM2_DictionaryAttackLockReset`.
private struct DictionaryAttackLockResetCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode(rawValue: 0x139)
    static let authorizationCount = 1
    var handles: [EntityReference] { [EntityReference(.lockout)] }
}
