import Glibc
package import HoldfastCrypto
package import HoldfastTPM

/// What the guard asks of the world, so that tests can be one.
package struct GuardWorld: Sendable {
    /// The machine's running time: no user can set it.
    package var now: @Sendable () -> Duration
    /// Days since 1970 on the wall clock: a hint in the ledger, and nothing is rated by it.
    package var day: @Sendable () -> UInt32
    package var random: RandomSource
    /// Connects to the TPM; closed after each look.
    package var connect: @Sendable () throws -> TPMConnection

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
    private let changes: Int32
    private let bell: (heard: Int32, rung: Int32)

    /// After the first of several files the others follow.
    private static let settling: Int32 = 100

    /// - Parameter below: names of directories in it that are watched as well, once they are there.
    init(_ path: String, below: [String]) {
        self.path = path
        self.below = below
        // A program without a descriptor left has a guard all the same: it looks when it is time.
        changes = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        var ends: [Int32] = [-1, -1]
        if unsafe pipe(&ends) == 0 {
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        }
        bell = (ends[0], ends[1])
        add()
    }

    deinit {
        for descriptor in [changes, bell.heard, bell.rung] where descriptor >= 0 {
            close(descriptor)
        }
    }

    /// A directory that is watched already stays so.
    private func add() {
        let mask = UInt32(IN_MOVED_TO | IN_DELETE | IN_CREATE | IN_ONLYDIR)
        for place in [path] + below.map({ path + "/" + $0 }) {
            unsafe inotify_add_watch(changes, place, mask)
        }
    }

    /// Waits for the time, for a change, or for ``wake()``.
    ///
    /// - Returns: whether files changed.
    func wait(milliseconds: Int32) -> Bool {
        var entries = [changes, bell.heard].map { descriptor in
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        }
        let most = bell.heard < 0 ? min(milliseconds, 1000) : milliseconds
        guard unsafe poll(&entries, 2, most) > 0 else { return false }
        guard entries[1].revents == 0, entries[0].revents != 0 else { return false }
        var ringing = [entries[1]]
        unsafe poll(&ringing, 1, Self.settling)
        var buffer = [UInt8](repeating: 0, count: 4096)
        while unsafe read(changes, &buffer, buffer.count) > 0 {}
        add()
        return true
    }

    /// Ends the present wait, and every later one.
    func wake() {
        var one: UInt8 = 1
        unsafe write(bell.rung, &one, 1)
    }
}

/// A thread that is nobody else's.
enum BackgroundThread {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Runs `body` on a new thread, with every signal left to the program's own threads.
    static func run(_ body: @escaping @Sendable () -> Void) {
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
    }
}
