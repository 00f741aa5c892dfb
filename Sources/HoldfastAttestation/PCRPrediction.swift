public import HoldfastCrypto
public import HoldfastErrors
public import HoldfastTPMWire

/// Why an update cannot be predicted.
public enum PredictionError: Error, Sendable, Hashable {
    /// The log cannot be read.
    case log(EventLogError)
    /// The log has no such component, or more than one that could be meant.
    case component(String, candidates: [String])
    /// A file is not what its component is.
    case file(String, expected: String)
    /// The sections of a unified kernel image are not those of the log.
    case sections(log: [String], file: [String])
}

extension PredictionError: OperatorError {
    public var explanation: String {
        switch self {
        case .log(let error): "the event log cannot be used: \(error)"
        case .component(let name, let candidates) where candidates.isEmpty:
            "the event log has nothing that is `\(name)`"
        case .component(let name, let candidates):
            "`\(name)` could be more than one event: \(candidates.joined(separator: "; "))"
        case .file(let name, let expected): "the file for `\(name)` is not \(expected)"
        case .sections(let log, let file):
            "the image has the sections \(file.joined(separator: " ")), and the log \(log.joined(separator: " "))"
        }
    }
    public var remedy: String? {
        switch self {
        case .log: "take the log of a machine that runs the present version"
        case .component:
            "look at the events with `verify event-log`, and say `event:NUMBER=FILE`, `image:PATH=FILE` or `grub-file:PATH=FILE`"
        case .file: "check that it is the right file"
        case .sections: "take the values from a reference machine: `pcr approve --from DEVICE`"
        }
    }
    public var stableCode: String { "PREDICTION_IMPOSSIBLE" }
    public var exitStatus: ExitStatus { .refused }
}

/// The PCR values of a machine after an update: its present log, with other components in it.
///
/// It says what the same firmware and the same steps measure when files are exchanged. A boot that
/// takes other steps, with another number of files for example, has other values; the approval then
/// opens nothing, and the device says which event differs.
public struct PCRPrediction: Sendable {
    /// A component and the file in its place.
    public struct Replacement: Sendable, Hashable {
        /// `boot-loader`, `kernel`, `initrd`, `uki`, `command-line`, `image:PATH`, `grub-file:PATH`,
        /// `section:NAME`, `event:NUMBER`.
        public let component: String
        public let content: [UInt8]

        public init(component: String, content: [UInt8]) {
            self.component = component
            self.content = content
        }
    }

    /// An event that becomes another one.
    public struct Change: Sendable, Hashable, Codable {
        public let event: Int
        public let pcr: Int
        public let what: String
    }

    /// The log of the boot after the update.
    public let log: [UInt8]
    /// By bank, the registers that the log extends.
    public let values: [HashAlgorithm: [PCRIndex: [UInt8]]]
    public let changes: [Change]

    /// Predicts.
    ///
    /// - Parameter log: of a boot before the update.
    public init(log: [UInt8], replacing replacements: [Replacement]) throws(PredictionError) {
        let parsed: EventLog
        do throws(EventLogError) { parsed = try EventLog(parsing: log) } catch {
            throw .log(error)
        }
        var work = Work(log: parsed)
        for replacement in replacements { try work.replace(replacement) }
        self.log = work.encoded
        changes = work.changes.values.sorted { $0.event < $1.event }
        do throws(EventLogError) {
            values = try EventLog(parsing: self.log).replay()
        } catch { throw .log(error) }
    }

    /// The values as `tpm2_pcrread` prints them.
    public var yaml: String {
        var all = PCRValues()
        for (hash, registers) in values {
            for (index, value) in registers { all[hash, index] = value }
        }
        return all.yaml
    }
}

/// The events on their way to another log.
private struct Work {
    let log: EventLog
    private var digests: [Int: [BootEvent.Digest]] = [:]
    private var data: [Int: [UInt8]] = [:]
    private(set) var changes: [Int: PCRPrediction.Change] = [:]

    init(log: EventLog) { self.log = log }

    // MARK: Components

