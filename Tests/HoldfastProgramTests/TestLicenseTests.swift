import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastGuard
import HoldfastLicensing
import HoldfastSoftwareTPM
import Testing

@Suite("a test license, without a TPM", .timeLimit(.minutes(20)))
struct TestLicenseTests {
    private static let terms = """
        {"id": "tests", "version": 3, "class": "test", "lease": "60s", "renewAfter": "20s",
         "graceAfter": "40s", "softAfter": "30s", "degraded": "60s", "resets": 0, "restarts": 0,
         "evidenceValidity": "1h", "nonceLifetime": "1h", "defaultEnforcement": "strict",
         "enforcement": {"preview": "soft", "hint": "advisory"},
         "degradedEntitlements": ["preview"]}
        """

    /// A vendor's test license in a directory `dev`, and the vendor's id.
    private func ready() throws -> (bench: Bench, vendor: String) {
        let bench = try Bench()
        try bench.makeVendor()
        try bench.write(Array(Self.terms.utf8), "terms")
        let made = [
            try bench.vendor("terms", "apply", "terms"),
            try bench.vendor(
                "license", "test", "--product", "scanner", "--entitlement", "scan=3",
                "--entitlement", "preview", "--entitlement", "hint", "--terms", "tests", "--until",
                "2099-12-31", "--out", "test-license"),
            try test(bench, "install", "test-license", "--trust", "vendor/trust"),
        ]
        for answer in made { #expect(answer.status == 0, "\(answer.errors)") }
        let identity = try bench.device("identity", "--trust", "vendor/trust", "--format", "json")
        return (bench, try #require(try identity.json()["vendor"] as? String))
    }

    private func test(_ bench: Bench, _ arguments: String...) throws -> Answer {
        try bench.run("holdfast", ["test"] + arguments + ["--state", bench.file("dev")])
    }

    private func open(_ bench: Bench, _ vendor: String, product: String? = "scanner") -> Guard {
        Guard(testing: vendor, product: product, state: bench.file("dev"))
    }

    @Test("every output says that it is for tests, and answers are those of the chosen state")
    func states() throws {
        let (bench, vendor) = try ready()
        let license = open(bench, vendor)
        func choose(_ state: String) throws {
            let answer = try test(bench, "set", state)
            #expect(answer.status == 0, "\(answer.errors)")
            #expect(answer.output.contains("TEST"))
            license.refresh()
        }
        for (state, scan, preview, hint) in [
            ("ACTIVE", true, true, true), ("RENEW_DUE", true, true, true),
            ("GRACE", true, true, true), ("LOCKED", false, true, true),
            ("DEGRADED", false, true, true), ("EXPIRED", false, false, true),
            ("REVOKED", false, false, false), ("RETIRED", false, false, false),
        ] {
            try choose(state)
            for (name, allowed) in [("scan", scan), ("preview", preview), ("hint", hint)] {
                let decision = license.check(name)
                #expect(decision.allowed == allowed, "\(state) \(name)")
                #expect(decision.flags == [.test])
                #expect(license.feature(name).isAllowed == allowed)
                let said = try test(bench, "check", name)
                #expect(said.status == (allowed ? 0 : 2))
                #expect(said.output.contains("TEST"))
                // The one word that differs is where it is told.
                #expect(decision.message.contains("TEST license without a TPM"))
            }
            #expect(license.check("core").allowed)
            #expect(!license.check("other").allowed)
        }
        #expect(try test(bench, "status").output.contains("TEST"))
        #expect(try test(bench, "status", "--format", "json").json()["test"] as? Bool == true)
        let wrong = try test(bench, "set", "SHINY")
        #expect(wrong.status == 64)
        #expect(wrong.errors.contains("choose one of ACTIVE"))
    }

    @Test("usage, limits and secrets work as with a TPM, and no secret is one")
    func usage() async throws {
        let (bench, vendor) = try ready()
        let license = open(bench, vendor)
        try await license.meter("scan", 2)
        #expect(license.check("scan").allowed)
        let secret = try license.secret(for: "scan")
        let again = try open(bench, vendor).secret(for: "scan")
        #expect(
            secret.withBytes { one in
                again.withBytes { other in
                    one.indices.allSatisfy { one[$0] == other[$0] }
                }
            })
        #expect(throws: GuardError.noSecret("core")) { _ = try license.secret(for: "core") }
        let metered = try test(bench, "meter", "scan")
        #expect(metered.output.contains("TEST  scan +1, 3 in all"), "\(metered.errors)")
        license.refresh()
        #expect(license.check("scan").code == "LIMIT_REACHED")
        #expect(throws: GuardError.self) { _ = try license.secret(for: "scan") }
        #expect(try test(bench, "status").output.contains("scan: 3 of 3 used"))
    }

    @Test(
        "nothing else looks at it: not a program for customers, not a command, not an enrolled device"
    )
    func nobodyElse() throws {
        let (bench, vendor) = try ready()
        let customer = Guard(
            vendor: vendor, product: "scanner", state: bench.file("dev"),
            tpm: "unix:" + bench.machine.machine.socketPath)
        #expect(!customer.check("scan").allowed)
        #expect(customer.check("scan").code == "UNENROLLED")
        #expect(!customer.check("hint").allowed)
        #expect(throws: (any Error).self) { _ = try customer.secret(for: "scan") }
        let checked = try bench.device("check", "scan", state: "dev")
        #expect(checked.status == 2)
        #expect(try bench.device("license", "install", "test-license").status != 0)

        // And a test guard does not look at a real license, which has another class besides.
        let other = try Bench()
        _ = try other.license()
        let identity = try other.device("identity", "--format", "json").json()
        let id = try #require(identity["vendor"] as? String)
        let tester = Guard(testing: id, product: "scanner", state: other.file("state"))
        #expect(!tester.check("scan").allowed)
        let into = try bench.run(
            "holdfast",
            [
                "test", "install", "test-license", "--trust", "vendor/trust", "--state",
                other.file("state"),
            ])
        #expect(into.status == 2)
    }

    @Test("what is not the vendor's, or was changed, is refused")
    func refusals() throws {
        let (bench, vendor) = try ready()
        #expect(open(bench, String(vendor.reversed())).check("scan").code == "VENDOR_MISMATCH")
        #expect(open(bench, "abc").check("scan").code == "VENDOR_INVALID")
        #expect(open(bench, vendor, product: "viewer").check("scan").code == "NO_LICENSE")
        let nowhere = Guard(testing: vendor, state: bench.file("nowhere"))
        #expect(nowhere.check("scan").code == "NO_LICENSE")
        #expect(!nowhere.check("scan").allowed)

        let path = bench.file("dev/test-license")
        let good = try Files.read(path, maximum: 1 << 20)
        for place in stride(from: 0, to: good.count, by: 17) {
            var bad = good
            bad[place] ^= 1
            try Files.write(bad, to: path, mode: 0o644)
            #expect(!open(bench, vendor).check("scan").allowed, "\(place)")
        }
        try Files.write(Array(good.dropLast()), to: path, mode: 0o644)
        #expect(try test(bench, "check", "scan").status != 0)

        // Terms of class production make no test license, and another vendor's trust file takes none.
        try bench.write(Array(Bench.terms.utf8), "production")
        #expect(try bench.vendor("terms", "apply", "production").status == 0)
        let refused = try bench.vendor(
            "license", "test", "--product", "scanner", "--entitlement", "scan", "--terms",
            "standard", "--until", "2099-12-31", "--out", "other")
        #expect(refused.status == 2)
        #expect(refused.errors.contains("terms of class test"))
        let stranger = try Bench()
        try stranger.makeVendor()
        let foreign = try test(
            bench, "install", "test-license", "--trust", stranger.file("vendor/trust"))
        #expect(foreign.status == 2)
    }

    @Test("it ends with its last day, by the wall clock")
    func over() throws {
        let (bench, _) = try ready()
        let over = try bench.run(
            "holdfast", ["test", "check", "scan", "--state", bench.file("dev")],
            under: ["faketime", "-f", "@2101-01-01 00:00:00"])
        #expect(over.status == 2)
        #expect(over.output.contains("EXPIRED"))
        let past = try bench.vendor(
            "license", "test", "--product", "scanner", "--entitlement", "scan", "--terms",
            "tests", "--until", "2020-01-01", "--out", "past")
        #expect(past.errors.contains("code: LICENSE_OVER"))
    }
}
