public import HoldfastCrypto
public import HoldfastLicensing
public import HoldfastProtocol
package import HoldfastTPM
import HoldfastTPMWire

extension EnrolledDevice {
    /// Where every license of the device stands, as its TPM says now.
    ///
    /// - Throws: when a file was changed, or the TPM's answers make no sense; never because a
    ///   license ran out.
    public func standings() throws -> [LicenseStanding] {
        try situations().map { LicenseStanding($0.document, in: $0.situation) }
    }

    /// What every standing follows from: the license that counts, and what the TPM said of it.
    ///
    /// Nothing else goes into a decision; the same situation gives the same one without a TPM.
    public func situations() throws -> [(document: LicenseDocument, situation: LicenseSituation)] {
        let licenses = try state.licenses(in: context)
        guard !licenses.isEmpty else { return [] }
        let floor = try floor(licenses.joined())
        // Nothing follows from it: a file that was damaged keeps nobody from his license.
        let announced = (try? state.announced(in: context)) ?? []
        let parent: LoadedObject?
        let clock: ClockInfo
        do throws(TPMError) {
            parent = try leaseParent()
            clock = try tpm.clock()
        } catch {
            guard error.isAbsence else { throw error }
            // What is known without the TPM stays: a revocation, and a proof of retirement.
            let revoked = Set(try state.lastReply(in: context)?.revoked ?? [])
            let isRetired = try state.retirement() != nil
            let usage = try usage(for: licenses.compactMap(\.first))
            return licenses.map { leases in
                (
                    leases[0],
                    .init(
                        lease: .absent, clock: nil, floor: floor, isRetired: isRetired,
                        isRevoked: revoked.contains(leases[0].license.id), announced: announced,
                        usage: usage)
                )
            }
        }
        let isRetired = try isRetired(licenses.joined())
        let approvals = try state.approvals(trusting: trust.approvalKey)
        let revoked = Set(try state.lastReply(in: context)?.revoked ?? [])
        let usage = try usage(for: licenses.compactMap(\.first))
        var opened: [PCRSelection] = []
        defer { remember(opened, clock: clock) }
        return try licenses.map { leases in
            let (document, lease) = try firstThatOpens(leases, parent, approvals)
            if case .opened = lease { opened.append(document.statement.reference.selection) }
            return (
                document,
                .init(
                    lease: lease, clock: clock, floor: floor, isRetired: isRetired,
                    isRevoked: revoked.contains(document.license.id), announced: announced,
                    usage: usage)
            )
        }
    }

    /// What the ledger says, when a license has limits.
    ///
    /// It is compared with the TPM's counter, so that an older copy refills nothing.
    ///
    /// - Returns: `nil` when no license needs it, or it cannot be told: then the limit counts as used.
    private func usage(for documents: [LicenseDocument]) throws -> KnownUsage? {
        guard documents.contains(where: { !$0.statement.allowances.isEmpty }), state.hasLedger
        else { return nil }
        return try gate {
            do {
                return try openRecords().usage()
            } catch let error as TPMError where !error.isAbsence {
                // Busy with itself, or nonsense: that says nothing of the ledger.
                throw error
            } catch is TPMError {
                return try? openRecordsUncompared().usage()
            } catch {
                return nil
            }
        }
    }

    /// Reads what is kept of terms to come.
    ///
    /// - Throws: when the file was changed; decisions do without it.
    public func demandTermsToCome() throws { _ = try state.announced(in: context) }

    /// Decides on an entitlement.
    public func decide(_ entitlement: String) throws -> Decision {
        Decision(
            entitlement, standings: try standings(), isEnrolled: true,
            isRetired: try state.retirement() != nil)
    }

    /// The highest server time in any document that is here.
    func lastServerTime() throws -> UInt64 { try floor(state.licenses(in: context).joined()) }

    /// The highest server time in a document that was verified.
    private func floor(_ documents: some Sequence<LicenseDocument>) throws -> UInt64 {
        let times = documents.flatMap {
            [$0.license.issuedAt, $0.terms.issuedAt, $0.statement.issuedAt]
        }
        return max(
            times.max() ?? 0, statement.issuedAt,
            try state.lastReply(in: context)?.serverAt ?? 0)
    }

