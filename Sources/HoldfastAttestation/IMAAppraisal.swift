import FoundationEssentials
import HoldfastCrypto
public import HoldfastTPMWire

/// Every check of a list of the Integrity Measurement Architecture; the list is closed.
public enum IMACheck: String, Sendable, Hashable, CaseIterable {
    /// Every byte belongs to an entry of a template that is known.
    case wellFormed = "ima-well-formed"
    /// Each template hash in the list is that of what the entry says.
    case templateHashes = "ima-template-hash"
    /// Every entry is of PCR 10: what stands in another register is not replayed.
    case registers = "ima-registers"
    /// What was appraised before was of the same boot, and under the same policy.
    case sameBoot = "ima-same-boot"
    /// The list, or its beginning, replays to the value of PCR 10 in each bank with values.
    case explainsPCR = "ima-explains-pcr10"
    /// Each of these banks holds hashes of its own, not SHA-1 with zeros behind it.
    case bankHashes = "ima-bank-hash"
    /// The first entry is the hash over the registers of the boot that are quoted beside it.
    case bootAggregate = "ima-boot-aggregate"
    /// No file was written to while it was measured.
    case violations = "ima-violations"
    /// Every file is one that the policy allows.
    case files = "ima-files"
    /// Every file that the policy requires was measured.
    case required = "ima-required"
}

/// A boot of a TPM: what PCRs are extended in between is one history.
public struct BootInstance: Sendable, Hashable, Codable {
    public let resetCount: UInt32
    public let restartCount: UInt32

    /// Names a boot.
    public init(resetCount: UInt32, restartCount: UInt32) {
        self.resetCount = resetCount
        self.restartCount = restartCount
    }

    /// The boot in which a quote was made.
    public init(_ clock: ClockInfo) {
        self.init(resetCount: clock.resetCount, restartCount: clock.restartCount)
    }
}

/// What a list says, as far as it was proven.
public struct IMAFacts: Sendable, Hashable, Codable {
    /// How the list is written.
    public internal(set) var form: String?
    /// Entries that were read, those of earlier appraisals included.
    public internal(set) var entries = 0
    /// Entries that the quoted value of PCR 10 proves; `nil` when there was no value.
    public internal(set) var proven: Int?
    /// What each bank holds: `template-hash`, or `sha1-padded`.
    public internal(set) var banks: [String: String] = [:]
    /// The registers of the boot that the first entry is over, for example `sha256:0-9`.
    public internal(set) var bootAggregate: String?
    /// Kernels that were started by the one before, without a reset.
    public internal(set) var laterKernels = 0
    /// Files that could not be measured.
    public internal(set) var violations = 0
    /// Digests of the files that the policy requires, by path.
    public internal(set) var required: [String: [String]] = [:]
}

