/// A policy as a person writes it, before the values of this TPM are filled in.
///
/// `pcrs sha256:0,7 and pin and (clock <= 86400000 or approved by key.pem)`.
/// docs/spec/sealing.md, "Policies in words".
public struct PolicyText: Sendable, Hashable {
    /// One condition.
    public enum Term: Sendable, Hashable {
        /// The PCRs have the values that they have now.
        case pcrs(PCRSelection)
        /// Whoever opens it knows the PIN.
        case pin
        /// A field of the TPM's time compares so.
        case time(TimeField, ComparisonOperation, UInt64)
        /// Bytes of an NV index compare so, from an offset on.
        case nv(TPMHandle, offset: UInt16, ComparisonOperation, operand: [UInt8])
        /// The session authorizes one command.
        case command(CommandCode)
        /// The holder of the key in a file approved the state of the PCRs, for a reference.
        case approved(keyFile: String, policyRef: [UInt8])
        /// Whoever opens it knows the authorization of an entity.
        case secret(TPMHandle)
        /// The index that is used was written, or was not; for indexes, not for sealed data.
        case nvWritten(Bool)
        /// One of several branches.
        case or([PolicyText])
    }

    public var terms: [Term]

    public init(_ terms: [Term]) { self.terms = terms }

    /// How deep branches stand in branches, and how many one place has: TPM2_PolicyOR takes eight.
    static let maximumDepth = 4
    static let maximumBranches = 8

    /// Whether the PIN is asked for, in any branch.
    public var asksForPIN: Bool {
        terms.contains { term in
            if case .or(let branches) = term { return branches.contains { $0.asksForPIN } }
            return term == .pin
        }
    }

    /// Reads a policy.
    ///
    /// - Throws: ``PolicyTextError``, which names the word at which it fails.
    public init(_ text: String) throws(PolicyTextError) {
        var parser = PolicyParser(text)
        self = try parser.policy(depth: 0)
        try parser.end()
    }
}

/// Why a text is not a policy.
public struct PolicyTextError: Error, Sendable, Hashable, CustomStringConvertible {
    public let description: String
}

/// Reads words and brackets.
private struct PolicyParser {
    private var words: ArraySlice<String>

    init(_ text: String) {
        var words: [String] = []
        var word = ""
        func isBreak(_ character: Character) -> Bool {
            character == " " || character == "\n" || character == "\t"
        }
        for character in text {
            if isBreak(character) || character == "(" || character == ")" {
                if !word.isEmpty { words.append(word) }
                word = ""
                if !isBreak(character) { words.append(String(character)) }
            } else {
                word.append(character)
            }
        }
        if !word.isEmpty { words.append(word) }
        self.words = words[...]
    }

    private func failure(_ text: String) -> PolicyTextError { PolicyTextError(description: text) }

    private mutating func next(_ what: String) throws(PolicyTextError) -> String {
        guard let word = words.popFirst() else { throw failure("\(what) is missing at the end") }
        return word
    }

    func end() throws(PolicyTextError) {
        if let word = words.first { throw failure("`\(word)` stands where nothing is expected") }
    }

    mutating func policy(depth: Int) throws(PolicyTextError) -> PolicyText {
        var terms = [try term(depth: depth)]
        while words.first == "and" {
            words.removeFirst()
            guard terms.count < 32 else { throw failure("more than 32 conditions in a row") }
            terms.append(try term(depth: depth))
        }
        return PolicyText(terms)
    }

