public import CHoldfast
import FoundationEssentials
import Glibc
import HoldfastCrypto
import HoldfastErrors
import HoldfastGuard
import HoldfastLicensing
import Synchronization

// The functions of `holdfast.h`, which says what each does. The compiler compares them with it.

/// An object on its way to C, with one reference of its own.
private func retained(_ object: AnyObject) -> OpaquePointer {
    unsafe OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

/// The object behind a pointer from C.
private func object<T: AnyObject>(_ pointer: OpaquePointer) -> T {
    unsafe Unmanaged<T>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
}

private func release<T: AnyObject>(_ pointer: OpaquePointer?, _ type: T.Type) {
    guard let pointer = unsafe pointer else { return }
    unsafe Unmanaged<T>.fromOpaque(UnsafeRawPointer(pointer)).release()
}

/// What a pointer to a guard leads to, for as long as the process runs.
///
/// So a call with a guard that was closed meanwhile, by another thread or by mistake, is refused, and not
/// led to memory that is something else by now. There is no lock: one that a thread of the parent had
/// would stay locked in the child of a fork.
@safe private final class Handle: @unchecked Sendable {
    private let opened: Unmanaged<Guard>
    // Bit 0: C has not closed it. The rest counts who is about to take a reference, in twos.
    private let uses = Atomic<Int>(1)

    init(_ opened: Guard) { unsafe self.opened = Unmanaged.passRetained(opened) }

    /// The guard; `nil` when it was closed.
    func guardian(closing: Bool = false) -> Guard? {
        var seen = uses.load(ordering: .relaxed)
        while true {
            guard seen & 1 == 1 else { return nil }
            let (isMine, found) = uses.compareExchange(
                expected: seen, desired: closing ? seen + 1 : seen + 2,
                ordering: .acquiringAndReleasing)
            if isMine { break }
            seen = found
        }
        let taken = unsafe opened.takeUnretainedValue()
        // The last one that leaves a closed guard gives C's own reference back.
        if uses.subtract(2, ordering: .acquiringAndReleasing).newValue == 0 {
            unsafe opened.release()
        }
        return taken
    }

    /// The guard behind a pointer from C; `nil` when that is NULL, or the guard was closed.
    static func guardian(_ pointer: OpaquePointer?, closing: Bool = false) -> Guard? {
        guard let pointer = unsafe pointer else { return nil }
        let handle: Handle = unsafe object(pointer)
        return handle.guardian(closing: closing)
    }
}

/// What only C can do wrong.
private enum MisuseError: Error, OperatorError {
    case closed
    case noRoomForSecret
    case secretOfAnotherSize

    var explanation: String {
        switch self {
        case .closed: "the guard was closed, or is NULL"
        case .noRoomForSecret: "there is nowhere to write the secret to"
        case .secretOfAnotherSize: "the secret has not \(HOLDFAST_SECRET_SIZE) bytes"
        }
    }
    var remedy: String? { nil }
    var stableCode: String {
        switch self {
        case .closed: "GUARD_CLOSED"
        case .noRoomForSecret: "ARGUMENT_INVALID"
        case .secretOfAnotherSize: "DOCUMENT_INVALID"
        }
    }
    var exitStatus: ExitStatus {
        switch self {
        case .closed, .noRoomForSecret: .usage
        case .secretOfAnotherSize: .refused
        }
    }
}

/// The decision of a guard that was closed, or is none.
private func refusal(_ entitlement: String) -> Decision {
    var nothing = HeldLicenses()
    nothing.take(
        .init(
            code: MisuseError.closed.stableCode, message: MisuseError.closed.explanation,
            advice: nil))
    return nothing.decide(entitlement, at: .zero)
}

/// Text from C; what is no UTF-8 names nothing that there is, nor does NULL.
private func text(_ pointer: UnsafePointer<CChar>?) -> String {
    unsafe pointer.map { unsafe String(cString: $0) } ?? ""
}

/// Text for C that lives as long as its owner.
@safe private final class Text: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<CChar>

    init(_ text: String) {
        // A zero inside would end it early; there is none in our texts.
        unsafe pointer = text.withCString { source in
            let size = unsafe strlen(source) + 1
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: size)
            unsafe copy.update(from: source, count: size)
            return unsafe copy
        }
    }

    deinit { unsafe pointer.deallocate() }
}

