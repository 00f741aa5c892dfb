import HoldfastTPMWire

extension Container {
    /// Reads a required section as one TPM structure in its one encoding.
    func structure<T: WireStructure>(_ type: SectionType) throws(DocumentError) -> T {
        let bytes = try required(type)
        let value: T
        do throws(WireError) { value = try T(wireBytes: bytes) } catch { throw .malformed(type) }
        guard value.wireBytes == bytes else { throw .malformed(type) }
        return value
    }

    /// Reads an attestation with its signature, exactly as the TPM wrote them.
    func attestation(
        _ attestation: SectionType, _ signature: SectionType
    ) throws(DocumentError) -> SignedAttestation {
        let statement = try required(attestation)
        let signed = try required(signature)
        do throws(WireError) {
            return try SignedAttestation(attestation: statement, signature: signed)
        } catch {
            throw .malformed(attestation)
        }
    }

    /// Demands the kind of document that belongs here and no sections but the given ones.
    func demand(_ kind: DocumentKind, sections: Set<SectionType>) throws(DocumentError) {
        guard self.kind == kind else { throw .wrongKind(self.kind.rawValue) }
        try demandOnly(sections)
    }
}
