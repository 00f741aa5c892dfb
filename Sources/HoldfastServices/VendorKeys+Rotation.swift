public import HoldfastCrypto
import HoldfastFiles
public import HoldfastProtocol

/// A key of the vendor that is exchanged from time to time.
public enum VendorKeyKind: String, Sendable, Hashable, CaseIterable, Codable {
    /// Signs licenses, leases, receipts and replies.
    case issuer
    /// Opens what devices send.
    case sealing
    /// Of the server, which devices pin.
    case tls
}

/// A key as the trust statement names it.
public struct VendorKeyReport: Sendable, Hashable, Codable {
    /// What it is good for now.
    public enum Use: String, Sendable, Hashable, Codable {
        /// Signs, is sealed to, or identifies the server.
        case inUse = "in-use"
        /// Was in use; what was signed or sealed with it counts.
        case earlier
        /// Devices know it already, and the server does not show it yet.
        case next
        /// Counts no more.
        case retired
    }

    public let kind: VendorKeyKind
    /// 16 digits in hexadecimal: the first 8 bytes of SHA-256 of the public key.
    public let id: String
    public let use: Use
    /// Whether the private key is here.
    public let hasPrivateKey: Bool
}

/// How keys are exchanged: each step is one trust statement, and that file is what counts.
///
/// A new key is on the disk before the statement that names it, under a name that says so; one that
/// goes is there until the statement without it is. An interrupted run leaves either the one or the
/// other statement, and a file whose name tells the next run whether to finish or to take back.
///
/// docs/keys.md.
extension VendorKeys {
    /// A key that was made, and is named by no statement yet.
    private static let made = ".made"
    /// A key that leaves with the next statement.
    private static let leaving = ".leaving"
    /// How long another run may work on the keys, in milliseconds.
    private static let patience = 5000

    // MARK: Names

    private static func base(_ kind: VendorKeyKind) -> String { kind.rawValue + ".key" }
    private static func name(_ kind: VendorKeyKind, _ id: String) -> String {
        "\(kind.rawValue)-\(id).key"
    }

    /// The id of a public key.
    ///
    /// - Parameter hash: SHA-256 of it.
    private static func id(hash: [UInt8]) -> String { Hex.encode([UInt8](hash.prefix(8))) }
    static func id(_ key: Ed25519PublicKey) -> String {
        id(hash: HashAlgorithm.sha256.digest(key.bytes))
    }
    static func id(_ key: SealingPublicKey) -> String { Hex.encode(SealedEnvelope.keyID(of: key)) }
    /// The id of a pin.
    static func id(pin: [UInt8]) -> String { id(hash: pin) }

    private static func pin(_ key: ECPrivateKey) -> [UInt8] {
        HashAlgorithm.sha256.digest(key.publicKey.subjectPublicKeyInfo)
    }

    private static func signer(_ secret: consuming SecretBytes) throws -> Ed25519PrivateKey {
        try Ed25519PrivateKey(seed: secret)
    }
    private static func opener(_ secret: consuming SecretBytes) throws -> SealingPrivateKey {
        try SealingPrivateKey(scalar: secret)
    }

    /// The id of the private key in a file.
    private func id(_ kind: VendorKeyKind, inFile name: String) throws -> String {
        switch kind {
        case .issuer: try Self.id(read(name, Self.signer).publicKey)
        case .sealing: try Self.id(read(name, Self.opener).publicKey)
        case .tls: try Self.id(pin: Self.pin(curveKey(name)))
        }
    }

    /// The file that has a private key: the first key of its kind has no id in its name.
    private func find(_ kind: VendorKeyKind, _ id: String) throws -> String? {
        let named = Self.name(kind, id)
        for name in [named, named + Self.made, named + Self.leaving] where Files.exists(file(name))
        {
            guard try self.id(kind, inFile: name) == id else {
                throw VendorKeysError.damaged(file(name))
            }
            return name
        }
        let base = Self.base(kind)
        guard Files.exists(file(base)), try self.id(kind, inFile: base) == id else { return nil }
        return base
    }

