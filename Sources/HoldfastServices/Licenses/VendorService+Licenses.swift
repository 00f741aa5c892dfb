import HoldfastCrypto
import HoldfastErrors
import HoldfastLicensing
public import HoldfastProtocol
public import HoldfastTPMWire

extension VendorService {
    // MARK: Terms

    /// Takes terms in force for new licenses, and for earlier ones when their notice is over.
    ///
    /// - Returns: the terms as they were signed.
    /// - Throws: ``ServiceError/termsNeedNotice(_:)`` when a newer version takes something away and gives
    ///   no notice.
    public func apply(_ file: TermsFile) throws -> Terms {
        let issuer = try keys.issuerKey(of: trust.issuerKeys[0])
        return try store.write { transaction in
            if let text = try transaction.terms(file.terms.id) {
                let present = try Terms(
                    verifying: PASETOToken(parsing: text), issuers: trust.everyIssuerKey)
                var same = file.terms
                same.issuedAt = present.issuedAt
                if same == present { return present }
                guard file.terms.version > present.version else {
                    throw ServiceError.termsExist(present.id, present.version)
                }
                guard file.terms.licenseClass == present.licenseClass else {
                    throw ServiceError.badArgument(
                        "`\(present.id)` is of class \(present.licenseClass.rawValue); terms of another class need another id"
                    )
                }
                let losses = present.differences(to: file.terms).filter(\.isLoss).map(\.text)
                guard losses.isEmpty || file.terms.noticeSeconds ?? 0 > 0 else {
                    throw ServiceError.termsNeedNotice(losses)
                }
            }
            var terms = file.terms
            terms.issuedAt = now()
            let token = try terms.signed(with: issuer)
            try transaction.insert(
                terms: token.text, id: terms.id, version: terms.version, at: now())
            try audit("terms.apply", terms.id, "version \(terms.version)", transaction)
            return terms
        }
    }

    /// The terms in force under a name.
    public func terms(_ id: String) throws -> Terms {
        guard let terms = try termsInForce(id) else { throw ServiceError.unknownTerms(id) }
        return terms
    }

    /// The terms in force under a name; `nil` when there are none.
    public func termsInForce(_ id: String) throws -> Terms? {
        try store.read({ try $0.terms(id) }).map {
            try Terms(verifying: PASETOToken(parsing: $0), issuers: trust.everyIssuerKey)
        }
    }

    func terms(of license: LicenseRecord) throws -> Terms {
        try Terms(verifying: PASETOToken(parsing: license.terms), issuers: trust.everyIssuerKey)
    }

    // MARK: Approvals

    /// For which devices a boot state is approved.
    public enum ApprovalScope: Sendable, Hashable {
        /// One device, by its `dev_…`.
        case device(String)
        case model(String)
    }

    /// Signs approvals of a boot state: for leases of a product, and for the ledger key.
    ///
    /// - Parameters:
    ///   - values: of the registers that the trust statement selects; `nil` to take those of the
    ///     last evidence of `source`.
    ///   - source: the device whose values are taken; the one in `scope` without it.
    ///   - generation: above earlier ones to withdraw these with the next lease; `nil` for the
    ///     present one.
    /// - Returns: the file for devices.
    public func approve(
        _ scope: ApprovalScope, product: String, values: PCRValues?, source: String?,
        generation: UInt32?, note: String
    ) throws -> (document: ApprovalDocument, bytes: [UInt8]) {
        let key = try keys.approvalKey()
        return try store.write { transaction in
            var source = source
            let place: PolicyReference.Scope
            switch scope {
            case .device(let text):
                source = source ?? text
                place = .device(try record(text, transaction).pairwiseID)
            case .model(let name): place = .model(name)
            }
            var approved = values
            if approved == nil {
                guard let source else {
                    throw ServiceError.badArgument(
                        "give --pcr-values FILE or --from DEVICE: a model has no values of its own")
                }
                let device = try record(source, transaction)
                guard
                    let last = try transaction.lastVerified(of: device.id)
                else { throw ServiceError.noEvidence(device.device) }
                approved = last.values
            }
            let roles: [PolicyReference.Role] = [.lease(product: product), .ledger]
            let documents = try roles.map { role in
                let present = try transaction.approvals().filter {
                    $0.reference.scope == place && $0.reference.role == role
                }.map(\.reference.generation).max()
                if role != .ledger, let generation, let present, generation <= present {
                    throw ServiceError.badArgument(
                        "generation \(present) is in force for that scope and product; another one must be above it"
                    )
                }
                // The ledger key signs in every state that is approved for a product.
                let raised = role == .ledger ? nil : generation
                return try ApprovalDocument(
                    reference: PolicyReference(
                        role: role, scope: place, generation: raised ?? present ?? 1,
                        selection: trust.selection), values: approved ?? PCRValues(), note: note,
                    signingWith: key)
            }
            for document in documents {
                try transaction.insert(
                    ApprovalRecord(
                        reference: document.reference, document: document.encoded(),
                        createdAt: now()))
            }
            let reference = documents[0].reference
            try audit(
                "pcr.approve", reference.scope.text,
                "\(product), generation \(reference.generation), \(reference.selection.text)",
                transaction)
            return (documents[0], try ApprovalDocument.file(documents))
        }
    }

