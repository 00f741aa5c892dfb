public import HoldfastCrypto
public import HoldfastTPMWire

extension TPMConnection {
    /// Lends a primary key, derived from the seed of a hierarchy.
    ///
    /// - Parameter authorization: of the hierarchy.
    /// - Complexity: one command; an RSA key may take seconds.
    public func withPrimary<R: ~Copyable>(
        _ template: PublicArea, in hierarchy: TPMHandle,
        authorization: Authorization = .emptyAuth,
        _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let object = try run(
            CreatePrimaryCommand(hierarchy: hierarchy, template: template), [authorization])
        defer { try? flush(object.handle) }
        try demand(template, of: object.publicArea)
        return try body(object)
    }

    /// The TPM fills in the unique field and nothing else.
    private func demand(_ template: PublicArea, of area: PublicArea) throws(TPMError) {
        var filled = template
        switch (template.kind, area.kind) {
        case (.ecc(let symmetric, let scheme, let curve, _, _), .ecc(_, _, _, let x, let y)):
            filled.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: x, y: y)
        case (
            .rsa(let symmetric, let scheme, let bits, let exponent, _),
            .rsa(_, _, _, _, let modulus)
        ):
            filled.kind = .rsa(
                symmetric: symmetric, scheme: scheme, bits: bits, exponent: exponent,
                modulus: modulus)
        default: break
        }
        guard filled == area else {
            throw TPMError(
                .malformedResponse, "the TPM made a key that differs from the template",
                command: "TPM2_CreatePrimary")
        }
    }

    /// Makes a primary key persistent.
    ///
    /// - Parameter handle: must be free; a foreign object there is left alone.
    public func makePersistent(
        _ object: LoadedObject, at handle: TPMHandle
    ) throws(TPMError) -> LoadedObject {
        try run(
            EvictControlCommand(object: object.reference, persistent: handle), [.emptyAuth])
        do throws(WireError) {
            return try LoadedObject(
                handle: handle, publicArea: object.publicArea, name: object.name)
        } catch {
            throw TPMError(.invalidRequest, "\(handle) is not a persistent handle")
        }
    }

    /// Removes a persistent object.
    public func removePersistent(_ object: LoadedObject) throws(TPMError) {
        try run(
            EvictControlCommand(object: object.reference, persistent: object.handle), [.emptyAuth])
    }

    /// Reads the object at a handle and demands the Name that was pinned before.
    ///
    /// - Throws: `.nameMismatch` when another object is there.
    public func object(at handle: TPMHandle, named name: TPMName) throws(TPMError) -> LoadedObject {
        let found = try object(at: handle)
        guard found.name == name else {
            throw TPMError(.nameMismatch, "the object at \(handle) is not the expected one")
        }
        return found
    }

    /// Finds the object that has a Name among those at some handles.
    ///
    /// - Returns: `nil` when none has it; what we cannot read is not what we look for.
    package func object(
        named name: TPMName, among handles: [TPMHandle]
    ) throws(TPMError) -> LoadedObject? {
        for handle in handles {
            do throws(TPMError) {
                let found = try object(at: handle)
                if found.name == name { return found }
            } catch {
                guard error.isOfOneEntity else { throw error }
            }
        }
        return nil
    }

    /// Reads whatever object is at a handle; nothing vouches for it yet.
    public func object(at handle: TPMHandle) throws(TPMError) -> LoadedObject {
        var answer = try run(ReadPublicCommand(handle))
        if !vouching.isEmpty {
            // A session proves what it is asked by the Name.
            let reference = EntityReference(handle, name: answer.publicArea.name)
            answer = try run(ReadPublicCommand(reference), vouching)
        }
        do throws(WireError) {
            return try LoadedObject(
                handle: handle, publicArea: answer.publicArea, name: answer.publicArea.name)
        } catch {
            throw .malformed(error, command: .readPublic)
        }
    }

    /// Lends an object loaded below the lease parent, which takes a policy for it.
    ///
    /// - Parameters:
    ///   - publicArea: marshaled; its Name must be what the TPM loads.
    public func withLoaded<R: ~Copyable>(
        privateBlob: [UInt8], publicArea: [UInt8], below parent: LoadedObject,
        _ body: (EntityReference) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let command = LoadCommand(
            parent: parent.reference, privateBlob: privateBlob, publicArea: publicArea)
        let object = try withPolicySession(KeyTemplate.leaseParentPolicy, choosing: 1) {
            (session) throws(TPMError) in try run(command, [.policyOnce(session)])
        }
        defer { try? flush(object.handle) }
        return try body(object)
    }

    /// Imports a blob below the lease parent.
    ///
    /// - Returns: the private blob to load from now on; only this TPM can.
    public func importBlob(
        _ blob: ImportBlob, below parent: LoadedObject
    ) throws(TPMError) -> [UInt8] {
        try withPolicySession(KeyTemplate.leaseParentPolicy, choosing: 0) {
            (session) throws(TPMError) in
            try run(ImportCommand(parent: parent.reference, blob: blob), [.policyOnce(session)])
        }
    }

    /// Lends an unsalted policy session that satisfies one branch of a policy of command codes.
    package func withPolicySession<R: ~Copyable>(
        _ policy: Policy, choosing branch: Int, _ body: (AuthSession) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        try withSession(.policy, hash: policy.hash, salt: .none) { (session) throws(TPMError) in
            try satisfy(policy, in: session, with: PolicyMeans(branches: [branch]))
            return try body(session)
        }
    }

    /// Lends a public key, loaded so that the TPM can check signatures with it.
    public func withExternal<R: ~Copyable>(
        _ publicArea: PublicArea, in hierarchy: TPMHandle,
        _ body: (EntityReference) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        let object = try run(LoadExternalCommand(publicArea: publicArea, hierarchy: hierarchy))
        defer { try? flush(object.handle) }
        guard object.name == publicArea.name else {
            throw TPMError(.nameMismatch, "the TPM loaded another key than it was given")
        }
        return try body(object)
    }

    /// Releases sealed data under a policy.
    ///
    /// - Parameters:
    ///   - object: loaded.
    ///   - policy: the policy of the object.
    ///   - salt: the pinned key, normally the lease parent.
    /// - Throws: `.refused` with the TPM's code when a condition does not hold.
    public func unseal(
        _ object: EntityReference, policy: Policy, with means: PolicyMeans, salt: LoadedObject
    ) throws(TPMError) -> SecretBytes {
        var attempts = 0
        while true {
            do {
                return try withSession(.policy, hash: policy.hash, salt: .key(salt)) {
                    (session) throws(TPMError) in
                    try satisfy(policy, in: session, with: means)
                    return try runForSecret(UnsealCommand(object), [.policyOnce(session)])
                }
            } catch {
                // A measurement of the running system came between PolicyPCR and Unseal.
                guard case .pcrChanged? = error.returnCode, attempts < Self.maximumPCRRetries
                else { throw error }
                attempts += 1
            }
        }
    }

    /// How often an unseal is repeated when PCRs change under it.
    static let maximumPCRRetries = 5
}
