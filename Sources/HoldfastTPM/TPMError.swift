public import HoldfastErrors
public import HoldfastTPMWire

/// Why something with a TPM did not work.
public struct TPMError: Error, Sendable, Hashable {
    /// What kind of failure; compared by callers and tests.
    @nonexhaustive
    public enum Code: String, Sendable, Hashable {
        /// No TPM answers: device missing, no permission, connection lost.
        case unreachable = "TPM_UNREACHABLE"
        /// Another process holds the TPM.
        case busy = "TPM_BUSY"
        /// No answer within the deadline.
        case timedOut = "TPM_TIMED_OUT"
        /// The answer is not what the specification defines.
        case malformedResponse = "TPM_RESPONSE_MALFORMED"
        /// The HMAC of a response is wrong: somebody stands between us and the TPM.
        case responseNotAuthentic = "TPM_RESPONSE_NOT_AUTHENTIC"
        /// The TPM refused the command; see ``TPMError/returnCode``.
        case refused = "TPM_REFUSED"
        /// An object has another Name than the pinned one.
        case nameMismatch = "TPM_NAME_MISMATCH"
        /// What was sealed belongs to another TPM, or to this one before it was cleared.
        case blobForeign = "BLOB_FOREIGN"
        /// No installed approval matches the present PCR values.
        case bootStateNotApproved = "BOOT_STATE_NOT_APPROVED"
        /// A command cannot be built from what was given.
        case invalidRequest = "TPM_REQUEST_INVALID"
        /// What was sealed is for other values of the PCRs than there are now.
        case pcrsChanged = "PCRS_CHANGED"
        /// The PIN is wrong, and the try was counted.
        case pinWrong = "PIN_WRONG"
        /// A PIN is needed and none was given.
        case pinNeeded = "PIN_NEEDED"
        /// The TPM takes no PIN for a while.
        case lockedOut = "TPM_LOCKED_OUT"
        /// A selected PCR was not measured into, so that anyone could.
        case notMeasured = "PCRS_NOT_MEASURED"
        /// A condition of a policy does not hold, or cannot be met with what was given.
        case policyNotMet = "CONDITION_NOT_MET"
        /// The TPM lacks something that Holdfast needs.
        case notSupported = "TPM_NOT_SUPPORTED"
    }

    public let code: Code
    /// The command that failed, by its name in the specification.
    public let command: String?
    /// The TPM's return code, never lost.
    public let returnCode: ReturnCode?
    let detailText: String

    public init(
        _ code: Code, _ detail: String, command: String? = nil, returnCode: ReturnCode? = nil
    ) {
        self.code = code
        self.detailText = detail
        self.command = command
        self.returnCode = returnCode
    }

    static func refused(_ returnCode: ReturnCode, by command: CommandCode) -> TPMError {
        TPMError(
            .refused, returnCode.explanation, command: command.specificationName,
            returnCode: returnCode)
    }

    static func malformed(_ error: WireError, command: CommandCode) -> TPMError {
        TPMError(
            .malformedResponse, "the TPM's answer makes no sense: \(error)",
            command: command.specificationName)
    }

    /// What to do about it, in one line.
    public var hint: String {
        switch code {
        case .unreachable:
            "check that the device exists and that this user may open it; run `holdfast doctor`"
        case .busy: "wait until the other program is done, or stop it"
        case .timedOut: "try again; when it stays so, power the machine off and on"
        case .malformedResponse: "try again; when it stays so, update the TPM's firmware"
        case .responseNotAuthentic:
            "treat this machine as tampered with until the path to the TPM was checked"
        case .nameMismatch: "the TPM was cleared or exchanged: enroll again"
        case .blobForeign: "seal the secret again from its source: no other TPM opens it"
        case .bootStateNotApproved:
            "install the vendor's approval for this boot state with `holdfast approve`"
        case .pcrsChanged:
            "if firmware, Secure Boot keys, boot loader or kernel were updated, seal the secret again from its source; else treat this machine as tampered with"
        case .pinWrong: "try again; wrong PINs are counted by the TPM"
        case .pinNeeded: "run it on a terminal, or give --pin-file or --pin-fd"
        case .lockedOut:
            "wait, with the machine switched on; whoever has the lockout password may run `tpm2_dictionarylockout --clear-lockout`"
        case .notMeasured:
            "choose PCRs that the firmware measures into: `holdfast doctor` says which banks are used"
        case .policyNotMet: "nothing is wrong with the TPM: meet the condition, or seal again"
        case .invalidRequest: "this is a fault of the program: report it"
        case .notSupported: "run `holdfast doctor` to see what this TPM lacks"
        case .refused: returnCode?.hint ?? "run `holdfast doctor`"
        }
    }
}

extension TPMError {
    /// One object or index cannot be read, or is of a kind that we do not know: others may be fine.
    package var isOfOneEntity: Bool {
        switch code {
        case .malformedResponse: true
        case .refused:
            switch returnCode {
            case .handle?, .nvAuthorization?, .nvUninitialized?, .nvLocked?, .badAuth?, .authFail?,
                .authType?, .authUnavailable?, .attributes?, .hash?, .value?, .nvRange?:
                true
            default: false
            }
        default: false
        }
    }
}

extension TPMError: CustomStringConvertible {
    public var description: String {
        var text = ""
        if let command { text += "\(command): " }
        text += detailText
        if let returnCode { text += " (\(returnCode))" }
        return text
    }
}

