import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("what a boot event log shows")
struct EventLogAppraisalTests {
    /// An event as somebody might write it: digests need not be those of the data.
    private struct Event {
        var pcr: UInt32
        var type: UInt32
        var digest: [UInt8]
        var data: [UInt8]

        init(_ pcr: UInt32, _ type: UInt32, _ data: [UInt8], measuring: [UInt8]? = nil) {
            self.pcr = pcr
            self.type = type
            self.data = data
            digest = HashAlgorithm.sha256.digest(measuring ?? data)
        }
    }

    private static func little(_ value: UInt64, _ size: Int) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    /// A crypto-agile log with the SHA-256 bank.
    private func log(_ events: [Event]) -> [UInt8] {
        let header =
            Array("Spec ID Event03\0".utf8) + [0, 0, 0, 0, 0, 2, 0, 2] + Self.little(1, 4)
            + [0x0B, 0, 32, 0] + [0]
        var bytes =
            Self.little(0, 4) + Self.little(3, 4) + [UInt8](repeating: 0, count: 20)
            + Self.little(UInt64(header.count), 4) + header
        for event in events {
            bytes += Self.little(UInt64(event.pcr), 4) + Self.little(UInt64(event.type), 4)
            bytes += Self.little(1, 4) + [0x0B, 0] + event.digest
            bytes += Self.little(UInt64(event.data.count), 4) + event.data
        }
        return bytes
    }

    private static let variable: UInt32 = 0x8000_0001
    private static let separator = Event(7, 4, [0, 0, 0, 0])

