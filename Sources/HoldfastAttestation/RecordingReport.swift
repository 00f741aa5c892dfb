public import FoundationEssentials
import HoldfastCrypto
import HoldfastTPMWire
import X509

/// A file of a folder that is judged.
public struct RecordedFile: Sendable {
    /// Below the folder, for example `logs/boot.bin`.
    public let path: String
    /// Reads it: `nil` when it is too large or cannot be read.
    let read: @Sendable () -> [UInt8]?

    /// Takes a file that is read when it is needed, so that no folder has to fit into memory.
    ///
    /// - Parameter read: `nil` when it is too large or cannot be read; called again for what others are
    ///   compared with.
    public init(path: String, read: @escaping @Sendable () -> [UInt8]?) {
        self.path = path
        self.read = read
    }

    /// The largest file that is judged, in bytes.
    public static let maximumSize = 64 << 20
    /// The largest file of certificates.
    static let maximumCertificates = 1 << 20
}

/// What became of a folder of event logs, measurement lists and certificates.
///
/// What a file is, its content says, and its name only when the content says nothing. Every
/// authority in the folder is trusted for the endorsement key certificates in it. PCR values in
/// `NAME.yaml`, as `tpm2_pcrread` and `tpm2_eventlog` print them, must be those that the log `NAME`,
/// or `NAME.bin`, replays to; of a machine that ran on, PCR 0 to 7.
public struct RecordingReport: Sendable, Hashable, Codable {
    /// One file.
    public struct Row: Sendable, Hashable, Codable {
        public let file: String
        /// `event-log`, `ima-list`, `systemd-log`, `ek-certificate`, `authority`, `pcr-values`, or
        /// `unknown`.
        public let kind: String
        /// `valid`, `refused`, or `contradicted` by values that lie beside it.
        public let verdict: String
        /// Why it is refused, or what is remarkable about it.
        public let reason: String
        /// The banks that the log explains whole.
        public let banks: [String]
    }

    /// In the order of the files.
    public let rows: [Row]

    /// Logs that replay to other values than lie beside them.
    public var contradictions: Int { rows.count { $0.verdict == "contradicted" } }
    /// Files that are not what they should be.
    public var refused: Int { rows.count { $0.verdict == "refused" } }

    /// Judges files.
    ///
    /// - Parameter date: at which certificates must be valid.
    public init(_ files: [RecordedFile], at date: Date) async {
        let judge = RecordingJudge(files, date)
        var rows: [Row] = []
        for file in files { rows.append(await judge.row(file)) }
        self.rows = rows
    }

    /// A table, and a line that sums it up.
    public var text: String {
        let cells =
            [["file", "kind", "verdict", "banks", "reason"]]
            + rows.map { row in
                [
                    row.file, row.kind, row.verdict,
                    row.banks.isEmpty ? "-" : row.banks.joined(separator: ","), row.reason,
                ]
            }
        let widths = (0..<4).map { column in cells.map { $0[column].count }.max() ?? 0 }
        let lines = cells.map { cell in
            let padded = zip(cell, widths).map { text, width in
                text + String(repeating: " ", count: width - text.count)
            }
            return (padded.joined(separator: "  ") + "  " + cell[4]).trimmingEnd
        }
        let sum =
            "\(rows.count) files: \(rows.count - refused - contradictions) valid, \(refused) "
            + "refused, \(contradictions) contradicted"
        return (lines + [sum]).joined(separator: "\n")
    }
}

extension String {
    fileprivate var trimmingEnd: String {
        var text = self
        while text.last == " " { text.removeLast() }
        return text
    }
}

/// Knows the other files of the folder while one is judged.
private struct RecordingJudge {
    private let date: Date
    private let verifier: EndorsementPathVerifier?
    private let files: [String: RecordedFile]

    init(_ files: [RecordedFile], _ date: Date) {
        self.date = date
        self.files = Dictionary(files.map { ($0.path, $0) }, uniquingKeysWith: { one, _ in one })
        let authorities = files.compactMap { file in
            Self.certificates(file.read())?.allSatisfy(Self.isAuthority) == true ? file.read() : nil
        }
        verifier = try? EndorsementPathVerifier(roots: authorities, intermediates: [])
    }

    private static func certificates(_ bytes: [UInt8]?) -> [ReadCertificate]? {
        guard let bytes, bytes.count <= RecordedFile.maximumCertificates else { return nil }
        return ReadCertificate.all(in: bytes)
    }

    /// A root of version 1 has no extension to say so.
    private static func isAuthority(_ read: ReadCertificate) -> Bool {
        let certificate = read.certificate
        if case .isCertificateAuthority? = try? certificate.extensions.basicConstraints {
            return true
        }
        return certificate.version == .v1 && certificate.subject == certificate.issuer
    }

