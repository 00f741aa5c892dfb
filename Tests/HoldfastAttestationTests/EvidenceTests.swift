import HoldfastAttestation
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastStage
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("evidence of a TPM", .timeLimit(.minutes(2)))
struct EvidenceTests {
    private let vendorID = RandomSource.system.bytes(32)

    @Test("a TPM's quote is proved; with another TPM's values it is not")
    func quote() throws {
        let tpm = try TransientTPM(.documented)
        let nonce = RandomSource.system.bytes(32)
        let selection = try #require(PCRSelection(text: "sha256:0,1,2,3,4,5,6,7+sha384:7"))
        let made = try tpm.connection.withPrimary(
            KeyTemplate.attestationKey(vendorID: vendorID), in: .endorsement
        ) { (key) throws(TPMError) in
            let quoted = try tpm.connection.quote(selection, by: key, nonce: nonce)
            return (quoted.quote, quoted.values, key.publicArea)
        }
        func appraise(_ values: PCRValues) -> QuoteAppraisal {
            QuoteAppraisal(
                UnverifiedQuote(
                    attestation: made.0.attestation.bytes, signature: made.0.signature.bytes,
                    values: values),
                expecting: QuoteExpectation(
                    key: .publicArea(made.2), nonce: nonce, minimumNonceSize: 16,
                    selection: selection,
                    qualifiedSigner: made.2.name.qualified(
                        below: TPMName(handle: .endorsement), hash: .sha256)))
        }
        let appraisal = appraise(made.1)
        #expect(appraisal.verified != nil)
        #expect(appraisal.results.allSatisfy { $0.outcome == .passed })
        #expect(Verdict(appraisal).verdict == "valid")
        var other = made.1
        other[.sha384, PCRIndex.all[7]] = [UInt8](repeating: 1, count: 48)
        #expect(appraise(other).verified == nil)
        // What is written for people is read back.
        let read = try EvidenceFiles.pcrValues(Array(made.1.yaml.utf8))
        #expect(read == made.1)
        var area = WireWriter()
        area.sized(made.2.wireBytes)
        #expect(try EvidenceFiles.key(area.bytes) == .publicArea(made.2))
        #expect(try EvidenceFiles.key(made.2.wireBytes) == .publicArea(made.2))
        let key = try made.2.ecPublicKey()
        #expect(try EvidenceFiles.key(Array(key.pem.utf8)) == .bare(key))
    }

