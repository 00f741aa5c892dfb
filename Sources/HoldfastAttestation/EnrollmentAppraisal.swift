public import HoldfastProtocol
import HoldfastTPMWire

/// What an enrollment request must pass besides its endorsement key certificate.
///
/// The list is closed. docs/spec/verification.md, "Enrollment".
public enum EnrollmentCheck: String, Sendable, Hashable, CaseIterable {
    /// The request is for this vendor.
    case vendor
    /// The endorsement key is the certified one, with a template of the TCG.
    case endorsementKey = "endorsement-key"
    /// This kind of key counts for this model of TPM, or this very key is in the inventory.
    case hardwareAllowed = "hardware-allowed"
    /// The attestation key has the template, bit by bit.
    case attestationKey = "attestation-key"
    /// The lease parent has the template: no rewrapping.
    case leaseParentTemplate = "lease-parent-template"
    /// It is in the TPM of the attestation key, in the owner hierarchy.
    case leaseParent = "lease-parent"
    /// Both counters have the template, at the places that belong together.
    case counterTemplates = "counter-templates"
    case epochCounter = "epoch-counter"
    case ledgerCounter = "ledger-counter"
}

/// A request of which everything was checked that can be checked without the device.
public struct VerifiedRequest: Sendable, Hashable {
    public let request: EnrollmentRequest
    public let endorsement: VerifiedEndorsement
    /// For example `ecc-p384`.
    public let endorsementKeyKind: String
    /// Ids of the checks that passed.
    public let checks: [String]

    fileprivate init(
        request: EnrollmentRequest, endorsement: VerifiedEndorsement, endorsementKeyKind: String,
        checks: [String]
    ) {
        self.request = request
        self.endorsement = endorsement
        self.endorsementKeyKind = endorsementKeyKind
        self.checks = checks
    }
}

/// The verdict on an enrollment request.
///
/// That the TPM of the endorsement key has the attestation key is not in it: only activation of a
/// credential shows that.
public struct EnrollmentAppraisal: Sendable {
    public let endorsement: EndorsementAppraisal
    /// One result for each check, in the order of ``EnrollmentCheck``.
    public let results: [CheckResult<EnrollmentCheck>]
    /// The proof, when no check failed.
    public let verified: VerifiedRequest?

    /// Appraises a request; all reasons are collected.
    ///
    /// - Parameters:
    ///   - endorsement: the verdict on the certificate in the request.
    ///   - trust: the vendor's rules.
    ///   - isInInventory: whether the operator listed this very endorsement key.
    public init(
        _ request: EnrollmentRequest, endorsement: EndorsementAppraisal, trust: TrustStatement,
        isInInventory: Bool
    ) {
        self.endorsement = endorsement
        let checker = EnrollmentChecker(
            keys: request.keys, certifications: request.certifications,
            endorsement: endorsement.verified, trust: trust, isInInventory: isInInventory)
        results = EnrollmentCheck.allCases.map { check in
            let reason = checker.fault(check)
            return CheckResult(
                check: check, outcome: reason == nil ? .passed : .failed, reason: reason ?? "")
        }
        if let certified = endorsement.verified, let kind = checker.kind,
            results.allSatisfy({ $0.outcome == .passed })
        {
            verified = VerifiedRequest(
                request: request, endorsement: certified, endorsementKeyKind: kind,
                checks: endorsement.results.map(\.check.rawValue)
                    + results.map(\.check.rawValue))
        } else {
            verified = nil
        }
    }
}

private struct EnrollmentChecker {
    let keys: EnrollmentRequest.Keys
    let certifications: EnrollmentRequest.Certifications
    let endorsement: VerifiedEndorsement?
    let trust: TrustStatement
    let isInInventory: Bool

    private static let noEndorsement = "the endorsement key certificate is not valid"

    var kind: String? { try? endorsement?.demand(keys.endorsementKey) }

    private var certifyingKey: CertifyingKey? { try? CertifyingKey(keys.attestationKey) }
    private var qualifyingData: [UInt8] { (try? keys.qualifyingData()) ?? [] }

    /// Why a check fails; `nil` when it passes.
    func fault(_ check: EnrollmentCheck) -> String? {
        switch check {
        case .vendor:
            keys.vendorID == trust.vendorID.bytes ? nil : "the request is for another vendor"
        case .endorsementKey: endorsementKey()
        case .hardwareAllowed: hardware()
        case .attestationKey:
            certifyingKey == nil ? "the attestation key does not have the template" : nil
        case .leaseParentTemplate:
            keys.leaseParent.withoutUnique == KeyTemplate.leaseParent(unique: []).withoutUnique
                && (try? keys.leaseParent.ecPublicKey()) != nil
                ? nil : "the lease parent does not have the template"
        case .leaseParent: leaseParent()
        case .counterTemplates: counterTemplates()
        case .epochCounter: counter(keys.epochCounter, certifications.epochCounter)
        case .ledgerCounter: counter(keys.ledgerCounter, certifications.ledgerCounter)
        }
    }

    private func endorsementKey() -> String? {
        guard let endorsement else { return Self.noEndorsement }
        do throws(EndorsementError) { _ = try endorsement.demand(keys.endorsementKey) } catch {
            return error.explanation
        }
        return nil
    }

    private func hardware() -> String? {
        guard let endorsement, let kind else { return Self.noEndorsement }
        let rule = TrustStatement.EndorsementKeyRule(
            manufacturer: endorsement.manufacturer, model: endorsement.model, kind: kind)
        if trust.endorsementKeys.contains(rule) || isInInventory { return nil }
        return
            "the trust file does not name \(kind) for \(rule.manufacturer) \(rule.model), and the key is not in the inventory"
    }

    private func leaseParent() -> String? {
        guard let certifyingKey else { return "there is no attestation key that could certify it" }
        do throws(CertificationError) {
            _ = try certifyingKey.verifyLeaseParent(
                certifications.leaseParent, is: keys.leaseParent, qualifyingData: qualifyingData)
        } catch {
            return "its certification is not valid: \(error)"
        }
        return nil
    }

    private func counterTemplates() -> String? {
        guard let slot = VendorSlot(epochCounter: keys.epochCounter.index),
            slot.ledgerCounter == keys.ledgerCounter.index
        else { return "the counters are not at places of ours" }
        for counter in [keys.epochCounter, keys.ledgerCounter]
        where counter != KeyTemplate.counter(at: counter.index).written {
            return "the index \(counter.index) is not a counter of ours"
        }
        return nil
    }

    private func counter(_ area: NVPublicArea, _ signed: SignedAttestation) -> String? {
        guard let certifyingKey else { return "there is no attestation key that could certify it" }
        // The Name is computed from the template, never from the device's word.
        do throws(CertificationError) {
            _ = try certifyingKey.verifyCounter(
                signed, is: KeyTemplate.counter(at: area.index).written,
                qualifyingData: qualifyingData)
        } catch {
            return "its certification is not valid: \(error)"
        }
        return nil
    }
}

extension Verdict {
    /// The verdict on an enrollment request: the checks of the certificate, then the others.
    public init(_ appraisal: EnrollmentAppraisal) {
        self = Verdict(appraisal.endorsement).and(
            Verdict(appraisal.results, isProved: appraisal.verified != nil))
    }
}
