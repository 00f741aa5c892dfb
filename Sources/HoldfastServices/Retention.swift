/// What a server forgot, by what it is.
public struct Forgotten: Sendable, Codable, Hashable {
    /// What operators and devices did.
    public var audit: Int
    /// Values and notes of evidence.
    public var appraisals: Int
    public var leases: Int
    /// Answers to files that a device might have brought again.
    public var replies: Int
    /// Heads of a ledger that a later one of the same era continues.
    public var settlements: Int
    public var nonces: Int
    /// Opaque ids of components of devices whose enrollment ended.
    public var hardware: Int

    public init(
        audit: Int, appraisals: Int, leases: Int, replies: Int, settlements: Int, nonces: Int,
        hardware: Int
    ) {
        self.audit = audit
        self.appraisals = appraisals
        self.leases = leases
        self.replies = replies
        self.settlements = settlements
        self.nonces = nonces
        self.hardware = hardware
    }

    public var total: Int {
        audit + appraisals + leases + replies + settlements + nonces + hardware
    }

    /// For people, in a line.
    public var text: String {
        "\(total) records: audit \(audit), appraisals \(appraisals), leases \(leases), replies \(replies), settlements \(settlements), nonces \(nonces), hardware \(hardware)"
    }
}

extension VendorService {
    /// The least age of what is forgotten, in seconds: a nonce of a response may be answered that long.
    public static let leastRetention = firstNonceLifetime

    /// Forgets what is older than a time and is not needed to go on.
    ///
    /// What stays whatever its age: enrollments, the newest evidence and the newest that passed, the
    /// last lease of each license, the head of each era of a ledger with its receipt, terms, approvals
    /// and policies. So totals, seats and what a device may do are what they were before.
    ///
    /// - Parameters:
    ///   - age: in seconds, ``leastRetention`` or more.
    ///   - isTrial: counts, and forgets nothing.
    /// - Throws: ``ServiceError/badArgument(_:)``.
    public func forget(olderThan age: UInt64, isTrial: Bool) throws -> Forgotten {
        guard age >= Self.leastRetention else {
            throw ServiceError.badArgument(
                "a device may answer a nonce for 400 days: what is younger is not forgotten")
        }
        let present = now()
        let limit = present > age ? present - age : 0
        do {
            let forgotten = try store.write { transaction in
                let forgotten = try transaction.forget(before: limit)
                if isTrial { throw Trial(forgotten: forgotten) }
                if forgotten.total > 0 {
                    try audit(
                        "records.forgotten", "server", "before \(limit): \(forgotten.text)",
                        transaction)
                }
                return forgotten
            }
            try store.scrub()
            return forgotten
        } catch let trial as Trial {
            return trial.forgotten
        }
    }

    /// Ends a transaction that only counts.
    private struct Trial: Error {
        let forgotten: Forgotten
    }
}
