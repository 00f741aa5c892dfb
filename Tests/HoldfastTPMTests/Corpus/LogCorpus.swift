import HoldfastCrypto
import HoldfastTPMWire

/// A boot event log with the values that the machine has.
struct LogCase: Sendable {
    /// How it was made; of a bad one, what was done to it.
    var kind: String
    /// It explains the values.
    var isGood: Bool
    var log: [UInt8]
    var values: [HashAlgorithm: [PCRIndex: [UInt8]]]
}

/// Event logs, good and bad.
struct LogCorpus {
    private(set) var cases: [LogCase] = []
    private var dice: CorpusDice

    /// An event before it is written.
    private struct Event {
        var pcr: UInt32
        var type: EventType
        var digests: [BootEvent.Digest]
        var data: [UInt8]
    }

    /// A machine's boot: what it measured, and how its log is written.
    private struct Boot {
        var banks: [HashAlgorithm]
        var locality: UInt8?
        var events: [Event]

        var isSHA1Log: Bool { banks == [.sha1] }

        /// The log of these events.
        func log(_ events: [Event]) -> [UInt8] {
            var writer =
                isSHA1Log ? EventLogWriter.sha1Only() : EventLogWriter(algorithms: banks)
            if let locality { writer.startupLocality(locality) }
            for event in events {
                writer.append(
                    pcr: event.pcr, type: event.type, digests: event.digests, data: event.data)
            }
            return writer.bytes
        }

        /// What a TPM has after it, computed here and not by the parser.
        var values: [HashAlgorithm: [PCRIndex: [UInt8]]] {
            var values: [HashAlgorithm: [PCRIndex: [UInt8]]] = [:]
            for bank in banks {
                for event in events where event.type != .noAction {
                    guard let index = PCRIndex(rawValue: UInt8(event.pcr)),
                        let digest = event.digests.first(where: { $0.algorithm == bank.id })
                    else { continue }
                    var start = [UInt8](repeating: 0, count: bank.digestSize)
                    if event.pcr == 0, let locality { start[start.count - 1] = locality }
                    values[bank, default: [:]][index] =
                        bank.digest(values[bank]?[index] ?? start, digest.bytes)
                }
            }
            return values
        }
    }

    init(good: Int, bad: Int, seed: UInt64) {
        dice = CorpusDice(seed: seed)
        var boots: [Boot] = []
        for place in 0..<good {
            let boot = randomBoot(place)
            boots.append(boot)
            cases.append(
                LogCase(
                    kind: boot.locality == nil ? "boot" : "boot-locality", isGood: true,
                    log: boot.log(boot.events), values: boot.values))
        }
        var rest = bad
        while rest > 0 {
            let boot = boots[dice.below(boots.count)]
            let changed = lies(about: boot)
            cases += changed
            rest -= changed.count
        }
    }

    private mutating func randomBoot(_ place: Int) -> Boot {
        let banks: [[HashAlgorithm]] = [[.sha256], [.sha256, .sha384], [.sha1, .sha256], [.sha1]]
        var boot = Boot(banks: banks[place % banks.count], locality: nil, events: [])
        if !boot.isSHA1Log, place % 5 == 0 { boot.locality = 3 }
        func event(_ pcr: Int, _ type: EventType, _ data: [UInt8], of hashed: [UInt8]? = nil)
            -> Event
        {
            Event(
                pcr: UInt32(pcr), type: type,
                digests: boot.banks.map { BootEvent.Digest($0.id, $0.digest(hashed ?? data)) },
                data: data)
        }
        func wide(_ text: String) -> [UInt8] { text.utf16.flatMap { [UInt8($0), 0] } }
        /// An EFI variable, as firmware measures it.
        func variable(_ name: String, _ data: [UInt8]) -> [UInt8] {
            [
                0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03,
                0x2B, 0x8C, UInt8(name.utf16.count), 0, 0, 0, 0, 0, 0, 0, UInt8(data.count), 0, 0,
                0,
                0, 0, 0, 0,
            ] + wide(name) + data
        }
        boot.events.append(event(0, .crtmVersion, wide("v\(place)")))
        for _ in 0..<(1 + dice.below(4)) {
            boot.events.append(
                event(0, .efiPlatformFirmwareBlob, dice.bytes(16), of: dice.bytes(40)))
        }
        boot.events.append(
            event(7, .efiVariableDriverConfiguration, variable("SecureBoot", [1])))
        for name in ["PK", "KEK", "db", "dbx"] where dice.below(2) == 0 {
            boot.events.append(event(7, .efiVariableDriverConfiguration, variable(name, [])))
        }
        for _ in 0..<dice.below(4) {
            boot.events.append(
                event(1, .platformConfigurationFlags, dice.bytes(1 + dice.below(60))))
        }
        boot.events.append(
            event(4, .efiAction, Array("Calling EFI Application from Boot Option".utf8)))
        for pcr in 0..<8 { boot.events.append(event(pcr, .separator, [0, 0, 0, 0])) }
        for _ in 0..<dice.below(5) {
            let text = "grub_cmd: set n=\(dice.below(1000))\0"
            boot.events.append(event(8, .ipl, Array(text.utf8)))
        }
        boot.events.append(
            event(5, .efiAction, Array("Exit Boot Services Invocation".utf8)))
        return boot
    }

