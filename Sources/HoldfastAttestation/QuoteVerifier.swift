public import HoldfastCrypto
public import HoldfastTPMWire

/// The key that a quote should be signed with.
public enum QuoteKey: Sendable, Hashable {
    /// The public area: its attributes are checked.
    case publicArea(PublicArea)
    /// A bare key, from a PEM file for example; attributes cannot be checked.
    case bare(ECPublicKey)
}

/// A quote as it was received; nothing in it is believed.
public struct UnverifiedQuote: Sendable {
    /// `TPMS_ATTEST`.
    public let attestation: [UInt8]
    /// `TPMT_SIGNATURE`.
    public let signature: [UInt8]
    /// Claimed values; the TPM signed only a digest of them.
    public let values: PCRValues

    public init(attestation: [UInt8], signature: [UInt8], values: PCRValues) {
        self.attestation = attestation
        self.signature = signature
        self.values = values
    }
}

/// What a verifier asked for.
public struct QuoteExpectation: Sendable {
    public let key: QuoteKey
    /// The raw extraData.
    public let nonce: [UInt8]
    /// Fewer bytes than this are refused; 16 unless the evidence was recorded by others.
    public let minimumNonceSize: Int
    public let selection: PCRSelection
    /// `nil` when it is not known where the key lives.
    public let qualifiedSigner: TPMName?

    public init(
        key: QuoteKey, nonce: [UInt8], minimumNonceSize: Int, selection: PCRSelection,
        qualifiedSigner: TPMName?
    ) {
        self.key = key
        self.nonce = nonce
        self.minimumNonceSize = minimumNonceSize
        self.selection = selection
        self.qualifiedSigner = qualifiedSigner
    }
}

/// Proof that a quote passed every check.
public struct VerifiedQuote: Sendable, Hashable {
    /// What the TPM signed.
    public let attestation: Attestation
    /// The values, now proved by the digest.
    public let values: PCRValues

    /// Made by ``QuoteAppraisal`` alone.
    fileprivate init(attestation: Attestation, values: PCRValues) {
        self.attestation = attestation
        self.values = values
    }
}

/// The verdict on a quote: every check with its outcome.
public struct QuoteAppraisal: Sendable {
    /// One result for each check, in the order of ``QuoteCheck``.
    public let results: [CheckResult<QuoteCheck>]
    /// The proof, when no check failed.
    public let verified: VerifiedQuote?

    /// Checks a quote.
    ///
    /// All reasons are collected; a check that cannot run because something before it failed is a
    /// failure.
    public init(_ quote: UnverifiedQuote, expecting expectation: QuoteExpectation) {
        let checker = Checker(quote, expectation)
        // Every check that exists is asked for; one that is added must be written, or the switch
        // does not compile.
        results = QuoteCheck.allCases.map { check in
            switch checker.run(check) {
            case .passed: CheckResult(check: check, outcome: .passed, reason: "")
            case .failed(let reason): CheckResult(check: check, outcome: .failed, reason: reason)
            case .notApplicable(let reason):
                CheckResult(check: check, outcome: .notApplicable, reason: reason)
            }
        }
        if let attestation = checker.attestation,
            results.allSatisfy({ $0.outcome != .failed })
        {
            verified = VerifiedQuote(attestation: attestation, values: quote.values)
        } else {
            verified = nil
        }
    }
}

/// The checks, each for itself.
private struct Checker {
    enum Outcome {
        case passed
        case failed(String)
        case notApplicable(String)
    }

    let quote: UnverifiedQuote
    let expectation: QuoteExpectation
    /// Parsed for the checks; believed when the signature holds.
    let attestation: Attestation?
    let signature: Signature?
    private let problem: String

    init(_ quote: UnverifiedQuote, _ expectation: QuoteExpectation) {
        self.quote = quote
        self.expectation = expectation
        var problem = ""
        do throws(WireError) {
            guard quote.attestation.count <= Attestation.maximumSize else {
                throw .tooLong(
                    field: "attest", length: quote.attestation.count,
                    maximum: Attestation.maximumSize)
            }
            attestation = try Attestation(wireBytes: quote.attestation)
        } catch {
            attestation = nil
            problem = "the attestation: \(error)"
        }
        do throws(WireError) {
            guard quote.signature.count <= Signature.maximumSize else {
                throw .tooLong(
                    field: "signature", length: quote.signature.count,
                    maximum: Signature.maximumSize)
            }
            signature = try Signature(wireBytes: quote.signature)
        } catch {
            signature = nil
            problem += problem.isEmpty ? "the signature: \(error)" : "; the signature: \(error)"
        }
        self.problem = problem
    }

