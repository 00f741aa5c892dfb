import Foundation
import Glibc
import HoldfastCrypto
import HoldfastDevice
import HoldfastErrors
import HoldfastFiles
import HoldfastGuard
import HoldfastLicensing
import HoldfastProtocol
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Synchronization
import Testing

/// A machine's running time that a test sets.
private final class RunningTime: Sendable {
    private let time = Mutex(Duration.seconds(1000))
    var now: Duration { time.withLock { $0 } }
    func advance(_ more: Duration) { time.withLock { $0 += more } }
}

/// A TPM that a test lets fail.
private final class Trouble: Sendable {
    private let present = Mutex<TPMError?>(nil)
    var error: TPMError? {
        get { present.withLock { $0 } }
        set { present.withLock { $0 = newValue } }
    }
}

@Suite("the guard of an application", .timeLimit(.minutes(20)))
struct GuardTests {
    /// A licensed device, the vendor's id, and the secret of `scan`.
    private func ready(
        entitlement: String = "scan"
    ) throws -> (bench: Bench, vendor: String, device: String) {
        let bench = try Bench()
        let id = try bench.license(entitlement: entitlement) { vendor in
            let made = try vendor(
                "secret", "make", "--product", "scanner", "--entitlement", "scan", "--out", "key")
            #expect(made.status == 0, "\(made.errors)")
        }
        let identity = try bench.device("identity", "--format", "json").json()
        return (bench, try #require(identity["vendor"] as? String), id)
    }

    private func open(
        _ bench: Bench, _ vendor: String, product: String? = "scanner",
        state: String = "state", time: RunningTime? = nil, trouble: Trouble = Trouble()
    ) -> Guard {
        let socket = bench.machine.machine.socketPath
        let time = time ?? RunningTime()
        return Guard(
            vendor: vendor, product: product, state: bench.file(state),
            world: GuardWorld(now: { time.now }, day: { 20_000 }, random: .system) {
                let transport: any TPMTransport =
                    trouble.error.map { AbsentTransport($0) } ?? UnixSocketTransport(path: socket)
                return TPMConnection(transport, random: .system)
            })
    }

    private func total(_ bench: Bench) throws -> Int? {
        let shown = try bench.device("ledger", "show", "--format", "json")
        #expect(shown.status == 0, "\(shown.errors)")
        return (try shown.json()["totals"] as? [String: Int])?["scan"]
    }

    @Test("it allows what the license grants, meters, and hands the secret out")
    func life() async throws {
        let (bench, vendor, _) = try ready()
        let license = open(bench, vendor)
        let scan = license.feature("scan")
        #expect(license.problem == nil)
        #expect(license.check("scan").allowed)
        #expect(license.check("scan") == license.check("scan"))
        #expect(scan.isAllowed)
        #expect(license.feature("scan") === scan)
        #expect(!license.check("other").allowed)
        #expect(license.check("other").code == "NOT_GRANTED")
        #expect(!license.feature("other").isAllowed)
        #expect(license.check("core").allowed)
        // The program and the library say the same.
        let told = try bench.device("check", "scan", "--format", "json")
        let decoded = try JSONDecoder().decode(Decision.self, from: Data(told.output.utf8))
        #expect(decoded == license.check("scan"))

        try await license.meter("scan")
        try await license.meter("scan", 2)
        #expect(try total(bench) == 3)
        await #expect(throws: GuardError.badMeter("no name")) { try await license.meter("no name") }
        await #expect(throws: GuardError.nothingUsed) { try await license.meter("scan", 0) }
        #expect(try total(bench) == 3)
        // What an application recorded is sealed and settled like what a command did.
        #expect(try bench.device("ledger", "checkpoint").status == 0)
        try await license.meter("scan", 4)
        #expect(try bench.device("ledger", "verify").status == 0)
        #expect(try total(bench) == 7)

        let key = try bench.bytes("key")
        let secret = try license.secret(for: "scan")
        #expect(secret.withBytes { bytes in bytes.indices.map { bytes[$0] } } == key)
        #expect(throws: GuardError.self) { _ = try license.secret(for: "other") }
    }

    @Test("a limit that is used up ends what it limits at once, and every listener is told once")
    func limit() async throws {
        let (bench, vendor, _) = try ready(entitlement: "scan=3")
        let license = open(bench, vendor)
        let scan = license.feature("scan")
        let told = Mutex<[String]>([])
        license.watch("scan") { decision in told.withLock { $0.append(decision.code) } }
        #expect(scan.isAllowed)
        try await license.meter("other")
        try await license.meter("scan", 2)
        #expect(scan.isAllowed)
        #expect(license.check("scan").allowed)
        #expect(license.standings.first?.allowances["scan"]?.used == 2)
        try await license.meter("scan")
        #expect(!scan.isAllowed)
        #expect(license.check("scan").code == "LIMIT_REACHED")
        // Usage that happened is recorded, and another program says the same.
        try await license.meter("scan")
        #expect(try total(bench) == 4)
        let said = try bench.device("check", "scan")
        #expect(said.status == 2)
        #expect(said.output.contains("the limit of 3 for `scan` is used up"), "\(said.output)")
        #expect(open(bench, vendor).check("scan").code == "LIMIT_REACHED")
        license.close()
        #expect(told.withLock { $0 } == ["ACTIVE", "LIMIT_REACHED"])
        let status = try bench.device("status")
        #expect(status.output.contains("limit     scan: 4 of 3 used"), "\(status.output)")
    }

    @Test("what another program used counts at the next look")
    func limitShared() throws {
        let (bench, vendor, _) = try ready(entitlement: "scan=3")
        let license = open(bench, vendor)
        #expect(try bench.device("meter", "scan", "--quantity", "3").status == 0)
        license.refresh()
        #expect(license.check("scan").code == "LIMIT_REACHED")
    }

    @Test("who is another vendor, another product or nobody gets a refusal with a reason")
    func strangers() throws {
        let (bench, vendor, _) = try ready()
        func refused(_ license: Guard, _ code: String) {
            #expect(!license.check("scan").allowed)
            #expect(license.check("scan").code == code)
            #expect(!license.feature("scan").isAllowed)
            #expect(license.check("core").allowed)
            #expect(throws: (any Error).self) { _ = try license.secret(for: "scan") }
        }
        let other = String(vendor.reversed())
        refused(open(bench, other), "VENDOR_MISMATCH")
        refused(open(bench, "abc"), "VENDOR_INVALID")
        refused(open(bench, vendor, product: "viewer"), "NO_LICENSE")
        let nowhere = Guard(
            vendor: vendor, product: "scanner", state: bench.file("nowhere"),
            tpm: "unix:" + bench.machine.machine.socketPath)
        refused(nowhere, "UNENROLLED")
        #expect(throws: GuardError.notEnrolled) { try nowhere.meter("scan") }
        #expect(throws: GuardError.otherVendor) { try open(bench, other).meter("scan") }
        #expect(try total(bench) == nil)
    }

    @Test(
        "a boot state that is not approved ends strict entitlements at the next look, and the secret at once"
    )
    func locked() throws {
        let (bench, vendor, _) = try ready()
        let license = open(bench, vendor)
        let scan = license.feature("scan")
        #expect(scan.isAllowed)
        let tpm = TPMConnection(
            UnixSocketTransport(path: bench.machine.machine.socketPath), random: .system)
        try tpm.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        tpm.close()
        // The TPM is asked for the secret, whatever the memory says.
        #expect {
            _ = try license.secret(for: "scan")
        } throws: { error in
            guard case GuardError.refused(let decision) = error else { return false }
            return decision.code == "BOOT_CHANGED" && !decision.allowed
        }
        #expect(!scan.isAllowed)
        #expect(license.check("scan").mode == .locked)
        // Metering is not for the license to refuse.
        try license.meter("scan")
        #expect(try total(bench) == 1)
    }

