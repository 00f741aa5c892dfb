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
import Synchronization

/// A directory that goes away with its owner.
final class TemporaryDirectory {
    let path = "/tmp/hf-test-" + String(UInt64.random(in: 0 ... .max), radix: 16)
    init() throws { try Files.makePrivateDirectory(path) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A clock that a test sets.
final class TestClock: Sendable {
    let seconds: Mutex<UInt64> = Mutex(1_800_000_000)
    var now: UInt64 { seconds.withLock { $0 } }
    func advance(_ more: UInt64) { seconds.withLock { $0 += more } }
}

/// A vendor with keys, a database and a clock of his own.
final class Vendor {
    let directory: TemporaryDirectory
    let clock = TestClock()
    let keys: VendorKeys
    private(set) var store: SQLiteStore
    private(set) var service: VendorService
    let trustFile: [UInt8]

    static let swtpm = TrustStatement.EndorsementKeyRule(
        manufacturer: "id:00001014", model: "swtpm", kind: "ecc-p384")

    /// - Parameter roots: certificates of TPM makers; those of the shared software TPM by default.
    init(
        rules: [TrustStatement.EndorsementKeyRule] = [Vendor.swtpm], roots: [[UInt8]]? = nil,
        selection: String = "sha256:7"
    ) throws {
        directory = try TemporaryDirectory()
        keys = VendorKeys(directory: directory.path)
        _ = try keys.create(
            .init(endorsementKeys: rules, urls: [], selection: selection), random: .system)
        let makers = try TemporaryDirectory()
        let all = try roots ?? Array(SoftwareTPMTemplate.shared().roots.values)
        for (number, bytes) in all.enumerated() {
            try Files.write(bytes, to: "\(makers.path)/\(number).pem", mode: 0o644)
        }
        if !all.isEmpty { _ = try keys.trustMakers(in: makers.path) }
        store = try SQLiteStore(path: directory.path + "/records.sqlite")
        let clock = clock
        service = try VendorService(
            keys: keys, store: store, random: .system, now: { clock.now })
        trustFile = try Files.read(keys.trustFile, maximum: 1 << 20)
    }

    /// Starts the server anew, with the keys and the trust file as they are now.
    func restart() throws {
        let clock = clock
        service = try VendorService(
            keys: keys, store: store, random: .system, now: { clock.now })
    }

    /// Copies the records.
    func backUp() throws -> String {
        let path = directory.path + "/backup-" + String(UInt64.random(in: 0 ... .max), radix: 36)
        try store.backUp(to: path)
        return path
    }

    /// Loses the records and goes on from a backup.
    ///
    /// - Parameter isTold: as `restore` does it; without, the file was just copied back.
    func restore(_ backup: String, isTold: Bool = true) throws {
        let path = backup + ".restored"
        try SQLiteStore.restore(from: backup, to: path, keeping: path + ".kept")
        let clock = clock
        let known = try service.incarnation()
        store = try SQLiteStore(path: path)
        service = try VendorService(
            keys: keys, store: store, random: .system, now: { clock.now })
        if isTold { _ = try service.beginRestored(above: known) }
    }

    /// What `holdfast sync` does, without a network in between.
    @discardableResult
    func sync(_ device: FieldDevice) throws -> BundleOutcome {
        for _ in 0..<2 {
            var outcome: BundleOutcome
            do { outcome = try service.process(device.evidence()) } catch ServiceError.recall {
                outcome = try service.process(device.evidence(recollecting: true))
            }
            let reply = outcome.reply ?? []
            _ = try device.with { try $0.apply(reply: reply) }
            if outcome.outcome != .stale { return outcome }
        }
        throw ServiceError.stale
    }

    /// Terms of class test, as an operator writes them.
    static func terms(
        version: Int = 1, lease: String = "600s", renew: String = "300s", grace: String = "450s",
        soft: String = "400s", degraded: String = "600s", resets: Int = 5, restarts: Int = 0,
        notice: String? = nil, licenseClass: String = "test", overage: String? = nil
    ) throws -> TermsFile {
        let more = [("notice", notice), ("overage", overage)].compactMap { name, value in
            value.map { ", \"\(name)\": \"\($0)\"" }
        }.joined()
        return try TermsFile(
            Array(
                """
                {"id": "standard", "version": \(version), "class": "\(licenseClass)", "lease": "\(lease)",
                 "renewAfter": "\(renew)", "graceAfter": "\(grace)", "softAfter": "\(soft)",
                 "degraded": "\(degraded)", "resets": \(resets), "restarts": \(restarts),
                 "evidenceValidity": "1h", "nonceLifetime": "2h",
                 "defaultEnforcement": "strict",
                 "enforcement": {"preview": "soft", "hint": "advisory"},
                 "degradedEntitlements": ["preview"]\(more)}
                """.utf8))
    }
}

/// A device in the field: a software TPM and a state directory.
final class FieldDevice {
    let tpm: TransientTPM
    let directory: TemporaryDirectory
    var path: String { directory.path + "/state" }
    /// Where it keeps what a policy may ask for.
    var sources = MeasurementSources.kernel

    /// - Parameter template: another TPM than that of all others.
    init(
        _ boot: SoftwareBoot = .documented, of template: SoftwareTPMTemplate? = nil,
        interposing: @escaping (any TPMTransport) -> any TPMTransport = { $0 }
    ) throws {
        tpm = try TransientTPM(boot, of: template, interposing: interposing)
        directory = try TemporaryDirectory()
    }

    func request(_ trustFile: [UInt8]) throws -> [UInt8] {
        try Enrollment(StateDirectory(path), tpm: tpm.connection, random: .system)
            .makeRequest(trustFile: trustFile).encoded
    }

    /// Gives up what is left of an earlier enrollment.
    func startOver(discarding: Bool = false) throws -> String? {
        try Enrollment(StateDirectory(path), tpm: tpm.connection, random: .system)
            .startOver(discarding: discarding)
    }

    func activate(_ response: [UInt8]) throws {
        _ = try Enrollment(StateDirectory(path), tpm: tpm.connection, random: .system)
            .activate(response: response)
    }

    func with<R>(_ body: (EnrolledDevice) throws -> R) throws -> R {
        defer { tpm.connection.endTransaction() }
        var device = try EnrolledDevice(
            StateDirectory(path), tpm: tpm.connection, random: .system)
        device.sources = sources
        return try body(device)
    }

    func evidence(recollecting: Bool = false) throws -> [UInt8] {
        try with { try $0.makeEvidence(recollecting: recollecting).encoded }
    }

    func meter(_ name: String, _ quantity: UInt32 = 1) throws {
        try with { device in
            try device.openLedger().append(
                [.init(meter: name, termsVersion: 1, quantity: quantity)], day: 0)
        }
    }
}

extension Vendor {
    /// Enrolls a device as far as its record.
    func enroll(_ device: FieldDevice) async throws -> String {
        let outcome = try await service.enroll(device.request(trustFile))
        try device.activate(outcome.response)
        return outcome.device
    }

    /// Enrolls a device and admits it, with an approval of its boot state.
    func admit(_ device: FieldDevice, model: String? = "gateway") async throws -> String {
        let id = try await enroll(device)
        _ = try service.process(device.evidence())
        _ = try service.approve(device: id, model: model)
        _ = try service.approve(
            .device(id), product: "scanner", values: nil, source: nil, generation: nil, note: "")
        return id
    }

    /// A vendor with a device that has a license.
    static func withLicense() async throws -> (vendor: Vendor, device: FieldDevice, id: String) {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let issued = try vendor.license(id, ["scan"])
        _ = try device.with { try $0.apply(reply: issued.reply) }
        return (vendor, device, id)
    }

    /// Issues a license; the terms must be there.
    func license(
        _ id: String, _ entitlements: [String] = ["scan", "preview", "hint"],
        endsIn: UInt64 = 86_400
    ) throws -> VendorService.Issued {
        try service.issue(
            .init(
                device: id, product: "scanner",
                entitlements: entitlements.map { .init(name: $0, limit: nil) },
                terms: "standard", endsAt: clock.now + endsIn))
    }
}

/// `TPM2_ClockSet`: what any local user can do, forward.
private struct ClockSetCommand: TPMCommand {
    typealias Response = Void
    static let code = CommandCode.clockSet
    static let authorizationCount = 1
    let clock: UInt64

    var handles: [EntityReference] { [EntityReference(.owner)] }
    func encodeParameters(into writer: inout WireWriter) { writer.uint64(clock) }
}

extension TPMConnection {
    func setClock(_ clock: UInt64) throws(TPMError) {
        try run(ClockSetCommand(clock: clock), [.emptyAuth])
    }
}
