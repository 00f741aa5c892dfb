import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastTPMWire

/// How far an enrollment has come.
public enum EnrollmentState: String, Sendable, Hashable, CaseIterable, Codable {
    /// Answered; nothing shows yet that the TPM of the endorsement key has the attestation key.
    case unproven
    /// Evidence over a nonce from inside the encrypted response came; an operator has to admit it.
    case pending
    case approved
    /// A later enrollment of the device was approved.
    case superseded
    /// The device gave it up.
    case retired
}

/// One enrollment of one device.
public struct EnrollmentRecord: Sendable, Hashable {
    /// The store's own number; 0 before it was stored.
    public var id: Int64
    /// SHA-256 of the request's plaintext.
    public var requestHash: [UInt8]
    /// 32 bytes.
    public var pairwiseID: [UInt8]
    public var incarnation: UInt32
    public var state: EnrollmentState
    public var attestationKey: PublicArea
    /// The device statement as text.
    public var statement: String
    /// What was answered; the same request gets the same bytes.
    public var response: [UInt8]
    /// Keyed hash of the endorsement key; the key itself is not kept.
    public var endorsementHash: [UInt8]
    /// A vendor's name for the kind of machine, once it has one.
    public var model: String?
    public var createdAt: UInt64
    /// The sequence of the last reply.
    public var replySequence: UInt64
    /// The server's incarnation in which the device last brought what the vendor had signed.
    public var heardIn: UInt64
    /// The sequence of the trust statement that the device last showed to have; 0 when it does not say.
    public var trustSequence: UInt64

    public init(
        id: Int64, requestHash: [UInt8], pairwiseID: [UInt8], incarnation: UInt32,
        state: EnrollmentState, attestationKey: PublicArea, statement: String, response: [UInt8],
        endorsementHash: [UInt8],
        model: String?, createdAt: UInt64, replySequence: UInt64, heardIn: UInt64,
        trustSequence: UInt64 = 0
    ) {
        self.trustSequence = trustSequence
        self.id = id
        self.requestHash = requestHash
        self.pairwiseID = pairwiseID
        self.incarnation = incarnation
        self.state = state
        self.attestationKey = attestationKey
        self.statement = statement
        self.response = response
        self.endorsementHash = endorsementHash
        self.model = model
        self.createdAt = createdAt
        self.replySequence = replySequence
        self.heardIn = heardIn
    }
}

/// A nonce that was sent to an enrollment.
public struct NonceRecord: Sendable, Hashable {
    /// 32 bytes.
    public var nonce: [UInt8]
    public var enrollment: Int64
    /// Rises with each nonce of the enrollment: evidence is ordered by it.
    public var ordinal: UInt64
    public var expiresAt: UInt64
    /// SHA-256 of the evidence that answered it.
    public var usedBy: [UInt8]?

    public init(
        nonce: [UInt8], enrollment: Int64, ordinal: UInt64, expiresAt: UInt64, usedBy: [UInt8]?
    ) {
        self.nonce = nonce
        self.enrollment = enrollment
        self.ordinal = ordinal
        self.expiresAt = expiresAt
        self.usedBy = usedBy
    }
}

/// What came of one piece of evidence.
public struct AppraisalRecord: Sendable, Hashable {
    public var id: AppraisalID
    public var enrollment: Int64
    /// SHA-256 of the evidence's plaintext.
    public var evidenceHash: [UInt8]
    public var ordinal: UInt64
    public var receivedAt: UInt64
    /// Every check passed.
    ///
    /// Whether the state is approved is asked each time something is issued.
    public var isVerified: Bool
    public var clock: ClockInfo
    public var epoch: UInt64
    public var ledger: UInt64
    public var selection: PCRSelection
    public var values: PCRValues
    /// Flags and, of a refusal, reasons: for the operator.
    public var notes: [String]
    /// What the policy of the device said of it; `nil` when none was in force.
    public var policy: PolicyVerdict?
    /// The version of the TPM's firmware, as the quote has it; `nil` when it was refused.
    public var firmware: UInt64?

    public init(
        id: AppraisalID, enrollment: Int64, evidenceHash: [UInt8], ordinal: UInt64,
        receivedAt: UInt64, isVerified: Bool, clock: ClockInfo, epoch: UInt64, ledger: UInt64,
        selection: PCRSelection, values: PCRValues, notes: [String],
        policy: PolicyVerdict? = nil, firmware: UInt64? = nil
    ) {
        self.policy = policy
        self.firmware = firmware
        self.id = id
        self.enrollment = enrollment
        self.evidenceHash = evidenceHash
        self.ordinal = ordinal
        self.receivedAt = receivedAt
        self.isVerified = isVerified
        self.clock = clock
        self.epoch = epoch
        self.ledger = ledger
        self.selection = selection
        self.values = values
        self.notes = notes
    }
}

/// Why no lease of a license is issued any more.
public enum LicenseEnding: String, Sendable, Hashable, CaseIterable, Codable {
    /// By the vendor.
    case revoked
    /// The device certified an epoch above every lease.
    case retired
    /// It showed as well that no session of that boot can still unseal.
    case vacated
}

/// What a policy said of evidence.
public struct PolicyVerdict: Sendable, Hashable, Codable {
    public var id: String
    public var version: UInt32
    /// Empty when it is met; else which checks failed, and why.
    public var refusals: [String]
    public var isMet: Bool { refusals.isEmpty }