/// A decision with its texts.
private final class DecisionForC {
    let allowed: Bool
    let state: Text
    let code: Text
    let message: Text
    let advice: Text?
    let json: Text

    init(_ decision: Decision) {
        allowed = decision.allowed
        state = Text(decision.state.rawValue)
        code = Text(decision.code)
        message = Text(decision.message)
        advice = decision.advice.map(Text.init)
        json = Text(Self.json(decision))
    }

    private static func json(_ decision: Decision) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(decision)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}

/// What the last call of a thread said.
private final class LastError {
    var code = Text("")
    var message = Text("")

    /// `nil` when the program has used them all up.
    private static let key: pthread_key_t? = {
        var key = pthread_key_t()
        let made = unsafe pthread_key_create(&key) { pointer in
            guard let pointer = unsafe pointer else { return }
            unsafe Unmanaged<LastError>.fromOpaque(pointer).release()
        }
        return made == 0 ? key : nil
    }()

    static var ofThread: LastError? {
        guard let key else { return nil }
        if let pointer = unsafe pthread_getspecific(key) {
            return unsafe Unmanaged<LastError>.fromOpaque(pointer).takeUnretainedValue()
        }
        let made = LastError()
        unsafe pthread_setspecific(key, Unmanaged.passRetained(made).toOpaque())
        return made
    }
}

/// Runs what may fail, and keeps what it said.
private func result(_ body: () throws -> Void) -> holdfast_result {
    do {
        try body()
        return HOLDFAST_OK
    } catch {
        let known = error as? any OperatorError
        let last = LastError.ofThread
        last?.code = Text(known?.stableCode ?? "UNEXPECTED_FAILURE")
        last?.message = Text(known?.explanation ?? "\(error)")
        return known?.exitStatus.rawValue ?? HOLDFAST_FAILED
    }
}

/// For a pointer that leads nowhere.
private let nothing = Text("")

// MARK: The guard

/// `holdfast.h`.
@c @implementation
public func holdfast_open(
    _ vendor: UnsafePointer<CChar>?, _ product: UnsafePointer<CChar>?,
    _ state: UnsafePointer<CChar>?, _ tpm: UnsafePointer<CChar>?
) -> OpaquePointer {
    unsafe retained(
        Handle(
            Guard(
                vendor: text(vendor),
                product: product.map { unsafe String(cString: $0) },
                state: state.map { unsafe String(cString: $0) } ?? Guard.defaultState,
                tpm: tpm.map { unsafe String(cString: $0) } ?? Guard.defaultTPM)))
}

/// `holdfast.h`.
@c @implementation
public func holdfast_open_testing(
    _ vendor: UnsafePointer<CChar>?, _ product: UnsafePointer<CChar>?,
    _ state: UnsafePointer<CChar>?
) -> OpaquePointer {
    unsafe retained(
        Handle(
            Guard(
                testing: text(vendor), product: product.map { unsafe String(cString: $0) },
                state: text(state))))
}

/// `holdfast.h`.
@c @implementation
public func holdfast_close(_ guardian: OpaquePointer?) {
    unsafe Handle.guardian(guardian, closing: true)?.close()
}

/// `holdfast.h`.
@c @implementation
public func holdfast_refresh(_ guardian: OpaquePointer?) {
    unsafe Handle.guardian(guardian)?.refresh()
}

