public import HoldfastCrypto

/// What is wrong with a boot event log.
///
/// `event` counts from 0, the header included, as `tpm2_eventlog` numbers them.
@nonexhaustive
public enum EventLogError: Error, Sendable, Hashable {
    /// The log has no byte.
    case empty
    /// The log, or the number of its events, is above the maximum.
    case tooLarge(field: String, size: Int, maximum: Int)
    /// The bytes end inside an event, or what follows the last event is not an event.
    case truncated(event: Int)
    /// The Spec ID header contradicts itself or the algorithm registry.
    case header(reason: String)
    /// An event names a PCR that no platform has.
    case unknownPCR(event: Int, pcr: UInt32)
    /// An event carries a digest of an algorithm that the header does not declare.
    case undeclaredAlgorithm(event: Int, algorithm: AlgorithmID)
    /// An event carries more digests than the header declares, or two of the same algorithm.
    case repeatedDigest(event: Int)
    /// The startup locality is not 0, 3 or 4, is told twice, or comes after PCR 0 was extended.
    case startupLocality(event: Int)
    /// The H-CRTM measurement comes after something else was extended into PCR 0.
    case hardwareRootOfTrust(event: Int)
    /// The log extends nothing into this bank, or not every event has a digest for it.
    case bankIncomplete(HashAlgorithm)
    /// The log extends no PCR in any bank that Holdfast computes.
    case nothingMeasured
}

extension EventLogError: CustomStringConvertible {
    /// One line for a person, without the file's name.
    public var description: String {
        switch self {
        case .empty: "the event log is empty"
        case .tooLarge(let field, let size, let maximum):
            "the event log is refused: `\(field)` is \(size), at most \(maximum) is accepted"
        case .truncated(let event): "the event log ends inside event \(event)"
        case .header(let reason): "the header of the event log is wrong: \(reason)"
        case .unknownPCR(let event, let pcr):
            "event \(event) names PCR \(pcr), which does not exist"
        case .undeclaredAlgorithm(let event, let algorithm):
            "event \(event) has a digest of algorithm 0x\(String(algorithm.rawValue, radix: 16)), "
                + "which the header does not declare"
        case .repeatedDigest(let event): "event \(event) has too many digests of one algorithm"
        case .startupLocality(let event):
            "event \(event) sets the startup locality to an impossible value or too late"
        case .hardwareRootOfTrust(let event):
            "event \(event) is an H-CRTM measurement after PCR 0 was already extended"
        case .bankIncomplete(let bank): "the event log does not explain the \(bank.name) bank"
        case .nothingMeasured: "the event log extends no PCR"
        }
    }
}
