public import HoldfastCrypto
public import HoldfastErrors
import HoldfastFiles
public import HoldfastProtocol
public import HoldfastTPM
import HoldfastTPMWire

/// Why a device cannot be enrolled.
public enum EnrollmentError: Error, Sendable, Hashable, OperatorError {
    /// The TPM has no endorsement key certificate of a kind that the vendor accepts.
    case noEndorsementCertificate
    /// The TPM has certificates, and the trust file allows none of their kinds.
    case kindNotAllowed([String])
    /// There is no request that a response could answer.
    case noRequest
    /// The state directory belongs to an enrollment whose keys the TPM no longer has.
    case keysLost
    /// The enrollment is alive, and another one would take its place.
    case stillEnrolled

    public var explanation: String {
        switch self {
        case .noEndorsementCertificate:
            "the TPM has no endorsement key certificate of a kind that Holdfast uses"
        case .kindNotAllowed(let kinds):
            "the vendor's trust file allows no endorsement key of a kind that this TPM has a certificate for: \(kinds.joined(separator: ", "))"
        case .noRequest: "no enrollment request was made from this state directory"
        case .stillEnrolled: "this device is enrolled, and a new enrollment would end its licenses"
        case .keysLost:
            "the keys of the earlier enrollment request are not in this TPM: it was cleared, exchanged, or the directory is of another machine"
        }
    }
    public var remedy: String? {
        switch self {
        case .noEndorsementCertificate: "run `holdfast doctor`; ask the maker of the machine"
        case .kindNotAllowed: "ask the vendor for a trust file that names this model of TPM"
        case .noRequest: "run `holdfast enroll --request-out` first"
        case .stillEnrolled: "run `holdfast retire --yes` first, when that is what you want"
        case .keysLost: "enroll again: `holdfast enroll --again …`"
        }
    }
    public var stableCode: String {
        switch self {
        case .noEndorsementCertificate: "EK_CERTIFICATE_MISSING"
        case .kindNotAllowed: "HARDWARE_NOT_ALLOWED"
        case .noRequest: "UNENROLLED"
        case .stillEnrolled: "ENROLLED"
        case .keysLost: "KEYS_LOST"
        }
    }
    public var exitStatus: ExitStatus { .refused }
}

/// The device's side of enrollment.
///
/// docs/spec/formats.md, "Enrollment request".
public struct Enrollment {
    private let state: StateDirectory
    private let tpm: TPMConnection
    private let random: RandomSource
    private let facts: (_ salt: [UInt8]) throws -> [HardwareFact]

    /// - Parameter facts: makes the ids of this machine's components for a vendor's salt; they help
    ///   an operator and decide nothing, so a device may do without.
    public init(
        _ state: StateDirectory, tpm: TPMConnection, random: RandomSource,
        facts: @escaping (_ salt: [UInt8]) throws -> [HardwareFact] = { _ in [] }
    ) {
        self.state = state
        self.tpm = tpm
        self.random = random
        self.facts = facts
    }

    /// Makes the request, sealed to the server, or the same request once more.
    ///
    /// An interrupted run leaves nothing in the TPM that the next one does not find.
    ///
    /// - Parameter trustFile: the vendor's trust file as it was received.
    public func makeRequest(trustFile: [UInt8]) throws -> SealedEnvelope {
        let trust = try state.install(trust: trustFile)
        let request = try storedRequest(trust) ?? newRequest(trust)
        return try SealedEnvelope(
            sealing: request.encoded(), to: trust.sealingKeys[0], random: random)
    }

