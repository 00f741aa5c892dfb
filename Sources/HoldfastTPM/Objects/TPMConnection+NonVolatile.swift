import HoldfastCrypto
public import HoldfastTPMWire

extension TPMConnection {
    /// Defines a counter and increments it once, which gives it its value and its final Name.
    ///
    /// - Parameters:
    ///   - area: from ``KeyTemplate/counter(at:)``.
    ///   - authValue: 32 bytes; hidden from the bus by the session.
    ///   - salt: a pinned decryption key.
    /// - Returns: the written area.
    /// - Throws: `.refused` with `nvSpace` when there is no room: nothing is left behind then.
    public func defineCounter(
        _ area: NVPublicArea, authValue: [UInt8], salt: LoadedObject
    ) throws(TPMError) -> NVPublicArea {
        try withSession(.hmac, hash: .sha256, salt: .key(salt)) { (session) throws(TPMError) in
            try run(
                NVDefineSpaceCommand(auth: authValue, publicArea: area),
                [.hmac(session, authValue: [])], encryptingCommand: true)
        }
        do throws(TPMError) {
            try increment(area, authValue: authValue, salt: salt)
        } catch {
            try? run(
                NVUndefineSpaceCommand(EntityReference(area.index, name: area.name)), [.emptyAuth])
            throw error
        }
        return area.written
    }

    /// Adds one to a counter.
    public func increment(
        _ area: NVPublicArea, authValue: [UInt8], salt: LoadedObject
    ) throws(TPMError) {
        let index = EntityReference(area.index, name: area.name)
        try withSession(.hmac, hash: .sha256, salt: .key(salt)) { (session) throws(TPMError) in
            try run(NVIncrementCommand(index), [.hmac(session, authValue: authValue)])
        }
    }

    /// Reads a counter; anyone may.
    ///
    /// - Throws: `.refused` with `nvUninitialized` when it was never incremented.
    public func readCounter(_ area: NVPublicArea) throws(TPMError) -> UInt64 {
        let index = EntityReference(area.index, name: area.name)
        let data = try withPolicySession(KeyTemplate.counterPolicy, choosing: 1) {
            (session) throws(TPMError) in
            try run(
                NVReadCommand(authorization: index, index: index, size: 8, offset: 0),
                [.policyOnce(session)])
        }
        guard data.count == 8 else {
            throw .malformed(.sizeMismatch(field: "counter"), command: .nvRead)
        }
        return data.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The public area at an index, or `nil` when nothing is defined there.
    public func nvPublicArea(at index: TPMHandle) throws(TPMError) -> NVPublicArea? {
        do {
            let found = try run(NVReadPublicCommand(index))
            guard !vouching.isEmpty else { return found }
            // A session proves what it is asked by the Name.
            return try run(
                NVReadPublicCommand(EntityReference(index, name: found.name)), vouching)
        } catch {
            if case .handle? = error.returnCode { return nil }
            throw error
        }
    }

    /// Reads a whole index that the owner may read: an EK certificate, for example.
    ///
    /// - Parameter maximum: bytes that are accepted at most.
    /// - Returns: `nil` when the index is not defined.
    public func readOwnerIndex(_ index: TPMHandle, maximum: Int) throws(TPMError) -> [UInt8]? {
        guard let area = try nvPublicArea(at: index) else { return nil }
        guard Int(area.dataSize) <= maximum else {
            throw TPMError(
                .malformedResponse,
                "the index \(index) claims \(area.dataSize) bytes, \(maximum) are read at most")
        }
        let reference = EntityReference(index, name: area.name)
        // An index that its own empty authorization reads may deny the owner, and the reverse.
        let reader = area.attributes.contains(.authRead) ? reference : EntityReference(.owner)
        var data: [UInt8] = []
        while data.count < Int(area.dataSize) {
            let size = min(Self.nvBlock, Int(area.dataSize) - data.count)
            let block = try run(
                NVReadCommand(
                    authorization: reader, index: reference, size: UInt16(size),
                    offset: UInt16(data.count)),
                [.emptyAuth])
            guard block.count == size else {
                throw .malformed(.sizeMismatch(field: "data"), command: .nvRead)
            }
            data += block
        }
        return data
    }

    /// Bytes of NV that every TPM reads at once.
    private static let nvBlock = 512

    /// Certifies the whole value of a counter.
    ///
    /// - Parameters:
    ///   - key: an attestation key.
    ///   - keyAuthorization: of the key.
    ///   - qualifyingData: at most 32 bytes.
    public func certifyCounter(
        _ area: NVPublicArea, by key: EntityReference, keyAuthorization: Authorization,
        qualifyingData: [UInt8]
    ) throws(TPMError) -> SignedAttestation {
        let index = EntityReference(area.index, name: area.name)
        return try withPolicySession(KeyTemplate.counterPolicy, choosing: 2) {
            (session) throws(TPMError) in
            try run(
                NVCertifyCommand(
                    key: key, index: index, qualifyingData: qualifyingData, size: 8, offset: 0),
                [keyAuthorization, .policyOnce(session)])
        }
    }
}
