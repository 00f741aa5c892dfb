import HoldfastFiles
import HoldfastProtocol
import HoldfastTPMWire

/// Where the running system keeps what was measured.
///
/// Nothing in these files is believed by anybody: a vendor's server compares them with what the TPM
/// quotes.
public struct MeasurementSources: Sendable {
    /// The firmware's and the boot loader's.
    public var eventLog: String
    /// The kernel's, binary or ASCII.
    public var measurementList: String

    /// Where Linux has them.
    public static let kernel = MeasurementSources(
        eventLog: "/sys/kernel/security/tpm0/binary_bios_measurements",
        measurementList: "/sys/kernel/security/ima/binary_runtime_measurements")

    public init(eventLog: String, measurementList: String) {
        self.eventLog = eventLog
        self.measurementList = measurementList
    }

    /// The boot event log as far as it is asked for; `nil` when there is none.
    func log(_ demand: MeasurementDemand.EventLog) throws -> [UInt8]? {
        guard demand != .none,
            let bytes = try Files.readIfPresent(eventLog, maximum: EventLog.maximumSize)
        else { return nil }
        // A log that cannot be read shows nothing; it is not for the device to complain.
        return try? EventLog(parsing: bytes).withoutData { event in
            demand == .secureBoot && event.pcr == 7
        }
    }

    /// The measurement list behind what the server has accepted; `nil` when there is none.
    ///
    /// - Parameter boot: the present one; of another one all of the list is new.
    func list(
        after accepted: MeasurementDemand.Accepted?, boot: ClockInfo
    ) throws -> MeasurementList? {
        var first: UInt64 = 0
        if let accepted, accepted.resetCount == boot.resetCount,
            accepted.restartCount == boot.restartCount
        {
            first = accepted.entries
        }
        guard
            let bytes = try Files.readIfPresent(
                measurementList, maximum: Self.maximumListFile)
        else { return nil }
        var parser = IMAListParser()
        parser.append(bytes)
        parser.end()
        var skipped: UInt64 = 0
        var start = first == 0 ? 0 : nil as Int?
        while start == nil, (try? parser.next()) != nil {
            skipped += 1
            if skipped == first { start = parser.consumed }
        }
        // A list with fewer entries than were accepted is of another boot, or was cut: all of it.
        if start == nil { first = 0 }
        let new = Array(bytes[(start ?? 0)...])
        guard new.count <= MeasurementList.maximumSize else { throw DeviceError.listTooLong }
        return MeasurementList(first: first, bytes: new)
    }

    /// The longest list that is read, in bytes.
    private static let maximumListFile = 64 << 20
}