    /// Approvals in force for a role on a device, its own before its model's; of each scope only
    /// the highest generation counts.
    func approvals(
        role: PolicyReference.Role, for record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws -> [ApprovalDocument] {
        var scopes: [PolicyReference.Scope] = [.device(record.pairwiseID)]
        if let model = record.model { scopes.append(.model(model)) }
        let all = try transaction.approvals().filter { $0.reference.role == role }
        return try scopes.flatMap { scope in
            let here = all.filter { $0.reference.scope == scope }
            let newest = here.map(\.reference.generation).max()
            return try here.filter { $0.reference.generation == newest }.map {
                try ApprovalDocument(decoding: $0.document, trusting: trust.approvalKey)
            }
        }
    }

    /// The approval in force that covers a boot state.
    private func approval(
        for product: String, _ appraisal: AppraisalRecord, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws -> ApprovalDocument {
        let found = try approvals(role: .lease(product: product), for: record, transaction)
            .first {
                $0.reference.selection == appraisal.selection && $0.values == appraisal.values
            }
        guard let found else { throw ServiceError.bootStateNotApproved(product: product) }
        return found
    }

    func hasApproval(
        for product: String, _ appraisal: AppraisalRecord, _ record: EnrollmentRecord,
        _ transaction: any VendorStoreReading
    ) throws -> Bool {
        do {
            _ = try approval(for: product, appraisal, record, transaction)
            return true
        } catch ServiceError.bootStateNotApproved {
            return false
        }
    }

    // MARK: Licenses

    /// What is to be licensed.
    public struct Grant: Sendable, Hashable {
        public var device: String
        public var product: String
        public var entitlements: [License.Entitlement]
        public var terms: String
        /// UTC seconds.
        public var endsAt: UInt64

        public init(
            device: String, product: String, entitlements: [License.Entitlement], terms: String,
            endsAt: UInt64
        ) {
            self.device = device
            self.product = product
            self.entitlements = entitlements
            self.terms = terms
            self.endsAt = endsAt
        }
    }

    /// What was issued.
    public struct Issued: Sendable {
        public let license: LicenseID
        public let device: String
        /// For the device.
        public let reply: [UInt8]
    }

    func demandGrant(_ product: String, _ entitlements: [License.Entitlement]) throws {
        guard License.isName(product) else {
            throw ServiceError.badArgument("a product is 1 to 64 of a-z, 0-9, `-`, `_` and `.`")
        }
        let names = entitlements.map(\.name)
        if let reserved = names.first(where: {
            Decision.always.contains($0) || $0 == Decision.reading
        }) {
            throw ServiceError.badArgument(
                "`\(reserved)` is allowed to everybody; it is not granted")
        }
        guard Set(names).count == names.count else {
            throw ServiceError.badArgument("an entitlement is granted once")
        }
    }

    /// Issues a license with its first lease, from the last evidence of the device.
    ///
    /// - Throws: ``ServiceError`` when the device is not admitted, its evidence is missing or too
    ///   old, or no approval covers its boot state.
    public func issue(_ grant: Grant) throws -> Issued {
        try demandGrant(grant.product, grant.entitlements)
        let issuer = try keys.issuerKey(of: trust.issuerKeys[0])
        return try store.write { transaction in
            var record = try record(grant.device, transaction)
            switch record.state {
            case .unproven: throw ServiceError.notProven(record.device)
            case .pending: throw ServiceError.notApproved(record.device)
            case .superseded, .retired: throw ServiceError.ended(record.device)
            case .approved: break
            }
            guard let kept = try transaction.terms(grant.terms) else {
                throw ServiceError.unknownTerms(grant.terms)
            }
            let termsText = try presentlySigned(terms: kept)
            let terms = try Terms(
                verifying: PASETOToken(parsing: termsText), issuers: trust.everyIssuerKey)
            guard
                let appraisal = try transaction.lastVerified(of: record.id)
            else { throw ServiceError.noEvidence(record.device) }
            guard now() <= appraisal.receivedAt + terms.evidenceValiditySeconds else {
                throw ServiceError.evidenceTooOld(record.device)
            }
            try demandPolicy(appraisal, record, transaction)
            let counted =
                grant.entitlements.contains { $0.limit != nil }
                ? try counted(record, transaction) : [:]
            let license = License(
                id: LicenseID(random: random), product: grant.product,
                entitlements: grant.entitlements.map { entitlement in
                    var entitlement = entitlement
                    let used = counted[entitlement.name] ?? 0
                    entitlement.usedBefore = entitlement.limit == nil || used == 0 ? nil : used
                    return entitlement
                }, terms: terms.id, termsVersion: terms.version,
                licenseClass: terms.licenseClass, endsAt: grant.endsAt, issuedAt: now())
            let token = try license.signed(for: record.attestationKey.name, with: issuer)
            let made = LicenseRecord(
                id: license.id, enrollment: record.id, product: grant.product,
                license: token.text, terms: termsText, endsAt: grant.endsAt, ending: nil,
                serial: 0)
            try transaction.insert(made)
            try audit(
                "license.issue", license.id, "\(grant.product) for \(record.device)", transaction)
            let outcome = try reply(
                .accepted, to: appraisal.evidenceHash, of: &record, issuing: appraisal, new: made,
                notes: [], transaction)
            guard let bytes = outcome.reply, outcome.notes.isEmpty else {
                throw ServiceError.licenseOver
            }
            return Issued(license: license.id, device: record.device, reply: bytes)
        }
    }

    /// Makes the next lease of a license: terms, schedule, policy, sealed key, statement.
    ///
    /// - Parameter epoch: the certified one, or one above it when the same reply asks for it.
    func issue(
        _ license: LicenseRecord, _ appraisal: AppraisalRecord, epoch: UInt64,
        _ record: EnrollmentRecord, _ transaction: any VendorStoreWriting
    ) throws -> (parts: [(type: SectionType, bytes: [UInt8])], migrated: Migrated) {
        let approval = try approval(for: license.product, appraisal, record, transaction)
        guard license.endsAt > now() else { throw ServiceError.licenseOver }
        let migrated = try migrate(license, record, transaction)
        let license = try presentlySigned(migrated.license, record)
        let before = try transaction.leases(of: license.id, limit: 1).first
        guard
            let schedule = LeaseSchedule(
                terms: migrated.schedule, attested: appraisal.clock, now: now(),
                licenseEndsAt: license.endsAt, notEndingBefore: before?.endTicks)
        else { throw ServiceError.licenseOver }
        let device = try statement(record)
        let attestationKey = record.attestationKey.name
        var renewed = license
        renewed.serial += 1
        try transaction.update(renewed)
        let serial = renewed.serial

        let policy = LeasePolicy(
            approvalKey: KeyTemplate.approvalKey(trust.approvalKey).name,
            policyRef: approval.reference.policyRef, epochCounter: device.epochCounter,
            epoch: epoch, lowestClock: schedule.lowestTicks,
            highestClock: schedule.endTicks, highestResetCount: schedule.highestResetCount,
            highestRestartCount: schedule.highestRestartCount)
        let key = random.secret(PASETO.localKeySize)
        let blob = try ImportBlob(
            sealing: key, attributes: KeyTemplate.sealedLeaseAttributes,
            policy: policy.policy.digest, parent: device.leaseParent, random: random)
        let licenseToken = try PASETOToken(parsing: license.license)
        let content = try License(
            verifying: licenseToken, issuers: trust.everyIssuerKey, attestationKey: attestationKey)
        var secrets: [String: PASETOToken] = [:]
        for name in content.entitlements.map(\.name) {
            guard let secret = try keys.secret(product: content.product, entitlement: name)
            else { continue }
            secrets[name] = try LeaseRights.seal(
                secret, of: name, license: license.id, serial: serial,
                for: attestationKey, key: key, random: random)
        }
        let sealed = try LeaseRights(
            license: license.id, serial: serial,
            entitlements: content.entitlements.map(\.name), secrets: secrets
        ).sealed(for: attestationKey, key: key, random: random)
        let termsToken = try PASETOToken(parsing: license.terms)
        let allowances = try allowances(of: content, record, transaction)
        func hash(_ section: [UInt8]) -> [UInt8] { HashAlgorithm.sha256.digest(section) }
        let statement = try LeaseStatement(
            license: license.id, serial: serial, incarnation: record.incarnation,
            importBlobHash: hash(LicenseDocument.section(blob)),
            sealedLeaseHash: hash(LicenseDocument.section(sealed)),
            termsHash: hash(LicenseDocument.section(terms: termsToken)),
            objectName: TPMName(hash: .sha256, publicArea: blob.publicArea),
            reference: approval.reference, issuedTicks: schedule.issuedTicks,
            renewTicks: schedule.renewTicks, graceTicks: schedule.graceTicks,
            softEndTicks: schedule.softEndTicks, degradedEndTicks: schedule.degradedEndTicks,
            policy: policy, appraisal: appraisal.id, issuedAt: now(), endsAt: schedule.endsAt,
            allowances: allowances.most, settled: allowances.settled, era: allowances.era
        ).signed(for: attestationKey, with: keys.issuerKey(of: trust.issuerKeys[0]))
        try transaction.insert(
            LeaseRecord(
                license: license.id, serial: serial, appraisal: appraisal.id,
                epoch: epoch, endTicks: schedule.endTicks, issuedAt: now(),
                endsAt: schedule.endsAt))
        let parts = LicenseDocument.parts(
            terms: termsToken, license: licenseToken, statement: statement, sealedLease: sealed,
            importBlob: blob)
        return (parts + [(.approval, try approval.encoded())], migrated)
    }
}
