import Foundation
import HoldfastCrypto
import HoldfastErrors
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSync
import Testing

@Suite("the server over HTTPS", .timeLimit(.minutes(5)))
struct ServeTests {
    /// A request of an administrator's tool, that looks at no certificate.
    private func curl(_ arguments: String...) throws -> (status: Int, body: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["curl", "-sk", "-m", "30", "-w", "\n%{http_code}"] + arguments
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        let lines = String(decoding: data, as: UTF8.self).split(
            separator: "\n", omittingEmptySubsequences: false)
        return (Int(lines.last ?? "") ?? 0, lines.dropLast().joined(separator: "\n"))
    }

    private func trust(_ bench: Bench) throws -> TrustStatement {
        try VendorKeys(directory: bench.file("vendor")).trust()
    }

    private func done(_ answer: Answer, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(answer.status == 0, "\(answer.errors)", sourceLocation: sourceLocation)
    }

    /// Enrolls over the network, admits, approves, and issues.
    private func license(_ bench: Bench, _ server: Bench.Server) throws -> String {
        let enrolled = try bench.device(
            "enroll", "--trust", "vendor/trust", "--server", server.url, "--format", "json")
        done(enrolled)
        #expect(try enrolled.json()["outcome"] as? String == "pending-device")
        let id = try #require(try enrolled.json()["device"] as? String)
        done(try bench.vendor("device", "approve", id, "--model", "gateway"))
        done(
            try bench.vendor(
                "pcr", "approve", "--model", "gateway", "--from", id, "--product", "scanner",
                "--out", "approval"))
        try bench.write(Array(Bench.terms.utf8), "terms")
        done(try bench.vendor("terms", "apply", "terms"))
        done(
            try bench.vendor(
                "license", "issue", "--device", id, "--product", "scanner", "--entitlement",
                "scan", "--terms", "standard", "--until", "2099-12-31", "--out", "license"))
        return id
    }

    private func totals(_ bench: Bench) throws -> [String: Int] {
        let report = try bench.vendor("usage", "report", "--format", "json")
        let list = try JSONSerialization.jsonObject(with: Data(report.output.utf8))
        return ((list as? [[String: Any]])?.first?["totals"] as? [String: Int]) ?? [:]
    }

    @Test("a device enrolls, meters, renews and settles, and its bytes are those of the files")
    func life() throws {
        let bench = try Bench()
        try bench.makeVendor()
        let server = try bench.serve()
        let id = try license(bench, server)
        done(try bench.device("sync", "--server", server.url))
        done(try bench.device("check", "scan"))
        done(try bench.device("meter", "scan", "--quantity", "3"))
        done(try bench.device("sync", "--server", server.url))
        #expect(try totals(bench) == ["scan": 3])

        // The same bytes over the network and by file: the same reply, and nothing counts twice.
        done(try bench.device("meter", "scan"))
        done(try bench.device("bundle", "export", "evidence"))
        let evidence = try bench.bytes("evidence")
        let transport = try HTTPSTransport(url: server.url, trust: trust(bench))
        let reply = try transport.post(evidence, to: "/v1/bundle")
        #expect(try transport.post(evidence, to: "/v1/bundle") == reply)
        done(try bench.vendor("bundle", "process", "evidence", "reply"))
        #expect(try bench.bytes("reply") == reply)
        #expect(try totals(bench) == ["scan": 4])

        // The server dies without a word; what it answered it still knows.
        server.kill()
        #expect(try bench.device("sync", "--server", server.url).status == 3)
        done(try bench.device("check", "scan"))
        let next = try bench.serve()
        let again = try HTTPSTransport(url: next.url, trust: trust(bench))
        #expect(try again.post(evidence, to: "/v1/bundle") == reply)
        done(try bench.device("bundle", "import", "reply"))
        done(try bench.device("sync", "--server", next.url))
        #expect(try totals(bench) == ["scan": 4])

        done(try bench.device("retire", "--yes", "--out", "proof"))
        #expect(try again.post(bench.bytes("proof"), to: "/v1/bundle").isEmpty)
        let shown = try bench.vendor("device", "show", id, "--format", "json")
        #expect(try shown.json()["state"] as? String == "retired")
        #expect(next.stop() == 0)
    }