    @Test(
        "a TPM that goes away is bridged as long as the terms say, and a program that starts then is not"
    )
    func absent() throws {
        let (bench, vendor, _) = try ready()
        let time = RunningTime()
        let license = open(bench, vendor, time: time)
        let scan = license.feature("scan")
        try license.meter("scan")
        try bench.machine.machine.powerOff(random: .system)
        license.refresh()
        let held = license.check("scan")
        #expect(held.allowed && held.code == "TPM_ABSENT" && held.flags == [.tpmAbsent])
        #expect(scan.isAllowed)
        try license.meter("scan")
        #expect(throws: (any Error).self) { _ = try license.secret(for: "scan") }
        time.advance(.seconds(599))
        license.refresh()
        #expect(scan.isAllowed)
        time.advance(.seconds(2))
        license.refresh()
        #expect(!scan.isAllowed)
        #expect(license.check("scan").state == .degraded)

        let late = open(bench, vendor, time: time)
        #expect(!late.check("scan").allowed)
        #expect(late.check("scan").state == .degraded)
        #expect(late.check("core").allowed)
        // Usage is not lost for want of a TPM.
        try late.meter("scan")
        try bench.machine.machine.powerOn(.documented, ca: nil, random: .system)
        license.refresh()
        #expect(scan.isAllowed)
        try license.meter("scan")
        #expect(try total(bench) == 4)
        #expect(try bench.device("ledger", "verify").status == 0)
    }

