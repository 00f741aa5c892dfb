public import FoundationEssentials
import HoldfastCrypto
public import HoldfastTPMWire
import SwiftASN1
@_spi(FixedExpiryValidationTime) import X509

/// Proof that a TPM maker vouches for an endorsement key.
public struct VerifiedEndorsement: Sendable, Hashable {
    /// The certified key.
    public let key: VerificationKey
    /// From the certificate, for example `id:49465800`.
    public let manufacturer: String
    public let model: String
    public let version: String
    /// SHA-256 of the certificate as received, without padding.
    public let fingerprint: [UInt8]

    /// Made by ``EndorsementAppraisal`` alone.
    fileprivate init(_ read: ReadCertificate, key: VerificationKey, names: TPMNames) {
        self.key = key
        manufacturer = names.manufacturer
        model = names.model
        version = names.version
        fingerprint = HashAlgorithm.sha256.digest(read.loose.bytes)
    }

    /// Demands that a public area is this key with one of the TCG's templates.
    ///
    /// - Returns: the kind of endorsement key, for example `ecc-p384`.
    /// - Throws: `.keyMismatch` for another key, `.templateMismatch` for other attributes, another
    ///   policy or another cipher.
    ///
    /// TCG EK Credential Profile 2.5, annex B.
    public func demand(_ area: PublicArea) throws(EndorsementError) -> String {
        guard let stated = try? VerificationKey(area), stated == key else { throw .keyMismatch }
        guard let kind = EndorsementKeyKind(area) else { throw .templateMismatch }
        return kind.rawValue
    }
}

/// The verdict on an endorsement key certificate: every check with its outcome.
public struct EndorsementAppraisal: Sendable {
    /// One result for each check, in the order of ``EndorsementCheck``.
    public let results: [CheckResult<EndorsementCheck>]
    /// The proof, when no check failed.
    public let verified: VerifiedEndorsement?

    fileprivate init(_ read: ReadCertificate?, _ date: Date, _ issuer: IssuerSearch) {
        let checker = EndorsementChecker(read: read, date: date, issuer: issuer)
        // Every check that exists is asked for; one that is added must be written, or the switch
        // does not compile.
        results = EndorsementCheck.allCases.map { check in
            let reason = checker.fault(check)
            return CheckResult(
                check: check, outcome: reason == nil ? .passed : .failed, reason: reason ?? "")
        }
        if let read, let key = read.key, let names = read.tpmNames,
            results.allSatisfy({ $0.outcome == .passed })
        {
            verified = VerifiedEndorsement(read, key: key, names: names)
        } else {
            verified = nil
        }
    }
}

/// Verifies endorsement key certificates against TPM makers that an operator trusts.
///
/// RFC 5280, section 6; TCG EK Credential Profile 2.5, section 3. Revocation is not looked at.
public struct EndorsementPathVerifier: Sendable {
    private let roots: [Certificate]
    private let intermediates: [Certificate]
    /// How many of the given files hold no certificate that can be read; they are left out.
    public let unreadableFiles: Int

    /// Takes the certificates of TPM makers.
    ///
    /// - Parameters:
    ///   - roots: certificates that are trusted, each file with one in DER or any number in PEM.
    ///     Those of authorities that are no roots end a path as well.
    ///   - intermediates: certificates that may stand in a path, likewise.
    /// - Throws: `.noRoots`; `.malformed` when there are files and none of them can be read.
    public init(roots: [[UInt8]], intermediates: [[UInt8]]) throws(EndorsementError) {
        guard !roots.isEmpty else { throw .noRoots }
        let readRoots = roots.map { ReadCertificate.all(in: $0) }
        let readIntermediates = intermediates.map { ReadCertificate.all(in: $0) }
        unreadableFiles = (readRoots + readIntermediates).count { $0 == nil }
        self.roots = readRoots.compactMap { $0 }.joined().map(\.certificate)
        self.intermediates = readIntermediates.compactMap { $0 }.joined().map(\.certificate)
        guard !self.roots.isEmpty else { throw .malformed }
    }

