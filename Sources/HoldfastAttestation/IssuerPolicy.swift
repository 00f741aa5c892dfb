import FoundationEssentials
import SwiftASN1
import X509

/// What every authority between an endorsement key certificate and a root must be.
///
/// The first certificate of a chain is the one that signed the endorsement key certificate, the
/// last is trusted. `RFC5280Policy` neither looks at key usage nor holds version 1 against an
/// intermediate, and takes the first of a chain for an end entity; so the rules stand here.
///
/// RFC 5280, section 6.1.4, with any policy acceptable: then certificatePolicies cannot fail as
/// long as nobody demands a policy, and policyConstraints, being critical, are refused as unknown.
struct IssuerPolicy: VerifierPolicy {
    let date: Date

    let verifyingCriticalExtensions = [
        ExtensionID.basicConstraints, ExtensionID.keyUsage, ExtensionID.extendedKeyUsage,
        ExtensionID.subjectAlternativeName, ExtensionID.certificatePolicies,
    ]

    func chainMeetsPolicyRequirements(
        chain: UnverifiedCertificateChain
    ) async -> PolicyEvaluationResult {
        let authorities = Array(chain)
        var below = 0
        for (place, authority) in authorities.enumerated() {
            let isAnchor = place == authorities.count - 1
            if let reason = fault(of: authority, intermediatesBelow: below, isAnchor: isAnchor) {
                let name = authority.subject.description
                return .failsToMeetPolicy(reason: "the authority `\(name)` \(reason)")
            }
            if authority.issuer != authority.subject { below += 1 }
        }
        return .meetsPolicy
    }

    private func fault(
        of authority: Certificate, intermediatesBelow below: Int, isAnchor: Bool
    ) -> String? {
        guard authority.notValidBefore <= date, date <= authority.notValidAfter else {
            return "is not valid at the given date"
        }
        if !isAnchor, authority.signatureAlgorithm == .sha1WithRSAEncryption {
            return "is vouched for with SHA-1 only"
        }
        // An old root may have no extensions at all; it is trusted because the operator says so.
        if isAnchor, authority.version == .v1 { return nil }
        do {
            guard
                case .isCertificateAuthority(let maximum)? =
                    try authority.extensions.basicConstraints
            else { return "is no authority" }
            if let maximum, below > maximum { return "may not have that many authorities below it" }
            if let usage = try authority.extensions.keyUsage, !usage.keyCertSign {
                return "may not sign certificates"
            }
            if let usages = try authority.extensions.extendedKeyUsage {
                let allowed = usages.map { ASN1ObjectIdentifier($0) }
                guard
                    allowed.contains(ExtensionID.endorsementUsage)
                        || allowed.contains(ExtensionID.anyUsage)
                else { return "may not vouch for endorsement keys" }
            }
            guard authority.extensions[oid: ExtensionID.nameConstraints] == nil else {
                return "constrains names, which is not supported"
            }
            return nil
        } catch {
            return "has an extension that cannot be read"
        }
    }
}
