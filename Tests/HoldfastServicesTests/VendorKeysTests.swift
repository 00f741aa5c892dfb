import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServices
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
