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

@Suite("a license by file, from request to retirement", .timeLimit(.minutes(3)))
struct LifeTests {
    private func licensed(
        _ vendor: Vendor, _ device: FieldDevice
    ) async throws -> (id: String, issued: VendorService.Issued) {
        let id = try await vendor.admit(device)
        if (try? vendor.service.terms("standard")) == nil {
            _ = try vendor.service.apply(Vendor.terms())
        }
        let issued = try vendor.license(id)
        let applied = try device.with { try $0.apply(reply: issued.reply) }
        #expect(applied.outcome == .accepted)
        return (id, issued)
    }

    private func decision(_ device: FieldDevice, _ name: String) throws -> Decision {
        try device.with { try $0.decide(name) }
    }

    @Test("it is issued, opens on its TPM, is renewed in one trip and given up")
    func life() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let (_, issued) = try await licensed(vendor, device)
        let first = try decision(device, "scan")
        #expect(first.allowed)
        #expect(first.state == .active)
        #expect(first.license == issued.license.description)
        #expect(try decision(device, "scan") == first)
        #expect(try !decision(device, "other").allowed)
        #expect(try decision(device, "other").code == "NOT_GRANTED")
        #expect(try decision(device, "core").allowed)

        // Renewal: evidence out, reply in.
        let evidence = try device.evidence()
        let renewed = try vendor.service.process(evidence)
        #expect(renewed.outcome == .accepted)
        #expect(try vendor.service.process(evidence).reply == renewed.reply)
        let applied = try device.with { try $0.apply(reply: renewed.reply ?? []) }
        #expect(applied.standings.map(\.document.statement.serial) == [2])
        #expect(try device.with { try $0.apply(reply: renewed.reply ?? []) }.outcome == .accepted)
        #expect(
            try Files.names(in: device.path + "/licenses").filter { $0.hasSuffix(".license") }
                == ["\(issued.license).2.license"])
        // The one that was installed before does not come back.
        #expect(throws: DeviceError.replyOutdated) {
            try device.with { try $0.apply(reply: issued.reply) }
        }

        // Retirement: no lease opens again, and the proof ends the record.
        let proof = try device.with { try $0.retire().encoded }
        let retired = try decision(device, "scan")
        #expect(!retired.allowed)
        #expect(retired.state == .retired)
        #expect(try vendor.service.process(proof).outcome == .accepted)
        #expect(try vendor.service.process(proof).isRepeated)
        #expect(try vendor.service.devices().map(\.state) == [.retired])
        #expect(throws: DeviceError.retired) { try device.evidence() }
        #expect(throws: DeviceError.retired) {
            try device.with { try $0.apply(reply: renewed.reply ?? []) }
        }
        #expect(try decision(device, "export").allowed)
        #expect(try device.tpm.connection.handles(from: 0x8000_0000).isEmpty)
        #expect(try device.tpm.connection.handles(from: 0x0200_0000).isEmpty)
    }

    @Test(
        "after a restart into a changed boot state the lease is locked, the PCR is named, and an approval opens it"
    )
    func changedBoot() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let (id, _) = try await licensed(vendor, device)
        try device.tpm.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        let locked = try decision(device, "scan")
        #expect(!locked.allowed)
        #expect(locked.mode == .locked)
        #expect(locked.flags == [.bootChanged])
        #expect(locked.state == .active)
        #expect(locked.message.contains("PCR 7 differs"))
        #expect(try decision(device, "preview").allowed)
        #expect(try decision(device, "hint").allowed)

        // Evidence of that state is good and waits for the policy.
        let evidence = try device.evidence()
        let waiting = try vendor.service.process(evidence)
        #expect(waiting.outcome == .pendingBootState)
        let approval = try vendor.service.approve(
            .device(id), product: "scanner", values: nil, source: nil, generation: nil, note: "n")
        _ = try device.with { try $0.install(approval: approval.bytes) }
        #expect(try decision(device, "scan").allowed)
        #expect(try decision(device, "scan").flags == [])
    }

    @Test("more resets than the lease survives lock it, and say so")
    func resets() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try vendor.service.apply(Vendor.terms(resets: 1))
        _ = try await licensed(vendor, device)
        try device.tpm.reboot()
        #expect(try decision(device, "scan").allowed)
        try device.tpm.reboot()
        let locked = try decision(device, "scan")
        #expect(!locked.allowed)
        #expect(locked.flags == [.resetsSpent])
        #expect(locked.code == "RESETS_SPENT")
    }

    @Test("a lease runs out on the TPM's clock, state by state")
    func expiry() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await licensed(vendor, device)
        func set(_ seconds: UInt64) throws {
            let statement = try #require(
                try device.with { try $0.standings() }.first?.document.statement)
            try device.tpm.connection.setClock(statement.issuedTicks + seconds * 1000)
        }
        try set(300)
        #expect(try decision(device, "scan").state == .renewDue)
        #expect(try decision(device, "scan").allowed)
        try set(450)
        #expect(try decision(device, "scan").state == .grace)
        #expect(try decision(device, "scan").allowed)
        try set(601)
        #expect(try decision(device, "scan").state == .degraded)
        #expect(try !decision(device, "scan").allowed)
        #expect(try decision(device, "preview").allowed)
        try set(1201)
        #expect(try decision(device, "scan").state == .expired)
        #expect(try !decision(device, "preview").allowed)
        #expect(try decision(device, "hint").allowed)
        #expect(try decision(device, "read-only").allowed)
        // The way back is open from there.
        let renewed = try vendor.service.process(device.evidence())
        _ = try device.with { try $0.apply(reply: renewed.reply ?? []) }
        #expect(try decision(device, "scan").state == .active)
        #expect(try decision(device, "scan").allowed)
    }

    @Test("a copied state directory is nothing on another TPM")
    func copied() async throws {
        let first = try TransientMachine(.manufactured)
        let second = try TransientMachine(.manufactured)
        try await withMachine(first) { here in
            let vendor = try Vendor(roots: first.roots() + second.roots())
            let directory = try TemporaryDirectory()
            func device(_ connection: TPMConnection) throws -> EnrolledDevice {
                try EnrolledDevice(
                    StateDirectory(directory.path), tpm: connection, random: .system)
            }
            let request = try Enrollment(
                StateDirectory(directory.path), tpm: here, random: .system
            ).makeRequest(trustFile: vendor.trustFile).encoded
            let answer = try await vendor.service.enroll(request)
            _ = try Enrollment(StateDirectory(directory.path), tpm: here, random: .system)
                .activate(response: answer.response)
            _ = try vendor.service.process(device(here).makeEvidence().encoded)
            _ = try vendor.service.approve(device: answer.device, model: nil)
            _ = try vendor.service.approve(
                .device(answer.device), product: "scanner", values: nil, source: nil,
                generation: nil, note: "")
            _ = try vendor.service.apply(Vendor.terms())
            let issued = try vendor.license(answer.device)
            _ = try device(here).apply(reply: issued.reply)
            #expect(try device(here).decide("scan").allowed)
            try await withMachine(second) { there in
                let copied = try device(there).decide("scan")
                #expect(!copied.allowed)
                #expect(copied.flags == [.cleared])
                #expect(copied.state == .degraded)
                #expect(throws: EnrollmentError.keysLost) { try device(there).makeEvidence() }
                #expect(throws: EnrollmentError.keysLost) { try device(there).retire() }
                // A device of its own has its own binding: the file is for somebody else.
                let own = try TemporaryDirectory()
                let state = own.path + "/state"
                let asked = try Enrollment(StateDirectory(state), tpm: there, random: .system)
                    .makeRequest(trustFile: vendor.trustFile).encoded
                let other = try await vendor.service.enroll(asked)
                _ = try Enrollment(StateDirectory(state), tpm: there, random: .system)
                    .activate(response: other.response)
                #expect(other.device != answer.device)
                let stranger = try EnrolledDevice(
                    StateDirectory(state), tpm: there, random: .system)
                #expect(throws: TokenError.otherDevice) {
                    try stranger.apply(reply: issued.reply)
                }
                #expect(TokenError.otherDevice.stableCode == "DEVICE_MISMATCH")
            }
        }
    }

    private func withMachine<R>(
        _ machine: TransientMachine, _ body: (TPMConnection) async throws -> R
    ) async throws -> R {
        try machine.machine.powerOn(.documented, ca: nil, random: .system)
        let connection = machine.machine.connection(random: .system)
        defer { connection.close() }
        return try await body(connection)
    }
}

extension TransientMachine {
    /// The certificates of its TPM's maker.
    func roots() throws -> [[UInt8]] {
        try Files.certificates(in: path + "/ek-roots")
    }
}