    private mutating func term(depth: Int) throws(PolicyTextError) -> PolicyText.Term {
        let word = try next("a condition")
        switch word {
        case "(":
            guard depth < PolicyText.maximumDepth else {
                throw failure("brackets stand more than \(PolicyText.maximumDepth) deep")
            }
            var branches = [try policy(depth: depth + 1)]
            while words.first == "or" {
                words.removeFirst()
                branches.append(try policy(depth: depth + 1))
            }
            guard try next("`)`") == ")" else {
                throw failure("a bracket holds branches with `or` between them, and then `)`")
            }
            guard (2...PolicyText.maximumBranches).contains(branches.count) else {
                throw failure("a bracket holds two to \(PolicyText.maximumBranches) branches")
            }
            return .or(branches)
        case "pcrs":
            let list = try next("a list of PCRs")
            guard let selection = PCRSelection(text: list), !selection.isEmpty else {
                throw failure("`\(list)` is not a list of PCRs like `sha256:0,7`")
            }
            return .pcrs(selection)
        case "pin": return .pin
        case "clock": return try time(.clock, maximum: .max)
        case "resets": return try time(.resetCount, maximum: UInt64(UInt32.max))
        case "restarts": return try time(.restartCount, maximum: UInt64(UInt32.max))
        case "nv": return try nv()
        case "nv-written":
            switch try next("`yes` or `no`") {
            case "yes": return .nvWritten(true)
            case "no": return .nvWritten(false)
            default: throw failure("`nv-written` takes `yes` or `no`")
            }
        case "command":
            let name = try next("a command")
            guard let code = Self.command(name) else {
                throw failure("`\(name)` is not a command: `unseal`, `nv-read` or 0x…")
            }
            return .command(code)
        case "approved":
            guard try next("`by`") == "by" else { throw failure("`approved by KEYFILE`") }
            let file = try next("the file of a key")
            var reference: [UInt8] = []
            if words.first == "for" {
                words.removeFirst()
                let text = try next("a reference")
                guard let value = bytes(hexadecimal: text), value.count <= 32 else {
                    throw failure("`\(text)` is not a reference of at most 32 bytes in hexadecimal")
                }
                reference = value
            }
            return .approved(keyFile: file, policyRef: reference)
        case "secret":
            let name = try next("whose secret")
            switch name {
            case "owner": return .secret(.owner)
            case "endorsement": return .secret(.endorsement)
            case "lockout": return .secret(.lockout)
            default:
                guard let handle = Self.handle(name), handle.isPersistent || handle.isNVIndex
                else {
                    throw failure("`\(name)` is not owner, endorsement, lockout or 0x81… or 0x01…")
                }
                return .secret(handle)
            }
        default: throw failure("`\(word)` is not a condition")
        }
    }

    private mutating func comparison() throws(PolicyTextError) -> ComparisonOperation {
        let sign = try next("a comparison")
        guard let operation = ComparisonOperation(sign: sign) else {
            throw failure("`\(sign)` is not one of = != < <= > >=")
        }
        return operation
    }

    private mutating func time(
        _ field: TimeField, maximum: UInt64
    ) throws(PolicyTextError) -> PolicyText.Term {
        let operation = try comparison()
        let text = try next("a number")
        guard let value = UInt64(text), value <= maximum else {
            throw failure("`\(text)` is not a number up to \(maximum)")
        }
        return .time(field, operation, value)
    }

    private mutating func nv() throws(PolicyTextError) -> PolicyText.Term {
        let place = try next("an index")
        let pieces = place.split(separator: "+", omittingEmptySubsequences: false)
        guard pieces.count <= 2, let handle = Self.handle(String(pieces[0])), handle.isNVIndex,
            let offset = pieces.count == 2 ? UInt16(pieces[1]) : 0
        else { throw failure("`\(place)` is not an index like 0x01500001, or 0x01500001+8") }
        let operation = try comparison()
        let text = try next("bytes in hexadecimal")
        guard let operand = bytes(hexadecimal: text), (1...64).contains(operand.count) else {
            throw failure("`\(text)` is not 1 to 64 bytes in hexadecimal")
        }
        return .nv(handle, offset: offset, operation, operand: operand)
    }

    private static func handle(_ text: String) -> TPMHandle? {
        guard text.hasPrefix("0x"), let value = UInt32(text.dropFirst(2), radix: 16) else {
            return nil
        }
        return TPMHandle(rawValue: value)
    }

    private static func command(_ name: String) -> CommandCode? {
        switch name {
        case "unseal": return .unseal
        case "nv-read": return .nvRead
        case "nv-write": return .nvWrite
        default: return handle(name).map { CommandCode(rawValue: $0.rawValue) }
        }
    }
}

extension ComparisonOperation {
    /// How it is written.
    public var sign: String {
        switch self {
        case .equal: "="
        case .notEqual: "!="
        case .unsignedGreater: ">"
        case .unsignedLess: "<"
        case .unsignedGreaterOrEqual: ">="
        case .unsignedLessOrEqual: "<="
        }
    }

    /// Reads what ``sign`` writes.
    init?(sign: String) {
        let all: [ComparisonOperation] = [
            .equal, .notEqual, .unsignedGreater, .unsignedLess, .unsignedGreaterOrEqual,
            .unsignedLessOrEqual,
        ]
        guard let found = all.first(where: { $0.sign == sign }) else { return nil }
        self = found
    }
}
