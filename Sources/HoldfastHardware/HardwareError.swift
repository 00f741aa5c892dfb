public import HoldfastErrors

/// Why hardware cannot be looked at as a whole.
///
/// A fact that cannot be read is no error: it is absent, with a reason.
public enum HardwareError: Error, Sendable, Hashable, OperatorError {
    /// libudev does not start, or does not listen.
    case udevFailed(String)

    public var explanation: String {
        switch self {
        case .udevFailed(let text): "udev cannot be asked about this machine: \(text)"
        }
    }
    public var remedy: String? {
        switch self {
        case .udevFailed: "check the limits on memory and open files, and that /sys is mounted"
        }
    }
    public var stableCode: String { "UDEV_UNAVAILABLE" }
    public var exitStatus: ExitStatus { .failure }
}
