import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("attacks on the lease parent and on blobs", .timeLimit(.minutes(20)))
struct ParentAttackTests {
    private let scenario: LeaseScenario
    private var connection: TPMConnection { scenario.connection }

    init() throws { scenario = try LeaseScenario() }

    private let attacker = ECPrivateKey(curve: .p256, random: .system)

    private func sealed(
        _ secret: [UInt8], policy: [UInt8], below parent: PublicArea,
        attributes: ObjectAttributes = KeyTemplate.sealedLeaseAttributes
    ) throws -> ImportBlob {
        try ImportBlob(
            sealing: SecretBytes(copying: secret), attributes: attributes, policy: policy,
            parent: parent, random: .system)
    }

    private func rewrap(
        _ blob: ImportBlob, from parent: EntityReference, with authorization: Authorization
    ) throws(TPMError) -> (duplicate: [UInt8], encryptedSeed: [UInt8]) {
        let connection = connection
        let name = TPMName(hash: .sha256, publicArea: blob.publicArea)
        return try connection.withExternal(Attacker.storageKey(attacker.publicKey), in: .owner) {
            (key) throws(TPMError) in
            try connection.run(
                RewrapCommand(oldParent: parent, newParent: key, blob: blob, name: name),
                [authorization])
        }
    }

    // MARK: Rewrap and Duplicate

    @Test("Rewrap under the lease parent is refused, by password and in every branch")
    func rewrapRefused() throws {
        let lease = try scenario.seal(try scenario.leasePolicy().policy)
        let parent = scenario.parent.reference
        expectRefused(0x12f) { () throws(TPMError) in
            _ = try rewrap(lease.blob, from: parent, with: .emptyAuth)
        }
        for branch in 0..<2 {
            expectRefused(0x9a4) { () throws(TPMError) in
                try self.connection.withPolicySession(
                    KeyTemplate.leaseParentPolicy, choosing: branch
                ) { (session) throws(TPMError) in
                    _ = try rewrap(lease.blob, from: parent, with: .policy(session))
                }
            }
        }
        expectRefused(0x99d) { () throws(TPMError) in
            try self.connection.withSession(.policy, hash: .sha256, salt: .none) {
                (session) throws(TPMError) in
                try self.connection.run(
                    PolicyCommandCodeCommand(session: session.handle, command: .rewrap))
                _ = try rewrap(lease.blob, from: parent, with: .policy(session))
            }
        }
        expectOpens(scenario, lease)
        try scenario.expectClean()
    }

