import HoldfastAttestation
public import HoldfastCrypto
public import HoldfastErrors
import HoldfastFiles
public import HoldfastProtocol
import HoldfastTPMWire

/// Why the vendor's keys cannot be made or used.
public enum VendorKeysError: Error, Sendable, Hashable, OperatorError {
    /// The directory has keys already; others would orphan every device.
    case alreadyInitialized(String)
    /// A key file is missing.
    case missing(String)
    /// A key file does not hold what it should.
    case damaged(String)
    /// No key of that kind has this id, or more than one.
    case unknownKey(String)
    /// The key is in use.
    case inUse(String)
    /// The trust statement has no room for one more.
    case tooMany(VendorKeyKind)
    /// The next TLS key is there already.
    case nextExists
    /// There is no next TLS key.
    case noNext
    /// The key in a file is in use, and no trust statement names it.
    case unnamed(String)

    public var explanation: String {
        switch self {
        case .alreadyInitialized(let path): "`\(path)` has a vendor's keys already"
        case .missing(let path): "the key file `\(path)` is not there"
        case .damaged(let path): "the key file `\(path)` does not hold a key"
        case .unknownKey(let id): "there is no key `\(id)` of that kind, or more than one"
        case .inUse(let id): "the key `\(id)` is in use"
        case .tooMany(let kind):
            "the trust file names \(TrustStatement.maximumKeys) keys of kind `\(kind.rawValue)`, and takes no more"
        case .nextExists: "the trust file names the next TLS key already"
        case .noNext: "the trust file names no next TLS key"
        case .unnamed(let path):
            "the key in `\(path)` is in use, and the trust file does not name it"
        }
    }
    public var remedy: String? {
        switch self {
        case .alreadyInitialized: "use another directory; keys are never overwritten"
        case .missing: "bring the key back from where it is kept, or run `holdfast-server init`"
        case .damaged: "restore the file from a backup"
        case .unknownKey: "see `holdfast-server keys list`"
        case .inUse: "make another one first: `holdfast-server keys rotate`"
        case .tooMany: "retire one that nobody needs: `holdfast-server keys retire`"
        case .nextExists: "take it into use: `holdfast-server keys switch tls`"
        case .noNext: "make it, and let devices learn of it: `holdfast-server keys rotate tls`"
        case .unnamed: "restore the trust file and the keys from one backup"
        }
    }
    public var stableCode: String {
        switch self {
        case .alreadyInitialized, .missing, .damaged, .unnamed: "VENDOR_KEYS"
        case .unknownKey, .inUse, .tooMany, .nextExists, .noNext: "KEY_NOT_FITTING"
        }
    }
    public var exitStatus: ExitStatus { stableCode == "VENDOR_KEYS" ? .failure : .refused }
}

/// The keys of a vendor, each in a file of its own, mode 0600.
///
/// `root.key` signs the trust statement and nothing else: it is taken away after `init`, and serving
/// works without it. Of issuer, sealing and TLS keys there may be several: later ones have their id in
/// the name, `issuer-ID.key`, and the trust statement says which is in use. `issuer.key` and `root.key` are Ed25519 seeds, `sealing.key` an X25519 scalar,
/// `approval.key` and `tls.key` P-256 scalars, `admin.token` what administrators of the server show
/// over the network, `record.key` the key under which endorsement keys are hashed; each
/// has 32 bytes.
public struct VendorKeys: Sendable {
    let directory: String
    /// Called before each change of a file; an error there is a run that was interrupted.
    package var beforeStep: @Sendable () throws -> Void = {}

    /// Names a directory; nothing is read.
    public init(directory: String) { self.directory = directory }

    func file(_ name: String) -> String { directory + "/" + name }

    /// Where the trust file for devices is.
    public var trustFile: String { file("trust") }
    /// Where the root key is until it is taken away.
    public var rootKeyFile: String { file("root.key") }

    /// What goes into the first trust statement besides the keys.
    public struct Settings: Sendable {
        public var endorsementKeys: [TrustStatement.EndorsementKeyRule]
        public var urls: [String]
        /// As `sha256:7`.
        public var selection: String

        public init(
            endorsementKeys: [TrustStatement.EndorsementKeyRule], urls: [String], selection: String
        ) {
            self.endorsementKeys = endorsementKeys
            self.urls = urls
            self.selection = selection
        }
    }

