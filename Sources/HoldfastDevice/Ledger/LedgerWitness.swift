package import HoldfastCrypto
package import HoldfastProtocol
package import HoldfastTPMWire

/// What a ledger is held against: who the device is, and what its TPM says.
///
/// docs/spec/ledger.md, "Eras" and "What `ledger verify` finds".
package struct LedgerWitness: Sendable {
    private let pairwiseID: [UInt8]
    private let incarnation: UInt32
    private let counter: TPMName
    private let attestationKey: ECPublicKey

    /// The witness of an enrollment.
    ///
    /// - Parameters:
    ///   - pairwiseID: 32 bytes.
    ///   - counter: the Name of the ledger counter.
    package init(
        pairwiseID: [UInt8], incarnation: UInt32, counter: TPMName, attestationKey: ECPublicKey
    ) {
        self.pairwiseID = pairwiseID
        self.incarnation = incarnation
        self.counter = counter
        self.attestationKey = attestationKey
    }

    init(_ statement: DeviceStatement) throws {
        self.init(
            pairwiseID: statement.pairwiseID.bytes, incarnation: statement.incarnation,
            counter: statement.ledgerCounter.name,
            attestationKey: try statement.attestationKey.ecPublicKey())
    }

    // MARK: The counter

    /// What the counter says of a ledger; `nil` when they belong together.
    package static func finding(
        _ situation: LedgerStore.Situation?, _ counter: UInt64
    ) -> LedgerGenesis.Cause? {
        // The ledger was made before the statement was written: a missing one was taken away.
        guard let situation else { return .rollback }
        let (head, last) = (situation.head, situation.checkpoint)
        if counter > last?.counter ?? head.begunAt { return .rollback }
        if counter < last.map({ $0.counter &- 1 }) ?? head.begunAt { return .counterLost }
        // One table alone may have been restored.
        guard head.frontier.end >= last?.size ?? 0, (head.era == nil) == (last == nil) else {
            return .rollback
        }
        return situation.isComplete ? nil : .rollback
    }

    // MARK: Certificates

    /// Whether a checkpoint is of this enrollment and certified by one of the keys.
    package func isSealed(
        _ checkpoint: Checkpoint, _ certification: SignedAttestation?, by keys: [ECPublicKey] = []
    ) -> Bool {
        guard isOwn(checkpoint), let certification, isAbout(checkpoint, certification) else {
            return false
        }
        return ([attestationKey] + keys).contains { isSigned(certification, by: $0) }
    }

    func isOwn(_ checkpoint: Checkpoint) -> Bool {
        checkpoint.pairwiseID == pairwiseID && checkpoint.incarnation == incarnation
    }

    private func isAbout(_ checkpoint: Checkpoint, _ certification: SignedAttestation) -> Bool {
        let attested = certification.attestation.value
        return (try? attested.counterValue(of: counter)) == checkpoint.counter
            && constantTimeEqual(attested.extraData, checkpoint.hash)
    }

    private func isSigned(_ certification: SignedAttestation, by key: ECPublicKey) -> Bool {
        guard case .ecdsa(.sha256, let r, let s) = certification.signature.value else {
            return false
        }
        return
            (try? key.verifyECDSA(
                r: r, s: s, over: certification.attestation.bytes, hash: .sha256)) != nil
    }

    // MARK: Verification

    /// Reads every record and checkpoint and compares them with what the TPM sealed.
    ///
    /// Checkpoints of the ledger key are compared by their content alone: the vendor, who knows
    /// which keys it approved, checks their signatures.
    package func verify(_ store: LedgerStore) throws(LedgerStoreError) -> LedgerStore.Verified {
        try store.verify { checkpoint, certification in
            guard isOwn(checkpoint) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_FOREIGN",
                    "checkpoint \(checkpoint.counter) is of another device or enrollment")
            }
            guard let certification else { return }
            guard isAbout(checkpoint, certification) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_SPLICED",
                    "the certification of checkpoint \(checkpoint.counter) is about something else")
            }
            guard checkpoint.grade == .unapprovedBoot else { return }
            guard isSigned(certification, by: attestationKey) else {
                throw LedgerStoreError.damaged(
                    code: "LEDGER_FORGED",
                    "checkpoint \(checkpoint.counter) is not signed by this TPM")
            }
        }
    }
}
