import HoldfastAttestation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// Lists, event logs and policies inside evidence.
@Suite("policies of devices", .timeLimit(.minutes(20)))
struct PolicyTests {
    static let engine = Array("#!/bin/sh\necho licensed work\n".utf8)
    static let rules = Array(
        """
        { "version": 1, "others": "accept", "require": ["/usr/bin/engine"],
          "files": { "/usr/bin/engine": ["sha256:\(Hex.encode(HashAlgorithm.sha256.digest(engine)))"] } }
        """.utf8)

    static func registers(_ range: ClosedRange<Int>) -> Set<PCRValues.Register> {
        Set(range.map { PCRValues.Register(.sha256, PCRIndex.all[$0]) })
    }

    /// A policy that asks for a measurement list.
    static func policy(
        version: UInt32 = 1, id: String = "engine", list: Bool = true,
        require: [AppraisalPolicy.Fact: Bool] = [:]
    ) -> AppraisalPolicy {
        AppraisalPolicy(
            id: id, version: version, model: "gateway", onDrift: .refuse,
            references: require.isEmpty
                ? [
                    .init(.sha256, PCRIndex.all[7]): [
                        // PCR 7 of the documented boot.
                        HashAlgorithm.sha256.digest(
                            HashAlgorithm.sha256.digest(
                                [UInt8](repeating: 0, count: 32),
                                HashAlgorithm.sha256.digest(Array("holdfast-sim boot 7".utf8))),
                            HashAlgorithm.sha256.digest([0, 0, 0, 0]))
                    ]
                ] : [:],
            unchecked: require.isEmpty
                ? registers(0...10).subtracting(registers(7...7)) : registers(0...10),
            require: require, revoked: [], authorities: nil, firmware: [],
            imaPolicy: list ? HashAlgorithm.sha256.digest(rules) : nil, issuedAt: 1)
    }

    /// A kernel that measures what runs on a device.
    final class Kernel {
        let device: FieldDevice
        private(set) var list = IMAListWriter()
        var file: String { device.directory.path + "/list" }

        init(_ device: FieldDevice) throws {
            self.device = device
            device.sources.measurementList = file
            try boot()
        }

        func boot() throws {
            list = IMAListWriter()
            let selection = PCRSelection(.sha256, Array(PCRIndex.all[0...9]))
            let values = try device.tpm.connection.readPCRs(selection)
            try extend(list.bootAggregate(of: values, bank: .sha256, through: 9))
        }

        private func extend(_ record: IMAListWriter.Record) throws {
            let banks = try device.tpm.connection.activeBanks()
            try device.tpm.connection.run(
                PCRExtendCommand(
                    PCRIndex.all[10], digests: banks.map { ($0, record.extended($0)) }),
                [.emptyAuth])
            try Files.write(list.bytes, to: file, mode: 0o600)
        }

        func run(_ program: [UInt8], _ path: String = "/usr/bin/engine") throws {
            try extend(
                list.measure(
                    path,
                    digest: IMAEntry.Digest(
                        kind: "ima", algorithm: "sha256",
                        bytes: HashAlgorithm.sha256.digest(program))))
        }
    }

    /// A licensed device that a policy is about, with its kernel.
    private func licensed(_ vendor: Vendor) async throws -> (id: String, kernel: Kernel) {
        let device = try FieldDevice()
        let kernel = try Kernel(device)
        try kernel.run(Self.engine)
        let id = try await vendor.admit(device)
        _ = try vendor.service.apply(Vendor.terms())
        let issued = try vendor.license(id)
        _ = try device.with { try $0.apply(reply: issued.reply) }
        return (id, kernel)
    }

    private func verdict(_ vendor: Vendor, _ id: String) throws -> PolicyVerdict? {
        try vendor.service.devices(id).first?.evidence?.policy
    }

