public import FoundationEssentials

/// What went wrong with a software TPM, and what to do about it.
public struct SoftwareTPMError: Error, Sendable, Hashable {
    /// The part that callers and tests compare.
    @nonexhaustive
    public enum Code: Sendable, Hashable {
        /// `swtpm` or `swtpm_setup` is not in PATH.
        case notInstalled
        /// A path that swtpm or its configuration files cannot carry.
        case pathNotAccepted
        /// The path of the socket does not fit into a socket address.
        case socketPathTooLong
        /// A file or directory cannot be read, written or made.
        case file
        /// `swtpm_setup` failed, or left no certificates.
        case manufactureFailed
        /// The directory already has a TPM; making another would destroy its keys.
        case alreadyManufactured
        /// Others can write in the directory of a machine.
        case directoryNotPrivate
        /// The directory has no TPM.
        case notManufactured
        /// swtpm ended before it answered.
        case startFailed
        /// A software TPM already runs on this directory.
        case alreadyRunning
        /// No software TPM runs on this directory.
        case notRunning
        /// swtpm, or another user of a lock, did not finish in the time allowed.
        case timedOut
    }

    /// What kind of failure it is.
    public let code: Code
    /// One line: what was refused or failed, and why.
    public let message: String
    /// One line: what to do.
    public let hint: String?

    init(_ code: Code, _ message: String, hint: String? = nil) {
        self.code = code
        self.message = message
        self.hint = hint
    }

    static func notInstalled(_ program: String) -> SoftwareTPMError {
        SoftwareTPMError(
            .notInstalled, "`\(program)` is not installed",
            hint: "apt-get install swtpm swtpm-tools")
    }

    static func file(_ operation: String, _ path: String, _ error: Int32) -> SoftwareTPMError {
        SoftwareTPMError(
            .file, "cannot \(operation) \(path): \(systemMessage(error))",
            hint: "check the owner and mode of the directory, and that its disk is not full")
    }
}

extension SoftwareTPMError: CustomStringConvertible, LocalizedError {
    /// The message, and the hint on a second line.
    public var description: String {
        guard let hint else { return message }
        return message + "\nhint: " + hint
    }

    /// The same as ``description``.
    public var errorDescription: String? { description }
}
