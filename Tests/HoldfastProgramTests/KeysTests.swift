import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
import HoldfastSync
import Testing

@Suite("the commands for keys", .timeLimit(.minutes(20)))
struct KeysTests {
    private func done(_ answer: Answer, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(answer.status == 0, "\(answer.errors)", sourceLocation: sourceLocation)
    }

    private func keys(_ bench: Bench) throws -> [[String: Any]] {
        let list = try bench.vendor("keys", "list", "--format", "json")
        done(list)
        return try #require(try list.json()["keys"] as? [[String: Any]])
    }

    private func id(_ bench: Bench, _ kind: String, _ use: String) throws -> String {
        try #require(
            try keys(bench).first { $0["kind"] as? String == kind && $0["use"] as? String == use }?[
                "id"] as? String)
    }

    private func takeRootKeyAway(_ bench: Bench) throws {
        try FileManager.default.moveItem(
            atPath: bench.file("vendor/root.key"), toPath: bench.file("root.key"))
    }

    @Test(
        "every key is exchanged while a device syncs, and the earlier ones go when nobody needs them"
    )
    func life() throws {
        let bench = try Bench()
        _ = try bench.license()
        try takeRootKeyAway(bench)
        var server = try bench.serve()
        done(try bench.device("sync", "--server", server.url))
        #expect(try keys(bench).map { $0["use"] as? String } == ["in-use", "in-use", "in-use"])

        for kind in ["issuer", "sealing", "tls"] {
            let rotated = try bench.vendor(
                "keys", "rotate", kind, "--root-key", "root.key", "--format", "json")
            done(rotated)
            #expect(try rotated.json()["kind"] as? String == kind)
            #expect(try rotated.json()["terms"] as? Int == (kind == "issuer" ? 1 : 0))
        }
        // The server that runs takes it up.
        let told = try bench.device("sync", "--server", server.url)
        done(told)
        #expect(told.output.contains("the vendor's keys changed: signing, sealing, TLS"))
        #expect(try bench.device("change-log").output.contains("the vendor's keys changed"))
        done(try bench.device("sync", "--server", server.url))

        let switched = try bench.vendor("keys", "switch", "tls")
        done(switched)
        #expect(server.stop() == 0)
        server = try bench.serve()
        done(try bench.device("sync", "--server", server.url))
        for kind in ["issuer", "sealing", "tls"] {
            let earlier = try id(bench, kind, "earlier")
            done(
                try bench.vendor("keys", "retire", kind, earlier, "--root-key", "root.key", "--yes")
            )
        }
        done(try bench.device("sync", "--server", server.url))
        done(try bench.device("sync", "--server", server.url))
        done(try bench.device("check", "scan"))
        done(try bench.device("doctor"))
        #expect(
            try keys(bench).map { $0["use"] as? String } == [
                "in-use", "retired", "in-use", "in-use",
            ])
        #expect(try bench.vendor("device", "list").status == 0)
        #expect(try bench.vendor("terms", "list").status == 0)
        #expect(server.stop() == 0)
    }

    @Test("what cannot be done with keys is refused with its code, and changes nothing")
    func refused() throws {
        let bench = try Bench()
        _ = try bench.license()
        let other = try Bench()
        try other.makeVendor()
        try takeRootKeyAway(bench)
        let trust = try bench.bytes("vendor/trust")
        let names = try Files.names(in: bench.file("vendor")).filter { $0 != "keys.lock" }
        func refusal(_ status: Int32, _ arguments: String...) throws -> String? {
            let answer = try bench.run("holdfast-server", ["keys"] + arguments)
            #expect(answer.status == status, "\(arguments): \(answer.errors)")
            #expect(try bench.bytes("vendor/trust") == trust)
            return answer.code
        }
        let issuer = try id(bench, "issuer", "in-use")
        #expect(try refusal(1, "rotate", "issuer") == "VENDOR_KEYS")
        #expect(
            try refusal(2, "rotate", "issuer", "--root-key", other.file("vendor/root.key"))
                == "SIGNATURE_INVALID")
        _ = try refusal(64, "rotate", "root")
        _ = try refusal(64, "switch", "issuer")
        #expect(try refusal(2, "switch", "tls", "--yes") == "KEY_NOT_FITTING")
        #expect(
            try refusal(2, "retire", "issuer", issuer, "--yes", "--root-key", "root.key")
                == "KEY_NOT_FITTING")
        #expect(
            try refusal(2, "retire", "sealing", "0123", "--yes", "--root-key", "root.key")
                == "KEY_NOT_FITTING")
        #expect(
            try Files.names(in: bench.file("vendor")).filter { $0 != "keys.lock" } == names)
    }

    @Test(
        "a key that devices need stays without --yes, and a device that was left behind is told what to do"
    )
    func needed() throws {
        let bench = try Bench()
        _ = try bench.license()
        let old = try VendorKeys(directory: bench.file("vendor")).trust()
        for kind in ["issuer", "sealing", "tls"] {
            done(try bench.vendor("keys", "rotate", kind))
        }
        for kind in ["issuer", "sealing"] {
            let earlier = try id(bench, kind, "earlier")
            let refused = try bench.vendor("keys", "retire", kind, earlier)
            #expect(refused.status == 2)
            #expect(refused.code == "KEY_NEEDED")
        }
        let early = try bench.vendor("keys", "switch", "tls")
        #expect(early.status == 2 && early.code == "KEY_NEEDED")
        done(try bench.vendor("keys", "switch", "tls", "--yes"))
        for kind in ["issuer", "sealing", "tls"] {
            let earlier = try id(bench, kind, "earlier")
            done(try bench.vendor("keys", "retire", kind, earlier, "--yes"))
        }
        let server = try bench.serve()
        #expect(throws: SyncError.foreignServer) {
            try HTTPSTransport(url: server.url, trust: old).post([1], to: "/v1/bundle")
        }
        let behind = try bench.device("sync", "--server", server.url)
        #expect(behind.status == 2)
        #expect(behind.code == "SERVER_KEY_MISMATCH")
        #expect(behind.errors.contains("holdfast trust install"))
        // By file it is the sealing key.
        done(try bench.device("bundle", "export", "evidence"))
        let file = try bench.vendor("bundle", "process", "evidence", "reply")
        #expect(file.status == 2)
        #expect(file.code == "SEALING_KEY_UNKNOWN")
        #expect(file.errors.contains("trust install"))

        let newest = try VendorKeys(directory: bench.file("vendor")).trust()
        let refusal = SyncError.refused(code: "SEALING_KEY_UNKNOWN")
        #expect(throws: refusal) {
            try HTTPSTransport(url: server.url, trust: newest).post(
                bench.bytes("evidence"), to: "/v1/bundle")
        }
        #expect(refusal.remedy?.contains("holdfast trust install") == true)

        let installed = try bench.device("trust", "install", "vendor/trust")
        done(installed)
        #expect(installed.output.contains("counts no more"))
        #expect(try bench.device("check", "scan").status != 0)
        done(try bench.device("sync", "--server", server.url))
        done(try bench.device("check", "scan"))
        #expect(server.stop() == 0)
    }
}
