import Dispatch
import Foundation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Synchronization

/// Something in the life of a fleet that should not have happened.
struct FleetFailure: Error, CustomStringConvertible {
    let description: String
}

/// Many devices, each with a TPM of its own, through the whole life of a lease at one vendor.
///
/// Every TPM is manufactured, with endorsement key certificates, and all of them run at once. The
/// steps: enrollment, admission, approval, license, opening, metering, settlement and renewal,
/// orderly reboot, a boot that nobody approved, the way back, revocation for every second device,
/// and retirement.
public enum Fleet {
    /// How long it took, in seconds.
    public struct Duration: Sendable {
        /// The whole life, manufacture included.
        public let whole: Double
        /// The TPMs alone: made and started.
        public let manufacture: Double
    }

    /// How many steps run at the same time; more TPMs than these wait for theirs.
    private static let workers = 8

    /// Lives a fleet's life.
    ///
    /// - Parameters:
    ///   - devices: how many TPMs run at once.
    ///   - parent: a directory for everything, which is removed afterwards.
    /// - Throws: at the first step that has another outcome than it should.
    public static func live(devices: Int, in parent: String) throws -> Duration {
        let start = monotonicMicroseconds()
        let directory = parent + "/hf-fleet-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.makePrivateDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let members = try parallel(devices) { number in
            try Member(number, in: directory, authority: directory + "/ca-\(number % workers)")
        }
        let made = monotonicMicroseconds()
        let vendor = try FleetVendor(
            directory: directory, authorities: min(workers, devices))
        _ = try parallel(members.count) { try members[$0].live(at: vendor) }
        let reports = try vendor.service.devices(nil)
        guard reports.count == devices else {
            throw FleetFailure(description: "\(reports.count) records of \(devices) devices")
        }
        let end = monotonicMicroseconds()
        return Duration(whole: (end - start) / 1e6, manufacture: (made - start) / 1e6)
    }

    private static func parallel<R: Sendable>(
        _ count: Int, _ body: @escaping @Sendable (Int) throws -> R
    ) throws -> [R] {
        let next = Mutex(0)
        let results = Mutex<[Int: Result<R, any Error>]>([:])
        // Threads of its own: each waits for what runs on the pool that all of a process share.
        let group = DispatchGroup()
        for _ in 0..<min(workers, count) {
            group.enter()
            Thread {
                defer { group.leave() }
                while true {
                    let number = next.withLock { value in
                        defer { value += 1 }
                        return value
                    }
                    guard number < count else { return }
                    let result = Result { try body(number) }
                    results.withLock { $0[number] = result }
                }
            }.start()
        }
        group.wait()
        let all = results.withLock { $0 }
        return try (0..<count).map { number in
            guard let result = all[number] else {
                throw FleetFailure(description: "device \(number) had no turn")
            }
            return try result.get()
        }
    }
}

/// The vendor of a fleet.
private struct FleetVendor: Sendable {
    let service: VendorService
    let trustFile: [UInt8]

    init(directory: String, authorities: Int) throws {
        let keys = VendorKeys(directory: directory + "/vendor")
        _ = try keys.create(
            .init(
                endorsementKeys: [
                    .init(manufacturer: "id:00001014", model: "swtpm", kind: "ecc-p384")
                ], urls: [], selection: "sha256:7"), random: .system)
        for number in 0..<authorities {
            _ = try keys.trustMakers(in: directory + "/roots-\(number)")
        }
        let store = try SQLiteStore(path: directory + "/records.sqlite")
        service = try VendorService(
            keys: keys, store: store, random: .system, now: { 1_800_000_000 })
        trustFile = try Files.read(keys.trustFile, maximum: 1 << 20)
        _ = try service.apply(
            TermsFile(
                Array(
                    """
                    {"id": "standard", "version": 1, "class": "test", "lease": "45d",
                     "renewAfter": "15d", "graceAfter": "30d", "softAfter": "21d",
                     "degraded": "30d", "resets": 200, "restarts": 0, "evidenceValidity": "7d",
                     "nonceLifetime": "180d", "defaultEnforcement": "strict", "enforcement": {},
                     "degradedEntitlements": []}
                    """.utf8)))
    }

    /// The asynchronous step of the service, for a thread that may wait.
    func enroll(_ request: [UInt8]) throws -> EnrollmentOutcome {
        let done = DispatchSemaphore(value: 0)
        let service = service
        let box = OutcomeBox()
        Task.detached {
            do {
                let made = try await service.enroll(request)
                box.value.withLock { $0 = .success(made) }
            } catch {
                box.value.withLock { $0 = .failure(error) }
            }
            done.signal()
        }
        done.wait()
        guard let result = box.value.withLock({ $0 }) else {
            throw FleetFailure(description: "the enrollment has no outcome")
        }
        return try result.get()
    }

