import Foundation
import HoldfastDevice
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import Testing

@Suite("the change log", .timeLimit(.minutes(20)))
struct ChangeTests {
    private func log(_ device: FieldDevice) throws -> [String] {
        try device.with { try $0.changes(limit: 100) }.reversed().map { change in
            [change.kind.rawValue, change.old ?? "-", change.new ?? "-"].joined(separator: " ")
        }
    }

    @Test("it tells what came, was renewed, settled, approved and taken back, once each")
    func life() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let issued = try vendor.license(id, ["scan"])
        for _ in 0..<2 { _ = try device.with { try $0.apply(reply: issued.reply) } }
        // The same approvals by file bring nothing new, others do.
        let same = try vendor.service.approve(
            .device(id), product: "scanner", values: nil, source: nil, generation: nil, note: "")
        _ = try device.with { try $0.install(approval: same.bytes) }
        let other = try vendor.service.approve(
            .model("gateway"), product: "scanner", values: nil, source: id, generation: nil,
            note: "")
        for _ in 0..<2 { _ = try device.with { try $0.install(approval: other.bytes) } }
        let first = [
            "APPROVAL_ADDED - -", "APPROVAL_ADDED - -", "LICENSE_ADDED - scan",
            "STATE_CHANGED - ACTIVE", "APPROVAL_ADDED - -", "APPROVAL_ADDED - -",
        ]
        #expect(try log(device) == first)

        try device.meter("scan", 5)
        try vendor.sync(device)
        let second = first + ["LEASE_RENEWED 1 2", "USAGE_SETTLED 0 5"]
        #expect(try log(device) == second)
        try device.meter("scan", 2)
        _ = try vendor.service.revoke(license: issued.license.description)
        try vendor.sync(device)
        let third =
            second + ["LICENSE_REVOKED - -", "USAGE_SETTLED 5 7", "STATE_CHANGED ACTIVE REVOKED"]
        #expect(try log(device) == third)
        try vendor.sync(device)
        #expect(try log(device) == third)

        let changes = try device.with { try $0.changes(limit: 100) }
        #expect(changes.allSatisfy { !$0.text.isEmpty && !$0.cause.isEmpty && $0.at > 0 })
        #expect(changes.contains { $0.text.contains("usage of scan settled: 5 -> 7") })
        _ = try device.with { try $0.retire() }
        #expect(try log(device) == third + ["RETIRED - -"])
    }

    @Test("a license that passes into another state by itself is noted by whoever looks")
    func states() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let issued = try vendor.license(id, ["scan"])
        _ = try device.with { try $0.apply(reply: issued.reply) }
        try device.tpm.connection.setClock(320_000)
        let seen = try device.with { enrolled in
            try (0..<2).map { _ in try enrolled.note(enrolled.standings()) }
        }
        #expect(seen[0].map(\.new) == ["RENEW_DUE"])
        #expect(seen[0].map(\.old) == ["ACTIVE"])
        #expect(seen[1].isEmpty)
    }

    @Test("what would be sent is what is sent, and looking at it spends nothing")
    func preview() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await vendor.admit(device)
        try device.meter("scan", 1)
        let nonces = try Data(contentsOf: URL(filePath: device.path + "/nonces"))
        let shown = try device.with { try $0.previewEvidence() }
        #expect(try Data(contentsOf: URL(filePath: device.path + "/nonces")) == nonces)
        let sent = try Evidence(
            decoding: SealedEnvelope(decoding: device.evidence()).open(
                with: vendor.keys.sealingKey()))
        #expect(try sent.parts().map { "\($0.type)" } == shown.map(\.section))
        #expect(shown.first { $0.section == "nonce" }?.bytes == sent.subject.nonce)
        #expect(shown.first { $0.section == "recollection" } == nil)
    }
}
