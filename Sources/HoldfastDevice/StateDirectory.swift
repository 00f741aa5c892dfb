public import HoldfastCrypto
import HoldfastErrors
import HoldfastFiles
public import HoldfastProtocol
import HoldfastTPMWire

/// What a device keeps of one vendor: the documents as they were received or made.
///
/// | file | mode | what |
/// |---|---|---|
/// | `trust` | 0644 | the trust statement as text |
/// | `trust-next` | 0644 | a newer one while the reply that brought it is taken in |
/// | `counter-auth` | 0600 | the counters' authorization value, 32 bytes |
/// | `parent-salt` | 0600 | 16 bytes, on disk before the TPM is touched |
/// | `request` | 0640 | the enrollment request |
/// | `nonces` | 0640 | nonces that the server waits for, 32 bytes each |
/// | `statement` | 0640 | the device statement as text; written last, so that it means enrolled |
/// | `licenses/` | 0640 | `ID.SERIAL.license` as received; `ID.SERIAL.object` as this TPM stores it |
/// | `approvals/` | 0640 | approvals as received, by their hash |
/// | `ledger/` | 0770 | `ledger.sqlite` 0660, the usage ledger: whoever is of its group may meter |
/// | `reply` | 0640 | the head of the last reply that was applied |
/// | `lock`, `ledger-lock` | 0640 | what keeps programs apart |
/// | `epoch-intent` | 0600 | the epoch that the counter is on its way to |
/// | `retirement` | 0640 | the proof of a retirement |
/// | `good-boot` | 0600 | the last boot in which a lease opened: registers and event log; never sent |
/// | `damaged/N/` | 0700 | a file that was no ledger any more, moved away by a repair |
/// | `former/N/` | 0700 | what belonged to the enrollment before; nothing reads it |
///
/// Files are replaced whole and written through to the disk. A lock keeps two programs apart.
public struct StateDirectory {
    private let path: String
    private let lock: FileLock
    /// Whether this one may change what is here.
    let mayWrite: Bool
    /// How long another program may work in it, in milliseconds.
    static let patience = 5000

    /// Opens the directory, makes it when it is not there, and takes its lock.
    ///
    /// - Throws: ``FileError`` when others may write to it or another program works in it.
    public init(_ path: String) throws {
        try Files.makePrivateDirectory(path)
        self.path = path
        mayWrite = true
        lock = try FileLock(path + "/lock", patience: Self.patience)
        try Files.removeTemporaries(in: path)
    }

    /// Opens the directory to look at it, beside others who do.
    ///
    /// For applications, which need no right but to read. Whoever keeps it for long keeps the owner from
    /// working.
    ///
    /// - Returns: `nil` when there is no such directory, or nothing was kept in it yet.
    public init?(reading path: String) throws {
        guard Files.exists(path + "/lock") else { return nil }
        self.path = path
        mayWrite = false
        lock = try FileLock(path + "/lock", shared: true, patience: Self.patience)
    }

    func file(_ name: String) -> String { path + "/" + name }

    func read(_ name: String, maximum: Int) throws -> [UInt8]? {
        try Files.readIfPresent(file(name), maximum: maximum)
    }

    /// A token and the end of its line.
    static let maximumTokenSize = PASETOToken.maximumTextSize + 1

    // MARK: Tokens

