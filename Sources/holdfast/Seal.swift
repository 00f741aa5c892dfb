import ArgumentParser
import HoldfastConsole
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastTPM
import HoldfastTPMWire

/// The password of the owner hierarchy, where it is set.
struct OwnerOptions: ParsableArguments {
    @Option(help: "A file whose first line is the password of the owner hierarchy, if it has one.")
    var ownerFile: String?

    func secret() throws -> SymmetricSecret? { try ownerFile.map(SecretFile.line) }
}

/// Which key hides what goes to the TPM and vouches for what it says.
struct PinnedOptions: ParsableArguments {
    @OptionGroup var state: StateOptions
    @Flag(
        help:
            "Believes the storage key that the TPM shows, on a machine whose enrollment this user may not read."
    )
    var unpinned = false

    /// The lease parent of an enrolled device; `nil` where there is no enrollment.
    ///
    /// - Throws: when there is one and its key cannot be had: who hides it would have another key
    ///   believed.
    func key(_ connection: TPMConnection) throws -> LoadedObject? {
        let path = try state.path()
        guard !unpinned, Files.exists(path + "/statement") else { return nil }
        guard let directory = try StateDirectory(reading: path) else { return nil }
        defer { connection.endTransaction() }
        return try EnrolledDevice(directory, tpm: connection, random: .system).pinnedKey()
    }
}

/// Secrets in files.
enum SecretFile {
    /// The first line of a file.
    static func line(_ path: String) throws -> SymmetricSecret {
        var options = PINOptions()
        options.pinDescriptor = nil
        options.pinFile = path
        return try options.read(isNew: false, sizes: 1...64, what: "password")
    }
}

struct Seal: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Seals a secret to this TPM: holdfast seal --pcrs 7 <secret >blob",
        discussion: """
            The secret has 1 to 128 bytes. It opens while the PCRs have the values that they have \
            now, and with the PIN when --pin is given. --policy says more, for example `clock <= \
            86400000`, `nv 0x01500001 = 00ff`, `secret owner`, `command unseal`, `approved by \
            key.pem`, and `(pcrs 7 or approved by key.pem)`; conditions are joined with `and`. \
            docs/spec/sealing.md has them all.
            """)

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var common: CommonOptions
    @OptionGroup var pinFrom: PINOptions
    @OptionGroup var owner: OwnerOptions
    @OptionGroup var pinned: PinnedOptions
    @Option(help: "PCRs that keep their values, as `sha256:0,7`.") var pcrs: String?
    @Flag(help: "Asks for a PIN of 4 to 32 bytes, whose wrong tries the TPM counts.") var pin =
        false
    @Option(
        parsing: .singleValue, help: "A further condition, or a whole policy. May be given again.")
    var policy: [String] = []
    @Option(help: "Writes the blob to a file, and not to standard output.") var out: String?
    @Option(name: .customLong("public"), help: "Writes TPM2B_PUBLIC for tpm2_load as well.")
    var publicFile: String?
    @Option(name: .customLong("private"), help: "Writes TPM2B_PRIVATE for tpm2_load as well.")
    var privateFile: String?

    /// The conditions in one text.
    private func text() throws -> PolicyText {
        var terms: [PolicyText.Term] = []
        for condition in policy { terms += try policyText(condition).terms }
        if let pcrs { terms += try policyText("pcrs " + pcrs).terms }
        let text = PolicyText(terms)
        // A PIN that is given belongs to the condition that asks for it, and to all of it without one.
        guard pin || pinFrom.isGiven && !text.asksForPIN, !terms.contains(.pin) else { return text }
        return PolicyText(terms + [.pin])
    }

    func run() throws {
        let text = try text()
        guard !text.terms.isEmpty else {
            throw ValidationError(
                "give --pcrs, --pin or --policy: without a condition nothing is sealed")
        }
        let owner = try owner.secret()
        let keys = try policyKeys(text)
        let secret = try SecretInput.standardInput(maximum: ImportBlob.maximumSecretSize)
        guard secret.count > 0 else {
            throw ValidationError("there is no secret on standard input")
        }
        let connection = try tpm.connect()
        defer { connection.close() }
        let salt = try pinned.key(connection)
        let pin =
            text.asksForPIN ? try pinFrom.read(isNew: true, sizes: TPMConnection.pinSizes) : nil
        let blob = try connection.transaction { (tpm) throws(TPMError) in
            try tpm.seal(secret, under: text, keys: keys, pin: pin, salt: salt, owner: owner)
        }
        if let publicFile { try Files.write(sized(blob.publicArea), to: publicFile, mode: 0o644) }
        if let privateFile {
            try Files.write(sized(blob.privateBlob), to: privateFile, mode: 0o600)
        }
        console.note(blob.policy.sentence)
        guard let out else {
            let bytes = SecretBytes(copying: blob.wireBytes)
            return try SecretInput.deliver(bytes)
        }
        try Files.write(blob.wireBytes, to: out, mode: 0o600)
        try console.result(
            Printed(
                blob: out, policy: hexadecimal(blob.policy.digest), sentence: blob.policy.sentence),
            text: "sealed `\(out)`: \(blob.policy.sentence)", format: common.format)
    }

    private struct Printed: Encodable {
        let blob: String
        let policy: String
        let sentence: String
    }

    private func sized(_ bytes: [UInt8]) -> [UInt8] {
        var writer = WireWriter()
        writer.sized(bytes)
        return writer.bytes
    }
}

