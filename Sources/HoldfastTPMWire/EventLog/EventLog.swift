public import HoldfastCrypto

/// A boot event log, parsed strictly: every byte belongs to an event that is well formed.
///
/// A log proves nothing by itself. ``replay(_:)`` tells which PCR values it explains; compare those
/// with quoted values before anything is believed.
///
/// TCG PC Client Platform Firmware Profile, "Event Logging".
public struct EventLog: Sendable {
    /// The largest log that is accepted, in bytes: firmware reserves 64 kB to 1 MB.
    public static let maximumSize = 4 << 20
    /// How many events are accepted: real logs have 20 to 400.
    public static let maximumEvents = 32_768

    /// What begins the data of a startup locality event, its terminator included.
    static let localitySignature: [UInt8] = [UInt8]("StartupLocality\0".utf8)

    /// The header of a crypto-agile log; `nil` for a SHA-1 log, which has none.
    public let header: SpecificationID?
    /// Every entry, the header included: numbers are those of `tpm2_eventlog`.
    public let events: [BootEvent]
    /// What PCR 0 starts from as the log tells it: 0, 3, or 4 after an H-CRTM measurement.
    public let startupLocality: UInt8
    /// Bytes of padding behind the last event, all zeros or all ones.
    public let padding: Int
    /// A startup locality event or an H-CRTM measurement is in the log.
    private let tellsLocality: Bool

    /// Parses a crypto-agile log or a SHA-1 log.
    ///
    /// Firmware reserves an area, and some copies of it come whole: zeros or ones behind the last
    /// event are padding when they could hold an event. An event that was taken away with it would be
    /// missing in the replay.
    ///
    /// - Parameter bytes: the whole log as the kernel or firmware has it.
    /// - Throws: ``EventLogError``; what is cut short, left over or contradictory is refused.
    /// - Complexity: linear; no event data or digest is copied.
    public init(parsing bytes: [UInt8]) throws(EventLogError) {
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.count <= Self.maximumSize else {
            throw .tooLarge(field: "size", size: bytes.count, maximum: Self.maximumSize)
        }
        var cursor = LogCursor(bytes, from: 0, to: bytes.count)
        let first = try Self.sha1Event(&cursor, number: 0)
        var events = [first]
        let tail = Self.uniformTail(bytes)
        func isPadding(_ cursor: LogCursor, smallestEvent: Int) -> Bool {
            cursor.position >= tail && cursor.remaining >= smallestEvent
        }
        if first.type == .noAction, first.untrustedData.starts(with: SpecificationID.signature) {
            guard first.pcr == 0 else { throw .header(reason: "it is for PCR \(first.pcr)") }
            let data = first.untrustedData.indices
            let header = try SpecificationID(
                parsing: LogCursor(bytes, from: data.lowerBound, to: data.upperBound))
            while cursor.remaining > 0, !isPadding(cursor, smallestEvent: 16) {
                try Self.checkCount(events)
                events.append(try Self.agileEvent(&cursor, number: events.count, header))
            }
            self.header = header
        } else {
            while cursor.remaining > 0, !isPadding(cursor, smallestEvent: 32) {
                try Self.checkCount(events)
                events.append(try Self.sha1Event(&cursor, number: events.count))
            }
            self.header = nil
        }
        self.events = events
        padding = cursor.remaining
        let told = try Self.locality(of: events)
        startupLocality = told ?? 0
        tellsLocality = told != nil
    }

    /// Where the zeros or ones begin with which the bytes end.
    private static func uniformTail(_ bytes: [UInt8]) -> Int {
        guard let last = bytes.last, last == 0 || last == 0xFF else { return bytes.count }
        var start = bytes.count
        while start > 0, bytes[start - 1] == last { start -= 1 }
        return start
    }

    private static func checkCount(_ events: [BootEvent]) throws(EventLogError) {
        guard events.count < maximumEvents else {
            throw .tooLarge(field: "events", size: events.count + 1, maximum: maximumEvents)
        }
    }

    private static func sha1Event(
        _ cursor: inout LogCursor, number: Int
    ) throws(EventLogError) -> BootEvent {
        guard let pcr = cursor.uint32(), let type = cursor.uint32().map(EventType.init) else {
            throw .truncated(event: number)
        }
        try check(pcr: pcr, type: type, number: number)
        guard let digest = cursor.skip(20), let data = cursor.sized() else {
            throw .truncated(event: number)
        }
        return BootEvent(
            pcr: pcr, type: type, log: cursor.bytes, layout: .sha1(digest), data: data)
    }

