import Dispatch
import HoldfastCrypto
import HoldfastGuard
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire
import Synchronization

/// What a question of an application costs, and a license that is verified for the first time.
public struct GuardBenchmarks {
    /// The names of the rows.
    public static let names = ["feature", "check", "verify-license"]

    /// How many calls one measurement makes: a clock is too coarse for one.
    private static let batch = 200_000

    /// Runs the rows with the given names.
    ///
    /// - Parameter parent: where there is no state directory: what is allowed does not change the cost.
    public static func run(_ names: [String], in parent: String, runs: Int) throws -> [BenchmarkRow]
    {
        guard !names.isEmpty else { return [] }
        let license = Guard(
            vendor: String(repeating: "00", count: 32), product: nil, state: parent + "/nowhere",
            tpm: "unix:/nowhere")
        defer { license.close() }
        return try names.map { name in
            switch name {
            case "feature": feature(license, runs: max(5, runs / 40))
            case "check": check(license, runs: max(5, runs / 40))
            default: try verify(runs: runs)
            }
        }
    }

    /// Asks many times on two cores at once.
    ///
    /// - Returns: nanoseconds for one call, on the slower of the two.
    private static func onTwoCores(_ ask: @Sendable () -> Bool) -> Double {
        let slowest = Mutex(0.0)
        DispatchQueue.concurrentPerform(iterations: 2) { _ in
            let cost = nanoseconds(ask)
            slowest.withLock { $0 = max($0, cost) }
        }
        return slowest.withLock { $0 }
    }

    /// Asks many times.
    private static func nanoseconds(_ ask: () -> Bool) -> Double {
        let start = monotonicMicroseconds()
        var sum = 0
        for _ in 0..<batch where ask() { sum += 1 }
        let time = monotonicMicroseconds() - start
        // What is not used is not computed either.
        return sum > batch ? .nan : time * 1000 / Double(batch)
    }

    /// Measures both in turn.
    private static func medians(
        _ runs: Int, _ ours: () -> Double, _ anchor: () -> Double
    ) -> (ours: Double, anchor: Double) {
        let pairs = (0..<runs).map { _ in (ours(), anchor()) }
        return (pairs.map(\.0).sorted()[runs / 2], pairs.map(\.1).sorted()[runs / 2])
    }

    private static func feature(_ license: Guard, runs: Int) -> BenchmarkRow {
        let feature = license.feature("scan")
        let atom = Atom()
        let cost = medians(runs) {
            onTwoCores { feature.isAllowed }
        } _: {
            onTwoCores { atom.value.load(ordering: .relaxed) }
        }
        return BenchmarkRow(
            name: "feature", unit: "ns", ours: cost.ours, anchors: ["atomic load": cost.anchor],
            ratio: cost.ours / cost.anchor, goal: "<= 50 ns on two cores at once",
            met: cost.ours <= 50, runs: runs)
    }

    private static func check(_ license: Guard, runs: Int) -> BenchmarkRow {
        let names = Mutex(["scan": true, "report": false])
        let cost = medians(runs) {
            nanoseconds { license.check("scan").allowed }
        } _: {
            nanoseconds { names.withLock { $0["scan"] } == true }
        }
        return BenchmarkRow(
            name: "check", unit: "ns", ours: cost.ours,
            anchors: ["dictionary look-up": cost.anchor],
            ratio: cost.ours / cost.anchor, goal: "<= 200 ns with the whole decision",
            met: cost.ours <= 200, runs: runs)
    }

    private static func verify(runs: Int) throws -> BenchmarkRow {
        let key = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        let device = TPMName(
            hash: .sha256, publicArea: KeyTemplate.attestationKey(vendorID: []).wireBytes)
        let license = License(
            id: LicenseID(random: .system), product: "scanner",
            entitlements: ["scan", "report", "export"].map { .init(name: $0, limit: nil) },
            terms: "standard", termsVersion: 1, licenseClass: .production,
            endsAt: 4_000_000_000, issuedAt: 1_800_000_000)
        let token = try license.signed(for: device, with: key)
        let issuers = [key.publicKey]
        let message = token.body
        let signature = key.sign(message)
        let measured = try Pair(
            ours: {
                for _ in 0..<20 {
                    _ = try License(verifying: token, issuers: issuers, attestationKey: device)
                }
            },
            anchor: {
                for _ in 0..<20 { try issuers[0].verify(signature, over: message) }
            }
        ).measure(runs: runs)
        let ours = 20 / measured.ours * 1e6
        let anchor = 20 / measured.anchor * 1e6
        return BenchmarkRow(
            name: "verify-license", unit: "/s", ours: ours.rounded(),
            anchors: ["libsodium Ed25519": anchor.rounded()], ratio: ours / anchor,
            goal: ">= 0.95 x the signature alone", met: ours / anchor >= 0.95, runs: runs)
    }
}

/// An atomic value that several threads see.
private final class Atom: Sendable {
    let value = Atomic(false)
}
