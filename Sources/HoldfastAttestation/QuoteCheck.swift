/// Every check that a quote must pass; the list is closed.
///
/// A verdict has a result for each of them. docs/spec/verification.md says what each one is for.
public enum QuoteCheck: String, Sendable, Hashable, CaseIterable {
    /// The structures are whole, with nothing behind them, and every value in them is known.
    case wellFormed = "well-formed"
    /// `TPM_GENERATED_VALUE`: no software made the structure that a restricted key signed.
    case magic
    /// `TPM_ST_ATTEST_QUOTE` and nothing else.
    case type = "attest-type"
    /// The key can sign what its TPM made and nothing else, and cannot leave the TPM.
    case keyAttributes = "key-attributes"
    /// The scheme of the signature is the key's; SHA-1 is not accepted.
    case signatureScheme = "signature-scheme"
    /// The signature is over the bytes as they were received.
    case signature
    /// The nonce has a size that cannot be guessed and that every TPM takes.
    case nonceSize = "nonce-size"
    /// The nonce is the one that was asked for.
    case nonce
    /// Banks and PCRs are exactly those that were asked for.
    case selection
    /// PCRs that can be reset without a reboot say nothing of the boot.
    case bootPCRs = "boot-pcrs"
    /// A value for every selected PCR, and none for any other.
    case valuesExact = "pcr-values-exact"
    /// The signed digest is that of the values.
    case pcrDigest = "pcr-digest"
    /// PCR 0 to 7 were extended: an unused bank proves nothing.
    case measured = "pcrs-measured"
    /// The signer is the key in the hierarchy where it was enrolled.
    case qualifiedSigner = "qualified-signer"
}

/// How a check ended.
public enum CheckOutcome: String, Sendable, Hashable, Codable {
    case passed
    case failed
    /// What was given has nothing that could be checked; the reason says what.
    case notApplicable = "not-applicable"
    /// Something is not as it should be, and a policy accepts that.
    case flagged
}

/// A check with its outcome.
public struct CheckResult<Check: Sendable & Hashable>: Sendable, Hashable {
    public let check: Check
    public let outcome: CheckOutcome
    /// Why, for an operator; empty when it passed.
    public let reason: String
}
