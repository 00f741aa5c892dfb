import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

let documentTargets: [FuzzTarget] = [
    container, enrollmentRequest, enrollmentResponse, evidence, retirement, licenseDocument,
    announcedTerms, reply,
    approval, sealedEnvelope, policyReference,
]

/// A document that its sender signs in parts: read and written again it is the same.
private func plain(
    _ name: String, maximumSize: Int = 8192, accepted: Int = 1,
    seeds: @escaping @Sendable () throws -> [[UInt8]],
    _ again: @escaping @Sendable ([UInt8]) throws -> [UInt8]
) -> FuzzTarget {
    FuzzTarget(
        name, maximumSize: maximumSize, accepted: accepted, seeds: seeds,
        check: { bytes in
            guard let written = try? again(bytes) else { return false }
            try demand(written == bytes, "what was read is written in other bytes")
            return true
        })
}

private let container = plain(
    "container",
    seeds: {
        let sample = try Sample.shared.get()
        return [
            try Container(
                .enrollmentRequest,
                [(.vendorID, [1]), (.hardwareFact, [2]), (.hardwareFact, [3]), (.note, [])]
            ).encoded, try Container(.license, sample.license).encoded,
        ]
    }
) { bytes in
    let container = try Container(decoding: bytes)
    for (type, part) in container.contents {
        try demand(container.all(type).contains(part), "a section is lost")
    }
    return container.encoded
}

private let enrollmentRequest = plain(
    "enrollment-request", seeds: { [try Sample.shared.get().request().encoded()] }
) { bytes in
    let request = try EnrollmentRequest(decoding: bytes)
    _ = try request.keys.qualifyingData()
    return try request.encoded()
}

private let enrollmentResponse = FuzzTarget(
    "enrollment-response", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        let request = try sample.request().encoded()
        return try [nil, sample.newerTrust().signed(with: sample.issuer())].map { trust in
            try EnrollmentResponse(
                statement: sample.statement().signed(with: sample.issuer()), trust: trust,
                nonces: [UInt8](repeating: 6, count: 128), request: request,
                attestationKey: sample.attestationKey.name, endorsementKey: sample.leaseParent,
                random: RepeatedRandom(2000).source
            ).encoded()
        }
    },
    check: { bytes in
        guard let response = try? EnrollmentResponse(decoding: bytes) else { return false }
        try demand(try response.encoded() == bytes, "a response is written in other bytes")
        let sample = try Sample.shared.get()
        // The key comes from the TPM; with any other nothing opens.
        let opened = try? response.open(
            with: SecretBytes(copying: sample.leaseKey), request: [1],
            trust: sample.trust(), attestationKey: sample.attestationKey.name)
        try demand(opened == nil, "a response opens with another key")
        return true
    })

private let evidence = plain(
    "evidence", maximumSize: 12_288, accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return try [false, true].map { try sample.evidence(recollecting: $0).encoded() }
    }
) { bytes in
    let evidence = try Evidence(decoding: bytes)
    _ = try evidence.parts()
    _ = try? evidence.extraData(for: Sample.shared.get().sealing().publicKey)
    for proof in evidence.ledger.consistency { _ = try? proof.roots() }
    if let recollection = evidence.recollection {
        let verified = try? VerifiedRecollection(recollection, trust: Sample.shared.get().trust())
        if let verified {
            try demand(
                verified.statement.attestationKey == (try Sample.shared.get().attestationKey),
                "a statement for another key was accepted")
        }
    }
    return try evidence.encoded()
}

private let retirement = plain(
    "retirement", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        let id = try sample.trust().vendorID.bytes
        let certified = try sample.certify(
            sample.epochCounter, 6, Retirement.qualifyingData(vendorID: id, incarnation: 1))
        let quote = try sample.quote(sample.nonce)
        return try [
            nil,
            Retirement.Eviction(
                previous: [UInt8](repeating: 1, count: 32), quote: quote.attestation.bytes,
                quoteSignature: quote.signature.bytes),
        ].map { eviction in
            try Retirement(
                vendorID: id, pairwiseID: sample.checkpoint.pairwiseID, incarnation: 1,
                epochCounter: certified, eviction: eviction
            ).encoded()
        }
    }
) { bytes in
    try Retirement(decoding: bytes).encoded()
}

