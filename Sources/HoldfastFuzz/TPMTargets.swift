import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire

let tpmTargets: [FuzzTarget] = [
    tpmResponse, tpmStructure, tpmConnection, quote, certification,
]

// MARK: Responses

/// The decoder of one command's response parameters.
private struct ResponseDecoder: Sendable {
    let decode: @Sendable (TPMHandle, inout WireReader) throws(WireError) -> Void

    init<C: TPMCommand & SendableMetatype>(_: C.Type) {
        decode = { (handle, reader) throws(WireError) in
            _ = try C.decode(handle: handle, parameters: &reader)
        }
    }

    static let all = [
        ResponseDecoder(CertifyCommand.self), ResponseDecoder(CreatePrimaryCommand.self),
        ResponseDecoder(GetCapabilityCommand.self), ResponseDecoder(GetRandomCommand.self),
        ResponseDecoder(ImportCommand.self), ResponseDecoder(LoadCommand.self),
        ResponseDecoder(LoadExternalCommand.self), ResponseDecoder(NVCertifyCommand.self),
        ResponseDecoder(NVReadCommand.self), ResponseDecoder(NVReadPublicCommand.self),
        ResponseDecoder(PCRReadCommand.self), ResponseDecoder(PolicyGetDigestCommand.self),
        ResponseDecoder(PolicySecretCommand.self), ResponseDecoder(QuoteCommand.self),
        ResponseDecoder(ReadClockCommand.self), ResponseDecoder(ReadPublicCommand.self),
        ResponseDecoder(StartAuthSessionCommand.self), ResponseDecoder(VerifySignatureCommand.self),
        ResponseDecoder(FlushContextCommand.self),
    ]
}

/// The first byte picks the command, four more are the handle.
private let tpmResponse = FuzzTarget(
    "tpm-response", accepted: 5,
    seeds: {
        let sample = try Sample.shared.get()
        func seed(_ number: UInt8, _ body: (inout WireWriter) -> Void) -> [UInt8] {
            var writer = WireWriter()
            writer.uint8(number)
            writer.uint32(0x8000_0000)
            body(&writer)
            return writer.bytes
        }
        let quote = try sample.quote(sample.nonce)
        let ticket = { (writer: inout WireWriter) in
            writer.uint16(0x8022)
            writer.uint32(0x4000_0001)
            writer.sized([UInt8](repeating: 1, count: 32))
        }
        return [
            seed(13) { writer in
                writer.sized(quote.attestation.bytes)
                writer.raw(quote.signature.bytes)
            },
            seed(15) { writer in
                writer.sized(sample.attestationKey.wireBytes)
                writer.sized(sample.attestationKey.name.bytes)
                writer.sized(sample.attestationKey.name.bytes)
            },
            seed(9) { writer in
                writer.sized(sample.epochCounter.wireBytes)
                writer.sized(sample.epochCounter.name.bytes)
            },
            seed(10) { writer in
                writer.uint32(5)
                sample.selection.encode(into: &writer)
                writer.uint32(2)
                for index in [0, 7] {
                    writer.sized(sample.values[.sha256, PCRIndex.all[index]] ?? [])
                }
            },
            seed(17, ticket),
            seed(1) { writer in
                writer.sized(sample.attestationKey.wireBytes)
                writer.sized([0])
                writer.sized([UInt8](repeating: 0, count: 32))
                ticket(&writer)
                writer.sized(sample.attestationKey.name.bytes)
            },
        ]
            + [
                [0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 5, 0, 0, 0, 3],
                [1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 11, 3, 255, 255, 255],
                [0, 0, 0, 0, 1, 0, 0, 0, 1, 0x81, 1, 0, 1], [0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 3],
                [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
                [0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1, 0x7E],
            ].map { [2, 0, 0, 0, 0] + $0 }
    },
    check: { bytes in
        guard bytes.count >= 5 else { return false }
        let decoder = ResponseDecoder.all[Int(bytes[0]) % ResponseDecoder.all.count]
        var reader = WireReader([UInt8](bytes[1...]))
        do throws(WireError) {
            let handle = TPMHandle(rawValue: try reader.uint32())
            try decoder.decode(handle, &reader)
            try reader.finish()
            return true
        } catch {
            return false
        }
    })

// MARK: Structures

/// A structure that has one encoding.
private struct StructureDecoder: Sendable {
    let read: @Sendable ([UInt8]) throws -> [UInt8]

    init<T: WireStructure & SendableMetatype>(_: T.Type) {
        read = { bytes in try T(wireBytes: bytes).wireBytes }
    }

    static let all = [
        StructureDecoder(Attestation.self), StructureDecoder(Signature.self),
        StructureDecoder(PublicArea.self), StructureDecoder(NVPublicArea.self),
        StructureDecoder(PCRSelection.self), StructureDecoder(ClockInfo.self),
        StructureDecoder(Ticket.self), StructureDecoder(SymmetricDefinition.self),
        StructureDecoder(AsymmetricScheme.self),
    ]
}

/// The first byte picks the structure.
private let tpmStructure = FuzzTarget(
    "tpm-structure", accepted: 9,
    seeds: {
        let sample = try Sample.shared.get()
        let quote = try sample.quote(sample.nonce)
        let counter = try sample.certify(sample.epochCounter, 7, sample.nonce)
        let rsa = PublicArea(
            nameAlgorithm: .sha256, attributes: .restricted,
            authPolicy: [UInt8](repeating: 1, count: 32),
            kind: .rsa(
                symmetric: .aesCFB(bits: 128), scheme: .null, bits: 2048, exponent: 0,
                modulus: [UInt8](repeating: 0xC3, count: 256)))
        return [
            [0] + quote.attestation.bytes, [0] + counter.attestation.bytes,
            [1] + quote.signature.bytes, [2] + sample.attestationKey.wireBytes,
            [2] + rsa.wireBytes, [3] + sample.epochCounter.wireBytes,
            [4] + sample.selection.wireBytes, [5] + sample.clock.wireBytes,
            [6, 0x80, 0x22, 0x40, 0, 0, 1, 0, 2, 1, 2],
            [7, 0, 6, 0, 128, 0, 0x43], [8, 0, 0x18, 0, 11],
        ]
    },
    check: { bytes in
        guard let number = bytes.first else { return false }
        let body = [UInt8](bytes[1...])
        let decoder = StructureDecoder.all[Int(number) % StructureDecoder.all.count]
        guard let again = try? decoder.read(body) else { return false }
        try demand(again == body, "what was read is encoded in other bytes")
        if let name = try? TPMName(bytes: body) {
            try demand(name.bytes == body, "a Name changed when it was read")
        }
        return true
    })

// MARK: A connection

/// A TPM that answers what the input says, and hangs up at its end.
private final class ScriptedTransport: TPMTransport {
    private var rest: WireReader
    init(_ bytes: [UInt8]) { rest = WireReader(bytes) }
    let hasResourceManager = false

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        do throws(WireError) {
            var response = try rest.sized("response", maximum: maximumResponseSize)
            // The size is what nobody gets wrong; a code that asks to send again takes time.
            if response.count >= 10 {
                response.replaceSubrange(
                    2..<6,
                    with: [0, 0, UInt8(response.count >> 8), UInt8(response.count & 0xFF)])
                if response[8] == 0x09 { response[8] = 0x01 }
            }
            return response
        } catch {
            throw TPMError(.unreachable, "the end")
        }
    }

    func close() {}
}

