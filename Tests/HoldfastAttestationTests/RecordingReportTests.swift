import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import Synchronization
import Testing
import X509

@Suite("a folder of recordings")
struct RecordingReportTests {
    private static let date = Date(timeIntervalSince1970: 1_700_000_000)

    private static func log() -> EventLogWriter {
        var log = EventLogWriter(algorithms: [.sha256])
        for pcr in PCRIndex.firmware { log.measure([0, 0, 0, 0], as: .separator, into: pcr) }
        return log
    }

    /// What `tpm2_eventlog` prints of a log, shortened.
    private static func yaml(_ bytes: [UInt8], changing: Bool = false) -> [UInt8] {
        let replayed = EventLogAppraisal(
            bytes, userspace: nil, explaining: nil, revocations: nil
        ).replayed
        var text = "---\nversion: 1\nevents:\n- EventNum: 0\n  PCRIndex: 0\npcrs:\n  sha256:\n"
        for (index, value) in replayed[.sha256] ?? [:] {
            var value = value
            if changing { value[0] ^= 1 }
            text += "    \(index.rawValue)  : 0x\(hexadecimal(value))\n"
        }
        return Array(text.utf8)
    }

    private func rows(
        _ files: [(String, [UInt8]?)]
    ) async -> (rows: [String: RecordingReport.Row], report: RecordingReport) {
        let report = await RecordingReport(
            files.map { file in RecordedFile(path: file.0) { file.1 } }, at: Self.date)
        #expect(report.rows.map(\.file) == files.map(\.0))
        #expect(report.text.split(separator: "\n").count == files.count + 2)
        return (
            Dictionary(uniqueKeysWithValues: report.rows.map { ($0.file, $0) }), report
        )
    }

    @Test("what a file is, its content says; a log is compared with the values beside it")
    func kinds() async throws {
        let log = Self.log().bytes
        var list = IMAListWriter()
        list.measure(
            "boot_aggregate",
            digest: IMAEntry.Digest(
                kind: "ima", algorithm: "sha256", bytes: [UInt8](repeating: 1, count: 32)))
        let root = try TestAuthority("root", below: nil)
        let (rows, report) = await rows([
            ("a", log), ("a.yaml", Self.yaml(log)), ("b", log),
            ("b.yaml", Self.yaml(log, changing: true)), ("list", list.bytes),
            ("maker", root.pem), ("padded", log + [UInt8](repeating: 0, count: 64)),
            ("systemd", [0x1E] + Array("{\"pcr\":11,\"digests\":[]}\n".utf8)),
        ])
        #expect(rows.mapValues(\.kind).filter { $0.value == "event-log" }.count == 3)
        #expect(rows["a"]?.verdict == "valid" && rows["a"]?.banks == ["sha256"])
        #expect(rows["a.yaml"]?.kind == "pcr-values")
        #expect(rows["b"]?.verdict == "contradicted")
        #expect(rows["list"]?.kind == "ima-list" && rows["list"]?.verdict == "valid")
        #expect(rows["maker"]?.kind == "authority" && rows["maker"]?.reason == "root")
        #expect(rows["padded"]?.reason.contains("64 bytes of padding") == true)
        #expect(rows["systemd"]?.kind == "systemd-log")
        #expect(report.contradictions == 1 && report.refused == 0)
    }

    @Test("of a folder no more than a file is in memory at a time, and its values")
    func oneAtATime() async throws {
        let log = Self.log().bytes
        let reads = Mutex<[String: Int]>([:])
        let files = (0..<20).map { number in
            RecordedFile(path: "log\(number)") {
                reads.withLock { $0["log\(number)", default: 0] += 1 }
                return log
            }
        }
        #expect(reads.withLock { $0.isEmpty }, "nothing is read before it is needed")
        let report = await RecordingReport(files, at: Self.date)
        #expect(report.rows.allSatisfy { $0.verdict == "valid" })
        // Once to see whether it is an authority, and once to be judged.
        #expect(reads.withLock { Set($0.values) } == [2])
    }