    mutating func replace(
        _ replacement: PCRPrediction.Replacement
    ) throws(PredictionError) {
        let name = replacement.component
        let content = replacement.content
        switch name {
        case "boot-loader":
            // The last program before the kernel: shim, which starts it, is named by its path.
            let found = images { !$0.isEmpty && !isKernel($0) }.suffix(1)
            try exchangeImage(one(name, Array(found)), name, content)
        case "kernel":
            // GRUB measures the file as well, which firmware does not start.
            let started = images(isKernel)
            let files = grubFiles { isKernel($0) }
            guard started.count <= 1, files.count <= 1, started.count + files.count > 0 else {
                throw ambiguous(name, started + files)
            }
            if let event = started.first { try exchangeImage(event, name, content) }
            if let event = files.first { exchange(event, measuring: content) }
        case "initrd":
            let found =
                grubFiles { ["initrd", "initramfs"].contains(where: $0.lowercased().contains) }
                + log.events.indices.filter { tag(of: log.events[$0]) == 0x8F3B_22EC }
            exchange(try one(name, found), measuring: content)
        case "uki": try exchangeUnifiedImage(name, content)
        case "command-line": try exchangeCommandLine(name, content)
        default:
            let parts = name.split(separator: ":", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { throw .component(name, candidates: []) }
            switch parts[0] {
            case "image":
                let found = images { $0.lowercased() == normalized(parts[1]) }
                try exchangeImage(one(name, found), name, content)
            case "grub-file":
                exchange(
                    try one(name, grubFiles { $0.hasSuffix(parts[1]) }), measuring: content)
            case "section":
                exchange(try one(name, sectionContents(parts[1])), measuring: content)
            case "event":
                guard let number = Int(parts[1]), log.events.indices.contains(number),
                    log.events[number].extendedPCR != nil
                else { throw .component(name, candidates: []) }
                exchange(number, measuring: content)
            default: throw .component(name, candidates: [])
            }
        }
    }

    private func one(_ name: String, _ found: [Int]) throws(PredictionError) -> Int {
        guard found.count == 1 else { throw ambiguous(name, found) }
        return found[0]
    }

    private func ambiguous(_ name: String, _ found: [Int]) -> PredictionError {
        .component(name, candidates: found.map { "\($0) \(path(of: $0) ?? "without a path")" })
    }

    private func normalized(_ path: String) -> String {
        String(path.lowercased().map { $0 == "\\" ? "/" : $0 })
    }

    private func path(of number: Int) -> String? {
        let event = log.events[number]
        if let path = BootStep.imagePath([UInt8](event.untrustedData)) { return path }
        return event.extendedPCR?.rawValue == 9
            ? String(decoding: event.untrustedData.prefix { $0 != 0 }, as: UTF8.self) : nil
    }

    /// Programs that firmware started, by their path.
    private func images(_ matches: (String) -> Bool) -> [Int] {
        log.events.indices.filter { number in
            let event = log.events[number]
            guard event.type == .efiBootServicesApplication,
                event.extendedPCR?.rawValue == 4
            else { return false }
            return matches(path(of: number) ?? "")
        }
    }

    private func isKernel(_ path: String) -> Bool {
        let text = path.lowercased()
        return ["vmlinuz", "bzimage", "efi/linux/"].contains(where: text.contains)
            || text.hasSuffix("/linux")
    }

    /// Files that GRUB read, by the text that it logged.
    private func grubFiles(_ matches: (String) -> Bool) -> [Int] {
        log.events.indices.filter { number in
            let event = log.events[number]
            return event.type == .ipl && event.extendedPCR?.rawValue == 9
                && matches(path(of: number) ?? "")
        }
    }

    /// `TCG_PCClientTaggedEvent`.
    private func tag(of event: BootEvent) -> UInt32? {
        guard event.type == .eventTag, event.untrustedData.count >= 8 else { return nil }
        return event.untrustedData.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    private func sectionNames() -> [(name: String, content: Int)] {
        var found: [(String, Int)] = []
        var open: String?
        for number in log.events.indices where log.events[number].extendedPCR?.rawValue == 11 {
            if let name = open {
                found.append((name, number))
                open = nil
            } else {
                open = log.events[number].sectionName
                guard open != nil else { break }
            }
        }
        return found
    }

    private func sectionContents(_ name: String) -> [Int] {
        sectionNames().filter { $0.name == name }.map(\.content)
    }

    // MARK: Exchanging

    private mutating func exchangeImage(
        _ number: Int, _ name: String, _ content: [UInt8]
    ) throws(PredictionError) {
        guard let image = PEImage(content) else {
            throw .file(name, expected: "a PE image, which firmware could start")
        }
        set(number) { image.authenticodeDigest($0) }
    }

    /// A unified kernel image: firmware measures it as a program, the stub in it its sections, and
    /// firmware once more the kernel that the stub starts.
    private mutating func exchangeUnifiedImage(
        _ name: String, _ content: [UInt8]
    ) throws(PredictionError) {
        guard let image = PEImage(content), let kernel = image.section(".linux") else {
            throw .file(name, expected: "a unified kernel image with a section .linux")
        }
        let outer = try one(name, images(isKernel))
        let known = sectionNames()
        // .pcrsig holds signatures over what is measured, and is not measured itself.
        let measured = image.sections.filter {
            Self.unifiedSections.contains($0.name) && $0.name != ".pcrsig"
        }
        guard known.isEmpty || Set(known.map(\.name)) == Set(measured.map(\.name)) else {
            throw .sections(log: known.map(\.name), file: measured.map(\.name))
        }
        set(outer) { image.authenticodeDigest($0) }
        for (section, number) in known {
            exchange(number, measuring: image.section(section) ?? [])
        }
        let inner = images { $0.isEmpty }.filter { $0 > outer }
        if let number = inner.first, inner.count == 1 {
            try exchangeImage(number, "\(name), section .linux", kernel)
        }
    }

    /// What the stub of systemd measures.
    private static let unifiedSections: Set<String> = [
        ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".dtbauto",
        ".hwids", ".uname", ".sbat", ".pcrsig", ".pcrpkey", ".profile", ".efifw",
    ]

    /// The command line: in the form in which the boot loader measured the present one.
    private mutating func exchangeCommandLine(
        _ name: String, _ content: [UInt8]
    ) throws(PredictionError) {
        var text = content[...]
        while let last = text.last, last == 0x0A || last == 0x0D || last == 0 {
            text = text.dropLast()
        }
        guard String(validating: text, as: UTF8.self) != nil else {
            throw .file(name, expected: "text")
        }
        let bare = [UInt8](text)
        let found = log.events.indices.filter { number in
            let event = log.events[number]
            guard event.type == .ipl, [8, 12].contains(event.extendedPCR?.rawValue),
                let (kind, _) = event.measuredText
            else { return false }
            return kind != "grub_cmd" && kind != "module_cmdline"
        }
        let inImage = sectionContents(".cmdline")
        guard found.count <= 1, found.count + inImage.count > 0 else {
            throw ambiguous(name, found)
        }
        if let number = inImage.first, found.isEmpty {
            exchange(number, measuring: bare)
            return
        }
        guard let number = found.first else { return }
        let event = log.events[number]
        let shown = event.measuredText?.text ?? []
        let wide = firmwareBytes(String(decoding: shown, as: UTF8.self))
        let newWide = firmwareBytes(String(decoding: bare, as: UTF8.self))
        let forms: [([UInt8], [UInt8])] = [
            (shown, bare), (shown + [0], bare + [0]), (wide + [0, 0], newWide + [0, 0]),
            (wide, newWide),
        ]
        guard let form = forms.first(where: { event.measures($0.0) }) else {
            throw .component(name, candidates: ["\(number), in a form that is not known"])
        }
        let prefix = event.measuredText?.kind.map { Array("\($0): ".utf8) } ?? []
        let isWide = form.0.count >= wide.count && !wide.isEmpty && form.0.starts(with: wide)
        data[number] = isWide ? newWide + [0, 0] : prefix + bare + [0]
        set(number) { $0.digest(form.1) }
    }

    private mutating func exchange(_ number: Int, measuring content: [UInt8]) {
        set(number) { $0.digest(content) }
    }

    private mutating func set(_ number: Int, _ digest: (HashAlgorithm) -> [UInt8]) {
        let event = log.events[number]
        let known = event.digests.map { old in
            BootEvent.Digest(
                old.algorithm,
                // Of a bank that is not computed here nothing is said.
                old.algorithm.hash.map(digest) ?? [UInt8](repeating: 0, count: old.bytes.count))
        }
        digests[number] = known
        let best = known.first { $0.algorithm == .sha256 } ?? known.first
        changes[number] = PCRPrediction.Change(
            event: number, pcr: Int(event.pcr),
            what: "\(path(of: number) ?? event.type.name) becomes \(hexadecimal(best?.bytes ?? []))"
        )
    }

    // MARK: Writing

    var encoded: [UInt8] {
        var writer = log.header.map { EventLogWriter(header: $0) } ?? .sha1Only()
        for (number, event) in log.events.enumerated() {
            // The writer has begun with the header.
            if number == 0, log.header != nil { continue }
            writer.append(
                pcr: event.pcr, type: event.type, digests: digests[number] ?? event.digests,
                data: data[number] ?? [UInt8](event.untrustedData))
        }
        return writer.bytes
    }
}
