import HoldfastCrypto
import HoldfastDevice
import HoldfastErrors
import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPM

/// The guard without its public face: looks, answers, and tells who listens.
final class GuardCore: Sendable {
    private let vendor: [UInt8]?
    private let product: String?
    private let path: String
    /// It goes by a test license alone, and asks no TPM.
    private let isTest: Bool
    private let world: GuardWorld
    let usage: UsageQueue
    private let watch: DirectoryWatch
    private let state = Lock(State())
    /// One look at a time: they connect to the TPM.
    private let looking = Turn()
    private let teller = Teller()
    /// The process that opened it.
    private let opener = ThisProcess.number

    /// Whether this is the child of a fork, without the thread, and with whatever lock some other thread
    /// of the parent had at that moment.
    private var isInherited: Bool { ThisProcess.number != opener }

    /// What a guard says in the child of a fork.
    private static let inherited: HeldLicenses = {
        var held = HeldLicenses()
        held.take(problem(GuardError.inherited))
        return held
    }()

    /// A look that is this late does not come any more: the thread could not be started, or hangs.
    private static let patience = Duration.seconds(180)

    private struct State {
        var held = HeldLicenses()
        var decisions: [String: Decision] = [:]
        /// The first of them, for who asks by name in an inner loop.
        var features: [String: Feature] = [:]
        /// Those beyond, as long as the program has them.
        var lentFeatures: [LentFeature] = []
        /// When there are so many, those that the program let go are taken out.
        var sweepAt = mostNames
        var listeners: [Int: Listener] = [:]
        var lastListener = 0
        var isStopped = false
        /// When the TPM is asked again.
        var due = Duration.zero
    }

    /// Names come from the program; one that makes them up shall not fill the memory.
    private static let mostNames = 1024

    private struct LentFeature: Sendable {
        weak let feature: Feature?
    }

    private struct Listener: Sendable {
        let entitlement: String
        var last: Decision?
        let tell: @Sendable (Decision) -> Void
        let end: @Sendable () -> Void
    }

    init(
        vendor: String, product: String?, state path: String, isTest: Bool, world: GuardWorld
    ) {
        let id = (try? Hex.decode(variableTime: vendor)).flatMap { $0.count == 32 ? $0 : nil }
        self.vendor = id
        self.product = product
        self.path = path
        self.isTest = isTest
        self.world = world
        usage = UsageQueue(
            day: world.day,
            open: { [world] in
                guard !isTest else {
                    let directory = try Self.test(path, vendor: id)
                    return .init(
                        store: try directory.records(random: world.random), isCompared: true)
                }
                return try Self.with(path, vendor: id, world) { try $0.openRecordsAnyway() }
            }, holding: { isTest ? try $0() : try StateDirectory.whileRecording(in: path, $0) })
        watch = DirectoryWatch(path, below: isTest ? [] : ["licenses", "approvals"])
        usage.afterWrites { [weak self] in self?.count($0) }
    }

    /// After a write: a limit that is used up counts at once.
    private func count(_ store: () throws -> LedgerStore) {
        guard state.withLock({ $0.held.hasLimits }), let usage = try? store().usage() else {
            return
        }
        let tell = state.withLock { state -> [@Sendable () -> Void] in
            state.held.take(usage) ? answer(&state, world.now()) : []
        }
        teller.later(tell)
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
        var device = try EnrolledDevice(directory, tpm: connection, random: world.random)
        device.gate = { try ForkBarrier.pass($0) }
        return try body(device)
    }

    /// The directory of a test license of this vendor.
    private static func test(_ path: String, vendor: [UInt8]?) throws -> TestDirectory {
        guard let vendor else { throw GuardError.vendorInvalid }
        let directory = TestDirectory(path)
        guard try directory.vendorID().bytes == vendor else { throw GuardError.otherVendor }
        return directory
    }

    private func lookForTest() throws -> Found {
        let standing = try Self.test(path, vendor: vendor).standing(wallClock: world.wallClock)
        guard product == nil || product == standing.document.license.product else {
            return .seen(.init(licenses: [], isRetired: false))
        }
        return .test(standing)
    }

    /// What a look found.
    private enum Found {
        case test(TestStanding)
        case seen(HeldLicenses.Seen)
        /// The TPM gave no answer that helps; the files were read.
        case unanswered(TPMError, [LicenseDocument])
    }

    /// Asks the TPM and reads the files, and tells what follows.
    ///
    /// - Parameter onlyWhenLate: not when another thread has just done it.
    func look(onlyWhenLate: Bool = false) {
        guard !isInherited else { return }
        let isAnswered = looking.take {
            guard !onlyWhenLate || isLate else { return false }
            watch.add()
            let began = world.now()
            let found = Result {
                guard !isTest else { return try lookForTest() }
                return try Self.with(path, vendor: vendor, world) { device -> Found in
                    do { return .seen(try device.look(product: product)) } catch let error
                        as TPMError
                    {
                        return .unanswered(error, try device.documents(product: product))
                    }
                }
            }
            // Not under a lock: who is told may ask back.
            let (tell, isAnswered) = state.withLock { state in
                switch found {
                case .success(.test(let standing)): state.held.take(standing)
                case .success(.seen(let seen)): state.held.take(seen, at: began)
                case .success(.unanswered(let error, let documents)):
                    state.held.take(Self.problem(error), documents: documents)
                case .failure(let error): state.held.take(Self.problem(error))
                }
                return (publish(&state), state.held.isAnswered)
            }
            teller.later(tell)
            return isAnswered
        }
        if isAnswered { ForkBarrier.pass { usage.compareAgain() } }
    }

