import Glibc
package import HoldfastCrypto
package import HoldfastTPM
import Synchronization

/// What the guard asks of the world, so that tests can be one.
package struct GuardWorld: Sendable {
    /// The machine's running time: no user can set it.
    package var now: @Sendable () -> Duration
    /// Days since 1970 on the wall clock: a hint in the ledger, and nothing is rated by it.
    package var day: @Sendable () -> UInt32
    package var random: RandomSource
    /// Connects to the TPM; closed after each look.
    package var connect: @Sendable () throws -> TPMConnection

    /// UTC seconds of that day's beginning: a test license has no other clock.
    var wallClock: UInt64 { UInt64(day()) * 86_400 }

    package init(
        now: @escaping @Sendable () -> Duration, day: @escaping @Sendable () -> UInt32,
        random: RandomSource, connect: @escaping @Sendable () throws -> TPMConnection
    ) {
        self.now = now
        self.day = day
        self.random = random
        self.connect = connect
    }

    /// The real one.
    static func system(_ connect: @escaping @Sendable () throws -> TPMConnection) -> GuardWorld {
        GuardWorld(
            now: { clock(CLOCK_BOOTTIME) },
            day: { UInt32(clamping: clock(CLOCK_REALTIME).components.seconds / 86_400) },
            random: .system, connect: connect)
    }

    private static func clock(_ kind: clockid_t) -> Duration {
        var time = timespec()
        unsafe clock_gettime(kind, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

}

/// Notice of what changes in a directory, and of being woken.
final class DirectoryWatch: Sendable {
    private let path: String
    private let below: [String]
    private let changes: Descriptor
    private let bell: (heard: Descriptor, rung: Descriptor)

    /// After the first of several files the others follow.
    private static let settling: Int32 = 100
    /// Without a bell nobody can end a wait.
    private static let longestDeafWait: Int32 = 1000

    /// - Parameter below: names of directories in it that are watched as well, once they are there.
    init(_ path: String, below: [String]) {
        self.path = path
        self.below = below
        // A program without a descriptor left has a guard all the same: it looks when it is time.
        changes = Descriptor(inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK)))
        var ends: [Int32] = [-1, -1]
        // Nobody ever waits at the bell, however often it rings.
        let kind = SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        _ = unsafe socketpair(AF_UNIX, Int32(kind), 0, &ends)
        bell = (Descriptor(ends[0]), Descriptor(ends[1]))
    }

    /// Watches what is there by now; what is watched already stays so.
    ///
    /// Before each look: what comes after it is noticed, what came before is seen.
    func add() {
        guard let changes = changes.number else { return }
        let mask = UInt32(IN_MOVED_TO | IN_DELETE | IN_CREATE | IN_ONLYDIR)
        for place in [path] + below.map({ path + "/" + $0 }) {
            unsafe inotify_add_watch(changes, place, mask)
        }
    }

    /// Waits for the time, for a change, or for ``wake()``.
    ///
    /// - Returns: whether files changed.
    func wait(milliseconds: Int32) -> Bool {
        // The kernel passes over a negative number.
        var entries = [changes, bell.heard].map { descriptor in
            pollfd(fd: descriptor.number ?? -1, events: Int16(POLLIN), revents: 0)
        }
        let most =
            entries[1].fd < 0 ? min(milliseconds, Self.longestDeafWait) : milliseconds
        guard unsafe poll(&entries, 2, most) > 0 else { return false }
        // Anything else would be reported again at once, and for ever.
        if Int32(entries[0].revents) & ~POLLIN != 0 { changes.forget() }
        if Int32(entries[1].revents) & ~POLLIN != 0 { bell.heard.forget() }
        guard entries[1].revents == 0 else {
            bell.heard.drain()
            return false
        }
        guard Int32(entries[0].revents) == POLLIN else { return false }
        var ringing = [entries[1]]
        unsafe poll(&ringing, 1, Self.settling)
        changes.drain()
        return true
    }

    /// Ends the present wait.
    func wake() { bell.rung.ring() }

    /// In the child of a fork: lets go what is its own, and the parent keeps its.
    func letGo() {
        for descriptor in [changes, bell.heard, bell.rung] { descriptor.close() }
    }
}

/// A descriptor that is closed once, and only while it is what it was.
///
/// A program that becomes a daemon closes descriptors that it does not know, and may get their numbers for
/// files of its own.
private final class Descriptor: Sendable {
    private let kept: Atomic<Int32>
    private let device: dev_t
    private let inode: ino_t

    /// - Parameter number: negative when there is none.
    init(_ number: Int32) {
        var status = stat()
        let isKnown = unsafe number >= 0 && fstat(number, &status) == 0
        kept = Atomic(isKnown ? number : -1)
        device = status.st_dev
        inode = status.st_ino
    }

    deinit { close() }

    /// `nil` when there is none, or it is not the same any more.
    var number: Int32? {
        let number = kept.load(ordering: .relaxed)
        guard number >= 0 else { return nil }
        var status = stat()
        guard unsafe fstat(number, &status) == 0, status.st_dev == device, status.st_ino == inode
        else {
            forget()
            return nil
        }
        return number
    }

    /// It is somebody else's by now.
    func forget() { kept.store(-1, ordering: .relaxed) }

    func close() {
        guard let number, kept.exchange(-1, ordering: .relaxed) >= 0 else { return }
        _ = Glibc.close(number)
    }

    /// Lets the other end of a pair hear something.
    func ring() {
        guard let number else { return }
        // No signal when that one was closed.
        unsafe send(number, [1], 1, Int32(MSG_NOSIGNAL))
    }

    /// Reads what is there, and does not wait.
    func drain() {
        guard let number else { return }
        var buffer = [UInt8](repeating: 0, count: 4096)
        while unsafe read(number, &buffer, buffer.count) > 0 {}
    }
}

/// A thread that is nobody else's.
enum BackgroundThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Runs `body` on a new thread, with every signal left to the program's own threads.
    ///
    /// - Returns: whether there is one.
    @discardableResult
    static func run(_ body: @escaping @Sendable () -> Void) -> Bool {
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
        var thread = pthread_t()
        let box = unsafe Unmanaged.passRetained(Body(body))
        let made = unsafe pthread_create(
            &thread, nil,
            { pointer in
                guard let pointer = unsafe pointer else { return nil }
                unsafe Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
        if made == 0 { pthread_detach(thread) } else { unsafe box.release() }
        return made == 0
    }
}