    private func demand(_ kind: VendorKeyKind, _ id: String) throws -> String {
        if let found = try find(kind, id) { return found }
        let base = file(Self.base(kind))
        throw VendorKeysError.missing(Files.exists(base) ? file(Self.name(kind, id)) : base)
    }

    // MARK: Use

    /// The private half of a key that signs or signed.
    func issuerKey(of key: Ed25519PublicKey) throws -> Ed25519PrivateKey {
        try read(demand(.issuer, Self.id(key)), Self.signer)
    }

    /// The private half of a key to which devices seal or sealed.
    func sealingKey(of key: SealingPublicKey) throws -> SealingPrivateKey {
        try read(demand(.sealing, Self.id(key)), Self.opener)
    }

    /// Every key that the trust statement names, and the retired ones, in its order.
    public func list() throws -> [VendorKeyReport] {
        let trust = try trust()
        let pin = try Self.pin(curveKey(Self.base(.tls)))
        func report(
            _ kind: VendorKeyKind, _ id: String, _ use: VendorKeyReport.Use
        ) throws -> VendorKeyReport {
            VendorKeyReport(
                kind: kind, id: id, use: use, hasPrivateKey: try find(kind, id) != nil)
        }
        let present = trust.tlsKeys.firstIndex(of: pin)
        return try trust.issuerKeys.enumerated().map { number, key in
            try report(.issuer, Self.id(key), number == 0 ? .inUse : .earlier)
        }
            + trust.retiredIssuerKeys.map { try report(.issuer, Self.id($0), .retired) }
            + trust.sealingKeys.enumerated().map { number, key in
                try report(.sealing, Self.id(key), number == 0 ? .inUse : .earlier)
            }
            + trust.tlsKeys.enumerated().map { number, key in
                let use: VendorKeyReport.Use =
                    number == present ? .inUse : number < present ?? 0 ? .earlier : .next
                return try report(.tls, Self.id(pin: key), use)
            }
    }

    // MARK: Statements

    /// What a later trust statement changes.
    public struct Changes: Sendable {
        /// In the place of those that there were; `nil` to keep them.
        public var urls: [String]?
        /// Beside those that there are; one for the same model takes its place.
        public var endorsementKeys: [TrustStatement.EndorsementKeyRule]

        public init(urls: [String]?, endorsementKeys: [TrustStatement.EndorsementKeyRule]) {
            self.urls = urls
            self.endorsementKeys = endorsementKeys
        }
    }

    /// Signs a trust statement with the next sequence.
    ///
    /// - Parameter rootKey: the file with the root key, wherever it is kept.
    /// - Throws: `.missing` and `.damaged` for the root key; ``TokenError/foreignKey`` when it is
    ///   another vendor's.
    public func update(_ changes: Changes, rootKey: String) throws -> TrustStatement {
        try exclusively { present in
            var next = Draft(present)
            next.endorsementKeys.removeAll { rule in
                changes.endorsementKeys.contains {
                    $0.manufacturer == rule.manufacturer && $0.model == rule.model
                }
            }
            next.endorsementKeys += changes.endorsementKeys
            next.urls = changes.urls ?? present.urls
            return try publish(signed(next, rootKey))
        }
    }

    /// A statement that is to come after another one.
    private struct Draft {
        let present: TrustStatement
        var issuerKeys: [Ed25519PublicKey]
        var retiredIssuerKeys: [Ed25519PublicKey]
        var sealingKeys: [SealingPublicKey]
        var tlsKeys: [[UInt8]]
        var endorsementKeys: [TrustStatement.EndorsementKeyRule]
        var urls: [String]

        init(_ present: TrustStatement) {
            self.present = present
            issuerKeys = present.issuerKeys
            retiredIssuerKeys = present.retiredIssuerKeys
            sealingKeys = present.sealingKeys
            tlsKeys = present.tlsKeys
            endorsementKeys = present.endorsementKeys
            urls = present.urls
        }

