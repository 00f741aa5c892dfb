import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import Testing

@Suite("privacy", .timeLimit(.minutes(20)))
struct PrivacyTests {
    /// What names this machine or a person at it, as text.
    private static func names() -> [String] {
        var found: [String] = []
        func take(_ path: String) {
            guard let bytes = try? Files.read(path, maximum: 4096) else { return }
            found += String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
                .map(String.init)
        }
        take("/etc/machine-id")
        take("/etc/hostname")
        for name in ["product_serial", "product_uuid", "board_serial", "chassis_serial"] {
            take("/sys/class/dmi/id/" + name)
        }
        for interface in (try? FileManager.default.contentsOfDirectory(atPath: "/sys/class/net"))
            ?? []
        {
            take("/sys/class/net/\(interface)/address")
        }
        // Short and common words would be found anywhere.
        return found.filter { $0.count >= 6 && Set($0).count > 3 }
    }

    /// A text as it may stand in a document: as it is, and a MAC or UUID as bytes.
    private static func forms(_ name: String) -> [[UInt8]] {
        let digits = name.filter { $0.isHexDigit }
        let separators = name.filter { ":-".contains($0) }
        let isNumber = digits.count + separators.count == name.count && digits.count >= 12
        let bytes = isNumber ? try? Hex.decode(variableTime: digits.lowercased()) : nil
        return [Array(name.utf8), Array(name.uppercased().utf8)] + (bytes.map { [$0] } ?? [])
    }

    private static func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
        Data(bytes).range(of: Data(part)) != nil
    }

    @Test("R4, R44: nothing that is issued, sent or kept names a machine or a person")
    func nothingPersonal() throws {
        let bench = try Bench()
        let id = try bench.license()
        #expect(try bench.device("meter", "scan").status == 0)
        let preview = try bench.device("sync", "--dry-run", "--format", "json")
        let sections = try #require(
            try JSONSerialization.jsonObject(with: Data(preview.output.utf8)) as? [[String: Any]])
        var documents: [String: [UInt8]] = [:]
        for section in sections {
            documents["evidence: \(section["section"] ?? "")"] = try Hex.decode(
                variableTime: section["content"] as? String ?? "")
        }
        #expect(documents.count > 5)
        for folder in ["vendor", "state"] {
            for name in try Files.ordinaryFiles(below: bench.file(folder)) {
                documents[folder + "/" + name] = try Files.read(
                    bench.file(folder) + "/" + name, maximum: 1 << 24)
            }
        }
        for name in ["license", "approval"] { documents[name] = try bench.bytes(name) }
        let shown = try bench.vendor("device", "show", id, "--format", "json")
        documents["device show"] = Array(shown.output.utf8)
        let names = Self.names() + [NSUserName() + "@", ProcessInfo.processInfo.hostName]
        #expect(names.count >= 2)
        for (document, bytes) in documents {
            for name in names {
                for form in Self.forms(name) where form.count >= 6 {
                    #expect(!Self.contains(bytes, form), "\(document) holds `\(name)`")
                }
            }
        }
        // The search itself finds what is there.
        #expect(
            Self.contains(Array("xx02:42:ac:11:00:02".utf8), Self.forms("02:42:ac:11:00:02")[0]))
        #expect(Self.contains([0, 2, 0x42, 0xAC, 0x11, 0, 2], Self.forms("02:42:ac:11:00:02")[2]))
    }

    @Test("R44: two vendors have nothing of one device in common")
    func pairwise() throws {
        let bench = try Bench()
        _ = try bench.license()
        let first = try bench.device("identity", "--format", "json").json()
        try FileManager.default.moveItem(atPath: bench.file("vendor"), toPath: bench.file("first"))
        try bench.makeVendor()
        let enrolled = try bench.device(
            "enroll", "--trust", "vendor/trust", "--request-out", "request2", state: "state2")
        #expect(enrolled.status == 0, "\(enrolled.errors)")
        let second = try bench.device("identity", "--format", "json", state: "state2").json()
        #expect(first.count >= 5 && second.count >= 5)
        func texts(_ value: Any) -> Set<String> {
            switch value {
            case let text as String: [text]
            case let list as [Any]: list.reduce(into: []) { $0.formUnion(texts($1)) }
            case let object as [String: Any]:
                object.values.reduce(into: []) { $0.formUnion(texts($1)) }
            default: []
            }
        }
        // Sentences say what a machine lacks; everything else of that length is an id.
        let common = texts(first).intersection(texts(second)).filter {
            $0.count >= 16 && !$0.contains(" ")
        }
        #expect(common == [])
    }
}
