public import HoldfastCrypto
public import HoldfastTPMWire

/// What a verifier demands of a model of machines, in one signed document.
///
/// What it does not speak of is refused: a quoted register has reference values, or is named as one
/// that is not compared.
///
/// docs/spec/formats.md, "Appraisal policy".
public struct AppraisalPolicy: Sendable, Hashable {
    /// What becomes of a register with a value that is no reference.
    public enum Drift: String, Sendable, Hashable, CaseIterable {
        case refuse
        /// The verdict stays valid and says which registers differ.
        case flag
    }

    /// What an event log can be required to show; what it does not show is refused.
    public enum Fact: String, Sendable, Hashable, CaseIterable {
        case secureBoot, uefiDebug, dmaProtectionDisabled
        /// The boot loader handed over without an error.
        case exitBootServices
        /// PCR 0 to 7 have one separator each.
        case separators

        /// The registers that hold it: without the value of each, a log may say what it likes.
        public var registers: [PCRIndex] {
            switch self {
            case .secureBoot, .uefiDebug, .dmaProtectionDisabled: AppraisalPolicy.vouching
            case .exitBootServices: [PCRIndex.all[5]]
            case .separators: PCRIndex.firmware
            }
        }
    }

    /// A vendor's name for it.
    public var id: String
    /// A higher one replaces a lower one.
    public var version: UInt32
    /// The kind of machine, as when a device is admitted.
    public var model: String
    public var onDrift: Drift
    /// The values that a register may have.
    public var references: [PCRValues.Register: Set<[UInt8]>]
    /// Registers that are quoted and not compared.
    public var unchecked: Set<PCRValues.Register>
    public var require: [Fact: Bool]
    /// SHA-256 of images that dbx must hold.
    public var revoked: Set<[UInt8]>
    /// SHA-256 of certificates that may vouch for what is started; `nil` when any may.
    public var authorities: Set<[UInt8]>?
    /// Versions of the TPM's firmware as it signs them; none when any will do.
    public var firmware: Set<UInt64>
    /// SHA-256 of the IMA policy that a measurement list must pass; `nil` when none is needed.
    public var imaPolicy: [UInt8]?
    /// UTC seconds on the server's clock.
    public var issuedAt: UInt64

    /// The register that holds dbx, and what vouched for what was started.
    public static let vouching = [PCRIndex.all[7]]
    /// The most values of one register, of hashes in dbx, and of authorities.
    public static let maximumValues = 64
    public static let maximumRevoked = 4000
    public static let maximumAuthorities = 256

    public init(
        id: String, version: UInt32, model: String, onDrift: Drift,
        references: [PCRValues.Register: Set<[UInt8]>], unchecked: Set<PCRValues.Register>,
        require: [Fact: Bool], revoked: Set<[UInt8]>, authorities: Set<[UInt8]>?,
        firmware: Set<UInt64>, imaPolicy: [UInt8]?, issuedAt: UInt64
    ) {
        self.id = id
        self.version = version
        self.model = model
        self.onDrift = onDrift
        self.references = references
        self.unchecked = unchecked
        self.require = require
        self.revoked = revoked
        self.authorities = authorities
        self.firmware = firmware
        self.imaPolicy = imaPolicy
        self.issuedAt = issuedAt
    }

    /// The registers with reference values: what counts as the state of the boot.
    public var bootState: PCRSelection {
        PCRSelection(
            joining: HashAlgorithm.allCases.compactMap { hash in
                let indexes = references.keys.filter { $0.hash == hash }.map(\.index)
                return indexes.isEmpty ? nil : PCRSelection(hash, indexes.sorted())
            })
    }

    // MARK: The token

