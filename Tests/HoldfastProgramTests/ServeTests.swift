import Foundation
import HoldfastCrypto
import HoldfastErrors
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSync
import Testing

@Suite("the server over HTTPS", .timeLimit(.minutes(20)))
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

    @Test("a server that was put back from a backup asks, and the device brings what is missing")
    func restored() throws {
        let bench = try Bench()
        try bench.makeVendor()
        var server = try bench.serve()
        let id = try license(bench, server)
        done(try bench.device("sync", "--server", server.url))
        done(try bench.vendor("backup", "--out", "backup"))
        #expect(try bench.vendor("backup", "--out", "backup").status == 1)
        done(try bench.device("meter", "scan", "--quantity", "6"))
        done(try bench.device("sync", "--server", server.url))
        done(try bench.device("sync", "--server", server.url))

        // Not while it is in use, and not without a word.
        #expect(try bench.vendor("restore", "--from", "backup").status == 64)
        #expect(try bench.vendor("restore", "--from", "backup", "--yes").status == 1)
        #expect(server.stop() == 0)
        let done = try bench.vendor("restore", "--from", "backup", "--yes", "--format", "json")
        self.done(done)
        let kept = try #require(try done.json()["kept"] as? String)
        #expect(Files.exists(kept))
        #expect(try done.json()["incarnation"] as? Int ?? 0 > 1)
        #expect(try totals(bench) == [:])

        server = try bench.serve()
        self.done(try bench.device("meter", "scan"))
        self.done(try bench.device("sync", "--server", server.url))
        #expect(try totals(bench) == ["scan": 7])
        self.done(try bench.device("check", "scan"))
        #expect(try bench.vendor("device", "show", id).output.contains("RESTORED"))
        #expect(server.stop() == 0)
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
        try bench.write([UInt8](repeating: 0, count: 13 << 20), "large")
        for path in ["/v1/enroll", "/v1/bundle"] {
            #expect(
                try curl("--data-binary", "@" + bench.file("large"), server.url + path).status
                    == 413)
        }
        // It goes on serving.
        #expect(try curl(server.url + "/healthz").status == 200)
    }

    @Test("a newer trust file moves the server; an older one and another vendor's are refused")
    func movedServer() throws {
        let bench = try Bench()
        try bench.makeVendor()
        let other = try Bench()
        try other.makeVendor()
        let server = try bench.serve()
        _ = try license(bench, server)
        #expect(try bench.device("sync").status == 2)
        let old = try bench.bytes("vendor/trust")
        try bench.write(old, "old-trust")
        #expect(try bench.vendor("trust", "update").status == 64)
        #expect(try bench.vendor("trust", "update", "--url", "http://x").status == 64)
        // The root key is elsewhere, or is somebody else's.
        try FileManager.default.moveItem(
            atPath: bench.file("vendor/root.key"), toPath: bench.file("root.key"))
        #expect(try bench.vendor("trust", "update", "--url", server.url).status == 1)
        let foreign = try bench.vendor(
            "trust", "update", "--url", server.url, "--root-key", other.file("vendor/root.key"))
        #expect(foreign.status == 2)
        #expect(try bench.bytes("vendor/trust") == old)
        let updated = try bench.vendor(
            "trust", "update", "--url", server.url, "--ek", "id:1/new=ecc-p256", "--root-key",
            "root.key", "--format", "json")
        done(updated)
        #expect(try updated.json()["sequence"] as? Int == 2)

        done(try bench.device("trust", "install", "vendor/trust"))
        done(try bench.device("trust", "install", "vendor/trust"))
        done(try bench.device("sync"))
        let superseded = try bench.device("trust", "install", "old-trust")
        #expect(superseded.status == 2 && superseded.errors.contains("SUPERSEDED"))
        #expect(try bench.device("trust", "install", other.file("vendor/trust")).status == 2)
        #expect(try bench.device("trust", "install", "vendor/trust", state: "new").status == 2)
        done(try bench.device("sync"))
        #expect(server.stop() == 0)
    }

    @Test("an address that calls too often waits, and whoever shows the token does not")
    func rate() throws {
        let bench = try Bench()
        try bench.makeVendor()
        #expect(try bench.vendor("serve", "--rate", "-1").status == 64)
        let server = try bench.serve("--rate", "0.1")
        let token = try bench.vendor("admin-token").output.trimmingCharacters(in: .newlines)
        #expect(try curl(server.url + "/healthz").status == 200)
        let refused = try curl(server.url + "/healthz")
        #expect(refused.status == 429)
        #expect(refused.body == #"{"code":"BUSY"}"#)
        #expect(try curl(server.url + "/v1/admin/devices").status == 429)
        let bearer = "Authorization: Bearer " + token
        for _ in 0..<3 {
            #expect(try curl("-H", bearer, server.url + "/v1/admin/devices").status == 200)
        }
        // For a device this is a server that is not there now: later is another time.
        let device = try bench.device(
            "enroll", "--trust", "vendor/trust", "--server", server.url)
        #expect(device.status == 3)
        #expect(device.errors.contains("BUSY"))
    }

    @Test("a server that is killed among many callers has what it answered, once")
    func flood() async throws {
        let bench = try Bench()
        try bench.makeVendor()
        var server = try bench.serve("--rate", "0")
        _ = try license(bench, server)
        let trust = try trust(bench)
        var evidence: [[UInt8]] = []
        // Exported one after the other, as a courier would have them.
        for _ in 0..<4 {
            done(try bench.device("meter", "scan"))
            done(try bench.device("bundle", "export", "evidence"))
            evidence.append(try bench.bytes("evidence"))
        }
        for round in 0..<3 {
            let url = server.url
            let files = evidence
            let calls = (0..<16).map { number in
                Task.detached { () -> (Int, [UInt8]?) in
                    let at = number % files.count
                    let transport = try HTTPSTransport(url: url, trust: trust)
                    return (at, try? transport.post(files[at], to: "/v1/bundle"))
                }
            }
            usleep(useconds_t(20_000 * (round + 1)))
            server.kill()
            for call in calls { _ = try await call.value }
            server = try bench.serve("--rate", "0")
        }
        // Each answer that there is comes again, byte for byte; what is stale changes nothing.
        let transport = try HTTPSTransport(url: server.url, trust: trust)
        let answers = evidence.map { try? transport.post($0, to: "/v1/bundle") }
        #expect(answers.last != nil)
        for (file, answer) in zip(evidence, answers) {
            #expect((try? transport.post(file, to: "/v1/bundle")) == answer)
        }
        #expect(try totals(bench) == ["scan": 4])
        #expect(server.stop() == 0)
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
