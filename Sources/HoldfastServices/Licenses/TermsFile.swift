public import HoldfastProtocol
import FoundationEssentials

/// Terms as an operator writes them: JSON with durations such as `30d`, `12h`, `90s`.
///
/// docs/terms.md has an example with every member.
public struct TermsFile: Sendable, Hashable {
    /// Not signed yet, and not dated.
    public let terms: Terms

    private struct Source: Decodable {
        var id: String
        var version: UInt32
        var `class`: String
        var lease: String
        var renewAfter: String
        var graceAfter: String
        var softAfter: String
        var degraded: String
        var resets: UInt32
        var restarts: UInt32
        var evidenceValidity: String
        var nonceLifetime: String
        var absence: String?
        var recheck: String?
        var notice: String?
        var enforcement: [String: String]?
        var defaultEnforcement: String
        var degradedEntitlements: [String]?
        var overage: String?
    }

    private static let members: Set<String> = [
        "id", "version", "class", "lease", "renewAfter", "graceAfter", "softAfter", "degraded",
        "resets", "restarts", "evidenceValidity", "nonceLifetime", "absence", "recheck",
        "notice", "enforcement", "defaultEnforcement", "degradedEntitlements", "overage",
    ]

    /// Reads the file.
    ///
    /// - Throws: ``ServiceError/badArgument(_:)`` that names the member.
    public init(_ bytes: [UInt8]) throws {
        let source: Source
        do {
            source = try JSONDecoder().decode(Source.self, from: Data(bytes))
        } catch let DecodingError.keyNotFound(key, _) {
            throw ServiceError.badArgument("the terms lack `\(key.stringValue)`")
        } catch let DecodingError.typeMismatch(_, context) {
            let name = context.codingPath.last?.stringValue ?? "the whole"
            throw ServiceError.badArgument("the terms have a wrong type for `\(name)`")
        } catch {
            throw ServiceError.badArgument("the terms are not JSON that can be read")
        }
        // A misspelt rule must not fall away in silence.
        let all = try JSONDecoder().decode([String: Anything].self, from: Data(bytes))
        if let unknown = all.keys.sorted().first(where: { !Self.members.contains($0) }) {
            throw ServiceError.badArgument("the terms have the unknown member `\(unknown)`")
        }
        let degraded = try Self.milliseconds(source.degraded, "degraded")
        terms = Terms(
            id: source.id, version: source.version,
            licenseClass: try Self.choice(source.class, "class"),
            leaseTicks: try Self.milliseconds(source.lease, "lease"),
            renewAfterTicks: try Self.milliseconds(source.renewAfter, "renewAfter"),
            graceAfterTicks: try Self.milliseconds(source.graceAfter, "graceAfter"),
            softAfterTicks: try Self.milliseconds(source.softAfter, "softAfter"),
            degradedTicks: degraded, resetAllowance: source.resets,
            restartAllowance: source.restarts,
            evidenceValiditySeconds: try Self.milliseconds(
                source.evidenceValidity, "evidenceValidity") / 1000,
            nonceLifetimeSeconds: try Self.milliseconds(source.nonceLifetime, "nonceLifetime")
                / 1000,
            absenceSeconds: try source.absence.map {
                try Self.milliseconds($0, "absence") / 1000
            },
            recheckSeconds: try source.recheck.map {
                try Self.milliseconds($0, "recheck") / 1000
            },
            noticeSeconds: try source.notice.map {
                try Self.milliseconds($0, "notice") / 1000
            },
            enforcement: try (source.enforcement ?? [:]).mapValues {
                try Self.choice($0, "enforcement")
            },
            defaultEnforcement: try Self.choice(source.defaultEnforcement, "defaultEnforcement"),
            degradedEntitlements: source.degradedEntitlements ?? [],
            overage: try source.overage.map { try Self.choice($0, "overage") }, issuedAt: 1)
        if let broken = Self.brokenRule(terms) { throw ServiceError.badArgument(broken) }
    }