    @Test("files that are damaged are held like a TPM that is away, and then refused by name")
    func damaged() throws {
        let (bench, vendor, _) = try ready()
        let time = RunningTime()
        let license = open(bench, vendor, time: time)
        let folder = bench.file("state/licenses")
        let name = try #require(try Files.names(in: folder).first { $0.hasSuffix(".license") })
        let file = folder + "/" + name
        let good = try Files.read(file, maximum: 1 << 20)
        var bad = good
        bad[bad.count / 2] ^= 1
        try Files.write(bad, to: file, mode: 0o640)
        license.refresh()
        #expect(license.check("scan").allowed)
        #expect(license.problem != nil)
        time.advance(.seconds(601))
        license.refresh()
        let refused = license.check("scan")
        #expect(!refused.allowed && refused.code == license.problem?.code)
        #expect(!open(bench, vendor).check("scan").allowed)
        try Files.write(good, to: file, mode: 0o640)
        license.refresh()
        #expect(license.check("scan").allowed)
    }

    @Test("what is installed while it runs is seen without a call, and told to who listens")
    func watching() async throws {
        let (bench, vendor, id) = try ready()
        let license = open(bench, vendor)
        let seen = Mutex<[String]>([])
        license.watch("report") { decision in seen.withLock { $0.append(decision.code) } }
        #expect(seen.withLock { $0 } == ["NOT_GRANTED"])
        var decisions = license.decisions(on: "report").makeAsyncIterator()
        #expect(await decisions.next()?.allowed == false)
        let issued = try bench.vendor(
            "license", "issue", "--device", id, "--product", "scanner", "--entitlement", "report",
            "--terms", "standard", "--until", "2099-12-31", "--out", "second")
        #expect(issued.status == 0, "\(issued.errors)")
        #expect(try bench.device("license", "install", "second").status == 0)
        #expect(await decisions.next()?.allowed == true)
        #expect(license.check("report").allowed)
        license.close()
        #expect(await decisions.next() == nil)
        #expect(seen.withLock { $0 } == ["NOT_GRANTED", "ACTIVE"])
    }

    /// Waits until a decision has a code, which nobody asks for.
    private func becomes(_ code: String, _ license: Guard) async -> Bool {
        for _ in 0..<200 {
            if license.check("scan").code == code { return true }
            try? await Task.sleep(for: .milliseconds(50))
        }
        return false
    }

    @Test("what appears after the program started is watched from then on")
    func later() async throws {
        let (bench, vendor, _) = try ready()
        let license = open(bench, vendor, state: "later")
        #expect(license.check("scan").code == "UNENROLLED")
        // The device is enrolled, and nobody calls but the clock.
        func move(_ from: String, _ to: String) {
            #expect(unsafe rename(bench.file(from), bench.file(to)) == 0)
        }
        move("state/licenses", "licenses")
        move("state", "later")
        license.refresh()
        #expect(license.check("scan").code == "NO_LICENSE")
        move("licenses", "later/licenses")
        #expect(await becomes("ACTIVE", license))
        // And so is what comes into that directory.
        let folder = bench.file("later/licenses")
        let name = try #require(try Files.names(in: folder).first { $0.hasSuffix(".license") })
        move("later/licenses/" + name, "aside")
        license.refresh()
        #expect(license.check("scan").code == "NO_LICENSE")
        move("aside", "later/licenses/" + name)
        #expect(await becomes("ACTIVE", license))
    }