    /// Checks a certificate, and says of every check how it ended.
    ///
    /// - Parameters:
    ///   - bytes: PEM, or DER with padding behind it or without.
    ///   - chain: authorities in DER that the device brought, up to eight; nobody trusts them, they may
    ///     stand in between, and of those with one name and key the first.
    ///   - date: at which every certificate of the path must be valid.
    public func appraise(
        _ bytes: [UInt8], chain: [[UInt8]] = [], at date: Date
    ) async -> EndorsementAppraisal {
        let all = ReadCertificate.all(in: bytes) ?? []
        let read = all.count == 1 ? all.first : nil
        var search = IssuerSearch.notMade
        if let read {
            search = await self.search(read, intermediates + Self.distinct(chain), date)
        }
        return EndorsementAppraisal(read, date, search)
    }

    /// Verifies a certificate.
    ///
    /// - Parameters:
    ///   - bytes: PEM, or DER with padding behind it or without.
    ///   - chain: authorities in DER that the device brought.
    ///   - date: at which every certificate of the path must be valid.
    /// - Throws: `.malformed`, `.keyNotSupported`, `.pathInvalid` with every reason.
    public func verify(
        _ bytes: [UInt8], chain: [[UInt8]] = [], at date: Date
    ) async throws(EndorsementError) -> VerifiedEndorsement {
        let appraisal = await appraise(bytes, chain: chain, at: date)
        if let verified = appraisal.verified { return verified }
        let failed = appraisal.results.filter { $0.outcome != .passed }
        if failed.contains(where: { $0.check == .wellFormed }) { throw .malformed }
        if failed.map(\.check) == [.keySupported] { throw .keyNotSupported }
        throw .pathInvalid(failed.map(\.reason))
    }

    /// What a device brought, each authority once.
    ///
    /// The search tries every path. Of several certificates for one key, which differ in what anybody
    /// can write into them, there would be as many paths as orders.
    private static func distinct(_ chain: [[UInt8]]) -> [Certificate] {
        var known: [Certificate] = []
        for der in chain.prefix(maximumChain) {
            guard let one = ReadCertificate(der: der)?.certificate,
                !known.contains(where: {
                    $0.subject == one.subject && $0.publicKey == one.publicKey
                })
            else { continue }
            known.append(one)
        }
        return known
    }

    /// Looks for the issuer, verifies the signature over the received bytes, and the rest of the
    /// path by the rules of RFC 5280.
    private func search(
        _ read: ReadCertificate, _ intermediates: [Certificate], _ date: Date
    ) async -> IssuerSearch {
        let algorithm = read.certificate.signatureAlgorithm
        guard algorithm != .sha1WithRSAEncryption else { return .weak }
        let named = (roots + intermediates).filter { $0.subject == read.certificate.issuer }
        let signers = Set(
            named.filter { issuer in
                issuer.publicKey.isValidSignature(
                    read.loose.signature, for: read.loose.signedPart,
                    signatureAlgorithm: algorithm)
            })
        guard !signers.isEmpty else { return named.isEmpty ? .unknown : .forged }
        var reasons: [String] = []
        for issuer in signers {
            var verifier = Verifier(rootCertificates: CertificateStore(roots)) {
                IssuerPolicy(date: date)
                RFC5280Policy(fixedExpiryValidationTime: date)
            }
            let result = await verifier.validate(
                leaf: issuer, intermediates: CertificateStore(intermediates))
            switch result {
            case .validCertificate: return .trusted
            case .couldNotValidate(let failures):
                reasons += failures.map { String($0.policyFailureReason.description.prefix(200)) }
            }
        }
        let told = reasons.filter { !$0.isEmpty }
        return .untrusted(
            told.isEmpty
                ? "its issuer does not lead to a trusted root" : told.joined(separator: "; "))
    }
}

/// What came of looking for the issuer of a certificate.
private enum IssuerSearch {
    case notMade
    /// Signed with SHA-1.
    case weak
    /// Nobody of that name is known.
    case unknown
    /// Somebody of that name is known, and has not signed it.
    case forged
    /// Signed by a known issuer that does not lead to a trusted root.
    case untrusted(String)
    case trusted
}