/// What a guard decides; a refusal when it is none.
private func decision(
    _ guardian: OpaquePointer?, _ entitlement: UnsafePointer<CChar>?
) -> Decision {
    let name = unsafe text(entitlement)
    return unsafe Handle.guardian(guardian)?.check(name) ?? refusal(name)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_is_allowed(
    _ guardian: OpaquePointer?, _ entitlement: UnsafePointer<CChar>?
) -> Bool {
    unsafe decision(guardian, entitlement).allowed
}

// MARK: Features

/// `holdfast.h`.
@c @implementation
public func holdfast_feature_open(
    _ guardian: OpaquePointer?, _ entitlement: UnsafePointer<CChar>?
) -> OpaquePointer? {
    unsafe Handle.guardian(guardian).map { unsafe retained($0.feature(text(entitlement))) }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_feature_is_allowed(_ feature: OpaquePointer?) -> Bool {
    guard let feature = unsafe feature else { return false }
    let asked: Feature = unsafe object(feature)
    return asked.isAllowed
}

/// `holdfast.h`.
@c @implementation
public func holdfast_feature_free(_ feature: OpaquePointer?) {
    unsafe release(feature, Feature.self)
}

// MARK: Decisions

/// `holdfast.h`.
@c @implementation
public func holdfast_check(
    _ guardian: OpaquePointer?, _ entitlement: UnsafePointer<CChar>?
) -> OpaquePointer {
    unsafe retained(DecisionForC(decision(guardian, entitlement)))
}

/// One of the texts of a decision.
private func text(
    _ decision: OpaquePointer?, _ part: (DecisionForC) -> Text
) -> UnsafePointer<CChar> {
    guard let decision = unsafe decision else { return unsafe UnsafePointer(nothing.pointer) }
    return unsafe UnsafePointer(part(object(decision)).pointer)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_allowed(_ decision: OpaquePointer?) -> Bool {
    guard let decision = unsafe decision else { return false }
    let asked: DecisionForC = unsafe object(decision)
    return asked.allowed
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_state(_ decision: OpaquePointer?) -> UnsafePointer<CChar> {
    unsafe text(decision) { $0.state }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_code(_ decision: OpaquePointer?) -> UnsafePointer<CChar> {
    unsafe text(decision) { $0.code }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_message(_ decision: OpaquePointer?) -> UnsafePointer<CChar> {
    unsafe text(decision) { $0.message }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_advice(_ decision: OpaquePointer?) -> UnsafePointer<CChar>? {
    guard let decision = unsafe decision else { return nil }
    let asked: DecisionForC = unsafe object(decision)
    return unsafe asked.advice.map { unsafe UnsafePointer($0.pointer) }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_json(_ decision: OpaquePointer?) -> UnsafePointer<CChar> {
    unsafe text(decision) { $0.json }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_free(_ decision: OpaquePointer?) {
    unsafe release(decision, DecisionForC.self)
}

/// A callback of C with its context, which C promises to be of use on any thread.
@safe private struct Listener: @unchecked Sendable {
    let function: holdfast_listener
    let context: UnsafeMutableRawPointer?

    func tell(_ decision: Decision) {
        let told = DecisionForC(decision)
        withExtendedLifetime(told) {
            unsafe function(context, OpaquePointer(Unmanaged.passUnretained(told).toOpaque()))
        }
    }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_watch(
    _ guardian: OpaquePointer?, _ entitlement: UnsafePointer<CChar>?,
    _ listener: holdfast_listener?, _ context: UnsafeMutableRawPointer?
) {
    guard let listener = unsafe listener, let asked = unsafe Handle.guardian(guardian) else {
        return
    }
    let told = unsafe Listener(function: listener, context: context)
    unsafe asked.watch(text(entitlement)) { told.tell($0) }
}

// MARK: Usage and secrets

/// `holdfast.h`.
@c @implementation
public func holdfast_meter(
    _ guardian: OpaquePointer?, _ meter: UnsafePointer<CChar>?, _ quantity: UInt32
) -> holdfast_result {
    result {
        guard let asked = unsafe Handle.guardian(guardian) else { throw MisuseError.closed }
        unsafe try asked.meter(text(meter), quantity)
    }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_secret(
    _ guardian: OpaquePointer?, _ entitlement: UnsafePointer<CChar>?,
    _ secret: UnsafeMutablePointer<UInt8>?
) -> holdfast_result {
    result {
        guard let asked = unsafe Handle.guardian(guardian) else { throw MisuseError.closed }
        guard let secret = unsafe secret else { throw MisuseError.noRoomForSecret }
        let found = unsafe try asked.secret(for: text(entitlement))
        guard found.count == HOLDFAST_SECRET_SIZE else { throw MisuseError.secretOfAnotherSize }
        found.withBytes { bytes in
            for index in bytes.indices { unsafe secret[index] = bytes[index] }
        }
    }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_error_code() -> UnsafePointer<CChar> {
    unsafe UnsafePointer((LastError.ofThread?.code ?? nothing).pointer)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_error_message() -> UnsafePointer<CChar> {
    unsafe UnsafePointer((LastError.ofThread?.message ?? nothing).pointer)
}
