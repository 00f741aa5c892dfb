public import HoldfastProtocol
public import HoldfastTPMWire

/// What the server's time may be now, as two bounds; it decides nothing.
///
/// A receipt echoes the clock that the TPM had before the server gave its time. From there a TPM's
/// clock goes at 0.72 of nominal speed at the slowest that the specification lets a user choose; and
/// it stands still while the machine is off, so that there is no upper bound after a restart.
///
/// docs/spec/licensing.md, "Time".
public struct TimeEstimate: Sendable, Hashable, Codable {
    /// UTC seconds: not before this.
    public let notBefore: UInt64
    /// UTC seconds: not after this, while the machine was not restarted since.
    public let notAfter: UInt64?

    /// Computes it from the newest receipt, at a clock of the same TPM.
    public init(_ receipt: Receipt, now clock: ClockInfo) {
        notBefore = receipt.serverAt
        guard clock.resetCount == receipt.resetCount, clock.restartCount == receipt.restartCount,
            clock.clock >= receipt.clockTicks
        else {
            notAfter = nil
            return
        }
        let (scaled, overflow) = (clock.clock - receipt.clockTicks)
            .multipliedReportingOverflow(by: 100)
        guard !overflow else {
            notAfter = nil
            return
        }
        // Milliseconds at 0.72 of nominal speed, rounded up to whole seconds.
        notAfter = receipt.serverAt.saturating((scaled / 72).saturating(999) / 1000)
    }
}