    /// As `gateway-boot 3`.
    public var name: String { "\(id) \(version)" }

    public init(id: String, version: UInt32, refusals: [String]) {
        self.id = id
        self.version = version
        self.refusals = refusals
    }
}

/// For which devices a policy is in force.
public enum PolicyScope: Sendable, Hashable {
    /// By pairwise id.
    case device([UInt8])
    case model(String)

    /// As it is stored: `model:NAME`, or `device:` and 64 hexadecimal digits.
    public var text: String {
        switch self {
        case .device(let id): "device:" + Hex.encode(id)
        case .model(let name): "model:" + name
        }
    }
}

/// An appraisal policy in force.
public struct PolicyRecord: Sendable, Hashable {
    public var id: String
    public var version: UInt32
    /// The signed policy as text.
    public var token: String
    /// The file of the IMA policy that it names, if it names one.
    public var imaPolicy: [UInt8]?
    public var appliedAt: UInt64

    public init(
        id: String, version: UInt32, token: String, imaPolicy: [UInt8]?, appliedAt: UInt64
    ) {
        self.id = id
        self.version = version
        self.token = token
        self.imaPolicy = imaPolicy
        self.appliedAt = appliedAt
    }
}

/// A license with what is needed to issue its next lease.
public struct LicenseRecord: Sendable, Hashable {
    public var id: LicenseID
    public var enrollment: Int64
    public var product: String
    /// The license and its terms as text.
    public var license: String
    public var terms: String
    public var endsAt: UInt64
    /// No lease is issued for an ended license.
    public var ending: LicenseEnding?
    /// Of the last lease.
    public var serial: UInt32

    public init(
        id: LicenseID, enrollment: Int64, product: String, license: String, terms: String,
        endsAt: UInt64, ending: LicenseEnding?, serial: UInt32
    ) {
        self.id = id
        self.enrollment = enrollment
        self.product = product
        self.license = license
        self.terms = terms
        self.endsAt = endsAt
        self.ending = ending
        self.serial = serial
    }
}

/// That newer terms of a license were announced in a reply.
public struct AnnouncementRecord: Sendable, Hashable {
    public var license: LicenseID
    /// Of the terms to come.
    public var version: UInt32
    /// The hash of the header of the reply.
    public var header: [UInt8]
    /// UTC seconds, as that reply said.
    public var notBefore: UInt64
    /// The device applied that reply.
    public var isHeard: Bool

    public init(
        license: LicenseID, version: UInt32, header: [UInt8], notBefore: UInt64, isHeard: Bool
    ) {
        self.license = license
        self.version = version
        self.header = header
        self.notBefore = notBefore
        self.isHeard = isHeard
    }
}

/// A lease that was issued.
public struct LeaseRecord: Sendable, Hashable {
    public var license: LicenseID
    public var serial: UInt32
    public var appraisal: AppraisalID
    /// N.
    public var epoch: UInt64
    public var endTicks: UInt64
    public var issuedAt: UInt64
    public var endsAt: UInt64

    public init(
        license: LicenseID, serial: UInt32, appraisal: AppraisalID, epoch: UInt64,
        endTicks: UInt64, issuedAt: UInt64, endsAt: UInt64
    ) {
        self.license = license
        self.serial = serial
        self.appraisal = appraisal
        self.epoch = epoch
        self.endTicks = endTicks
        self.issuedAt = issuedAt
        self.endsAt = endsAt
    }
}

/// A vendor's approval of a boot state.
public struct ApprovalRecord: Sendable, Hashable {
    public var reference: PolicyReference
    public var document: [UInt8]
    public var createdAt: UInt64

    public init(reference: PolicyReference, document: [UInt8], createdAt: UInt64) {
        self.reference = reference
        self.document = document
        self.createdAt = createdAt
    }
}

/// Something that an operator or a device did.
public struct AuditRecord: Sendable, Hashable, Codable {
    public var at: UInt64
    /// What was done, for example `device.approve`.
    public var action: String
    /// To what, for example a pairwise id.
    public var subject: String
    public var detail: String

    public init(at: UInt64, action: String, subject: String, detail: String) {
        self.at = at
        self.action = action
        self.subject = subject
        self.detail = detail
    }
}

/// A head of a device's ledger that was settled, with the receipt that it got.
public struct SettlementRecord: Sendable, Hashable {
    public var enrollment: Int64
    /// Rises with each receipt of the enrollment.
    public var sequence: UInt64
    public var era: UInt64
    /// The hash of the checkpoint.
    public var checkpoint: [UInt8]
    /// The settled head.
    public var root: [UInt8]
    public var size: UInt64
    public var totals: MeterSums
    /// Another head contradicts this one: both are kept.
    public var isForked: Bool
    public var at: UInt64
    /// The receipt as text; the same checkpoint gets the same one.
    public var receipt: String

    public init(
        enrollment: Int64, sequence: UInt64, era: UInt64, checkpoint: [UInt8], root: [UInt8],
        size: UInt64, totals: MeterSums, isForked: Bool, at: UInt64, receipt: String
    ) {
        self.enrollment = enrollment
        self.sequence = sequence
        self.era = era
        self.checkpoint = checkpoint
        self.root = root
        self.size = size
        self.totals = totals
        self.isForked = isForked
        self.at = at
        self.receipt = receipt
    }
}
