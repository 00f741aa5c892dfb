import FoundationEssentials
import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("event log", .timeLimit(.minutes(10)))
struct EventLogTests {
    static let zero = [UInt8](repeating: 0, count: 20)
    static let sm3 = SpecificationID.Algorithm(id: AlgorithmID(rawValue: 0x0012), digestSize: 32)

    static func pcr(_ number: UInt8) throws -> PCRIndex {
        try #require(PCRIndex(rawValue: number))
    }

    /// A boot of three measurements in two banks.
    static func smallLog() throws -> EventLogWriter {
        var log = EventLogWriter(algorithms: [.sha256, .sha384])
        log.measure([1, 2, 3], as: .crtmVersion, into: try pcr(0))
        log.measure([0, 0, 0, 0], as: .separator, into: try pcr(0))
        log.measure(Array("kernel".utf8), as: .ipl, into: try pcr(4))
        return log
    }

    @Test("a written log is read back and replays to what a TPM would have")
    func roundTrip() throws {
        let bytes = try Self.smallLog().bytes
        let log = try EventLog(parsing: bytes)
        #expect(log.events.count == 4)
        #expect(log.events[3].type == .ipl)
        #expect(log.events[3].extendedPCR == (try Self.pcr(4)))
        #expect(Array(log.events[3].untrustedData) == Array("kernel".utf8))
        let values = try log.replay()
        #expect(Set(values.keys) == [.sha256, .sha384])
        for bank in [HashAlgorithm.sha256, .sha384] {
            let start = [UInt8](repeating: 0, count: bank.digestSize)
            let first = bank.digest(start, bank.digest([1, 2, 3]))
            #expect(
                values[bank]?[try Self.pcr(0)] == bank.digest(first, bank.digest([0, 0, 0, 0])))
            #expect(
                values[bank]?[try Self.pcr(4)]
                    == bank.digest(start, bank.digest(Array("kernel".utf8))))
            #expect(values[bank]?.count == 2)
            #expect(try log.replay(bank) == values[bank])
        }
        #expect(throws: EventLogError.bankIncomplete(.sha1)) { try log.replay(.sha1) }
        #expect(throws: EventLogError.bankIncomplete(.sha512)) { try log.replay(.sha512) }
    }

    @Test("a log that ends anywhere but after an event is refused")
    func truncated() throws {
        let bytes = try Self.smallLog().bytes
        let log = try EventLog(parsing: bytes)
        var ends: [Int: Int] = [:]
        for end in 1..<bytes.count {
            guard let shorter = try? EventLog(parsing: Array(bytes[..<end])) else { continue }
            ends[end] = shorter.events.count
        }
        #expect(ends.values.sorted() == Array(1..<log.events.count))
        #expect(throws: EventLogError.empty) { try EventLog(parsing: []) }
        #expect(throws: EventLogError.truncated(event: 3)) {
            try EventLog(parsing: bytes.dropLast())
        }
        #expect(throws: EventLogError.truncated(event: 0)) { try EventLog(parsing: [0]) }
    }

    @Test("bytes after the last event are refused", arguments: [1, 3, 4, 7])
    func trailing(count: Int) throws {
        let bytes = try Self.smallLog().bytes
        #expect(throws: EventLogError.truncated(event: 4)) {
            try EventLog(parsing: bytes + [UInt8](repeating: 0, count: count))
        }
    }

    @Test("zeros and ones behind the last event are padding, and nothing else is")
    func padding() throws {
        let bytes = try Self.smallLog().bytes
        let plain = try EventLog(parsing: bytes)
        #expect(plain.padding == 0)
        for filler in [0x00, 0xFF] as [UInt8] {
            for count in [16, 17, 4096] {
                let padded = bytes + [UInt8](repeating: filler, count: count)
                let log = try EventLog(parsing: padded)
                #expect(log.padding == count && log.events.count == plain.events.count)
                #expect(try log.replay() == plain.replay())
                #expect(throws: EventLogError.self) { try EventLog(parsing: padded + [1]) }
                #expect(throws: EventLogError.self) {
                    try EventLog(parsing: padded + [filler ^ 0xFF])
                }
            }
            // Fewer than an event has are a cut event.
            #expect(throws: EventLogError.self) {
                try EventLog(parsing: bytes + [UInt8](repeating: filler, count: 15))
            }
        }
        // An event that ends with zeros does not end in the padding.
        var last = try Self.smallLog()
        last.measure([0, 0, 0, 0], as: .separator, into: try Self.pcr(7))
        let log = try EventLog(parsing: last.bytes + [UInt8](repeating: 0, count: 64))
        #expect(log.padding == 64 && log.events.count == 5)
        // A SHA-1 log as an area of firmware: its smallest event has 32 bytes.
        var sha1 = EventLogWriter.sha1Only()
        sha1.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        let area = sha1.bytes + [UInt8](repeating: 0, count: 32)
        #expect(try EventLog(parsing: area).padding == 32)
        #expect(throws: EventLogError.self) { try EventLog(parsing: area.dropLast()) }
        #expect(throws: EventLogError.self) {
            try EventLog(parsing: [UInt8](repeating: 0, count: 31))
        }
    }

    @Test("no bit flip crashes the parser, and one in a digest changes the replay")
    func bitFlips() throws {
        var log = try Self.smallLog()
        log.append(
            pcr: 0xFFFF_FFFF, type: .noAction,
            digests: [.init(.sha256, [UInt8](repeating: 0, count: 32))], data: [9])
        let bytes = log.bytes
        let original = try EventLog(parsing: bytes).replay(.sha256)
        // Positions of what the TPM vouches for in this bank.
        let vouched = Set(
            try EventLog(parsing: bytes).events.filter { $0.extendedPCR != nil }
                .compactMap { $0.digest(.sha256)?.indices }.joined())
        #expect(vouched.count == 3 * 32)
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            let values = try? EventLog(parsing: changed).replay(.sha256)
            if vouched.contains(bit / 8) {
                #expect(values != nil && values != original, "bit \(bit)")
            }
        }
    }

    @Test("lengths are checked before anything is taken")
    func lengths() throws {
        let header = EventLogWriter(algorithms: [.sha256]).bytes
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF]
        let event: [UInt8] = [0, 0, 0, 0, 1, 0, 0, 0]
        #expect(throws: EventLogError.repeatedDigest(event: 1)) {
            try EventLog(parsing: header + event + huge)
        }
        let digest: [UInt8] = [1, 0, 0, 0, 0x0B, 0] + [UInt8](repeating: 7, count: 32)
        #expect(throws: EventLogError.truncated(event: 1)) {
            try EventLog(parsing: header + event + digest + huge)
        }
        #expect(throws: EventLogError.truncated(event: 0)) {
            try EventLog(parsing: event + Self.zero + huge)
        }
        #expect(
            throws: EventLogError.tooLarge(
                field: "size", size: EventLog.maximumSize + 1, maximum: EventLog.maximumSize)
        ) {
            try EventLog(parsing: [UInt8](repeating: 0, count: EventLog.maximumSize + 1))
        }
        // The smallest event of a SHA-1 log, once too often.
        let count = EventLog.maximumEvents
        let many = [[UInt8]](repeating: event + Self.zero + [0, 0, 0, 0], count: count + 1)
        #expect(
            throws: EventLogError.tooLarge(field: "events", size: count + 1, maximum: count)
        ) {
            try EventLog(parsing: Array(many.joined()))
        }
    }

    @Test("a header that contradicts itself is refused")
    func header() throws {
        func parse(_ change: (inout [UInt8]) -> Void) throws {
            var header = EventLogWriter(algorithms: [.sha1, .sha256]).bytes
            change(&header)
            _ = try EventLog(parsing: header)
        }
        try parse { _ in }
        // Offsets: PCR 0, type 4, digest 8, size 28, data 32; count 56, algorithms 60, vendor 68.
        let changes: [(String, (inout [UInt8]) -> Void)] = [
            ("no algorithm", { $0[56] = 0 }),
            ("more algorithms than data", { $0[56] = 3 }),
            ("seventeen algorithms", { $0[56] = 17 }),
            ("huge count", { $0[59] = 0xFF }),
            ("SHA-1 of 21 bytes", { $0[62] = 21 }),
            (
                "SHA-256 twice",
                {
                    $0[60] = 0x0B; $0[62] = 32
                }
            ),
            (
                "unknown algorithm of no size",
                {
                    $0[60] = 0x77; $0[62] = 0
                }
            ),
            (
                "unknown algorithm of 65 bytes",
                {
                    $0[60] = 0x77; $0[62] = 65
                }
            ),
            ("vendor information that is not there", { $0[68] = 1 }),
            (
                "a byte too many",
                {
                    $0[28] += 1; $0.append(0)
                }
            ),
            ("PCR 1", { $0[0] = 1 }),
        ]
        for (name, change) in changes {
            let error = #expect(throws: EventLogError.self, "\(name)") { try parse(change) }
            guard case .header = error else {
                Issue.record("\(name): \(String(describing: error))")
                continue
            }
        }
    }

    @Test("digests are those that the header declares, each at most once")
    func digests() throws {
        let value = [UInt8](repeating: 7, count: 32)
        var undeclared = EventLogWriter(algorithms: [.sha256])
        undeclared.append(pcr: 0, type: .postCode, digests: [.init(Self.sm3.id, value)], data: [])
        #expect(throws: EventLogError.undeclaredAlgorithm(event: 1, algorithm: Self.sm3.id)) {
            try EventLog(parsing: undeclared.bytes)
        }
        var twice = EventLogWriter(algorithms: [.sha256, .sha384])
        let digest = BootEvent.Digest(.sha256, value)
        twice.append(pcr: 0, type: .postCode, digests: [digest, digest], data: [])
        #expect(throws: EventLogError.repeatedDigest(event: 1)) {
            try EventLog(parsing: twice.bytes)
        }
        var unknown = EventLogWriter(algorithms: [.sha256])
        unknown.append(pcr: 24, type: .postCode, digests: [digest], data: [])
        #expect(throws: EventLogError.unknownPCR(event: 1, pcr: 24)) {
            try EventLog(parsing: unknown.bytes)
        }
    }

    @Test("an algorithm that we do not compute is carried by its declared size")
    func unknownAlgorithm() throws {
        var writer = EventLogWriter(
            header: SpecificationID(algorithms: [Self.sm3, .init(.sha256)]))
        writer.measure([5], as: .postCode, into: try Self.pcr(2))
        let log = try EventLog(parsing: writer.bytes)
        #expect(log.events[1].digests.map(\.algorithm) == [Self.sm3.id, .sha256])
        #expect(log.events[1].digest(Self.sm3.id)?.count == 32)
        #expect(log.events[1].digest(.sha1) == nil)
        #expect(Set(try log.replay().keys) == [.sha256])
    }

    @Test("an event that one bank lacks makes that bank useless, not believed without it")
    func incompleteBank() throws {
        var writer = EventLogWriter(algorithms: [.sha1, .sha256])
        writer.measure([1], as: .postCode, into: try Self.pcr(0))
        let digest = BootEvent.Digest(.sha1, HashAlgorithm.sha1.digest([2]))
        writer.append(
            pcr: 7, type: .efiVariableAuthority, digests: [digest], data: Array("forged".utf8))
        let log = try EventLog(parsing: writer.bytes)
        #expect(Set(try log.replay().keys) == [.sha1])
        #expect(throws: EventLogError.bankIncomplete(.sha256)) { try log.replay(.sha256) }
        let alone = try EventLog(parsing: EventLogWriter(algorithms: [.sha256]).bytes)
        #expect(throws: EventLogError.nothingMeasured) { try alone.replay() }
    }

    @Test("informative events are not extended, whatever they say")
    func noAction() throws {
        var writer = try Self.smallLog()
        let plain = try EventLog(parsing: writer.bytes).replay()
        let digests = [HashAlgorithm.sha256, .sha384].map {
            BootEvent.Digest($0.id, $0.digest([1]))
        }
        writer.append(pcr: 0, type: .noAction, digests: digests, data: [1])
        writer.append(pcr: 0xFFFF_FFFF, type: .noAction, digests: digests, data: [])
        writer.append(pcr: 7, type: .noAction, digests: [], data: Array("StartupLocalit".utf8))
        let log = try EventLog(parsing: writer.bytes)
        #expect(try log.replay() == plain)
        #expect(log.events[4].extendedPCR == nil)
        // The same event with another type counts.
        var other = try Self.smallLog()
        other.append(pcr: 0, type: .postCode, digests: digests, data: [1])
        #expect(try EventLog(parsing: other.bytes).replay() != plain)
        // And without digests it leaves no bank.
        var bare = try Self.smallLog()
        bare.append(pcr: 0, type: .postCode, digests: [], data: [1])
        let bareLog = try EventLog(parsing: bare.bytes)
        #expect(throws: EventLogError.nothingMeasured) { try bareLog.replay() }
    }

    @Test("the startup locality is where PCR 0 begins", arguments: [0, 3, 4] as [UInt8])
    func startupLocality(locality: UInt8) throws {
        var writer = EventLogWriter(algorithms: [.sha256])
        writer.startupLocality(locality)
        writer.measure([8], as: .separator, into: try Self.pcr(1))
        let before = try EventLog(parsing: writer.bytes)
        let start = [UInt8](repeating: 0, count: 31) + [locality]
        #expect(try before.replay(.sha256)[try Self.pcr(0)] == start)
        writer.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        let log = try EventLog(parsing: writer.bytes)
        #expect(log.startupLocality == locality)
        let hash = HashAlgorithm.sha256
        #expect(try log.replay(hash)[try Self.pcr(0)] == hash.digest(start, hash.digest([1])))
        #expect(
            try log.replay(hash)[try Self.pcr(1)]
                == hash.digest([UInt8](repeating: 0, count: 32), hash.digest([8])))
    }

    @Test("a startup locality that cannot be is refused", arguments: [1, 2, 5, 255] as [UInt8])
    func impossibleLocality(locality: UInt8) throws {
        var writer = EventLogWriter(algorithms: [.sha256])
        writer.startupLocality(locality)
        #expect(throws: EventLogError.startupLocality(event: 1)) {
            try EventLog(parsing: writer.bytes)
        }
    }

    @Test("a log cannot choose the value of PCR 0 late, twice, elsewhere or at length")
    func misplacedLocality() throws {
        var late = EventLogWriter(algorithms: [.sha256])
        late.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        late.startupLocality(3)
        #expect(throws: EventLogError.startupLocality(event: 2)) {
            try EventLog(parsing: late.bytes)
        }
        var twice = EventLogWriter(algorithms: [.sha256])
        twice.startupLocality(3)
        twice.startupLocality(3)
        #expect(throws: EventLogError.startupLocality(event: 2)) {
            try EventLog(parsing: twice.bytes)
        }
        let data = Array("StartupLocality\0".utf8)
        for (pcr, data) in [(1, data + [3]), (0, data), (0, data + [3, 0])] as [(UInt32, [UInt8])] {
            var writer = EventLogWriter(algorithms: [.sha256])
            writer.append(pcr: pcr, type: .noAction, digests: [], data: data)
            #expect(throws: EventLogError.startupLocality(event: 1)) {
                try EventLog(parsing: writer.bytes)
            }
        }
    }

    @Test("an H-CRTM measurement starts PCR 0 at locality 4")
    func hardwareRootOfTrust() throws {
        var writer = EventLogWriter(algorithms: [.sha256])
        writer.measure(Array("HCRTM".utf8), as: .efiHardwareRootOfTrust, into: try Self.pcr(0))
        writer.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        let hash = HashAlgorithm.sha256
        let start = [UInt8](repeating: 0, count: 31) + [4]
        let first = hash.digest(start, hash.digest(Array("HCRTM".utf8)))
        let expected = hash.digest(first, hash.digest([1]))
        #expect(
            try EventLog(parsing: writer.bytes).replay(hash)[try Self.pcr(0)] == expected)

        var late = EventLogWriter(algorithms: [.sha256])
        late.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        late.measure(Array("HCRTM".utf8), as: .efiHardwareRootOfTrust, into: try Self.pcr(0))
        #expect(throws: EventLogError.hardwareRootOfTrust(event: 2)) {
            try EventLog(parsing: late.bytes)
        }
        // In another register it is an ordinary event.
        var elsewhere = EventLogWriter(algorithms: [.sha256])
        elsewhere.measure([1], as: .efiHardwareRootOfTrust, into: try Self.pcr(1))
        elsewhere.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        #expect(try EventLog(parsing: elsewhere.bytes).startupLocality == 0)
    }

    @Test("a SHA-1 log has one bank")
    func legacy() throws {
        var writer = EventLogWriter.sha1Only()
        writer.startupLocality(3)
        writer.measure([1], as: .crtmVersion, into: try Self.pcr(0))
        let log = try EventLog(parsing: writer.bytes)
        #expect(log.header == nil)
        let hash = HashAlgorithm.sha1
        let value = hash.digest([UInt8](repeating: 0, count: 19) + [3], hash.digest([1]))
        #expect(try log.replay() == [.sha1: [try Self.pcr(0): value]])
        #expect(throws: EventLogError.bankIncomplete(.sha256)) { try log.replay(.sha256) }
        #expect(throws: EventLogError.truncated(event: 1)) {
            try EventLog(parsing: writer.bytes.dropLast())
        }
    }
}

