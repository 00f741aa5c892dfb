import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("a boot in words")
struct BootTimelineTests {
    private typealias Bytes = FirmwareBytes

    private static let revoked = (0..<3).map { HashAlgorithm.sha256.digest([UInt8($0)]) }

    private struct Boot {
        var log = EventLogWriter(algorithms: [.sha256, .sha384])

        mutating func add(
            _ pcr: Int, _ type: EventType, _ data: [UInt8], measuring: [UInt8]? = nil
        ) {
            let digests = [HashAlgorithm.sha256, .sha384].map {
                BootEvent.Digest($0.id, $0.digest(measuring ?? data))
            }
            log.append(pcr: UInt32(pcr), type: type, digests: digests, data: data)
        }

        mutating func separators() {
            for pcr in 0...7 { add(pcr, .separator, [0, 0, 0, 0]) }
        }

        func appraise(
            _ userspace: [UInt8]? = nil, _ values: PCRValues? = nil,
            _ revocations: RevokedImages? = nil
        ) throws -> EventLogAppraisal {
            EventLogAppraisal(
                log.bytes, userspace: try userspace.map { try UserspaceLog(parsing: $0) },
                explaining: values, revocations: revocations)
        }

        func facts() throws -> EventLogFacts { try #require(try appraise().facts) }
    }

    /// A boot with Secure Boot, a unified kernel image, and all that is looked for.
    private static func boot() -> Boot {
        var boot = Boot()
        boot.add(0, .crtmVersion, Bytes.wide("1.2") + [0, 0])
        boot.add(
            7, .efiVariableDriverConfiguration, Bytes.variable("SecureBoot", Bytes.global, [1]))
        for name in ["PK", "KEK"] {
            boot.add(7, .efiVariableDriverConfiguration, Bytes.variable(name, Bytes.global, []))
        }
        boot.add(7, .efiVariableDriverConfiguration, Bytes.variable("db", Bytes.security, []))
        boot.add(
            7, .efiVariableDriverConfiguration,
            Bytes.variable("dbx", Bytes.security, Bytes.hashes(revoked)))
        boot.add(4, .efiAction, Array("Calling EFI Application from Boot Option".utf8))
        boot.separators()
        let path =
            [4, 4] + Bytes.little(4 + 2 * 6, 2)
            + Bytes.wide("\\a.efi".padding(toLength: 6, withPad: " ", startingAt: 0))
            + [0x7F, 0xFF, 4, 0]
        boot.add(
            4, .efiBootServicesApplication,
            [UInt8](repeating: 0, count: 24) + Bytes.little(path.count, 8) + path,
            measuring: [1, 2, 3])
        for (name, content) in [(".linux", "kernel"), (".initrd", "disk")] {
            boot.add(11, .ipl, Bytes.wide(name) + [0, 0], measuring: Array(name.utf8) + [0])
            boot.add(11, .ipl, Bytes.wide(name) + [0, 0], measuring: Array(content.utf8))
        }
        boot.add(12, .ipl, Bytes.wide("quiet ro") + [0, 0])
        boot.add(8, .ipl, Array("grub_cmd: insmod x\0".utf8), measuring: Array("insmod x".utf8))
        boot.add(
            8, .ipl, Array("kernel_cmdline: /vmlinuz ro\0".utf8),
            measuring: Array("/vmlinuz ro".utf8))
        boot.add(14, .ipl, Array("MokList\0".utf8), measuring: [7])
        boot.add(5, .efiAction, Array("Exit Boot Services Invocation".utf8))
        boot.add(5, .efiAction, Array("Exit Boot Services Returned with Success".utf8))
        return boot
    }

    private static func userspace(
        _ records: [(Int, String)], digests: [HashAlgorithm] = [.sha256, .sha384],
        change: (String) -> String = { $0 }
    ) -> [UInt8] {
        records.flatMap { pcr, text -> [UInt8] in
            let list = digests.map {
                #"{"hashAlg":"\#($0.name)","digest":"\#(hexadecimal($0.digest(Array(text.utf8))))"}"#
            }.joined(separator: ",")
            let json =
                #"{"pcr":\#(pcr),"digests":[\#(list)],"content_type":"systemd","#
                + #""content":{"string":"\#(change(text))","eventType":"phase","bootId":"00"}}"#
            return [0x1E] + Array(json.utf8) + [0x0A]
        }
    }

