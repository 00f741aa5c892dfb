/// How a program of ours ends; scripts rely on the numbers.
public enum ExitStatus: Int32, Sendable {
    case success = 0
    /// Something failed that should not have.
    case failure = 1
    /// A license, an attestation or a policy says no.
    case refused = 2
    /// The TPM or the server cannot be reached, or its answers make no sense.
    case unreachable = 3
    /// The command line is wrong; ArgumentParser's own.
    case usage = 64
}

/// An error that tells an operator what was refused, why, and what to do.
public protocol OperatorError: Error {
    /// What was refused and why, in one line without a capital or a full stop.
    var explanation: String { get }
    /// What to do next, in one line.
    var remedy: String? { get }
    /// A stable code for scripts, for example `TPM_UNREACHABLE`.
    var stableCode: String { get }
    var exitStatus: ExitStatus { get }
}
