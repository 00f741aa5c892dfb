/// Tells who listens, one after the other, on a thread that is there while there is something to tell.
///
/// Not a queue of Dispatch: in the child of a fork it counts on threads that the parent had, and whatever
/// is queued waits for ever.
final class Teller: Sendable {
    private struct Waiting {
        var bodies: [@Sendable () -> Void] = []
        var isRunning = false
    }

    private let waiting = Lock(Waiting())
    /// Who is told may ask to be told of something else, and close the guard.
    private let turn = Turn(isRecursive: true)

    /// Later, on another thread.
    func later(_ bodies: [@Sendable () -> Void]) {
        guard !bodies.isEmpty else { return }
        let begins = waiting.withLock { waiting in
            waiting.bodies += bodies
            defer { waiting.isRunning = true }
            return !waiting.isRunning
        }
        guard begins else { return }
        // Without a thread they wait for the next one.
        if !BackgroundThread.run({ [self] in tellAll() }) {
            waiting.withLock { $0.isRunning = false }
        }
    }

    private func tellAll() {
        while let body = waiting.withLock({ waiting -> (@Sendable () -> Void)? in
            guard !waiting.bodies.isEmpty else {
                waiting.isRunning = false
                return nil
            }
            return waiting.bodies.removeFirst()
        }) {
            turn.take { body() }
        }
    }

    /// Now, after what is being told at the moment; at once when it comes from there.
    func now(_ body: () -> Void) { turn.take { body() } }
}
