/// Every check that an endorsement key certificate must pass; the list is closed.
///
/// A verdict has a result for each of them. docs/spec/verification.md says what each one is for.
public enum EndorsementCheck: String, Sendable, Hashable, CaseIterable {
    /// One certificate, with nothing but erased NV behind it.
    case wellFormed = "well-formed"
    /// Version 3, and no critical extension that is not understood.
    case criticalExtensions = "critical-extensions"
    /// The certificate is valid at the given date.
    case validity
    /// It is that of an endorsement key: 2.23.133.8.1.
    case extendedKeyUsage = "extended-key-usage"
    /// The key decrypts or agrees on keys, and signs no certificates.
    case keyUsage = "key-usage"
    /// It is not that of an authority.
    case notAnAuthority = "not-an-authority"
    /// It names manufacturer, model and version of the TPM.
    case tpmNames = "tpm-names"
    /// The key is of a kind that Holdfast uses.
    case keySupported = "key-supported"
    /// The key is none of those that can be factored: CVE-2017-15361.
    case keyNotFactorable = "key-not-factorable"
    /// A known issuer has signed it, over the bytes as received.
    case issuerSignature = "issuer-signature"
    /// That issuer leads to a root that is trusted: RFC 5280.
    case issuerPath = "issuer-path"
}
