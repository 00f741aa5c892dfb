import Dispatch
import Glibc
public import HoldfastProtocol

/// Waits for hardware that comes, goes or changes.
///
/// It says which kinds of facts may have changed; whether they did is for a new
/// ``HardwareSurvey`` to say. Board, chassis and processor do not change while a machine runs.
///
/// docs/spec/hardware.md, "Changes".
public struct HardwareMonitor: ~Copyable {
    private let monitor: UdevMonitor
    private let udev: Udev

    /// What udev's subsystems have to do with facts.
    private static let kinds: [String: ComponentKind] = [
        "net": .network, "block": .rootDisk, "nvme": .rootDisk, "mmc": .rootDisk, "tpm": .tpm,
    ]
    /// How long nothing happens before changes are told, in milliseconds.
    public static let usualQuiet: Int32 = 500
    /// After so many pauses that were too short it is said what changed all the same.
    private static let maximumRounds = 100

    /// Begins to listen: what happens from now on is not missed.
    public init() throws(HardwareError) {
        let udev = try Udev()
        monitor = try udev.listen(to: Self.kinds.keys.sorted())
        self.udev = udev
    }

    /// Waits for changes, and then until nothing has happened for a while.
    ///
    /// One disk makes a dozen events, and a dock a hundred: they are told together.
    ///
    /// - Parameters:
    ///   - quiet: how long nothing may happen, in milliseconds.
    ///   - stop: a descriptor that ends the waiting when it becomes readable; -1 for none.
    /// - Returns: the kinds that may have changed; `nil` when it was stopped.
    public borrowing func next(quiet: Int32, stop: Int32) -> Set<ComponentKind>? {
        var changed: Set<ComponentKind> = []
        var rounds = 0
        while true {
            var waiting = [
                pollfd(fd: monitor.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
            ]
            let ready = unsafe poll(&waiting, 2, changed.isEmpty ? -1 : quiet)
            if ready < 0, errno == EINTR { continue }
            guard ready >= 0, waiting[1].revents == 0 else { return nil }
            if ready == 0 { return changed }
            if let kind = monitor.receive().flatMap({ Self.kinds[$0] }) {
                changed.insert(kind)
                rounds += 1
            }
            if rounds >= Self.maximumRounds { return changed }
        }
    }

    /// The same as a sequence, which ends when its consumer does.
    ///
    /// - Parameter quiet: how long nothing may happen before changes are told, in milliseconds.
    public static func changes(quiet: Int32) -> AsyncThrowingStream<Set<ComponentKind>, any Error> {
        AsyncThrowingStream { stream in
            guard let stop = StopSignal() else {
                return stream.finish(throwing: HardwareError.udevFailed(reason(errno)))
            }
            stream.onTermination = { _ in stop.give() }
            // libudev's objects are made, used and given back in this one thread.
            DispatchQueue(label: "holdfast.hardware").async {
                do throws(HardwareError) {
                    let monitor = try HardwareMonitor()
                    while let changed = monitor.next(quiet: quiet, stop: stop.descriptor) {
                        stream.yield(changed)
                    }
                    stream.finish()
                } catch {
                    stream.finish(throwing: error)
                }
            }
        }
    }
}

/// Ends a thread that waits for descriptors.
private final class StopSignal: Sendable {
    /// Readable once the signal was given.
    let descriptor: Int32
    private let writing: Int32

    /// - Returns: `nil` when there are no descriptors left.
    init?() {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else { return nil }
        descriptor = ends[0]
        writing = ends[1]
    }

    deinit {
        close(descriptor)
        close(writing)
    }

    func give() {
        var byte: UInt8 = 1
        _ = unsafe write(writing, &byte, 1)
    }
}
