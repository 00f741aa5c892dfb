import Crypto
import CryptoExtras
import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastFiles
import HoldfastTPMWire

/// What the verifier costs over the signature alone: every check of a quote, and an event log.
///
/// Keys are parsed once, as a server does it. `openssl speed` runs before and after, in the same run:
/// peers that cannot be installed everywhere are known as a ratio to it.
public enum VerifierBenchmarks {
    /// The names of the rows.
    public static let names = ["verify-quote", "verify-quote-rsa", "event-log"]

    /// Runs the rows with the given names.
    ///
    /// - Parameter directory: where a directory for files is made, and removed afterwards.
    public static func run(
        _ names: [String], in directory: String, runs: Int
    ) throws -> [BenchmarkRow] {
        try names.map { name in
            switch name {
            case "verify-quote": try elliptic(runs: runs)
            case "verify-quote-rsa": try rsa(runs: runs)
            default: try eventLog(in: directory, runs: runs)
            }
        }
    }

    // MARK: Quotes

    /// A quote over PCR 0 to 7 with everything that it is compared with.
    private struct Made {
        let message: [UInt8]
        let values: PCRValues
        let nonce: [UInt8]
        let selection = PCRSelection(.sha256, PCRIndex.firmware)

        init(_ area: PublicArea) {
            var values = PCRValues()
            for index in PCRIndex.firmware {
                values[.sha256, index] = RandomSource.system.bytes(32)
            }
            self.values = values
            nonce = RandomSource.system.bytes(32)
            message =
                Attestation(
                    qualifiedSigner: area.name.qualified(
                        below: TPMName(handle: .endorsement), hash: .sha256),
                    extraData: nonce,
                    clockInfo: ClockInfo(clock: 1, resetCount: 2, restartCount: 3, safe: true),
                    firmwareVersion: 4,
                    attested: .quote(
                        selection: selection,
                        pcrDigest: values.digest(of: selection, hash: .sha256) ?? [])
                ).wireBytes
        }

        /// - Throws: when the quote is not accepted: only full verdicts are measured.
        func verify(_ signature: [UInt8], _ key: QuoteKey, _ signer: TPMName) throws {
            let appraisal = QuoteAppraisal(
                UnverifiedQuote(attestation: message, signature: signature, values: values),
                expecting: QuoteExpectation(
                    key: key, nonce: nonce, minimumNonceSize: 16, selection: selection,
                    qualifiedSigner: signer))
            guard appraisal.verified != nil else { throw BenchmarkFailure() }
        }
    }

    private static func signer(_ area: PublicArea) -> TPMName {
        area.name.qualified(below: TPMName(handle: .endorsement), hash: .sha256)
    }

    private static func elliptic(runs: Int) throws -> BenchmarkRow {
        let raw = P256.Signing.PrivateKey()
        let point = [UInt8](raw.publicKey.rawRepresentation)
        var area = KeyTemplate.attestationKey(vendorID: [])
        area.kind = .ecc(
            symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: Array(point[..<32]),
            y: Array(point[32...]))
        let made = Made(area)
        let digest = SHA256.hash(data: made.message)
        let signed = try raw.signature(for: digest)
        let bytes = [UInt8](signed.rawRepresentation)
        let signature = Signature.ecdsa(
            hash: .sha256, r: Array(bytes[..<32]), s: Array(bytes[32...])
        ).wireBytes
        let key = QuoteKey.publicArea(area)
        let name = signer(area)
        let before = try opensslVerifications("ecdsap256")
        let medians = try Pair(
            ours: { try made.verify(signature, key, name) },
            anchor: {
                guard
                    raw.publicKey.isValidSignature(signed, for: SHA256.hash(data: made.message))
                else { throw BenchmarkFailure() }
            }
        ).measure(runs: runs * 10)
        let openssl = (before + (try opensslVerifications("ecdsap256"))) / 2
        let ours = 1e6 / medians.ours
        let alone = 1e6 / medians.anchor
        return BenchmarkRow(
            name: "verify-quote", unit: "/s", ours: ours.rounded(),
            anchors: ["openssl speed": openssl.rounded(), "swift-crypto": alone.rounded()],
            ratio: ours / openssl,
            goal: ">= 1.10 openssl speed, >= 0.95 swift-crypto (\(percent(ours / alone)))",
            met: ours >= 1.1 * openssl && ours >= 0.95 * alone, runs: runs * 10)
    }

