public import HoldfastProtocol
public import HoldfastTPMWire

/// The instants of a new lease, from terms and the clock that a TPM attested.
///
/// Sums saturate: a clock may have been set to any value.
///
/// docs/spec/licensing.md, "Lease".
public struct LeaseSchedule: Sendable, Hashable {
    public let issuedTicks: UInt64
    public let renewTicks: UInt64
    public let graceTicks: UInt64
    public let softEndTicks: UInt64
    /// T.
    public let endTicks: UInt64
    public let degradedEndTicks: UInt64
    public let lowestTicks: UInt64
    public let highestResetCount: UInt32
    public let highestRestartCount: UInt32
    /// UTC seconds; when the lease ends if the device is always on.
    public let endsAt: UInt64

    /// - Parameters:
    ///   - attested: from the quote of the evidence that the lease answers.
    ///   - now: UTC seconds on the server's clock.
    ///   - endsAt: of the license; the lease does not go beyond it.
    ///   - promised: where the lease before ends: no renewal cuts short what somebody has.
    /// - Returns: `nil` when the license is over.
    public init?(
        terms: Terms, attested: ClockInfo, now: UInt64, licenseEndsAt endsAt: UInt64,
        notEndingBefore promised: UInt64? = nil
    ) {
        guard endsAt > now else { return nil }
        let (left, overflow) = (endsAt - now).multipliedReportingOverflow(by: 1000)
        let kept = min(
            promised.map { $0 > attested.clock ? $0 - attested.clock : 0 } ?? 0,
            Terms.maximumTicks)
        let length = min(max(terms.leaseTicks, kept), overflow ? UInt64.max : left)
        issuedTicks = attested.clock
        endTicks = attested.clock.saturating(length)
        renewTicks = min(attested.clock.saturating(terms.renewAfterTicks), endTicks)
        graceTicks = min(attested.clock.saturating(terms.graceAfterTicks), endTicks)
        softEndTicks = min(attested.clock.saturating(terms.softAfterTicks), endTicks)
        degradedEndTicks = endTicks.saturating(terms.degradedTicks)
        lowestTicks = LeasePolicy.lowestClock(issuedAt: attested.clock)
        highestResetCount = attested.resetCount.saturating(terms.resetAllowance)
        highestRestartCount = attested.restartCount.saturating(terms.restartAllowance)
        self.endsAt = now + max(1, length / 1000)
    }
}

extension FixedWidthInteger {
    /// The sum, or the highest value.
    func saturating(_ more: Self) -> Self {
        let (sum, overflow) = addingReportingOverflow(more)
        return overflow ? .max : sum
    }
}
