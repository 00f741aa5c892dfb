/// The closed list of contexts in which Holdfast hashes.
///
/// A digest made in one context says nothing in another.
public enum HashLabel: String, Sendable, Hashable, CaseIterable {
    /// A vendor id, over the root public key.
    case vendor
    /// The unique field of an object template.
    case template
    /// A pairwise id, over the Name of an attestation key.
    case pairwise
    /// The recipient tag in a token's footer.
    case recipient
    /// The implicit assertion that binds a token to a device.
    case deviceBinding = "device-binding"
    /// The extra data of a protocol quote.
    case evidence
    /// The qualifying data of certifications in an enrolment request.
    case request
    /// The policy reference of an approval.
    case policyReference = "policy-ref"
    /// The qualifying data of a ledger checkpoint.
    case checkpoint
    /// What Argon2id makes the id of a hardware component from.
    case hardwareFact = "hardware-fact"
}