    @Test(
        "a TPM that does not answer refuses no secret: the error has its name and its remedy",
        arguments: [TPMError.Code.unreachable, .busy, .timedOut])
    func silent(code: TPMError.Code) throws {
        let (bench, vendor, _) = try ready()
        let trouble = Trouble()
        let license = open(bench, vendor, trouble: trouble)
        trouble.error = TPMError(code, "for this test")
        func secret(_ license: Guard) {
            #expect {
                _ = try license.secret(for: "scan")
            } throws: { error in
                let error = error as? TPMError
                return error?.code == code && error?.exitStatus == .unreachable
                    && error?.remedy != nil
            }
        }
        secret(license)
        // Nor does it forget the license, and usage is recorded, also by who starts then.
        license.refresh()
        #expect(license.check("scan").allowed)
        try license.meter("scan")
        let late = open(bench, vendor, trouble: trouble)
        #expect(!late.check("scan").allowed)
        secret(late)
        try late.meter("scan")
        trouble.error = nil
        _ = try license.secret(for: "scan")
        #expect(try total(bench) == 2)
        // Not as something that no license grants.
        let store = try LedgerStore(
            path: bench.file("state/ledger/ledger.sqlite"), random: .system)
        let sums = try #require(try store.head()).frontier.root().sums.entries
        #expect(sums.map(\.termsVersion) == [1])
    }

    @Test("a ledger that works is kept until it was opened again")
    func compareAgain() throws {
        let (bench, vendor, _) = try ready()
        let trouble = Trouble()
        let license = open(bench, vendor, trouble: trouble)
        trouble.error = TPMError(.unreachable, "for this test")
        try license.meter("scan")
        trouble.error = nil
        // What compares reads the statement, and recording does not.
        let statement = bench.file("state/statement")
        #expect(unsafe rename(statement, statement + "-aside") == 0)
        license.refresh()
        try license.meter("scan")
        #expect(unsafe rename(statement + "-aside", statement) == 0)
        license.refresh()
        try license.meter("scan")
        #expect(try total(bench) == 3)
        #expect(try bench.device("ledger", "verify").status == 0)
    }

    @Test("a ledger that is not there is not begun without the TPM")
    func noLedger() throws {
        let (bench, vendor, _) = try ready()
        let trouble = Trouble()
        let folder = bench.file("state/ledger")
        for name in try Files.names(in: folder) {
            try FileManager.default.removeItem(atPath: folder + "/" + name)
        }
        let license = open(bench, vendor, trouble: trouble)
        for code in [TPMError.Code.unreachable, .timedOut] {
            trouble.error = TPMError(code, "for this test")
            #expect(throws: LedgerStoreError.self) { try license.meter("scan") }
            #expect(try Files.names(in: folder) == [])
        }
        trouble.error = nil
        try license.meter("scan")
        #expect(try total(bench) == 1)
    }

    @Test("a program that makes names up does not fill the memory, and keeps the features it has")
    func features() throws {
        let (bench, vendor, _) = try ready()
        let time = RunningTime()
        let trouble = Trouble()
        let license = open(bench, vendor, time: time, trouble: trouble)
        weak let first = license.feature("name-0")
        for number in 1..<5000 { _ = license.feature("name-\(number)") }
        // The first names are kept for who asks again; the others are the program's.
        #expect(first != nil && license.feature("name-0") === first)
        weak let last = license.feature("name-4999")
        #expect(last == nil)
        // What is no name is granted by nobody, and not kept.
        weak let long = license.feature(String(repeating: "x", count: 100_000))
        #expect(long == nil)
        #expect(!license.feature("Scan").isAllowed)
        // One of the others is kept up to date as long as the program has it.
        let scan = license.feature("scan")
        #expect(scan.isAllowed)
        trouble.error = TPMError(.unreachable, "for this test")
        license.refresh()
        time.advance(.seconds(601))
        license.refresh()
        #expect(!scan.isAllowed)
        trouble.error = nil
        license.refresh()
        #expect(scan.isAllowed)
    }

    @Test("callbacks of two guards may ask, listen and close, each its own and the other's")
    func callbacks() throws {
        let (bench, vendor, _) = try ready()
        let outer = open(bench, vendor)
        let inner = open(bench, vendor)
        let said = Mutex<[String]>([])
        outer.watch("scan") { _ in
            outer.refresh()
            inner.watch("report") { decision in
                outer.watch("core") { decision in said.withLock { $0.append(decision.code) } }
                outer.close()
                inner.close()
                said.withLock { $0.append(decision.code) }
            }
        }
        #expect(said.withLock { $0 } == ["ALWAYS_ALLOWED", "NOT_GRANTED"])
        // Who is told of a closed guard is nobody.
        outer.watch("scan") { decision in said.withLock { $0.append(decision.code) } }
        #expect(said.withLock { $0.count } == 2)
    }

    @Test("many threads and a command record at the same time, and nothing is lost")
    func together() async throws {
        let (bench, vendor, _) = try ready()
        let license = open(bench, vendor)
        let second = open(bench, vendor)
        await withTaskGroup { group in
            for number in 0..<8 {
                group.addTask {
                    for _ in 0..<25 {
                        if number.isMultiple(of: 2) {
                            try? await license.meter("scan")
                        } else {
                            let counted = { try second.meter("scan") }
                            try? counted()
                        }
                    }
                }
            }
            for _ in 0..<3 { _ = try? bench.device("meter", "scan", "--quantity", "10") }
        }
        #expect(try total(bench) == 230)
        #expect(try bench.device("ledger", "verify").status == 0)
    }

    @Test("two guards of one program keep what they recorded, whoever opens the ledger in between")
    func locks() throws {
        let (bench, vendor, _) = try ready()
        let guards = [open(bench, vendor), open(bench, vendor)]
        for license in guards { try license.meter("scan") }
        // SQLite removes the log when the last one closes the file.
        let other = try NativeProgram.run([
            "/usr/bin/python3", "-c",
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM record').fetchall()",
            bench.file("state/ledger/ledger.sqlite"),
        ])
        #expect(other.status == 0, "\(other.output)")
        #expect(try Files.names(in: bench.file("state/ledger")).contains("ledger.sqlite-wal"))
        for license in guards { try license.meter("scan") }
        #expect(try total(bench) == 4)
    }

    @Test("a device that gave its enrollment up records nothing more, and allows nothing of it")
    func retired() throws {
        let (bench, vendor, _) = try ready()
        let license = open(bench, vendor)
        try license.meter("scan")
        #expect(
            try bench.device("retire", "--yes", "--discard-usage", "--out", "proof").status == 0)
        // The ledger that it has open is the one of before.
        #expect(throws: DeviceError.retired) { try license.meter("scan") }
        license.refresh()
        #expect(license.check("scan").state == .retired)
        #expect(!license.feature("scan").isAllowed)
        #expect(throws: (any Error).self) { _ = try license.secret(for: "scan") }
        #expect(throws: (any Error).self) { try open(bench, vendor).meter("scan") }
    }

    @Test("what does not fit is refused to whoever asked for it, and to nobody beside him")
    func room() async throws {
        let (bench, vendor, _) = try ready()
        let license = open(bench, vendor)
        for number in 0..<255 { try await license.meter("meter-\(number)") }
        try await license.meter("scan")
        let refusals = await withTaskGroup(of: String?.self) { group in
            for number in 0..<40 {
                let meter = number.isMultiple(of: 4) ? "new-\(number)" : "scan"
                group.addTask {
                    do { try await license.meter(meter) } catch { return "\(meter): \(error)" }
                    return nil
                }
            }
            return await group.reduce(into: [String]()) { if let one = $1 { $0.append(one) } }
        }
        #expect(refusals.count == 10)
        #expect(
            refusals.allSatisfy { $0.hasPrefix("new-") && $0.contains("tooManyMeters") },
            "\(refusals)")
        #expect(try total(bench) == 31)
        #expect(try bench.device("ledger", "checkpoint").status == 0)
        #expect(try bench.device("ledger", "verify").status == 0)
    }
}