    /// Makes every key and the trust file; the trust file is written last, so that a directory with
    /// one has all of them.
    ///
    /// - Throws: `.alreadyInitialized` when any key is there.
    public func create(_ settings: Settings, random: RandomSource) throws -> TrustStatement {
        try Files.makePrivateDirectory(directory)
        for name in [
            "root.key", "issuer.key", "sealing.key", "approval.key", "tls.key", "admin.token",
            "record.key", "trust",
        ]
        where Files.exists(file(name)) {
            throw VendorKeysError.alreadyInitialized(directory)
        }
        guard let selection = PCRSelection(text: settings.selection) else {
            throw TokenError.malformed("selection")
        }
        let root = try newSigningKey("root.key", random)
        let issuer = try newSigningKey("issuer.key", random)
        let scalar = random.secret(SealingPrivateKey.size)
        try scalar.withBytes { try write("sealing.key", $0) }
        let sealing = try SealingPrivateKey(scalar: scalar)
        let approval = ECPrivateKey(curve: .p256, random: random)
        try approval.scalar().withBytes { try write("approval.key", $0) }
        try random.secret(32).withBytes { try write("record.key", $0) }
        try random.secret(32).withBytes { try write("admin.token", $0) }
        let tls = ECPrivateKey(curve: .p256, random: random)
        try tls.scalar().withBytes { try write("tls.key", $0) }
        let statement = TrustStatement(
            rootKey: root.publicKey, sequence: 1, issuerKeys: [issuer.publicKey],
            sealingKeys: [sealing.publicKey], approvalKey: approval.publicKey,
            tlsKeys: [HashAlgorithm.sha256.digest(tls.publicKey.subjectPublicKeyInfo)],
            endorsementKeys: settings.endorsementKeys, factSalt: random.bytes(16),
            urls: settings.urls, selection: selection)
        let token = try statement.signed(with: root)
        try Files.write(Array((token.text + "\n").utf8), to: trustFile, mode: 0o644)
        return statement
    }

    private func newSigningKey(
        _ name: String, _ random: RandomSource
    ) throws -> Ed25519PrivateKey {
        let seed = random.secret(Ed25519PrivateKey.seedSize)
        try seed.withBytes { try write(name, $0) }
        return try Ed25519PrivateKey(seed: seed)
    }

    func write(_ name: String, _ secret: Span<UInt8>) throws {
        try beforeStep()
        try Files.write(secret, to: file(name), mode: 0o600)
    }

    // MARK: Use

    /// The key to which devices with the newest trust statement seal.
    public func sealingKey() throws -> SealingPrivateKey {
        try sealingKey(of: trust().sealingKeys[0])
    }

    /// The key that approves boot states.
    public func approvalKey() throws -> ECPrivateKey { try curveKey("approval.key") }

    /// The key of the server in TLS; devices pin it and look at nothing else of a certificate.
    ///
    /// - Throws: ``VendorKeysError/unnamed(_:)`` for one that no device would accept.
    public func tlsKey() throws -> ECPrivateKey {
        let key = try curveKey("tls.key")
        let pin = HashAlgorithm.sha256.digest(key.publicKey.subjectPublicKeyInfo)
        guard try trust().tlsKeys.contains(pin) else {
            throw VendorKeysError.unnamed(file("tls.key"))
        }
        return key
    }

    func curveKey(_ name: String) throws -> ECPrivateKey {
        try read(name) { secret in
            try secret.withBytes { bytes in
                var scalar = bytes.indices.map { bytes[$0] }
                defer { wipe(&scalar) }
                return try ECPrivateKey(curve: .p256, scalar: scalar)
            }
        }
    }

    /// SHA-256 of the text that administrators show: base 32 of the file's content.
    public func adminTokenHash() throws -> [UInt8] {
        HashAlgorithm.sha256.digest(Array(try adminToken().utf8))
    }

    /// What administrators show.
    public func adminToken() throws -> String {
        try read("admin.token") { $0 }.withBytes { bytes in
            Base32.encode(bytes.indices.map { bytes[$0] })
        }
    }

    /// The key that signs licenses, leases, replies and device statements.
    public func issuerKey() throws -> Ed25519PrivateKey {
        try issuerKey(of: trust().issuerKeys[0])
    }

    /// The key under which endorsement keys are hashed in records and in the inventory.
    public func recordKey() throws -> SecretBytes { try read("record.key") { $0 } }

