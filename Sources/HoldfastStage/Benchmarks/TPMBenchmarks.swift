import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// What the TPM layer costs over the commands that it sends.
///
/// The anchor is the very same commands as bytes over the very same transport: recorded once and
/// sent again, with one HMAC computed anew where the TPM's nonce demands it. The TPM does the same
/// work on both sides; the rest is ours.
public struct TPMBenchmarks {
    private let transport: RecordingTransport
    private let stage: LeaseStage
    private let connection: TPMConnection
    private let runs: Int

    /// - Parameters:
    ///   - connection: to a software TPM without a lease parent and counters of ours.
    ///   - transport: the connection's.
    private init(
        _ connection: TPMConnection, _ transport: RecordingTransport, runs: Int
    ) throws(TPMError) {
        self.transport = transport
        self.connection = connection
        self.runs = runs
        stage = try LeaseStage(connection, random: .system)
    }

    /// The names of the rows.
    public static let names = ["round-trip", "quote", "unseal-lease"]

    /// Runs the rows with the given names.
    private func rows(_ names: [String]) throws -> [BenchmarkRow] {
        var rows: [BenchmarkRow] = []
        for name in names {
            switch name {
            case "round-trip": rows.append(try roundTrip())
            case "quote": rows.append(try quote())
            case "unseal-lease": rows.append(try unsealLease())
            default: throw TPMError(.invalidRequest, "there is no row `\(name)`")
            }
        }
        return rows
    }

    private func roundTrip() throws -> BenchmarkRow {
        let command = GetRandomCommand(count: 16)
        let recorded = try record { try connection.run(command) }
        return try row(
            "round-trip", goal: 1.1, ours: { try connection.run(command) },
            anchor: { try RecordedSession.none.replay(recorded, on: transport) })
    }

    private func quote() throws -> BenchmarkRow {
        let selection = PCRSelection(.sha256, PCRIndex.firmware)
        let nonce = RandomSource.system.bytes(32)
        return try connection.withPrimary(
            KeyTemplate.attestationKey(vendorID: stage.vendorID), in: .endorsement
        ) { (key) throws(TPMError) in
            do {
                let recorded = try record {
                    _ = try connection.quote(selection, by: key, nonce: nonce)
                }
                return try row(
                    "quote", goal: 1.1,
                    ours: { _ = try connection.quote(selection, by: key, nonce: nonce) },
                    anchor: { try RecordedSession.none.replay(recorded, on: transport) })
            } catch let error as TPMError {
                throw error
            } catch {
                throw TPMError(.invalidRequest, "\(error)")
            }
        }
    }

    private func unsealLease() throws -> BenchmarkRow {
        let reference = RandomSource.system.bytes(32)
        let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
        let approval = try stage.approvePresent(selection, policyRef: reference)
        let policy = try stage.leasePolicy(
            policyRef: reference, milliseconds: 86_400_000, moreResets: 1
        ).policy
        let secret = SecretBytes(copying: RandomSource.system.bytes(32))
        let lease = try stage.seal(secret, under: policy, random: .system)

        // Salt and nonce of the recording are known, so that its last HMAC can be made again.
        let fixed = RandomSource { count in [UInt8](repeating: 0x42, count: count) }
        let salt = try SharedSeed(for: stage.parent.publicArea, purpose: .session, random: fixed)
        let recording = TPMConnection(transport, random: fixed)
        stage.connection = recording
        let recorded = try record { _ = try stage.open(lease, approvals: [approval]) }
        stage.connection = connection
        let session = RecordedSession(
            salt: salt.seed, nonceCaller: fixed.bytes(16),
            objectName: try PublicArea(wireBytes: lease.blob.publicArea).name.bytes)
        return try row(
            "unseal-lease", goal: 1.5,
            ours: { _ = try stage.open(lease, approvals: [approval]) },
            anchor: { try session.replay(recorded, on: transport) })
    }

    // MARK: Recording and replaying

    private func record(_ work: () throws -> Void) throws -> [[UInt8]] {
        transport.isRecording = true
        try work()
        return transport.take()
    }

    private func row(
        _ name: String, goal: Double, ours: () throws -> Void, anchor: () throws -> Void
    ) throws -> BenchmarkRow {
        try withoutActuallyEscaping(ours) { ours in
            try withoutActuallyEscaping(anchor) { anchor in
                let medians = try Pair(ours: ours, anchor: anchor).measure(runs: runs)
                let ratio = medians.ours / medians.anchor
                return BenchmarkRow(
                    name: name, unit: "us", ours: medians.ours,
                    anchors: ["the same commands sent raw": medians.anchor], ratio: ratio,
                    goal: "<= \(goal) x raw", met: ratio <= goal, runs: runs)
            }
        }
    }
}

extension TPMBenchmarks {
    /// Makes a software TPM, measures on it, and removes it.
    public static func onSoftwareTPM(names: [String], runs: Int) throws -> [BenchmarkRow] {
        var recording: RecordingTransport?
        let tpm = try TransientTPM(.documented) { transport in
            let made = RecordingTransport(transport)
            recording = made
            return made
        }
        guard let recording else { throw TPMError(.invalidRequest, "no transport was made") }
        return try withExtendedLifetime(tpm) {
            try TPMBenchmarks(tpm.connection, recording, runs: runs).rows(names)
        }
    }
}
