public import HoldfastCrypto
public import HoldfastProtocol

/// A hardware fact as it was read; it never leaves the device.
///
/// Neither printing nor reflection shows the value.
public struct RawFact: Sendable, Hashable, Comparable, CustomStringConvertible, CustomReflectable {
    public let kind: ComponentKind
    private let value: String

    init(_ kind: ComponentKind, _ parts: String...) {
        self.kind = kind
        value = parts.joined(separator: FactText.separator)
    }

    /// The value, for the person at the device who asked for it.
    public var revealed: String {
        value.split(separator: Character(FactText.separator)).joined(separator: ", ")
    }

    /// The opaque id that a vendor sees.
    ///
    /// - Parameter salt: the vendor's, 16 bytes.
    public func opaque(salt: [UInt8]) throws(CryptoError) -> HardwareFact {
        try HardwareFact(kind, value: Array(value.utf8), salt: salt)
    }

    public var description: String { "RawFact(\(kind.name), not shown)" }

    public var customMirror: Mirror { Mirror(self, children: []) }

    public static func < (left: Self, right: Self) -> Bool {
        (left.kind, left.value) < (right.kind, right.value)
    }
}

/// A kind of which a machine has no fact, and why.
public struct FactAbsence: Sendable, Hashable {
    public let kind: ComponentKind
    /// In words, without a value.
    public let reason: String
}

/// The hardware facts of the machine that this runs on.
///
/// Reading them never fails: what cannot be read is absent, with a reason. The host name, the
/// kernel, containers, USB devices and virtual interfaces are no facts.
///
/// docs/spec/hardware.md, "Facts".
public struct HardwareSurvey: Sendable {
    /// In order, without doubles.
    public let facts: [RawFact]
    /// Kinds without a fact, in order.
    public let absences: [FactAbsence]

    /// The most facts of one kind: a switch has many interfaces, and each costs an Argon2id.
    static let maximumPerKind = 8

    /// Looks at the machine.
    public init() {
        var found = Findings()
        do throws(HardwareError) {
            let udev = try Udev()
            MachineReader(udev: udev).read(into: &found)
        } catch {
            for kind in ComponentKind.allCases { found.note(kind, error.explanation) }
        }
        facts = ComponentKind.allCases.flatMap { kind in
            found.facts.filter { $0.kind == kind }.sorted().prefix(Self.maximumPerKind)
        }
        let present = Set(facts.map(\.kind))
        absences = ComponentKind.allCases.filter { !present.contains($0) }.map { kind in
            let reasons = Set(found.reasons[kind] ?? ["not found"]).sorted()
            return FactAbsence(kind: kind, reason: reasons.joined(separator: "; "))
        }
    }

    /// The opaque ids that a vendor sees, in order.
    ///
    /// - Parameter salt: the vendor's, 16 bytes.
    /// - Complexity: one Argon2id for each fact.
    public func opaque(salt: [UInt8]) throws(CryptoError) -> [HardwareFact] {
        try facts.map { (fact) throws(CryptoError) in try fact.opaque(salt: salt) }.sorted()
    }
}

/// What comes together while a machine is read.
struct Findings {
    private(set) var facts: Set<RawFact> = []
    private(set) var reasons: [ComponentKind: [String]] = [:]

    mutating func add(_ fact: RawFact) { facts.insert(fact) }

    mutating func note(_ kind: ComponentKind, _ reason: String) {
        reasons[kind, default: []].append(reason)
    }
}
