import HoldfastProtocol

extension VendorService {
    /// Ends a license: no lease of it is issued any more, and the next reply tells the device to raise
    /// its epoch, after which none that it has opens again.
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
                    license.ending = .revoked
                    try transaction.update(license)
                    try audit("license.revoke", id, record.device, transaction)
                    return record
                }
            }
            throw ServiceError.badArgument("there is no license `\(text)`")
        }
    }

    /// The epoch of new leases, and the one that the reply tells the device to reach.
    ///
    /// Nothing that stays goes dark: the device is told to raise its epoch only when every license
    /// that stays gets a lease of the next one in the same reply.
    func epochs(
        _ appraisal: AppraisalRecord?, _ record: EnrollmentRecord, _ licenses: [LicenseRecord],
        _ new: LicenseRecord?, _ transaction: any VendorStoreReading
    ) throws -> (epoch: UInt64, target: UInt64?) {
        guard let appraisal else { return (0, nil) }
        let all = try transaction.licenses(of: record.id)
        let last = try all.compactMap { try transaction.leases(of: $0.id, limit: 1).first }
        // An earlier reply to this evidence may have told it already.
        let told = last.filter { $0.appraisal == appraisal.id }.map(\.epoch).max()
        let present = max(appraisal.epoch, told ?? 0)
        guard new == nil, present == appraisal.epoch, record.state == .approved else {
            return (present, nil)
        }
        let ended = Set(all.filter { $0.ending != nil }.map(\.id))
        guard last.contains(where: { ended.contains($0.license) && $0.epoch >= present }) else {
            return (present, nil)
        }
        for license in licenses where license.endsAt > now() {
            guard try hasApproval(for: license.product, appraisal, record, transaction) else {
                return (present, nil)
            }
        }
        return (present + 1, present + 1)
    }

    /// Reads something, so that a store that does not answer is noticed.
    public func demandStore() throws { _ = try store.read { try $0.audit(limit: 1) } }
}
