import FoundationEssentials
import HoldfastCrypto
public import HoldfastProtocol
import HoldfastTPMWire

/// An appraisal policy as an operator writes and reads it: JSON with hexadecimal digests.
///
/// docs/attestation-policy.md has an example with every member.
public struct AppraisalPolicyFile: Sendable, Hashable {
    /// Not signed yet, and not dated.
    public let policy: AppraisalPolicy

    /// Takes a policy.
    public init(_ policy: AppraisalPolicy) { self.policy = policy }

    private struct Source: Codable {
        var id: String
        var version: UInt32
        var model: String
        var onDrift: String
        var references: [String: [String]]?
        var unchecked: [String]?
        var require: [String: Bool]?
        var revoked: [String]?
        var authorities: [String]?
        var firmware: [String]?
        var imaPolicy: String?
    }

    private static let members: Set<String> = [
        "id", "version", "model", "onDrift", "references", "unchecked", "require", "revoked",
        "authorities", "firmware", "imaPolicy",
    ]
    private static let what = "the policy"

    /// Reads a policy that nobody signed.
    public init(_ bytes: [UInt8]) throws(PolicyFormatError) {
        let source = try StrictJSON.decode(
            Source.self, bytes, what: Self.what, members: Self.members)
        guard let drift = AppraisalPolicy.Drift(rawValue: source.onDrift) else {
            throw PolicyFormatError("\(Self.what) has `onDrift` other than refuse or flag")
        }
        var references: [PCRValues.Register: Set<[UInt8]>] = [:]
        for (name, values) in source.references ?? [:] {
            let register = try Self.register(name)
            references[register] = try Self.digests(values, register.hash.digestSize)
        }
        var unchecked: Set<PCRValues.Register> = []
        for name in source.unchecked ?? [] { unchecked.insert(try Self.register(name)) }
        var require: [AppraisalPolicy.Fact: Bool] = [:]
        for (name, wanted) in source.require ?? [:] {
            guard let fact = AppraisalPolicy.Fact(rawValue: name) else {
                let known = AppraisalPolicy.Fact.allCases.map(\.rawValue).joined(separator: ", ")
                throw PolicyFormatError(
                    "\(Self.what) requires the unknown fact `\(name)`; known are \(known)")
            }
            require[fact] = wanted
        }
        policy = AppraisalPolicy(
            id: source.id, version: source.version, model: source.model, onDrift: drift,
            references: references, unchecked: unchecked, require: require,
            revoked: try Self.digests(source.revoked ?? [], 32),
            authorities: try source.authorities.map { (texts) throws(PolicyFormatError) in
                try Self.digests(texts, 32)
            },
            firmware: Set(
                try Self.digests(source.firmware ?? [], 8).map { bytes in
                    bytes.reduce(0) { $0 << 8 | UInt64($1) }
                }),
            imaPolicy: try source.imaPolicy.map { (text) throws(PolicyFormatError) in
                try Self.digest(text, 32)
            }, issuedAt: 1)
        do throws(TokenError) { try policy.check() } catch {
            throw PolicyFormatError("\(Self.what): \(error.explanation)")
        }
    }

    private static func register(_ text: String) throws(PolicyFormatError) -> PCRValues.Register {
        guard let register = PCRValues.Register(text: text) else {
            throw PolicyFormatError("\(what) has `\(text)`; a register is like sha256:7")
        }
        return register
    }

    private static func digest(_ text: String, _ size: Int) throws(PolicyFormatError) -> [UInt8] {
        guard let digest = bytes(hexadecimal: text), digest.count == size else {
            throw PolicyFormatError(
                "\(what) has `\(text)` where \(size) bytes in hexadecimal belong")
        }
        return digest
    }

    private static func digests(
        _ texts: [String], _ size: Int
    ) throws(PolicyFormatError) -> Set<[UInt8]> {
        var digests: Set<[UInt8]> = []
        for text in texts { digests.insert(try digest(text, size)) }
        return digests
    }

