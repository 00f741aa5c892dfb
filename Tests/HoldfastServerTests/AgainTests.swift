import Foundation
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

@Suite("enrolling again", .timeLimit(.minutes(20)))
struct AgainTests {
    private func licensed(_ vendor: Vendor, _ device: FieldDevice) async throws -> String {
        let id = try await vendor.admit(device)
        let issued = try vendor.license(id, ["scan"])
        _ = try device.with { try $0.apply(reply: issued.reply) }
        return id
    }

    private func ready() async throws -> (Vendor, FieldDevice, String) {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try FieldDevice()
        return (vendor, device, try await licensed(vendor, device))
    }

    private func handles(_ device: FieldDevice) throws -> [TPMHandle] {
        try device.tpm.connection.handles(from: 0x8100_0000)
            + device.tpm.connection.handles(from: 0x0100_0000)
    }

    @Test("a retired device enrolls as incarnation 2, and nothing of the first one opens any more")
    func retired() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 3)
        try vendor.sync(device)
        let copy = device.directory.path + "/copy"
        try FileManager.default.copyItem(atPath: device.path, toPath: copy)
        let before = try handles(device)
        _ = try vendor.service.process(device.with { try $0.retire().encoded })
        #expect(throws: DeviceError.retired) { try device.evidence() }

        let place = try #require(try device.startOver())
        #expect(
            Files.exists(place + "/retirement") && Files.exists(place + "/ledger/ledger.sqlite"))
        #expect(try handles(device).count == before.count - 3)
        let again = try await licensed(vendor, device)
        #expect(again == id)
        #expect(try handles(device) == before)
        let reports = try vendor.service.devices()
        #expect(reports.map(\.incarnation) == [1, 2])
        #expect(reports.map(\.state) == [.retired, .approved])
        #expect(try device.with { try $0.decide("scan") }.allowed)
        try device.meter("scan", 4)
        try vendor.sync(device)
        #expect(try vendor.service.usage(id).map { $0.totals["scan"] } == [4])

        // Yesterday's directory beside the TPM of today.
        try FileManager.default.removeItem(atPath: device.path)
        try FileManager.default.copyItem(atPath: copy, toPath: device.path)
        #expect(throws: EnrollmentError.keysLost) { try device.evidence() }
        #expect(try !device.with { try $0.decide("scan") }.allowed)
    }

    @Test("a living enrollment is not given up, and no usage without a word")
    func alive() async throws {
        let (_, device, _) = try await ready()
        let before = try handles(device)
        #expect(throws: EnrollmentError.stillEnrolled) { try device.startOver() }
        #expect(throws: EnrollmentError.stillEnrolled) { try device.startOver(discarding: true) }
        #expect(try handles(device) == before)
        #expect(try device.with { try $0.decide("scan") }.allowed)

        // The TPM loses the keys: somebody took them away, or cleared it.
        try device.meter("scan", 1)
        let parent = try #require(
            try device.tpm.connection.handles(from: 0x8100_0000).first {
                VendorSlot.all.map(\.leaseParent).contains($0)
            })
        try device.tpm.connection.removePersistent(device.tpm.connection.object(at: parent))
        #expect(throws: DeviceError.unsettled) { try device.startOver() }
        #expect(try device.startOver(discarding: true) != nil)
        #expect(try device.startOver() == nil)
    }

    @Test(
        "a counter that somebody took away or raised above every lease ends the enrollment",
        arguments: [true, false])
    func lostCounter(isRaised: Bool) async throws {
        let (_, device, _) = try await ready()
        let tpm = device.tpm.connection
        let keys = try #require(try StateDirectory(device.path).request()).keys
        let counter = keys.epochCounter
        if isRaised {
            let auth = try #require(try StateDirectory(device.path).preparation()).counterAuth
            let parent = try #require(
                try tpm.object(
                    named: keys.leaseParent.name, among: VendorSlot.all.prefix(3).map(\.leaseParent)
                ))
            try tpm.increment(counter, authValue: auth, salt: parent)
        } else {
            try tpm.run(
                NVUndefineSpaceCommand(EntityReference(counter.index, name: counter.name)),
                [.emptyAuth])
        }
        tpm.endTransaction()
        #expect(try !device.with { try $0.decide("scan") }.allowed)
        #expect(try device.startOver() != nil)
        #expect(try device.startOver() == nil)
        let ours = VendorSlot.all.flatMap { [$0.leaseParent, $0.epochCounter, $0.ledgerCounter] }
        #expect(try Set(handles(device)).isDisjoint(with: ours))
    }

    @Test("an interrupted change of enrollments is taken up, whatever was moved already")
    func interrupted() async throws {
        let (vendor, device, id) = try await ready()
        _ = try vendor.service.process(device.with { try $0.retire().encoded })
        let whole = device.directory.path + "/whole"
        try FileManager.default.copyItem(atPath: device.path, toPath: whole)
        let names = try Files.names(in: device.path).filter { !["trust", "lock"].contains($0) }
        try #require(names.count > 6)
        // Killed before any file was moved, after each one, and each time the keys are gone already.
        for moved in 0..<names.count {
            try FileManager.default.removeItem(atPath: device.path)
            try FileManager.default.copyItem(atPath: whole, toPath: device.path)
            for name in names.filter({ $0 != "request" }).prefix(moved) {
                try FileManager.default.removeItem(atPath: device.path + "/" + name)
            }
            #expect(try device.startOver(discarding: true) != nil)
            let left = try Files.names(in: device.path).filter { $0 != "ledger-lock" }
            #expect(left == ["former", "lock", "trust"])
        }
        #expect(try await licensed(vendor, device) == id)
        #expect(try vendor.service.devices().map(\.incarnation).last == 2)
    }

    @Test("a request that was never answered makes room for a new one")
    func unanswered() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let first = try device.request(vendor.trustFile)
        let before = try handles(device)
        #expect(try device.startOver() != nil)
        let second = try device.request(vendor.trustFile)
        #expect(try handles(device) == before)
        // The answer to the first one is for keys that are gone.
        let late = try await vendor.service.enroll(first)
        #expect(throws: (any Error).self) { try device.activate(late.response) }
        try device.activate(await vendor.service.enroll(second).response)
    }
}
