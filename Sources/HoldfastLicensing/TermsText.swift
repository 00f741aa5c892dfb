public import HoldfastProtocol

/// A span of TPM milliseconds in its largest whole unit.
private func spoken(_ ticks: UInt64) -> String {
    let units: [(UInt64, String)] = [
        (86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"),
    ]
    for (size, name) in units where ticks >= size && ticks % size == 0 {
        let count = ticks / size
        return "\(count) \(name)\(count == 1 ? "" : "s")"
    }
    return ticks == 0 ? "no time" : "\(ticks) milliseconds"
}

extension Terms {
    /// The terms in plain words, for whoever has to explain them.
    public var plainText: String {
        let named = enforcement.sorted { $0.key < $1.key }.map {
            "`\($0.key)` is \($0.value.rawValue)"
        }
        let kept =
            degradedEntitlements.isEmpty
            ? "core, reading and export" : degradedEntitlements.joined(separator: ", ")
        let notice = noticeSeconds.map {
            "\nA license that began under an earlier version goes on under this one \(spoken($0 * 1000)) after its device was told, not sooner."
        }
        return """
            terms \(id), version \(version), class \(licenseClass.rawValue)
            A lease runs for \(spoken(leaseTicks)) of the machine's running time.
            After \(spoken(renewAfterTicks)) it asks to be renewed; after \(spoken(graceAfterTicks)) it says so with more notice. Everything works until its end.
            Then \(kept) go on for \(spoken(degradedTicks)) more; after that core, reading and export.
            It survives \(resetAllowance) restarts of the machine, and \(restartAllowance) resumes from sleep between two of them.
            When the machine boots into a state that is not approved, strict entitlements stop at once, and soft ones \(spoken(softAfterTicks)) after the lease was issued.
            Entitlements are \(defaultEnforcement.rawValue)\(named.isEmpty ? "" : "; " + named.joined(separator: ", ")).
            \(overage == .count ? "When a limit is used up, its entitlement goes on, and what is used is counted." : "When a limit is used up, its entitlement is refused until the vendor gives more.")
            Evidence that waits for an approval counts for \(spoken(evidenceValiditySeconds * 1000)).
            A running program asks the TPM every \(spoken((recheckSeconds ?? Self.defaultRecheckSeconds) * 1000)), and goes on for \(spoken((absenceSeconds ?? Self.defaultAbsenceSeconds) * 1000)) when it does not answer.\(notice ?? "")
            """
    }

    /// A rule that other terms have otherwise.
    public struct Difference: Sendable, Hashable, Codable {
        /// What it is about, in words.
        public let rule: String
        public let old: String
        public let new: String
        /// Whoever uses the device has less by it.
        public let isLoss: Bool

        /// In plain words.
        public var text: String { "\(rule): \(old) -> \(new)" }
    }

    /// What other terms have otherwise.
    ///
    /// Less running time, fewer restarts and stricter enforcement are losses. When renewal is asked for
    /// and how often a program looks are none: nothing stops by them.
    ///
    /// - Parameter newer: terms of the same name.
    public func differences(to newer: Terms) -> [Difference] {
        func span(
            _ rule: String, _ value: (Terms) -> UInt64, mayShrink: Bool = false
        ) -> Difference? {
            number(rule, value, mayShrink: mayShrink, spoken)
        }
        func number(
            _ rule: String, _ value: (Terms) -> UInt64, mayShrink: Bool = false,
            _ text: (UInt64) -> String = { String($0) }
        ) -> Difference? {
            let (old, new) = (value(self), value(newer))
            guard old != new else { return nil }
            return Difference(
                rule: rule, old: text(old), new: text(new), isLoss: new < old && !mayShrink)
        }
        var all: [Difference?] = [
            span("a lease runs for", \.leaseTicks),
            span("it asks for renewal after", \.renewAfterTicks, mayShrink: true),
            span("it warns after", \.graceAfterTicks, mayShrink: true),
            span("after the lease some things go on for", \.degradedTicks),
            span("soft entitlements go on in a boot that is not approved for", \.softAfterTicks),
            number("restarts during a lease", { UInt64($0.resetAllowance) }),
            number("resumes from sleep between two restarts", { UInt64($0.restartAllowance) }),
            span("evidence waits for an approval for", { $0.evidenceValiditySeconds * 1000 }),
            span("a device may stay away for", { $0.nonceLifetimeSeconds * 1000 }),
            span(
                "a program goes on without its TPM for",
                { ($0.absenceSeconds ?? Self.defaultAbsenceSeconds) * 1000 }),
            span(
                "a program asks the TPM every",
                { ($0.recheckSeconds ?? Self.defaultRecheckSeconds) * 1000 }, mayShrink: true),
        ]
        if overage ?? .refuse != newer.overage ?? .refuse {
            let words: [Overage: String] = [
                .refuse: "its entitlement is refused", .count: "it is counted",
            ]
            all.append(
                Difference(
                    rule: "when a limit is used up", old: words[overage ?? .refuse] ?? "",
                    new: words[newer.overage ?? .refuse] ?? "",
                    isLoss: newer.overage ?? .refuse == .refuse))
        }
        if defaultEnforcement != newer.defaultEnforcement {
            all.append(
                Self.enforced(
                    "entitlements that are not named", defaultEnforcement,
                    newer.defaultEnforcement))
        }
        for name in Set(enforcement.keys).union(newer.enforcement.keys).sorted()
        where enforcement(of: name) != newer.enforcement(of: name) {
            all.append(
                Self.enforced(
                    "`\(name)`", enforcement(of: name), newer.enforcement(of: name)))
        }
        let (old, new) = (Set(degradedEntitlements), Set(newer.degradedEntitlements))
        for name in old.symmetricDifference(new).sorted() {
            all.append(
                Difference(
                    rule: "`\(name)` after the lease",
                    old: old.contains(name) ? "goes on" : "stops",
                    new: new.contains(name) ? "goes on" : "stops", isLoss: old.contains(name)))
        }
        return all.compactMap { $0 }
    }

    private static func enforced(
        _ rule: String, _ old: Enforcement, _ new: Enforcement
    ) -> Difference {
        let order: [Enforcement] = [.advisory, .soft, .strict]
        let place = { (one: Enforcement) in order.firstIndex(of: one) ?? 0 }
        return Difference(
            rule: rule, old: old.rawValue, new: new.rawValue, isLoss: place(new) > place(old))
    }

    /// The durations and counts of the first lease under newer terms: of each the better one for whoever
    /// uses the device.
    ///
    /// He planned by the old terms, and is not surprised in the middle of his plan.
    ///
    /// - Parameter old: the terms that the license was under.
    public func transitional(from old: Terms) -> Terms {
        var terms = self
        terms.leaseTicks = max(leaseTicks, old.leaseTicks)
        terms.renewAfterTicks = min(renewAfterTicks, old.renewAfterTicks)
        terms.graceAfterTicks = max(graceAfterTicks, old.graceAfterTicks)
        terms.softAfterTicks = max(softAfterTicks, old.softAfterTicks)
        terms.degradedTicks = max(degradedTicks, old.degradedTicks)
        terms.resetAllowance = max(resetAllowance, old.resetAllowance)
        terms.restartAllowance = max(restartAllowance, old.restartAllowance)
        return terms
    }
}
