import Dispatch
import HoldfastDevice
import HoldfastErrors
import HoldfastProtocol
import HoldfastTPM
import Synchronization

/// Usage on its way to the disk: whoever comes while another write is under way shares the next one.
final class UsageQueue: Sendable {
    /// What is recorded.
    struct Entry: Sendable {
        let usage: LedgerStore.Usage
        let ticks: UInt64
    }

    private struct Waiting: Sendable {
        let entry: Entry
        let done: @Sendable (Result<Void, any Error>) -> Void
    }

    private let waiting = Lock<[Waiting]>([])
    private let store = Lock<Records?>(nil)
    private let queue = DispatchQueue(label: "holdfast.usage")
    private let day: @Sendable () -> UInt32
    private let open: @Sendable () throws -> Records
    private let holding: Holding
    /// Is told after each write, on the queue.
    private let listener = Lock<(@Sendable (() throws -> LedgerStore) -> Void)?>(nil)

    /// Keeps the enrollment from ending during a write; throws when it has ended.
    typealias Holding = @Sendable (() throws -> [Int: LedgerError]) throws -> [Int: LedgerError]

    /// The most of one write: a transaction is held in memory.
    private static let mostAtOnce = 4096

    /// - Parameter open: opens the ledger; called again when another one took its place.
    init(
        day: @escaping @Sendable () -> UInt32, open: @escaping @Sendable () throws -> Records,
        holding: @escaping Holding
    ) {
        self.day = day
        self.open = open
        self.holding = holding
    }

    /// Tells someone after each write, before it is done for who waits.
    func afterWrites(_ body: @escaping @Sendable (() throws -> LedgerStore) -> Void) {
        listener.withLock { $0 = body }
    }

    /// Waits until it is on the disk.
    func record(_ entry: Entry) throws {
        let result = Mutex<Result<Void, any Error>?>(nil)
        add(entry) { found in result.withLock { $0 = found } }
        while true {
            if let found = result.withLock({ $0 }) { return try found.get() }
            queue.sync { write() }
        }
    }

    /// Waits until it is on the disk.
    func record(_ entry: Entry) async throws {
        try await withCheckedThrowingContinuation { continuation in
            add(entry) { continuation.resume(with: $0) }
            queue.async { self.write() }
        }
    }

    private func add(
        _ entry: Entry, _ done: @escaping @Sendable (Result<Void, any Error>) -> Void
    ) {
        waiting.withLock { $0.append(Waiting(entry: entry, done: done)) }
    }

    /// Writes what waits, once; on the queue.
    ///
    /// Everyone who adds something asks for a write, so nothing is left, and nobody who adds without end
    /// keeps others waiting.
    private func write() {
        let batch = waiting.withLock { waiting in
            defer { waiting.removeFirst(min(waiting.count, Self.mostAtOnce)) }
            return Array(waiting.prefix(Self.mostAtOnce))
        }
        guard let last = batch.last else { return }
        let result = Result {
            // Opening takes longer, and is not done under the lock.
            _ = try records()
            return try holding {
                try records().appendEach(
                    batch.map(\.entry.usage), ticks: last.entry.ticks, day: day())
            }
        }
        if case .success = result { listener.withLock { $0 }?({ try records() }) }
        for (place, one) in batch.enumerated() {
            one.done(
                result.mapError { $0 }.flatMap { refused in
                    refused[place].map { .failure(LedgerStoreError.refused($0)) } ?? .success(())
                })
        }
    }

    private func records() throws -> LedgerStore {
        try store.withLock { present in
            if let records = present, records.store.isInPlace { return records.store }
            present = nil
            let opened = try open()
            present = opened
            return opened.store
        }
    }

    /// After the TPM was away: what was opened without it is opened once more.
    ///
    /// What is open stays so until the other one is: usage that could be recorded still can.
    func compareAgain() {
        guard store.withLock({ $0?.isCompared == false }) else { return }
        guard let opened = try? open(), opened.isCompared else { return }
        store.withLock { present in
            if present?.isCompared == false { present = opened }
        }
    }

    /// An opened ledger.
    struct Records: Sendable {
        let store: LedgerStore
        /// The TPM's counter was compared.
        let isCompared: Bool
    }
}

extension EnrolledDevice {
    /// Opens the ledger, also while the TPM does not answer: usage is not lost for that.
    ///
    /// One that is not there is not begun then.
    func openRecordsAnyway() throws -> UsageQueue.Records {
        do {
            // Before the ledger is touched: what compares them makes the file, and keeps a lock as long
            // as the TPM takes.
            try probe()
            return .init(store: try openRecords(), isCompared: true)
        } catch let error as TPMError where error.isSilence {
            return .init(store: try openRecordsUncompared(), isCompared: false)
        }
    }
}

extension TPMError {
    /// The TPM has said nothing: it is away, hangs, serves another program, or does not work.
    ///
    /// That is no refusal of anything.
    var isSilence: Bool {
        switch code {
        case .unreachable, .busy, .timedOut: true
        case .refused: exitStatus == .unreachable
        default: false
        }
    }
}