    private static let unreadable = Outcome.failed("the structure cannot be read")

    func run(_ check: QuoteCheck) -> Outcome {
        switch check {
        case .wellFormed: problem.isEmpty ? .passed : .failed(problem)
        case .magic: magic()
        case .type: type()
        case .keyAttributes: keyAttributes()
        case .signatureScheme: signatureScheme()
        case .signature: signatureIsGenuine()
        case .nonceSize: nonceSize()
        case .nonce: nonce()
        case .selection: selection()
        case .bootPCRs: bootPCRs()
        case .valuesExact: valuesExact()
        case .pcrDigest: pcrDigest()
        case .measured: measured()
        case .qualifiedSigner: qualifiedSigner()
        }
    }

    private func magic() -> Outcome {
        var reader = WireReader(quote.attestation)
        guard let magic = try? reader.uint32() else { return Self.unreadable }
        return magic == Attestation.magic
            ? .passed : .failed("no TPM generated this structure: it begins with another value")
    }

    private func type() -> Outcome {
        var reader = WireReader(quote.attestation)
        guard (try? reader.uint32()) != nil, let type = try? reader.uint16() else {
            return Self.unreadable
        }
        return type == 0x8018
            ? .passed : .failed("the attestation is of type 0x\(String(type, radix: 16)), no quote")
    }

    private func keyAttributes() -> Outcome {
        guard case .publicArea(let area) = expectation.key else {
            return .notApplicable("a bare key has no attributes: nothing says that it is in a TPM")
        }
        let needed: [(ObjectAttributes, String)] = [
            (.fixedTPM, "fixedTPM"), (.fixedParent, "fixedParent"),
            (.sensitiveDataOrigin, "sensitiveDataOrigin"), (.restricted, "restricted"),
            (.sign, "sign"),
        ]
        for (attribute, name) in needed where !area.attributes.contains(attribute) {
            return .failed("the key lacks the attribute \(name)")
        }
        guard !area.attributes.contains(.decrypt) else { return .failed("the key decrypts") }
        guard area.nameAlgorithm != .sha1 else { return .failed("the key's Name is of SHA-1") }
        return .passed
    }

    private func signatureScheme() -> Outcome {
        guard let signature else { return Self.unreadable }
        let expected: AsymmetricScheme
        switch expectation.key {
        case .bare(let key): expected = .ecdsa(key.curve.naturalHash)
        case .publicArea(let area):
            switch area.kind {
            case .ecc(_, let scheme, _, _, _): expected = scheme
            case .rsa: return .failed("RSA keys are not supported yet")
            case .keyedHash: return .failed("the key is no signing key")
            }
        }
        guard case .ecdsa(let hash) = expected, hash != .sha1 else {
            return .failed("the key has no scheme that is accepted")
        }
        return signature.scheme == expected
            ? .passed : .failed("the signature has another scheme than the key")
    }

    private var key: ECPublicKey? {
        switch expectation.key {
        case .bare(let key): key
        case .publicArea(let area): try? area.ecPublicKey()
        }
    }

    private func signatureIsGenuine() -> Outcome {
        guard case .ecdsa(let hash, let r, let s)? = signature else { return Self.unreadable }
        guard let key else { return .failed("the key is not a point on a curve") }
        do throws(KeyError) {
            // The bytes as they came: never a structure that was encoded again.
            try key.verifyECDSA(r: r, s: s, over: quote.attestation, hash: hash)
            return .passed
        } catch {
            return .failed("the signature is not the key's over these bytes")
        }
    }

    private func nonceSize() -> Outcome {
        let size = expectation.nonce.count
        guard size >= max(1, expectation.minimumNonceSize) else {
            return .failed(
                "the nonce has \(size) bytes, \(expectation.minimumNonceSize) are needed")
        }
        return size <= 32 ? .passed : .failed("the nonce has \(size) bytes, more than 32")
    }

