import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("credentials", .timeLimit(.minutes(20)))
struct CredentialTests {
    private let tpm: TestTPM
    private let vendorID = RandomSource.system.bytes(32)
    private let secret = RandomSource.system.bytes(32)
    private var connection: TPMConnection { tpm.connection }

    init() throws { tpm = try TestTPM() }

    private func withKeys(
        _ body: (LoadedObject, LoadedObject) throws(TPMError) -> Void
    ) throws(TPMError) {
        let connection = connection
        try connection.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try connection.withPrimary(
                KeyTemplate.attestationKey(vendorID: vendorID), in: .endorsement
            ) { (ak) throws(TPMError) in try body(ek, ak) }
        }
    }

    private func credential(for name: TPMName, _ ek: LoadedObject) throws(TPMError)
        -> CredentialBlob
    {
        do {
            return try CredentialBlob(
                protecting: SecretBytes(copying: secret), for: name, key: ek.publicArea,
                random: .system)
        } catch {
            throw TPMError(.invalidRequest, "\(error)")
        }
    }

    private func open(
        _ credential: CredentialBlob, _ ek: LoadedObject, _ ak: LoadedObject
    ) throws(TPMError) -> [UInt8] {
        copy(
            try connection.activateCredential(
                credential, for: ak, endorsementKey: ek, kind: .eccP384))
    }

    @Test("opens for the named key; refused for another Name and for another endorsement key")
    func names() throws {
        try withKeys { (ek, ak) throws(TPMError) in
            #expect(try open(try credential(for: ak.name, ek), ek, ak) == secret)
            let wrong = try credential(for: ek.name, ek)
            expectRefused(0x1df) { () throws(TPMError) in try open(wrong, ek, ak) }
            var twin = ak.publicArea
            twin.attributes.remove(.restricted)
            let unrestricted = try credential(for: twin.name, ek)
            expectRefused(0x1df) { () throws(TPMError) in try open(unrestricted, ek, ak) }
        }
        // The same templates on another TPM.
        let other = try TestTPM(freshSeeds: true)
        let theirs = try other.connection.withEndorsementKey(.eccP384) {
            (ek) throws(TPMError) in ek
        }
        try withKeys { (ek, ak) throws(TPMError) in
            #expect(theirs.name != ek.name)
            let made = try credential(for: ak.name, theirs)
            expectRefused(0x1df) { () throws(TPMError) in try open(made, ek, ak) }
        }
        try expectNoSlots(of: connection)
        try expectNoSlots(of: other.connection)
    }

    @Test("a corrupt credential is refused whatever byte it is")
    func corrupt() throws {
        try withKeys { (ek, ak) throws(TPMError) in
            let good = try credential(for: ak.name, ek)
            for index in good.identityObject.indices {
                var bytes = good.identityObject
                bytes[index] ^= 1
                let bad = CredentialBlob(
                    identityObject: bytes, encryptedSecret: good.encryptedSecret)
                // The first two bytes are the length of the integrity value.
                if index < 2 {
                    expectFailure(.refused) { () throws(TPMError) in try open(bad, ek, ak) }
                } else {
                    expectRefused(0x1df) { () throws(TPMError) in try open(bad, ek, ak) }
                }
            }
            for index in stride(from: 0, to: good.encryptedSecret.count, by: 9) {
                var bytes = good.encryptedSecret
                bytes[index] ^= 1
                let bad = CredentialBlob(
                    identityObject: good.identityObject, encryptedSecret: bytes)
                expectFailure(.refused) { () throws(TPMError) in try open(bad, ek, ak) }
            }
            #expect(try open(good, ek, ak) == secret)
        }
        try expectNoSlots(of: connection)
    }

    @Test("without PolicySecret of the hierarchy, and without PolicyOR, it is refused")
    func policy() throws {
        let policy = EndorsementKeyKind.eccP384.policy
        let connection = connection
        try withKeys { (ek, ak) throws(TPMError) in
            let good = try credential(for: ak.name, ek)
            let command = ActivateCredentialCommand(
                object: ak.reference, key: ek.reference, credential: good)
            for withSecret in [false, true] {
                expectRefused(0xa9d) { () throws(TPMError) in
                    _ = try connection.withSession(
                        .policy, hash: .sha384, salt: .key(ek)
                    ) { (session) throws(TPMError) in
                        if withSecret {
                            try connection.satisfy(
                                policy.policyA, in: session, with: PolicyMeans())
                        }
                        return try connection.runForSecret(
                            command, [.emptyAuth, .policy(session)])
                    }
                }
            }
            // PolicyOR before PolicySecret: the session is in none of the branches.
            expectRefused(0x1c4) { () throws(TPMError) in
                try connection.withSession(.policy, hash: .sha384, salt: .none) {
                    (session) throws(TPMError) in
                    try connection.run(
                        PolicyORCommand(session: session.handle, branches: policy.branches))
                }
            }
            #expect(try open(good, ek, ak) == secret)
        }
        try expectNoSlots(of: connection)
    }

    @Test("a secret of more than 32 bytes is refused before the TPM is asked")
    func sizes() throws {
        try withKeys { (ek, ak) throws(TPMError) in
            for (size, accepted) in [(1, true), (32, true), (33, false), (64, false)] {
                let long = [UInt8](repeating: 5, count: size)
                do {
                    let blob = try CredentialBlob(
                        protecting: SecretBytes(copying: long), for: ak.name, key: ek.publicArea,
                        random: .system)
                    #expect(accepted)
                    let opened = try open(blob, ek, ak)
                    #expect(opened == long)
                } catch let error as ProtectionError {
                    #expect(!accepted && error == .secretTooLong)
                } catch {
                    Issue.record(error)
                }
            }
        }
        try expectNoSlots(of: connection)
    }

    @Test(
        "RSA and low-range keys: opens for the named key; refused for another Name and another purpose",
        arguments: [
            EndorsementKeyKind.rsa2048LowRange, .rsa2048, .rsa3072, .eccP256LowRange, .eccP256,
        ])
    func otherKinds(kind: EndorsementKeyKind) throws {
        let connection = connection
        try connection.withEndorsementKey(kind) { (ek) throws(TPMError) in
            try connection.withPrimary(
                KeyTemplate.attestationKey(vendorID: vendorID), in: .endorsement
            ) { (ak) throws(TPMError) in
                #expect(EndorsementKeyKind(ek.publicArea) == kind)
                func open(_ blob: CredentialBlob) throws(TPMError) -> [UInt8] {
                    copy(
                        try connection.activateCredential(
                            blob, for: ak, endorsementKey: ek, kind: kind))
                }
                let good = try credential(for: ak.name, ek)
                #expect(try open(good) == secret)
                let wrong = try credential(for: ek.name, ek)
                expectRefused(0x1df) { () throws(TPMError) in try open(wrong) }
                for index in [0, good.encryptedSecret.count / 2, good.encryptedSecret.count - 1] {
                    var bytes = good.encryptedSecret
                    bytes[index] ^= 1
                    let bad = CredentialBlob(
                        identityObject: good.identityObject, encryptedSecret: bytes)
                    expectFailure(.refused) { () throws(TPMError) in try open(bad) }
                }
                // A seed under the label of another purpose is no credential.
                do {
                    let salt = try SharedSeed(
                        for: ek.publicArea, purpose: .session, random: .system)
                    let bad = CredentialBlob(
                        identityObject: good.identityObject, encryptedSecret: salt.encrypted)
                    expectFailure(.refused) { () throws(TPMError) in try open(bad) }
                } catch { Issue.record(error) }
                // The label of its own purpose salts a session that encrypts.
                let clock = try connection.withSession(.hmac, hash: .sha256, salt: .key(ek)) {
                    (session) throws(TPMError) in
                    try connection.runForSecret(
                        GetRandomCommand(count: 16), [.hmac(session, authValue: [])]
                    ).count
                }
                #expect(clock == 16)
            }
        }
        try expectNoSlots(of: connection)
    }

    @Test("the RSA key that the TPM keeps is the certified one, and is not made again")
    func keptKey() throws {
        let connection = connection
        let kept = try connection.withEndorsementKey(.rsa2048LowRange) { (ek) throws(TPMError) in
            ek
        }
        #expect(kept.handle == TPMHandle(rawValue: 0x8101_0001))
        let made = try connection.withPrimary(
            EndorsementKeyKind.rsa2048LowRange.template, in: .endorsement
        ) { (ek) throws(TPMError) in ek.publicArea }
        #expect(kept.publicArea == made)
        try expectNoSlots(of: connection)
    }

    @Test("the manufactured TPM has a P-384 endorsement certificate, and none on P-256")
    func certificates() throws {
        let certificate = try #require(try connection.endorsementCertificate(.eccP384))
        #expect(certificate.first == 0x30)
        #expect(try connection.endorsementCertificate(.eccP256) == nil)
        #expect(try connection.endorsementCertificate(.rsa2048LowRange)?.first == 0x30)
        #expect(try connection.endorsementCertificate(.rsa3072) == nil)
        expectFailure(.malformedResponse) { () throws(TPMError) in
            try connection.readOwnerIndex(
                EndorsementKeyKind.eccP384.certificateIndex, maximum: 64)
        }
        try expectNoSlots(of: connection)
    }
}
