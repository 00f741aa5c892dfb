extension EventLog {
    /// The same log without the data of events that nobody asked for: it replays to the same values.
    ///
    /// Data tells of paths, disks and network cards; digests do not. The header and the startup
    /// locality stay, without which the log cannot be replayed. Padding is left out.
    ///
    /// - Parameter keepsData: which events are sent whole.
    public func withoutData(unless keepsData: (BootEvent) -> Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        for (number, event) in events.enumerated() {
            let isHeader = number == 0 && header != nil
            let isLocality =
                event.type == .noAction && event.untrustedData.starts(with: Self.localitySignature)
            bytes += event.encoded(keepingData: isHeader || isLocality || keepsData(event))
        }
        return bytes
    }
}
