public import HoldfastCrypto
public import HoldfastProtocol
import HoldfastTPMWire

/// A verdict for those who rely on the verifier: an EAT attestation result, signed.
///
/// A JSON Web Token with ES256; its trustworthiness vector says of a few aspects how far they are
/// to be trusted. What was not appraised has no entry. Nothing is affirmed without a policy, and nothing
/// of a key that may not be in a TPM.
///
/// draft-ietf-rats-ear; draft-ietf-rats-ar4si, "Specific Claims"; RFC 7515, RFC 7519.
public struct AttestationResult: Sendable {
    /// How far an attester is to be trusted, from best to worst.
    public enum Status: String, Sendable, Hashable, CaseIterable {
        case none, affirming, warning, contraindicated

        /// AR4SI, "Trustworthiness Tiers".
        init(tierOf value: UInt64) {
            switch value {
            case 2..<32: self = .affirming
            case 32..<96: self = .warning
            case 96..<128: self = .contraindicated
            default: self = .none
            }
        }

        private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }

        func worse(_ other: Status) -> Status { rank < other.rank ? other : self }
    }

    /// By aspect, for example `executables`.
    public let vector: [String: UInt64]
    public let status: Status
    private let checks: [String: String]
    private let nonce: [UInt8]
    private let attester: String
    private let policy: String?

    /// Sums a verdict up.
    ///
    /// - Parameters:
    ///   - verdict: over everything that was appraised.
    ///   - quote: whether it was proven.
    ///   - policy: with its verdict; `nil` when nobody demanded anything.
    ///   - nonce: that the quote answers.
    public init(
        _ verdict: Verdict, quote: QuoteAppraisal, policy: DemandedPolicy?, nonce: [UInt8]
    ) {
        var vector: [String: UInt64] = [:]
        if quote.verified == nil {
            for aspect in ["configuration", "executables", "hardware"] {
                vector[aspect] = Self.forged
            }
        } else if let policy {
            vector = Self.vector(policy)
            let isInTPM = quote.results.contains {
                $0.check == .keyAttributes && $0.outcome == .passed
            }
            if !isInTPM { vector = vector.filter { Status(tierOf: $0.value) != .affirming } }
        }
        self.vector = vector
        var status = vector.values.reduce(Status.none) { $0.worse(Status(tierOf: $1)) }
        if verdict.verdict != "valid" { status = status.worse(.contraindicated) }
        self.status = status
        checks = Dictionary(
            verdict.checks.map { ($0.id, $0.outcome.rawValue) }, uniquingKeysWith: { one, _ in one }
        )
        self.nonce = nonce
        attester = policy?.policy.model ?? "tpm"
        self.policy = policy.map { "\($0.policy.id):\($0.policy.version)" }
    }

    /// A policy and what came of it.
    public struct DemandedPolicy: Sendable {
        let policy: AppraisalPolicy
        let appraisal: PolicyAppraisal

        /// Pairs them.
        public init(_ policy: AppraisalPolicy, _ appraisal: PolicyAppraisal) {
            self.policy = policy
            self.appraisal = appraisal
        }
    }

    /// Cryptographic validation of the evidence has failed.
    private static let forged: UInt64 = 99

    /// The registers that hold what was started: boot loader and kernel, or with Secure Boot a unified
    /// kernel image.
    private static func knowsBoot(_ policy: AppraisalPolicy) -> Bool {
        policy.speaks(of: [PCRIndex.all[4]], onlyReferences: true)
            || policy.speaks(of: [PCRIndex.all[7], PCRIndex.all[11]], onlyReferences: true)
    }

    private static func vector(_ policy: DemandedPolicy) -> [String: UInt64] {
        var outcomes: [PolicyCheck: CheckOutcome] = [:]
        for result in policy.appraisal.results { outcomes[result.check] = result.outcome }
        func failed(_ checks: PolicyCheck...) -> Bool {
            checks.contains { outcomes[$0] == .failed }
        }
        let hasDrifted = failed(.registers, .references) || outcomes[.references] == .flagged
        var vector: [String: UInt64] = [:]
        // 96: unacceptable vulnerabilities; 36: elements are not available; 2: known and approved.
        vector["configuration"] =
            failed(.facts, .revoked, .authorities) ? 96 : hasDrifted ? 36 : 2
        // 33: something is not recognized; 3: approved during the boot; 2: and after it.
        if hasDrifted || failed(.measurements) {
            vector["executables"] = 33
        } else if knowsBoot(policy.policy) {
            let namesAll = outcomes[.measurements] == .passed && policy.appraisal.isListClosed
            vector["executables"] = namesAll ? 2 : 3
        }
        // The certificate of an endorsement key is no part of a quote, so hardware is never affirmed.
        if failed(.firmware) { vector["hardware"] = 97 }
        return vector
    }

    /// The token.
    ///
    /// - Parameters:
    ///   - key: on P-256, of the verifier.
    ///   - issuedAt: UTC seconds.
    /// - Throws: `.notOnCurve` for a key on another curve.
    public func token(
        signedBy key: ECPrivateKey, issuedAt: UInt64
    ) throws(KeyError) -> String {
        guard key.publicKey.curve == .p256 else { throw .notOnCurve }
        let claims = claims(issuedAt: issuedAt)
        let header = CanonicalJSON.object([
            "alg": .string("ES256"), "typ": .string("JWT"),
            "kid": .string(
                Base64URL.encode(
                    HashAlgorithm.sha256.digest(key.publicKey.subjectPublicKeyInfo))),
        ])
        let signed = Base64URL.encode(header.encoded) + "." + Base64URL.encode(claims)
        return signed + "." + Base64URL.encode(try key.signECDSA(Array(signed.utf8)))
    }

    /// What the token says, as JSON: for a log of whoever verified.
    ///
    /// - Parameter issuedAt: UTC seconds.
    public func claims(issuedAt: UInt64) -> [UInt8] {
        var appraisal: [String: CanonicalJSON] = [
            "ear.status": .string(status.rawValue),
            "holdfast.checks": .object(checks.mapValues { .string($0) }),
        ]
        if !vector.isEmpty {
            appraisal["ear.trustworthiness-vector"] = .object(vector.mapValues { .number($0) })
        }
        if let policy { appraisal["ear.appraisal-policy-id"] = .string("holdfast:" + policy) }
        return CanonicalJSON.object([
            "eat_profile": .string("tag:github.com,2023:veraison/ear"),
            "iat": .number(issuedAt), "eat_nonce": .string(Base64URL.encode(nonce)),
            "ear.verifier-id": .object([
                "build": .string("holdfast-server"), "developer": .string("Holdfast"),
            ]),
            "submods": .object([attester: .object(appraisal)]),
        ]).encoded
    }
}