/// What real machines wrote.
///
/// The recordings are not part of the project: without them these tests check nothing.
@Suite("recorded event logs", .timeLimit(.minutes(10)))
struct RecordedEventLogTests {
    static let root = {
        var url = URL(filePath: #filePath)
        for _ in 0..<4 { url.deleteLastPathComponent() }
        return url.appending(path: "shared/recordings/event-logs").path
    }()

    static func recordings(_ folder: String) -> [(name: String, bytes: [UInt8])] {
        let folder = root + "/" + folder
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.sorted().compactMap { name in
            guard !name.hasSuffix(".yaml") else { return nil }
            return FileManager.default.contents(atPath: folder + "/" + name).map {
                (folder + "/" + name, [UInt8]($0))
            }
        }
    }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    static let refused = ["binary_bios_measurements-bogus", "binary_bios_measurements-empty"]

    @Test("every valid log is read whole, is written again to the same bytes, and replays")
    func everyLog() throws {
        let folders = try? FileManager.default.contentsOfDirectory(atPath: Self.root)
        let expected = folders == nil ? 0 : 21
        let logs = ["go-attestation", "keylime", "tpm2-tools"].flatMap(Self.recordings)
        #expect(logs.count >= expected)
        for (name, bytes) in logs {
            guard !Self.refused.contains(where: name.hasSuffix) else { continue }
            let log = try #require(try? EventLog(parsing: bytes), "\(name)")
            var writer = log.header.map(EventLogWriter.init(header:)) ?? .sha1Only()
            for event in log.events.dropFirst(log.header == nil ? 0 : 1) {
                writer.append(
                    pcr: event.pcr, type: event.type, digests: event.digests,
                    data: Array(event.untrustedData))
            }
            #expect(writer.bytes == bytes, "\(name)")
            // A fragment of one informative event explains nothing.
            guard !name.hasSuffix("short_no_action_eventlog") else {
                #expect(throws: EventLogError.nothingMeasured) { try log.replay() }
                continue
            }
            #expect(try !log.replay().isEmpty, "\(name)")
            #expect(throws: EventLogError.self, "\(name)") {
                try EventLog(parsing: bytes.dropLast())
            }
            #expect(throws: EventLogError.self, "\(name)") { try EventLog(parsing: bytes + [0]) }
        }
    }

