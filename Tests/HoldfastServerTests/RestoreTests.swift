import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

@Suite("a server that was restored from a backup", .timeLimit(.minutes(20)))
struct RestoreTests {
    private func licensed(
        _ vendor: Vendor, _ device: FieldDevice, _ entitlements: [String] = ["scan"]
    ) async throws -> String {
        let id = try await vendor.admit(device)
        let issued = try vendor.license(id, entitlements)
        _ = try device.with { try $0.apply(reply: issued.reply) }
        return id
    }

    private func ready() async throws -> (Vendor, FieldDevice, String) {
        let makers = try [SoftwareTPMTemplate.shared(), .second()].flatMap { $0.roots.values }
        let vendor = try Vendor(roots: makers)
        _ = try vendor.service.apply(Vendor.terms())
        let device = try FieldDevice()
        return (vendor, device, try await licensed(vendor, device))
    }

    private func total(_ vendor: Vendor, _ id: String) throws -> UInt64 {
        try vendor.service.usage(id).first?.totals["scan"] ?? 0
    }

    private func isAllowed(_ device: FieldDevice, _ name: String) throws -> Bool {
        try device.with { try $0.decide(name) }.allowed
    }

    @Test("the device brings receipts, licenses and approvals that the backup lacks, once")
    func adopted() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 5)
        try vendor.sync(device)
        let backup = try vendor.backUp()

        try device.meter("scan", 7)
        try vendor.sync(device)
        let second = try vendor.license(id, ["map"])
        _ = try device.with { try $0.apply(reply: second.reply) }
        _ = try vendor.service.approve(
            .model("gateway"), product: "scanner", values: nil, source: id, generation: nil,
            note: "")
        try vendor.sync(device)
        let serials = try vendor.service.devices(id)[0].licenses.map(\.serial)
        try #require(serials.count == 2)

        try vendor.restore(backup)
        #expect(try total(vendor, id) == 5)
        #expect(try vendor.service.devices(id)[0].licenses.count == 1)
        // Nothing is settled or issued before the device brought what it has.
        try device.meter("scan", 1)
        #expect(throws: ServiceError.recall) { try vendor.service.process(device.evidence()) }
        #expect(try total(vendor, id) == 5)

        let outcome = try vendor.sync(device)
        #expect(outcome.outcome == .accepted)
        #expect(try total(vendor, id) == 13)
        let report = try vendor.service.devices(id)[0]
        #expect(report.licenses.map(\.serial) == serials.map { $0 + 1 })
        #expect(report.audit.contains { $0.action == "device.recollected" })
        #expect(!report.audit.contains { $0.action == "ledger.fork" })
        for name in ["scan", "map"] { #expect(try isAllowed(device, name)) }

        // Once is enough.
        try device.meter("scan", 1)
        let again = try vendor.service.process(device.evidence())
        #expect(again.outcome == .accepted)
        #expect(!again.notes.contains { $0.hasPrefix("RESTORED") })
        #expect(try total(vendor, id) == 14)
    }

    @Test("a device that was enrolled after the backup is known again by what it brings")
    func unknown() async throws {
        let (vendor, _, _) = try await ready()
        let backup = try vendor.backUp()
        let late = try FieldDevice(of: .second())
        let id = try await licensed(vendor, late)
        try late.meter("scan", 3)
        try vendor.sync(late)
        try vendor.restore(backup)
        #expect(throws: ServiceError.unknownDevice(id)) { try vendor.service.devices(id) }

        try late.meter("scan", 4)
        try vendor.sync(late)
        let report = try vendor.service.devices(id)[0]
        #expect(report.state == .approved)
        #expect(report.licenses.count == 1)
        #expect(try total(vendor, id) == 7)
        #expect(try isAllowed(late, "scan"))
        // The answer to its request is lost, and the device has it.
        let request = try late.request(vendor.trustFile)
        await #expect(throws: ServiceError.self) { try await vendor.service.enroll(request) }
    }

    @Test("a file brings everything along, so that it takes one way where the nonce is known")
    func file() async throws {
        let (vendor, device, id) = try await ready()
        try vendor.sync(device)
        let backup = try vendor.backUp()
        try device.meter("scan", 2)
        let file = try device.evidence(recollecting: true)
        try vendor.restore(backup)
        let outcome = try vendor.service.process(file)
        #expect(outcome.outcome == .accepted)
        #expect(try total(vendor, id) == 2)
        _ = try device.with { try $0.apply(reply: outcome.reply ?? []) }
    }

    @Test("a server that nobody told finds out by the first device that knows more")
    func untold() async throws {
        let (vendor, device, id) = try await ready()
        let other = try FieldDevice(of: .second())
        _ = try await licensed(vendor, other)
        let backup = try vendor.backUp()
        try device.meter("scan", 9)
        try vendor.sync(device)
        try vendor.restore(backup, isTold: false)
        #expect(try vendor.service.incarnation() == 1)
        try vendor.sync(device)
        #expect(try total(vendor, id) == 9)
        #expect(try vendor.service.incarnation() > 1)
        // From now on every device is asked.
        #expect(throws: ServiceError.recall) { try vendor.service.process(other.evidence()) }
        try vendor.sync(other)
        _ = try vendor.service.process(other.evidence())
    }

    @Test("a reply of before that comes late does not take the place of a later one")
    func lateReply() async throws {
        let (vendor, device, id) = try await ready()
        let backup = try vendor.backUp()
        for _ in 0..<3 { try vendor.sync(device) }
        try device.meter("scan", 1)
        let old = try vendor.service.process(device.evidence()).reply ?? []
        try vendor.restore(backup)
        try vendor.sync(device)
        let position = try ReplyHeader(
            verifying: Reply.header(in: old),
            issuers: device.with { $0.vendor.issuerKeys }, incarnation: 1,
            attestationKey: device.with { $0.statement.attestationKey.name }
        ).position
        // It counts by the server's incarnation, although its number is higher.
        #expect(position.server == 1)
        #expect(throws: DeviceError.replyOutdated) {
            try device.with { try $0.apply(reply: old) }
        }
        #expect(try total(vendor, id) == 1)
    }

    @Test("what is not this device's or not the vendor's own word is refused as a whole")
    func forged() async throws {
        let (vendor, device, id) = try await ready()
        let other = try FieldDevice(of: .second())
        _ = try await licensed(vendor, other)
        let backup = try vendor.backUp()
        try device.meter("scan", 4)
        try vendor.sync(device)
        try vendor.sync(other)
        let foreign = try recollection(other, vendor)
        let own = try recollection(device, vendor)
        try vendor.restore(backup)

        // A device brings what it likes: its own key signs the evidence around it.
        func refusal(_ change: (inout Recollection) throws -> Void) throws -> (any Error)? {
            var changed = own
            try change(&changed)
            let file = try evidence(device, vendor, with: changed)
            do {
                _ = try vendor.service.process(file)
                return nil
            } catch { return error }
        }
        #expect(try refusal { $0 = foreign } as? TokenError == .otherDevice)
        #expect(try refusal { $0.receipts = foreign.receipts } as? TokenError == .otherDevice)
        #expect(try refusal { $0.replyHeader = foreign.replyHeader } as? TokenError == .otherDevice)
        #expect(try refusal { $0.licenses = [] } as? DocumentError == .missing(.license))
        #expect(try refusal { $0.terms = [] } as? DocumentError == .missing(.terms))
        #expect(try refusal { $0.request[$0.request.count - 1] ^= 1 } != nil)
        #expect(
            try refusal { recollection in
                var body = recollection.receipts[0].body
                body[20] ^= 1
                recollection.receipts[0] = try PASETOToken(
                    purpose: .v4Public, body: body, footer: recollection.receipts[0].footer)
            } is TokenError)
        #expect(try total(vendor, id) == 0)
        #expect(
            try vendor.service.devices(id)[0].audit.allSatisfy { $0.action != "device.recollected" }
        )
        // With none of it taken over, its own is still welcome.
        #expect(try refusal { _ in } == nil)
        #expect(try total(vendor, id) == 4)
    }

    @Test("no seat is free by proof while the server may have forgotten a lease")
    func retirement() async throws {
        let (vendor, device, id) = try await ready()
        let backup = try vendor.backUp()
        try vendor.restore(backup)
        let proof = try device.with { try $0.retire().encoded }
        let outcome = try vendor.service.process(proof)
        #expect(outcome.notes.first?.contains("restored from a backup") == true)
        #expect(try vendor.service.devices(id)[0].licenses.map(\.seat) == ["held"])
    }

    @Test("a backup is whole, is not overwritten, and a damaged one replaces nothing")
    func files() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 1)
        try vendor.sync(device)
        let backup = try vendor.backUp()
        #expect(throws: StoreError.self) { try vendor.store.backUp(to: backup) }
        let path = vendor.directory.path + "/target.sqlite"
        _ = try SQLiteStore(path: path)
        var bytes = try Files.read(backup, maximum: 1 << 24)
        for at in stride(from: 4096, to: bytes.count, by: 4096) { bytes[at] ^= 0xFF }
        let damaged = backup + ".damaged"
        try Files.write(bytes, to: damaged, mode: 0o600)
        let before = try Files.read(path, maximum: 1 << 24)
        for wrong in [damaged, backup + ".none", vendor.keys.trustFile] {
            #expect(throws: StoreError.self) {
                try SQLiteStore.restore(from: wrong, to: path, keeping: path + ".kept")
            }
            #expect(try Files.read(path, maximum: 1 << 24) == before)
            #expect(!Files.exists(path + ".kept"))
        }
        // While the records are in use they are not exchanged.
        var user: SQLiteStore? = try SQLiteStore(path: path)
        #expect(throws: StoreError.self) {
            try SQLiteStore.restore(from: backup, to: path, keeping: path + ".kept")
        }
        try #require(try user?.read { try $0.serverIncarnation() } == 1)
        user = nil
        try SQLiteStore.restore(from: backup, to: path, keeping: path + ".kept")
        #expect(Files.exists(path + ".kept"))
        let clock = vendor.clock
        let service = try VendorService(
            keys: vendor.keys, store: SQLiteStore(path: path), random: .system,
            now: { clock.now })
        #expect(try service.usage(id).first?.totals["scan"] == 1)
    }

    // MARK: What a device would write

    private func recollection(_ device: FieldDevice, _ vendor: Vendor) throws -> Recollection {
        try #require(
            try Evidence(
                decoding: opened(device.evidence(recollecting: true), vendor)
            ).recollection)
    }

    private func opened(_ envelope: [UInt8], _ vendor: Vendor) throws -> [UInt8] {
        try SealedEnvelope(decoding: envelope).open(with: vendor.keys.sealingKey())
    }

    /// Evidence of the device's own TPM around a recollection of somebody's choice.
    private func evidence(
        _ device: FieldDevice, _ vendor: Vendor, with recollection: Recollection
    ) throws -> [UInt8] {
        try device.with { enrolled in
            try enrolled.makeEvidence(bringing: recollection).encoded
        }
    }
}
