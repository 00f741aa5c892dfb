/// The two kinds of token that Holdfast accepts; the value is the header of the text.
///
/// PASETO, version 4.
public enum PASETOPurpose: String, Sendable, Hashable, CaseIterable {
    /// Signed with Ed25519, readable by everyone.
    case v4Public = "v4.public."
    /// Encrypted with XChaCha20 and authenticated with keyed BLAKE2b.
    case v4Local = "v4.local."

    /// The least bytes of a body: a signature, or nonce and tag.
    var minimumBodySize: Int { 64 }
}