    private static func agileEvent(
        _ cursor: inout LogCursor, number: Int, _ header: SpecificationID
    ) throws(EventLogError) -> BootEvent {
        guard let pcr = cursor.uint32(), let type = cursor.uint32().map(EventType.init) else {
            throw .truncated(event: number)
        }
        try check(pcr: pcr, type: type, number: number)
        guard let count = cursor.uint32() else { throw .truncated(event: number) }
        guard count <= header.algorithms.count else { throw .repeatedDigest(event: number) }
        let start = cursor.position
        var seen: UInt32 = 0  // one bit for each declared algorithm, of which there are at most 16
        for _ in 0..<count {
            guard let id = cursor.uint16().map(AlgorithmID.init) else {
                throw .truncated(event: number)
            }
            guard let index = header.algorithms.firstIndex(where: { $0.id == id }) else {
                throw .undeclaredAlgorithm(event: number, algorithm: id)
            }
            guard seen & 1 << index == 0 else { throw .repeatedDigest(event: number) }
            seen |= 1 << index
            guard cursor.skip(header.algorithms[index].digestSize) != nil else {
                throw .truncated(event: number)
            }
        }
        let layout = BootEvent.Layout.agile(start..<cursor.position, header.algorithms)
        guard let data = cursor.sized() else { throw .truncated(event: number) }
        return BootEvent(pcr: pcr, type: type, log: cursor.bytes, layout: layout, data: data)
    }

    private static func check(
        pcr: UInt32, type: EventType, number: Int
    ) throws(EventLogError) {
        guard type == .noAction || UInt8(exactly: pcr).flatMap(PCRIndex.init) != nil else {
            throw .unknownPCR(event: number, pcr: pcr)
        }
    }

    /// What PCR 0 starts from, when the log tells it.
    ///
    /// The profile wants the startup locality before the first extension of PCR 0. An H-CRTM
    /// measurement is made at locality 4 before `TPM2_Startup` and overrides it; nothing else can
    /// have been extended before. "Startup Locality Event" and "H-CRTM".
    private static func locality(of events: [BootEvent]) throws(EventLogError) -> UInt8? {
        var told: UInt8?
        var measured = false
        var extended = false
        for (number, event) in events.enumerated() {
            if event.type == .noAction {
                guard event.untrustedData.starts(with: localitySignature) else { continue }
                let value = event.untrustedData.dropFirst(localitySignature.count)
                guard event.pcr == 0, told == nil, !extended, value.count == 1,
                    let locality = value.first, [0, 3, 4].contains(locality)
                else { throw .startupLocality(event: number) }
                told = locality
            } else if event.pcr == 0 {
                if event.type == .efiHardwareRootOfTrust {
                    guard !extended else { throw .hardwareRootOfTrust(event: number) }
                    measured = true
                } else {
                    extended = true
                }
            }
        }
        return measured ? 4 : told
    }
}

extension EventLog {
    /// The PCR values that the log explains, in every bank that it explains whole.
    ///
    /// A bank for which some extended event has no digest is left out: a reader of that bank would
    /// otherwise believe events that were never extended into it.
    ///
    /// - Returns: by bank, the registers that the log extends.
    /// - Throws: ``EventLogError/nothingMeasured`` when there is no such bank.
    public func replay() throws(EventLogError) -> [HashAlgorithm: [PCRIndex: [UInt8]]] {
        var banks: [HashAlgorithm: [PCRIndex: [UInt8]]] = [:]
        for bank in HashAlgorithm.allCases {
            banks[bank] = values(bank)
        }
        guard !banks.isEmpty else { throw .nothingMeasured }
        return banks
    }

    /// The PCR values that the log explains in one bank.
    ///
    /// Registers that the log does not extend are absent: they must have their reset value.
    ///
    /// - Throws: ``EventLogError/bankIncomplete(_:)`` when an extended event has no digest for it,
    ///   or no event is extended.
    public func replay(_ bank: HashAlgorithm) throws(EventLogError) -> [PCRIndex: [UInt8]] {
        guard let values = values(bank) else { throw .bankIncomplete(bank) }
        return values
    }

    private func values(_ bank: HashAlgorithm) -> [PCRIndex: [UInt8]]? {
        var values = [[UInt8]?](repeating: nil, count: PCRIndex.all.count)
        for event in events {
            guard let pcr = event.extendedPCR else { continue }
            guard let digest = event.digest(bank.id) else { return nil }
            let index = Int(pcr.rawValue)
            let before = values[index] ?? initialValue(of: pcr, bank)
            values[index] = bank.digest(before, [UInt8](digest))
        }
        guard values.contains(where: { $0 != nil }) else { return nil }
        if tellsLocality, values[0] == nil, let zero = PCRIndex(rawValue: 0) {
            values[0] = initialValue(of: zero, bank)
        }
        var known: [PCRIndex: [UInt8]] = [:]
        for pcr in PCRIndex.all { known[pcr] = values[Int(pcr.rawValue)] }
        return known
    }

    /// Part 3, `TPM2_Startup`: PCR 0 starts with the locality in its last octet.
    private func initialValue(of pcr: PCRIndex, _ bank: HashAlgorithm) -> [UInt8] {
        var value = pcr.resetValue(digestSize: bank.digestSize)
        if pcr.rawValue == 0 { value[value.count - 1] = startupLocality }
        return value
    }
}
