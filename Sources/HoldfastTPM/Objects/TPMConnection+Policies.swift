import HoldfastCrypto
public import HoldfastTPMWire

/// What a policy needs besides itself when it runs.
public struct PolicyMeans {
    /// Approvals at hand; the first one that the PCRs satisfy is used.
    public var approvals: [PCRApproval]
    /// Which branch to take at each PolicyOR, in the order in which they come.
    public var branches: [Int]

    public init(approvals: [PCRApproval] = [], branches: [Int] = []) {
        self.approvals = approvals
        self.branches = branches
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
        try satisfy(policy.assertions, policy, session, means.approvals, &branches)
    }

    private func satisfy(
        _ assertions: [PolicyAssertion], _ policy: Policy, _ session: AuthSession,
        _ approvals: [PCRApproval], _ branches: inout ArraySlice<Int>
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
                try authorize(key, policyRef, session, approvals)
            case .nv(let index, let operand, let offset, let operation):
                let reference = EntityReference(index.index, name: index.name)
                try withPolicySession(KeyTemplate.counterPolicy, choosing: 0) {
                    (reading) throws(TPMError) in
                    try run(
                        PolicyNVCommand(
                            index: reference, session: session.handle, operand: operand,
                            offset: offset, operation: operation),
                        [.policyOnce(reading)])
                }
            case .counterTimer(let field, let operation, let value):
                try run(
                    PolicyCounterTimerCommand(
                        session: session.handle, operand: field.operand(value),
                        offset: field.offset, operation: operation))
            case .secret(let entity, let policyRef):
                guard entity == TPMName(handle: .endorsement) || entity == TPMName(handle: .owner)
                else {
                    throw TPMError(
                        .invalidRequest, "PolicySecret is run for the hierarchies alone")
                }
                let handle: TPMHandle =
                    entity == TPMName(handle: .endorsement) ? .endorsement : .owner
                try run(
                    PolicySecretCommand(
                        entity: EntityReference(handle), session: session.handle,
                        policyRef: policyRef),
                    [.emptyAuth])
            case .or(let options):
                guard let choice = branches.popFirst(), options.indices.contains(choice) else {
                    throw TPMError(.invalidRequest, "no branch was chosen for PolicyOR")
                }
                try satisfy(options[choice], policy, session, approvals, &branches)
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
