public import HoldfastCrypto
import HoldfastDevice
public import HoldfastErrors
public import HoldfastLicensing
import HoldfastProtocol
import HoldfastTCTI
import HoldfastTPM
import Synchronization

/// What an application asks: may it, and how much was it.
///
/// ```swift
/// let license = Guard(vendor: "9f86…", product: "scanner")
/// if license.check("pro").allowed { … }
/// try license.meter("scan")
/// ```
///
/// The TPM is asked when it is made, at intervals of the terms, when files of the license change, and
/// before a license changes its state; in between answers come from memory. Nothing here uses the
/// network, ends the process, or throws because a license ran out. Everything may be called from any
/// thread, and any number of processes may do so on one device. No right but to read the state
/// directory, to write its directory `ledger`, and to reach the TPM is needed: membership of a group.
///
/// It reads no variable of the environment: who starts the application cannot lead it to another TPM
/// or to another vendor's documents.
///
/// docs/sdk.md.
public final class Guard: Sendable {
    private let core: GuardCore

    /// Where the state of the device is when nobody says otherwise.
    public static let defaultState = "/var/lib/holdfast"
    /// The kernel's resource manager.
    public static let defaultTPM = "device:/dev/tpmrm0"

    /// Looks at the licenses once, and again from then on, on a thread of its own.
    ///
    /// It takes as long as the TPM does: some milliseconds to a second. It does not fail: when
    /// something is not as it should be, ``problem`` tells, and ``check(_:)`` refuses with that reason.
    ///
    /// - Parameters:
    ///   - vendor: the vendor's id, 64 hexadecimal digits, as `holdfast-server init` prints it. It
    ///     belongs into the program: documents of another vendor count for nothing.
    ///   - product: licenses of other products of the vendor are left out; `nil` for all.
    ///   - state: the state directory of `holdfast`.
    ///   - tpm: as `holdfast --tcti` takes it.
    public convenience init(
        vendor: String, product: String? = nil, state: String = Guard.defaultState,
        tpm: String = Guard.defaultTPM
    ) {
        self.init(
            vendor: vendor, product: product, state: state,
            world: .system { try TPMConnection(openTransport(tpm), random: .system) })
    }

    /// For machines without a TPM: goes by a test license of the vendor, and by nothing else.
    ///
    /// It belongs into builds for tests alone: whoever can write to the directory chooses the answers.
    /// Every decision has the flag `TEST`.
    ///
    /// - Parameter state: the directory of `holdfast test install`.
    public convenience init(testing vendor: String, product: String? = nil, state: String) {
        self.init(
            vendor: vendor, product: product, state: state, isTest: true,
            world: .system { throw TPMError(.unreachable, "a test license has no TPM") })
    }

    /// With a world of its own, for tests.
    package init(
        vendor: String, product: String?, state: String, isTest: Bool = false, world: GuardWorld
    ) {
        core = GuardCore(
            vendor: vendor, product: product, state: state, isTest: isTest, world: world)
        core.look()
        core.start()
    }

    // It may be let go in a callback: this does not wait.
    deinit { core.stop(waiting: false) }

    /// Ends the thread, every stream and every callback; none comes after this returned.
    ///
    /// Answers stay those of the last look.
    ///
    /// From a callback it does not wait for that one.
    public func close() { core.stop(waiting: true) }

    // MARK: Questions

    /// Whether an entitlement may be used now, why, and what comes next.
    public func check(_ entitlement: String) -> Decision { core.check(entitlement) }

    /// An entitlement that is asked for often.
    ///
    /// It is kept up to date as long as somebody has it.
    public func feature(_ entitlement: String) -> Feature { core.feature(entitlement) }

    /// What went wrong when the licenses were looked at last; `nil` when nothing did.
    public var problem: HeldLicenses.Problem? { core.problem }

    /// Where every license stands, for a page that shows it.
    public var standings: [LicenseStanding] { core.standings }

    /// The decision on an entitlement now and each time it becomes another one.
    ///
    /// A reader that is slow gets the newest. It ends with the guard.
    public func decisions(on entitlement: String) -> AsyncStream<Decision> {
        core.decisions(on: entitlement)
    }

    /// Calls back with the decision on an entitlement, now and each time it becomes another one.
    ///
    /// The first call comes before this returns; later ones come from a thread of the guard, one at a
    /// time, and end with the guard.
    public func watch(_ entitlement: String, _ body: @escaping @Sendable (Decision) -> Void) {
        core.watch(entitlement, body)
    }

    /// Looks now: after a license was installed nobody has to call this, files are watched.
    public func refresh() { core.look() }

    // MARK: Usage

