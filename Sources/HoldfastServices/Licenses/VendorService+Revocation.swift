import HoldfastProtocol

extension VendorService {
    /// Ends a license: no lease of it is issued any more.
    ///
    /// Without the device's help its last lease runs until its end on the TPM's clock.
    ///
    /// - Parameter text: `lic_…`.
    public func revoke(license text: String) throws -> EnrollmentRecord {
        guard let id = LicenseID(parsing: text) else {
            throw ServiceError.badArgument("`\(text)` is not the id of a license")
        }
        return try store.write { transaction in
            for record in try transaction.enrollments() {
                for var license in try transaction.licenses(of: record.id) where license.id == id {
                    license.isEnded = true
                    try transaction.update(license)
                    try audit("license.revoke", id, record.device, transaction)
                    return record
                }
            }
            throw ServiceError.badArgument("there is no license `\(text)`")
        }
    }

    /// Reads something, so that a store that does not answer is noticed.
    public func demandStore() throws { _ = try store.read { try $0.audit(limit: 1) } }
}
