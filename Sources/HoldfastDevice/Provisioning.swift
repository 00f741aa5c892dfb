import HoldfastCrypto
public import HoldfastProtocol
public import HoldfastTPM
public import HoldfastTPMWire

/// What a vendor's part of a TPM consists of: public, and enough to find everything again.
///
/// docs/spec/sealing.md, "Keys and counters on a device".
public struct ProvisionedTPM: Sendable, Hashable {
    /// Looked for by Name, never trusted by number.
    public let slot: VendorSlot
    public let attestationKey: PublicArea
    public let leaseParent: PublicArea
    /// 16 bytes.
    public let leaseParentSalt: [UInt8]
    /// Written.
    public let epochCounter: NVPublicArea
    /// Written.
    public let ledgerCounter: NVPublicArea

    /// The unique field of a lease parent: H(template, "parent", vendor id, salt).
    public static func leaseParentUnique(vendorID: VendorID, salt: [UInt8]) -> [UInt8] {
        framedHash(.template, Array("parent".utf8), vendorID.bytes, salt)
    }

    /// The lease parent, pinned: who is at the handle must be this one.
    public func pinnedLeaseParent() throws(TPMError) -> LoadedObject {
        do throws(WireError) {
            return try LoadedObject(
                handle: slot.leaseParent, publicArea: leaseParent, name: leaseParent.name)
        } catch {
            throw TPMError(.invalidRequest, "the lease parent has no persistent handle")
        }
    }
}

/// Sets a vendor's part of a TPM up, and takes it away.
public struct Provisioning {
    private let tpm: TPMConnection

    /// - Parameter tpm: where the work is done.
    public init(_ tpm: TPMConnection) { self.tpm = tpm }

    /// Makes the lease parent persistent and defines both counters, in the lowest free slot.
    ///
    /// What was made is undone when something later fails: a TPM with room for one counter keeps
    /// none.
    ///
    /// - Parameters:
    ///   - salt: 16 random bytes that are on disk already, so that ``recover(vendorID:salt:)``
    ///     finds what an interrupted run left.
    ///   - counterAuth: 32 random bytes; whoever has them can raise the counters.
    ///   - endorsementKey: loaded. The session that hides `counterAuth` is salted to it.
    /// - Throws: `.notSupported` when all slots are taken, `.refused` with the TPM's code.
    public func provision(
        vendorID: VendorID, salt: [UInt8], counterAuth: [UInt8], endorsementKey: LoadedObject
    ) throws(TPMError) -> ProvisionedTPM {
        let slot = try freeSlot()
        let attestationKey = try withAttestationKey(vendorID) { (key) throws(TPMError) in
            key.publicArea
        }
        let template = KeyTemplate.leaseParent(
            unique: ProvisionedTPM.leaseParentUnique(vendorID: vendorID, salt: salt))
        let parent = try tpm.withPrimary(template, in: .owner) { (made) throws(TPMError) in
            try tpm.makePersistent(made, at: slot.leaseParent)
        }
        do throws(TPMError) {
            let epochCounter = try tpm.defineCounter(
                KeyTemplate.counter(at: slot.epochCounter), authValue: counterAuth,
                salt: endorsementKey)
            let ledgerCounter = try tpm.defineCounter(
                KeyTemplate.counter(at: slot.ledgerCounter), authValue: counterAuth,
                salt: endorsementKey)
            return ProvisionedTPM(
                slot: slot, attestationKey: attestationKey, leaseParent: parent.publicArea,
                leaseParentSalt: salt, epochCounter: epochCounter, ledgerCounter: ledgerCounter)
        } catch {
            // The parent goes last: without it nobody would find a counter that is still there.
            if (try? removeCounters(slot)) != nil { try? tpm.removePersistent(parent) }
            throw error
        }
    }

    /// Removes parent and counters; every lease under them is dead then.
    public func remove(_ provisioned: ProvisionedTPM) throws(TPMError) {
        try tpm.removePersistent(provisioned.pinnedLeaseParent())
        try undefine(provisioned.epochCounter)
        try undefine(provisioned.ledgerCounter)
    }

    /// Removes what an interrupted ``provision(vendorID:salt:counterAuth:endorsementKey:)`` left.
    ///
    /// The lease parent is recognized by its Name, which follows from vendor and salt; counters
    /// beside it only where they have the template of ours. Nothing else is touched.
    ///
    /// - Parameter salt: the one that was on disk before the interrupted run began.
    public func recover(vendorID: VendorID, salt: [UInt8]) throws(TPMError) {
        let template = KeyTemplate.leaseParent(
            unique: ProvisionedTPM.leaseParentUnique(vendorID: vendorID, salt: salt))
        let name = try tpm.withPrimary(template, in: .owner) { (made) throws(TPMError) in
            made.name
        }
        while let found = try tpm.leaseParent(named: name),
            let slot = VendorSlot.all.first(where: { $0.leaseParent == found.handle })
        {
            try removeCounters(slot)
            try tpm.removePersistent(found)
        }
    }

