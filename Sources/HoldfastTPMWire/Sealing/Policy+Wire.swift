import HoldfastCrypto

/// docs/spec/sealing.md, "Sealed blobs": a policy in a file.
extension Policy: WireStructure {
    /// Limits of what is read: a policy of ours has a handful of assertions.
    static let maximumAssertions = 32
    static let maximumDepth = 4

    /// Whether it fits into a blob, so that what is written can be read again.
    public var isWritable: Bool { Self.fits(assertions, depth: 0) }

    private static func fits(_ assertions: [PolicyAssertion], depth: Int) -> Bool {
        assertions.count <= maximumAssertions
            && assertions.allSatisfy { assertion in
                guard case .or(let branches) = assertion else { return true }
                return depth < maximumDepth
                    && (2...PolicyText.maximumBranches).contains(branches.count)
                    && branches.allSatisfy { fits($0, depth: depth + 1) }
            }
    }

    public func encode(into writer: inout WireWriter) {
        hash.encode(into: &writer)
        Self.encode(assertions, into: &writer)
    }

    private static func encode(_ assertions: [PolicyAssertion], into writer: inout WireWriter) {
        writer.uint8(UInt8(assertions.count))
        for assertion in assertions {
            switch assertion {
            case .pcr(let selection, let digest):
                writer.uint8(1)
                selection.encode(into: &writer)
                writer.sized(digest)
            case .authorize(let key, let policyRef):
                writer.uint8(2)
                writer.sized(key.bytes)
                writer.sized(policyRef)
            case .nv(let index, let operand, let offset, let operation):
                writer.uint8(3)
                writer.sizedStructure { index.encode(into: &$0) }
                writer.sized(operand)
                writer.uint16(offset)
                writer.uint16(operation.rawValue)
            case .counterTimer(let field, let operation, let value):
                writer.uint8(4)
                writer.uint16(field.offset)
                writer.uint16(operation.rawValue)
                writer.uint64(value)
            case .secret(let entity, let policyRef):
                writer.uint8(5)
                writer.sized(entity.bytes)
                writer.sized(policyRef)
            case .or(let branches):
                writer.uint8(6)
                writer.uint8(UInt8(branches.count))
                for branch in branches { encode(branch, into: &writer) }
            case .commandCode(let code):
                writer.uint8(7)
                writer.uint32(code.rawValue)
            case .authValue: writer.uint8(8)
            case .nvWritten(let written):
                writer.uint8(9)
                writer.uint8(written ? 1 : 0)
            }
        }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        hash = try HashAlgorithm(from: &reader, field: "policyHash")
        assertions = try Self.assertions(&reader, hash, depth: 0)
    }

    private static func assertions(
        _ reader: inout WireReader, _ hash: HashAlgorithm, depth: Int
    ) throws(WireError) -> [PolicyAssertion] {
        let count = Int(try reader.uint8())
        guard count <= maximumAssertions else {
            throw .tooLong(field: "assertions", length: count, maximum: maximumAssertions)
        }
        var found: [PolicyAssertion] = []
        for _ in 0..<count { found.append(try assertion(&reader, hash, depth: depth)) }
        return found
    }

    private static func assertion(
        _ reader: inout WireReader, _ hash: HashAlgorithm, depth: Int
    ) throws(WireError) -> PolicyAssertion {
        let kind = try reader.uint8()
        switch kind {
        case 1:
            let selection = try PCRSelection(from: &reader)
            let digest = try reader.sized("pcrDigest", maximum: 64)
            guard digest.count == hash.digestSize else { throw .sizeMismatch(field: "pcrDigest") }
            return .pcr(selection, digest: digest)
        case 2:
            let key = try TPMName(from: &reader, field: "key")
            return .authorize(key: key, policyRef: try reader.sized("policyRef", maximum: 64))
        case 3:
            guard
                let area = try reader.sizedStructure(
                    "nvPublic",
                    { (inner: inout WireReader) throws(WireError) in
                        try NVPublicArea(from: &inner)
                    })
            else { throw .sizeMismatch(field: "nvPublic") }
            let operand = try reader.sized("operand", maximum: 64)
            let offset = try reader.uint16()
            return .nv(area, operand: operand, offset: offset, try operation(&reader))
        case 4:
            let offset = try reader.uint16()
            guard let field = TimeField.all.first(where: { $0.offset == offset }) else {
                throw .unknownValue(field: "timeField", value: UInt64(offset))
            }
            let operation = try operation(&reader)
            let value = try reader.uint64()
            guard field == .clock || value <= UInt64(UInt32.max) else {
                throw .unknownValue(field: "timeOperand", value: value)
            }
            return .counterTimer(field, operation, value)
        case 5:
            let entity = try TPMName(from: &reader, field: "entity")
            return .secret(
                entity: entity, policyRef: try reader.sized("policyRef", maximum: 64))
        case 6:
            guard depth < maximumDepth else {
                throw .tooLong(field: "depth", length: depth + 1, maximum: maximumDepth)
            }
            let count = Int(try reader.uint8())
            guard (2...PolicyText.maximumBranches).contains(count) else {
                throw .unknownValue(field: "branches", value: UInt64(count))
            }
            var branches: [[PolicyAssertion]] = []
            for _ in 0..<count {
                branches.append(try assertions(&reader, hash, depth: depth + 1))
            }
            return .or(branches)
        case 7: return .commandCode(CommandCode(rawValue: try reader.uint32()))
        case 8: return .authValue
        case 9:
            let written = try reader.uint8()
            guard written <= 1 else {
                throw .unknownValue(field: "written", value: UInt64(written))
            }
            return .nvWritten(written == 1)
        default: throw .unknownValue(field: "assertion", value: UInt64(kind))
        }
    }

    private static func operation(
        _ reader: inout WireReader
    ) throws(WireError) -> ComparisonOperation {
        let raw = try reader.uint16()
        guard let operation = ComparisonOperation(rawValue: raw) else {
            throw .unknownValue(field: "operation", value: UInt64(raw))
        }
        return operation
    }

    /// Whether the PIN is asked for, in any branch.
    public var asksForPIN: Bool { contains(where: { $0 == .authValue }) }

    /// The PCRs that it names with their values.
    public var pcrSelections: [PCRSelection] {
        var found: [PCRSelection] = []
        _ = contains(where: {
            if case .pcr(let selection, _) = $0 { found.append(selection) }
            return false
        })
        return found
    }

    /// Whether an assertion is of a kind, in any branch.
    public func contains(where matches: (PolicyAssertion) -> Bool) -> Bool {
        func look(_ assertions: [PolicyAssertion]) -> Bool {
            assertions.contains { assertion in
                if case .or(let branches) = assertion { return branches.contains(where: look) }
                return matches(assertion)
            }
        }
        return look(assertions)
    }

    /// Every way through the branches, in the order in which they stand.
    ///
    /// - Parameter maximum: how many are returned at most.
    public func ways(maximum: Int) -> [[Int]] {
        func ways(_ assertions: [PolicyAssertion]) -> [[Int]] {
            var found: [[Int]] = [[]]
            for case .or(let branches) in assertions {
                let inner = branches.enumerated().flatMap { number, branch in
                    ways(branch).map { [number] + $0 }
                }
                found = found.flatMap { way in inner.prefix(maximum).map { way + $0 } }
                found = [[Int]](found.prefix(maximum))
            }
            return found
        }
        return ways(assertions)
    }
}

extension TimeField {
    static let all: [TimeField] = [.clock, .resetCount, .restartCount]
}
