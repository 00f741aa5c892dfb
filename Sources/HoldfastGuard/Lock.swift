import Glibc

/// One thread at a time.
///
/// Not `Synchronization.Mutex`: that one keeps the number of the thread that asks, which is another one in
/// the child of a fork. As soon as two threads meet there it ends the process.
@safe final class Turn: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    /// - Parameter isRecursive: whether a thread whose turn it is may ask once more.
    init(isRecursive: Bool = false) {
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        var kind = pthread_mutexattr_t()
        unsafe pthread_mutexattr_init(&kind)
        if isRecursive {
            unsafe pthread_mutexattr_settype(&kind, CInt(PTHREAD_MUTEX_RECURSIVE))
        }
        unsafe pthread_mutex_init(mutex, &kind)
        unsafe pthread_mutexattr_destroy(&kind)
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    func take<R: ~Copyable, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return try body()
    }
}

/// A value that one thread at a time may use.
final class Lock<Value: Sendable>: @unchecked Sendable {
    private let turn = Turn()
    private var value: Value

    init(_ value: Value) { self.value = value }

    func withLock<R: ~Copyable, E: Error>(_ body: (inout Value) throws(E) -> R) throws(E) -> R {
        try turn.take { () throws(E) -> R in try body(&value) }
    }
}