    /// Removes what has the template of our counters in a slot.
    ///
    /// The TPM is asked what is there: a counter may have been defined by a command whose answer got
    /// lost.
    private func removeCounters(_ slot: VendorSlot) throws(TPMError) {
        for index in [slot.epochCounter, slot.ledgerCounter] {
            guard let area = try tpm.nvPublicArea(at: index) else { continue }
            let counter = KeyTemplate.counter(at: index)
            if area == counter || area == counter.written { try undefine(area) }
        }
    }

    private func undefine(_ area: NVPublicArea) throws(TPMError) {
        try tpm.run(
            NVUndefineSpaceCommand(EntityReference(area.index, name: area.name)), [.emptyAuth])
    }

    private func freeSlot() throws(TPMError) -> VendorSlot {
        let taken = Set(
            try tpm.handles(from: 0x8100_0000) + tpm.handles(from: 0x0100_0000))
        let free = VendorSlot.all.first { slot in
            taken.isDisjoint(with: [
                slot.leaseParent, slot.epochCounter,
                slot.ledgerCounter,
            ])
        }
        guard let free else {
            throw TPMError(
                .notSupported, "all \(VendorSlot.all.count) slots for vendors are taken")
        }
        return free
    }

    /// Lends the vendor's attestation key, made from its template.
    public func withAttestationKey<R: ~Copyable>(
        _ vendorID: VendorID, _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        try tpm.withPrimary(
            KeyTemplate.attestationKey(vendorID: vendorID.bytes), in: .endorsement, body)
    }

    /// Lets the attestation key certify parent and counters, and puts the request together.
    ///
    /// - Parameters:
    ///   - certificate: of the endorsement key, as read from NV.
    ///   - issuers: of the certificate, as read from NV.
    ///   - hardwareFacts: opaque ids.
    ///   - trustSequence: of the trust statement that is here.
    public func request(
        for provisioned: ProvisionedTPM, vendorID: VendorID, endorsementKey: PublicArea,
        certificate: [UInt8], issuers: [[UInt8]] = [], hardwareFacts: [[UInt8]],
        trustSequence: UInt64? = nil
    ) throws -> EnrollmentRequest {
        let keys = EnrollmentRequest.Keys(
            vendorID: vendorID.bytes, endorsementKey: endorsementKey,
            endorsementCertificate: certificate, attestationKey: provisioned.attestationKey,
            leaseParent: provisioned.leaseParent, leaseParentSalt: provisioned.leaseParentSalt,
            epochCounter: provisioned.epochCounter, ledgerCounter: provisioned.ledgerCounter,
            hardwareFacts: hardwareFacts, endorsementIssuers: issuers,
            trustSequence: trustSequence)
        let qualifyingData = try keys.qualifyingData()
        let parent = try tpm.object(
            at: provisioned.slot.leaseParent, named: provisioned.leaseParent.name)
        let certifications = try withAttestationKey(vendorID) {
            (key) throws(TPMError) in
            guard key.publicArea == provisioned.attestationKey else {
                throw TPMError(.nameMismatch, "the attestation key is not the one of before")
            }
            return EnrollmentRequest.Certifications(
                // ADMIN role with adminWithPolicy clear: the parent's empty authorization value.
                leaseParent: try tpm.run(
                    CertifyCommand(
                        object: parent.reference, key: key.reference,
                        qualifyingData: qualifyingData),
                    [.emptyAuth, .emptyAuth]),
                epochCounter: try tpm.certifyCounter(
                    provisioned.epochCounter, by: key.reference, keyAuthorization: .emptyAuth,
                    qualifyingData: qualifyingData),
                ledgerCounter: try tpm.certifyCounter(
                    provisioned.ledgerCounter, by: key.reference, keyAuthorization: .emptyAuth,
                    qualifyingData: qualifyingData))
        }
        return EnrollmentRequest(keys: keys, certifications: certifications)
    }
}

extension TPMConnection {
    /// The lease parent that has a Name, in whichever slot.
    func leaseParent(named name: TPMName) throws(TPMError) -> LoadedObject? {
        let slots = VendorSlot.all.map(\.leaseParent)
        return try object(
            named: name, among: handles(from: 0x8100_0000).filter { slots.contains($0) })
    }
}