    private final class OutcomeBox: Sendable {
        let value = Mutex<Result<EnrollmentOutcome, any Error>?>(nil)
    }
}

/// One device of a fleet: a TPM that runs from the beginning to the end.
///
/// One worker at a time has it; its methods are not called from two.
private final class Member: @unchecked Sendable {
    private let number: Int
    private let path: String
    private let boot = SoftwareBoot([.init(Array("good".utf8), into: PCRIndex.all[7])])
    private var tpm: TransientTPM
    private let template: SoftwareTPMTemplate

    init(_ number: Int, in directory: String, authority: String) throws {
        self.number = number
        path = directory + "/device-\(number)"
        template = try SoftwareTPMTemplate.manufactured(
            ca: authority,
            roots: directory + "/roots-" + (authority.split(separator: "-").last ?? "0"))
        tpm = try TransientTPM(boot, of: template)
    }

    private func with<R>(_ body: (EnrolledDevice) throws -> R) throws -> R {
        defer { tpm.connection.endTransaction() }
        return try body(
            EnrolledDevice(StateDirectory(path), tpm: tpm.connection, random: .system))
    }

    private func demand(_ isRight: Bool, _ what: String) throws {
        guard isRight else { throw FleetFailure(description: "device \(number): \(what)") }
    }

    private func isAllowed() throws -> Bool { try with { try $0.decide("scan").allowed } }

    private func sync(_ vendor: FleetVendor) throws -> BundleOutcome {
        let outcome = try vendor.service.process(
            with { try $0.makeEvidence(recollecting: false).encoded })
        _ = try with { try $0.apply(reply: outcome.reply ?? []) }
        return outcome
    }

    func live(at vendor: FleetVendor) throws {
        let request = try Enrollment(StateDirectory(path), tpm: tpm.connection, random: .system)
            .makeRequest(trustFile: vendor.trustFile).encoded
        let outcome = try vendor.enroll(request)
        _ = try Enrollment(StateDirectory(path), tpm: tpm.connection, random: .system)
            .activate(response: outcome.response)
        let id = outcome.device
        _ = try vendor.service.process(with { try $0.makeEvidence(recollecting: false).encoded })
        _ = try vendor.service.approve(device: id, model: "gateway")
        _ = try vendor.service.approve(
            .device(id), product: "scanner", values: nil, source: nil, generation: nil, note: "")
        let issued = try vendor.service.issue(
            .init(
                device: id, product: "scanner", entitlements: [.init(name: "scan", limit: nil)],
                terms: "standard", endsAt: 1_900_000_000))
        _ = try with { try $0.apply(reply: issued.reply) }
        try demand(isAllowed(), "a fresh license does not open")

        for _ in 0..<3 {
            try with { device in
                try device.openLedger().append(
                    [.init(meter: "scans", termsVersion: 1, quantity: 2)], day: 0)
            }
        }
        try demand(sync(vendor).outcome == .accepted, "the evidence was not accepted")
        try demand(isAllowed(), "a renewed license does not open")
        try tpm.reboot()
        try demand(isAllowed(), "the license does not open after a reboot")
        try tpm.cut()
        try demand(isAllowed(), "the license does not open after a power cut")

        try tpm.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        try demand(!isAllowed(), "the license opens in a state that nobody approved")
        try tpm.reboot()
        try demand(isAllowed(), "the license does not open in the former state")

        if number % 2 == 0 {
            _ = try vendor.service.revoke(license: issued.license.description)
            _ = try sync(vendor)
            try demand(!isAllowed(), "a revoked license opens")
        }
        let proof = try with { try $0.retire(discarding: true).encoded }
        _ = try vendor.service.process(proof)
        try demand(!isAllowed(), "a retired device is allowed to go on")
        try demand(tpm.connection.occupiedSlots == 0, "a slot of the TPM was not given back")
    }
}

/// The row of the benchmark.
public enum FleetBenchmarks {
    /// The names of the rows.
    public static let names = ["fleet-200"]
    private static let devices = 200
    private static let goal = 300.0

    /// Runs the rows that are wanted.
    public static func run(_ names: [String], in parent: String) throws -> [BenchmarkRow] {
        try names.map { name in
            let duration = try Fleet.live(devices: devices, in: parent)
            return BenchmarkRow(
                name: name, unit: "s", ours: duration.whole,
                anchors: ["making and starting the TPMs alone": duration.manufacture],
                ratio: duration.whole / duration.manufacture,
                goal: "<= 300 s for \(devices) TPMs", met: duration.whole <= goal, runs: 1)
        }
    }
}