    /// The reason for the lease parent.
    @Test("Rewrap under an ordinary storage key gives the exact secret away, no policy is run")
    func rewrapUnderOrdinaryKey() throws {
        let secret = RandomSource.system.bytes(32)
        let policy = try scenario.leasePolicy().policy.digest
        let (blob, stolen) = try connection.withPrimary(Attacker.ordinaryStorageKey, in: .owner) {
            (parent) throws(TPMError) in
            guard let blob = try? sealed(secret, policy: policy, below: parent.publicArea) else {
                throw TPMError(.invalidRequest, "the blob cannot be made")
            }
            return (blob, try rewrap(blob, from: parent.reference, with: .emptyAuth))
        }
        let name = TPMName(hash: .sha256, publicArea: blob.publicArea)
        #expect(
            try Attacker.unwrap(
                duplicate: stolen.duplicate, encryptedSeed: stolen.encryptedSeed, name: name,
                with: attacker) == secret)
        // The attacker's key opens what was made for it, and nothing that was not.
        #expect(
            try Attacker.unwrap(
                duplicate: blob.duplicate, encryptedSeed: blob.encryptedSeed, name: name,
                with: attacker) == nil)
        #expect(
            try Attacker.unwrap(
                duplicate: stolen.duplicate, encryptedSeed: stolen.encryptedSeed, name: name,
                with: ECPrivateKey(curve: .p256, random: .system)) == nil)
        try scenario.expectClean()
    }

    @Test("Duplicate of a lease is refused, by password, with its policy and with another")
    func duplicate() throws {
        let lease = try scenario.seal(try scenario.leasePolicy().policy)
        let connection = connection
        try scenario.withLease(lease) { (object) throws(TPMError) in
            // With no new parent the duplicate would be plain text.
            let command = DuplicateCommand(object: object, newParent: EntityReference(.null))
            expectRefused(0x124) { () throws(TPMError) in
                try connection.run(command, [.emptyAuth])
            }
            for code in [nil, CommandCode.duplicate] {
                try connection.withSession(.policy, hash: .sha256, salt: .none) {
                    (session) throws(TPMError) in
                    if let code {
                        try connection.run(
                            PolicyCommandCodeCommand(session: session.handle, command: code))
                    } else {
                        try connection.satisfy(
                            lease.policy, in: session,
                            with: PolicyMeans(approvals: [scenario.approval]))
                    }
                    expectRefused(0x99d) { () throws(TPMError) in
                        try connection.run(command, [.policy(session)])
                    }
                }
            }
        }
        // An object whose policy names Duplicate is duplicated: the policy is what holds it.
        let loose = try scenario.seal(Policy(hash: .sha256, [.commandCode(.duplicate)]))
        let plain = try scenario.withLease(loose) { (object) throws(TPMError) in
            try connection.withSession(.policy, hash: .sha256, salt: .none) {
                (session) throws(TPMError) in
                try connection.satisfy(loose.policy, in: session, with: PolicyMeans())
                return try connection.run(
                    DuplicateCommand(object: object, newParent: EntityReference(.null)),
                    [.policyOnce(session)])
            }
        }
        #expect([UInt8](plain.suffix(32)) == loose.secret)
        try scenario.expectClean()
    }

    // MARK: Certify

    @Test("the lease parent is certified with its empty authorization; a policy is refused")
    func certifyParent() throws {
        let connection = connection
        let parent = scenario.parent
        let nonce = RandomSource.system.bytes(32)
        let signed = try scenario.withAttestationKey { (key) throws(TPMError) in
            let command = CertifyCommand(
                object: parent.reference, key: key.reference, qualifyingData: nonce)
            expectRefused(0x99d) { () throws(TPMError) in
                try connection.withSession(.policy, hash: .sha256, salt: .none) {
                    (session) throws(TPMError) in
                    try connection.run(command, [.policy(session), .emptyAuth])
                }
            }
            for branch in 0..<2 {
                expectRefused(0x9a4) { () throws(TPMError) in
                    try connection.withPolicySession(
                        KeyTemplate.leaseParentPolicy, choosing: branch
                    ) { (session) throws(TPMError) in
                        try connection.run(command, [.policy(session), .emptyAuth])
                    }
                }
            }
            return try connection.run(command, [.emptyAuth, .emptyAuth])
        }
        let owner = TPMName(handle: .owner)
        #expect(signed.attestation.value.extraData == nonce)
        #expect(
            signed.attestation.value.attested
                == .certify(
                    name: parent.name,
                    qualifiedName: parent.name.qualified(below: owner, hash: .sha256)))
        try scenario.expectClean()
    }

    /// A primary key of the endorsement hierarchy with the same template survives TPM2_Clear.
    ///
    /// All but the point is the same, and only the certified qualified name tells the hierarchy.
    @Test("the endorsement twin of the lease parent has another qualified name")
    func endorsementTwin() throws {
        let connection = connection
        let template = KeyTemplate.leaseParent(unique: scenario.vendorID)
        let (twin, signed) = try connection.withPrimary(template, in: .endorsement) {
            (twin) throws(TPMError) in
            let signed = try scenario.withAttestationKey { (key) throws(TPMError) in
                try connection.run(
                    CertifyCommand(
                        object: twin.reference, key: key.reference, qualifyingData: []),
                    [.emptyAuth, .emptyAuth])
            }
            return (twin, signed)
        }
        var same = twin.publicArea
        same.kind = scenario.parent.publicArea.kind
        #expect(same == scenario.parent.publicArea)
        guard case .certify(let name, let qualified) = signed.attestation.value.attested else {
            Issue.record("a certification is expected")
            return
        }
        #expect(name == twin.name)
        #expect(
            qualified == twin.name.qualified(below: TPMName(handle: .endorsement), hash: .sha256))
        #expect(qualified != twin.name.qualified(below: TPMName(handle: .owner), hash: .sha256))
        try scenario.expectClean()
    }

    /// What the twin would be good for: it comes back after TPM2_Clear with the same Name, takes
    /// the blob of the server once more, and clock and resets are at 0. (The blob that Import made
    /// of it before does not load; libtpms mixes the owner's proof into the seed of the twin.)
    @Test("after Clear a lease below the twin opens again, one below the lease parent is dead")
    func clear() throws {
        let connection = connection
        let template = KeyTemplate.leaseParent(unique: scenario.vendorID)
        let policy = Policy(
            hash: .sha256, [.counterTimer(.clock, .unsignedLessOrEqual, LeaseScenario.hour)])
        let honest = try scenario.seal(policy)
        let secret = RandomSource.system.bytes(32)
        let (twinName, blob) = try connection.withPrimary(template, in: .endorsement) {
            (twin) throws(TPMError) in
            guard let blob = try? sealed(secret, policy: policy.digest, below: twin.publicArea)
            else { throw TPMError(.invalidRequest, "the blob cannot be made") }
            return (twin.name, blob)
        }
        try scenario.setClock(LeaseScenario.hour + 1)
        expectRefused(0x126) { () throws(TPMError) in try openBelowTwin(blob, policy) }
        expectRefused(0x126) { () throws(TPMError) in try scenario.open(honest) }

        try connection.run(ClearCommand(), [.emptyAuth])
        let now = try connection.clock()
        #expect(now.clock < LeaseScenario.hour && now.resetCount == 0 && now.restartCount == 0)

        try connection.withPrimary(template, in: .endorsement) { (twin) throws(TPMError) in
            #expect(twin.name == twinName)
        }
        #expect(try openBelowTwin(blob, policy) == secret)

        // The parent is gone from its handle, and its successor is another key.
        expectRefused(0x18b) { () throws(TPMError) in
            _ = try connection.object(at: LeaseScenario.parentHandle)
        }
        try connection.withPrimary(template, in: .owner) { (successor) throws(TPMError) in
            #expect(successor.name != scenario.parent.name)
            expectRefused(0x1df) { () throws(TPMError) in
                try connection.withLoaded(
                    privateBlob: honest.privateBlob, publicArea: honest.blob.publicArea,
                    below: successor
                ) { (_) throws(TPMError) in }
            }
            expectRefused(0x3df) { () throws(TPMError) in
                _ = try connection.importBlob(honest.blob, below: successor)
            }
        }
        try scenario.expectClean()
    }

    private func openBelowTwin(_ blob: ImportBlob, _ policy: Policy) throws(TPMError) -> [UInt8] {
        let connection = connection
        return try connection.withPrimary(
            KeyTemplate.leaseParent(unique: scenario.vendorID), in: .endorsement
        ) { (twin) throws(TPMError) in
            let privateBlob = try connection.importBlob(blob, below: twin)
            return try connection.withLoaded(
                privateBlob: privateBlob, publicArea: blob.publicArea, below: twin
            ) { (object) throws(TPMError) in
                copy(
                    try connection.unseal(object, policy: policy, with: PolicyMeans(), salt: twin))
            }
        }
    }

    // MARK: Another TPM

    @Test("a blob on a second TPM: Import and Load are refused, its key is not the pinned one")
    func secondTPM() throws {
        let lease = try scenario.seal(try scenario.leasePolicy().policy)
        // The same template, other seeds.
        let other = try LeaseScenario(vendorID: scenario.vendorID, freshSeeds: true)
        #expect(other.parent.name != scenario.parent.name)
        expectFailure(.nameMismatch) { () throws(TPMError) in
            _ = try other.connection.object(
                at: LeaseScenario.parentHandle, named: scenario.parent.name)
        }
        expectRefused(0x3df) { () throws(TPMError) in
            _ = try other.connection.importBlob(lease.blob, below: other.parent)
        }
        expectRefused(0x1df) { () throws(TPMError) in _ = try other.open(lease) }
        expectRefused(0x18b) { () throws(TPMError) in
            _ = try other.connection.object(
                at: TPMHandle(rawValue: 0x8100_4899), named: scenario.parent.name)
        }
        #expect(
            try connection.object(at: LeaseScenario.parentHandle, named: scenario.parent.name)
                == scenario.parent)
        expectOpens(scenario, lease)
        try scenario.expectClean()
        try other.expectClean()
    }

    @Test("a foreign object at the handle of the lease parent is noticed")
    func foreignObject() throws {
        let connection = connection
        try connection.removePersistent(scenario.parent)
        try connection.withPrimary(
            KeyTemplate.leaseParent(unique: RandomSource.system.bytes(32)), in: .owner
        ) { (key) throws(TPMError) in
            _ = try connection.makePersistent(key, at: LeaseScenario.parentHandle)
        }
        expectFailure(.nameMismatch) { () throws(TPMError) in
            _ = try connection.object(
                at: LeaseScenario.parentHandle, named: scenario.parent.name)
        }
        // A foreign object is not thrown out to make room.
        expectRefused(0x14c) { () throws(TPMError) in
            try connection.withPrimary(
                KeyTemplate.leaseParent(unique: scenario.vendorID), in: .owner
            ) { (key) throws(TPMError) in
                _ = try connection.makePersistent(key, at: LeaseScenario.parentHandle)
            }
        }
        try scenario.expectClean()
    }

    // MARK: What is sealed

    @Test("sealed data of 1 to 128 bytes; 0 and 129 are refused before the TPM is asked")
    func sizes() throws {
        let policy = Policy(hash: .sha256, [.commandCode(.unseal)])
        let connection = connection
        for size in [1, 32, 127, 128] {
            let secret = RandomSource.system.bytes(size)
            let blob = try sealed(
                secret, policy: policy.digest, below: scenario.parent.publicArea)
            let lease = LeaseScenario.Lease(
                policy: policy, secret: secret, blob: blob,
                privateBlob: try connection.importBlob(blob, below: scenario.parent))
            expectOpens(scenario, lease, "\(size) bytes")
        }
        for size in [0, 129, 256] {
            #expect(throws: ProtectionError.secretTooLong) {
                _ = try ImportBlob(
                    sealing: SecretBytes(copying: [UInt8](repeating: 1, count: size)),
                    attributes: KeyTemplate.sealedLeaseAttributes, policy: policy.digest,
                    parent: scenario.parent.publicArea, random: .system)
            }
        }
        // The limit is the TPM's own.
        try connection.withPrimary(Attacker.ordinaryStorageKey, in: .owner) {
            (parent) throws(TPMError) in
            let most = [UInt8](repeating: 1, count: 128)
            _ = try connection.run(
                CreateSealedCommand(parent: parent.reference, data: most), [.emptyAuth])
            expectRefused(0x1d5) { () throws(TPMError) in
                _ = try connection.run(
                    CreateSealedCommand(parent: parent.reference, data: most + [1]), [.emptyAuth])
            }
        }
        try scenario.expectClean()
    }

    /// Anybody can wrap an object to the public half of the lease parent; the TPM opens it.
    @Test("a blob that an attacker wrapped opens in the TPM and is not taken for the lease")
    func ownBlob() throws {
        let policy = try scenario.leasePolicy()
        var longer = policy
        longer.highestClock += 1
        let forged = try scenario.seal(longer.policy)
        expectOpens(scenario, forged)
        #expect(throws: SealedObjectError.otherPolicy) {
            try policy.demand(ofSealedObject: forged.blob.publicArea)
        }
        let free = try scenario.seal(Policy(hash: .sha256, [.commandCode(.unseal)]))
        expectOpens(scenario, free)
        #expect(throws: SealedObjectError.otherPolicy) {
            try policy.demand(ofSealedObject: free.blob.publicArea)
        }
        // The right policy, and a password that needs none.
        let open = try sealed(
            [1], policy: policy.policy.digest, below: scenario.parent.publicArea,
            attributes: [.noDA, .userWithAuth])
        #expect(throws: SealedObjectError.otherAttributes) {
            try policy.demand(ofSealedObject: open.publicArea)
        }
        let opened = try connection.withLoaded(
            privateBlob: try connection.importBlob(open, below: scenario.parent),
            publicArea: open.publicArea, below: scenario.parent
        ) { (object) throws(TPMError) in
            let connection = self.connection
            return try connection.withSession(
                .hmac, hash: .sha256, salt: .key(scenario.parent)
            ) { (session) throws(TPMError) in
                copy(
                    try connection.runForSecret(
                        UnsealCommand(object), [.hmac(session, authValue: [])]))
            }
        }
        #expect(opened == [1])
        try policy.demand(ofSealedObject: try scenario.seal(policy.policy).blob.publicArea)
        try scenario.expectClean()
    }

    @Test("a damaged blob: every byte of it counts")
    func damagedBlob() throws {
        let lease = try scenario.seal(Policy(hash: .sha256, [.commandCode(.unseal)]))
        for index in lease.blob.duplicate.indices {
            var duplicate = lease.blob.duplicate
            duplicate[index] ^= 0x10
            let blob = ImportBlob(
                publicArea: lease.blob.publicArea, duplicate: duplicate,
                encryptedSeed: lease.blob.encryptedSeed)
            expectFailure(.refused) { () throws(TPMError) in
                _ = try connection.importBlob(blob, below: scenario.parent)
            }
        }
        for index in lease.privateBlob.indices {
            var damaged = lease.privateBlob
            damaged[index] ^= 0x10
            expectFailure(.refused) { () throws(TPMError) in
                try connection.withLoaded(
                    privateBlob: damaged, publicArea: lease.blob.publicArea,
                    below: scenario.parent
                ) { (_) throws(TPMError) in }
            }
        }
        for index in lease.blob.publicArea.indices {
            var damaged = lease.blob.publicArea
            damaged[index] ^= 0x10
            expectFailure(.refused) { () throws(TPMError) in
                try connection.withLoaded(
                    privateBlob: lease.privateBlob, publicArea: damaged, below: scenario.parent
                ) { (_) throws(TPMError) in }
            }
        }
        expectOpens(scenario, lease)
        try scenario.expectClean()
    }
}