struct Unseal: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Opens what `seal` made: holdfast unseal BLOB >secret",
        discussion: """
            With --public and --private it opens what tpm2_create sealed below the same storage \
            key, or below --parent, under the conditions of --policy.
            """)

    @OptionGroup var tpm: TPMOptions
    @OptionGroup var common: CommonOptions
    @OptionGroup var pinFrom: PINOptions
    @OptionGroup var owner: OwnerOptions
    @OptionGroup var pinned: PinnedOptions
    @Argument(help: "The blob.") var blob: String?
    @Flag(help: "Says what the blob demands, and opens nothing.") var explain = false
    @Option(
        parsing: .singleValue,
        help:
            "A signature (TPMT_SIGNATURE) under the present state of --approved-pcrs. May be given again."
    )
    var approval: [String] = []
    @Option(help: "The key of the signature: TPM2B_PUBLIC, TPMT_PUBLIC or PEM.") var approvalKey:
        String?
    @Option(help: "The PCRs that the signature is about, as `sha256:0,7`.") var approvedPcrs:
        String?
    @Option(help: "The reference that was signed with them, in hexadecimal.")
    var approvalReference = ""
    @Option(
        parsing: .singleValue,
        help: "For `secret ENTITY`: ENTITY=FILE with the password in its first line.")
    var secret: [String] = []
    @Option(name: .customLong("public"), help: "TPM2B_PUBLIC of tpm2_create, in place of a blob.")
    var publicFile: String?
    @Option(name: .customLong("private"), help: "TPM2B_PRIVATE of tpm2_create.") var privateFile:
        String?
    @Option(help: "A persistent storage key, 0x81…, above --public.") var parent: String?
    @Option(parsing: .singleValue, help: "The policy of --public, as for `seal`.") var policy:
        [String] = []

    func validate() throws {
        guard (blob == nil) != (publicFile == nil), (publicFile == nil) == (privateFile == nil)
        else {
            throw ValidationError("give a blob, or --public and --private")
        }
        guard (approval.isEmpty) == (approvalKey == nil),
            (approval.isEmpty) == (approvedPcrs == nil)
        else { throw ValidationError("--approval, --approval-key and --approved-pcrs go together") }
    }

    func run() throws {
        let stored = try blob.map(read)
        if explain, let stored {
            return try console.result(
                Explained(
                    policy: hexadecimal(stored.policy.digest), sentence: stored.policy.sentence),
                text: stored.policy.sentence, format: common.format)
        }
        let text = try joined()
        let keys = try policyKeys(text)
        let ownerSecret = try owner.secret()
        let handle = try parent.map(persistentHandle)
        let connection = try tpm.connect()
        defer { connection.close() }
        let foreign = try stored == nil ? self.foreign(text, keys, connection) : nil
        guard let opened = stored ?? foreign else { return }
        var means = UnsealingMeans(owner: ownerSecret, salt: try pinned.key(connection))
        means.approvals = try approvals(connection)
        means.secrets = try secrets(connection)
        func readPIN() throws -> SymmetricSecret {
            try pinFrom.read(isNew: false, sizes: 1...TPMConnection.pinSizes.upperBound)
        }
        if opened.policy.asksForPIN, pinFrom.isGiven { means.pin = try readPIN() }
        // Nobody is asked for a PIN that a branch does without.
        do {
            return try SecretInput.deliver(
                release(opened, means, isOurs: stored != nil, below: handle, connection))
        } catch let error as TPMError where error.code == .pinNeeded && means.pin == nil {
            means.pin = try readPIN()
        }
        try SecretInput.deliver(
            release(opened, means, isOurs: stored != nil, below: handle, connection))
    }

    private func release(
        _ opened: SealedBlob, _ means: UnsealingMeans, isOurs: Bool, below handle: TPMHandle?,
        _ connection: TPMConnection
    ) throws(TPMError) -> SecretBytes {
        try connection.transaction { (tpm) throws(TPMError) in
            if isOurs { return try tpm.unseal(opened, with: means) }
            if let handle {
                return try tpm.unseal(opened, below: tpm.object(at: handle), with: means)
            }
            return try tpm.withStorageKey(means.owner, salt: means.salt) {
                (parent) throws(TPMError) in
                try tpm.unseal(opened, below: parent, with: means)
            }
        }
    }

    private func read(_ file: String) throws -> SealedBlob {
        let bytes = try Files.read(file, maximum: SealedBlob.maximumSize)
        do throws(SealedObjectError) { return try SealedBlob(file: bytes) } catch {
            throw BlobError(what: "`\(file)`", error: error)
        }
    }

    private struct Explained: Encodable {
        let policy: String
        let sentence: String
    }

    private func joined() throws -> PolicyText {
        var terms: [PolicyText.Term] = []
        for condition in policy { terms += try policyText(condition).terms }
        return PolicyText(terms)
    }

    private func persistentHandle(_ text: String) throws -> TPMHandle {
        guard text.hasPrefix("0x"), let value = UInt32(text.dropFirst(2), radix: 16),
            TPMHandle(rawValue: value).isPersistent
        else { throw ValidationError("--parent takes a persistent handle like 0x81000001") }
        return TPMHandle(rawValue: value)
    }

    /// What tpm2_create wrote, as a blob of ours.
    private func foreign(
        _ text: PolicyText, _ keys: [String: PublicArea], _ connection: TPMConnection
    ) throws -> SealedBlob? {
        guard let publicFile, let privateFile else { return nil }
        let resolved = try connection.transaction { (tpm) throws(TPMError) in
            try tpm.policy(text, keys: keys)
        }
        let made = SealedBlob(
            parent: TPMName(handle: .null), publicArea: try content(publicFile),
            privateBlob: try content(privateFile), policy: resolved, pcrValues: PCRValues())
        do throws(SealedObjectError) { _ = try made.object() } catch {
            throw BlobError(what: "`\(publicFile)`", error: error)
        }
        return made
    }

    private func content(_ file: String) throws -> [UInt8] {
        var reader = WireReader(try Files.read(file, maximum: SealedBlob.maximumSize))
        do throws(WireError) {
            let bytes = try reader.sized("content", maximum: PublicArea.maximumSize)
            try reader.finish()
            return bytes
        } catch { throw BlobError(what: "`\(file)`", error: .malformed) }
    }

    private func approvals(_ connection: TPMConnection) throws -> [PCRApproval] {
        guard let approvalKey, let approvedPcrs else { return [] }
        guard let selection = PCRSelection(text: approvedPcrs) else {
            throw ValidationError("--approved-pcrs takes a list like `sha256:0,7`")
        }
        guard let reference = bytes(hexadecimal: approvalReference), reference.count <= 32 else {
            throw ValidationError("--approval-reference takes at most 32 bytes in hexadecimal")
        }
        let key = try keyFile(approvalKey)
        let values = try connection.transaction { (tpm) throws(TPMError) in
            try tpm.readPCRs(selection)
        }
        guard let digest = values.digest(of: selection, hash: .sha256) else {
            throw ValidationError("the TPM does not have all of `\(approvedPcrs)`")
        }
        let all = try approval.map { file in
            let bytes = try Files.read(file, maximum: Signature.maximumSize)
            do throws(WireError) {
                return PCRApproval(
                    selection: selection, pcrDigest: digest, policyRef: reference, key: key,
                    signature: try Signature(wireBytes: bytes))
            } catch { throw BlobError(what: "the signature `\(file)`", error: .malformed) }
        }
        // Of several, one is about the values that there are now; the TPM takes one try.
        return all.count == 1 ? all : all.filter { (try? $0.verify()) != nil }
    }

    private func secrets(_ connection: TPMConnection) throws -> [TPMName: SymmetricSecret] {
        var found: [TPMName: SymmetricSecret] = [:]
        for text in secret {
            let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else {
                throw ValidationError("--secret takes ENTITY=FILE, for example owner=password")
            }
            let condition = try policyText("secret " + parts[0])
            let policy = try connection.transaction { (tpm) throws(TPMError) in
                try tpm.policy(condition, keys: [:])
            }
            guard case .secret(let entity, _)? = policy.assertions.first else { continue }
            found[entity] = try SecretFile.line(parts[1])
        }
        return found
    }
}

