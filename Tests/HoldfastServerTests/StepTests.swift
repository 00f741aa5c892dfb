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

/// The power fails at a chosen command: before the TPM sees it, or before its answer is seen.
private final class Fuse: TPMTransport {
    private let transport: any TPMTransport
    private let setting: Setting

    final class Setting {
        /// Commands until the power fails; `nil` when it does not.
        var left: Int?
        var isAnswerLost = false
        var count = 0
    }

    init(_ transport: any TPMTransport, _ setting: Setting) {
        self.transport = transport
        self.setting = setting
    }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        setting.count += 1
        let gone = TPMError(.unreachable, "the power is gone")
        guard let left = setting.left else { return try transport.exchange(command) }
        guard left >= 0 else { throw gone }
        setting.left = left - 1
        guard left == 0 else { return try transport.exchange(command) }
        setting.left = -1
        if setting.isAnswerLost { _ = try transport.exchange(command) }
        throw gone
    }

    func endTransaction() { transport.endTransaction() }
    func close() { transport.close() }
    var hasResourceManager: Bool { transport.hasResourceManager }
}

@Suite("the power fails between any two steps", .timeLimit(.minutes(20)))
struct StepTests {
    private let setting = Fuse.Setting()

    private func device() throws -> FieldDevice {
        try FieldDevice(interposing: { [setting] in Fuse($0, setting) })
    }

    /// The number of commands that something takes.
    private func count(_ body: () throws -> Void) rethrows -> Int {
        let before = setting.count
        try body()
        return setting.count - before
    }

    /// Lets the power fail at a command of something, and come back.
    private func cut(
        _ device: FieldDevice, at number: Int, isAnswerLost: Bool, _ body: () throws -> Void
    ) throws {
        setting.left = number
        setting.isAnswerLost = isAnswerLost
        try? body()
        setting.left = nil
        try device.tpm.cut()
    }

    private func isAllowed(_ device: FieldDevice, _ name: String) throws -> Bool {
        try device.with { try $0.decide(name) }.allowed
    }

    @Test(
        "metering, settling, renewing and giving a license up: nothing is lost, counted twice or raised twice"
    )
    func settling() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try device()
        let id = try await vendor.admit(device)
        _ = try device.with { try $0.apply(reply: try vendor.license(id, ["scan"]).reply) }
        var used: UInt64 = 0
        var recorded: UInt64 = 0
        func epoch() throws -> UInt64 {
            try device.with { enrolled in
                try device.tpm.connection.readCounter(enrolled.statement.epochCounter)
            }
        }
        /// Usage, a license that comes and goes, and what is to happen to them.
        func prepare() throws {
            let issued = try vendor.license(id, ["map"])
            _ = try device.with { try $0.apply(reply: issued.reply) }
            _ = try vendor.service.revoke(license: issued.license.description)
        }
        func work() throws {
            try device.meter("scan", 3)
            recorded += 3
            try vendor.sync(device)
        }
        try prepare()
        let steps = try count(work)
        used = recorded
        try #require(steps > 40)
        for number in stride(from: 0, to: steps, by: 3) {
            try prepare()
            let before = try epoch()
            recorded = 0
            try cut(device, at: number, isAnswerLost: number % 2 == 0, work)
            // What was recorded before the power failed is there; it was all or nothing.
            used += recorded
            try vendor.sync(device)
            let total = try vendor.service.usage(id).first?.totals["scan"]
            if recorded == 0, total == used + 3 { used += 3 }
            #expect(total == used, "step \(number)")
            #expect(try epoch() == before + 1, "step \(number)")
            #expect(try isAllowed(device, "scan"), "step \(number)")
            #expect(try !isAllowed(device, "map"), "step \(number)")
        }
        let report = try vendor.service.devices(id)[0]
        #expect(report.audit.allSatisfy { $0.action != "ledger.fork" && $0.action != "ledger.era" })
    }
    @Test("a retirement that was interrupted is finished, raises once, and proves the same")
    func retiring() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try device()
        let id = try await vendor.admit(device)
        _ = try device.with { try $0.apply(reply: try vendor.license(id, ["scan"]).reply) }
        let copy = device.directory.path + "/copy"
        try FileManager.default.copyItem(atPath: device.path, toPath: copy)
        func epoch() throws -> UInt64 {
            try device.with { enrolled in
                try device.tpm.connection.readCounter(enrolled.statement.epochCounter)
            }
        }
        func retire() throws { _ = try device.with { try $0.retire() } }
        let steps = try count(retire)
        try #require(steps > 15)
        for number in 0..<steps {
            try FileManager.default.removeItem(atPath: device.path)
            try FileManager.default.copyItem(atPath: copy, toPath: device.path)
            let before = try epoch()
            try cut(device, at: number, isAnswerLost: number % 2 == 0, retire)
            try retire()
            #expect(try epoch() == before + 1, "step \(number)")
            #expect(try !isAllowed(device, "scan"))
        }
        let outcome = try vendor.service.process(device.with { try $0.retire().encoded })
        #expect(outcome.outcome == .accepted)
        #expect(try vendor.service.devices(id)[0].state == .retired)
    }
}
