public import HoldfastProtocol
import HoldfastTPMWire

/// Something that became different for the person at a device, and what caused it.
///
/// It is for reading alone: no decision looks at it.
///
/// docs/spec/licensing.md, "Change log".
public struct LicenseChange: Sendable, Hashable, Codable {
    /// What became different.
    public enum Kind: String, Sendable, Hashable, CaseIterable, Codable {
        case licenseAdded = "LICENSE_ADDED"
        case leaseRenewed = "LEASE_RENEWED"
        case licenseRevoked = "LICENSE_REVOKED"
        case termsChanged = "TERMS_CHANGED"
        case termsAnnounced = "TERMS_ANNOUNCED"
        case approvalAdded = "APPROVAL_ADDED"
        case usageSettled = "USAGE_SETTLED"
        case stateChanged = "STATE_CHANGED"
        case retired = "RETIRED"
        /// The vendor's keys are others.
        case keysChanged = "KEYS_CHANGED"
        /// What else is known of the vendor is different.
        case trustChanged = "TRUST_CHANGED"
        /// The vendor retired the key that signed the license.
        case licenseVoid = "LICENSE_VOID"
    }

    /// UTC seconds, from the last document that a server signed; never a wall clock.
    public var at: UInt64
    public var kind: Kind
    /// A license, a boot state's scope or a meter.
    public var subject: String
    public var old: String?
    public var new: String?
    /// What brought it, for example `reply 1.12`.
    public var cause: String

    public init(
        at: UInt64, _ kind: Kind, _ subject: String, old: String? = nil, new: String? = nil,
        cause: String
    ) {
        self.at = at
        self.kind = kind
        self.subject = subject
        self.old = old
        self.new = new
        self.cause = cause
    }

    /// In plain words, without the time.
    public var text: String {
        let change = [old, new].compactMap { $0 }.joined(separator: " -> ")
        let what =
            switch kind {
            case .licenseAdded: "new license \(subject): \(change)"
            case .leaseRenewed: "license \(subject) renewed: lease \(change)"
            case .licenseRevoked: "license \(subject) was taken back by the vendor"
            case .termsChanged: "license \(subject): terms \(change)"
            case .termsAnnounced: "license \(subject): terms to come: \(change)"
            case .approvalAdded: "boot state approved for \(subject)"
            case .usageSettled: "usage of \(subject) settled: \(change)"
            case .stateChanged: "license \(subject): \(change)"
            case .retired: "this device gave its enrollment up"
            case .keysChanged: "the vendor's keys changed: \(subject), statement \(change)"
            case .trustChanged: "the vendor's trust file changed: statement \(change)"
            case .licenseVoid:
                "license \(subject) counts no more: the vendor retired the key that signed it; `holdfast sync` brings it anew"
            }
        return "\(what) (\(cause))"
    }

    /// What a newer trust statement changes.
    public static func trust(
        from held: TrustStatement, to newer: TrustStatement, at: UInt64, cause: String
    ) -> LicenseChange {
        let kinds = [
            ("signing", Set(held.issuerKeys) != Set(newer.issuerKeys)),
            ("sealing", Set(held.sealingKeys) != Set(newer.sealingKeys)),
            ("TLS", Set(held.tlsKeys) != Set(newer.tlsKeys)),
        ].filter(\.1).map(\.0)
        return LicenseChange(
            at: at, kinds.isEmpty ? .trustChanged : .keysChanged,
            kinds.isEmpty ? "vendor" : kinds.joined(separator: ", "), old: String(held.sequence),
            new: String(newer.sequence), cause: cause)
    }

    /// What a newer lease changes.
    ///
    /// - Parameter held: what was here of that license; `nil` when it is new.
    public static func changes(
        from held: LicenseDocument?, to document: LicenseDocument, at: UInt64, cause: String
    ) -> [LicenseChange] {
        let id = document.license.id.description
        guard let held else {
            let grants = document.license.entitlements.map { entitlement in
                entitlement.name + (entitlement.limit.map { "=\($0)" } ?? "")
            }
            return [
                .init(
                    at: at, .licenseAdded, id, new: grants.joined(separator: ", "), cause: cause)
            ]
        }
        var changes = [
            LicenseChange(
                at: at, .leaseRenewed, id, old: String(held.statement.serial),
                new: String(document.statement.serial), cause: cause)
        ]
        if held.terms != document.terms {
            changes.append(
                .init(
                    at: at, .termsChanged, id, old: "\(held.terms.id) \(held.terms.version)",
                    new: "\(document.terms.id) \(document.terms.version)", cause: cause))
        }
        return changes
    }
}