/// Responses, each with its length before it; the first byte picks what is asked.
private let tpmConnection = FuzzTarget(
    "tpm-connection", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        func response(_ body: (inout WireWriter) -> Void) -> [UInt8] {
            var writer = WireWriter()
            writer.uint16(0x8001)
            writer.uint32(0)
            writer.uint32(0)
            body(&writer)
            writer.patch(UInt32(writer.bytes.count), at: 2)
            var sized = WireWriter()
            sized.sized(writer.bytes)
            return sized.bytes
        }
        let read = response { writer in
            writer.uint32(1)
            sample.selection.encode(into: &writer)
            writer.uint32(2)
            for index in [0, 7] { writer.sized(sample.values[.sha256, PCRIndex.all[index]] ?? []) }
        }
        let clock = response { writer in
            writer.uint64(5)
            sample.clock.encode(into: &writer)
        }
        let session = response { writer in
            writer.uint32(0x0200_0000)
            writer.sized([UInt8](repeating: 1, count: 32))
        }
        let empty = response { _ in }
        let object = response { writer in
            writer.sized(sample.leaseParent.wireBytes)
            writer.sized(sample.leaseParent.name.bytes)
            writer.sized(sample.leaseParent.name.bytes)
        }
        let loaded = response { writer in
            writer.uint32(0x8000_0000)
            writer.uint32(36)
            writer.sized(sample.leaseParent.name.bytes)
            writer.raw([0, 0, 1, 0, 0])
        }
        return [
            [0] + read, [1] + clock, [2] + object, [3] + session + empty + empty,
            [4] + session + empty, [5] + loaded + session + empty, [6] + empty, [7] + object,
            [8] + session + session + empty,
        ]
    },
    check: { bytes in
        guard let number = bytes.first else { return false }
        let sample = try Sample.shared.get()
        let tpm = TPMConnection(
            ScriptedTransport([UInt8](bytes[1...])), random: RepeatedRandom(1).source)
        let parent = try LoadedObject(
            handle: VendorSlot.all[0].leaseParent, publicArea: sample.leaseParent,
            name: sample.leaseParent.name)
        var accepted = false
        var forged = false
        do throws(TPMError) {
            switch number % 9 {
            case 0: _ = try tpm.readPCRs(sample.selection)
            case 1: _ = try tpm.clock()
            case 2:
                let object = try tpm.object(
                    at: parent.handle, named: sample.leaseParent.name)
                forged = object.publicArea != sample.leaseParent
            case 3:
                // Only who holds the parent's key proves that the counter was raised.
                try tpm.increment(sample.epochCounter, authValue: [1], salt: parent)
                forged = true
            case 4:
                _ = try tpm.unseal(
                    EntityReference(
                        TPMHandle(rawValue: 0x8000_0000), name: sample.attestationKey.name),
                    policy: Policy(hash: .sha256, [.commandCode(.unseal)]), with: PolicyMeans(),
                    salt: parent)
                forged = true
            case 5:
                try tpm.withLoaded(privateBlob: [1], publicArea: [2], below: parent) {
                    (object) throws(TPMError) in
                    _ = try tpm.unseal(
                        object, policy: Policy(hash: .sha256, [.commandCode(.unseal)]),
                        with: PolicyMeans(), salt: parent)
                    forged = true
                }
            case 6: _ = try tpm.report()
            case 7: _ = try tpm.endorsementCertificate(.eccP384)
            default: _ = try tpm.readCounter(sample.epochCounter)
            }
            accepted = true
        } catch {
            try demand(error.code != .invalidRequest, "a fault of ours: \(error)")
        }
        try demand(!forged, "what nobody proved was accepted")
        tpm.endTransaction()
        try demand(tpm.occupiedSlots == 0, "a slot is still taken")
        return accepted
    })