    /// Gives up what is left of an earlier enrollment, so that the device enrolls as the next
    /// incarnation.
    ///
    /// That is allowed when the enrollment was retired, when its keys or the counters' authorization
    /// value are lost, and when the vendor never answered. Its slot in the TPM becomes free, which
    /// ends every lease that is left; its files are kept aside.
    ///
    /// - Parameter discarding: give up usage that the vendor has not settled.
    /// - Returns: where the files are; `nil` when there was no enrollment.
    /// - Throws: ``EnrollmentError/stillEnrolled``, ``DeviceError/unsettled``.
    public func startOver(discarding: Bool) throws -> String? {
        guard let request = try state.request(), let trust = try state.trust() else { return nil }
        guard request.keys.vendorID == trust.vendorID.bytes else { throw TokenError.foreignKey }
        let isAnswered = try state.statement() != nil
        let parent = try leaseParent(of: request)
        let isOver =
            try state.retirement() != nil || state.preparation() == nil || hasLostCounters(request)
        guard isOver || !isAnswered || parent == nil else { throw EnrollmentError.stillEnrolled }
        if isAnswered, !discarding, try state.retirement() == nil,
            try EnrolledDevice(state, tpm: tpm, random: random).hasUnsettledUsage()
        {
            throw DeviceError.unsettled
        }
        if parent != nil {
            try Provisioning(tpm).recover(
                vendorID: trust.vendorID, salt: request.keys.leaseParentSalt)
        }
        return try state.setAside()
    }

    /// Whether a counter is gone, is another one now, or is above every lease: nothing that was issued
    /// opens any more, and nothing can be retired.
    private func hasLostCounters(_ request: EnrollmentRequest) throws -> Bool {
        for counter in [request.keys.epochCounter, request.keys.ledgerCounter]
        where try tpm.nvPublicArea(at: counter.index) != counter {
            return true
        }
        guard try state.statement() != nil else { return false }
        let device = try EnrolledDevice(state, tpm: tpm, random: random)
        let epochs = try state.licenses(in: device.context).joined().map(\.statement.policy.epoch)
        guard let highest = epochs.max() else { return false }
        return try tpm.readCounter(request.keys.epochCounter) > highest
    }

    /// Where the lease parent of a request is; `nil` when the TPM does not have it.
    private func leaseParent(of request: EnrollmentRequest) throws -> TPMHandle? {
        try tpm.leaseParent(named: request.keys.leaseParent.name)?.handle
    }

    private func storedRequest(_ trust: TrustStatement) throws -> EnrollmentRequest? {
        guard let request = try state.request() else { return nil }
        guard request.keys.vendorID == trust.vendorID.bytes else { throw TokenError.foreignKey }
        // The request is worth something only while its keys are here.
        guard try leaseParent(of: request) != nil else { throw EnrollmentError.keysLost }
        return request
    }

    private func newRequest(_ trust: TrustStatement) throws -> EnrollmentRequest {
        // Before anything is made: a lease that could never be opened helps nobody.
        let missing = try tpm.missingCommands()
        guard missing.isEmpty else {
            throw TPMError(
                .notSupported,
                "this TPM lacks \(missing.map(\.specificationName).joined(separator: ", "))")
        }
        let facts = try facts(trust.factSalt).prefix(EnrollmentRequest.maximumFacts)
        let provisioning = Provisioning(tpm)
        if let left = try state.preparation() {
            try provisioning.recover(vendorID: trust.vendorID, salt: left.parentSalt)
        }
        let (kind, certificate) = try endorsement(trust)
        let prepared = try state.prepare(random: random)
        let (endorsementKey, provisioned) = try tpm.withEndorsementKey(kind) {
            (endorsementKey) throws(TPMError) in
            (
                endorsementKey.publicArea,
                try provisioning.provision(
                    vendorID: trust.vendorID, salt: prepared.parentSalt,
                    counterAuth: prepared.counterAuth, endorsementKey: endorsementKey)
            )
        }
        // The endorsement key has gone: certifying takes two of the three slots that a TPM has.
        let request = try provisioning.request(
            for: provisioned, vendorID: trust.vendorID, endorsementKey: endorsementKey,
            certificate: certificate,
            issuers: tpm.endorsementIssuers(maximum: EnrollmentRequest.maximumIssuers),
            hardwareFacts: facts.map(\.bytes), trustSequence: trust.sequence)
        try state.store(request)
        return request
    }