    /// Whether nobody looks.
    private var isLate: Bool {
        let now = world.now()
        return state.withLock { isLate($0, now) }
    }

    private func isLate(_ state: State, _ now: Duration) -> Bool {
        now > state.due + Self.patience
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
        state.due = now + state.held.nextLook(at: now)
        sweep(&state)
        return answer(&state, now)
    }

    private func answer(_ state: inout State, _ now: Duration) -> [@Sendable () -> Void] {
        state.decisions = [:]
        for feature in state.features.values + state.lentFeatures.compactMap(\.feature) {
            feature.set(
                state.held.decide(feature.entitlement, at: now).allowed,
                until: state.due + Self.patience)
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
        guard !isInherited else {
            // A bell that rang here would ring in the parent. What else there is stays: SQLite must not
            // close in a child what the parent opened, and no lock can be relied on.
            watch.letGo()
            _ = unsafe Unmanaged.passRetained(self)
            return
        }
        let ends = state.withLock { state in
            state.isStopped = true
            defer { state.listeners = [:] }
            return state.listeners.values.map(\.end)
        }
        watch.wake()
        for end in ends { end() }
        if waiting { teller.now {} }
    }

    // MARK: Answers

    var problem: HeldLicenses.Problem? {
        isInherited ? Self.inherited.problem : state.withLock { $0.held.problem }
    }

    var standings: [LicenseStanding] {
        guard !isInherited else { return [] }
        let now = world.now()
        return state.withLock { $0.held.standings(at: now) }
    }

    func check(_ entitlement: String) -> Decision {
        guard !isInherited else { return Self.inherited.decide(entitlement, at: .zero) }
        let now = world.now()
        let known = state.withLock { state in
            isLate(state, now) ? nil : decide(entitlement, &state)
        }
        if let known { return known }
        // Nobody looks: who asks does.
        look(onlyWhenLate: true)
        return state.withLock { decide(entitlement, &$0) }
    }

    private func decide(_ entitlement: String, _ state: inout State) -> Decision {
        if let known = state.decisions[entitlement] { return known }
        let decision = state.held.decide(entitlement, at: world.now())
        // What is no name can be of any length.
        if state.decisions.count < Self.mostNames, License.isName(entitlement) {
            state.decisions[entitlement] = decision
        }
        return decision
    }

    func feature(_ entitlement: String) -> Feature {
        guard !isInherited, License.isName(entitlement) else {
            // It stays as it is: no license grants what is no name.
            let now = world.now()
            return Feature(
                entitlement, Self.inherited.decide(entitlement, at: .zero).allowed,
                until: now + Self.patience, now: world.now)
        }
        return state.withLock { state in
            if let known = state.features[entitlement] { return known }
            let made = Feature(
                entitlement, state.held.decide(entitlement, at: world.now()).allowed,
                until: state.due + Self.patience, now: world.now)
            if state.features.count < Self.mostNames {
                state.features[entitlement] = made
            } else {
                if state.lentFeatures.count >= state.sweepAt { sweep(&state) }
                state.lentFeatures.append(LentFeature(feature: made))
            }
            return made
        }
    }

    /// Takes out what the program let go; seldom enough that one costs little.
    private func sweep(_ state: inout State) {
        state.lentFeatures.removeAll { $0.feature == nil }
        state.sweepAt = max(Self.mostNames, 2 * state.lentFeatures.count)
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
        guard !isInherited else {
            tell(Self.inherited.decide(entitlement, at: .zero))
            end()
            return 0
        }
        if isLate { look(onlyWhenLate: true) }
        var listener: Int?
        // What changes from here on is told after this.
        teller.now {
            let registered = state.withLock { state -> (number: Int, Decision)? in
                guard !state.isStopped else { return nil }
                let decision = decide(entitlement, &state)
                state.lastListener += 1
                state.listeners[state.lastListener] = Listener(
                    entitlement: entitlement, last: decision, tell: tell, end: end)
                return (state.lastListener, decision)
            }
            guard let (number, decision) = registered else { return }
            listener = number
            tell(decision)
        }
        guard let listener else {
            end()
            return 0
        }
        return listener
    }

    // MARK: Usage and secrets

    func usage(_ meter: String, _ quantity: UInt32) throws -> UsageQueue.Entry {
        // SQLite breaks files that a parent and its child write through one connection.
        guard !isInherited else { throw GuardError.inherited }
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
        guard !isInherited else { throw GuardError.inherited }
        guard !isTest else { return try testSecret(for: entitlement) }
        do {
            let secret = try Self.with(path, vendor: vendor, world) {
                try $0.secret(of: entitlement, product: product)
            }
            if let secret { return secret }
        } catch let error as TPMError where error.isRefusalOfLease {
            // The look finds the reason; the TPM has decided already. What else can go wrong with a TPM is
            // thrown as it is: there is another remedy.
            look()
            let decision = check(entitlement)
            throw decision.allowed ? error : GuardError.refused(decision)
        }
        let decision = check(entitlement)
        throw decision.allowed ? GuardError.noSecret(entitlement) : GuardError.refused(decision)
    }

    /// No TPM releases it: the value is public.
    private func testSecret(for entitlement: String) throws -> SecretBytes {
        let decision = check(entitlement)
        guard decision.allowed, decision.mode == .normal else {
            throw GuardError.refused(decision)
        }
        guard decision.code != "ALWAYS_ALLOWED" else { throw GuardError.noSecret(entitlement) }
        return SecretBytes(
            copying: try Self.test(path, vendor: vendor).secret(of: entitlement))
    }
}