/// The checks of an endorsement key certificate, each for itself.
private struct EndorsementChecker {
    let read: ReadCertificate?
    let date: Date
    let issuer: IssuerSearch

    private static let unreadable = "the certificate cannot be read"
    private static let understood = [
        ExtensionID.basicConstraints, ExtensionID.keyUsage, ExtensionID.extendedKeyUsage,
        ExtensionID.subjectAlternativeName, ExtensionID.certificatePolicies,
    ]

    /// Why a check fails; `nil` when it passes.
    func fault(_ check: EndorsementCheck) -> String? {
        guard let read else {
            return check == .wellFormed
                ? "the file is not one X.509 certificate that can be read" : Self.unreadable
        }
        switch check {
        case .wellFormed: return nil
        case .criticalExtensions: return critical(read.certificate)
        case .validity: return validity(read.certificate)
        case .extendedKeyUsage: return extendedKeyUsage(read.certificate)
        case .keyUsage: return keyUsage(read)
        case .notAnAuthority: return authority(read.certificate)
        case .tpmNames:
            return read.tpmNames == nil
                ? "the certificate does not name manufacturer, model and version of a TPM" : nil
        case .keySupported:
            return read.key == nil
                ? "the key is neither on P-256 or P-384 nor RSA of 2048, 3072 or 4096 bits" : nil
        case .keyNotFactorable:
            guard case .rsa(let key)? = read.key, key.isFactorable else { return nil }
            return "the key can be factored (CVE-2017-15361); update the TPM's firmware, make new "
                + "keys, and enroll again"
        case .issuerSignature: return signature()
        case .issuerPath: return path()
        }
    }

    private func critical(_ certificate: Certificate) -> String? {
        guard certificate.version == .v3 else { return "it is not of version 3" }
        let unknown = certificate.extensions.first { found in
            found.critical && !Self.understood.contains(found.oid)
        }
        return unknown.map { "the critical extension \($0.oid) is not understood" }
    }

    private func validity(_ certificate: Certificate) -> String? {
        guard certificate.notValidBefore <= date else { return "it is not valid yet" }
        return date <= certificate.notValidAfter ? nil : "it has expired"
    }

    private func extendedKeyUsage(_ certificate: Certificate) -> String? {
        guard let usages = try? certificate.extensions.extendedKeyUsage,
            usages.contains(where: { ASN1ObjectIdentifier($0) == ExtensionID.endorsementUsage })
        else { return "it is no endorsement key certificate" }
        return nil
    }

    /// A storage key on a curve agrees, one of RSA encrypts.
    ///
    /// TCG EK Credential Profile 2.5, "Key Usage".
    private func keyUsage(_ read: ReadCertificate) -> String? {
        guard let usage = try? read.certificate.extensions.keyUsage, !usage.keyCertSign,
            !usage.cRLSign
        else { return "its key usage is not that of a storage key" }
        let fits =
            switch read.key {
            case .ec: usage.keyAgreement
            case .rsa: usage.keyEncipherment
            // Another check says that the key is not supported.
            case nil: usage.keyAgreement || usage.keyEncipherment
            }
        return fits ? nil : "its key usage does not fit the kind of its key"
    }

    private func authority(_ certificate: Certificate) -> String? {
        do {
            if case .isCertificateAuthority? = try certificate.extensions.basicConstraints {
                return "the certificate is that of an authority"
            }
            return nil
        } catch {
            return "its basic constraints cannot be read"
        }
    }

    private func signature() -> String? {
        switch issuer {
        case .trusted, .untrusted: nil
        case .weak: "it is signed with SHA-1, which is not accepted"
        case .unknown: "no trusted certificate has signed it: its issuer is not known"
        case .forged: "no trusted certificate has signed it: the issuer's signature is not over it"
        case .notMade: Self.unreadable
        }
    }

    private func path() -> String? {
        switch issuer {
        case .trusted: nil
        case .untrusted(let reason): reason
        case .weak, .unknown, .forged, .notMade: "it has no issuer that could be followed to a root"
        }
    }
}
