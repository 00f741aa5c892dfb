import HoldfastCrypto
import HoldfastFiles
import HoldfastLicensing
public import HoldfastTPM
public import HoldfastTPMWire

/// The last boot in which a lease opened: what the registers held, and the log that explains it.
///
/// It stays on the device, readable by its owner alone: a log has serial numbers and versions. It only
/// feeds messages; whoever changes it misleads whoever reads them, and nothing else.
public struct BootRecord: Sendable, Hashable {
    /// The TPM's count of resets, which tells one boot from the next.
    public let resetCount: UInt32
    /// The registers that leases are bound to.
    public let selection: PCRSelection
    /// PCR 0 to 15 of the banks of the selection.
    public let values: PCRValues
    /// The boot event log; `nil` when it could not be read.
    public let log: [UInt8]?

    private static let magic: [UInt8] = Array("HFBOOT01".utf8)
    static let fileName = "good-boot"
    /// The longest file: a log and what stands before it.
    static let maximumSize = EventLog.maximumSize + 8192

    init(resetCount: UInt32, selection: PCRSelection, values: PCRValues, log: [UInt8]?) {
        self.resetCount = resetCount
        self.selection = selection
        self.values = values
        self.log = log
    }

    var encoded: [UInt8] {
        var writer = WireWriter(capacity: 4096)
        writer.raw(Self.magic)
        writer.uint32(resetCount)
        selection.encode(into: &writer)
        let registers = values.values.keys.sorted()
        writer.uint16(UInt16(registers.count))
        for register in registers {
            writer.uint16(register.hash.id.rawValue)
            writer.uint8(register.index.rawValue)
            writer.raw(values.values[register] ?? [])
        }
        writer.uint8(log == nil ? 0 : 1)
        writer.raw(log ?? [])
        return writer.bytes
    }

    /// Reads a record; one that is damaged is as good as none.
    init?(decoding bytes: [UInt8]) {
        var reader = WireReader(bytes)
        guard let magic = try? reader.bytes(8), magic == Self.magic,
            let resets = try? reader.uint32(), let selection = try? PCRSelection(from: &reader),
            let count = try? reader.uint16()
        else { return nil }
        var values = PCRValues()
        for _ in 0..<count {
            guard let id = try? reader.uint16(), let hash = AlgorithmID(rawValue: id).hash,
                let index = (try? reader.uint8()).flatMap(PCRIndex.init),
                let value = try? reader.bytes(hash.digestSize)
            else { return nil }
            values[hash, index] = value
        }
        guard let hasLog = try? reader.uint8(), hasLog <= 1 else { return nil }
        let rest = reader.rest()
        self.init(
            resetCount: resets, selection: selection, values: values,
            log: hasLog == 1 ? rest : nil)
    }

    /// The record in a state directory, without its lock and without making it.
    public static func read(inStateDirectory path: String) -> BootRecord? {
        let file = path + "/" + fileName
        guard Files.exists(file) else { return nil }
        return (try? Files.read(file, maximum: maximumSize)).flatMap(BootRecord.init(decoding:))
    }

    /// A boot event log, unless it cannot be read.
    static func eventLog(_ path: String) -> [UInt8]? {
        guard Files.exists(path),
            let bytes = try? Files.read(path, maximum: EventLog.maximumSize), !bytes.isEmpty
        else { return nil }
        return bytes
    }

    /// The registers, compared with what they hold now.
    ///
    /// - Parameter eventLog: where the log of this boot is.
    public func changes(
        on tpm: TPMConnection, eventLog: String
    ) throws(TPMError) -> [BootChange] {
        let present = try tpm.readPCRs(selection)
        let changed = present.values.keys.sorted().filter {
            present.values[$0] != values.values[$0]
        }
        guard !changed.isEmpty else { return [] }
        return BootComparison.changes(
            of: changed, values: present, from: log, to: Self.eventLog(eventLog))
    }

    /// What `doctor` says about it.
    public static func findings(_ changes: [BootChange]) -> [TPMReport.Finding] {
        changes.map { change in
            TPMReport.Finding(
                id: "boot-change-\(change.register.hash.name)-\(change.register.index.rawValue)",
                level: .warning, text: change.text, hint: change.cause.advice)
        }
    }
}

extension BootChange {
    /// What changed and what most likely did it, in a line.
    public var text: String {
        let proof =
            event == nil
            ? ""
            : isExplained
                ? ", event \(event ?? 0)"
                : ", event \(event ?? 0), which the register does not bear out"
        return
            "PCR \(register.index.rawValue) of the \(register.hash.name) bank is not what it was when a license opened last: likely \(cause.words); \(what)\(proof)"
    }
}

/// A change as JSON has it.
public struct PrintedBootChange: Encodable, Sendable, Hashable {
    let advice: String
    let bank: String
    let cause: BootCause
    let event: Int?
    let isExplained: Bool
    let pcr: Int
    let what: String

    /// Takes a change.
    public init(_ change: BootChange) {
        advice = change.cause.advice
        bank = change.register.hash.name
        cause = change.cause
        event = change.event
        isExplained = change.isExplained
        pcr = Int(change.register.index.rawValue)
        what = change.what
    }
}

extension EnrolledDevice {
    /// Keeps this boot as a good one, once for each boot; called when a lease has opened.
    ///
    /// A disk that is full keeps nobody from his license.
    func remember(_ opened: [PCRSelection], clock: ClockInfo) {
        guard remembersBoot, state.mayWrite, !opened.isEmpty else { return }
        let known = try? state.read(BootRecord.fileName, maximum: BootRecord.maximumSize)
            .flatMap(BootRecord.init(decoding:))
        var banks: [PCRSelection] = []
        for hash in HashAlgorithm.allCases {
            let indexes = Set(
                opened.flatMap(\.banks).filter { $0.hash == hash }.flatMap(\.indexes))
            if !indexes.isEmpty { banks.append(PCRSelection(hash, indexes.sorted())) }
        }
        let selection = PCRSelection(joining: banks)
        guard known?.resetCount != clock.resetCount || known?.selection != selection else { return }
        let all = PCRSelection(
            joining: selection.banks.map { PCRSelection($0.hash, Array(PCRIndex.all.prefix(16))) })
        guard let values = try? tpm.readPCRs(all) else { return }
        let record = BootRecord(
            resetCount: clock.resetCount, selection: selection, values: values,
            log: BootRecord.eventLog(sources.eventLog))
        _ = try? state.store(record)
    }

    /// What changed since a lease opened last, register by register; nothing without a record.
    ///
    /// It explains a refusal; it decides nothing.
    public func bootChanges() throws -> [BootChange] {
        guard
            let record = try state.read(BootRecord.fileName, maximum: BootRecord.maximumSize)
                .flatMap(BootRecord.init(decoding:))
        else { return [] }
        do throws(TPMError) { return try record.changes(on: tpm, eventLog: sources.eventLog) } catch
        {
            guard error.isAbsence else { throw error }
            return []
        }
    }
}

extension StateDirectory {
    /// Keeps a boot as the last good one.
    func store(_ record: BootRecord) throws {
        try Files.write(record.encoded, to: file(BootRecord.fileName), mode: 0o600)
    }
}
