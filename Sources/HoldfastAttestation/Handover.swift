import HoldfastTPMWire

/// What firmware says of its steps: boot options in PCR 4, the end of its services in PCR 5.
///
/// Actions are told by their digests, so none can be made from another event by its type. Who is root
/// later can add some behind the others, and can take none away.
///
/// PC Client Platform Firmware Profile, "PCR[4]", "PCR[5]" and "EV_EFI_ACTION event types".
struct Handover {
    /// `succeeded`, `failed`, `begun`, or `not-shown`; of several attempts the first that succeeded, or
    /// the last.
    private(set) var state = "not-shown"
    /// The first step that cannot come where it stands; `nil` when there is none.
    private(set) var disorder: String?

    private static let calling = "Calling EFI Application from Boot Option"
    private static let returning = "Returning from EFI Application from Boot Option"
    private static let invocation = "Exit Boot Services Invocation"
    private static let success = "Exit Boot Services Returned with Success"
    private static let failure = "Exit Boot Services Returned with Failure"

    init(_ log: EventLog) {
        var isCalled = false
        var isSeparated = false
        for (number, event) in log.events.enumerated() {
            switch event.extendedPCR?.rawValue {
            case 4:
                if event.isAction(Self.calling) { isCalled = true }
                if event.mayBeAction(Self.returning), !isCalled {
                    note("event \(number): an application returns that was not called")
                }
            case 5:
                if event.isSeparator { isSeparated = true }
                step(event, number, isSeparated: isSeparated)
            default: continue
            }
        }
    }

    private mutating func step(_ event: BootEvent, _ number: Int, isSeparated: Bool) {
        let isInvocation = event.mayBeAction(Self.invocation)
        let isSuccess = event.mayBeAction(Self.success)
        guard isInvocation || isSuccess || event.mayBeAction(Self.failure) else { return }
        guard isSeparated else {
            return note("event \(number): boot services end before the separator of PCR 5")
        }
        guard state != "succeeded" else {
            return note("event \(number): boot services end a second time")
        }
        guard isInvocation || state == "begun" else {
            return note("event \(number): boot services ended, and nobody asked for it")
        }
        // One that banks disagree about is no success.
        state = isInvocation ? "begun" : event.isAction(Self.success) ? "succeeded" : "failed"
    }

    private mutating func note(_ reason: String) { disorder = disorder ?? reason }
}
