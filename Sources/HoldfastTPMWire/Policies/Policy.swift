public import HoldfastCrypto

/// One assertion of a policy.
///
/// Part 1, section 19.7 "Enhanced Authorization"; the formula of each digest stands with its
/// command in Part 3.
public enum PolicyAssertion: Sendable, Hashable {
    /// The PCRs have these values: digest over the selected values.
    case pcr(PCRSelection, digest: [UInt8])
    /// The holder of a key approved what came before, for this reference.
    case authorize(key: TPMName, policyRef: [UInt8])
    /// The content of an NV index compares so with an operand.
    case nv(NVPublicArea, operand: [UInt8], offset: UInt16, ComparisonOperation)
    /// A field of the TPM's time compares so with a value.
    case counterTimer(TimeField, ComparisonOperation, UInt64)
    /// Whoever runs the policy knows the authorization of an entity.
    case secret(entity: TPMName, policyRef: [UInt8])
    /// One of several branches holds.
    case or([[PolicyAssertion]])
    /// The session authorizes this command only.
    case commandCode(CommandCode)
    /// The authorization value of the object is proved as well.
    case authValue
    /// The index was written, or was not.
    case nvWritten(Bool)
}

/// A field of `TPMS_TIME_INFO` with its place and size.
///
/// Part 2, section 10.11.6.
public enum TimeField: Sendable, Hashable {
    case clock, resetCount, restartCount

    /// Where it begins.
    public var offset: UInt16 {
        switch self {
        case .clock: 8
        case .resetCount: 16
        case .restartCount: 20
        }
    }

    /// A value in the size of the field.
    ///
    /// - Precondition: resetCount and restartCount have 32 bits.
    public func operand(_ value: UInt64) -> [UInt8] {
        var writer = WireWriter(capacity: 8)
        switch self {
        case .clock: writer.uint64(value)
        case .resetCount, .restartCount: writer.uint32(UInt32(value))
        }
        return writer.bytes
    }
}

/// A policy: assertions in the order in which they run.
///
/// The same value computes its digest here, and runs on a TPM in `HoldfastTPM`.
public struct Policy: Sendable, Hashable {
    public var hash: HashAlgorithm
    public var assertions: [PolicyAssertion]

    public init(hash: HashAlgorithm, _ assertions: [PolicyAssertion]) {
        self.hash = hash
        self.assertions = assertions
    }

    /// The digest that goes into the authPolicy of an object.
    public var digest: [UInt8] {
        extend([UInt8](repeating: 0, count: hash.digestSize), with: assertions)
    }

    /// The digests that `TPM2_PolicyOR` gets, when a session has `start` before the branches.
    public func branchDigests(_ branches: [[PolicyAssertion]], from start: [UInt8]) -> [[UInt8]] {
        branches.map { extend(start, with: $0) }
    }

    /// The digest after more assertions.
    public func extend(_ start: [UInt8], with assertions: [PolicyAssertion]) -> [UInt8] {
        assertions.reduce(start, extend)
    }

    private func extend(_ old: [UInt8], with assertion: PolicyAssertion) -> [UInt8] {
        let zero = [UInt8](repeating: 0, count: hash.digestSize)
        switch assertion {
        case .pcr(let selection, let digest):
            return update(old, .policyPCR, selection.wireBytes + digest)
        case .authorize(let key, let policyRef):
            return hash.digest(update(zero, .policyAuthorize, key.bytes), policyRef)
        case .nv(let index, let operand, let offset, let operation):
            let arguments = comparison(operand, offset, operation)
            return update(old, .policyNV, arguments + index.name.bytes)
        case .counterTimer(let field, let operation, let value):
            return update(
                old, .policyCounterTimer, comparison(field.operand(value), field.offset, operation))
        case .secret(let entity, let policyRef):
            return hash.digest(update(old, .policySecret, entity.bytes), policyRef)
        case .or(let branches):
            return update(zero, .policyOR, branchDigests(branches, from: old).flatMap { $0 })
        case .commandCode(let code):
            var writer = WireWriter(capacity: 4)
            writer.uint32(code.rawValue)
            return update(old, .policyCommandCode, writer.bytes)
        case .authValue:
            return update(old, .policyAuthValue, [])
        case .nvWritten(let written):
            return update(old, .policyNvWritten, [written ? 1 : 0])
        }
    }

    private func comparison(
        _ operand: [UInt8], _ offset: UInt16, _ operation: ComparisonOperation
    ) -> [UInt8] {
        var writer = WireWriter(capacity: operand.count + 4)
        writer.raw(operand)
        writer.uint16(offset)
        writer.uint16(operation.rawValue)
        return hash.digest(writer.bytes)
    }

    private func update(_ old: [UInt8], _ code: CommandCode, _ arguments: [UInt8]) -> [UInt8] {
        var writer = WireWriter(capacity: 4)
        writer.uint32(code.rawValue)
        return hash.digest(old, writer.bytes, arguments)
    }
}
