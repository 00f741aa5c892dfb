public import HoldfastErrors
import HoldfastProtocol

/// Why the vendor's side does not do what it was asked for.
public enum ServiceError: Error, Sendable, Hashable, OperatorError {
    /// A request or evidence fails checks; which, and why.
    case refused([String])
    case unknownDevice(String)
    case ambiguousDevice(String)
    case unknownTerms(String)
    case unknownNonce
    /// The evidence is older than what was appraised, or its nonce was answered or ran out.
    case stale
    case notProven(String)
    case notApproved(String)
    case noEvidence(String)
    case evidenceTooOld(String)
    case bootStateNotApproved(product: String)
    case endorsementKeyTaken(by: String)
    case ended(String)
    case licenseOver
    case badArgument(String)
    /// The terms have this version already, with other rules.
    case termsExist(String, UInt32)
    /// A newer version takes something away without notice; what.
    case termsNeedNotice([String])
    case noMakers
    case conflict(String)
    /// The server lost what it said to the device, and the device has not brought it.
    case recall
    /// A policy of this name and a version that is as high is in force, with other rules.
    case policyExists(String, UInt32)
    /// The last evidence does not meet the policy of its device, or was not judged by it.
    case policyNotMet(String, [String])
    /// An envelope is sealed to a key that the trust statement does not list, or not any more.
    case sealingKeyUnknown
    /// Somebody still depends on a key that is to be retired; who.
    case keyNeeded(String, [String])

    public var explanation: String {
        switch self {
        case .refused(let reasons): "refused: " + reasons.joined(separator: "; ")
        case .unknownDevice(let id): "there is no device `\(id)`"
        case .ambiguousDevice(let id): "more than one device begins with `\(id)`"
        case .unknownTerms(let id): "there are no terms `\(id)`"
        case .unknownNonce: "the evidence answers a nonce that was never sent to that device"
        case .stale: "the evidence is older than what was appraised already"
        case .notProven(let id):
            "`\(id)` has not shown yet that the enrolled keys are in its TPM"
        case .notApproved(let id): "`\(id)` waits for an operator to admit it"
        case .noEvidence(let id): "there is no evidence of `\(id)` that passed"
        case .evidenceTooOld(let id): "the last evidence of `\(id)` is older than the terms allow"
        case .bootStateNotApproved(let product):
            "no approval in force for `\(product)` covers the boot state of the last evidence"
        case .endorsementKeyTaken(let id):
            "the TPM of this enrollment is already admitted as `\(id)`"
        case .ended(let id): "`\(id)` is retired, or a later enrollment took its place"
        case .licenseOver: "the license ends before a lease could begin"
        case .badArgument(let text): text
        case .termsExist(let id, let version):
            "version \(version) of the terms `\(id)` exists, with other rules"
        case .termsNeedNotice(let losses):
            "the new version takes something away, and gives no notice: "
                + losses.joined(separator: "; ")
        case .noMakers: "no TPM maker is trusted"
        case .conflict(let text): text
        case .recall:
            "the server was restored from a backup; it needs what it had said to this device"
        case .policyExists(let id, let version):
            "version \(version) of the policy `\(id)` is in force; another one must be above it"
        case .policyNotMet(let policy, let reasons):
            "the last evidence does not meet the policy \(policy): "
                + reasons.joined(separator: "; ")
        case .sealingKeyUnknown:
            "the file is sealed to a key that this server does not have, or has retired"
        case .keyNeeded(let id, let who):
            "the key `\(id)` is still needed: " + who.joined(separator: "; ")
        }
    }

    public var remedy: String? {
        switch self {
        case .refused: "when the device is genuine, see docs/spec/verification.md for each check"
        case .unknownDevice, .ambiguousDevice: "see `holdfast-server device list`"
        case .unknownTerms: "make them with `holdfast-server terms apply FILE`"
        case .unknownNonce: "enroll the device again: `holdfast enroll --again …`"
        case .stale: "take newer evidence from the device: `holdfast bundle export FILE`"
        case .notProven:
            "take the response to the device: `holdfast enroll --response-in … --evidence-out …`"
        case .notApproved: "run `holdfast-server device approve ID`"
        case .noEvidence, .evidenceTooOld:
            "take new evidence from the device: `holdfast bundle export FILE`"
        case .bootStateNotApproved:
            "compare with `holdfast-server device show ID`; when the state is good, run `holdfast-server pcr approve`"
        case .endorsementKeyTaken: "look into it: one TPM has one identity for a vendor"
        case .ended: "enroll the device again: `holdfast enroll --again …`"
        case .licenseOver: "give a later end"
        case .badArgument: nil
        case .termsExist: "raise the version"
        case .termsNeedNotice:
            "add `notice`, for example \"30d\": devices are told that long before; new licenses are under the new version at once"
        case .noMakers: "run `holdfast-server ek-roots add DIR`"
        case .conflict:
            "try `holdfast sync` on the device; when that is refused as well, enroll the device again: `holdfast enroll --again …`"
        case .recall: "run `holdfast sync`, or take a new file: `holdfast bundle export FILE`"
        case .policyExists: "raise the version"
        case .policyNotMet:
            "see `holdfast-server device show ID`; when the device is good, apply a policy that it meets, then take newer evidence"
        case .sealingKeyUnknown:
            "take the vendor's newest trust file to the device, `holdfast trust install FILE`, and have the file made anew"
        case .keyNeeded:
            "wait until these devices have synced; or say --yes, when the key leaked"
        }
    }

    public var stableCode: String {
        switch self {
        case .refused: "EVIDENCE_REFUSED"
        case .unknownDevice, .ambiguousDevice: "DEVICE_UNKNOWN"
        case .unknownTerms, .termsExist: "TERMS_INVALID"
        case .termsNeedNotice: "TERMS_NEED_NOTICE"
        case .unknownNonce: "NONCE_UNKNOWN"
        case .stale: "STALE"
        case .notProven: "DEVICE_UNPROVEN"
        case .notApproved: "DEVICE_PENDING"
        case .noEvidence, .evidenceTooOld: "EVIDENCE_MISSING"
        case .bootStateNotApproved: "BOOT_STATE_NOT_APPROVED"
        case .endorsementKeyTaken: "EK_ALREADY_ENROLLED"
        case .ended: "ENROLLMENT_ENDED"
        case .licenseOver: "LICENSE_OVER"
        case .badArgument: "ARGUMENT_INVALID"
        case .noMakers: "EK_NOT_TRUSTED"
        case .conflict: "CONFLICT"
        case .recall: Recollection.recallCode
        case .policyExists: "POLICY_SUPERSEDED"
        case .policyNotMet: "POLICY_NOT_MET"
        case .sealingKeyUnknown: SealedEnvelope.unknownKeyCode
        case .keyNeeded: "KEY_NEEDED"
        }
    }

    public var exitStatus: ExitStatus { .refused }
}