        var statement: TrustStatement {
            TrustStatement(
                rootKey: present.rootKey, sequence: present.sequence + 1, issuerKeys: issuerKeys,
                sealingKeys: sealingKeys, approvalKey: present.approvalKey, tlsKeys: tlsKeys,
                endorsementKeys: endorsementKeys, factSalt: present.factSalt, urls: urls,
                selection: present.selection, retiredIssuerKeys: retiredIssuerKeys)
        }
    }

    private func move(_ path: String, to other: String) throws {
        try beforeStep()
        try Files.move(path, to: other)
    }

    private func remove(_ path: String) throws {
        guard Files.exists(path) else { return }
        try beforeStep()
        try Files.remove(path)
    }

    private func signed(_ draft: Draft, _ rootKey: String) throws -> (TrustStatement, PASETOToken) {
        let root = try read(at: rootKey, Self.signer)
        let statement = draft.statement
        return (statement, try statement.signed(with: root))
    }

    private func publish(_ made: (statement: TrustStatement, token: PASETOToken)) throws
        -> TrustStatement
    {
        try beforeStep()
        try Files.write(Array((made.token.text + "\n").utf8), to: trustFile, mode: 0o644)
        return made.statement
    }

    // MARK: Rotation

    /// Makes a new key and a trust statement that names it.
    ///
    /// A new issuer or sealing key is in use from then on, and the earlier one still counts. A new TLS
    /// key is only told to devices; ``switchTLS()`` takes it into use.
    ///
    /// - Parameter rootKey: the file with the root key, wherever it is kept.
    public func rotate(
        _ kind: VendorKeyKind, rootKey: String, random: RandomSource
    ) throws -> TrustStatement {
        try exclusively { present in
            var next = Draft(present)
            let secret: SecretBytes
            let id: String
            switch kind {
            case .issuer:
                secret = random.secret(Ed25519PrivateKey.seedSize)
                let key = try Self.signer(secret.withBytes { SecretBytes(copying: $0) }).publicKey
                next.issuerKeys.insert(key, at: 0)
                id = Self.id(key)
            case .sealing:
                secret = random.secret(SealingPrivateKey.size)
                let key = try Self.opener(secret.withBytes { SecretBytes(copying: $0) }).publicKey
                next.sealingKeys.insert(key, at: 0)
                id = Self.id(key)
            case .tls:
                guard try presentTLS(in: present) == present.tlsKeys.count - 1 else {
                    throw VendorKeysError.nextExists
                }
                let key = ECPrivateKey(curve: .p256, random: random)
                secret = key.scalar()
                next.tlsKeys.append(Self.pin(key))
                id = Self.id(pin: Self.pin(key))
            }
            guard
                max(next.issuerKeys.count, next.sealingKeys.count, next.tlsKeys.count)
                    <= TrustStatement.maximumKeys
            else { throw VendorKeysError.tooMany(kind) }
            // The root key is looked at before anything is written.
            let statement = try signed(next, rootKey)
            let name = Self.name(kind, id)
            try secret.withBytes { try write(name + Self.made, $0) }
            let published = try publish(statement)
            try move(file(name + Self.made), to: file(name))
            return published
        }
    }

    /// Takes the next TLS key into use, which devices know from the trust statement.
    ///
    /// - Returns: its id.
    public func switchTLS() throws -> String {
        try exclusively { present in
            let number = try presentTLS(in: present)
            guard number + 1 < present.tlsKeys.count else { throw VendorKeysError.noNext }
            let before = Self.id(pin: present.tlsKeys[number])
            let next = Self.id(pin: present.tlsKeys[number + 1])
            let source = try demand(.tls, next)
            let base = Self.base(.tls)
            if !Files.exists(file(Self.name(.tls, before))) {
                try read(base) { $0 }.withBytes { try write(Self.name(.tls, before), $0) }
            }
            try read(source) { $0 }.withBytes { try write(base, $0) }
            try remove(file(source))
            return next
        }
    }