    @Test("parent and counters are certified; each wrong word of a device is refused")
    func certifications() throws {
        let tpm = try TransientTPM(.documented)
        let connection = tpm.connection
        let stage = try LeaseStage(connection, random: .system)
        let data = RandomSource.system.bytes(32)
        let made = try connection.withPrimary(
            KeyTemplate.attestationKey(vendorID: stage.vendorID), in: .endorsement
        ) { (key) throws(TPMError) in
            // The twin of the parent in the endorsement hierarchy.
            let twin = try connection.withPrimary(
                KeyTemplate.leaseParent(unique: [UInt8](repeating: 1, count: 32)),
                in: .endorsement
            ) { (twin) throws(TPMError) in
                (
                    twin.publicArea,
                    try connection.run(
                        CertifyCommand(
                            object: twin.reference, key: key.reference, qualifyingData: data),
                        [.emptyAuth, .emptyAuth])
                )
            }
            return (
                key.publicArea,
                try connection.run(
                    CertifyCommand(
                        object: stage.parent.reference, key: key.reference, qualifyingData: data),
                    [.emptyAuth, .emptyAuth]),
                try connection.certifyCounter(
                    stage.epochCounter, by: key.reference, keyAuthorization: .emptyAuth,
                    qualifyingData: data),
                twin
            )
        }
        let key = try CertifyingKey(made.0)
        let parent = stage.parent.publicArea
        #expect(
            try key.verifyLeaseParent(made.1, is: parent, qualifyingData: data).name
                == parent.name)
        #expect(
            try key.verifyCounter(made.2, is: stage.epochCounter, qualifyingData: data).value
                == connection.readCounter(stage.epochCounter))

        let other = RandomSource.system.bytes(32)
        #expect(throws: CertificationError.qualifyingDataMismatch) {
            try key.verifyLeaseParent(made.1, is: parent, qualifyingData: other)
        }
        #expect(throws: CertificationError.subjectMismatch) {
            try key.verifyLeaseParent(made.2, is: parent, qualifyingData: data)
        }
        #expect(throws: CertificationError.subjectMismatch) {
            try key.verifyCounter(made.1, is: stage.epochCounter, qualifyingData: data)
        }
        #expect(throws: CertificationError.subjectMismatch) {
            try key.verifyCounter(made.2, is: stage.ledgerCounter, qualifyingData: data)
        }
        #expect(throws: CertificationError.hierarchyMismatch) {
            try key.verifyLeaseParent(made.3.1, is: made.3.0, qualifyingData: data)
        }
        var loose = made.0
        loose.attributes.remove(.restricted)
        #expect(throws: CertificationError.signerMismatch) { try CertifyingKey(loose) }
        #expect(throws: CertificationError.signerMismatch) {
            try CertifyingKey(parent)
        }
        var changed = made.1.attestation.bytes
        changed[60] ^= 1
        let damaged = try SignedAttestation(
            attestation: changed, signature: made.1.signature.bytes)
        #expect(throws: CertificationError.signatureInvalid) {
            try key.verifyLeaseParent(damaged, is: parent, qualifyingData: data)
        }
        let swapped = try SignedAttestation(
            attestation: made.1.attestation.bytes, signature: made.2.signature.bytes)
        #expect(throws: CertificationError.signatureInvalid) {
            try key.verifyLeaseParent(swapped, is: parent, qualifyingData: data)
        }
    }

    @Test(
        "files of no known form are refused",
        arguments: [
            "", "sha256:", "sha256:\n 0 : 0x00", "  0 : 0x" + String(repeating: "0", count: 64),
            "md5:\n 0 : 0x00", "sha256:\n 24 : 0x" + String(repeating: "0", count: 64),
            "sha256:\n 0 0x" + String(repeating: "0", count: 64) + "\n 0 : 0x"
                + String(repeating: "1", count: 64),
        ])
    func unknownFiles(text: String) {
        #expect(throws: EvidenceFormatError.self) {
            try EvidenceFiles.pcrValues(Array(text.utf8))
        }
        #expect(throws: EvidenceFormatError.self) { try EvidenceFiles.key(Array(text.utf8)) }
    }

    @Test("binary values of tpm2_quote are read, and refused when a count lies")
    func serialized() throws {
        var bytes = [UInt8](repeating: 0, count: 136 + 532)
        bytes[0] = 1
        (bytes[4], bytes[6], bytes[7]) = (0x0B, 3, 0x81)
        bytes[132] = 1
        bytes[136] = 2
        for place in 0..<2 {
            bytes[140 + place * 66] = 32
            for octet in 0..<32 { bytes[142 + place * 66 + octet] = UInt8(place + 1) }
        }
        let values = try EvidenceFiles.pcrValues(bytes)
        #expect(values[.sha256, PCRIndex.all[0]] == [UInt8](repeating: 1, count: 32))
        #expect(values[.sha256, PCRIndex.all[7]] == [UInt8](repeating: 2, count: 32))
        for (offset, value) in [(0, UInt8(17)), (132, 2), (136, 9), (136, 1), (140, 65), (7, 0x80)]
        {
            var changed = bytes
            changed[offset] = value
            #expect(throws: EvidenceFormatError.self, "\(offset)") {
                try EvidenceFiles.pcrValues(changed)
            }
        }
        #expect(throws: EvidenceFormatError.self) {
            try EvidenceFiles.pcrValues(Array(bytes.dropLast()))
        }
    }
}
