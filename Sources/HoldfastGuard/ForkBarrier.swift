import Glibc
import Synchronization

/// Keeps a fork out of SQLite.
///
/// SQLite has locks for the whole process. One that another thread has at the moment of a fork stays locked
/// in the child, and who meters there waits for ever. So a fork waits for usage that is being written; not
/// for long, because a TPM may be asked meanwhile.
enum ForkBarrier {
    private static let gate = Gate()
    /// The longest that a fork waits.
    private static let patienceSeconds = 1

    /// Runs what uses SQLite; any number of threads may.
    static func pass<R: ~Copyable, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        unsafe pthread_rwlock_rdlock(gate.lock)
        defer { unsafe pthread_rwlock_unlock(gate.lock) }
        return try body()
    }

    @safe private final class Gate: @unchecked Sendable {
        let lock: UnsafeMutablePointer<pthread_rwlock_t>
        /// The thread that forks, when it has the lock.
        let forking = Atomic<UInt>(0)

        init() {
            unsafe lock = .allocate(capacity: 1)
            make()
            pthread_atfork(
                { ForkBarrier.gate.close() }, { ForkBarrier.gate.open() },
                { ForkBarrier.gate.make() })
        }

        /// In the child the lock is that of a thread with another number: it is made anew.
        func make() {
            forking.store(0, ordering: .relaxed)
            unsafe lock.initialize(to: pthread_rwlock_t())
            var kind = pthread_rwlockattr_t()
            unsafe pthread_rwlockattr_init(&kind)
            // Threads that meter without a pause leave no gap.
            unsafe pthread_rwlockattr_setkind_np(
                &kind, CInt(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP))
            unsafe pthread_rwlock_init(lock, &kind)
            unsafe pthread_rwlockattr_destroy(&kind)
        }

        func close() {
            var deadline = timespec()
            unsafe clock_gettime(CLOCK_REALTIME, &deadline)
            deadline.tv_sec += ForkBarrier.patienceSeconds
            guard unsafe pthread_rwlock_timedwrlock(lock, &deadline) == 0 else { return }
            forking.store(UInt(pthread_self()), ordering: .relaxed)
        }

        func open() {
            guard forking.load(ordering: .relaxed) == UInt(pthread_self()) else { return }
            forking.store(0, ordering: .relaxed)
            unsafe pthread_rwlock_unlock(lock)
        }
    }
}