    /// A token in a text file.
    static func token(_ text: [UInt8]) throws -> PASETOToken {
        let words = String(decoding: text, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 1, let token = words.first else { throw TokenError.notCanonical }
        do throws(CryptoError) { return try PASETOToken(parsing: String(token)) } catch {
            throw TokenError.notAuthentic(error)
        }
    }

    // MARK: Enrollment

    /// The request that was made, if there is one.
    public func request() throws -> EnrollmentRequest? {
        guard let bytes = try read("request", maximum: Container.maximumSize) else { return nil }
        return try EnrollmentRequest(decoding: bytes)
    }

    /// Secrets that are on disk before the TPM is touched.
    public struct Preparation: Sendable {
        /// 32 bytes.
        public let counterAuth: [UInt8]
        /// 16 bytes.
        public let parentSalt: [UInt8]
    }

    /// What an earlier run prepared, if it got so far.
    public func preparation() throws -> Preparation? {
        guard let auth = try read("counter-auth", maximum: 32), auth.count == 32,
            let salt = try read("parent-salt", maximum: 16), salt.count == 16
        else { return nil }
        return Preparation(counterAuth: auth, parentSalt: salt)
    }

    /// Draws secrets and writes them through to the disk.
    public func prepare(random: RandomSource) throws -> Preparation {
        let made = Preparation(counterAuth: random.bytes(32), parentSalt: random.bytes(16))
        try Files.write(made.counterAuth, to: file("counter-auth"), mode: 0o600)
        try Files.write(made.parentSalt, to: file("parent-salt"), mode: 0o600)
        return made
    }

    /// Keeps the request.
    public func store(_ request: EnrollmentRequest) throws {
        try Files.write(request.encoded(), to: file("request"), mode: 0o640)
    }

    /// Keeps what the vendor answered; the statement last, so that it means that the rest is there.
    public func store(_ content: EnrollmentResponse.Content) throws {
        try Files.write(content.nonces.flatMap { $0 }, to: file("nonces"), mode: 0o640)
        try Files.write(Array((content.token.text + "\n").utf8), to: file("statement"), mode: 0o640)
    }

    /// The device statement as it was received.
    func statementToken() throws -> PASETOToken? {
        try read("statement", maximum: Self.maximumTokenSize).map(Self.token)
    }

    /// The device statement, verified again each time it is read.
    public func statement() throws -> DeviceStatement? {
        guard let token = try statementToken(),
            let trust = try trust(), let request = try request()
        else { return nil }
        // It is never signed anew, and says what the TPM has, not what is allowed.
        let coming = try comingTrust(after: trust)?.everyIssuerKey ?? []
        let statement = try DeviceStatement(
            verifying: token, issuers: trust.everyIssuerKey + coming,
            attestationKey: request.keys.attestationKey.name)
        // The request is not signed; the statement says which one was answered.
        guard try HashAlgorithm.sha256.digest(request.encoded()) == statement.requestHash else {
            throw TokenError.otherDevice
        }
        return statement
    }

    /// Moves what belongs to the present enrollment aside; the trust statement stays.
    ///
    /// The request goes last: as long as it is there, an interrupted run is seen and taken up.
    ///
    /// - Returns: where it is now.
    func setAside() throws -> String {
        let lock = try lockLedger()
        defer { withExtendedLifetime(lock) {} }
        let place = try newPlace(in: "former")
        let own = try Files.names(in: path).filter {
            !["trust", "lock", "ledger-lock", "former", "request"].contains($0)
        }
        for name in own + ["request"] where Files.exists(file(name)) {
            try Files.move(file(name), to: place + "/" + name)
        }
        return place
    }

    /// Makes the next numbered directory in one that is the owner's alone.
    func newPlace(in name: String) throws -> String {
        try Files.makePrivateDirectory(file(name), mode: 0o700)
        let last = try Files.names(in: file(name)).compactMap { Int($0) }.max() ?? 0
        let place = file("\(name)/\(last + 1)")
        try Files.makePrivateDirectory(place, mode: 0o700)
        return place
    }

    /// Nonces that are left, in the order in which they are used.
    public func nonces() throws -> [[UInt8]] {
        let size = EnrollmentResponse.nonceSize
        let bytes = try read("nonces", maximum: size * 16) ?? []
        guard bytes.count % size == 0 else { throw DocumentError.malformed(.nonces) }
        return stride(from: 0, to: bytes.count, by: size).map { start in
            [UInt8](bytes[start..<start + size])
        }
    }
}
