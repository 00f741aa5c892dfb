import Dispatch
import HoldfastCrypto
import HoldfastDevice
import HoldfastErrors
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPM
import Synchronization

/// The guard without its public face: looks, answers, and tells who listens.
final class GuardCore: Sendable {
    private let vendor: [UInt8]?
    private let product: String?
    private let path: String
    private let world: GuardWorld
    let usage: UsageQueue
    private let watch: DirectoryWatch
    private let state = Mutex(State())
    /// One look at a time: they connect to the TPM.
    private let looking = Mutex(())
    /// Where who listens is told, one after the other.
    private let telling = DispatchQueue(label: "holdfast.telling")
    private static let isTelling = DispatchSpecificKey<ObjectIdentifier>()

    /// Runs after everything that is being told; at once when it comes from there.
    private func afterTelling(_ body: () -> Void) {
        if DispatchQueue.getSpecific(key: Self.isTelling) == ObjectIdentifier(self) {
            body()
        } else {
            telling.sync(execute: body)
        }
    }

    /// A look that is this late does not come any more: the thread could not be started, or hangs.
    private static let patience = Duration.seconds(180)

    private struct State {
        var held = HeldLicenses()
        var decisions: [String: Decision] = [:]
        var features: [String: Feature] = [:]
        var listeners: [Int: Listener] = [:]
        var lastListener = 0
        var isStopped = false
        /// When the TPM is asked again.
        var due = Duration.zero
    }

    private struct Listener: Sendable {
        let entitlement: String
        var last: Decision?
        let tell: @Sendable (Decision) -> Void
        let end: @Sendable () -> Void
    }

    init(vendor: String, product: String?, state path: String, world: GuardWorld) {
        let id = (try? Hex.decode(variableTime: vendor)).flatMap { $0.count == 32 ? $0 : nil }
        self.vendor = id
        self.product = product
        self.path = path
        self.world = world
        usage = UsageQueue(
            day: world.day,
            open: { [world] in
                try Self.with(path, vendor: id, world) { try $0.openRecordsAnyway() }
            }, holding: { try StateDirectory.whileRecording(in: path, $0) })
        watch = DirectoryWatch(path, below: ["licenses", "approvals"])
        telling.setSpecific(key: Self.isTelling, value: ObjectIdentifier(self))
    }

    // MARK: Looks

    /// Lends the enrolled device; nothing of it is changed.
    private static func with<R: ~Copyable>(
        _ path: String, vendor: [UInt8]?, _ world: GuardWorld,
        _ body: (EnrolledDevice) throws -> R
    ) throws -> R {
        guard let vendor else { throw GuardError.vendorInvalid }
        guard let directory = try StateDirectory(reading: path) else {
            throw GuardError.notEnrolled
        }
        guard let trust = try directory.trust() else { throw GuardError.notEnrolled }
        guard trust.vendorID.bytes == vendor else { throw GuardError.otherVendor }
        let connection: TPMConnection
        do { connection = try world.connect() } catch let error as TPMError
            where error.code == .unreachable
        {
            connection = TPMConnection(AbsentTransport(error), random: world.random)
        }
        defer { connection.close() }
        return try body(EnrolledDevice(directory, tpm: connection, random: world.random))
    }

    /// Asks the TPM and reads the files, and tells what follows.
    func look() {
        looking.withLock { _ in
            let began = world.now()
            let found = Result {
                try Self.with(path, vendor: vendor, world) { try $0.look(product: product) }
            }
            let tell: [@Sendable () -> Void] = state.withLock { state in
                switch found {
                case .success(let seen): state.held.take(seen, at: began)
                case .failure(let error): state.held.take(Self.problem(error))
                }
                return publish(&state)
            }
            // Not under the lock of looks: who is told may ask back.
            if !tell.isEmpty { telling.async { for one in tell { one() } } }
        }
        usage.compareAgain()
    }

    private static func problem(_ error: any Error) -> HeldLicenses.Problem {
        guard let known = error as? any OperatorError else {
            return .init(code: "UNEXPECTED_FAILURE", message: "\(error)", advice: nil)
        }
        return .init(
            code: known.stableCode, message: known.explanation, advice: known.remedy,
            isUnenrolled: known.stableCode == "UNENROLLED")
    }

