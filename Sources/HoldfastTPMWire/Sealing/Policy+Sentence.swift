import HoldfastCrypto

extension Policy {
    /// What the policy demands, in one sentence.
    public var sentence: String { "it opens when " + Self.joined(assertions) }

    private static func joined(_ assertions: [PolicyAssertion]) -> String {
        guard !assertions.isEmpty else { return "anyone asks" }
        let parts = assertions.map(\.clause)
        guard parts.count > 1, let last = parts.last else { return parts[0] }
        return parts.dropLast().joined(separator: ", ") + " and " + last
    }

    fileprivate static func branches(_ branches: [[PolicyAssertion]]) -> String {
        "either " + branches.map { "(\(joined($0)))" }.joined(separator: " or ")
    }
}

extension PolicyAssertion {
    /// The assertion as a clause of a sentence.
    public var clause: String {
        switch self {
        case .pcr(let selection, _):
            return
                "\(selection.words) \(selection.count == 1 ? "has the value" : "have the values") of the sealing"
        case .authorize(let key, let policyRef):
            let short = hexadecimal([UInt8](key.bytes.dropFirst(2).prefix(8)))
            return "the holder of key \(short)… approved the state that this machine booted into"
                + (policyRef.isEmpty ? "" : ", for reference \(hexadecimal(policyRef))")
        case .nv(let index, let operand, let offset, let operation):
            let place = offset == 0 ? "" : " from byte \(offset) on"
            return
                "index \(index.index)\(place) is \(operation.words) \(hexadecimal(operand))"
        case .counterTimer(let field, let operation, let value):
            return "\(field.words) is \(operation.words) \(value)"
                + (field == .clock ? " ms" : "")
        case .secret(let entity, _): return "the password of \(entity.words) is given"
        case .or(let branches): return Policy.branches(branches)
        case .commandCode(let code):
            return code == .unseal
                ? "it is unsealed, and nothing else"
                : "the command is 0x\(String(code.rawValue, radix: 16))"
        case .authValue: return "the PIN is given"
        case .nvWritten(let written):
            return written ? "the index was written" : "the index was never written"
        }
    }
}

extension PCRSelection {
    /// How many PCRs.
    public var count: Int { banks.map(\.indexes.count).reduce(0, +) }

    /// The selection in words: `PCR 0, 7 of the SHA-256 bank`.
    public var words: String {
        banks.map { bank in
            "PCR \(bank.indexes.map { String($0.rawValue) }.joined(separator: ", "))"
                + " of the \(bank.hash.name) bank"
        }.joined(separator: " and ")
    }
}

extension ComparisonOperation {
    fileprivate var words: String {
        switch self {
        case .equal: "equal to"
        case .notEqual: "other than"
        case .unsignedGreater: "above"
        case .unsignedLess: "below"
        case .unsignedGreaterOrEqual: "at least"
        case .unsignedLessOrEqual: "at most"
        }
    }
}

extension TimeField {
    fileprivate var words: String {
        switch self {
        case .clock: "the TPM's clock"
        case .resetCount: "the count of resets"
        case .restartCount: "the count of restarts"
        }
    }
}

extension TPMName {
    /// A hierarchy by its name, anything else by the beginning of its Name.
    fileprivate var words: String {
        switch self {
        case TPMName(handle: .owner): "the owner"
        case TPMName(handle: .endorsement): "the endorsement hierarchy"
        case TPMName(handle: .lockout): "the lockout hierarchy"
        default: "entity \(hexadecimal([UInt8](bytes.dropFirst(2).prefix(8))))…"
        }
    }
}