    @Test("a server with another key is not spoken to, and one that is not there is no refusal")
    func pins() throws {
        let bench = try Bench()
        try bench.makeVendor()
        let other = try Bench()
        try other.makeVendor()
        let server = try other.serve()
        let foreign = try HTTPSTransport(url: server.url, trust: trust(bench))
        #expect(throws: SyncError.foreignServer) { try foreign.post([1], to: "/v1/bundle") }
        let refused = try bench.device(
            "enroll", "--trust", "vendor/trust", "--server", server.url)
        #expect(refused.status == 2)
        #expect(refused.code == "SERVER_KEY_MISMATCH")
        let nobody = try HTTPSTransport(url: "https://127.0.0.1:1", trust: trust(bench))
        let error = #expect(throws: SyncError.self) { try nobody.post([1], to: "/v1/bundle") }
        #expect(error?.exitStatus == .unreachable)
        #expect(throws: SyncError.noServer) { try HTTPSTransport(url: nil, trust: trust(bench)) }
        #expect(throws: SyncError.badURL("http://127.0.0.1")) {
            try HTTPSTransport(url: "http://127.0.0.1", trust: trust(bench))
        }
        // A server that speaks to everybody and is nobody.
        let silent = try bench.device(
            "enroll", "--trust", "vendor/trust", "--server", "https://127.0.0.1:1")
        #expect(silent.status == 3)
        #expect(silent.code == "SERVER_UNREACHABLE")
    }

    @Test("CVE-2026-1709: every route of administrators wants the token, and no other one works")
    func administrators() throws {
        let bench = try Bench()
        try bench.makeVendor()
        let server = try bench.serve()
        let token = try bench.vendor("admin-token").output
            .trimmingCharacters(in: .whitespacesAndNewlines)
        #expect(token.count > 40)
        let guarded = Route.all.filter { $0.audience == .administrator }
        #expect(guarded.count >= 6)
        #expect(Route.all.filter { $0.path.contains("admin") }.count == guarded.count)
        for route in guarded {
            let address = server.url + route.path.replacingOccurrences(of: ":id", with: "dev_a")
            let method = route.method == .get ? "GET" : "POST"
            for header in [
                "X-Nothing: 1", "Authorization: Bearer ", "Authorization: Bearer x" + token,
                "Authorization: Bearer " + token.dropLast(), "Authorization: Basic " + token,
            ] {
                let answer = try curl("-X", method, "-H", header, address)
                #expect(answer.status == 401, "\(route.path) with `\(header)`")
            }
            let good = try curl("-X", method, "-H", "Authorization: Bearer " + token, address)
            #expect(good.status != 401, "\(route.path)")
        }
        // An administrator is told in words.
        let refused = try curl(
            "-H", "Authorization: Bearer " + token, "-d", "{}",
            server.url + "/v1/admin/devices/dev_a/approve")
        #expect(refused.status == 409)
        #expect(refused.body.contains("DEVICE_UNKNOWN"))
        #expect(refused.body.contains("remedy"))
        #expect(try curl(server.url + "/v1/admin/nothing").status == 404)
        #expect(try curl(server.url + "/healthz").body == #"{"status":"ok"}"#)
    }

    @Test("what is malformed, too large or for another server gets a code and no words")
    func badInput() throws {
        let bench = try Bench()
        try bench.makeVendor()
        let server = try bench.serve()
        for path in ["/v1/enroll", "/v1/bundle"] {
            let answer = try curl("--data-binary", "hello", server.url + path)
            #expect(answer.status == 409)
            #expect(answer.body == #"{"code":"DOCUMENT_INVALID"}"#)
        }
        try bench.write([UInt8](repeating: 0, count: 5 << 20), "large")
        for path in ["/v1/enroll", "/v1/bundle"] {
            #expect(
                try curl("--data-binary", "@" + bench.file("large"), server.url + path).status
                    == 413)
        }
        // It goes on serving.
        #expect(try curl(server.url + "/healthz").status == 200)
    }

    @Test("two servers do not start on one port, and one without keys does not start")
    func starting() throws {
        let bench = try Bench()
        #expect(try bench.vendor("serve").status == 1)
        try bench.makeVendor()
        let server = try bench.serve()
        let port = try #require(server.url.split(separator: ":").last)
        let second = try bench.vendor("serve", "--listen", "127.0.0.1:\(port)")
        #expect(second.status == 1)
        #expect(second.code != nil)
        #expect(try bench.vendor("serve", "--listen", "nowhere").status == 64)
        #expect(server.stop() == 0)
    }
}