    private static func rsa(runs: Int) throws -> BenchmarkRow {
        let raw = try _RSA.Signing.PrivateKey(keySize: .bits2048)
        let modulus = [UInt8](try raw.publicKey.getKeyPrimitives().modulus)
        var area = KeyTemplate.attestationKey(vendorID: [])
        area.kind = .rsa(
            symmetric: .none, scheme: .rsassa(.sha256), bits: 2048, exponent: 0, modulus: modulus)
        let made = Made(area)
        let signed = try raw.signature(
            for: SHA256.hash(data: made.message), padding: .insecurePKCS1v1_5)
        let signature = Signature.rsassa(
            hash: .sha256, signature: [UInt8](signed.rawRepresentation)
        ).wireBytes
        let key = QuoteKey.publicArea(area)
        let name = signer(area)
        let publicKey = raw.publicKey
        let before = try opensslVerifications("rsa2048")
        let medians = try Pair(
            ours: { try made.verify(signature, key, name) },
            anchor: {
                guard
                    publicKey.isValidSignature(
                        signed, for: SHA256.hash(data: made.message),
                        padding: .insecurePKCS1v1_5)
                else { throw BenchmarkFailure() }
            }
        ).measure(runs: runs * 10)
        let openssl = (before + (try opensslVerifications("rsa2048"))) / 2
        let ours = 1e6 / medians.ours
        return BenchmarkRow(
            name: "verify-quote-rsa", unit: "/s", ours: ours.rounded(),
            anchors: [
                "openssl speed": openssl.rounded(),
                "swift-crypto": (1e6 / medians.anchor).rounded(),
                "go-attestation, as 0.535 of openssl speed": (0.535 * openssl).rounded(),
            ],
            ratio: ours / openssl, goal: ">= 0.70 openssl speed", met: ours >= 0.7 * openssl,
            runs: runs * 10)
    }

    private static func percent(_ ratio: Double) -> String {
        "\((ratio * 1000).rounded() / 1000)"
    }

    /// Verifications a second of `openssl speed`, on one core.
    private static func opensslVerifications(_ algorithm: String) throws -> Double {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/openssl")
        process.arguments = ["speed", "-seconds", "2", "-mr", algorithm]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        // `+F2:NUMBER:BITS:SIGN:VERIFY` for RSA, `+F4:…` for ECDSA: seconds for one, or a rate.
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n")
        where line.hasPrefix("+F2") || line.hasPrefix("+F4") {
            guard let last = line.split(separator: ":").last, let value = Double(last) else {
                continue
            }
            return value < 1 ? 1 / value : value
        }
        throw BenchmarkFailure()
    }

    // MARK: Event logs

    /// A log as firmware writes it: 38 kB in two banks.
    static func typicalLog() -> [UInt8] {
        var log = EventLogWriter(algorithms: [.sha1, .sha256])
        let random = RandomSource.system
        var number = 0
        log.measure(Array("v1".utf8), as: .crtmVersion, into: PCRIndex.all[0])
        while log.bytes.count < 36_000 {
            let pcr = PCRIndex.all[[0, 1, 2, 4, 5, 7, 8, 9][number % 8]]
            // Most events are short; a database of Secure Boot is not.
            let size = number % 16 == 5 ? 2600 : 60 + number % 7 * 20
            log.measure(random.bytes(size), as: .efiVariableDriverConfiguration, into: pcr)
            number += 1
        }
        for pcr in PCRIndex.firmware { log.measure([0, 0, 0, 0], as: .separator, into: pcr) }
        return log.bytes
    }

    private static func eventLog(in parent: String, runs: Int) throws -> BenchmarkRow {
        let bytes = typicalLog()
        let path = parent + "/holdfast-bench-" + Hex.encode(RandomSource.system.bytes(8))
        try Files.write(bytes, to: path, mode: 0o600)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var ours: [Double] = []
        var tool: [Double] = []
        for run in 0..<max(runs, 50) {
            let start = monotonicMicroseconds()
            let values = try EventLog(parsing: bytes).replay()
            ours.append(monotonicMicroseconds() - start)
            guard values.count == 2 else { throw BenchmarkFailure() }
            guard run % 8 == 0 else { continue }
            let process = Process()
            process.executableURL = URL(filePath: "/usr/bin/tpm2_eventlog")
            process.arguments = [path]
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            let began = monotonicMicroseconds()
            try process.run()
            process.waitUntilExit()
            tool.append(monotonicMicroseconds() - began)
        }
        let median = ours.sorted()[ours.count / 2]
        let process = tool.sorted()[tool.count / 2]
        return BenchmarkRow(
            name: "event-log", unit: "us", ours: median, anchors: ["tpm2_eventlog": process],
            ratio: process / median, goal: "<= 70 us for \(bytes.count / 1000) kB",
            met: median <= 70, runs: ours.count)
    }
}
