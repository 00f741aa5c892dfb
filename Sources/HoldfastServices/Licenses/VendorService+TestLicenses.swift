import HoldfastCrypto
public import HoldfastProtocol

extension VendorService {
    /// Makes a license for machines without a TPM, for whoever has the file.
    ///
    /// - Parameters:
    ///   - id: of terms of class `test`.
    ///   - endsAt: UTC seconds.
    /// - Returns: the file.
    public func makeTestLicense(
        product: String, entitlements: [License.Entitlement], terms id: String, endsAt: UInt64
    ) throws -> (license: LicenseID, bytes: [UInt8]) {
        try demandGrant(product, entitlements)
        guard endsAt > now() else { throw ServiceError.licenseOver }
        return try store.write { transaction in
            guard let text = try transaction.terms(id) else { throw ServiceError.unknownTerms(id) }
            let token = try PASETOToken(parsing: presentlySigned(terms: text))
            let terms = try Terms(verifying: token, issuers: trust.issuerKeys)
            guard terms.licenseClass == .test else {
                throw ServiceError.badArgument(
                    "the terms `\(id)` are of class production; a test license needs terms of class test"
                )
            }
            let license = TestLicense(
                id: LicenseID(random: random), product: product, entitlements: entitlements,
                termsHash: HashAlgorithm.sha256.digest(LicenseDocument.section(terms: token)),
                endsAt: endsAt, issuedAt: now())
            let signed = try ring.withIssuerKey(keys, trust) { try license.signed(with: $0) }
            try audit("license.test", license.id, product, transaction)
            return (license.id, try TestLicenseDocument.encoded(license: signed, terms: token))
        }
    }
}