    @Test("the replay is what tpm2_eventlog prints")
    func yaml() throws {
        for (name, bytes) in Self.recordings("tpm2-tools") {
            let text = try #require(FileManager.default.contents(atPath: name + ".yaml"))
            var expected: [String: [UInt8: String]] = [:]
            var bank = ""
            var inPCRs = false
            for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
                if line.hasPrefix("pcrs:") { inPCRs = true }
                guard inPCRs else { continue }
                let parts = line.split(whereSeparator: { $0 == " " || $0 == ":" })
                if parts.count == 1 { bank = String(parts[0]) }
                guard parts.count == 2, let pcr = UInt8(parts[0]) else { continue }
                expected[bank, default: [:]][pcr] = String(parts[1].dropFirst(2))
            }
            var replayed: [String: [UInt8: String]] = [:]
            for (bank, values) in try EventLog(parsing: bytes).replay() {
                for (pcr, value) in values {
                    replayed[bank.name, default: [:]][pcr.rawValue] = Self.hex(value)
                }
            }
            #expect(!expected.isEmpty, "\(name)")
            #expect(replayed == expected, "\(name)")
        }
    }

    /// SHA-256 over PCR number and value, ascending, of the best bank; computed by another program.
    ///
    /// The first one has a startup locality of 3, which `tpm2_eventlog` 5.4 ignores.
    static let summaries = [
        "keylime/binary_bios_measurements":
            "4db698bbaa5044ed59605762e4fda1709e9bf58a0d8f879fe49c8bf9e4264c1f",
        "keylime/binary_bios_measurements-secureboot":
            "abdb259975361bc15878d4dff68a4cd9f7f5db5b89b5be454ce046d783ae7ebf",
        "go-attestation/coreos_36_shielded_vm_no_secure_boot_eventlog":
            "8939b2baa9007a33dae2014cb16e70defd6757fb5df42a6daaf0ecb885f3506e",
        "go-attestation/crypto_agile_eventlog":
            "eb9ff4fdce1f51d649793e7c6d661d2a2a0f6058b8a0cf33fab0ee8161a2e387",
        "go-attestation/ebs_event_missing_eventlog":
            "4b143d3c1a44bec93a8859174e94abac5c1a99de6257605d3d22878a78ddd297",
        "go-attestation/option_rom_eventlog":
            "0357f93f3096c9f63fc9c9c91a8349d8ce0286dd9b88d2d3721ae65e56504253",
        "go-attestation/sb_cert_eventlog":
            "65eb0b7761c5fd36c800dfa0a631102c2be4567087310419605d6fd81555f08e",
        "go-attestation/ubuntu_2104_shielded_vm_no_secure_boot_eventlog":
            "e29e74acb4a4ea225bdd1f2e2fdddcfdf0f95e3d8708b704566fa1ed5974a4f8",
    ]

    @Test("the replay is what an independent program computes")
    func independent() throws {
        for (name, bytes) in ["go-attestation", "keylime"].flatMap(Self.recordings) {
            guard
                let expected = Self.summaries.first(where: { name.hasSuffix("/" + $0.key) })?.value
            else { continue }
            let banks = try EventLog(parsing: bytes).replay()
            let values = try #require(banks[.sha256] ?? banks[.sha1])
            var summary: [UInt8] = []
            for (pcr, value) in values.sorted(by: { $0.key < $1.key }) {
                summary += [pcr.rawValue] + value
            }
            #expect(Self.hex(HashAlgorithm.sha256.digest(summary)) == expected, "\(name)")
        }
    }

    @Test("what is not a log is refused")
    func bogus() throws {
        for (name, bytes) in Self.recordings("keylime") {
            guard Self.refused.contains(where: name.hasSuffix) else { continue }
            #expect(throws: EventLogError.self, "\(name)") { try EventLog(parsing: bytes) }
        }
        // The same bytes, without the recordings.
        #expect(throws: EventLogError.unknownPCR(event: 0, pcr: 0x7567_6F62)) {
            try EventLog(parsing: Array("bogus\ninvalid\nevent\nlog\nfile\nhere\n".utf8))
        }
        #expect(throws: EventLogError.empty) { try EventLog(parsing: []) }
    }
}