    @Test("every fact of a boot is shown")
    func facts() throws {
        let facts = try Self.boot().facts()
        #expect(facts.secureBoot == true)
        #expect(Set(facts.databases.keys) == ["PK", "KEK", "db", "dbx"])
        #expect(facts.databases["dbx"]?.hashes == 3)
        #expect(facts.separators == Array(0...7) && facts.errors == [])
        #expect(facts.uefiDebug == false && facts.dmaProtectionDisabled == false)
        #expect(facts.exitBootServices == "succeeded")
        #expect(facts.bootApplications.count == 1)
        #expect(facts.bootApplications.first?.claimedPath == "/a.efi")
        #expect(
            facts.bootApplications.first?.digest
                == "sha256:" + hexadecimal(HashAlgorithm.sha256.digest([1, 2, 3])))
        #expect(Set(facts.sections.keys) == [".linux", ".initrd"])
        #expect(
            facts.sections[".linux"]
                == "sha256:" + hexadecimal(HashAlgorithm.sha256.digest(Array("kernel".utf8))))
        #expect(facts.commandLines == ["quiet ro", "/vmlinuz ro"])
        let read = try JSONDecoder().decode(
            EventLogFacts.self, from: JSONEncoder().encode(facts))
        #expect(read.text == facts.text)
    }

    @Test("a line says what happened, and whether it is proven or only claimed")
    func lines() throws {
        let boot = Self.boot()
        let shown = try boot.appraise()
        #expect(shown.timeline.count == 26)
        #expect(shown.timelineText.contains("PCR 7   shown    variable SecureBoot: on"))
        #expect(shown.timelineText.contains("claimed  application /a.efi"))
        #expect(shown.timelineText.contains("claimed  boot loader: MokList"))
        #expect(shown.timelineText.contains("section .linux of a unified kernel image"))
        var values = PCRValues()
        for (index, value) in shown.replayed[.sha256] ?? [:] { values[.sha256, index] = value }
        let proven = try boot.appraise(nil, values)
        #expect(proven.timelineText.contains("PCR 7   proven   variable SecureBoot: on"))
        #expect(!proven.timelineText.contains("shown"))
        // Of a register without a value the log says what it likes.
        var five = PCRValues()
        five[.sha256, PCRIndex.all[5]] = values[.sha256, PCRIndex.all[5]]
        let part = try boot.appraise(nil, five).timelineText
        #expect(part.contains("PCR 7   shown    variable SecureBoot: on"))
        #expect(part.contains("PCR 5   proven"))
        values[.sha256, PCRIndex.all[9]] = [UInt8](repeating: 1, count: 32)
        #expect(!(try boot.appraise(nil, values)).timelineText.contains("proven"))
    }

    @Test("data that was not measured shows nothing, whatever the event calls itself")
    func lies() throws {
        var boot = Boot()
        boot.add(
            7, .efiVariableDriverConfiguration, Bytes.variable("dbx", Bytes.security, []),
            measuring: [1])
        boot.add(7, .efiVariableAuthority, Bytes.variable("db", Bytes.security, [0x30]))
        boot.add(12, .ipl, Bytes.wide("quiet") + [0, 0], measuring: [1])
        boot.add(11, .ipl, Bytes.wide(".linux") + [0, 0], measuring: [1])
        boot.add(11, .ipl, Bytes.wide(".linux") + [0, 0], measuring: [2])
        boot.add(
            5, .efiAction, Array("Exit Boot Services Returned with Success".utf8),
            measuring: [1])
        boot.separators()
        let facts = try boot.facts()
        #expect(facts.databases.isEmpty && facts.authorities.isEmpty)
        #expect(facts.commandLines == [] && facts.sections == [:])
        #expect(facts.exitBootServices == "not-shown")
        let lines = try boot.appraise().timeline.prefix(6)
        #expect(lines.allSatisfy { !$0.isMeasured || $0.what.hasPrefix("authority") })
    }

    @Test("a few bytes behind a variable, as old versions of shim log them, change nothing")
    func excess() throws {
        let whole = Bytes.variable("SecureBoot", Bytes.global, [1])
        for (logged, measured, isShown) in [
            (6, 5, true), (6, 0, true), (8, 8, true), (0, 0, true), (9, 9, false), (6, 7, false),
        ] {
            var boot = Boot()
            func padded(_ count: Int) -> [UInt8] { whole + [UInt8](repeating: 0xAF, count: count) }
            boot.add(
                7, .efiVariableDriverConfiguration, padded(logged), measuring: padded(measured))
            boot.separators()
            #expect(try boot.facts().secureBoot == (isShown ? true : nil), "\(logged) \(measured)")
        }
    }

    @Test("a debugger and unprotected memory are seen under every type")
    func flags() throws {
        for (text, type) in [
            ("UEFI Debug Mode", EventType.efiAction), ("UEFI Debug Mode\0", .postCode),
            ("DMA Protection Disabled", .efiAction), ("DMA Protection Disabled", .noAction),
        ] {
            var boot = Boot()
            boot.add(7, type, [0], measuring: Array(text.utf8))
            boot.separators()
            let facts = try boot.facts()
            let isMeasured = type != .noAction
            #expect(facts.uefiDebug == (isMeasured && text.hasPrefix("UEFI")))
            #expect(facts.dmaProtectionDisabled == (isMeasured && text.hasPrefix("DMA")))
        }
        var none = Boot()
        none.add(0, .crtmVersion, [1])
        #expect(try none.facts().uefiDebug == nil)
    }

    @Test("a separator that tells of an error is refused")
    func errors() throws {
        var boot = Self.boot()
        boot.add(3, .separator, [1, 0, 0, 0])
        let appraisal = try boot.appraise()
        #expect(appraisal.refusals.map(\.check) == [.noError])
        #expect(appraisal.facts?.errors == [3])
        // Called something else, its digest is the same.
        var other = Self.boot()
        other.add(3, .postCode, [9], measuring: [1, 0, 0, 0])
        #expect(try other.appraise().refusals.map(\.check) == [.noError])
    }

    @Test("what one bank alone says hides no event and shows nothing good, and is an alarm")
    func disagreeing() throws {
        /// The SHA-256 bank is quoted; the digest in the other was written as somebody likes.
        func lie(
            _ pcr: Int, _ truth: [UInt8], _ claim: [UInt8], _ boot: inout Boot,
            _ type: EventType = .efiAction
        ) {
            boot.log.append(
                pcr: UInt32(pcr), type: type,
                digests: [
                    BootEvent.Digest(HashAlgorithm.sha256.id, HashAlgorithm.sha256.digest(truth)),
                    BootEvent.Digest(HashAlgorithm.sha384.id, HashAlgorithm.sha384.digest(claim)),
                ], data: claim)
        }
        let zeros: [UInt8] = [0, 0, 0, 0]
        let good = try Self.boot().facts()
        #expect(good.otherAuthorities.isEmpty && good.exitBootServices == "succeeded")
        // What vouched is no separator and no flag.
        for claim in [zeros, [1, 0, 0, 0], Array("UEFI Debug Mode".utf8)] {
            var boot = Self.boot()
            lie(7, [9], claim, &boot)
            #expect(try boot.facts().otherAuthorities.count == 1)
        }
        // What was started is no separator and no action.
        for claim in [zeros, Array("Calling EFI Application from Boot Option".utf8)] {
            var boot = Self.boot()
            lie(4, [9], claim, &boot)
            #expect(try boot.facts().bootApplications.count == good.bootApplications.count + 1)
        }
        // A separator in one bank is none, and after it less is passed over.
        for (truth, claim) in [(zeros, [9]), ([9], zeros)] as [([UInt8], [UInt8])] {
            var boot = Boot()
            boot.add(
                7, .efiVariableDriverConfiguration, Bytes.variable("SecureBoot", Bytes.global, [1]))
            lie(7, truth, claim, &boot, .separator)
            boot.add(7, .efiVariableAuthority, Bytes.variable("db", Bytes.security, [1, 2]))
            boot.add(
                7, .efiVariableDriverConfiguration,
                Bytes.variable("dbx", Bytes.security, Bytes.hashes(Self.revoked)))
            let facts = try boot.facts()
            #expect(facts.separators.isEmpty)
            #expect(facts.secureBoot == true && facts.databases.isEmpty)
            #expect(facts.otherAuthorities.count == 3)
        }
        var twice = Self.boot()
        lie(3, zeros, [9], &twice)
        #expect(try !twice.facts().separators.contains(3))
        // The end of boot services that one bank has is none.
        var failed = Boot()
        failed.separators()
        failed.add(5, .efiAction, Array("Exit Boot Services Invocation".utf8))
        lie(
            5, Array("Exit Boot Services Returned with Failure".utf8),
            Array("Exit Boot Services Returned with Success".utf8), &failed)
        #expect(try failed.facts().exitBootServices == "failed")
        // Alarms are believed from any bank.
        var alarm = Self.boot()
        lie(3, [1, 0, 0, 0], zeros, &alarm)
        lie(7, Array("DMA Protection Disabled".utf8), [9], &alarm)
        #expect(try alarm.facts().errors == [3])
        #expect(try alarm.facts().dmaProtectionDisabled == true)
        #expect(try alarm.appraise().refusals.map(\.check) == [.noError])
    }

    @Test("dbx must hold what is asked for, before the separator")
    func revocations() throws {
        func minimum(_ hashes: [[UInt8]]) throws -> RevokedImages {
            try RevokedImages(
                Array((["# least"] + hashes.map(hexadecimal)).joined(separator: "\n").utf8))
        }
        let boot = Self.boot()
        let two = try minimum(Array(Self.revoked.prefix(2)))
        #expect(try boot.appraise(nil, nil, two).refusals.isEmpty)
        let more = try minimum(Self.revoked + [HashAlgorithm.sha256.digest([9])])
        #expect(try boot.appraise(nil, nil, more).refusals.map(\.check) == [.revocations])
        var late = Boot()
        late.separators()
        late.add(
            7, .efiVariableDriverConfiguration,
            Bytes.variable("dbx", Bytes.security, Bytes.hashes(Self.revoked)))
        #expect(try late.appraise(nil, nil, two).refusals.map(\.check) == [.revocations])
        #expect(try Boot().appraise(nil, nil, two).refusals.contains { $0.check == .revocations })
        // dbx itself, and an update with its header.
        let content = Bytes.hashes(Self.revoked)
        let header =
            [UInt8](repeating: 0, count: 16) + Bytes.little(24, 4) + [0, 2, 0xF1, 0x0E]
            + [UInt8](repeating: 5, count: 16)
        #expect(try RevokedImages(content) == minimum(Self.revoked))
        #expect(try RevokedImages(header + content) == minimum(Self.revoked))
        let damaged: [[UInt8]] = [
            [], [0x31], Array(content.dropLast()), content + [0], Array("zz\n".utf8),
        ]
        for wrong in damaged {
            #expect(throws: EvidenceFormatError.self) { try RevokedImages(wrong) }
        }
    }

    @Test("the log of systemd goes on where the event log ends")
    func userspaceLog() throws {
        let boot = Self.boot()
        let phases = [(11, "enter-initrd"), (11, "leave-initrd"), (15, "machine-id:1")]
        let log = Self.userspace(phases)
        let plain = try #require(try boot.appraise().replayed[.sha256])
        let appraisal = try boot.appraise(log)
        let replayed = try #require(appraisal.replayed[.sha256])
        let hash = HashAlgorithm.sha256
        var expected = try #require(plain[PCRIndex.all[11]])
        for (_, text) in phases.prefix(2) {
            expected = hash.digest(expected, hash.digest(Array(text.utf8)))
        }
        #expect(replayed[PCRIndex.all[11]] == expected)
        #expect(
            replayed[PCRIndex.all[15]]
                == hash.digest(
                    [UInt8](repeating: 0, count: 32), hash.digest(Array("machine-id:1".utf8))))
        #expect(appraisal.facts?.userspace.map(\.text) == phases.map(\.1))
        var values = PCRValues()
        for (index, value) in replayed { values[.sha256, index] = value }
        #expect(try boot.appraise(log, values).refusals.isEmpty)
        #expect(try boot.appraise(nil, values).refusals.map(\.check) == [.explainsPCRs])
        #expect(
            try boot.appraise(Self.userspace(Array(phases.dropLast())), values)
                .refusals.map(\.check) == [.explainsPCRs])
        // A bank for which a record has no digest is not explained.
        let part = try boot.appraise(Self.userspace(phases, digests: [.sha384]), values)
        #expect(part.refusals.map(\.check) == [.explainsPCRs])
        #expect(Set(part.replayed.keys) == [.sha384])
        // A text that is another than was measured is not shown.
        let lie = try boot.appraise(Self.userspace(phases) { _ in "ready" })
        #expect(lie.facts?.userspace.allSatisfy { $0.text == nil } == true)
    }

    @Test("a log of systemd that cannot be read whole is refused")
    func damagedUserspaceLog() throws {
        let log = Self.userspace([(11, "enter-initrd"), (11, "ready")])
        #expect(try UserspaceLog(parsing: log).records.count == 2)
        #expect(try UserspaceLog(parsing: []).records.isEmpty)
        for end in 1..<log.count {
            guard let shorter = try? UserspaceLog(parsing: Array(log[..<end])) else { continue }
            #expect(shorter.records.count <= 1, "cut at \(end)")
        }
        for wrong in [
            "{}", "\u{1E}{}\n", "\u{1E}{\"pcr\":24,\"digests\":[]}\n",
            "\u{1E}{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"00\"}]}\n",
            "\u{1E}{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"zz\"}]}\n",
        ] {
            #expect(throws: EvidenceFormatError.self, "\(wrong)") {
                try UserspaceLog(parsing: Array(wrong.utf8))
            }
        }
    }

    @Test("no byte of a sample crashes when it is changed, or changes a fact without its digest")
    func everyByte() throws {
        let bytes = Self.boot().log.bytes
        // A whole boot is judged each time, so a sample: a prime, to meet every place of an event.
        for place in stride(from: 0, to: bytes.count, by: 11) {
            var changed = bytes
            changed[place] ^= 0x41
            let appraisal = EventLogAppraisal(
                changed, userspace: nil, explaining: nil, revocations: nil)
            #expect(appraisal.facts?.secureBoot != false)
        }
    }

    @Test("recorded boots are told in words")
    func recordings() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../shared/recordings/event-logs")
        func facts(_ name: String) -> EventLogFacts? {
            guard let data = try? Data(contentsOf: folder.appending(path: name)) else { return nil }
            return EventLogAppraisal(
                [UInt8](data), userspace: nil, explaining: nil, revocations: nil
            ).facts
        }
        guard let secure = facts("keylime/binary_bios_measurements-secureboot") else { return }
        #expect(secure.databases["dbx"]?.hashes == 371)
        #expect(secure.authorities.map(\.variable) == ["db", "vendor_db"])
        #expect(secure.exitBootServices == "succeeded")
        #expect(secure.commandLines.count == 1)
        #expect(secure.bootApplications.count == 3)
        #expect(facts("go-attestation/ebs_event_missing_eventlog")?.exitBootServices != "succeeded")
        #expect(
            facts("tpm2-tools/event-sd-boot-fedora37.bin")?.commandLines.first
                == " console=ttyS0 console=tty0 efi=debug ")
        #expect(facts("go-attestation/option_rom_eventlog")?.databases["dbx"]?.hashes == 78)
    }
}