    private func nonce() -> Outcome {
        guard let attestation else { return Self.unreadable }
        guard !expectation.nonce.isEmpty else { return .failed("no nonce was asked for") }
        return constantTimeEqual(attestation.extraData, expectation.nonce)
            ? .passed : .failed("the quote answers another nonce: it may be an old one")
    }

    private var quoted: (selection: PCRSelection, digest: [UInt8])? {
        guard case .quote(let selection, let digest)? = attestation?.attested else { return nil }
        return (selection, digest)
    }

    private func selection() -> Outcome {
        guard let quoted else { return Self.unreadable }
        guard !quoted.selection.isEmpty else { return .failed("the quote is over no PCR at all") }
        let hashes = quoted.selection.banks.map(\.hash)
        guard Set(hashes).count == hashes.count else { return .failed("a bank stands twice") }
        guard !hashes.contains(.sha1) else {
            return .failed("a SHA-1 bank proves nothing: ask for the SHA-256 bank")
        }
        // Bitmaps of another length select the same PCRs.
        let asked = expectation.selection.banks.map { Pair($0.hash, $0.indexes) }
        let signed = quoted.selection.banks.map { Pair($0.hash, $0.indexes) }
        guard asked == signed else {
            return .failed(
                "the quote is over \(quoted.selection.text), asked for was \(expectation.selection.text)"
            )
        }
        let beyond = quoted.selection.banks.contains { bank in
            bank.bitmap.dropFirst(3).contains { $0 != 0 }
        }
        return beyond ? .failed("the quote selects a PCR above 23") : .passed
    }

    private struct Pair: Equatable {
        let hash: HashAlgorithm
        let indexes: [PCRIndex]
        init(_ hash: HashAlgorithm, _ indexes: [PCRIndex]) {
            self.hash = hash
            self.indexes = indexes
        }
    }

    private func bootPCRs() -> Outcome {
        guard let quoted else { return Self.unreadable }
        let selected = quoted.selection.banks.flatMap(\.indexes)
        return selected.contains { $0.rawValue < 16 }
            ? .passed
            : .failed("only PCRs that can be reset without a reboot are quoted: 16 to 23")
    }

    private func valuesExact() -> Outcome {
        guard let quoted else { return Self.unreadable }
        let wanted = Set(
            quoted.selection.banks.flatMap { bank in
                bank.indexes.map { PCRValues.Register(bank.hash, $0) }
            })
        let given = Set(quote.values.values.keys)
        if let missing = wanted.subtracting(given).min() {
            return .failed(
                "the value of PCR \(missing.index.rawValue) in bank \(missing.hash.name) is missing"
            )
        }
        if let extra = given.subtracting(wanted).min() {
            return .failed(
                "PCR \(extra.index.rawValue) in bank \(extra.hash.name) has a value and is not quoted"
            )
        }
        return .passed
    }

    private func pcrDigest() -> Outcome {
        guard let quoted, case .ecdsa(let hash, _, _)? = signature else { return Self.unreadable }
        guard let digest = quote.values.digest(of: quoted.selection, hash: hash) else {
            return .failed("a selected value is missing")
        }
        return constantTimeEqual(digest, quoted.digest)
            ? .passed : .failed("the values are not those that the TPM signed")
    }

    private func measured() -> Outcome {
        guard let quoted else { return Self.unreadable }
        for bank in quoted.selection.banks {
            for index in bank.indexes where PCRIndex.firmware.contains(index) {
                let value = quote.values[bank.hash, index]
                guard value != index.resetValue(digestSize: bank.hash.digestSize) else {
                    return .failed(
                        "PCR \(index.rawValue) in bank \(bank.hash.name) was never extended: anyone could"
                    )
                }
            }
        }
        return .passed
    }

    private func qualifiedSigner() -> Outcome {
        guard let attestation else { return Self.unreadable }
        guard let expected = expectation.qualifiedSigner else {
            return .notApplicable("it is not known below which parent the key lives")
        }
        return attestation.qualifiedSigner == expected
            ? .passed : .failed("the signer is another key, or lives in another hierarchy")
    }
}