    /// What is wrong between members, in the words of the file; the token says it by its claims.
    private static func brokenRule(_ terms: Terms) -> String? {
        let durations = [
            ("lease", terms.leaseTicks), ("renewAfter", terms.renewAfterTicks),
            ("graceAfter", terms.graceAfterTicks), ("softAfter", terms.softAfterTicks),
            ("degraded", terms.degradedTicks),
        ]
        if let long = durations.first(where: { $0.1 > Terms.maximumTicks }) {
            return "`\(long.0)` is 400d at most"
        }
        if terms.version == 0 { return "`version` is 1 or more" }
        let allowances = [("resets", terms.resetAllowance), ("restarts", terms.restartAllowance)]
        if let large = allowances.first(where: { $0.1 > Terms.maximumAllowance }) {
            return "`\(large.0)` is \(Terms.maximumAllowance) at most"
        }
        if terms.evidenceValiditySeconds > Terms.maximumTicks / 1000 {
            return "`evidenceValidity` is 400d at most"
        }
        if terms.nonceLifetimeSeconds > 4 * Terms.maximumTicks / 1000 {
            return "`nonceLifetime` is 1600d at most"
        }
        let lists = [
            ("enforcement", terms.enforcement.count),
            ("degradedEntitlements", terms.degradedEntitlements.count),
        ]
        if let long = lists.first(where: { $0.1 > License.maximumEntitlements }) {
            return "`\(long.0)` has \(License.maximumEntitlements) entries at most"
        }
        if terms.leaseTicks == 0 { return "`lease` is longer than nothing" }
        if terms.graceAfterTicks > terms.leaseTicks {
            return "`graceAfter` lies inside the lease: it is not longer than `lease`"
        }
        if terms.renewAfterTicks > terms.graceAfterTicks {
            return "renewal comes before grace: `renewAfter` is not longer than `graceAfter`"
        }
        if terms.softAfterTicks > terms.leaseTicks {
            return "soft entitlements end with the lease: `softAfter` is not longer than `lease`"
        }
        if terms.nonceLifetimeSeconds * 1000 < terms.leaseTicks + terms.degradedTicks {
            return
                "whoever comes back at the end of the degraded period needs a nonce: `nonceLifetime` is at least `lease` and `degraded` together"
        }
        if terms.evidenceValiditySeconds == 0 { return "`evidenceValidity` is longer than nothing" }
        if terms.absenceSeconds ?? 0 > 30 * 86_400 { return "`absence` is 30d at most" }
        if !(1...86_400).contains(terms.recheckSeconds ?? 1) {
            return "`recheck` is 1s to 1d"
        }
        if terms.noticeSeconds ?? 0 > Terms.maximumTicks / 1000 {
            return "`notice` is 400d at most"
        }
        let hour: UInt64 = 3_600_000
        if terms.licenseClass == .production,
            let odd = durations.first(where: { $0.1 % hour != 0 })
        {
            return "`\(odd.0)` is a number of whole hours in terms of class production"
        }
        let names = [terms.id] + terms.degradedEntitlements + terms.enforcement.keys
        if let name = names.first(where: { !License.isName($0) }) {
            return "`\(name)` is no name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`"
        }
        return nil
    }

    /// Any JSON value, whose content does not matter here.
    private struct Anything: Decodable {
        init(from decoder: any Decoder) {}
    }

    private static func choice<T: RawRepresentable<String> & CaseIterable>(
        _ text: String, _ name: String
    ) throws -> T {
        guard let value = T(rawValue: text) else {
            let known = T.allCases.map(\.rawValue).joined(separator: ", ")
            throw ServiceError.badArgument("`\(name)` is one of \(known), not `\(text)`")
        }
        return value
    }

    /// Reads a whole number with a unit: `s`, `m`, `h` or `d`.
    private static func milliseconds(_ text: String, _ name: String) throws -> UInt64 {
        let units: [Character: UInt64] = [
            "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000,
        ]
        guard let unit = text.last.flatMap({ units[$0] }), let number = UInt64(text.dropLast()),
            number <= 1_000_000_000
        else {
            throw ServiceError.badArgument("`\(name)` is a duration like 30d, 12h, 5m or 90s")
        }
        return number * unit
    }
}
