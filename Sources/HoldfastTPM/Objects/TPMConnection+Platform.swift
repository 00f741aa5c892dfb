public import HoldfastCrypto
public import HoldfastTPMWire

extension TPMConnection {
    /// Reads PCR values in as many commands as it takes.
    ///
    /// - Throws: `.timedOut` when PCRs keep changing between the commands.
    public func readPCRs(_ selection: PCRSelection) throws(TPMError) -> PCRValues {
        for _ in 0..<Self.maximumPCRRetries {
            var values = PCRValues()
            var counters: Set<UInt32> = []
            for bank in selection.banks {
                var open = bank.indexes
                while !open.isEmpty {
                    let asked = [PCRIndex](open.prefix(8))
                    let answer = try readSome(PCRSelection(bank.hash, asked))
                    counters.insert(answer.updateCounter)
                    for index in asked {
                        guard let value = answer.values[bank.hash, index] else {
                            throw TPMError(
                                .notSupported,
                                "PCR \(index.rawValue) of the \(bank.hash.name) bank cannot be read",
                                command: "TPM2_PCR_Read")
                        }
                        values[bank.hash, index] = value
                    }
                    open.removeFirst(asked.count)
                }
            }
            if counters.count <= 1 { return values }
        }
        throw TPMError(.timedOut, "PCRs keep changing while they are read")
    }

    /// Reads what one command reads.
    ///
    /// Of a bank that is not there libtpms returns nothing, and the reference code an error.
    private func readSome(
        _ selection: PCRSelection
    ) throws(TPMError) -> PCRReadCommand.Response {
        do {
            return try run(PCRReadCommand(selection), vouching)
        } catch {
            guard case .hash? = error.returnCode else { throw error }
            throw TPMError(
                .notSupported, "the TPM has no such PCR bank as in `\(selection.text)`",
                command: "TPM2_PCR_Read")
        }
    }

    /// Quotes PCRs together with values that match the quote.
    ///
    /// - Parameters:
    ///   - key: an attestation key with empty authorization.
    ///   - nonce: 16 to 32 bytes from the verifier, raw.
    /// - Throws: `.timedOut` when PCRs keep changing.
    public func quote(
        _ selection: PCRSelection, by key: LoadedObject, nonce: [UInt8]
    ) throws(TPMError) -> (quote: SignedAttestation, values: PCRValues) {
        guard case .ecc(_, .ecdsa(let hash), _, _, _) = key.publicArea.kind else {
            throw TPMError(.invalidRequest, "the key is not an attestation key")
        }
        for _ in 0..<Self.maximumPCRRetries {
            let signed = try run(
                QuoteCommand(key: key.reference, qualifyingData: nonce, selection: selection),
                [.emptyAuth])
            let values = try readPCRs(selection)
            if case .quote(_, let digest) = signed.attestation.value.attested,
                values.digest(of: selection, hash: hash) == digest
            {
                return (signed, values)
            }
        }
        throw TPMError(.timedOut, "PCRs keep changing while they are quoted")
    }

    /// Extends a PCR in each of the given banks with the hash of `data`.
    public func extend(
        _ index: PCRIndex, banks: [HashAlgorithm], with data: [UInt8]
    ) throws(TPMError) {
        try run(
            PCRExtendCommand(index, digests: banks.map { ($0, $0.digest(data)) }), [.emptyAuth])
    }

    /// The banks in which at least PCR 0 to 7 are allocated.
    public func activeBanks() throws(TPMError) -> [HashAlgorithm] {
        let answer = try run(GetCapabilityCommand(.pcrs, from: 0, count: 64))
        guard case .pcrs(let banks) = answer.page else {
            throw .malformed(.unknownValue(field: "capability", value: 0), command: .getCapability)
        }
        return banks.filter { Set($0.indexes).isSuperset(of: PCRIndex.firmware) }.map(\.hash)
    }

    /// Every value of a capability, in as many pages as it takes.
    public func capabilityPages(
        _ capability: GetCapabilityCommand.Capability, from first: UInt32
    ) throws(TPMError) -> [GetCapabilityCommand.Page] {
        var pages: [GetCapabilityCommand.Page] = []
        var next = first
        for _ in 0..<64 {
            let answer = try run(GetCapabilityCommand(capability, from: next, count: 128))
            pages.append(answer.page)
            guard answer.more, let last = answer.page.last, last >= next, last < .max else { break }
            next = last + 1
        }
        return pages
    }

    /// The commands that the TPM implements.
    public func commands() throws(TPMError) -> Set<CommandCode> {
        var found: Set<CommandCode> = []
        for page in try capabilityPages(.commands, from: 0) {
            if case .commands(let codes) = page { found.formUnion(codes) }
        }
        return found
    }

    /// The fixed and variable properties, by `TPM_PT`.
    public func properties() throws(TPMError) -> [UInt32: UInt32] {
        var found: [UInt32: UInt32] = [:]
        for first in [0x100, 0x200] as [UInt32] {
            for page in try capabilityPages(.properties, from: first) {
                if case .properties(let values) = page { found.merge(values) { $1 } }
            }
        }
        return found
    }

    /// The handles of a kind that are in use.
    ///
    /// - Parameter first: 0x01000000 NV, 0x02000000 loaded sessions, 0x80000000 transient,
    ///   0x81000000 persistent, 0x03000000 saved sessions. Of sessions the kind says where they
    ///   are: a loaded policy session has a handle 0x03…, and is in the list from 0x02000000.
    public func handles(from first: UInt32) throws(TPMError) -> [TPMHandle] {
        let kind = TPMHandle(rawValue: first)
        var found: [TPMHandle] = []
        for page in try capabilityPages(.handles, from: first) {
            if case .handles(let handles) = page {
                found += handles.filter {
                    kind.isSession ? $0.isSession : $0.kind == kind.kind
                }
            }
        }
        return found
    }

    /// The clock, the reset counts and whether the clock is safe.
    public func clock() throws(TPMError) -> ClockInfo { try run(ReadClockCommand()).clockInfo }

    /// Saves the clock and tells the TPM that power may go.
    public func shutdown(_ kind: ShutdownCommand.Kind = .clear) throws(TPMError) {
        try run(ShutdownCommand(kind))
    }
}

extension GetCapabilityCommand.Page {
    /// The highest value of the page, after which the next one begins.
    var last: UInt32? {
        switch self {
        case .algorithms(let ids): ids.last.map { UInt32($0.rawValue) }
        case .handles(let handles): handles.last?.rawValue
        case .commands(let codes): codes.last?.rawValue
        case .pcrs: nil
        case .properties(let values): values.keys.max()
        case .curves(let ids): ids.last.map { UInt32($0) }
        }
    }
}
