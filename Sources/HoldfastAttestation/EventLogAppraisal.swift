public import HoldfastCrypto
public import HoldfastTPMWire

/// Every check of a boot event log; the list is closed.
///
/// A log proves nothing by itself: it is believed as far as it explains values that a TPM quoted.
public enum EventLogCheck: String, Sendable, Hashable, CaseIterable {
    /// Every byte belongs to an event that is well formed.
    case wellFormed = "log-well-formed"
    /// It explains at least one bank whole.
    case replays = "log-replays"
    /// It explains every value that is given: a register that it does not extend has its reset value.
    case explainsPCRs = "log-explains-pcrs"
}

/// What a boot event log says, as far as digests bear it out.
public struct EventLogFacts: Sendable, Hashable, Codable {
    /// `crypto-agile` or `sha1`.
    public let format: String
    /// Events, the header included.
    public let events: Int
    /// What PCR 0 starts from.
    public let startupLocality: Int
    /// PCRs with exactly one separator that tells of no error.
    public let separators: [Int]
    /// The variable SecureBoot as it was measured into PCR 7 before the separator; `nil` unless it
    /// was measured there once and its digests are those of what the log shows.
    public let secureBoot: Bool?
}

/// The verdict on a boot event log: every check with its outcome.
public struct EventLogAppraisal: Sendable {
    /// One result for each check, in the order of ``EventLogCheck``.
    public let results: [CheckResult<EventLogCheck>]
    /// The replayed values of every bank that is explained whole.
    public let replayed: [HashAlgorithm: [PCRIndex: [UInt8]]]
    /// `nil` when the log cannot be read.
    public let facts: EventLogFacts?

    /// Checks a log.
    ///
    /// - Parameters:
    ///   - bytes: the whole log as the kernel has it.
    ///   - values: what it must explain, all of it; `nil` when there is nothing to compare with.
    public init(_ bytes: [UInt8], explaining values: PCRValues?) {
        var log: EventLog?
        var problem: String?
        var replayed: [HashAlgorithm: [PCRIndex: [UInt8]]] = [:]
        var gap: String? = "the log cannot be read"
        do throws(EventLogError) {
            let parsed = try EventLog(parsing: bytes)
            log = parsed
            do throws(EventLogError) {
                replayed = try parsed.replay()
                gap = nil
            } catch {
                gap = "\(error)"
            }
        } catch {
            problem = "\(error)"
        }
        self.replayed = replayed
        facts = log.map(EventLogFacts.init)
        // A check that is added must be written, or the switch does not compile.
        results = EventLogCheck.allCases.map { check in
            let fault: String?
            switch check {
            case .wellFormed: fault = problem
            case .replays: fault = gap
            case .explainsPCRs:
                guard let values else {
                    return CheckResult(
                        check: check, outcome: .notApplicable,
                        reason: "there are no values to compare with: the log may be anybody's")
                }
                fault = gap ?? Self.unexplained(values, replayed)
            }
            return CheckResult(
                check: check, outcome: fault == nil ? .passed : .failed, reason: fault ?? "")
        }
    }

    /// No check failed.
    ///
    /// - Returns: the refusals; empty when there are none.
    public var refusals: [CheckResult<EventLogCheck>] { results.filter { $0.outcome == .failed } }

    /// The first value that the log does not explain.
    private static func unexplained(
        _ values: PCRValues, _ replayed: [HashAlgorithm: [PCRIndex: [UInt8]]]
    ) -> String? {
        guard !values.values.isEmpty else { return "there is no value to explain" }
        for register in values.values.keys.sorted() {
            let name = "PCR \(register.index.rawValue) in bank \(register.hash.name)"
            guard let bank = replayed[register.hash] else {
                return "the log does not explain the bank \(register.hash.name)"
            }
            let expected =
                bank[register.index]
                ?? register.index.resetValue(digestSize: register.hash.digestSize)
            guard values.values[register] == expected else {
                return bank[register.index] == nil
                    ? "\(name) has a value, and nothing in the log extends it"
                    : "\(name) has another value than the log replays to"
            }
        }
        return nil
    }
}

extension EventLogFacts {
    fileprivate init(_ log: EventLog) {
        format = log.header == nil ? "sha1" : "crypto-agile"
        events = log.events.count
        startupLocality = Int(log.startupLocality)
        separators = PCRIndex.firmware.filter { index in
            log.events.count { $0.extendedPCR == index && Self.isSeparator($0) } == 1
        }.map { Int($0.rawValue) }
        secureBoot = Self.secureBoot(log)
    }

    /// The digest is that of a separator without error, whatever the event calls itself.
    ///
    /// Types are not measured: who extends PCR 7 after the boot would call the true separator
    /// something else. The digest cannot be changed where the bank is quoted, so one bank is enough.
    ///
    /// PC Client Platform Firmware Profile, "EV_SEPARATOR".
    private static func isSeparator(_ event: BootEvent) -> Bool {
        event.digests.contains { digest in
            guard let hash = digest.algorithm.hash else { return false }
            return [[0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF]].contains {
                hash.digest($0) == digest.bytes
            }
        }
    }

    /// Every digest of the event is that of its data: then the data is what was extended.
    private static func isMeasured(_ event: BootEvent) -> Bool {
        let data = [UInt8](event.untrustedData)
        let known = event.digests.compactMap { digest in
            digest.algorithm.hash.map { $0.digest(data) == digest.bytes }
        }
        return !known.isEmpty && known.allSatisfy { $0 }
    }

    private static func secureBoot(_ log: EventLog) -> Bool? {
        var found: Bool?
        for event in log.events where event.extendedPCR?.rawValue == 7 {
            if isSeparator(event) { break }
            guard event.type == .efiVariableDriverConfiguration,
                let variable = FirmwareVariable([UInt8](event.untrustedData)),
                variable.isSecureBoot
            else { continue }
            guard found == nil, isMeasured(event), variable.data.count == 1,
                let value = variable.data.first, value <= 1
            else { return nil }
            found = value == 1
        }
        return found
    }
}

/// A variable as firmware measures it.
///
/// `UEFI_VARIABLE_DATA`, PC Client Platform Firmware Profile.
private struct FirmwareVariable {
    let vendor: [UInt8]
    let name: [UInt8]
    let data: [UInt8]

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 32 else { return nil }
        func number(_ start: Int) -> UInt64 {
            bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        let rest = UInt64(bytes.count - 32)
        let characters = number(16)
        let size = number(24)
        guard characters <= rest / 2, size == rest - 2 * characters else { return nil }
        vendor = [UInt8](bytes[..<16])
        name = [UInt8](bytes[32..<32 + 2 * Int(characters)])
        data = [UInt8](bytes[(32 + 2 * Int(characters))...])
    }

    /// `SecureBoot` of `EFI_GLOBAL_VARIABLE`: 8BE4DF61-93CA-11D2-AA0D-00E098032B8C.
    var isSecureBoot: Bool {
        vendor == [
            0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03,
            0x2B, 0x8C,
        ] && name == "SecureBoot".utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    }
}
