import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("a disk that is full", .timeLimit(.minutes(20)))
struct FullDiskTests {
    @Test(
        "at the vendor: an error, nothing half done, and the same bundle counts once there is room")
    func server() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        _ = try device.with { try $0.apply(reply: try vendor.license(id, ["scan"]).reply) }
        var used: UInt64 = 0
        func total() throws -> UInt64 {
            try vendor.service.usage(id).first?.totals["scan"] ?? 0
        }
        try vendor.store.limit(morePages: 4)
        var refused: [UInt8]?
        for _ in 0..<20 where refused == nil {
            try device.meter("scan")
            let bundle = try device.evidence()
            do {
                let reply = try vendor.service.process(bundle).reply ?? []
                used += 1
                _ = try device.with { try $0.apply(reply: reply) }
            } catch let error as StoreError {
                #expect(error.remedy?.contains("space") == true)
                refused = bundle
            }
        }
        let bundle = try #require(refused)
        let before = try vendor.service.devices(id)[0].licenses.map(\.serial)
        for _ in 0..<3 {
            #expect(throws: StoreError.self) { try vendor.service.process(bundle) }
        }
        #expect(try total() == used)
        #expect(try vendor.service.devices(id)[0].licenses.map(\.serial) == before)
        try vendor.store.limit(morePages: nil)
        let outcome = try vendor.service.process(bundle)
        #expect(outcome.outcome == .accepted && !outcome.isRepeated)
        #expect(try vendor.service.process(bundle).isRepeated)
        #expect(try total() == used + 1)
    }

    @Test("at the device: usage is recorded or refused, and sealing goes on once there is room")
    func device() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        var used: UInt64 = 0
        try device.with { enrolled in
            let ledger = try enrolled.openLedger()
            try ledger.store.limit(morePages: 2)
            var isFull = false
            for _ in 0..<4000 where !isFull {
                do {
                    try ledger.append(
                        [.init(meter: "scan", termsVersion: 1, quantity: 1)], day: 0)
                    used += 1
                } catch let error as LedgerStoreError {
                    guard case .unusable = error else { throw error }
                    #expect(error.remedy?.contains("space") == true)
                    isFull = true
                }
            }
            #expect(isFull)
            #expect(try ledger.totals() == ["scan": used])
            // What cannot be written down first is not counted by the TPM.
            let counter = enrolled.statement.ledgerCounter
            let before = try device.tpm.connection.readCounter(counter)
            while (try? ledger.checkpoint()) != nil {}
            let after = try device.tpm.connection.readCounter(counter)
            #expect(throws: LedgerStoreError.self) { try ledger.checkpoint() }
            #expect(try device.tpm.connection.readCounter(counter) == after)
            #expect(after >= before)
            try ledger.store.limit(morePages: nil)
            try ledger.append([.init(meter: "scan", termsVersion: 1, quantity: 1)], day: 0)
            used += 1
            _ = try ledger.verify()
        }
        try vendor.sync(device)
        let report = try vendor.service.usage(id)[0]
        #expect(report.totals == ["scan": used])
        #expect(!report.forked && report.eras == 1)
    }
}
