public import CHoldfast
import FoundationEssentials
import Glibc
import HoldfastCrypto
import HoldfastErrors
import HoldfastGuard
import HoldfastLicensing

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

/// Text for C that lives as long as its owner.
@safe private final class Text {
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

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        unsafe pthread_key_create(&key) { pointer in
            guard let pointer = unsafe pointer else { return }
            unsafe Unmanaged<LastError>.fromOpaque(pointer).release()
        }
        return key
    }()

    static var ofThread: LastError {
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
        last.code = Text(known?.stableCode ?? "UNEXPECTED_FAILURE")
        last.message = Text(known?.explanation ?? "\(error)")
        return known?.exitStatus.rawValue ?? HOLDFAST_FAILED
    }
}

// MARK: The guard

/// `holdfast.h`.
@c @implementation
public func holdfast_open(
    _ vendor: UnsafePointer<CChar>, _ product: UnsafePointer<CChar>?,
    _ state: UnsafePointer<CChar>?, _ tpm: UnsafePointer<CChar>?
) -> OpaquePointer {
    unsafe retained(
        Guard(
            vendor: String(cString: vendor),
            product: product.map { unsafe String(cString: $0) },
            state: state.map { unsafe String(cString: $0) } ?? Guard.defaultState,
            tpm: tpm.map { unsafe String(cString: $0) } ?? Guard.defaultTPM))
}

/// `holdfast.h`.
@c @implementation
public func holdfast_close(_ guardian: OpaquePointer?) {
    guard let guardian = unsafe guardian else { return }
    let closed: Guard = unsafe object(guardian)
    closed.close()
    unsafe release(guardian, Guard.self)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_refresh(_ guardian: OpaquePointer) {
    let asked: Guard = unsafe object(guardian)
    asked.refresh()
}

/// `holdfast.h`.
@c @implementation
public func holdfast_is_allowed(
    _ guardian: OpaquePointer, _ entitlement: UnsafePointer<CChar>
) -> Bool {
    let asked: Guard = unsafe object(guardian)
    return unsafe asked.check(String(cString: entitlement)).allowed
}

// MARK: Features

/// `holdfast.h`.
@c @implementation
public func holdfast_feature_open(
    _ guardian: OpaquePointer, _ entitlement: UnsafePointer<CChar>
) -> OpaquePointer {
    let asked: Guard = unsafe object(guardian)
    return unsafe retained(asked.feature(String(cString: entitlement)))
}

/// `holdfast.h`.
@c @implementation
public func holdfast_feature_is_allowed(_ feature: OpaquePointer) -> Bool {
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
    _ guardian: OpaquePointer, _ entitlement: UnsafePointer<CChar>
) -> OpaquePointer {
    let asked: Guard = unsafe object(guardian)
    return unsafe retained(DecisionForC(asked.check(String(cString: entitlement))))
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_allowed(_ decision: OpaquePointer) -> Bool {
    let asked: DecisionForC = unsafe object(decision)
    return asked.allowed
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_state(_ decision: OpaquePointer) -> UnsafePointer<CChar> {
    let asked: DecisionForC = unsafe object(decision)
    return unsafe UnsafePointer(asked.state.pointer)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_code(_ decision: OpaquePointer) -> UnsafePointer<CChar> {
    let asked: DecisionForC = unsafe object(decision)
    return unsafe UnsafePointer(asked.code.pointer)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_message(_ decision: OpaquePointer) -> UnsafePointer<CChar> {
    let asked: DecisionForC = unsafe object(decision)
    return unsafe UnsafePointer(asked.message.pointer)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_advice(_ decision: OpaquePointer) -> UnsafePointer<CChar>? {
    let asked: DecisionForC = unsafe object(decision)
    return unsafe asked.advice.map { unsafe UnsafePointer($0.pointer) }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_decision_json(_ decision: OpaquePointer) -> UnsafePointer<CChar> {
    let asked: DecisionForC = unsafe object(decision)
    return unsafe UnsafePointer(asked.json.pointer)
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
    _ guardian: OpaquePointer, _ entitlement: UnsafePointer<CChar>,
    _ listener: @escaping holdfast_listener, _ context: UnsafeMutableRawPointer?
) {
    let asked: Guard = unsafe object(guardian)
    let told = unsafe Listener(function: listener, context: context)
    unsafe asked.watch(String(cString: entitlement)) { told.tell($0) }
}

// MARK: Usage and secrets

/// `holdfast.h`.
@c @implementation
public func holdfast_meter(
    _ guardian: OpaquePointer, _ meter: UnsafePointer<CChar>, _ quantity: UInt32
) -> holdfast_result {
    let asked: Guard = unsafe object(guardian)
    return result { unsafe try asked.meter(String(cString: meter), quantity) }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_secret(
    _ guardian: OpaquePointer, _ entitlement: UnsafePointer<CChar>,
    _ secret: UnsafeMutablePointer<UInt8>
) -> holdfast_result {
    let asked: Guard = unsafe object(guardian)
    return result {
        let found = unsafe try asked.secret(for: String(cString: entitlement))
        found.withBytes { bytes in
            for index in bytes.indices { unsafe secret[index] = bytes[index] }
        }
    }
}

/// `holdfast.h`.
@c @implementation
public func holdfast_error_code() -> UnsafePointer<CChar> {
    unsafe UnsafePointer(LastError.ofThread.code.pointer)
}

/// `holdfast.h`.
@c @implementation
public func holdfast_error_message() -> UnsafePointer<CChar> {
    unsafe UnsafePointer(LastError.ofThread.message.pointer)
}
