import HoldfastCrypto
import HoldfastDevice
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import Testing

@Suite("hardware of enrolled devices", .timeLimit(.minutes(20)))
struct HardwareTests {
    private func facts(_ numbers: [ComponentKind: UInt8] = [:]) throws -> [HardwareFact] {
        try ComponentKind.allCases.map { kind in
            try #require(
                HardwareFact([kind.rawValue] + [UInt8](repeating: numbers[kind] ?? 1, count: 31)))
        }
    }

    /// Enrolls a device with facts, as far as its proof.
    private func enroll(
        _ device: FieldDevice, with facts: [HardwareFact], at vendor: Vendor
    ) async throws -> DeviceReport {
        let outcome = try await request(device, with: facts, at: vendor)
        try device.activate(outcome.response)
        _ = try vendor.service.process(device.evidence())
        return try #require(try vendor.service.devices(outcome.device).first)
    }

    private func request(
        _ device: FieldDevice, with facts: [HardwareFact], at vendor: Vendor
    ) async throws -> EnrollmentOutcome {
        let request = try Enrollment(
            StateDirectory(device.path), tpm: device.tpm.connection, random: .system,
            facts: { salt in
                #expect(salt.count == 16)
                return facts
            }
        ).makeRequest(trustFile: vendor.trustFile).encoded
        return try await vendor.service.enroll(request)
    }

    private func lines(_ report: DeviceReport) -> [String] {
        report.audit.filter { $0.action == "device.hardware" }.map(\.detail)
    }

    /// The device gives its enrollment up, and the vendor knows.
    private func retire(_ device: FieldDevice, at vendor: Vendor) throws {
        _ = try vendor.service.process(device.with { try $0.retire().encoded })
        _ = try device.startOver()
    }

    @Test("facts are kept and shown as they came, and a first enrollment has not drifted")
    func first() async throws {
        let vendor = try Vendor()
        let report = try await enroll(FieldDevice(), with: facts().reversed(), at: vendor)
        #expect(report.hardware.map(\.kind) == ComponentKind.allCases.map(\.name))
        #expect(report.hardware.map(\.id) == (try facts().map(\.description)))
        #expect(report.hardwareDrift == [] && lines(report) == [])
    }

    @Test("the same TPM is accepted with other parts, once with a flag")
    func drift() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await enroll(device, with: facts(), at: vendor)
        try retire(device, at: vendor)
        let shown = try facts([.rootDisk: 2]).filter { $0.kind != .board }
        let second = try await enroll(device, with: shown, at: vendor)
        #expect(second.incarnation == 2 && second.state == .pending)
        #expect(second.hardwareDrift == ["board", "root-disk"])
        #expect(lines(second) == ["HW_DRIFT: root-disk changed, board not shown"])

        // The baseline has slid: the same disk again is none, and the board was not forgotten.
        try retire(device, at: vendor)
        let third = try await enroll(device, with: facts([.rootDisk: 2]), at: vendor)
        #expect(third.hardwareDrift == [])
        #expect(lines(third).count == 1)
        try retire(device, at: vendor)
        let fourth = try await enroll(device, with: facts([.rootDisk: 2, .board: 2]), at: vendor)
        #expect(fourth.hardwareDrift == ["board"])
    }

    @Test("what an unproven request shows changes nothing and accuses nobody")
    func unproven() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await enroll(device, with: facts(), at: vendor)
        try retire(device, at: vendor)
        let outcome = try await request(device, with: facts([.machine: 9]), at: vendor)
        let report = try #require(try vendor.service.devices(outcome.device).first)
        #expect(report.incarnation == 1 && report.hardwareDrift == [] && lines(report) == [])
    }

    /// A vendor who trusts two makers, and a device with a TPM of the second one.
    private func twoMakers() throws -> (Vendor, FieldDevice) {
        let makers = try [SoftwareTPMTemplate.shared(), .second()].flatMap { $0.roots.values }
        return (try Vendor(roots: makers), try FieldDevice(of: .second()))
    }

    @Test("another TPM in the same machine is named, and still waits for an operator")
    func otherTPM() async throws {
        let (vendor, device) = try twoMakers()
        let known = try await enroll(FieldDevice(), with: facts(), at: vendor)
        let other = try await enroll(device, with: facts([.rootDisk: 2]), at: vendor)
        #expect(other.device != known.device && other.state == .pending)
        #expect(lines(other) == ["resembles \(known.device) with another TPM: 12 of 14"])
        #expect(other.hardwareDrift == [])
        #expect(lines(known) == [])
    }

    @Test("what a model has in common, or parts that moved, name nobody")
    func otherMachine() async throws {
        let (vendor, device) = try twoMakers()
        _ = try await enroll(FieldDevice(), with: facts(), at: vendor)
        let model = try facts([.machine: 2, .board: 2, .network: 2, .rootDisk: 2])
        let moved = try facts([.machine: 2, .board: 2])
        for shown in [model, moved.filter { $0.kind != .tpm }, []] {
            let report = try await enroll(device, with: shown, at: vendor)
            #expect(lines(report).allSatisfy { !$0.hasPrefix("resembles") })
            try retire(device, at: vendor)
        }
    }

    @Test("a fact of a kind that there is not is refused", arguments: [UInt8(0), 8, 255])
    func unknownKind(kind: UInt8) async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await request(device, with: facts(), at: vendor)
        let made = try #require(try StateDirectory(device.path).request())
        var keys = made.keys
        keys.hardwareFacts = [[kind] + [UInt8](repeating: 1, count: 31)]
        let encoded = try EnrollmentRequest(keys: keys, certifications: made.certifications)
            .encoded()
        #expect(throws: DocumentError.malformed(.hardwareFact)) {
            try EnrollmentRequest(decoding: encoded)
        }
    }
}