    private static func secureBoot(
        _ value: [UInt8], name: String = "SecureBoot", vendor: UInt8 = 0x61
    ) -> [UInt8] {
        [
            vendor, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0, 0xE0, 0x98, 3, 0x2B,
            0x8C,
        ]
            + little(UInt64(name.utf16.count), 8) + little(UInt64(value.count), 8)
            + name.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] } + value
    }

    /// What is checked when nothing says what dbx must hold.
    private static let asked = EventLogCheck.allCases.filter { $0 != .revocations }

    private static func appraise(
        _ bytes: [UInt8], _ values: PCRValues?, revocations: RevokedImages? = nil
    ) -> EventLogAppraisal {
        EventLogAppraisal(bytes, userspace: nil, explaining: values, revocations: revocations)
    }

    private func secureBoot(_ events: [Event]) throws -> Bool? {
        try #require(Self.appraise(log(events), nil).facts).secureBoot
    }

    private func refused(_ bytes: [UInt8], _ values: PCRValues?) -> [EventLogCheck] {
        let appraisal = Self.appraise(bytes, values)
        #expect(appraisal.results.map(\.check) == EventLogCheck.allCases)
        let refused = appraisal.refusals.map(\.check)
        #expect(Verdict(appraisal).verdict == (refused.isEmpty ? "valid" : "refused"))
        return refused
    }

    @Test("Secure Boot is shown by a measured variable before the separator")
    func secureBootShown() throws {
        let on = Event(7, Self.variable, Self.secureBoot([1]))
        let off = Event(7, Self.variable, Self.secureBoot([0]))
        #expect(try secureBoot([on, Self.separator]) == true)
        #expect(try secureBoot([off, Self.separator]) == false)
        #expect(try secureBoot([Self.separator]) == nil)
        #expect(try secureBoot([Self.separator, on]) == nil, "after the boot")
        #expect(try secureBoot([on, off, Self.separator]) == nil, "twice")
        let more: [Event] = [
            Event(7, Self.variable, Self.secureBoot([2])),
            Event(7, Self.variable, Self.secureBoot([1, 0])),
            Event(7, Self.variable, Self.secureBoot([])),
            Event(7, Self.variable, Self.secureBoot([1], name: "SecureBootX")),
            Event(7, Self.variable, Self.secureBoot([1], vendor: 0x62)),
            Event(4, Self.variable, Self.secureBoot([1])),
            Event(7, 0x8000_00E0, Self.secureBoot([1])),
            Event(7, Self.variable, Array(Self.secureBoot([1]).dropLast())),
            Event(7, Self.variable, [1]),
        ]
        for event in more { #expect(try secureBoot([event, Self.separator]) == nil) }
    }

    @Test("an event with a re-labelled EventType, and data that was not measured, show nothing")
    func relabelled() throws {
        // The machine booted with Secure Boot off; its owner extended PCR 7 afterwards, and calls
        // the true variable and the true separator something else.
        var off = Event(7, Self.variable, Self.secureBoot([0]))
        off.type = 5
        var separator = Self.separator
        separator.type = 5
        separator.data = Array("Calling EFI Application from Boot Option".utf8)
        let on = Event(7, Self.variable, Self.secureBoot([1]))
        #expect(try secureBoot([off, separator, on]) == nil)
        // The data says on, the digest was measured over off.
        let lie = Event(
            7, Self.variable, Self.secureBoot([1]), measuring: Self.secureBoot([0]))
        #expect(try secureBoot([lie, Self.separator]) == nil)
    }

    @Test("separators are told by their digests, once for each PCR")
    func separators() throws {
        let ones = Event(1, 4, [0xFF, 0xFF, 0xFF, 0xFF])
        let failure = Event(2, 4, [1, 0, 0, 0])
        let twice = Event(3, 4, [0, 0, 0, 0])
        let lie = Event(4, 4, [0, 0, 0, 0], measuring: [9])
        let bytes = log([Event(0, 4, [0, 0, 0, 0]), ones, failure, twice, twice, lie])
        #expect(Self.appraise(bytes, nil).facts?.separators == [0, 1])
    }

    @Test("steps in PCR 4 and 5 stand in their order, whatever their events call themselves")
    func actionOrder() {
        func action(_ pcr: UInt32, _ text: String, type: UInt32 = 0x8000_0007) -> Event {
            Event(pcr, type, Array(text.utf8))
        }
        let separators = ([4, 5] as [UInt32]).map { Event($0, 4, [0, 0, 0, 0]) }
        let calling = action(4, "Calling EFI Application from Boot Option")
        let returning = action(4, "Returning from EFI Application from Boot Option")
        let invocation = action(5, "Exit Boot Services Invocation")
        let success = action(5, "Exit Boot Services Returned with Success")
        let failure = action(5, "Exit Boot Services Returned with Failure")
        func judged(_ events: [Event]) -> (isInOrder: Bool, state: String?) {
            let appraisal = Self.appraise(log(events), nil)
            return (
                !appraisal.refusals.map(\.check).contains(.actionOrder),
                appraisal.facts?.exitBootServices
            )
        }
        #expect(judged(separators) == (true, "not-shown"))
        #expect(judged([calling] + separators + [invocation, success]) == (true, "succeeded"))
        #expect(judged(separators + [invocation]) == (true, "begun"))
        #expect(judged(separators + [invocation, failure]) == (true, "failed"))
        #expect(
            judged(
                [calling, returning, calling] + separators
                    + [invocation, failure, invocation, success]) == (true, "succeeded"))
        // Before firmware was done, without having been asked for, and after the end.
        #expect(judged([invocation, success] + separators) == (false, "not-shown"))
        #expect(judged(separators + [success]) == (false, "not-shown"))
        #expect(judged(separators + [invocation, success, success]) == (false, "succeeded"))
        #expect(judged(separators + [invocation, success, failure]) == (false, "succeeded"))
        #expect(judged([returning] + separators).isInOrder == false)
        // By another type it is the same step.
        let hidden = action(5, "Exit Boot Services Returned with Success", type: 5)
        #expect(judged(separators + [hidden]) == (false, "not-shown"))
    }

    @Test("a log explains the values that it replays to, and no others")
    func explains() throws {
        let bytes = log([Event(0, 8, [1]), Event(0, 4, [0, 0, 0, 0]), Self.separator])
        let replayed = try #require(Self.appraise(bytes, nil).replayed[.sha256])
        var values = PCRValues()
        for (index, value) in replayed { values[.sha256, index] = value }
        #expect(Set(replayed.keys.map(\.rawValue)) == [0, 7])
        #expect(refused(bytes, values) == [])
        // A register that the log does not extend has its reset value.
        values[.sha256, PCRIndex.all[1]] = [UInt8](repeating: 0, count: 32)
        values[.sha256, PCRIndex.all[17]] = [UInt8](repeating: 0xFF, count: 32)
        #expect(refused(bytes, values) == [])

        var wrong = values
        wrong[.sha256, PCRIndex.all[0]]?[31] ^= 1
        #expect(refused(bytes, wrong) == [.explainsPCRs])
        wrong = values
        wrong[.sha256, PCRIndex.all[1]] = [UInt8](repeating: 1, count: 32)
        #expect(refused(bytes, wrong) == [.explainsPCRs])
        wrong = values
        wrong[.sha384, PCRIndex.all[0]] = [UInt8](repeating: 0, count: 48)
        #expect(refused(bytes, wrong) == [.explainsPCRs])
        #expect(refused(bytes, PCRValues()) == [.explainsPCRs])
        #expect(refused(Array(bytes.dropLast()), values) == Self.asked)
    }

    @Test("an empty log with non-zero PCRs is refused, and so is one that extends nothing")
    func empty() {
        var values = PCRValues()
        values[.sha256, PCRIndex.all[0]] = [UInt8](repeating: 1, count: 32)
        #expect(refused([], values) == Self.asked)
        #expect(refused(log([]), values) == [.replays, .explainsPCRs])
        values[.sha256, PCRIndex.all[0]] = [UInt8](repeating: 0, count: 32)
        #expect(refused([], values) == Self.asked)
    }

    @Test("a log that supplies its own initial PCR value explains other values")
    func initialValue() throws {
        let locality = Event(0, 3, Array("StartupLocality\0".utf8) + [3])
        let event = Event(0, 8, [1])
        let plain = Self.appraise(log([event]), nil).replayed[.sha256]
        let raised = Self.appraise(log([locality, event]), nil).replayed[.sha256]
        #expect(plain?[PCRIndex.all[0]] != raised?[PCRIndex.all[0]])
        var values = PCRValues()
        values[.sha256, PCRIndex.all[0]] = plain?[PCRIndex.all[0]]
        #expect(refused(log([event]), values) == [])
        #expect(refused(log([locality, event]), values) == [.explainsPCRs])
        let own = Event(0, 3, Array("StartupLocality\0".utf8) + [7])
        #expect(refused(log([own, event]), values) == Self.asked)
        #expect(refused(log([event, locality]), values) == Self.asked)
    }

    @Test("recorded logs say what is known of them")
    func recordings() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../shared/recordings/event-logs")
        let known: [(String, Bool?)] = [
            ("go-attestation/coreos_36_shielded_vm_no_secure_boot_eventlog", false),
            ("go-attestation/option_rom_eventlog", true),
            ("keylime/binary_bios_measurements-secureboot", true),
            ("tpm2-tools/event-gce-ubuntu-2104-log.bin", false),
        ]
        for (name, secureBoot) in known {
            guard let data = try? Data(contentsOf: folder.appending(path: name)) else { continue }
            let appraisal = Self.appraise([UInt8](data), nil)
            #expect(appraisal.facts?.secureBoot == secureBoot, "\(name)")
            #expect(appraisal.facts?.separators == Array(0...7), "\(name)")
        }
        for name in ["bogus", "empty"] {
            let file = folder.appending(path: "keylime/binary_bios_measurements-\(name)")
            guard let data = try? Data(contentsOf: file) else { continue }
            #expect(refused([UInt8](data), nil).contains(.wellFormed))
        }
    }
}