    /// The trust statement as it was given to devices.
    public func trust() throws -> TrustStatement {
        try TrustStatement(verifying: trustToken(), replacing: nil)
    }

    /// The trust statement as a token.
    package func trustToken() throws -> PASETOToken {
        guard Files.exists(trustFile) else { throw VendorKeysError.missing(trustFile) }
        let text = String(
            decoding: try Files.read(trustFile, maximum: PASETOToken.maximumTextSize),
            as: UTF8.self)
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 1, let word = words.first,
            let token = try? PASETOToken(parsing: String(word))
        else { throw VendorKeysError.damaged(trustFile) }
        return token
    }

    // MARK: TPM makers

    /// Where the certificates of trusted TPM makers are.
    public var makersDirectory: String { file("ek-roots") }

    /// Copies the certificates of TPM makers that are to be trusted.
    ///
    /// A manifest beside them is kept as well, and from then on every certificate must be in it.
    ///
    /// - Parameter directory: with *.pem, *.crt, *.cer and *.der.
    /// - Returns: how many files were taken.
    public func trustMakers(in directory: String) throws -> Int {
        try Files.makePrivateDirectory(makersDirectory)
        let files = try Files.certificates(in: directory)
        let added = try Self.manifest(in: directory)
        try added?.demand(files)
        let kept = try Self.manifest(in: makersDirectory)
        if let merged = added.map({ kept?.merging($0) ?? $0 }) ?? kept {
            // Also what was trusted before there was a manifest.
            try merged.demand(files + Files.certificates(in: makersDirectory))
            try Files.write(
                merged.encoded(), to: makersDirectory + "/" + MakerManifest.fileName, mode: 0o644)
        }
        for bytes in files {
            let name = Hex.encode([UInt8](HashAlgorithm.sha256.digest(bytes)[..<16]))
            let ending = bytes.starts(with: Array("-----".utf8)) ? "pem" : "der"
            try Files.write(bytes, to: "\(makersDirectory)/\(name).\(ending)", mode: 0o644)
        }
        return files.count
    }

    /// The certificates of trusted TPM makers; none when no directory was given yet.
    ///
    /// - Throws: ``EndorsementError/notPinned(_:)`` for one that was dropped beside those of a manifest.
    public func makers() throws -> [[UInt8]] {
        guard Files.exists(makersDirectory) else { return [] }
        let files = try Files.certificates(in: makersDirectory)
        try Self.manifest(in: makersDirectory)?.demand(files)
        return files
    }

    private static func manifest(in directory: String) throws -> MakerManifest? {
        try Files.readIfPresent(
            directory + "/" + MakerManifest.fileName, maximum: MakerManifest.maximumSize
        ).map { try MakerManifest($0) }
    }

    func read<Key: ~Copyable>(
        _ name: String, _ make: (consuming SecretBytes) throws -> Key
    ) throws -> Key {
        try read(at: file(name), make)
    }

    func read<Key: ~Copyable>(
        at path: String, _ make: (consuming SecretBytes) throws -> Key
    ) throws -> Key {
        guard Files.exists(path) else { throw VendorKeysError.missing(path) }
        do {
            let secret = try Files.withDescriptor(path) {
                try SecretBytes(reading: $0, maximum: 32)
            }
            guard secret.count == 32 else { throw VendorKeysError.damaged(path) }
            return try make(secret)
        } catch let error as FileError { throw error } catch {
            throw VendorKeysError.damaged(path)
        }
    }
}

extension VendorKeys {
    /// Kinds of endorsement keys that devices can have.
    private static let kinds = Set(EndorsementKeyKind.allCases.map(\.rawValue))

    /// Reads `MANUFACTURER/MODEL=KIND`.
    ///
    /// - Returns: `nil` when it is not of that form or the kind is not known.
    public static func rule(_ text: String) -> TrustStatement.EndorsementKeyRule? {
        let halves = text.split(separator: "=", omittingEmptySubsequences: false)
        guard halves.count == 2, kinds.contains(String(halves[1])) else { return nil }
        let names = halves[0].split(separator: "/", omittingEmptySubsequences: false)
        guard names.count == 2, !names[0].isEmpty, !names[1].isEmpty else { return nil }
        return TrustStatement.EndorsementKeyRule(
            manufacturer: String(names[0]), model: String(names[1]), kind: String(halves[1]))
    }
}
