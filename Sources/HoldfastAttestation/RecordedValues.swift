import HoldfastCrypto
import HoldfastTPMWire

/// PCR values in a file beside a recording.
struct RecordedValues {
    let all: PCRValues
    /// `tpm2_eventlog` replayed the log; otherwise they are of a machine that ran on.
    let isReplay: Bool

    /// Reads what `tpm2_pcrread` prints, or the end of what `tpm2_eventlog` prints.
    init?(_ bytes: [UInt8]) {
        let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        let start = lines.lastIndex(of: "pcrs:")
        isReplay = start != nil
        // A bank that Holdfast does not compute is left out.
        var isKnown = true
        let kept = lines[(start.map { $0 + 1 } ?? 0)...].filter { line in
            let words = line.split { $0 == " " || $0 == ":" }
            if words.count == 1, line.last == ":" {
                isKnown = HashAlgorithm.allCases.contains { $0.name == words[0] }
            }
            return isKnown && line != "---"
        }
        guard let values = try? EvidenceFiles.pcrValues(Array(kept.joined(separator: "\n").utf8))
        else { return nil }
        all = values
    }

    /// Those that a boot event log must explain.
    ///
    /// A machine that ran on has extended what its log does not tell of, but not PCR 0 to 7. Of the
    /// startup locality old versions of `tpm2_eventlog` know nothing: their PCR 0 is left out.
    func explained(by log: EventLogAppraisal) -> PCRValues {
        var values = PCRValues()
        let leavesLocality = isReplay && log.facts?.startupLocality != 0
        for (register, value) in all.values where log.replayed[register.hash] != nil {
            guard isReplay || register.index.rawValue < 8,
                !(leavesLocality && register.index.rawValue == 0)
            else { continue }
            values[register.hash, register.index] = value
        }
        return values
    }

    /// Those that a measurement list must explain: of the banks that prove something, if there are any.
    var measured: PCRValues {
        var values = PCRValues()
        let hasOthers = all.values.keys.contains { $0.hash != .sha1 }
        for (register, value) in all.values where register.hash != .sha1 || !hasOthers {
            values[register.hash, register.index] = value
        }
        return values
    }
}