extension IMAFacts {
    /// A line for each fact.
    public var text: String {
        var lines = ["list          \(form ?? "unknown"), \(entries) entries"]
        if let proven {
            lines.append("proven        \(proven) entries; \(entries - proven) after the quote")
        }
        for (bank, what) in banks.sorted(by: { $0.key < $1.key }) {
            lines.append("bank          \(bank): \(what)")
        }
        if let bootAggregate { lines.append("boot          \(bootAggregate)") }
        if laterKernels > 0 { lines.append("kexec         \(laterKernels) later kernels") }
        if violations > 0 { lines.append("violations    \(violations)") }
        for (path, digests) in required.sorted(by: { $0.key < $1.key }) {
            for digest in digests { lines.append("required      \(path) \(digest)") }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

extension PCRValues {
    /// The values that a boot event log must explain when a measurement list explains PCR 10.
    public var withoutIMA: PCRValues {
        var rest = self
        for hash in HashAlgorithm.allCases { rest[hash, IMAAppraiser.register] = nil }
        return rest
    }
}

/// The verdict on a measurement list: every check with its outcome.
public struct IMAAppraisal: Sendable {
    /// One result for each check, in the order of ``IMACheck``.
    public let results: [CheckResult<IMACheck>]
    public let facts: IMAFacts
    /// Where the next appraisal of this boot may begin; `nil` unless every check passed with values.
    public let state: IMAState?

    /// The checks that failed; empty when the list is accepted.
    public var refusals: [CheckResult<IMACheck>] { results.filter { $0.outcome == .failed } }
}

/// What an accepted appraisal leaves behind, so that the next one of the same boot reads on.
///
/// Whoever can change a state can have anything accepted: keep it where the verdicts are kept.
public struct IMAState: Sendable, Hashable, Codable {
    /// One bank of PCR 10 after the last proven entry.
    struct Register: Sendable, Hashable, Codable {
        let hashed: [UInt8]
        let padded: [UInt8]
    }

    let version: Int
    public let boot: BootInstance
    /// How many entries were proven; the next list begins behind them.
    public let entries: Int
    let registers: [String: Register]
    let policy: [UInt8]?
    let aggregate: IMAAppraiser.Aggregate?
    let facts: IMAFacts

    /// Reads a state.
    public init(parsing bytes: [UInt8]) throws(EvidenceFormatError) {
        guard let state = try? JSONDecoder().decode(IMAState.self, from: Data(bytes)),
            state.registers.allSatisfy({ name, register in
                let size = HashAlgorithm.allCases.first { $0.name == name }?.digestSize
                return register.hashed.count == size && register.padded.count == size
            }),
            [state.entries, state.facts.violations, state.facts.laterKernels]
                .allSatisfy({ (0..<1 << 40).contains($0) })
        else { throw EvidenceFormatError(expected: "a state that `--ima-state-out` wrote") }
        self = state
    }

    init(
        version: Int, boot: BootInstance, entries: Int, registers: [String: Register],
        policy: [UInt8]?, aggregate: IMAAppraiser.Aggregate?, facts: IMAFacts
    ) {
        self.version = version
        self.boot = boot
        self.entries = entries
        self.registers = registers
        self.policy = policy
        self.aggregate = aggregate
        self.facts = facts
    }

    /// Whether it was made under this policy; one of other rules is not continued.
    public func wasMade(under policy: IMAPolicy) -> Bool { self.policy == policy.fingerprint }

    /// The state as a file.
    public func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return [UInt8](try encoder.encode(self))
    }
}

/// Judges a measurement list while it is read; memory does not grow with the list.
///
/// A list that was read after the quote is longer than what was quoted. The beginning that replays
/// to the quoted PCR 10 is proven; what follows it is not looked at.
public struct IMAAppraiser: Sendable {
    /// The first entry, which the kernel makes itself.
    struct Aggregate: Sendable, Hashable, Codable {
        let algorithm: String
        let digest: [UInt8]
    }

    /// One bank of PCR 10, replayed in both ways that kernels extend.
    private struct Bank: Sendable {
        let hash: HashAlgorithm
        let target: [UInt8]
        var hashed: [UInt8]
        var padded: [UInt8]

        mutating func extend(_ entry: IMAEntry, sha1: [UInt8]) {
            let isViolation = entry.isViolation
            hashed = hash.digest(
                hashed,
                isViolation
                    ? [UInt8](repeating: 0xFF, count: hash.digestSize) : entry.templateDigest(hash))
            padded = hash.digest(
                padded, sha1 + [UInt8](repeating: 0, count: hash.digestSize - sha1.count))
        }

        var holdsHashes: Bool { hash != .sha1 && hashed == target }
        var matches: Bool { hashed == target || padded == target }
    }

    private let values: PCRValues?
    private let policy: IMAPolicy?
    private let boot: BootInstance?
    private let isContinued: Bool
    private var parser = IMAListParser()
    private var banks: [Bank] = []
    private var facts = IMAFacts()
    private var aggregate: Aggregate?
    private var faults: [IMACheck: String] = [:]
    /// The quoted value was reached: what follows is not looked at.
    private var isProven = false

    static let register = PCRIndex.all[10]
    /// The largest list that is accepted, in bytes.
    public static let maximumSize = 1 << 30

    /// Begins an appraisal.
    ///
    /// - Parameters:
    ///   - values: of a quote; PCR 10 must be among them, and PCR 0 to 9 for the boot's aggregate.
    ///     `nil` when there is nothing to compare with.
    ///   - policy: `nil` when files are not judged.
    ///   - state: of the last accepted appraisal, when the list begins behind it.
    ///   - boot: of the quote; needed to continue and to be continued.
    public init(
        explaining values: PCRValues?, policy: IMAPolicy?, continuing state: IMAState?,
        boot: BootInstance?
    ) {
        self.values = values
        self.policy = policy
        self.boot = boot
        isContinued = state != nil
        if let values {
            for register in values.values.keys.sorted() where register.index == Self.register {
                let hash = register.hash
                let zeros = Self.register.resetValue(digestSize: hash.digestSize)
                let known = state?.registers[hash.name]
                if state != nil, known == nil {
                    faults[.sameBoot] =
                        "the state has no value of the bank \(hash.name); appraise the whole list"
                }
                banks.append(
                    Bank(
                        hash: hash, target: values.values[register] ?? [],
                        hashed: known?.hashed ?? zeros, padded: known?.padded ?? zeros))
            }
        }
        guard let state else { return }
        facts = state.facts
        facts.proven = nil
        facts.entries = state.entries
        aggregate = state.aggregate
        if state.version != 1 || state.entries < 0 {
            faults[.sameBoot] = "the state is of another version; appraise the whole list"
        } else if state.boot != boot {
            faults[.sameBoot] =
                "the state is of another boot, which began with other registers; appraise the "
                + "whole list"
        } else if state.policy != policy?.fingerprint {
            faults[.sameBoot] =
                "the state was made under another policy; appraise the whole list"
        }
        prove()
    }

    /// The quoted value is reached.
    private mutating func prove() {
        guard facts.entries > 0, !banks.isEmpty, banks.allSatisfy(\.matches) else { return }
        isProven = true
        facts.proven = facts.entries
        for bank in banks {
            facts.banks[bank.hash.name] = bank.holdsHashes ? "template-hash" : "sha1-padded"
        }
    }

    /// Reads the next bytes of the list.
    public mutating func append(_ bytes: [UInt8]) {
        guard faults[.wellFormed] == nil else { return }
        parser.append(bytes)
        read()
    }

    private mutating func read() {
        do throws(IMAError) {
            while let entry = try parser.next() { take(entry) }
        } catch {
            // Nothing new since the last appraisal is no fault.
            if error == .empty, isContinued { return }
            faults[.wellFormed] = "\(error)"
        }
    }

    private mutating func take(_ entry: IMAEntry) {
        let number = facts.entries
        facts.entries += 1
        facts.form = parser.form?.rawValue
        // It is part of the file, but nothing says that it was extended.
        guard !isProven else { return }
        let sha1 =
            entry.isViolation
            ? [UInt8](repeating: 0xFF, count: 20) : entry.templateDigest(.sha1)
        if !entry.isViolation {
            let hash = HashAlgorithm.allCases.first { $0.digestSize == entry.loggedDigest.count }
            let computed = hash == .sha1 ? sha1 : hash.map(entry.templateDigest)
            if computed != entry.loggedDigest {
                note(.templateHashes, "entry \(number) says something else than was hashed")
            }
        }
        if entry.pcr != UInt32(Self.register.rawValue) {
            note(
                .registers,
                "entry \(number) is of PCR \(entry.pcr); take `pcr=` out of the IMA policy of the "
                    + "kernel")
        }
        for index in banks.indices { banks[index].extend(entry, sha1: sha1) }
        judge(entry, number)
        prove()
    }

    /// What the entry means; all of it counts only when the list turns out to be proven so far.
    private mutating func judge(_ entry: IMAEntry, _ number: Int) {
        guard !entry.isViolation else {
            facts.violations += 1
            if policy?.violations != .accept {
                note(
                    .violations,
                    "entry \(number): `\(entry.printableName)` was written to while it was "
                        + "measured, or this is what the list claims")
            }
            return
        }
        let isAggregate = entry.name == Array("boot_aggregate".utf8)
        if number == 0 || isAggregate {
            let found = Aggregate(
                algorithm: entry.digest.algorithm, digest: entry.digest.bytes)
            guard isAggregate, entry.digest.kind == "ima" else {
                return note(.bootAggregate, "the first entry is not the kernel's boot_aggregate")
            }
            guard aggregate != nil else {
                aggregate = found
                return
            }
            // A kernel that another one starts hands the list over and adds its own.
            facts.laterKernels += 1
            if found != aggregate {
                note(.bootAggregate, "entry \(number) is the boot_aggregate of other registers")
            }
            return
        }
        guard let policy else { return }
        if let refusal = policy.refusal(of: entry) { note(.files, "entry \(number): \(refusal)") }
        if policy.required.contains(entry.name) {
            let path = entry.printableName
            if facts.required[path]?.contains(entry.digest.text) != true,
                facts.required[path, default: []].count < 16
            {
                facts.required[path, default: []].append(entry.digest.text)
            }
        }
    }

    /// The first reason is kept; one is enough to refuse.
    private mutating func note(_ check: IMACheck, _ reason: String) {
        if faults[check] == nil { faults[check] = reason }
    }

    /// Judges the whole list; no byte follows.
    public mutating func finish() -> IMAAppraisal {
        parser.end()
        if faults[.wellFormed] == nil { read() }
        // A check that is added must be written, or the switch does not compile.
        let results = IMACheck.allCases.map { check in
            switch outcome(check) {
            case .passed: CheckResult(check: check, outcome: .passed, reason: "")
            case .failed(let reason): CheckResult(check: check, outcome: .failed, reason: reason)
            case .notApplicable(let reason):
                CheckResult(check: check, outcome: .notApplicable, reason: reason)
            }
        }
        return IMAAppraisal(
            results: results, facts: facts,
            state: results.contains { $0.outcome == .failed } ? nil : state())
    }

    private func state() -> IMAState? {
        guard isProven, let boot else { return nil }
        var kept = facts
        kept.entries = facts.proven ?? 0
        return IMAState(
            version: 1, boot: boot, entries: kept.entries,
            registers: Dictionary(
                uniqueKeysWithValues: banks.map {
                    ($0.hash.name, IMAState.Register(hashed: $0.hashed, padded: $0.padded))
                }), policy: policy?.fingerprint, aggregate: aggregate, facts: kept)
    }

    private enum Outcome {
        case passed
        case failed(String)
        case notApplicable(String)
    }

    private mutating func outcome(_ check: IMACheck) -> Outcome {
        let nothing = Outcome.notApplicable(
            "there are no values to compare with: the list may be anybody's")
        let noted = faults[check].map(Outcome.failed)
        switch check {
        case .wellFormed, .templateHashes, .registers, .violations:
            return noted ?? unread(check) ?? .passed
        case .sameBoot:
            return noted
                ?? (isContinued ? .passed : .notApplicable("the list begins with the boot"))
        case .explainsPCR: return values == nil ? nothing : explains()
        case .bankHashes: return values == nil ? nothing : bankHashes()
        case .bootAggregate:
            return noted ?? unread(check) ?? (values == nil ? nothing : bootAggregate())
        case .files:
            guard policy != nil else {
                return .notApplicable("no policy says which files may have been measured")
            }
            return noted ?? unread(check) ?? .passed
        case .required:
            guard let policy else {
                return .notApplicable("no policy says which files must have been measured")
            }
            let missing = policy.required.first { facts.required[printable($0)] == nil }
            guard let missing else { return unread(check) ?? .passed }
            return .failed(
                "`\(printable(missing))` was not measured in this boot: it was not run, or the "
                    + "kernel's IMA policy does not measure it")
        }
    }

    /// A list that cannot be read to its end passes no check.
    private func unread(_ check: IMACheck) -> Outcome? {
        check != .wellFormed && faults[.wellFormed] != nil
            ? .failed("the list cannot be read") : nil
    }

    private func explains() -> Outcome {
        guard faults[.wellFormed] == nil else { return .failed("the list cannot be read") }
        guard !banks.isEmpty else {
            return .failed(
                "there is no value of PCR 10; quote it as well, as in `sha256:0,1,2,3,4,5,6,7,8,9,10`"
            )
        }
        if let bank = banks.first(where: { $0.target.allSatisfy { $0 == 0 } }) {
            return .failed(
                "PCR 10 in bank \(bank.hash.name) was never extended: the kernel does not measure; "
                    + "boot with an IMA policy, as `ima_policy=tcb`")
        }
        guard !isProven else { return .passed }
        return .failed(
            "neither the list nor a beginning of it replays to the value of PCR 10; if the machine "
                + "was suspended or the list was cut, take the whole list and quote again")
    }

    private func bankHashes() -> Outcome {
        guard isProven else { return .failed("PCR 10 is not explained") }
        guard let bank = banks.first(where: { !$0.holdsHashes }), policy?.sha1 != .accept else {
            return .passed
        }
        guard bank.hash != .sha1 else {
            return .failed("a SHA-1 bank proves nothing: quote PCR 10 of the SHA-256 bank")
        }
        return .failed(
            "the bank \(bank.hash.name) holds SHA-1 template hashes, which two entries can share: "
                + "kernels before 5.8 do this; update the kernel, or accept it with `sha1` in the "
                + "IMA policy")
    }

    private mutating func bootAggregate() -> Outcome {
        if policy?.bootAggregate == .unchecked {
            return .notApplicable("the IMA policy does not ask for it")
        }
        guard isProven, let values else { return .failed("PCR 10 is not explained") }
        guard let aggregate else { return .failed("the list does not begin with boot_aggregate") }
        guard !aggregate.digest.allSatisfy({ $0 == 0 }) else {
            return .failed("it is all zeros: the kernel found no TPM when it began to measure")
        }
        guard let hash = HashAlgorithm.allCases.first(where: { $0.name == aggregate.algorithm })
        else { return .failed("it is of the unknown algorithm `\(aggregate.algorithm)`") }
        var wasCompared = false
        // SHA-1 aggregates are over PCR 0 to 7; the others since Linux 5.8 over PCR 8 and 9 as well.
        for last in hash == .sha1 ? [7, 9] : [9, 7] {
            let known = PCRIndex.all.prefix(last + 1).compactMap { values[hash, $0] }
            guard known.count == last + 1 else { continue }
            wasCompared = true
            guard constantTimeEqual(hash.digest([UInt8](known.joined())), aggregate.digest) else {
                continue
            }
            facts.bootAggregate = "\(hash.name):0-\(last)"
            return .passed
        }
        return .failed(
            wasCompared
                ? "it is of other values than PCR 0 to 9 have: the list is of another boot"
                : "it is over the bank \(hash.name), of which PCR 0 to 9 have no values here; quote "
                    + "them as well, or boot with `ima_hash=sha256`")
    }
}
