import Glibc
import Synchronization

/// The number of this process.
enum ThisProcess {
    private static let page = Page()

    /// What `getpid` says, without asking the kernel each time: a question of an application comes often.
    static var number: Int32 { page.number }

    /// A page that the kernel empties in the child of a fork, however that was made.
    @safe private final class Page: @unchecked Sendable {
        private let kept: UnsafeMutablePointer<Atomic<Int32>>?

        init() {
            let size = sysconf(CInt(_SC_PAGESIZE))
            let mapped = unsafe mmap(
                nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            guard let place = unsafe mapped, unsafe place != MAP_FAILED,
                unsafe madvise(place, size, MADV_WIPEONFORK) == 0
            else {
                // A kernel before 4.14 is asked each time.
                unsafe kept = nil
                return
            }
            unsafe kept = place.bindMemory(to: Atomic<Int32>.self, capacity: 1)
            unsafe kept?.initialize(to: Atomic(0))
        }

        var number: Int32 {
            guard let kept = unsafe kept else { return getpid() }
            let known = unsafe kept.pointee.load(ordering: .relaxed)
            if known != 0 { return known }
            let asked = getpid()
            unsafe kept.pointee.store(asked, ordering: .relaxed)
            return asked
        }
    }
}
