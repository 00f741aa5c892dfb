import HoldfastAttestation
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastStage
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("evidence of a TPM", .timeLimit(.minutes(20)))
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

    @Test(
        "RSA keys quote with either padding, and no padding is guessed",
        arguments: [AsymmetricScheme.rsassa(.sha256), .rsapss(.sha256), .rsassa(.sha384)])
    func rsa(scheme: AsymmetricScheme) throws {
        let tpm = try TransientTPM(.documented)
        let nonce = RandomSource.system.bytes(32)
        let selection = PCRSelection(.sha256, PCRIndex.firmware)
        let template = PublicArea(
            nameAlgorithm: .sha256, attributes: ObjectAttributes(rawValue: 0x0005_0472),
            authPolicy: [],
            kind: .rsa(symmetric: .none, scheme: scheme, bits: 2048, exponent: 0, modulus: []))
        let made = try tpm.connection.withPrimary(template, in: .endorsement) {
            (key) throws(TPMError) in
            func quote(_ data: [UInt8]) throws(TPMError) -> SignedAttestation {
                try tpm.connection.run(
                    QuoteCommand(key: key.reference, qualifyingData: data, selection: selection),
                    [.emptyAuth])
            }
            // Key, evidence, and a signature of the same key over something else.
            return (
                key.publicArea, try quote(nonce), try tpm.connection.readPCRs(selection),
                try quote([1]).signature.bytes
            )
        }
        func failures(
            _ key: QuoteKey, _ attestation: [UInt8]? = nil, signature: [UInt8]? = nil
        ) -> Set<QuoteCheck> {
            let appraisal = QuoteAppraisal(
                UnverifiedQuote(
                    attestation: attestation ?? made.1.attestation.bytes,
                    signature: signature ?? made.1.signature.bytes, values: made.2),
                expecting: QuoteExpectation(
                    key: key, nonce: nonce, minimumNonceSize: 16, selection: selection,
                    qualifiedSigner: made.0.name.qualified(
                        below: TPMName(handle: .endorsement), hash: .sha256)))
            let failed = appraisal.results.filter { $0.outcome == .failed }.map(\.check)
            #expect((appraisal.verified == nil) == !failed.isEmpty)
            return Set(failed)
        }
        #expect(failures(.publicArea(made.0)) == [])
        #expect(failures(.publicArea(made.0), signature: made.3) == [.signature])
        // Every bit of the signature, and a sample of the message.
        let signature = made.1.signature.bytes
        for bit in 0..<signature.count * 8 {
            var changed = signature
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(failures(.publicArea(made.0), signature: changed) != [], "bit \(bit)")
        }
        var message = made.1.attestation.bytes
        message[50] ^= 1
        #expect(failures(.publicArea(made.0), message).contains(.signature))
        #expect(failures(.publicArea(made.0), signature: signature + [0]).contains(.wellFormed))

        // The same signature under the name of the other padding, and of another hash.
        guard case .rsa(_, _, let bits, let exponent, let modulus) = made.0.kind else { return }
        let value = [UInt8](signature.dropFirst(6))
        let others: [Signature] = [
            .rsassa(hash: .sha256, signature: value), .rsapss(hash: .sha256, signature: value),
            .rsassa(hash: .sha384, signature: value), .rsassa(hash: .sha1, signature: value),
        ]
        for other in others where other.scheme != scheme {
            #expect(
                failures(.publicArea(made.0), signature: other.wireBytes)
                    .isSuperset(of: [.signatureScheme, .signature]))
            // Not even when the key is said to have that scheme.
            var relabeled = made.0
            relabeled.kind = .rsa(
                symmetric: .none, scheme: other.scheme, bits: bits, exponent: exponent,
                modulus: modulus)
            #expect(
                failures(.publicArea(relabeled), signature: other.wireBytes).contains(.signature))
        }
        let key = try RSAPublicKey(modulus: modulus, exponent: 65_537)
        #expect(
            failures(.bare(key)) == (scheme == .rsassa(.sha384) ? [.signatureScheme] : []))
        // A key that Holdfast does not verify with.
        for (otherModulus, otherExponent) in [
            (modulus, UInt32(3)), ([UInt8](modulus.dropLast(128)), 0),
            ([0x7F] + modulus.dropFirst(), 0), (modulus.dropLast() + [0], 0),
        ] {
            var weak = made.0
            weak.kind = .rsa(
                symmetric: .none, scheme: scheme, bits: UInt16(otherModulus.count * 8),
                exponent: otherExponent, modulus: otherModulus)
            #expect(failures(.publicArea(weak)).contains(.signature))
        }
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

    @Test("bare digests, as tpm2_quote -F values writes them, are those of the selection")
    func bareValues() throws {
        let selection = try #require(PCRSelection(text: "sha256:0,7+sha384:1"))
        let bytes = [UInt8](0..<112)
        let values = try EvidenceFiles.pcrValues(bytes, of: selection)
        #expect(values[.sha256, PCRIndex.all[0]] == [UInt8](0..<32))
        #expect(values[.sha256, PCRIndex.all[7]] == [UInt8](32..<64))
        #expect(values[.sha384, PCRIndex.all[1]] == [UInt8](64..<112))
        for wrong in [bytes + [0], Array(bytes.dropLast()), []] {
            #expect(throws: EvidenceFormatError.self) {
                try EvidenceFiles.pcrValues(wrong, of: selection)
            }
        }
        #expect(throws: EvidenceFormatError.self) {
            try EvidenceFiles.pcrValues([], of: .empty)
        }
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
