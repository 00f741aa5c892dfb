import HoldfastCrypto
public import HoldfastTPMWire

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
    /// What the key must be but for its unique field: attributes, policy, scheme.
    ///
    /// `nil` when it is not known who made it.
    public var template: PublicArea?
    /// Registers that count as the state of the boot, every one of which must be quoted.
    ///
    /// `nil` when nobody names them: then one is enough.
    public var boot: PCRSelection?

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
    /// What is quoted, when it is a quote.
    private let quoted: Quoted?
    private let problem: String

    /// The signed selection beside the claimed values, which are looked up once.
    private struct Quoted {
        struct Bank {
            let hash: HashAlgorithm
            let indexes: [PCRIndex]
        }

        let selection: PCRSelection
        let digest: [UInt8]
        private(set) var banks: [Bank] = []
        /// How many PCRs are selected.
        private(set) var count = 0
        /// The first selected PCR without a value.
        private(set) var missing: PCRValues.Register?
        /// The first of PCR 0 to 7 that was not extended since the reset.
        private(set) var unextended: PCRValues.Register?
        /// The values in the order of the selection, PCRs ascending: Part 1, section 17.5.
        private(set) var joined: [UInt8] = []

        init(_ selection: PCRSelection, _ digest: [UInt8], _ values: PCRValues) {
            self.selection = selection
            self.digest = digest
            joined.reserveCapacity(values.values.count * 64)
            for bank in selection.banks {
                let indexes = bank.indexes
                count += indexes.count
                for index in indexes {
                    guard let value = values[bank.hash, index] else {
                        missing = missing ?? PCRValues.Register(bank.hash, index)
                        continue
                    }
                    if index.rawValue < 8, Self.isUnextended(value, index) {
                        unextended = unextended ?? PCRValues.Register(bank.hash, index)
                    }
                    joined += value
                }
                banks.append(Bank(hash: bank.hash, indexes: indexes))
            }
        }

        /// Zeros; PCR 0 starts with the locality of `TPM2_Startup` in its last octet, 3 or 4.
        private static func isUnextended(_ value: [UInt8], _ index: PCRIndex) -> Bool {
            guard value.first == 0, value.dropLast().allSatisfy({ $0 == 0 }) else { return false }
            return value.last == 0 || index.rawValue == 0 && [3, 4].contains(value.last)
        }
    }

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
        if case .quote(let selection, let digest)? = attestation?.attested {
            quoted = Quoted(selection, digest, quote.values)
        } else {
            quoted = nil
        }
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
        guard let area = expectation.key.publicArea else {
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
        guard area.attributes.isDisjoint(with: .reserved) else {
            return .failed("the key has a reserved attribute, which no TPM sets")
        }
        // A key that is fixed to its TPM is never duplicated, in whatever way.
        guard !area.attributes.contains(.encryptedDuplication) else {
            return .failed("the key is fixed to its TPM and to be duplicated encrypted")
        }
        guard area.symmetric == SymmetricDefinition.none else {
            return .failed("the key has a symmetric cipher, as storage keys have")
        }
        guard area.nameAlgorithm != .sha1 else { return .failed("the key's Name is of SHA-1") }
        // Nobody could have used it: what signed is another key than this area says.
        guard area.attributes.contains(.userWithAuth) || !area.authPolicy.isEmpty else {
            return .failed("the key has neither userWithAuth nor a policy: nobody can use it")
        }
        // Who may use it and who may certify it, bit by bit.
        if let template = expectation.template, area.withoutUnique != template.withoutUnique {
            return .failed("the key does not have the template that it was enrolled with")
        }
        return .passed
    }

    private func signatureScheme() -> Outcome {
        guard let signature else { return Self.unreadable }
        guard let expected = expectation.key.scheme(of: signature) else {
            return .failed("the key has no scheme that is accepted")
        }
        guard expected.signingHash ?? .sha1 != .sha1 else {
            return .failed("the key signs with SHA-1, which is not accepted")
        }
        return signature.scheme == expected
            ? .passed : .failed("the signature has another scheme than the key")
    }

    private func signatureIsGenuine() -> Outcome {
        guard let signature else { return Self.unreadable }
        guard let key = expectation.key.parsed else {
            return .failed("the key is not a point on a curve, or no RSA key that is accepted")
        }
        if expectation.key.isFactorable {
            return .failed("the key can be factored, so anyone may have signed (CVE-2017-15361)")
        }
        do throws(KeyError) {
            // The bytes as they came: never a structure that was encoded again.
            try key.verify(signature, over: quote.attestation)
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

    private func selection() -> Outcome {
        guard let quoted else { return Self.unreadable }
        guard quoted.count > 0 else { return .failed("the quote is over no PCR at all") }
        for (place, bank) in quoted.banks.enumerated() {
            guard !quoted.banks[..<place].contains(where: { $0.hash == bank.hash }) else {
                return .failed("a bank stands twice")
            }
            guard bank.hash != .sha1 else {
                return .failed("a SHA-1 bank proves nothing: ask for the SHA-256 bank")
            }
        }
        // Bitmaps of another length select the same PCRs.
        let asked = expectation.selection.banks
        guard
            asked.elementsEqual(
                quoted.banks, by: { $0.hash == $1.hash && $0.indexes == $1.indexes })
        else {
            return .failed(
                "the quote is over \(quoted.selection.text), asked for was \(expectation.selection.text)"
            )
        }
        let beyond = quoted.selection.banks.contains { bank in
            bank.bitmap.dropFirst(3).contains { $0 != 0 }
        }
        return beyond ? .failed("the quote selects a PCR above 23") : .passed
    }

    private func bootPCRs() -> Outcome {
        guard let quoted else { return Self.unreadable }
        for bank in expectation.boot?.banks ?? [] {
            for index in bank.indexes {
                let name = "PCR \(index.rawValue) in bank \(bank.hash.name)"
                guard index.rawValue < 16 else {
                    return .failed("\(name) can be reset without a reboot: it is no boot state")
                }
                guard
                    quoted.banks.contains(where: {
                        $0.hash == bank.hash && $0.indexes.contains(index)
                    })
                else { return .failed("\(name) counts as boot state and is not quoted") }
            }
        }
        return quoted.banks.contains { $0.indexes.contains { $0.rawValue < 16 } }
            ? .passed
            : .failed("only PCRs that can be reset without a reboot are quoted: 16 to 23")
    }

    private func valuesExact() -> Outcome {
        guard let quoted else { return Self.unreadable }
        if let missing = quoted.missing {
            return .failed(
                "the value of PCR \(missing.index.rawValue) in bank \(missing.hash.name) is missing"
            )
        }
        guard quote.values.values.count != quoted.count else { return .passed }
        let extra = quote.values.values.keys.filter { register in
            !quoted.banks.contains { bank in
                bank.hash == register.hash && bank.indexes.contains(register.index)
            }
        }.min()
        guard let extra else { return .passed }
        return .failed(
            "PCR \(extra.index.rawValue) in bank \(extra.hash.name) has a value and is not quoted")
    }

    private func pcrDigest() -> Outcome {
        guard let quoted, let hash = signature?.scheme.signingHash else {
            return Self.unreadable
        }
        guard quoted.missing == nil else { return .failed("a selected value is missing") }
        return constantTimeEqual(hash.digest(quoted.joined), quoted.digest)
            ? .passed : .failed("the values are not those that the TPM signed")
    }

    private func measured() -> Outcome {
        guard let quoted else { return Self.unreadable }
        guard let pcr = quoted.unextended else { return .passed }
        return .failed(
            "PCR \(pcr.index.rawValue) in bank \(pcr.hash.name) was never extended: anyone could")
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