    @Test("R38: unmodified it settles and renews, and modified it does not, through the server")
    func engine() async throws {
        let vendor = try Vendor()
        let (id, kernel) = try await licensed(vendor)
        let device = kernel.device
        _ = try vendor.service.apply(policy: Self.policy(), imaPolicy: Self.rules, device: nil)
        // The device does not know yet that it is to show something.
        try device.meter("scan", 3)
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        #expect(try vendor.service.usage(id).first?.totals["scan"] == nil)
        let settled = try vendor.sync(device)
        #expect(settled.outcome == .accepted, "\(settled.notes)")
        #expect(try verdict(vendor, id)?.isMet == true)
        let shown = try #require(try vendor.service.devices(id).first?.evidence)
        #expect(shown.firmware?.count == 16 && shown.clockSafe)
        #expect(try vendor.service.usage(id).first?.totals["scan"] == 3)
        #expect(try device.with { try $0.standings() }.map(\.document.statement.serial) == [2])

        // One byte of the engine is another, and it runs.
        var modified = Self.engine
        modified[modified.count - 2] ^= 1
        try kernel.run(modified)
        try device.meter("scan", 4)
        let evidence = try device.evidence()
        let refused = try vendor.service.process(evidence)
        #expect(refused.outcome == .pendingPolicy)
        // The operator sees why; the device gets a word.
        #expect(
            refused.notes.contains { $0.contains("ima-files") && $0.contains("/usr/bin/engine") })
        let told = try vendor.service.devices(id).first
        #expect(told?.evidence?.policy?.isMet == false)
        #expect(told?.audit.contains { $0.action == "policy.refused" } == true)
        #expect(
            told?.audit.contains {
                $0.action == "evidence.result" && $0.detail.contains("contraindicated")
            } == true)
        let applied = try device.with { try $0.apply(reply: refused.reply ?? []) }
        #expect(applied.outcome == .pendingPolicy)
        #expect(applied.standings.isEmpty)
        #expect(String(decoding: refused.reply ?? [], as: UTF8.self).contains("usr/bin") == false)
        #expect(try vendor.service.usage(id).first?.totals["scan"] == 3)
        #expect(throws: ServiceError.self) { try vendor.license(id) }
        // The same file gets the same answer, and after a decision another one.
        #expect(try vendor.service.process(evidence).reply == refused.reply)
        var version2 = Self.policy(version: 2)
        version2.imaPolicy = nil
        _ = try vendor.service.apply(policy: version2, imaPolicy: nil, device: nil)
        let again = try vendor.service.process(evidence)
        #expect(again.outcome == .accepted, "\(again.notes)")
        #expect(try vendor.service.usage(id).first?.totals["scan"] == 7)

        // Nobody takes the tightened rules back with an old file.
        #expect(throws: ServiceError.policyExists("engine", 2)) {
            try vendor.service.apply(policy: Self.policy(), imaPolicy: Self.rules, device: nil)
        }
        // After a reboot with the engine as it was, all is well.
        _ = try vendor.service.apply(
            policy: Self.policy(version: 3), imaPolicy: Self.rules, device: nil)
        try device.tpm.reboot()
        try kernel.boot()
        try kernel.run(Self.engine)
        let well = try vendor.sync(device)
        #expect(well.outcome == .accepted, "\(well.notes)")
    }

    @Test("what is new of a list is sent, and a reply that got lost costs nothing")
    func incremental() async throws {
        let vendor = try Vendor()
        let (_, kernel) = try await licensed(vendor)
        let device = kernel.device
        _ = try vendor.service.apply(policy: Self.policy(), imaPolicy: Self.rules, device: nil)
        func sent() throws -> MeasurementList? {
            let parts = try device.with { try $0.previewEvidence() }
            guard let section = parts.first(where: { $0.section == "measurementList" })?.bytes
            else { return nil }
            return MeasurementList(
                first: section[..<8].reduce(0) { $0 << 8 | UInt64($1) },
                bytes: Array(section[8...]))
        }
        #expect(try sent() == nil)
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        #expect(try sent() == MeasurementList(first: 0, bytes: kernel.list.bytes))
        #expect(try vendor.sync(device).outcome == .accepted)
        #expect(try sent() == MeasurementList(first: 2, bytes: []))
        try kernel.run([1], "/usr/bin/other")
        #expect(
            try sent()
                == MeasurementList(first: 2, bytes: kernel.list.records[2].bytes))
        // Replies that never arrive: the device goes on from where it last heard.
        for number in 0..<3 {
            try kernel.run([UInt8(number)], "/usr/bin/more-\(number)")
            let outcome = try vendor.service.process(device.evidence())
            #expect(outcome.outcome == .accepted, "\(outcome.notes)")
        }
        #expect(try sent()?.first == 2)
        let heard = try vendor.sync(device)
        #expect(heard.outcome == .accepted, "\(heard.notes)")
        #expect(try sent() == MeasurementList(first: 6, bytes: []))
        // Of another boot all of the list is new.
        try device.tpm.reboot()
        try kernel.boot()
        try kernel.run(Self.engine)
        #expect(try sent()?.first == 0)
        #expect(try vendor.sync(device).outcome == .accepted)
    }

    @Test("a list is edited, cut or left out: nothing is settled")
    func forged() async throws {
        let vendor = try Vendor()
        let (id, kernel) = try await licensed(vendor)
        let device = kernel.device
        _ = try vendor.service.apply(policy: Self.policy(), imaPolicy: Self.rules, device: nil)
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        try kernel.run(Array("modified".utf8))
        let honest = kernel.list.bytes
        let records = kernel.list.records
        for lie in [
            records[0].bytes + records[1].bytes,
            records[0].bytes + records[1].bytes + records[1].bytes, [],
            Array(honest.dropLast(3)),
        ] {
            try Files.write(lie, to: kernel.file, mode: 0o600)
            #expect(try vendor.sync(device).outcome == .pendingPolicy)
            #expect(try verdict(vendor, id)?.refusals.isEmpty == false)
        }
        device.sources.measurementList = kernel.file + "-absent"
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        #expect(
            try verdict(vendor, id)?.refusals.contains {
                $0.contains("no measurement list was given")
            } == true)
        #expect(try vendor.service.usage(id).first?.totals["scan"] == nil)
    }

    @Test("an event log is sent without the data that no policy asks for, and shows what it must")
    func eventLog() async throws {
        let vendor = try Vendor()
        var log = EventLogWriter(algorithms: [.sha256, .sha384])
        let secret = Array("MAC 00:11:22:33:44:55".utf8)
        log.measure(Array("v1".utf8), as: .crtmVersion, into: PCRIndex.all[0])
        log.measure(secret, as: .platformConfigurationFlags, into: PCRIndex.all[1])
        let name: [UInt8] = "SecureBoot".utf16.flatMap { [UInt8($0), 0] }
        let head: [UInt8] =
            [
                0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03,
                0x2B, 0x8C, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
            ]
        let variable: [UInt8] = head + name + [1]
        log.measure(variable, as: .efiVariableDriverConfiguration, into: PCRIndex.all[7])
        for index in PCRIndex.firmware { log.measure([0, 0, 0, 0], as: .separator, into: index) }
        let device = try FieldDevice(
            SoftwareBoot(replaying: EventLog(parsing: log.bytes)))
        device.sources.eventLog = device.directory.path + "/log"
        try Files.write(log.bytes, to: device.sources.eventLog, mode: 0o600)
        let id = try await vendor.admit(device)
        let policy = Self.policy(list: false, require: [.secureBoot: true, .separators: true])
        _ = try vendor.service.apply(policy: policy, imaPolicy: nil, device: id)
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        let sent =
            try device.with { try $0.previewEvidence() }
            .first { $0.section == "eventLog" }?.bytes ?? []
        let redacted = try EventLog(parsing: sent)
        let whole = try EventLog(parsing: log.bytes)
        #expect(try redacted.replay() == whole.replay())
        #expect(redacted.events.allSatisfy { !$0.untrustedData.elementsEqual(secret) })
        #expect(redacted.events.contains { $0.untrustedData.elementsEqual(variable) })
        let met = try vendor.sync(device)
        #expect(met.outcome == .accepted, "\(met.notes)")
        #expect(try verdict(vendor, id)?.isMet == true)

        // Another fact is not shown, and another log explains nothing.
        var stricter = policy
        stricter.version = 2
        stricter.require[.exitBootServices] = true
        _ = try vendor.service.apply(policy: stricter, imaPolicy: nil, device: id)
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        #expect(
            try verdict(vendor, id)?.refusals.contains { $0.hasPrefix("policy-facts") } == true)
        try Files.write(
            EventLogWriter(algorithms: [.sha256]).bytes, to: device.sources.eventLog, mode: 0o600)
        #expect(try vendor.sync(device).outcome == .pendingPolicy)
        // Withdrawn: what it shows is not looked at any more.
        #expect(try vendor.service.withdrawPolicy(model: nil, device: id) == "engine")
        #expect(try vendor.sync(device).outcome == .accepted)
        #expect(try verdict(vendor, id) == nil)
    }

    @Test("a policy that nobody can meet, an older one and a second one are refused")
    func applying() async throws {
        let vendor = try Vendor()
        func apply(_ policy: AppraisalPolicy, _ rules: [UInt8]? = Self.rules) throws {
            _ = try vendor.service.apply(policy: policy, imaPolicy: rules, device: nil)
        }
        var silent = Self.policy()
        silent.references = [.init(.sha256, PCRIndex.all[4]): [[UInt8](repeating: 1, count: 32)]]
        silent.unchecked = Self.registers(10...10)
        #expect(throws: ServiceError.self) { try apply(silent) }
        #expect(throws: ServiceError.self) { try apply(Self.policy(), nil) }
        #expect(throws: ServiceError.self) { try apply(Self.policy(), Self.rules + [0x20]) }
        #expect(throws: ServiceError.self) { try apply(Self.policy(list: false)) }
        var blind = Self.policy()
        blind.unchecked.remove(.init(.sha256, PCRIndex.all[10]))
        #expect(throws: ServiceError.self) { try apply(blind) }
        #expect(try vendor.service.policies().isEmpty)

        try apply(Self.policy(version: 4))
        try apply(Self.policy(version: 4))
        #expect(try vendor.service.policies().map(\.version) == [4])
        #expect(throws: ServiceError.policyExists("engine", 4)) {
            try apply(Self.policy(version: 3))
        }
        var other = Self.policy(version: 4)
        other.onDrift = .flag
        #expect(throws: ServiceError.policyExists("engine", 4)) { try apply(other) }
        #expect(throws: ServiceError.self) { try apply(Self.policy(version: 9, id: "second")) }
        // What was withdrawn keeps its version.
        #expect(try vendor.service.withdrawPolicy(model: "gateway", device: nil) == "engine")
        #expect(throws: ServiceError.policyExists("engine", 4)) {
            try apply(Self.policy(version: 3))
        }
        #expect(throws: ServiceError.self) {
            try vendor.service.withdrawPolicy(model: "gateway", device: nil)
        }
    }

    @Test("a quote over other registers than were asked for is forged, whatever a policy says")
    func selection() async throws {
        let vendor = try Vendor()
        let (id, kernel) = try await licensed(vendor)
        let other = try Vendor()
        _ = other
        _ = try vendor.service.apply(policy: Self.policy(), imaPolicy: Self.rules, device: nil)
        #expect(try vendor.sync(kernel.device).outcome == .pendingPolicy)
        // What was asked before is still answered after the policy asks for less.
        let evidence = try kernel.device.evidence()
        _ = try vendor.service.withdrawPolicy(model: "gateway", device: nil)
        #expect(try vendor.service.process(evidence).outcome == .accepted)
        #expect(try vendor.service.devices(id).first?.evidence?.pcrs["sha256"]?.count == 1)
    }
}