    /// Works every answer out again.
    private func publish(_ state: inout State) -> [@Sendable () -> Void] {
        let now = world.now()
        state.decisions = [:]
        state.due = now + state.held.nextLook(at: now)
        for (name, feature) in state.features {
            feature.set(
                state.held.decide(name, at: now).allowed, until: state.due + Self.patience)
        }
        var told: [@Sendable () -> Void] = []
        for (number, listener) in state.listeners {
            let decision = state.held.decide(listener.entitlement, at: now)
            guard decision != listener.last else { continue }
            state.listeners[number]?.last = decision
            // Who has gone meanwhile is not told.
            told.append { [weak self] in
                guard let self, self.state.withLock({ $0.listeners[number] != nil }) else { return }
                listener.tell(decision)
            }
        }
        return told
    }

    /// Looks on a thread of its own from now on.
    func start() {
        BackgroundThread.run { [self] in
            while let due = state.withLock({ $0.isStopped ? nil : $0.due }) {
                let left = due - world.now()
                guard left > .zero else {
                    look()
                    continue
                }
                // In steps: the kernel's wait stands still while the machine sleeps, and the first
                // thing after waking is a look.
                let step = min(left, Self.longestStep)
                if watch.wait(milliseconds: Int32(clamping: Int64(step / .milliseconds(1)) + 1)) {
                    look()
                }
            }
        }
    }

    private static let longestStep = Duration.seconds(60)

    /// Ends the thread and every stream.
    ///
    /// - Parameter waiting: for a look that is under way, so that nobody is told anything afterwards.
    func stop(waiting: Bool) {
        let ends = state.withLock { state in
            state.isStopped = true
            defer { state.listeners = [:] }
            return state.listeners.values.map(\.end)
        }
        watch.wake()
        for end in ends { end() }
        if waiting { afterTelling {} }
    }

    // MARK: Answers

    var problem: HeldLicenses.Problem? { state.withLock { $0.held.problem } }

    var standings: [LicenseStanding] {
        let now = world.now()
        return state.withLock { $0.held.standings(at: now) }
    }

    func check(_ entitlement: String) -> Decision {
        let now = world.now()
        // Nobody looks: who asks does.
        if state.withLock({ now > $0.due + Self.patience }) { look() }
        return state.withLock { state in
            if let known = state.decisions[entitlement] { return known }
            let decision = state.held.decide(entitlement, at: world.now())
            // Names come from the program; one that makes them up shall not fill the memory.
            if state.decisions.count < 1024 { state.decisions[entitlement] = decision }
            return decision
        }
    }

    func feature(_ entitlement: String) -> Feature {
        state.withLock { state in
            if let known = state.features[entitlement] { return known }
            let made = Feature(
                entitlement, state.held.decide(entitlement, at: world.now()).allowed,
                until: state.due + Self.patience, now: world.now)
            state.features[entitlement] = made
            return made
        }
    }

    func watch(_ entitlement: String, _ body: @escaping @Sendable (Decision) -> Void) {
        _ = listen(entitlement, tell: body, end: {})
    }

    func decisions(on entitlement: String) -> AsyncStream<Decision> {
        let (stream, continuation) = AsyncStream<Decision>.makeStream(
            bufferingPolicy: .bufferingNewest(1))
        let number = listen(
            entitlement, tell: { continuation.yield($0) }, end: { continuation.finish() })
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.listeners.removeValue(forKey: number) }
        }
        return stream
    }

    private func listen(
        _ entitlement: String, tell: @escaping @Sendable (Decision) -> Void,
        end: @escaping @Sendable () -> Void
    ) -> Int {
        let decision = check(entitlement)
        let number = state.withLock { state -> Int? in
            guard !state.isStopped else { return nil }
            state.lastListener += 1
            state.listeners[state.lastListener] = Listener(
                entitlement: entitlement, last: decision, tell: tell, end: end)
            return state.lastListener
        }
        guard let number else {
            end()
            return 0
        }
        afterTelling { tell(decision) }
        return number
    }

    // MARK: Usage and secrets

    func usage(_ meter: String, _ quantity: UInt32) throws -> UsageQueue.Entry {
        guard License.isName(meter) else { throw GuardError.badMeter(meter) }
        guard quantity > 0 else { throw GuardError.nothingUsed }
        return state.withLock { state in
            UsageQueue.Entry(
                usage: .init(
                    meter: meter, termsVersion: state.held.termsVersion(of: meter),
                    quantity: quantity), ticks: state.held.lastTicks)
        }
    }

    func secret(for entitlement: String) throws -> SecretBytes {
        do {
            let secret = try Self.with(path, vendor: vendor, world) {
                try $0.secret(of: entitlement, product: product)
            }
            if let secret { return secret }
        } catch is TPMError {
            // The look finds the reason; the TPM has decided already.
            look()
            throw GuardError.refused(check(entitlement))
        }
        let decision = check(entitlement)
        throw decision.allowed ? GuardError.noSecret(entitlement) : GuardError.refused(decision)
    }
}
