import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// `TPM2_NV_Write`, by the owner.
private struct NVWriteCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.nvWrite
    static let authorizationCount = 1
    let index: EntityReference
    let data: [UInt8]
    let offset: UInt16

    var handles: [EntityReference] { [EntityReference(.owner), index] }
    func encodeParameters(into writer: inout WireWriter) {
        writer.sized(data)
        writer.uint16(offset)
    }
}

@Suite("issuers of the endorsement key certificate that are in the TPM", .timeLimit(.minutes(20)))
struct IssuerChainTests {
    /// Leaves bytes in an index, as a TPM maker does.
    private func leave(_ bytes: [UInt8], at place: UInt32, _ tpm: TPMConnection) throws {
        var area = NVPublicArea(
            index: TPMHandle(rawValue: place), nameAlgorithm: .sha256,
            attributes: [.ownerRead, .ownerWrite, .authRead, .noDA], authPolicy: [],
            dataSize: UInt16(bytes.count))
        try tpm.run(NVDefineSpaceCommand(auth: [], publicArea: area), [.emptyAuth])
        for start in stride(from: 0, to: bytes.count, by: 512) {
            let part = Array(bytes[start..<min(start + 512, bytes.count)])
            try tpm.run(
                NVWriteCommand(
                    index: EntityReference(area.index, name: area.name), data: part,
                    offset: UInt16(start)), [.emptyAuth])
            area = area.written
        }
    }

    private func der(_ pem: [UInt8]) throws -> [UInt8] {
        let lines = String(decoding: pem, as: UTF8.self).split(separator: "\n")
            .filter { !$0.hasPrefix("-----") }
        return [UInt8](try #require(Data(base64Encoded: lines.joined())))
    }

    @Test("a vendor who trusts the root alone takes the device with its chain, and not without it")
    func chain() async throws {
        let roots = try SoftwareTPMTemplate.shared().roots
        let root = try #require(roots["root.pem"])
        let intermediate = try der(#require(roots["intermediate.pem"]))
        let vendor = try Vendor(roots: [root])
        let bare = try FieldDevice()
        let request = try bare.request(vendor.trustFile)
        await #expect(throws: ServiceError.self) { try await vendor.service.enroll(request) }

        // The certificate reaches into the next index, and padding follows it.
        let device = try FieldDevice()
        let half = intermediate.count / 2
        try leave(Array(intermediate[..<half]), at: 0x01C0_0100, device.tpm.connection)
        try leave(
            Array(intermediate[half...]) + [UInt8](repeating: 0xFF, count: 40), at: 0x01C0_0101,
            device.tpm.connection)
        #expect(try device.tpm.connection.endorsementIssuers(maximum: 8) == [intermediate])
        let outcome = try await vendor.service.enroll(device.request(vendor.trustFile))
        #expect(!outcome.isRepeated)
    }

    @Test(
        "a manifest is kept, and a certificate that somebody drops beside it is trusted by nobody")
    func manifest() async throws {
        let shared = try SoftwareTPMTemplate.shared().roots
        let second = try SoftwareTPMTemplate.second().roots
        func manifest(_ certificates: [[UInt8]]) throws -> [UInt8] {
            let entries = try certificates.map {
                let digest = Hex.encode(HashAlgorithm.sha256.digest(try der($0)))
                return #"{"name": "a maker", "source": "a letter", "sha256": "\#(digest)"}"#
            }
            return Array(
                #"{"version": 1, "certificates": [\#(entries.joined(separator: ", "))]}"#.utf8)
        }
        func trust(
            _ certificates: [[UInt8]], pinning: [[UInt8]]?, _ keys: VendorKeys
        ) throws -> Int {
            let folder = try TemporaryDirectory()
            for (number, bytes) in certificates.enumerated() {
                try Files.write(bytes, to: "\(folder.path)/\(number).pem", mode: 0o644)
            }
            if let pinning {
                try Files.write(
                    manifest(pinning), to: folder.path + "/manifest.json", mode: 0o644)
            }
            return try withExtendedLifetime(folder) { try keys.trustMakers(in: $0.path) }
        }
        let own = Array(shared.values)
        let vendor = try Vendor(roots: [])
        #expect(try trust(own, pinning: own, vendor.keys) == own.count)
        let device = try FieldDevice()
        #expect(try await !vendor.service.enroll(device.request(vendor.trustFile)).isRepeated)

        // Somebody drops a certificate into the vendor's directory.
        let stranger = try #require(second["root.pem"])
        let dropped = vendor.keys.makersDirectory + "/dropped.pem"
        try Files.write(stranger, to: dropped, mode: 0o644)
        #expect(throws: EndorsementError.self) { try vendor.keys.makers() }
        let other = try FieldDevice().request(vendor.trustFile)
        await #expect(throws: EndorsementError.self) { try await vendor.service.enroll(other) }
        try Files.remove(dropped)
        #expect(try vendor.keys.makers().count == own.count)

        // More are trusted with a manifest of their own, and not without.
        #expect(throws: EndorsementError.self) {
            try trust([stranger], pinning: nil, vendor.keys)
        }
        #expect(try vendor.keys.makers().count == own.count)
        #expect(try trust([stranger], pinning: [stranger], vendor.keys) == 1)
        #expect(try vendor.keys.makers().count == own.count + 1)

        // What was there before the first manifest must be named as well.
        let late = try Vendor(roots: own)
        #expect(throws: EndorsementError.self) {
            try trust([stranger], pinning: [stranger], late.keys)
        }
        let all = own + [stranger]
        #expect(try trust(all, pinning: all, late.keys) == all.count)
    }

    @Test("a chain of somebody else helps nobody, and what is no certificate is not sent")
    func other() async throws {
        let shared = try SoftwareTPMTemplate.shared().roots
        let second = try SoftwareTPMTemplate.second().roots
        let vendor = try Vendor(roots: [#require(shared["root.pem"])])
        let device = try FieldDevice()
        try leave(
            der(#require(second["intermediate.pem"])), at: 0x01C0_0100, device.tpm.connection)
        let request = try device.request(vendor.trustFile)
        await #expect(throws: ServiceError.self) { try await vendor.service.enroll(request) }

        let garbage = try FieldDevice()
        try leave([0x30, 0x82, 0xFF, 0xFF, 1, 2, 3], at: 0x01C0_0100, garbage.tpm.connection)
        #expect(try garbage.tpm.connection.endorsementIssuers(maximum: 8).isEmpty)
        #expect(try !garbage.request(vendor.trustFile).isEmpty)
    }
}