    /// A proof of retirement counts when the TPM's counter is above every lease.
    private func isRetired(_ documents: some Sequence<LicenseDocument>) throws -> Bool {
        guard try state.retirement() != nil else { return false }
        let highest = documents.map(\.statement.policy.epoch).max() ?? 0
        return try tpm.readCounter(statement.epochCounter) > highest
    }

    /// The newest lease that opens; when none does, the newest.
    ///
    /// An older lease is kept until a newer one has opened once, and no longer.
    private func firstThatOpens(
        _ leases: [LicenseDocument], _ parent: LoadedObject?, _ approvals: [ApprovalDocument]
    ) throws -> (LicenseDocument, LicenseSituation.Lease) {
        guard let parent else { return (leases[0], .cleared) }
        var first: LicenseSituation.Lease?
        for (number, document) in leases.enumerated() {
            let lease = try open(document, below: parent, approvals)
            if case .opened = lease {
                if state.mayWrite {
                    for older in leases.dropFirst(number + 1) { try state.remove(older) }
                }
                return (document, lease)
            }
            if first == nil { first = lease }
        }
        return (leases[0], first ?? .refused([], changed: []))
    }

    private func open(
        _ document: LicenseDocument, below parent: LoadedObject, _ approvals: [ApprovalDocument]
    ) throws -> LicenseSituation.Lease {
        do throws(TPMError) {
            return try unseal(document, below: parent, approvals) { rights, _ in .opened(rights) }
        } catch {
            if error.isAbsence { return .absent }
            guard error.isRefusalOfLease else { throw error }
            return try diagnose(document, approvals)
        }
    }

    /// Lets the TPM open a lease, and lends what it gives with the key that it released.
    private func unseal<R: ~Copyable>(
        _ document: LicenseDocument, below parent: LoadedObject, _ approvals: [ApprovalDocument],
        _ body: (LeaseRights, borrowing SecretBytes) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let stored = Result { try state.object(of: document) }
        if let object = try? stored.get() {
            do throws(TPMError) {
                return try unseal(document, object, parent, approvals, body)
            } catch {
                // A damaged object is made again from the blob; other refusals stand.
                guard error.isDamagedObject else { throw error }
            }
        }
        let object = try tpm.importBlob(document.importBlob, below: parent)
        // Without it the next opening imports once more, and nothing is lost.
        if state.mayWrite {
            let kept = Result { try state.store(object: object, of: document) }
            _ = kept
        }
        return try unseal(document, object, parent, approvals, body)
    }

    private func unseal<R: ~Copyable>(
        _ document: LicenseDocument, _ object: [UInt8], _ parent: LoadedObject,
        _ approvals: [ApprovalDocument],
        _ body: (LeaseRights, borrowing SecretBytes) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let key = try tpm.withLoaded(
            privateBlob: object, publicArea: document.importBlob.publicArea, below: parent
        ) { (loaded) throws(TPMError) in
            try tpm.unseal(
                loaded, policy: document.statement.policy.policy,
                with: PolicyMeans(approvals: approvals.map(\.approval)), salt: parent)
        }
        let rights: LeaseRights
        do throws(TokenError) {
            rights = try LeaseRights(
                opening: document.sealedLease, of: document.statement,
                attestationKey: statement.attestationKey.name, key: key)
        } catch {
            throw TPMError(
                .malformedResponse, "the TPM released another key than the lease was sealed with")
        }
        return try body(rights, key)
    }

    // MARK: For running programs

    /// What a running program goes by: everything that the TPM and the documents say now.
    ///
    /// - Parameter product: licenses of other products are left out; `nil` for all.
    public func look(product: String? = nil) throws -> HeldLicenses.Seen {
        HeldLicenses.Seen(
            licenses: try situations().filter {
                product == nil || $0.document.license.product == product
            }.map { .init(document: $0.document, situation: $0.situation) },
            isRetired: try state.retirement() != nil)
    }

    /// The licenses as the files have them, without the TPM.
    ///
    /// - Parameter product: licenses of other products are left out; `nil` for all.
    public func documents(product: String? = nil) throws -> [LicenseDocument] {
        try state.licenses(in: context).compactMap(\.first).filter {
            product == nil || $0.license.product == product
        }
    }

