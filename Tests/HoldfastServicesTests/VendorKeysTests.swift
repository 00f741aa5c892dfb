import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
import Synchronization
import Testing

@Suite("vendor keys")
final class VendorKeysTests {
    private let directory = "/tmp/hf-vendor-" + String(UInt64.random(in: 0 ... .max), radix: 16)
    private var keys: VendorKeys { VendorKeys(directory: directory) }
    private let settings = VendorKeys.Settings(
        endorsementKeys: [.init(manufacturer: "id:00001014", model: "swtpm", kind: "ecc-p384")],
        urls: ["https://licenses.example/"], selection: "sha256:7")

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    private func mode(_ name: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: directory + "/" + name)[.posixPermissions]
            as? Int
    }

    @Test("the trust file verifies and names the keys that were made")
    func create() throws {
        let statement = try keys.create(settings, random: .system)
        let text = try Files.read(keys.trustFile, maximum: 1 << 16)
        let token = try PASETOToken(
            parsing: String(decoding: text, as: UTF8.self).trimmingCharacters(in: .newlines))
        #expect(try TrustStatement(verifying: token, replacing: nil) == statement)
        let sealing = try keys.sealingKey()
        #expect(statement.sealingKeys == [sealing.publicKey])
        #expect(try keys.approvalKey().publicKey == statement.approvalKey)
    }

    @Test("secrets are for their owner alone")
    func modes() throws {
        _ = try keys.create(settings, random: .system)
        for name in ["root.key", "issuer.key", "sealing.key", "approval.key"] {
            #expect(try mode(name) == 0o600, "\(name)")
        }
        #expect(try mode("trust") == 0o644)
    }

    @Test("keys are never overwritten, also when only one of them is left")
    func noOverwrite() throws {
        _ = try keys.create(settings, random: .system)
        #expect(throws: VendorKeysError.alreadyInitialized(directory)) {
            try keys.create(settings, random: .system)
        }
        for name in ["root.key", "issuer.key", "sealing.key", "trust"] {
            try Files.remove(directory + "/" + name)
        }
        #expect(throws: VendorKeysError.alreadyInitialized(directory)) {
            try keys.create(settings, random: .system)
        }
    }

    @Test("a key that is missing or damaged is named")
    func damage() throws {
        _ = try keys.create(settings, random: .system)
        let path = directory + "/approval.key"
        try Files.write([UInt8](repeating: 0, count: 32), to: path, mode: 0o600)
        #expect(throws: VendorKeysError.damaged(path)) { try keys.approvalKey() }
        try Files.write([1, 2, 3], to: path, mode: 0o600)
        #expect(throws: VendorKeysError.damaged(path)) { try keys.approvalKey() }
        try Files.remove(path)
        #expect(throws: VendorKeysError.missing(path)) { try keys.approvalKey() }
    }

    // MARK: Rotation

    private struct Interrupted: Error {}

    /// What can be done with keys; each works on a vendor that has earlier ones and a next one.
    enum Work: String, CaseIterable, Sendable {
        case rotateIssuer, rotateSealing, rotateTLS, switchTLS, retireIssuer, retireSealing
        case retireTLS, retireFirstTLS
    }

    private func ready() throws {
        _ = try keys.create(settings, random: .system)
        for kind in VendorKeyKind.allCases {
            _ = try keys.rotate(kind, rootKey: keys.rootKeyFile, random: .system)
        }
    }

    private func id(_ kind: VendorKeyKind, _ use: VendorKeyReport.Use) throws -> String {
        try #require(try keys.list().first { $0.kind == kind && $0.use == use }).id
    }

    /// Brings a vendor to where a work begins.
    private func prepare(_ work: Work) throws {
        switch work {
        case .rotateTLS, .retireFirstTLS: _ = try keys.switchTLS()
        default: break
        }
    }

    private func perform(_ work: Work, _ keys: VendorKeys) throws {
        let root = keys.rootKeyFile
        switch work {
        case .rotateIssuer: _ = try keys.rotate(.issuer, rootKey: root, random: .system)
        case .rotateSealing: _ = try keys.rotate(.sealing, rootKey: root, random: .system)
        case .rotateTLS: _ = try keys.rotate(.tls, rootKey: root, random: .system)
        case .switchTLS: _ = try keys.switchTLS()
        case .retireIssuer:
            _ = try keys.retire(.issuer, id(.issuer, .earlier), rootKey: root)
        case .retireSealing:
            _ = try keys.retire(.sealing, id(.sealing, .earlier), rootKey: root)
        case .retireTLS: _ = try keys.retire(.tls, id(.tls, .next), rootKey: root)
        case .retireFirstTLS: _ = try keys.retire(.tls, id(.tls, .earlier), rootKey: root)
        }
    }

    /// Every key that the statement lists is here, and the key that is in use is listed.
    private func check(_ place: Comment) throws {
        for key in try keys.list() where key.use != .retired {
            #expect(key.hasPrivateKey, place)
        }
        let trust = try keys.trust()
        #expect(try keys.issuerKey().publicKey == trust.issuerKeys[0], place)
        #expect(try keys.sealingKey().publicKey == trust.sealingKeys[0], place)
        let pin = HashAlgorithm.sha256.digest(
            try keys.tlsKey().publicKey.subjectPublicKeyInfo)
        #expect(trust.tlsKeys.contains(pin), place)
    }

    @Test(
        "a run that is interrupted at any write leaves keys that work, and the next one clears up",
        arguments: Work.allCases)
    func interrupted(work: Work) throws {
        try ready()
        try prepare(work)
        let copy = directory + ".copy"
        defer { try? FileManager.default.removeItem(atPath: copy) }
        try FileManager.default.copyItem(atPath: directory, toPath: copy)
        let before = try keys.trust().sequence
        var steps = 0
        while true {
            try FileManager.default.removeItem(atPath: directory)
            try FileManager.default.copyItem(atPath: copy, toPath: directory)
            let left = Mutex(steps)
            var cut = keys
            cut.beforeStep = {
                try left.withLock { left in
                    guard left > 0 else { throw Interrupted() }
                    left -= 1
                }
            }
            var isDone = false
            do {
                try perform(work, cut)
                isDone = true
            } catch is Interrupted {}
            let place: Comment = "\(work), step \(steps)"
            try check(place)
            let sequence = try keys.trust().sequence
            #expect(sequence == before || sequence == before + 1, place)
            // Another run that has nothing to do with it.
            _ = try keys.update(
                .init(urls: ["https://other.example"], endorsementKeys: []),
                rootKey: keys.rootKeyFile)
            try check(place)
            #expect(try keys.trust().sequence == sequence + 1, place)
            let listed = try keys.list()
            let names = try Files.names(in: directory)
            for name in names
            where VendorKeyKind.allCases.contains(where: {
                name.hasPrefix($0.rawValue)
            }) {
                #expect(name.hasSuffix(".key"), place)
                #expect(try mode(name) == 0o600, place)
                guard let start = name.firstIndex(of: "-") else { continue }
                let id = name[name.index(after: start)...].dropLast(4)
                #expect(
                    listed.contains { $0.id == id && $0.use != .retired }, "\(name), \(work)")
            }
            // And once more, from wherever it was left.
            if sequence == before, work != .switchTLS {
                try perform(work, keys)
                try check(place)
            }
            if isDone { break }
            steps += 1
        }
        #expect(steps >= 2)
    }

    @Test("without the vendor's own root key nothing is changed, and no key is left behind")
    func foreignRoot() throws {
        try ready()
        let before = try Files.names(in: directory)
        let trust = try Files.read(keys.trustFile, maximum: 1 << 16)
        let other = directory + "/other.bin"
        try Files.write([UInt8](repeating: 5, count: 32), to: other, mode: 0o600)
        for kind in [VendorKeyKind.issuer, .sealing] {
            #expect(throws: TokenError.foreignKey) {
                try keys.rotate(kind, rootKey: other, random: .system)
            }
            #expect(throws: VendorKeysError.missing(directory + "/none")) {
                try keys.rotate(kind, rootKey: directory + "/none", random: .system)
            }
            let earlier = try id(kind, .earlier)
            #expect(throws: TokenError.foreignKey) {
                try keys.retire(kind, earlier, rootKey: other)
            }
        }
        try Files.remove(other)
        #expect(try Files.names(in: directory) == before)
        #expect(try Files.read(keys.trustFile, maximum: 1 << 16) == trust)
    }

    @Test("what a run left that no statement names is removed, and nothing else is")
    func leftovers() throws {
        try ready()
        try Files.makePrivateDirectory(directory + "/ek-roots")
        let before = try Files.names(in: directory)
        let named = "issuer-\(try id(.issuer, .inUse)).key"
        try Files.move(directory + "/" + named, to: directory + "/" + named + ".made")
        _ = try keys.issuerKey()
        let stray = [
            "issuer-0011223344556677.key.made", "sealing-0011223344556677.key.leaving",
            "tls-0011223344556677.key.made.k3x.new", "trust.k3x.new",
        ]
        // What others write, and what somebody put there by hand.
        let kept = ["note.made", "records.new", "issuer-0011223344556677.key"]
        for name in stray + kept {
            try Files.write(
                [UInt8](repeating: 1, count: 32), to: directory + "/" + name, mode: 0o600)
        }
        _ = try keys.rotate(.sealing, rootKey: keys.rootKeyFile, random: .system)
        let after = Set(try Files.names(in: directory))
        #expect(after.isSuperset(of: before + kept))
        #expect(after.isDisjoint(with: stray + [named + ".made"]))
    }

    @Test("there are eight keys of a kind at most, and a retired one is remembered")
    func many() throws {
        _ = try keys.create(settings, random: .system)
        let first = try id(.issuer, .inUse)
        for _ in 2...TrustStatement.maximumKeys {
            _ = try keys.rotate(.issuer, rootKey: keys.rootKeyFile, random: .system)
        }
        let before = try Files.names(in: directory)
        #expect(throws: VendorKeysError.tooMany(.issuer)) {
            try keys.rotate(.issuer, rootKey: keys.rootKeyFile, random: .system)
        }
        #expect(try Files.names(in: directory) == before)
        _ = try keys.retire(.issuer, first, rootKey: keys.rootKeyFile)
        _ = try keys.rotate(.issuer, rootKey: keys.rootKeyFile, random: .system)
        #expect(try id(.issuer, .retired) == first)
        // A retired one does not come back, and cannot go twice.
        #expect(throws: VendorKeysError.unknownKey(first)) {
            try keys.retire(.issuer, first, rootKey: keys.rootKeyFile)
        }
    }

    @Test("a key file with another key in it, and a TLS key that nobody pinned, are refused")
    func exchanged() throws {
        try ready()
        let issuer = directory + "/issuer-\(try id(.issuer, .inUse)).key"
        let good = try Files.read(issuer, maximum: 32)
        try Files.write([UInt8](repeating: 3, count: 32), to: issuer, mode: 0o600)
        #expect(throws: VendorKeysError.damaged(issuer)) { _ = try keys.issuerKey() }
        try Files.remove(issuer)
        #expect(throws: VendorKeysError.missing(issuer)) { _ = try keys.issuerKey() }
        try Files.write(good, to: issuer, mode: 0o600)
        _ = try keys.issuerKey()
        let tls = directory + "/tls.key"
        try Files.write([UInt8](repeating: 3, count: 32), to: tls, mode: 0o600)
        #expect(throws: VendorKeysError.unnamed(tls)) { try keys.tlsKey() }
        #expect(throws: VendorKeysError.unnamed(tls)) { try keys.switchTLS() }
        #expect(throws: VendorKeysError.unnamed(tls)) {
            try keys.rotate(.tls, rootKey: keys.rootKeyFile, random: .system)
        }
    }

    @Test("a directory that others may write to is refused")
    func openDirectory() throws {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o777])
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o777], ofItemAtPath: directory)
        #expect(throws: FileError.self) { try keys.create(settings, random: .system) }
    }

    @Test(
        "rules for endorsement keys",
        arguments: [
            "", "=", "a=ecc-p384", "a/b=rsa", "/b=ecc-p384", "a/=ecc-p384", "a/b/c=ecc-p384",
        ])
    func rules(text: String) {
        #expect(VendorKeys.rule(text) == nil)
        #expect(VendorKeys.rule("id:1014/swtpm=ecc-p384")?.kind == "ecc-p384")
    }

    @Test("a lock is held by one, and given back")
    func lock() throws {
        try Files.makePrivateDirectory(directory)
        do {
            let lock = try FileLock(directory + "/lock")
            #expect(throws: FileError.self) { try FileLock(self.directory + "/lock") }
            withExtendedLifetime(lock) {}
        }
        _ = try FileLock(directory + "/lock")
    }

    @Test("a file is read up to its limit, and replaced whole")
    func files() throws {
        try Files.makePrivateDirectory(directory)
        let path = directory + "/file"
        try Files.write([1, 2, 3], to: path, mode: 0o600)
        try Files.write([4, 5], to: path, mode: 0o640)
        #expect(try Files.read(path, maximum: 2) == [4, 5])
        #expect(throws: FileError.self) { try Files.read(path, maximum: 1) }
        #expect(throws: FileError.self) { try Files.read(directory + "/none", maximum: 1) }
        #expect(throws: FileError.self) {
            try Files.write([1], to: directory + "/none/file", mode: 0o600)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["file"])
    }
}
