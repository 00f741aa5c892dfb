import Glibc
import HoldfastTPM
import Synchronization

/// The signal that asks the program to end, or 0.
private let asked = Atomic<Int32>(0)

/// How long giving slots back may take after a signal, in seconds: a TPM may hang.
private let patience: UInt32 = 2

/// A way to a TPM on which a signal does not leave keys and sessions behind.
///
/// After SIGTERM, SIGINT or SIGHUP no command goes to the TPM but those that give slots back; then
/// the program ends by the signal. A second signal, or two seconds, end it at once. Nobody can do
/// that for SIGKILL; behind a resource manager nobody has to.
final class InterruptibleTransport: TPMTransport {
    private let inner: any TPMTransport
    /// A command was refused because of a signal, and its transaction goes on to its end.
    private var refused = false
    private static let signals = [SIGTERM, SIGINT, SIGHUP]

    init(_ inner: any TPMTransport) {
        self.inner = inner
        _ = asked.load(ordering: .relaxed)
        _ = signal(SIGALRM) { _ in endBySignal() }
        for number in Self.signals {
            let before = signal(number) { number in
                let first = asked.compareExchange(
                    expected: 0, desired: number, ordering: .sequentiallyConsistent)
                if first.exchanged { alarm(patience) } else { endBySignal() }
            }
            // `nohup` and a shell's background jobs: what was ignored stays so.
            if unsafe unsafeBitCast(before, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
                _ = signal(number, SIG_IGN)
            }
        }
    }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        if asked.load(ordering: .relaxed) != 0, !Self.givesBack(command) {
            refused = true
            throw TPMError(.unreachable, "interrupted by a signal")
        }
        return try inner.exchange(command)
    }

    /// FlushContext, and GetCapability to see what there is to flush.
    private static func givesBack(_ command: [UInt8]) -> Bool {
        command.count >= 10 && command[6..<9] == [0, 0, 1]
            && (command[9] == 0x65 || command[9] == 0x7A)
    }

    func endTransaction() {
        // The connection is a good one: the slots are given back on it.
        if !refused { inner.endTransaction() }
        refused = false
    }

    func close() {
        inner.close()
        if asked.load(ordering: .relaxed) != 0 { endBySignal() }
    }

    var hasResourceManager: Bool { inner.hasResourceManager }
}

/// Lets the signal do what it does to a program that does not care.
private func endBySignal() {
    let number = asked.load(ordering: .relaxed)
    _ = signal(number, SIG_DFL)
    // Inside its own handler the signal is blocked.
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe sigaddset(&signals, number)
    unsafe sigprocmask(SIG_UNBLOCK, &signals, nil)
    raise(number)
}