    @Test("values of a machine that ran on are compared in PCR 0 to 7, and in banks that both have")
    func running() async throws {
        let log = Self.log().bytes
        let values = String(decoding: Self.yaml(log), as: UTF8.self)
            .components(separatedBy: "pcrs:\n")[1]
        let zeros = String(repeating: "0", count: 64)
        let more =
            "sm3_256:\n  0 : 0x\(zeros)\nsha1:\n  0 : 0x\(zeros.prefix(40))\n" + values
            + "    10: 0x\(zeros.replacingOccurrences(of: "0", with: "A"))\n"
        let (rows, _) = await rows([
            ("a.bin", log), ("a.yaml", Array(more.utf8)),
        ])
        #expect(rows["a.bin"]?.verdict == "valid", "\(rows)")
        #expect(rows["a.bin"]?.reason.contains("8 values as in its yaml") == true)
        #expect(rows["a.yaml"]?.reason == "compared with a.bin")
        let (foreign, _) = await self.rows([
            ("a", log), ("a.yaml", Array("sha1:\n  0 : 0x\(zeros.prefix(40))\n".utf8)),
        ])
        #expect(foreign["a"]?.reason.contains("no value that could be compared") == true)
        let changed = Self.yaml(log, changing: true)
        let other = String(decoding: changed, as: UTF8.self).components(separatedBy: "pcrs:\n")[1]
        let (refused, report) = await self.rows([("a.bin", log), ("a.yaml", Array(other.utf8))])
        #expect(refused["a.bin"]?.verdict == "contradicted" && report.contradictions == 1)
    }

    @Test("authorities in the folder vouch for the endorsement keys in it, and no others do")
    func certificates() async throws {
        let root = try TestAuthority("root", below: nil)
        let stranger = try TestAuthority("stranger", below: nil)
        let genuine = testPEM(testDER(try TestEndorsement().issue(by: root)))
        let other = testPEM(testDER(try TestEndorsement().issue(by: stranger)))
        let (known, _) = await rows([("ek", genuine), ("other", other), ("root", root.pem)])
        #expect(known["ek"]?.verdict == "valid" && known["ek"]?.kind == "ek-certificate")
        #expect(known["other"]?.verdict == "refused")
        let (alone, _) = await rows([("ek", genuine)])
        #expect(alone["ek"]?.verdict == "refused")
    }

    @Test("what cannot be read is refused with a reason, and nothing crashes")
    func refused() async throws {
        let log = Self.log().bytes
        let (rows, report) = await rows([
            ("bios_measurements-empty", []), ("bios_measurements-cut", Array(log.dropLast())),
            ("ima/runtime_measurements", [1, 2, 3]), ("key.der", [0x30, 0x03]),
            ("large", nil), ("nothing", Array("hello".utf8)), ("x.yaml", Array("a: b".utf8)),
        ])
        #expect(report.refused == rows.count)
        #expect(rows.values.allSatisfy { !$0.reason.isEmpty && $0.verdict == "refused" })
        #expect(rows["bios_measurements-empty"]?.kind == "event-log")
        #expect(rows["ima/runtime_measurements"]?.kind == "ima-list")
        #expect(rows["nothing"]?.kind == "unknown")
        for place in stride(from: 0, to: log.count, by: 3) {
            var changed = log
            changed[place] ^= 0xFF
            _ = await self.rows([("log", changed), ("cut", Array(log.prefix(place)))])
        }
    }

    @Test("a name is never a command to a terminal")
    func names() async {
        let report = await RecordingReport(
            [RecordedFile(path: "a\u{1B}[2J") { [] }], at: Self.date)
        #expect(report.rows.first?.file == "a\\x1b[2J")
    }

    @Test("the recordings are judged as they are known")
    func recordings() async throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../shared/recordings").standardizedFileURL
        guard let all = FileManager.default.enumerator(atPath: root.path) else { return }
        var files: [RecordedFile] = []
        while let path = all.nextObject() as? String {
            guard let data = try? Data(contentsOf: root.appending(path: path)) else { continue }
            files.append(RecordedFile(path: path) { [UInt8](data) })
        }
        guard !files.isEmpty else { return }
        let report = await RecordingReport(files, at: Date(timeIntervalSince1970: 1_790_000_000))
        #expect(report.contradictions == 0)
        let refused = report.rows.filter { $0.verdict == "refused" }.map(\.file)
        #expect(
            refused.allSatisfy { name in
                ["short_no_action", "-bogus", "-empty", "-hex.yaml", "/ekcert.pem"].contains(
                    where: name.contains)
            }, "\(refused)")
    }
}
