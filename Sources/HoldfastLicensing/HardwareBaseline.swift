public import HoldfastProtocol

/// How much each kind of hardware fact says, and how much must agree.
///
/// docs/spec/hardware.md, "Comparison".
public struct FactWeights: Sendable, Hashable {
    private let weights: [ComponentKind: UInt8]
    /// The sum of weights from which on two machines may be the same one.
    public let required: Int

    /// Four sevenths of the whole weight: what is unique to a unit outweighs what a model shares.
    public static let standard = FactWeights(
        checked: [
            .machine: 3, .board: 3, .network: 3, .rootDisk: 2, .chassis: 1, .processor: 1, .tpm: 1,
        ], required: 8)

    /// Kinds that all units of a model may have in common.
    private static let shared: [ComponentKind] = [.chassis, .processor, .tpm]

    private init(checked weights: [ComponentKind: UInt8], required: Int) {
        self.weights = weights
        self.required = required
    }

    /// A vendor's own weights.
    ///
    /// - Returns: `nil` when nothing could reach `required`, or what all units of a model have in
    ///   common already would.
    public init?(_ weights: [ComponentKind: UInt8], required: Int) {
        let candidate = FactWeights(checked: weights, required: required)
        guard required <= candidate.sum(ComponentKind.allCases),
            required > candidate.sum(Self.shared)
        else { return nil }
        self = candidate
    }

    /// The facts of which two machines that are the same one share at least one.
    ///
    /// Without any of them the standard weights cannot reach what is required.
    public static func telling(_ facts: [HardwareFact]) -> [HardwareFact] {
        facts.filter { [.machine, .board, .network].contains($0.kind) }
    }

    /// The weight of kinds together.
    public func sum(_ kinds: some Sequence<ComponentKind>) -> Int {
        kinds.reduce(0) { $0 + Int(weights[$1] ?? 0) }
    }
}

/// What a device's hardware looked like when it was last accepted.
///
/// Facts are a second factor. They never say who a device is: the TPM does.
///
/// docs/spec/hardware.md, "Comparison".
public struct HardwareBaseline: Sendable, Hashable {
    /// In order.
    public let facts: [HardwareFact]

    public init(_ facts: some Sequence<HardwareFact>) { self.facts = Set(facts).sorted() }

    /// What becomes of a device that shows facts.
    public enum Outcome: Sendable, Hashable {
        /// The same TPM: whatever else was exchanged, it is the device.
        case accepted
        /// Another TPM in what seems to be the same machine: an operator has to look at it.
        case provisional
        /// Another TPM, and too little that is the same.
        case newDevice
    }

    /// The outcome with its reasons.
    public struct Judgement: Sendable, Hashable {
        public let outcome: Outcome
        /// Kinds of which other facts are there now.
        public let changed: [ComponentKind]
        /// Kinds of which no fact is there any more.
        public let missing: [ComponentKind]
        /// The weight of what is still the same.
        public let agreement: Int
        /// What to compare with next time.
        public let baseline: HardwareBaseline

        /// The flag HW_DRIFT.
        public var hasDrifted: Bool { !changed.isEmpty || !missing.isEmpty }
    }

    /// Judges facts that a device shows.
    ///
    /// With the same TPM the baseline slides to what is shown. Kinds that are not shown keep what
    /// was known of them: hiding a fact does not make it forgotten. With another TPM nothing slides
    /// before somebody has approved it.
    ///
    /// - Parameters:
    ///   - shown: in any order.
    ///   - isSameTPM: whether the device proved the TPM of this baseline.
    public func judge(
        _ shown: some Sequence<HardwareFact>, isSameTPM: Bool, weights: FactWeights
    ) -> Judgement {
        let now = Dictionary(grouping: Set(shown), by: \.kind)
        let known = Dictionary(grouping: facts, by: \.kind)
        let kinds = known.keys.sorted()
        let missing = kinds.filter { now[$0] == nil }
        let changed = kinds.filter { kind in
            now[kind].map { Set($0) != Set(known[kind] ?? []) } ?? false
        }
        let agreement = weights.sum(
            kinds.filter { kind in
                let before = known[kind] ?? []
                // The greater part: one of three network interfaces may be exchanged.
                return Set(before).intersection(now[kind] ?? []).count * 2 > before.count
            })
        let outcome: Outcome =
            isSameTPM ? .accepted : agreement >= weights.required ? .provisional : .newDevice
        let slid = HardwareBaseline(
            ComponentKind.allCases.flatMap { now[$0] ?? known[$0] ?? [] })
        return Judgement(
            outcome: outcome, changed: changed, missing: missing, agreement: agreement,
            baseline: isSameTPM ? slid : self)
    }
}