    func row(_ file: RecordedFile) async -> RecordingReport.Row {
        func row(
            _ kind: String, _ reason: String?, _ remark: String = "", banks: [String] = [],
            verdict: String = "refused"
        ) -> RecordingReport.Row {
            RecordingReport.Row(
                file: printable(file.path.utf8), kind: kind,
                verdict: reason == nil ? "valid" : verdict, reason: reason ?? remark, banks: banks)
        }
        let claimed = Self.kind(named: file.path)
        guard let bytes = file.read() else {
            return row(claimed, "it is too large, or cannot be read")
        }
        if file.path.hasSuffix(".yaml") || file.path.hasSuffix(".yml") {
            guard RecordedValues(bytes) != nil else {
                return row("pcr-values", "it holds no PCR values that can be read")
            }
            let stem = Self.stem(file.path)
            let log = files.keys.sorted().first { path in
                path != file.path && (path == stem || Self.stem(path) == stem)
                    && !path.hasSuffix(".yaml")
            }
            return row(
                "pcr-values", nil,
                log.map { "compared with \(printable($0.utf8))" } ?? "no log lies beside it")
        }
        if let certificates = Self.certificates(bytes) {
            let (kind, reason, remark) = await judged(certificates, bytes)
            return row(kind, reason, remark)
        }
        let values = [file.path, Self.stem(file.path)].compactMap { files[$0 + ".yaml"] }
            .first?.read().flatMap(RecordedValues.init)
        if bytes.first == 0x1E || claimed == "systemd-log" {
            let log = try? UserspaceLog(parsing: bytes)
            return row(
                "systemd-log", log == nil ? "it cannot be read whole" : nil,
                "\(log?.records.count ?? 0) records")
        }
        var recognizer = IMAListParser()
        recognizer.append([UInt8](bytes.prefix(1 << 20)))
        if bytes.count <= 1 << 20 { recognizer.end() }
        if (try? recognizer.next()) != nil || recognizer.form != nil || claimed == "ima-list" {
            var appraiser = IMAAppraiser(
                explaining: values?.measured, policy: nil, continuing: nil, boot: nil)
            appraiser.append(bytes)
            let appraisal = appraiser.finish()
            return row(
                "ima-list", Self.reasons(appraisal.refusals),
                "\(appraisal.facts.entries) entries, \(appraisal.facts.form ?? "unknown")"
                    + (appraisal.facts.violations > 0
                        ? ", \(appraisal.facts.violations) violations" : ""),
                banks: appraisal.facts.banks.keys.sorted())
        }
        var appraisal = EventLogAppraisal(
            bytes, userspace: nil, explaining: nil, revocations: nil)
        let compared = values?.explained(by: appraisal)
        if let compared, !compared.values.isEmpty, appraisal.refusals.isEmpty {
            appraisal = EventLogAppraisal(
                bytes, userspace: nil, explaining: compared, revocations: nil)
        }
        guard let facts = appraisal.facts else {
            return row(
                claimed,
                claimed == "event-log"
                    ? Self.reasons(appraisal.refusals)
                    : "it is no event log, measurement list or certificate that can be read")
        }
        let banks = appraisal.replayed.keys.map(\.name).sorted()
        let isContradicted = appraisal.refusals.map(\.check) == [.explainsPCRs]
        return row(
            "event-log", Self.reasons(appraisal.refusals), Self.remark(facts, compared),
            banks: banks, verdict: isContradicted ? "contradicted" : "refused")
    }

    /// What certificates are, why they are refused, and what is remarkable about them.
    private func judged(
        _ certificates: [ReadCertificate], _ bytes: [UInt8]
    ) async -> (kind: String, reason: String?, remark: String) {
        if let first = certificates.first, certificates.allSatisfy(Self.isAuthority) {
            let certificate = first.certificate
            var remark =
                certificate.subject == certificate.issuer ? "root" : "issued by another authority"
            if certificates.count > 1 { remark = "\(certificates.count) authorities" }
            let expired = certificates.count { $0.certificate.notValidAfter < date }
            if expired > 0 { remark += ", \(expired) expired" }
            return ("authority", nil, remark)
        }
        guard let verifier else {
            return ("ek-certificate", "the folder holds no authority that could vouch for it", "")
        }
        let appraisal = await verifier.appraise(bytes, at: date)
        return (
            "ek-certificate", Self.reasons(appraisal.results.filter { $0.outcome == .failed }),
            appraisal.verified.map { "\($0.manufacturer) \($0.model)" } ?? ""
        )
    }

    private static func reasons<Check>(_ refusals: [CheckResult<Check>]) -> String? {
        guard let first = refusals.first else { return nil }
        // What cannot be read fails every other check for that reason alone.
        let rest = refusals.dropFirst().map(\.reason).filter { !$0.hasSuffix("cannot be read") }
        return ([first.reason] + rest).joined(separator: "; ")
    }

    private static func remark(_ facts: EventLogFacts, _ compared: PCRValues?) -> String {
        var remarks = ["\(facts.events) events"]
        if facts.padding > 0 { remarks.append("\(facts.padding) bytes of padding") }
        if facts.startupLocality != 0 { remarks.append("locality \(facts.startupLocality)") }
        if let secureBoot = facts.secureBoot {
            remarks.append("Secure Boot \(secureBoot ? "on" : "off")")
        }
        if let compared {
            remarks.append(
                compared.values.isEmpty
                    ? "its yaml has no value that could be compared"
                    : "\(compared.values.count) values as in its yaml")
        }
        return remarks.joined(separator: ", ")
    }

    /// A path without the ending of its file's name.
    private static func stem(_ path: String) -> String {
        guard let dot = path.lastIndex(of: "."), !path[dot...].contains("/") else { return path }
        return String(path[..<dot])
    }

    /// What a file should be, for one that cannot be read.
    private static func kind(named path: String) -> String {
        let name = path.lowercased()
        let words: [(String, [String])] = [
            ("ima-list", ["runtime_measurements", "ima/"]),
            ("systemd-log", ["tpm2-measure"]),
            ("event-log", ["bios_measurements", "eventlog", "event-log", "event_log"]),
            ("ek-certificate", [".pem", ".der", ".crt", ".cer", "ek-cert"]),
        ]
        return words.first { $0.1.contains(where: name.contains) }?.0 ?? "unknown"
    }
}
