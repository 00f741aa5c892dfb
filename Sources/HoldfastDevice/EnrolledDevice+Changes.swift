import HoldfastCrypto
public import HoldfastLicensing
import HoldfastProtocol
import HoldfastTPMWire

extension EnrolledDevice {
    /// What became different on this device, the newest first.
    ///
    /// - Parameter limit: how many, at most.
    public func changes(limit: Int) throws -> [LicenseChange] {
        guard state.hasLedger else { return [] }
        return try state.ledger(random: random).changes(limit: limit)
    }

    /// Writes down where licenses stand by now, when that is another state than was written last.
    ///
    /// A license passes its states by itself; whoever looks first notes it.
    ///
    /// - Returns: what was new; nothing while the ledger cannot be used.
    @discardableResult
    public func note(
        _ standings: [LicenseStanding], cause: String? = nil
    ) -> [LicenseChange] {
        guard state.hasLedger, let ledger = try? state.ledger(random: random),
            let at = try? lastServerTime()
        else { return [] }
        let changes = standings.compactMap { standing -> LicenseChange? in
            let id = standing.document.license.id.description
            let last = try? ledger.lastState(of: id)
            // Where everything has ended the lock says nothing more.
            let isOver = [.expired, .revoked, .retired].contains(standing.state)
            let isLocked = standing.mode == .locked && !isOver
            let present = standing.state.rawValue + (isLocked ? ", LOCKED" : "")
            guard last != present else { return nil }
            return LicenseChange(
                at: at, .stateChanged, id, old: last, new: present,
                cause: cause ?? standing.explanation.message)
        }
        record(changes)
        return changes
    }

    /// Writes changes down, where there is a place for them: a ledger that is lost or damaged keeps
    /// nobody from a license, or from giving one up.
    func record(_ changes: [LicenseChange]) {
        guard state.hasLedger, !changes.isEmpty else { return }
        try? state.ledger(random: random).append(changes)
    }

    /// What a reply announces that was not known before.
    func announcements(of reply: Reply, cause: String) throws -> [LicenseChange] {
        let kept = (try? state.announced(in: context)) ?? []
        let known = Set(kept.map(Self.key))
        return reply.announced.filter { !known.contains(Self.key($0)) }.map { one in
            LicenseChange(
                at: reply.header.serverAt, .termsAnnounced, one.migration.license.description,
                old: "\(one.migration.terms) \(one.migration.from)",
                new: "\(one.migration.terms) \(one.migration.to)", cause: cause)
        }
    }

    /// The same terms at the same time; each reply signs it anew.
    private static func key(_ one: AnnouncedTerms) -> String {
        "\(one.migration.license) \(one.migration.to) \(one.migration.notBefore)"
    }

    /// The changes that a receipt makes to what is settled.
    func changes(by receipt: Receipt, at: UInt64, cause: String) throws -> [LicenseChange] {
        let ledger = try state.ledger(random: random)
        let before = try lastReceipt()
        guard before?.sequence ?? 0 < receipt.sequence else { return [] }
        let names = try ledger.meters()
        func totals(_ receipt: Receipt?) -> [UInt32: UInt64] {
            var totals: [UInt32: UInt64] = [:]
            for entry in receipt?.totals.entries ?? [] {
                let (sum, overflow) = totals[entry.meter, default: 0]
                    .addingReportingOverflow(entry.total)
                totals[entry.meter] = overflow ? .max : sum
            }
            return totals
        }
        let old = totals(before?.era == receipt.era ? before : nil)
        return totals(receipt).sorted { $0.key < $1.key }.compactMap { meter, total in
            guard total != old[meter, default: 0] else { return nil }
            return LicenseChange(
                at: at, .usageSettled, names[meter] ?? "meter \(meter)",
                old: String(old[meter, default: 0]), new: String(total), cause: cause)
        }
    }
}