// MARK: What the vendor signs

private let licenseDocument = FuzzTarget(
    "license-document", maximumSize: 6144,
    seeds: {
        [try Container(.license, Sample.shared.get().license).encoded]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        guard let read = try? LicenseDocument(decoding: bytes, in: sample.context()) else {
            return false
        }
        try demand(
            bytes == (try Container(.license, sample.license).encoded),
            "a license that the vendor did not sign")
        let rights = try LeaseRights(
            opening: read.sealedLease, of: read.statement,
            attestationKey: sample.attestationKey.name, key: SecretBytes(copying: sample.leaseKey))
        try demand(rights.entitlements == ["scan", "preview"], "other rights")
        return true
    })

private let announcedTerms = FuzzTarget(
    "announced-terms", maximumSize: 2048,
    seeds: { [try Container(.migrations, Sample.shared.get().announced()).encoded] },
    check: { bytes in
        let sample = try Sample.shared.get()
        guard let read = try? AnnouncedTerms.kept(decoding: bytes, in: sample.context()) else {
            return false
        }
        try demand(
            !read.isEmpty && bytes == (try Container(.migrations, sample.announced()).encoded),
            "terms that the vendor did not announce")
        return true
    })

private let reply = FuzzTarget(
    "reply", maximumSize: 8192, accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return [
            try sample.reply(),
            try sample.reply(with: sample.newerTrust().signed(with: sample.issuer())),
        ]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        _ = try? Reply.header(in: bytes)
        _ = try? Reply.receipt(in: bytes)
        let read = try? Reply(
            decoding: bytes, in: sample.context(), replacing: sample.trust())
        guard let read else { return false }
        let newer = try sample.newerTrust()
        try demand(
            read.trust == nil || read.trust?.statement == newer,
            "a trust statement that the vendor did not sign")
        // The approval in it is signed with a random number and differs from run to run.
        try demand(
            read.header.position == ReplyPosition(server: 1, sequence: 2)
                && read.documents.count == 1 && read.announced.count == 1 && read.receipt?.size == 3
                && read.approvals.map(\.values) == [sample.approval.values]
                && read.nonces == EnrollmentResponse.nonces([UInt8](repeating: 6, count: 128)),
            "a reply that the vendor did not sign")
        return true
    })

private let approval = FuzzTarget(
    "approval", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return [
            try sample.approval.encoded(), try ApprovalDocument.file([sample.approval]),
        ]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        guard
            let all = try? ApprovalDocument.all(
                in: bytes, trusting: sample.approvalKey.publicKey)
        else { return false }
        for one in all {
            try demand(
                one.reference == sample.approval.reference
                    && one.values == sample.approval.values
                    && one.approval.signedBytes == sample.approval.approval.signedBytes,
                "a boot state that the vendor did not approve")
        }
        return true
    })

private let sealedEnvelope = FuzzTarget(
    "sealed-envelope", maximumSize: 1024,
    seeds: {
        let sample = try Sample.shared.get()
        return [
            try SealedEnvelope(
                sealing: [1, 2, 3], to: sample.sealing().publicKey,
                random: RepeatedRandom(3000).source
            ).encoded
        ]
    },
    check: { bytes in
        guard let envelope = try? SealedEnvelope(decoding: bytes) else { return false }
        try demand(envelope.encoded == bytes, "an envelope is written in other bytes")
        guard let opened = try? envelope.open(with: Sample.shared.get().sealing()) else {
            return false
        }
        try demand(opened == [1, 2, 3], "another content opened")
        return true
    })

private let policyReference = FuzzTarget(
    "policy-reference", maximumSize: 512, accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return [
            sample.approval.reference.encoded,
            try PolicyReference(
                role: .ledger, scope: .device(sample.nonce), generation: 2,
                selection: PCRSelection(.sha384, [PCRIndex.all[7]])
            ).encoded,
        ]
    },
    check: { bytes in
        guard let reference = try? PolicyReference(decoding: bytes) else { return false }
        try demand(reference.encoded == bytes, "a reference is written in other bytes")
        try demand(reference.policyRef.count == 32, "a reference without a digest")
        return true
    })