    /// Opens the vendor's response with the TPM and keeps the device statement.
    ///
    /// The same response may be taken in again.
    ///
    /// - Throws: ``TPMError`` with `integrity` when the credential is for another TPM or another key;
    ///   ``TokenError`` when the statement is not about this device and this request.
    public func activate(response bytes: [UInt8]) throws -> DeviceStatement {
        guard let trust = try state.trust(), let request = try storedRequest(trust) else {
            throw EnrollmentError.noRequest
        }
        let response = try EnrollmentResponse(decoding: bytes)
        guard let kind = EndorsementKeyKind(request.keys.endorsementKey) else {
            throw EnrollmentError.noEndorsementCertificate
        }
        let provisioning = Provisioning(tpm)
        let content = try tpm.withEndorsementKeyUntyped(kind) { endorsementKey in
            guard endorsementKey.publicArea == request.keys.endorsementKey else {
                throw EnrollmentError.keysLost
            }
            let secret = try provisioning.withAttestationKey(trust.vendorID) {
                (attestationKey) throws(TPMError) in
                try tpm.activateCredential(
                    response.credential, for: attestationKey, endorsementKey: endorsementKey,
                    kind: kind)
            }
            return try response.open(
                with: secret, request: request.encoded(), trust: trust,
                attestationKey: request.keys.attestationKey.name)
        }
        guard content.statement.leaseParent == request.keys.leaseParent,
            content.statement.epochCounter == request.keys.epochCounter,
            content.statement.ledgerCounter == request.keys.ledgerCounter
        else { throw TokenError.otherDevice }
        // The ledger is there before the statement says enrolled: from then on, a ledger that is
        // missing was lost.
        try state.createLedger(
            counter: tpm.readCounter(request.keys.ledgerCounter), random: random)
        // As with a reply: until everything is here, both statements are read.
        if let newer = content.trust { try state.store(comingTrust: newer.token) }
        try state.store(content)
        if content.trust != nil { try state.takeComingTrust() }
        return content.statement
    }

    /// The kind of endorsement key that the trust statement allows and the TPM has.
    ///
    /// A rule that names what stands in the certificate comes first, since a TPM has several keys and
    /// another model's rule would choose the wrong one; then, for devices in the inventory, any kind
    /// that a rule has. The names are only looked for: what the certificate says, the vendor reads.
    private func endorsement(
        _ trust: TrustStatement
    ) throws -> (EndorsementKeyKind, [UInt8]) {
        var present: [(kind: EndorsementKeyKind, certificate: [UInt8])] = []
        for kind in EndorsementKeyKind.allCases {
            do throws(TPMError) {
                if let certificate = try tpm.endorsementCertificate(kind) {
                    present.append((kind, certificate))
                }
            } catch {
                // One that cannot be read keeps nobody from another one.
                guard error.isOfOneEntity else { throw error }
            }
        }
        guard !present.isEmpty else { throw EnrollmentError.noEndorsementCertificate }
        let named = present.first { kind, certificate in
            trust.endorsementKeys.contains { rule in
                rule.kind == kind.rawValue
                    && certificate.firstRange(of: Array(rule.manufacturer.utf8)) != nil
                    && certificate.firstRange(of: Array(rule.model.utf8)) != nil
            }
        }
        let allowed = Set(trust.endorsementKeys.map(\.kind))
        guard let chosen = named ?? present.first(where: { allowed.contains($0.kind.rawValue) })
        else { throw EnrollmentError.kindNotAllowed(present.map(\.kind.rawValue)) }
        return chosen
    }
}

extension TPMConnection {
    /// Lends the endorsement key to work that fails in other ways than the TPM does.
    fileprivate func withEndorsementKeyUntyped<R>(
        _ kind: EndorsementKeyKind, _ body: (LoadedObject) throws -> R
    ) throws -> R {
        let result = try withEndorsementKey(kind) { (key) throws(TPMError) in
            Result { try body(key) }
        }
        return try result.get()
    }
}
