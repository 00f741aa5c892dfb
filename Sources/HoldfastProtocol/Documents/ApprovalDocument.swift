public import HoldfastCrypto
public import HoldfastTPMWire

/// A vendor's approval of a boot state, as a file that a device installs.
///
/// The TPM judges the signature each time; this checks it once before, so that a wrong file is
/// refused when it is installed and not when a lease does not open.
///
/// docs/spec/formats.md, "Approval".
public struct ApprovalDocument: Sendable, Hashable {
    public let reference: PolicyReference
    /// What goes to the TPM.
    public let approval: PCRApproval
    /// The approved values, so that diagnosis can name the register that differs.
    public let values: PCRValues
    /// For people; it is not signed and decides nothing.
    public let note: String

    private static let sections: Set<SectionType> = [
        .policyReference, .pcrSelection, .approvedPCRDigest, .approvalKey, .approvalSignature,
        .approvedPCRValues, .note,
    ]

    /// Approves PCR values.
    ///
    /// - Parameters:
    ///   - values: of every selected register; others are left out.
    ///   - key: the vendor's approval key.
    /// - Throws: ``DocumentError`` when a selected value is missing, or is the value after a reset
    ///   in PCR 0 to 7: nothing was measured then.
    public init(
        reference: PolicyReference, values: PCRValues, note: String, signingWith key: ECPrivateKey
    ) throws {
        guard let digest = values.digest(of: reference.selection, hash: .sha256) else {
            throw DocumentError.missing(.approvedPCRValues)
        }
        self.reference = reference
        self.values = try Self.selected(values, reference.selection)
        self.note = note
        approval = try PCRApproval(
            selection: reference.selection, pcrDigest: digest, policyRef: reference.policyRef,
            signingWith: key)
    }

    /// The selected values and no others; refused where nothing was measured.
    private static func selected(
        _ values: PCRValues, _ selection: PCRSelection
    ) throws(DocumentError) -> PCRValues {
        var kept = PCRValues()
        for bank in selection.banks {
            for index in bank.indexes {
                guard let value = values[bank.hash, index] else {
                    throw .missing(.approvedPCRValues)
                }
                let untouched = value == index.resetValue(digestSize: bank.hash.digestSize)
                guard !untouched || !PCRIndex.firmware.contains(index) else {
                    throw .malformed(.approvedPCRValues)
                }
                kept[bank.hash, index] = value
            }
        }
        return kept
    }

    /// The file.
    public func encoded() throws(DocumentError) -> [UInt8] {
        var joined = WireWriter(capacity: 256)
        for register in values.values.keys.sorted() {
            joined.raw(values.values[register] ?? [])
        }
        return try Container(
            .approval,
            [
                (.policyReference, reference.encoded),
                (.pcrSelection, approval.selection.wireBytes),
                (.approvedPCRDigest, approval.pcrDigest),
                (.approvalKey, approval.key.wireBytes),
                (.approvalSignature, approval.signature.wireBytes),
                (.approvedPCRValues, joined.bytes),
                (.note, Array(note.utf8)),
            ]
        ).encoded
    }

    /// Reads a file and checks it against the vendor's approval key.
    ///
    /// - Parameter key: from the trust file; a key in the document alone is worth nothing.
    /// - Throws: ``DocumentError`` or ``KeyError``.
    public init(decoding bytes: [UInt8], trusting key: ECPublicKey) throws {
        let container = try Container(decoding: bytes)
        try container.demand(.approval, sections: Self.sections)
        reference = try PolicyReference(decoding: container.required(.policyReference))
        let area: PublicArea = try container.structure(.approvalKey)
        guard area == KeyTemplate.approvalKey(key) else {
            throw DocumentError.malformed(.approvalKey)
        }
        let selection: PCRSelection = try container.structure(.pcrSelection)
        guard selection == reference.selection else {
            throw DocumentError.malformed(.pcrSelection)
        }
        let signature: Signature = try container.structure(.approvalSignature)
        guard case .ecdsa(.sha256, let r, let s) = signature else {
            throw DocumentError.malformed(.approvalSignature)
        }
        approval = PCRApproval(
            selection: selection, pcrDigest: try container.required(.approvedPCRDigest),
            policyRef: reference.policyRef, key: area, signature: signature)
        try key.verifyECDSA(r: r, s: s, over: approval.signedBytes, hash: .sha256)
        values = try Self.values(container.required(.approvedPCRValues), selection)
        guard values.digest(of: selection, hash: .sha256) == approval.pcrDigest else {
            throw DocumentError.malformed(.approvedPCRValues)
        }
        guard let note = String(validating: container[.note] ?? [], as: UTF8.self) else {
            throw DocumentError.malformed(.note)
        }
        self.note = note
    }

    private static func values(
        _ bytes: [UInt8], _ selection: PCRSelection
    ) throws(DocumentError) -> PCRValues {
        var values = PCRValues()
        var reader = WireReader(bytes)
        do throws(WireError) {
            for bank in selection.banks {
                for index in bank.indexes {
                    values[bank.hash, index] = try reader.bytes(bank.hash.digestSize)
                }
            }
            try reader.finish()
        } catch {
            throw .malformed(.approvedPCRValues)
        }
        return try selected(values, selection)
    }
}

extension ApprovalDocument {
    /// A file with several approvals: the container of one kind with each as a section.
    public static func file(_ approvals: [ApprovalDocument]) throws(DocumentError) -> [UInt8] {
        var sections: [(type: SectionType, bytes: [UInt8])] = []
        for approval in approvals { sections.append((.approval, try approval.encoded())) }
        guard let count = UInt8(exactly: approvals.count) else { throw .tooLong }
        return try Container(.approval, sections + [(.approvalCount, [count])]).encoded
    }

    /// Reads a file with one approval or several.
    ///
    /// - Throws: as ``init(decoding:trusting:)``, also when only one of them is refused.
    public static func all(
        in bytes: [UInt8], trusting key: ECPublicKey
    ) throws -> [ApprovalDocument] {
        let container = try Container(decoding: bytes)
        let parts = container.all(.approval)
        guard !parts.isEmpty else { return [try ApprovalDocument(decoding: bytes, trusting: key)] }
        try container.demand(.approval, sections: [.approval, .approvalCount])
        guard try container.fixed(.approvalCount, 1) == [UInt8(truncatingIfNeeded: parts.count)]
        else {
            throw DocumentError.malformed(.approvalCount)
        }
        return try parts.map { try ApprovalDocument(decoding: $0, trusting: key) }
    }
}