    /// Takes a key out of the trust statement, and its private half off the disk.
    ///
    /// What an issuer key signed counts no more for devices that have the new statement; what is sealed
    /// to a sealing key is not opened any more.
    ///
    /// - Parameter text: its id, or enough of it.
    /// - Throws: ``VendorKeysError/inUse(_:)``, ``VendorKeysError/unknownKey(_:)``.
    public func retire(
        _ kind: VendorKeyKind, _ text: String, rootKey: String
    ) throws -> TrustStatement {
        try exclusively { present in
            let key = try reported(kind, text)
            guard key.use != .inUse else { throw VendorKeysError.inUse(key.id) }
            var next = Draft(present)
            switch kind {
            case .issuer:
                let gone = next.issuerKeys.filter { Self.id($0) == key.id }
                next.issuerKeys.removeAll { gone.contains($0) }
                next.retiredIssuerKeys = Array(
                    (gone + next.retiredIssuerKeys).prefix(TrustStatement.maximumRetired))
            case .sealing: next.sealingKeys.removeAll { Self.id($0) == key.id }
            case .tls: next.tlsKeys.removeAll { Self.id(pin: $0) == key.id }
            }
            let statement = try signed(next, rootKey)
            let leaving = Self.name(kind, key.id) + Self.leaving
            if let found = try find(kind, key.id) { try move(file(found), to: file(leaving)) }
            let published = try publish(statement)
            try remove(file(leaving))
            return published
        }
    }

    /// A key that the statement lists, by its id or enough of it.
    func reported(_ kind: VendorKeyKind, _ text: String) throws -> VendorKeyReport {
        let found = try list().filter {
            $0.kind == kind && $0.use != .retired && $0.id.hasPrefix(text)
        }
        guard found.count == 1, let key = found.first, !text.isEmpty else {
            throw VendorKeysError.unknownKey(text)
        }
        return key
    }

    /// The key of a kind that was made last.
    public func newest(_ kind: VendorKeyKind) throws -> VendorKeyReport {
        let all = try list().filter { $0.kind == kind }
        guard let key = kind == .tls ? all.last : all.first else {
            throw VendorKeysError.unknownKey(kind.rawValue)
        }
        return key
    }

    /// Where in the statement the key is that the server shows.
    private func presentTLS(in trust: TrustStatement) throws -> Int {
        let pin = try Self.pin(curveKey(Self.base(.tls)))
        guard let number = trust.tlsKeys.firstIndex(of: pin) else {
            throw VendorKeysError.unnamed(file(Self.base(.tls)))
        }
        return number
    }

    // MARK: Interrupted runs

    /// Works on the keys alone, after what an interrupted run left was finished or taken back.
    private func exclusively<R>(_ body: (TrustStatement) throws -> R) throws -> R {
        guard Files.exists(trustFile) else { throw VendorKeysError.missing(trustFile) }
        let lock = try FileLock(file("keys.lock"), patience: Self.patience)
        defer { withExtendedLifetime(lock) {} }
        let present = try trust()
        try recover(present)
        return try body(present)
    }

    /// Finishes or takes back what an interrupted run left; the trust statement decides.
    private func recover(_ trust: TrustStatement) throws {
        let named = Set(
            trust.issuerKeys.map { Self.name(.issuer, Self.id($0)) }
                + trust.sealingKeys.map { Self.name(.sealing, Self.id($0)) }
                + trust.tlsKeys.map { Self.name(.tls, Self.id(pin: $0)) })
        let kinds = VendorKeyKind.allCases.map(\.rawValue) + ["trust"]
        for name in try Files.names(in: directory)
        where kinds.contains(where: name.hasPrefix) {
            for ending in [Self.made, Self.leaving] where name.hasSuffix(ending) {
                let plain = String(name.dropLast(ending.count))
                if named.contains(plain) {
                    try move(file(name), to: file(plain))
                } else {
                    try remove(file(name))
                }
            }
            // A write that did not come to its end.
            if name.hasSuffix(Files.temporarySuffix) { try remove(file(name)) }
        }
        // The switch was interrupted after the key was taken into use.
        let base = Self.base(.tls)
        if Files.exists(file(base)) {
            let copy = Self.name(.tls, try id(.tls, inFile: base))
            if Files.exists(file(copy)) { try remove(file(copy)) }
        }
    }
}
