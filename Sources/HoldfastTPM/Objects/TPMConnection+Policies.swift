public import HoldfastCrypto
public import HoldfastTPMWire

/// What a policy needs besides itself when it runs.
public struct PolicyMeans {
    /// Approvals at hand; the first one that the PCRs satisfy is used.
    public var approvals: [PCRApproval]
    /// Which branch to take at each PolicyOR, in the order in which they come.
    public var branches: [Int]
    /// Authorization values for PolicySecret, by the Name of the entity; the empty one otherwise.
    public var secrets: [TPMName: SymmetricSecret]
    /// A pinned key, so that nobody who listens can try passwords.
    public var salt: LoadedObject?

    public init(
        approvals: [PCRApproval] = [], branches: [Int] = [],
        secrets: [TPMName: SymmetricSecret] = [:], salt: LoadedObject? = nil
    ) {
        self.salt = salt
        self.approvals = approvals
        self.branches = branches
        self.secrets = secrets
    }
}

extension TPMConnection {
    /// Runs a policy in a session.
    ///
    /// - Throws: `.bootStateNotApproved` when no approval fits the PCRs, `.refused` with the TPM's
    ///   code when another condition does not hold.
    public func satisfy(
        _ policy: Policy, in session: AuthSession, with means: PolicyMeans
    ) throws(TPMError) {
        guard policy.hash == session.hash else {
            throw TPMError(.invalidRequest, "policy and session have different hashes")
        }
        var branches = means.branches[...]
        try satisfy(policy.assertions, policy, session, means, &branches)
    }

    private func satisfy(
        _ assertions: [PolicyAssertion], _ policy: Policy, _ session: AuthSession,
        _ means: PolicyMeans, _ branches: inout ArraySlice<Int>
    ) throws(TPMError) {
        for assertion in assertions {
            let before = session.policyDigest
            switch assertion {
            case .pcr(let selection, let digest):
                guard !selection.isEmpty else {
                    throw TPMError(.invalidRequest, "a policy over no PCR is never accepted")
                }
                try run(
                    PolicyPCRCommand(
                        session: session.handle, selection: selection, digest: digest))
            case .authorize(let key, let policyRef):
                try authorize(key, policyRef, session, means.approvals)
            case .nv(let index, let operand, let offset, let operation):
                try compare(index, operand, offset, operation, session)
            case .counterTimer(let field, let operation, let value):
                try run(
                    PolicyCounterTimerCommand(
                        session: session.handle, operand: field.operand(value),
                        offset: field.offset, operation: operation))
            case .secret(let entity, let policyRef):
                try prove(entity, policyRef, session, means.secrets[entity], means.salt)
            case .or(let options):
                guard let choice = branches.popFirst(), options.indices.contains(choice) else {
                    throw TPMError(.invalidRequest, "no branch was chosen for PolicyOR")
                }
                try satisfy(options[choice], policy, session, means, &branches)
                try run(
                    PolicyORCommand(
                        session: session.handle,
                        branches: policy.branchDigests(options, from: before)))
            case .commandCode(let code):
                try run(PolicyCommandCodeCommand(session: session.handle, command: code))
            case .authValue:
                try run(PolicyAuthValueCommand(session: session.handle))
                session.provesAuthValue = true
            case .nvWritten(let written):
                try run(PolicyNvWrittenCommand(session: session.handle, written: written))
            }
            session.policyDigest = policy.extend(before, with: [assertion])
        }
    }

    /// PolicyNV, with whatever authorization the index takes for being read.
    private func compare(
        _ index: NVPublicArea, _ operand: [UInt8], _ offset: UInt16,
        _ operation: ComparisonOperation, _ session: AuthSession
    ) throws(TPMError) {
        let reference = EntityReference(index.index, name: index.name)
        func command(_ authorization: EntityReference) -> PolicyNVCommand {
            PolicyNVCommand(
                authorization: authorization, index: reference, session: session.handle,
                operand: operand, offset: offset, operation: operation)
        }
        if index.attributes.contains(.policyRead),
            index.authPolicy == KeyTemplate.counterPolicy.digest
        {
            return try withPolicySession(KeyTemplate.counterPolicy, choosing: 0) {
                (reading) throws(TPMError) in
                try run(command(reference), [.policyOnce(reading)])
            }
        }
        let reader = index.attributes.contains(.authRead) ? reference : EntityReference(.owner)
        try run(command(reader), [.emptyAuth])
    }

    /// PolicySecret for a hierarchy, or for the persistent object or index of that Name.
    private func prove(
        _ entity: TPMName, _ policyRef: [UInt8], _ session: AuthSession,
        _ authValue: SymmetricSecret?, _ salt: LoadedObject?
    ) throws(TPMError) {
        let reference = try self.entity(named: entity)
        let command = PolicySecretCommand(
            entity: reference, session: session.handle, policyRef: policyRef)
        guard let authValue else {
            try run(command, [.emptyAuth])
            return
        }
        // Proved and not shown: an HMAC over the command.
        try withSession(.hmac, hash: .sha256, salt: salt.map { .key($0) } ?? .none) {
            (proof) throws(TPMError) in
            try run(command, [.hmac(proof, authValue: authValue)])
        }
    }

    /// Finds the entity that has a Name.
    ///
    /// - Throws: `.policyNotMet` when nothing that is persistent has it.
    private func entity(named name: TPMName) throws(TPMError) -> EntityReference {
        for handle in [TPMHandle.owner, .endorsement, .lockout]
        where name == TPMName(handle: handle) {
            return EntityReference(handle)
        }
        if let found = try object(named: name, among: handles(from: 0x8100_0000)) {
            return found.reference
        }
        for handle in try handles(from: 0x0100_0000) {
            if let found = try? nvPublicArea(at: handle), found.name == name {
                return EntityReference(handle, name: name)
            }
        }
        throw TPMError(.policyNotMet, "the entity whose password is asked for is not in this TPM")
    }

    /// PolicyPCR for the first approval that fits, then PolicyAuthorize for it.
    private func authorize(
        _ keyName: TPMName, _ policyRef: [UInt8], _ session: AuthSession, _ approvals: [PCRApproval]
    ) throws(TPMError) {
        for approval in approvals
        where approval.key.name == keyName && approval.policyRef == policyRef {
            do {
                try satisfy(approval.policy, in: session, with: PolicyMeans())
            } catch {
                // The digest of other PCR values: this approval is for another boot state.
                if case .value? = error.returnCode { continue }
                throw error
            }
            let digest = session.hash.digest(approval.signedBytes)
            let ticket = try withExternal(approval.key, in: .owner) { (key) throws(TPMError) in
                try run(
                    VerifySignatureCommand(
                        key: key, digest: digest, signature: approval.signature))
            }
            try run(
                PolicyAuthorizeCommand(
                    session: session.handle, approvedPolicy: approval.policy.digest,
                    policyRef: policyRef, keySign: keyName, ticket: ticket))
            return
        }
        throw TPMError(
            .bootStateNotApproved,
            "the vendor has not approved the state that this machine booted into")
    }
}