/// Reads a condition, or says at which word it fails.
private func policyText(_ text: String) throws -> PolicyText {
    do throws(PolicyTextError) { return try PolicyText(text) } catch {
        throw ValidationError("the policy `\(text)` cannot be read: \(error)")
    }
}

/// Reads the keys that a policy names.
private func policyKeys(_ text: PolicyText) throws -> [String: PublicArea] {
    var keys: [String: PublicArea] = [:]
    for term in text.terms {
        switch term {
        case .approved(let file, _): keys[file] = try keyFile(file)
        case .or(let branches):
            for branch in branches { keys.merge(try policyKeys(branch)) { $1 } }
        default: break
        }
    }
    return keys
}

/// Reads TPM2B_PUBLIC, TPMT_PUBLIC or PEM.
private func keyFile(_ path: String) throws -> PublicArea {
    let bytes = try Files.read(path, maximum: 8192)
    if let area = try? PublicArea(wireBytes: bytes) { return area }
    var reader = WireReader(bytes)
    if let inner = try? reader.sized("public", maximum: PublicArea.maximumSize),
        reader.remaining == 0, let area = try? PublicArea(wireBytes: inner)
    {
        return area
    }
    guard let key = try? ECPublicKey(pem: String(decoding: bytes, as: UTF8.self)) else {
        throw ValidationError(
            "`\(path)` is not a key on P-256 or P-384 as TPM2B_PUBLIC, TPMT_PUBLIC or PEM")
    }
    return KeyTemplate.approvalKey(key)
}