    /// Asks the TPM to open the lease of an entitlement, and takes its secret out.
    ///
    /// - Returns: `nil` when no lease that opens has a secret for it.
    /// - Throws: the TPM's refusal, when there is a lease and none opens.
    public func secret(of entitlement: String, product: String? = nil) throws -> SecretBytes? {
        guard try state.retirement() == nil else { throw DeviceError.retired }
        let parent = try demandParent()
        let approvals = try state.approvals(trusting: trust.approvalKey)
        var refusal: TPMError?
        let all = try state.licenses(in: context)
        let floor = try floor(all.joined())
        let revoked = Set(try state.lastReply(in: context)?.revoked ?? [])
        // Not what was taken back or has ended, whatever the TPM would still open; and the newest lease
        // of a license, as for a decision.
        let newest = all.compactMap(\.first).filter { document in
            (product == nil || document.license.product == product)
                && document.license.entitlements.contains { $0.name == entitlement }
                && !revoked.contains(document.license.id) && floor < document.license.endsAt
        }
        for document in newest {
            do throws(TPMError) {
                let name = statement.attestationKey.name
                let secret = try unseal(document, below: parent, approvals) {
                    (rights, key) throws(TPMError) -> SecretBytes? in
                    do throws(CryptoError) {
                        return try rights.secret(of: entitlement, attestationKey: name, key: key)
                    } catch {
                        throw TPMError(
                            .malformedResponse,
                            "the secret of `\(entitlement)` does not belong to this lease")
                    }
                }
                if let secret { return secret }
            } catch {
                refusal = error
            }
        }
        if let refusal { throw refusal }
        return nil
    }

    /// Looks for the reasons of a refusal; the TPM has decided already.
    private func diagnose(
        _ document: LicenseDocument, _ approvals: [ApprovalDocument]
    ) throws -> LicenseSituation.Lease {
        let policy = document.statement.policy
        var flags: [LicenseFlag] = []
        let clock = try tpm.clock()
        if clock.resetCount > policy.highestResetCount
            || clock.restartCount > policy.highestRestartCount
        {
            flags.append(.resetsSpent)
        }
        if clock.clock < policy.lowestClock { flags.append(.timeUncertain) }
        do throws(TPMError) {
            if try tpm.readCounter(policy.epochCounter) != policy.epoch {
                flags.append(.epochRaised)
            }
        } catch {
            // The index is gone, or is another one; a TPM that is busy with itself says nothing of it.
            guard error.isRefusalOfLease || error.isOfOneEntity else { throw error }
            flags.append(.epochRaised)
        }
        let reference = document.statement.reference
        let values = try tpm.readPCRs(reference.selection)
        let fitting = approvals.filter { $0.reference == reference }
        guard !fitting.contains(where: { $0.values == values }) else {
            return .refused(flags, changed: [])
        }
        flags.append(.bootChanged)
        // The nearest approval tells what differs.
        let differing = fitting.map { approval in
            reference.selection.banks.flatMap { bank in
                bank.indexes.filter {
                    approval.values[bank.hash, $0] != values[bank.hash, $0]
                }
            }
        }
        return .refused(flags, changed: differing.min { $0.count < $1.count } ?? [])
    }
}

extension TPMError {
    /// Nobody answers: another case than an answer that makes no sense.
    var isAbsence: Bool { code == .unreachable }

    /// A condition of the lease does not hold, or its object is not this TPM's: not a TPM that is
    /// full, busy or out of order.
    package var isRefusalOfLease: Bool {
        guard code != .bootStateNotApproved else { return true }
        guard code == .refused, let returnCode else { return false }
        switch returnCode {
        case .policy, .policyFail, .policyCC, .signature, .integrity, .size, .value, .handle,
            .nvUninitialized, .nvAuthorization, .authUnavailable:
            return true
        default: return false
        }
    }

    /// The TPM finds fault with a parameter of TPM2_Load: the object was not made by it, or was
    /// changed.
    var isDamagedObject: Bool {
        guard code == .refused, command == "TPM2_Load", let returnCode else { return false }
        // Format one with the parameter bit: Part 2, section 6.6.2.
        return returnCode.rawValue & 0xC0 == 0xC0
    }
}