    /// The file.
    public func encoded() throws -> [UInt8] {
        func texts(_ digests: Set<[UInt8]>) -> [String] { digests.map(hexadecimal).sorted() }
        let source = Source(
            id: policy.id, version: policy.version, model: policy.model,
            onDrift: policy.onDrift.rawValue,
            references: Dictionary(
                uniqueKeysWithValues: policy.references.map { ($0.key.text, texts($0.value)) }),
            unchecked: policy.unchecked.sorted().map(\.text),
            require: Dictionary(
                uniqueKeysWithValues: policy.require.map { ($0.key.rawValue, $0.value) }),
            revoked: texts(policy.revoked), authorities: policy.authorities.map(texts),
            firmware: policy.firmware.sorted().map(Self.text(ofVersion:)),
            imaPolicy: policy.imaPolicy.map(hexadecimal))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(source)) + [0x0A]
    }

    /// The policy in plain words.
    public var plainText: String {
        var lines = [
            "Policy \(policy.id), version \(policy.version), for machines of the model "
                + "\(policy.model)."
        ]
        let registers = policy.references.sorted { $0.key < $1.key }
        if !registers.isEmpty {
            let names = registers.map { register, values in
                register.text + (values.count > 1 ? " (\(values.count) values)" : "")
            }.joined(separator: ", ")
            lines.append(
                "These registers must be quoted and have a value that is listed: \(names).")
            lines.append(
                policy.onDrift == .refuse
                    ? "A machine with another value is refused."
                    : "A machine with another value is accepted, and the verdict says so.")
        }
        lines.append(
            policy.unchecked.isEmpty
                ? "No other register may be quoted."
                : "These may be quoted and are not compared: "
                    + policy.unchecked.sorted().map(\.text).joined(separator: ", ")
                    + ". No other register may be quoted.")
        for fact in AppraisalPolicy.Fact.allCases {
            guard let wanted = policy.require[fact] else { continue }
            lines.append("The event log must show that \(Self.words(fact, wanted)).")
        }
        if !policy.revoked.isEmpty {
            lines.append(
                "The firmware must refuse \(policy.revoked.count) images that are named by hash.")
        }
        if let authorities = policy.authorities {
            lines.append(
                "What is started must be vouched for by one of \(authorities.count) certificates.")
        }
        if !policy.firmware.isEmpty {
            let versions = policy.firmware.sorted().map(Self.text(ofVersion:))
            lines.append("The TPM's firmware must be one of: \(versions.joined(separator: ", ")).")
        }
        if let imaPolicy = policy.imaPolicy {
            lines.append(
                "A measurement list is needed and must pass the IMA policy "
                    + "\(hexadecimal(imaPolicy)).")
        }
        if policy.require.isEmpty, policy.revoked.isEmpty, policy.authorities == nil,
            policy.imaPolicy == nil
        {
            lines.append("No event log and no measurement list is needed.")
        }
        return lines.joined(separator: "\n")
    }

    /// Sixteen digits, as TPM_PT_FIRMWARE_VERSION_1 and 2 beside each other.
    package static func text(ofVersion version: UInt64) -> String {
        let digits = String(version, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    static func words(_ fact: AppraisalPolicy.Fact, _ wanted: Bool) -> String {
        switch fact {
        case .secureBoot: "Secure Boot is \(wanted ? "on" : "off")"
        case .uefiDebug: "firmware \(wanted ? "allows a debugger" : "allows no debugger")"
        case .dmaProtectionDisabled:
            "memory is \(wanted ? "not protected" : "protected") from devices"
        case .exitBootServices:
            wanted
                ? "the boot loader handed over without an error"
                : "the boot loader did not hand over"
        case .separators:
            wanted
                ? "PCR 0 to 7 have one separator each"
                : "PCR 0 to 7 do not have one separator each"
        }
    }
}

extension AppraisalPolicy.Fact {
    /// What a log shows of the fact; `nil` when it does not show it.
    func value(in facts: EventLogFacts) -> Bool? {
        switch self {
        case .secureBoot: facts.secureBoot
        case .uefiDebug: facts.uefiDebug
        case .dmaProtectionDisabled: facts.dmaProtectionDisabled
        case .exitBootServices: facts.exitBootServices == "succeeded"
        case .separators: facts.separators.count == PCRIndex.firmware.count
        }
    }
}