// MARK: What a TPM signs

/// A quote of the sample's key: attestation, signature, values, each with its length.
private let quote = FuzzTarget(
    "quote",
    seeds: {
        let sample = try Sample.shared.get()
        let quote = try sample.quote(sample.nonce)
        var writer = WireWriter()
        writer.sized(quote.attestation.bytes)
        writer.sized(quote.signature.bytes)
        writer.raw(Array(sample.values.yaml.utf8))
        return [writer.bytes]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        var reader = WireReader(bytes)
        guard let attestation = try? reader.sized("attestation", maximum: 4096),
            let signature = try? reader.sized("signature", maximum: 4096),
            let values = try? EvidenceFiles.pcrValues(reader.rest(), of: sample.selection)
        else { return false }
        let appraisal = QuoteAppraisal(
            UnverifiedQuote(attestation: attestation, signature: signature, values: values),
            expecting: QuoteExpectation(
                key: .publicArea(sample.attestationKey), nonce: sample.nonce,
                minimumNonceSize: 16, selection: sample.selection, qualifiedSigner: nil))
        try demand(appraisal.results.count == QuoteCheck.allCases.count, "a check was left out")
        guard let verified = appraisal.verified else { return false }
        // The key signed one quote: another signature under it is a forgery.
        try demand(verified.values == sample.values, "other values were accepted")
        try demand(
            attestation == (try sample.quote(sample.nonce)).attestation.bytes,
            "another attestation was accepted")
        return true
    })

/// Certifications by the sample's key: attestation and signature.
private let certification = FuzzTarget(
    "certification", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return try [
            sample.certify(sample.epochCounter, 7, sample.nonce),
            sample.sign(
                sample.nonce,
                .certify(
                    name: sample.leaseParent.name,
                    qualifiedName: sample.leaseParent.name.qualified(
                        below: TPMName(handle: .owner), hash: .sha256))),
            sample.quote(sample.nonce),
        ].map { signed in
            var writer = WireWriter()
            writer.sized(signed.attestation.bytes)
            writer.raw(signed.signature.bytes)
            return writer.bytes
        }
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        var reader = WireReader(bytes)
        guard let attestation = try? reader.sized("attestation", maximum: 4096),
            let signed = try? SignedAttestation(
                attestation: attestation, signature: reader.rest())
        else { return false }
        let verifier = try CertifyingKey(sample.attestationKey)
        if let counter = try? verifier.verifyCounter(
            signed, is: sample.epochCounter, qualifyingData: sample.nonce)
        {
            try demand(counter.value == 7, "another value was accepted")
            return true
        }
        let parent = try? verifier.verifyLeaseParent(
            signed, is: sample.leaseParent, qualifyingData: sample.nonce)
        try demand(
            parent.map { $0.name == sample.leaseParent.name } ?? true, "another parent passed")
        let other = try? verifier.verifyCounter(
            signed, is: sample.ledgerCounter, qualifyingData: sample.nonce)
        try demand(other == nil, "a certification of another counter was accepted")
        return parent != nil
    })
