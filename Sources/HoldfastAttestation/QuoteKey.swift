public import HoldfastCrypto
public import HoldfastTPMWire

/// A public key that verifies what a TPM signs: on a curve, or RSA.
public enum VerificationKey: Sendable, Hashable {
    case ec(ECPublicKey)
    case rsa(RSAPublicKey)

    /// The key in a public area.
    ///
    /// - Throws: `.notOnCurve`, `.rsaKeyInvalid`; also for sealed data, which is no key.
    public init(_ area: PublicArea) throws(KeyError) {
        guard case .rsa(_, _, _, let exponent, let modulus) = area.kind else {
            self = .ec(try area.ecPublicKey())
            return
        }
        // Part 2, section 12.2.3.5: zero stands for the default exponent.
        self = .rsa(
            try RSAPublicKey(modulus: modulus, exponent: exponent == 0 ? 65_537 : exponent))
    }

    /// Checks a signature over bytes as received.
    ///
    /// - Throws: also when the signature is of another algorithm than the key.
    func verify(_ signature: Signature, over message: [UInt8]) throws(KeyError) {
        switch (self, signature) {
        case (.ec(let key), .ecdsa(let hash, let r, let s)):
            try key.verifyECDSA(r: r, s: s, over: message, hash: hash)
        case (.rsa(let key), .rsassa(let hash, let bytes)):
            try key.verify(bytes, over: message, hash: hash, padding: .pkcs1)
        case (.rsa(let key), .rsapss(let hash, let bytes)):
            try key.verify(bytes, over: message, hash: hash, padding: .pss)
        default: throw .signatureInvalid
        }
    }
}

/// The key that a quote should be signed with, parsed once for any number of quotes.
public struct QuoteKey: Sendable, Hashable {
    /// What the TPM says about the key; `nil` for a bare one.
    public let publicArea: PublicArea?
    /// `nil` when the area holds no key that can be used; each verdict then says so.
    let parsed: VerificationKey?
    /// CVE-2017-15361.
    ///
    /// It takes as long as half a verification, so it is found out once.
    let isFactorable: Bool

    private init(publicArea: PublicArea?, parsed: VerificationKey?) {
        self.publicArea = publicArea
        self.parsed = parsed
        if case .rsa(let key)? = parsed {
            isFactorable = key.isFactorable
        } else {
            isFactorable = false
        }
    }

    /// The public area: its attributes are checked with each quote.
    public static func publicArea(_ area: PublicArea) -> QuoteKey {
        QuoteKey(publicArea: area, parsed: try? VerificationKey(area))
    }

    /// A bare key, from a PEM file for example; attributes cannot be checked.
    public static func bare(_ key: ECPublicKey) -> QuoteKey {
        QuoteKey(publicArea: nil, parsed: .ec(key))
    }

    /// A bare RSA key.
    public static func bare(_ key: RSAPublicKey) -> QuoteKey {
        QuoteKey(publicArea: nil, parsed: .rsa(key))
    }

    /// The scheme that signatures of this key must have.
    ///
    /// A bare key does not say: on a curve it is ECDSA with the curve's own hash, and for RSA the
    /// padding that the signature names, with SHA-256.
    ///
    /// - Returns: `nil` when the key has no scheme that signs.
    func scheme(of signature: Signature) -> AsymmetricScheme? {
        guard let publicArea else {
            switch (parsed, signature) {
            case (.ec(let key), _): return .ecdsa(key.curve.naturalHash)
            case (.rsa, .rsapss): return .rsapss(.sha256)
            case (.rsa, _): return .rsassa(.sha256)
            case (nil, _): return nil
            }
        }
        switch publicArea.kind {
        case .ecc(_, .ecdsa(let hash), _, _, _): return .ecdsa(hash)
        case .rsa(_, .rsassa(let hash), _, _, _): return .rsassa(hash)
        case .rsa(_, .rsapss(let hash), _, _, _): return .rsapss(hash)
        default: return nil
        }
    }
}

extension AsymmetricScheme {
    /// The hash of a scheme that signs.
    var signingHash: HashAlgorithm? {
        switch self {
        case .ecdsa(let hash), .rsassa(let hash), .rsapss(let hash): hash
        default: nil
        }
    }
}

extension PublicArea {
    /// The cipher of a storage key; `nil` for sealed data.
    var symmetric: SymmetricDefinition? {
        switch kind {
        case .rsa(let symmetric, _, _, _, _), .ecc(let symmetric, _, _, _, _): symmetric
        case .keyedHash: nil
        }
    }
}