    /// Records that something was used; it is on the disk when this returns.
    ///
    /// Calls from several threads share one write to the disk. Usage is recorded in every state of a
    /// license but after retirement: whether it is allowed is for ``check(_:)`` to say, before.
    ///
    /// - Parameters:
    ///   - meter: 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, normally the name of an entitlement.
    ///   - quantity: 1 or more.
    /// - Throws: when it cannot be recorded: ``GuardError``, or what the ledger says.
    public func meter(_ meter: String, _ quantity: UInt32 = 1) throws {
        let entry = try core.usage(meter, quantity)
        try ForkBarrier.pass { try core.usage.record(entry) }
    }

    /// Records that something was used; it is on the disk when this returns.
    ///
    /// The same as the other one, without a thread that waits.
    public func meter(_ meter: String, _ quantity: UInt32 = 1) async throws {
        try await core.usage.record(try core.usage(meter, quantity))
    }

    // MARK: Secrets

    /// The secret that the vendor gave to an entitlement: 32 bytes, the same on every device of the
    /// product.
    ///
    /// The TPM is asked each time, and what it releases is not kept: a program in which somebody turned
    /// the answer of ``check(_:)`` around still does not have this.
    ///
    /// - Throws: ``GuardError/refused(_:)`` when the TPM does not open the lease,
    ///   ``GuardError/noSecret(_:)`` when the lease has none; an error with code `TPM_UNREACHABLE`,
    ///   `TPM_BUSY` or `TPM_TIMED_OUT` when the TPM did not decide.
    public func secret(for entitlement: String) throws -> SecretBytes {
        try core.secret(for: entitlement)
    }
}

/// An entitlement that is asked for often: two reads of memory and one of a clock answer it.
public final class Feature: Sendable {
    /// Its name in the license.
    public let entitlement: String
    private let allowed: Atomic<Bool>
    /// Nanoseconds of the machine's running time: after that nobody has looked for too long.
    private let until: Atomic<Int64>
    private let now: @Sendable () -> Duration

    init(
        _ entitlement: String, _ isAllowed: Bool, until: Duration,
        now: @escaping @Sendable () -> Duration
    ) {
        self.entitlement = entitlement
        self.now = now
        allowed = Atomic(isAllowed)
        self.until = Atomic(Self.nanoseconds(until))
    }

    /// Whether it may be used, by the last look at the TPM; not when that look is too long ago.
    public var isAllowed: Bool {
        allowed.load(ordering: .relaxed)
            && Self.nanoseconds(now()) <= until.load(ordering: .relaxed)
    }

    func set(_ isAllowed: Bool, until: Duration) {
        self.until.store(Self.nanoseconds(until), ordering: .relaxed)
        allowed.store(isAllowed, ordering: .relaxed)
    }

    private static func nanoseconds(_ duration: Duration) -> Int64 {
        let (seconds, attoseconds) = duration.components
        return seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000
    }
}

/// Why the guard could not do what it was asked for.
public enum GuardError: Error, Sendable, Hashable, OperatorError {
    /// The vendor's id in the program is not one.
    case vendorInvalid
    /// The state directory belongs to another vendor.
    case otherVendor
    /// No vendor has answered this device.
    case notEnrolled
    case badMeter(String)
    case nothingUsed
    /// The TPM does not release the secret; the decision says why.
    case refused(Decision)
    /// The lease has no secret for this entitlement.
    case noSecret(String)
    /// The guard is of the process that forked this one.
    case inherited

    public var explanation: String {
        switch self {
        case .vendorInvalid: "the vendor's id in this program is not 64 hexadecimal digits"
        case .otherVendor: "the licenses on this device are of another vendor than this program's"
        case .notEnrolled: "this device is not enrolled with a vendor"
        case .badMeter: "a meter is 1 to 64 of a-z, 0-9, `-`, `_` and `.`"
        case .nothingUsed: "a quantity is 1 or more"
        case .refused(let decision): decision.message
        case .noSecret(let name): "the lease in force has no secret for `\(name)`"
        case .inherited: "this guard was opened before the process forked"
        }
    }
    public var remedy: String? {
        switch self {
        case .vendorInvalid: "give the id that `holdfast-server init` printed"
        case .otherVendor: "check which state directory the program was given"
        case .notEnrolled: "run `holdfast enroll`"
        case .refused(let decision): decision.advice
        case .noSecret:
            "the vendor makes one with `holdfast-server secret make`; it comes with the next lease"
        case .inherited: "open a guard in the child"
        case .badMeter, .nothingUsed: nil
        }
    }
    public var stableCode: String {
        switch self {
        case .vendorInvalid: "VENDOR_INVALID"
        case .otherVendor: "VENDOR_MISMATCH"
        case .notEnrolled: "UNENROLLED"
        case .badMeter, .nothingUsed: "METER_INVALID"
        case .refused(let decision): decision.code
        case .noSecret: "NO_SECRET"
        case .inherited: "GUARD_CLOSED"
        }
    }
    public var exitStatus: ExitStatus {
        switch self {
        case .badMeter, .nothingUsed, .vendorInvalid, .inherited: .usage
        default: .refused
        }
    }
}
