import Foundation
import Testing

@Suite("terms, by command", .timeLimit(.minutes(20)))
struct TermsTests {
    /// Takes evidence to the vendor and the reply back.
    private func renew(_ bench: Bench) throws {
        for answer in [
            try bench.device("bundle", "export", "evidence"),
            try bench.vendor("bundle", "process", "evidence", "reply"),
            try bench.device("bundle", "import", "reply"),
        ] { #expect(answer.status == 0, "\(answer.errors)") }
    }

    @Test("both sides say what comes, when, and what becomes different; then it is in force")
    func told() throws {
        let bench = try Bench()
        let id = try bench.license()
        let worse = Bench.terms.replacing("\"version\": 1", with: "\"version\": 2")
            .replacing("\"lease\": \"45d\"", with: "\"lease\": \"40d\"")
        try bench.write(Array(worse.utf8), "worse")
        let refused = try bench.vendor("terms", "apply", "worse")
        #expect(refused.status == 2)
        #expect(refused.errors.contains("a lease runs for: 45 days -> 40 days"))
        #expect(refused.errors.contains("code: TERMS_NEED_NOTICE"))

        let noticed = worse.replacing("\"resets\"", with: "\"notice\": \"2s\", \"resets\"")
        try bench.write(Array(noticed.utf8), "noticed")
        let applied = try bench.vendor("terms", "apply", "noticed")
        #expect(applied.status == 0, "\(applied.errors)")
        #expect(applied.output.contains("changed   a lease runs for: 45 days -> 40 days"))
        let before = try bench.vendor("terms", "list").output
        #expect(before.contains("standard  version 2  licenses: 1 under version 1\n"))

        try renew(bench)
        let status = try bench.device("status")
        #expect(status.status == 0, "\(status.errors)")
        #expect(status.output.contains("ACTIVE (POLICY_PENDING)"))
        #expect(status.output.contains("standard 2 comes with the first renewal after"))
        #expect(status.output.contains("a lease runs for: 45 days -> 40 days"))
        let rules = try bench.device("license", "terms").output
        #expect(rules.contains("terms standard, version 1, class production"))
        #expect(rules.contains("With the first renewal after"))
        #expect(rules.contains("terms standard, version 2, class production"))
        let told = try bench.device("status", "--format", "json").json()
        let license = try #require((told["licenses"] as? [[String: Any]])?.first)
        let coming = try #require((license["termsToCome"] as? [[String: Any]])?.first)
        #expect(license["termsVersion"] as? Int == 1)
        #expect(coming["version"] as? Int == 2)
        #expect(try bench.device("check", "scan").status == 0)
        #expect(
            try bench.vendor("device", "show", id).output.contains(
                "to come     standard 2; the device has not shown yet that it was told"))

        Thread.sleep(forTimeInterval: 2.5)
        try renew(bench)
        let now = try bench.device("status")
        #expect(!now.output.contains("POLICY_PENDING"))
        #expect(
            try bench.device("change-log").output.contains("terms standard 1 -> standard 2"))
        #expect(try bench.device("license", "terms").output.contains("version 2"))
        #expect(
            try bench.vendor("terms", "list").output.contains(
                "standard  version 2  licenses: 1 under version 2\n"))

        // A file that was damaged is told, and keeps nobody from anything.
        try bench.write([1, 2, 3], "state/terms-to-come")
        let damaged = try bench.device("status")
        #expect(damaged.status == 0)
        #expect(damaged.errors.contains("`terms-to-come` in the state directory was changed"))
        #expect(try bench.device("check", "scan").status == 0)
    }
}