extension ReturnCode {
    /// What the code says, in words.
    public var explanation: String {
        switch self {
        case .policyFail: "a policy check failed"
        case .policyCC: "the policy does not allow this command"
        case .policy: "a condition of the policy does not hold"
        case .pcrChanged: "a PCR changed while the policy was checked"
        case .value: "a value does not match what the TPM holds"
        case .authFail: "the authorization failed, and the try was counted"
        case .badAuth: "the authorization failed"
        case .authUnavailable: "this authorization is not available for the object"
        case .authType: "this kind of authorization is not allowed"
        case .lockout: "the TPM is in lockout after too many failed tries"
        case .integrity: "the blob is damaged or was made for another TPM"
        case .size: "a size is wrong"
        case .handle: "there is nothing at this handle"
        case .signature: "the signature is not valid"
        case .objectMemory, .objectHandles: "no room for another object"
        case .sessionMemory, .sessionHandles: "no room for another session"
        case .nvSpace: "no room in non-volatile memory"
        case .nvDefined: "the index exists already"
        case .nvUninitialized: "the index was never written"
        case .nvAuthorization: "the index does not allow this authorization"
        case .failure: "the TPM is in failure mode"
        case .initialize: "the TPM was not started"
        case .retry, .yielded, .testing, .nvRate: "the TPM is busy with itself"
        case .nvUnavailable: "the TPM's non-volatile memory cannot be used now"
        case .upgrade: "the TPM waits for a firmware update to be finished"
        case .reboot: "the TPM wants to be started anew"
        case .hierarchy: "a hierarchy of the TPM is switched off"
        default: "the TPM refused"
        }
    }

    /// What to do, where the code tells.
    var hint: String? {
        switch self {
        case .lockout: "wait for the lockout to end; do not try again in between"
        case .objectMemory, .sessionMemory, .objectHandles, .sessionHandles:
            "another program leaves objects in the TPM: use /dev/tpmrm0, or restart the machine"
        case .nvSpace:
            "remove indexes that nobody needs; `holdfast doctor` names those of former enrollments"
        case .failure, .nvUnavailable, .reboot: "power the machine off and on"
        case .upgrade: "finish the update of the TPM's firmware"
        case .hierarchy: "switch the TPM on in the machine's firmware set-up, with all hierarchies"
        case .initialize:
            "the firmware starts a TPM when the machine starts; for a simulator run `tpm2_startup -c`"
        case .hash: "the TPM may lack this PCR bank: run `holdfast doctor`"
        case .badAuth, .authFail:
            "the owner or endorsement password is set: ask who administers this TPM; `seal` and `unseal` take it with --owner-file"
        default: nil
        }
    }
}

extension CommandCode {
    /// The name in Part 3 of the specification.
    public var specificationName: String {
        switch self {
        case .activateCredential: "TPM2_ActivateCredential"
        case .certify: "TPM2_Certify"
        case .create: "TPM2_Create"
        case .createPrimary: "TPM2_CreatePrimary"
        case .evictControl: "TPM2_EvictControl"
        case .flushContext: "TPM2_FlushContext"
        case .getCapability: "TPM2_GetCapability"
        case .getRandom: "TPM2_GetRandom"
        case .importObject: "TPM2_Import"
        case .load: "TPM2_Load"
        case .loadExternal: "TPM2_LoadExternal"
        case .nvCertify: "TPM2_NV_Certify"
        case .nvDefineSpace: "TPM2_NV_DefineSpace"
        case .nvIncrement: "TPM2_NV_Increment"
        case .nvRead: "TPM2_NV_Read"
        case .nvReadPublic: "TPM2_NV_ReadPublic"
        case .nvUndefineSpace: "TPM2_NV_UndefineSpace"
        case .pcrExtend: "TPM2_PCR_Extend"
        case .pcrRead: "TPM2_PCR_Read"
        case .policyAuthorize: "TPM2_PolicyAuthorize"
        case .policyAuthValue: "TPM2_PolicyAuthValue"
        case .policyCommandCode: "TPM2_PolicyCommandCode"
        case .policyCounterTimer: "TPM2_PolicyCounterTimer"
        case .policyGetDigest: "TPM2_PolicyGetDigest"
        case .policyNV: "TPM2_PolicyNV"
        case .policyNvWritten: "TPM2_PolicyNvWritten"
        case .policyOR: "TPM2_PolicyOR"
        case .policyPCR: "TPM2_PolicyPCR"
        case .policySecret: "TPM2_PolicySecret"
        case .quote: "TPM2_Quote"
        case .readClock: "TPM2_ReadClock"
        case .readPublic: "TPM2_ReadPublic"
        case .shutdown: "TPM2_Shutdown"
        case .startAuthSession: "TPM2_StartAuthSession"
        case .unseal: "TPM2_Unseal"
        case .verifySignature: "TPM2_VerifySignature"
        default: "TPM command 0x" + String(rawValue, radix: 16)
        }
    }
}

extension TPMError: OperatorError {
    public var explanation: String { description }
    public var remedy: String? { hint }
    public var stableCode: String { code.rawValue }
    public var exitStatus: ExitStatus {
        switch code {
        case .refused:
            // A TPM that does not work has refused nothing.
            switch returnCode {
            case .initialize?, .failure?, .nvUnavailable?, .upgrade?, .reboot?, .hierarchy?:
                .unreachable
            default: .refused
            }
        case .bootStateNotApproved, .blobForeign, .nameMismatch, .pcrsChanged, .pinWrong,
            .pinNeeded, .lockedOut,
            .notMeasured, .policyNotMet:
            .refused
        case .unreachable, .busy, .timedOut, .malformedResponse, .responseNotAuthentic,
            .notSupported:
            .unreachable
        default: .failure
        }
    }
}
