import HoldfastCrypto
public import HoldfastTPMWire

/// What a server wants to see of a boot beside its quote, because a policy speaks of it.
///
/// It stands in the header of a reply. What is not demanded does not leave the device.
///
/// docs/spec/formats.md, "Reply header".
public struct MeasurementDemand: Sendable, Hashable {
    /// How much of the boot event log.
    public enum EventLog: String, Sendable, Hashable, CaseIterable {
        case none
        /// Every event with its digests; data of none.
        case digests
        /// The data of what PCR 7 holds as well: the variables of Secure Boot, and what vouched.
        case secureBoot = "secure-boot"
    }

    /// Up to where the server has accepted the measurement list of one boot.
    public struct Accepted: Sendable, Hashable {
        public var resetCount: UInt32
        public var restartCount: UInt32
        /// The list goes on behind so many entries.
        public var entries: UInt64

        public init(resetCount: UInt32, restartCount: UInt32, entries: UInt64) {
            self.resetCount = resetCount
            self.restartCount = restartCount
            self.entries = entries
        }
    }

    /// What is quoted: the boot state that leases are bound to, and what a policy speaks of.
    public var selection: PCRSelection
    public var eventLog: EventLog
    /// The list of the Integrity Measurement Architecture.
    public var wantsList: Bool
    public var accepted: Accepted?

    /// The most entries that are counted.
    public static let maximumEntries = UInt64(1) << 40

    public init(
        selection: PCRSelection, eventLog: EventLog, wantsList: Bool, accepted: Accepted?
    ) {
        self.selection = selection
        self.eventLog = eventLog
        self.wantsList = wantsList
        self.accepted = accepted
    }

    /// What a policy needs to be judged, and nothing else.
    ///
    /// - Parameters:
    ///   - base: what is always quoted.
    ///   - accepted: for a policy that needs a list.
    public init(for policy: AppraisalPolicy, beside base: PCRSelection, accepted: Accepted?) {
        let wanted = policy.unchecked.union(policy.references.keys)
        var hashes = base.banks.map(\.hash)
        hashes += HashAlgorithm.allCases.filter { hash in
            !hashes.contains(hash) && wanted.contains { $0.hash == hash }
        }
        selection = PCRSelection(
            joining: hashes.map { hash in
                let always = base.banks.filter { $0.hash == hash }.flatMap(\.indexes)
                let more = wanted.filter { $0.hash == hash }.map(\.index)
                return PCRSelection(hash, Set(always + more).sorted())
            })
        let needsData =
            policy.require[.secureBoot] != nil || !policy.revoked.isEmpty
            || policy.authorities != nil
        eventLog = needsData ? .secureBoot : policy.require.isEmpty ? .none : .digests
        wantsList = policy.imaPolicy != nil
        self.accepted = wantsList ? accepted : nil
    }

    init(_ claims: ClaimsReader) throws(TokenError) {
        var claims = claims
        let text = try claims.text("registers", maximum: 512)
        guard let selection = PCRSelection(text: text), selection.text == text else {
            throw .malformed("registers")
        }
        self.selection = selection
        eventLog = try claims.choice("eventLog")
        wantsList = try claims.flag("list")
        if let entries = try claims.optionalNumber("entries", in: 0...Self.maximumEntries) {
            let counts = 0...UInt64(UInt32.max)
            accepted = Accepted(
                resetCount: UInt32(try claims.number("resetCount", in: counts)),
                restartCount: UInt32(try claims.number("restartCount", in: counts)),
                entries: entries)
        }
        try claims.finish()
    }

    var claims: CanonicalJSON {
        var members: [String: CanonicalJSON] = [
            "registers": .string(selection.text), "eventLog": .string(eventLog.rawValue),
            "list": .bool(wantsList),
        ]
        if let accepted {
            members["entries"] = .number(accepted.entries)
            members["resetCount"] = .number(UInt64(accepted.resetCount))
            members["restartCount"] = .number(UInt64(accepted.restartCount))
        }
        return .object(members)
    }
}

/// A measurement list, or what is new of it.
public struct MeasurementList: Sendable, Hashable {
    /// How many entries stand before the first one here.
    public var first: UInt64
    /// As the kernel wrote them.
    public var bytes: [UInt8]

    /// The most bytes of a list in evidence: some 50,000 entries.
    public static let maximumSize = 6 << 20

    public init(first: UInt64, bytes: [UInt8]) {
        self.first = first
        self.bytes = bytes
    }

    var section: [UInt8] {
        var writer = WireWriter(capacity: 8 + bytes.count)
        writer.uint64(first)
        writer.raw(bytes)
        return writer.bytes
    }

    init(section: [UInt8]) throws(DocumentError) {
        var reader = WireReader(section)
        do throws(WireError) {
            first = try reader.uint64()
            bytes = try reader.bytes(reader.remaining)
        } catch {
            throw .malformed(.measurementList)
        }
    }
}