    /// What is not the log of that boot.
    private mutating func lies(about boot: Boot) -> [LogCase] {
        let honest = boot.log(boot.events)
        let measured = boot.events
        let place = dice.below(measured.count)
        var made: [LogCase] = []
        func add(_ kind: String, _ log: [UInt8]) {
            guard log != honest else { return }
            made.append(LogCase(kind: kind, isGood: false, log: log, values: boot.values))
        }
        func add(_ kind: String, _ change: (inout [Event]) -> Void) {
            var events = measured
            change(&events)
            add(kind, boot.log(events))
        }
        add("cut", Array(honest.prefix(1 + dice.below(honest.count - 1))))
        add("longer", dice.longer(honest))
        add("empty", [])
        add("noise", dice.bytes(honest.count))
        add("byte") { events in
            var bytes = events[place].digests[0].bytes
            bytes[dice.below(bytes.count)] ^= 0x10
            events[place].digests[0] = .init(events[place].digests[0].algorithm, bytes)
        }
        add("event-removed") { $0.remove(at: place) }
        add("event-twice") { $0.insert($0[place], at: place) }
        add("event-order") { events in
            guard
                let other = events.indices.first(where: { index in
                    index != place && events[index].pcr == events[place].pcr
                })
            else { return }
            events.swapAt(place, other)
        }
        add("event-register") { $0[place].pcr = ($0[place].pcr + 1) % 8 }
        add("event-register-unknown") { $0[place].pcr = 24 + UInt32(dice.below(100)) }
        add("event-not-extended") { $0[place].type = .noAction }
        add("event-invented") { events in
            events.append(
                Event(
                    pcr: 4, type: .efiAction,
                    digests: boot.banks.map { .init($0.id, $0.digest([1])) }, data: [1]))
        }
        add("digest-missing") { events in
            guard !boot.isSHA1Log else { return }
            events[place].digests.removeLast()
        }
        if !boot.isSHA1Log {
            add("digest-twice") { events in
                events[place].digests.append(events[place].digests[0])
            }
            add("digest-undeclared") { events in
                events[place].digests.append(
                    .init(HashAlgorithm.sha512.id, [UInt8](repeating: 1, count: 64)))
            }
            add("locality-late") { events in
                events.append(
                    Event(
                        pcr: 0, type: .noAction,
                        digests: boot.banks.map {
                            .init($0.id, [UInt8](repeating: 0, count: $0.digestSize))
                        }, data: Array("StartupLocality\0".utf8) + [4]))
            }
            var other = boot
            other.locality = boot.locality == nil ? 3 : nil
            add("locality-other", other.log(measured))
            // Offsets of the header: count of algorithms 56, the first of them 60.
            var header = honest
            header[56] = UInt8(dice.below(2) == 0 ? 0 : 17)
            add("header-count", header)
            header = honest
            header[62] ^= 1
            add("header-size", header)
            header = honest
            header[32 + dice.below(16)] ^= 1
            add("header-signature", header)
        }
        // The size of the first event's data: 4 bytes at 28.
        var size = honest
        size[28 + 1 + dice.below(3)] = 0x7F
        add("size", size)
        return made
    }
}
