import HoldfastLicensing
import HoldfastProtocol

/// A component of a device as an operator sees it.
public struct ComponentReport: Sendable, Codable {
    /// For example `root-disk`.
    public let kind: String
    /// `hw_…`; opaque.
    public let id: String
}

extension VendorService {
    /// How many devices a new one is said to resemble at most.
    private static let maximumResemblances = 4

    /// The hardware of an enrollment, compared with earlier ones of the same TPM.
    ///
    /// - Returns: `nil` when there is nothing to compare with.
    func hardware(
        of record: EnrollmentRecord, _ transaction: any VendorStoreReading
    ) throws -> HardwareBaseline.Judgement? {
        // What an unproven enrollment showed counts for nothing: anybody can send it.
        let earlier = try transaction.enrollments(endorsementHash: record.endorsementHash)
            .filter { $0.id < record.id && $0.state != .unproven }
        let baseline = try earlier.reduce(HardwareBaseline([])) { baseline, enrollment in
            baseline.judge(
                try transaction.hardware(of: enrollment.id), isSameTPM: true, weights: .standard
            ).baseline
        }
        guard !baseline.facts.isEmpty else { return nil }
        return baseline.judge(
            try transaction.hardware(of: record.id), isSameTPM: true, weights: .standard)
    }

    /// Tells the operator what the hardware of a device that was just proven looks like.
    ///
    /// It decides nothing: facts are a second factor.
    func noteHardware(
        _ record: EnrollmentRecord, _ transaction: any VendorStoreWriting
    ) throws {
        if let judged = try hardware(of: record, transaction), judged.hasDrifted {
            let changed = judged.changed.map { $0.name + " changed" }
            let missing = judged.missing.map { $0.name + " not shown" }
            try audit(
                "device.hardware", record.device,
                "HW_DRIFT: " + (changed + missing).joined(separator: ", "), transaction)
        }
        let shown = try transaction.hardware(of: record.id)
        let others = try transaction.enrollments(sharingHardware: FactWeights.telling(shown))
            .filter { $0.endorsementHash != record.endorsementHash && $0.state != .unproven }
        var told: Set<[UInt8]> = []
        for other in others where told.count < Self.maximumResemblances {
            let judged = HardwareBaseline(try transaction.hardware(of: other.id))
                .judge(shown, isSameTPM: false, weights: .standard)
            guard judged.outcome == .provisional, told.insert(other.pairwiseID).inserted else {
                continue
            }
            try audit(
                "device.hardware", record.device,
                "resembles \(other.device) with another TPM: \(judged.agreement) of \(FactWeights.standard.sum(ComponentKind.allCases))",
                transaction)
        }
    }
}