    /// Signs the policy with an issuer key.
    ///
    /// - Throws: what reading the result would throw.
    public func signed(with key: borrowing Ed25519PrivateKey) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(claims, for: nil, with: key)
        guard try AppraisalPolicy(verifying: token, issuers: [key.publicKey]) == self else {
            throw .notCanonical
        }
        return token
    }

    /// Verifies a policy.
    ///
    /// - Parameter issuers: from the trust statement.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey]
    ) throws(TokenError) {
        let verified = try IssuedToken.verify(token, for: nil, issuers: issuers)
        var claims = try ClaimsReader(verified.payload, kind: .appraisalPolicy)
        id = try claims.name("policy")
        version = UInt32(try claims.number("version", in: 1...UInt64(UInt32.max)))
        model = try claims.name("model")
        onDrift = try claims.choice("onDrift")
        var references: [PCRValues.Register: Set<[UInt8]>] = [:]
        for (name, value) in try claims.object("references") {
            let register = try Self.register(name, "references")
            var list = ClaimsReader(single: value, name: "references")
            let values = try list.list("references", counts: 1...Self.maximumValues) {
                (value) throws(TokenError) in
                try Self.bytes(value, "references", register.hash.digestSize)
            }
            references[register] = try Self.distinct(values, "references")
        }
        self.references = references
        let unchecked = try claims.list("unchecked", counts: 0...96) { (value) throws(TokenError) in
            try Self.register(
                ClaimsReader.text(value, "unchecked", maximum: 16), "unchecked")
        }
        self.unchecked = Set(unchecked)
        var require: [Fact: Bool] = [:]
        for (name, value) in try claims.object("require") {
            guard let fact = Fact(rawValue: name), case .bool(let wanted) = value else {
                throw .malformed("require")
            }
            require[fact] = wanted
        }
        self.require = require
        revoked = try Self.distinct(
            claims.list("revoked", counts: 0...Self.maximumRevoked) { (value) throws(TokenError) in
                try Self.bytes(value, "revoked", 32)
            }, "revoked")
        let authorities = try claims.list("authorities", counts: 0...1) {
            (value) throws(TokenError) in
            var list = ClaimsReader(single: value, name: "authorities")
            return try Self.distinct(
                list.list("authorities", counts: 1...Self.maximumAuthorities) {
                    (value) throws(TokenError) in try Self.bytes(value, "authorities", 32)
                }, "authorities")
        }
        self.authorities = authorities.first
        firmware = Set(
            try claims.list("firmware", counts: 0...Self.maximumValues) {
                (value) throws(TokenError) in
                var one = ClaimsReader(single: value, name: "firmware")
                return try one.number("firmware", in: 0...UInt64.max)
            })
        imaPolicy = try claims.list("imaPolicy", counts: 0...1) { (value) throws(TokenError) in
            try Self.bytes(value, "imaPolicy", 32)
        }.first
        issuedAt = try claims.number("issuedAt", in: 1...UInt64(1) << 53)
        try claims.finish()
        try check()
        // Lists have one order, so that one policy has one token.
        guard self.claims.encoded == verified.payload else { throw .notCanonical }
    }

    /// Refuses what cannot be meant.
    ///
    /// - Throws: `.malformed` with the claim.
    public func check() throws(TokenError) {
        guard License.isName(id), version > 0 else { throw .malformed("policy") }
        guard License.isName(model) else { throw .malformed("model") }
        // Nothing that is demanded is no policy.
        guard !references.isEmpty || !require.isEmpty else { throw .missing("references") }
        for (register, values) in references {
            // PCR 16 to 23 can be set back without a reboot: a reference value of theirs says nothing.
            guard register.hash != .sha1, register.index.rawValue < 16,
                !unchecked.contains(register),
                (1...Self.maximumValues).contains(values.count),
                values.allSatisfy({ $0.count == register.hash.digestSize })
            else { throw .malformed("references") }
        }
        guard unchecked.allSatisfy({ $0.hash != .sha1 }) else { throw .malformed("unchecked") }
        guard revoked.count <= Self.maximumRevoked, revoked.allSatisfy({ $0.count == 32 }) else {
            throw .malformed("revoked")
        }
        if let authorities {
            guard (1...Self.maximumAuthorities).contains(authorities.count),
                authorities.allSatisfy({ $0.count == 32 })
            else { throw .malformed("authorities") }
        }
        guard firmware.count <= Self.maximumValues else { throw .malformed("firmware") }
        guard imaPolicy?.count ?? 32 == 32 else { throw .malformed("imaPolicy") }
        // What is quoted by nobody proves no fact: the policy could not be met.
        for fact in require.keys where !speaks(of: fact.registers) { throw .unquoted("require") }
        guard revoked.isEmpty || speaks(of: Self.vouching) else { throw .unquoted("revoked") }
        guard authorities == nil || speaks(of: Self.vouching) else {
            throw .unquoted("authorities")
        }
    }

    /// Whether all of these registers of one bank are compared, or unchecked.
    ///
    /// - Parameter onlyReferences: those that are compared alone.
    package func speaks(of indexes: [PCRIndex], onlyReferences: Bool = false) -> Bool {
        HashAlgorithm.allCases.contains { hash in
            indexes.allSatisfy { index in
                let register = PCRValues.Register(hash, index)
                return references[register] != nil
                    || !onlyReferences && unchecked.contains(register)
            }
        }
    }

    /// A register as `sha256:7`.
    private static func register(
        _ text: String, _ claim: String
    ) throws(TokenError) -> PCRValues.Register {
        guard let register = PCRValues.Register(text: text) else { throw .malformed(claim) }
        return register
    }

    private static func bytes(
        _ value: CanonicalJSON, _ claim: String, _ count: Int
    ) throws(TokenError) -> [UInt8] {
        try ClaimsReader.bytes(ClaimsReader.text(value, claim, maximum: 128), claim, count)
    }

    private static func distinct(
        _ values: [[UInt8]], _ claim: String
    ) throws(TokenError) -> Set<[UInt8]> {
        let set = Set(values)
        guard set.count == values.count else { throw .malformed(claim) }
        return set
    }

    private static func sorted(_ values: Set<[UInt8]>) -> CanonicalJSON {
        .array(
            values.sorted { $0.lexicographicallyPrecedes($1) }
                .map { .string(Base64URL.encode($0)) })
    }

    private var claims: CanonicalJSON {
        .object([
            "kind": .string(TokenKind.appraisalPolicy.rawValue), "policy": .string(id),
            "version": .number(UInt64(version)), "model": .string(model),
            "onDrift": .string(onDrift.rawValue),
            "references": .object(
                Dictionary(
                    uniqueKeysWithValues: references.map { ($0.key.text, Self.sorted($0.value)) })),
            "unchecked": .array(unchecked.sorted().map { .string($0.text) }),
            "require": .object(
                Dictionary(
                    uniqueKeysWithValues: require.map { ($0.key.rawValue, .bool($0.value)) })),
            "revoked": Self.sorted(revoked),
            "authorities": .array(authorities.map { [Self.sorted($0)] } ?? []),
            "firmware": .array(firmware.sorted().map { .number($0) }),
            "imaPolicy": .array(imaPolicy.map { [.string(Base64URL.encode($0))] } ?? []),
            "issuedAt": .number(issuedAt),
        ])
    }
}

extension PCRValues.Register {
    /// Reads a register as `sha256:7`, in its one form.
    public init?(text: String) {
        guard let selection = PCRSelection(text: text), let bank = selection.banks.first,
            let index = bank.indexes.first, selection.text == text, selection.banks.count == 1,
            bank.indexes.count == 1
        else { return nil }
        self.init(bank.hash, index)
    }

    /// As `sha256:7`.
    public var text: String { "\(hash.name):\(index.rawValue)" }
}
