import Foundation
import GRDB
import HoldfastCrypto
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

/// The certificates of another maker than that of the shared software TPM.
enum TransientMachineRoots {
    static func other() throws -> [[UInt8]] {
        try TransientMachine(.manufactured).roots()
    }
}

@Suite("the store in SQLite")
struct StoreTests {
    private func enrollment(_ number: UInt8, state: EnrollmentState = .unproven) -> EnrollmentRecord
    {
        EnrollmentRecord(
            id: 0, requestHash: [UInt8](repeating: number, count: 32),
            pairwiseID: [UInt8](repeating: 1, count: 32), incarnation: 1, state: state,
            attestationKey: KeyTemplate.attestationKey(vendorID: []), statement: "s",
            response: [1, 2], endorsementHash: [UInt8](repeating: 5, count: 32), model: nil,
            createdAt: 7, replySequence: 0, heardIn: 1)
    }

    @Test("the open connection waits for the disk, and the files are the owner's alone")
    func durability() throws {
        let directory = try TemporaryDirectory()
        let store = try SQLiteStore(path: directory.path + "/db")
        #expect(try store.synchronousSetting() == 2)
        try store.write {
            try $0.insert(AuditRecord(at: 1, action: "a", subject: "b", detail: "c"))
        }
        for name in try Files.names(in: directory.path) {
            let attributes = try FileManager.default.attributesOfItem(
                atPath: directory.path + "/" + name)
            #expect(attributes[.posixPermissions] as? Int == 0o600, "\(name)")
        }
        let again = try SQLiteStore(path: directory.path + "/db")
        #expect(try again.read { try $0.audit(limit: 5) }.count == 1)
    }

    @Test("a transaction that fails leaves nothing")
    func rollback() throws {
        struct Stop: Error {}
        let directory = try TemporaryDirectory()
        let store = try SQLiteStore(path: directory.path + "/db")
        #expect(throws: Stop.self) {
            try store.write { transaction in
                _ = try transaction.insert(enrollment(1))
                throw Stop()
            }
        }
        #expect(try store.read { try $0.enrollments() }.isEmpty)
    }

    @Test("a nonce is used once, and of one enrollment number one alone is proven")
    func constraints() throws {
        let directory = try TemporaryDirectory()
        let store = try SQLiteStore(path: directory.path + "/db")
        let id = try store.write { try $0.insert(enrollment(1, state: .pending)) }
        let nonce = [UInt8](repeating: 8, count: 32)
        try store.write {
            try $0.insert(
                NonceRecord(nonce: nonce, enrollment: id, ordinal: 1, expiresAt: 9, usedBy: nil))
            try $0.use(nonce: nonce, by: [1])
        }
        #expect(throws: StoreError.self) { try store.write { try $0.use(nonce: nonce, by: [2]) } }
        #expect(try store.read { try $0.nonce(nonce)?.usedBy } == [1])
        #expect(throws: StoreError.self) {
            try store.write { try $0.insert(enrollment(2, state: .pending)) }
        }
        _ = try store.write { try $0.insert(enrollment(2)) }
        #expect(throws: StoreError.self) { try store.write { try $0.insert(enrollment(2)) } }
        #expect(throws: StoreError.self) {
            try store.write {
                try $0.insert(
                    NonceRecord(
                        nonce: [UInt8](repeating: 9, count: 32), enrollment: 99, ordinal: 1,
                        expiresAt: 1, usedBy: nil))
            }
        }
    }

    @Test("numbers that do not fit are refused, not wrapped; a clock of any value fits")
    func numbers() throws {
        let directory = try TemporaryDirectory()
        let store = try SQLiteStore(path: directory.path + "/db")
        let id = try store.write { try $0.insert(enrollment(1, state: .pending)) }
        func appraisal(_ epoch: UInt64) -> AppraisalRecord {
            AppraisalRecord(
                id: AppraisalID(random: .system), enrollment: id,
                evidenceHash: RandomSource.system.bytes(32), ordinal: epoch & 0xFFFF,
                receivedAt: 1, isVerified: false,
                clock: ClockInfo(
                    clock: .max, resetCount: .max, restartCount: .max, safe: false),
                epoch: epoch, ledger: 1,
                selection: PCRSelection(.sha256, [PCRIndex.all[7]]), values: PCRValues(),
                notes: ["a \"note\"\n"], firmware: .max)
        }
        let kept = appraisal(5)
        try store.write { try $0.insert(kept) }
        #expect(try store.read { try $0.appraisals(of: id, limit: 3) } == [kept])
        #expect(throws: StoreError.self) {
            try store.write { try $0.insert(appraisal(1 << 63)) }
        }
    }

    @Test("a file that is no database, is damaged or is newer is refused with a reason")
    func damaged() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/db"
        try Files.write(Array("this is not a database, it is a text".utf8), to: path, mode: 0o600)
        #expect(throws: StoreError.self) { try SQLiteStore(path: path) }
        #expect(throws: StoreError.self) { try SQLiteStore(path: directory.path) }
        #expect(throws: StoreError.self) { try SQLiteStore(path: directory.path + "/none/db") }
        let newer = directory.path + "/newer"
        _ = try SQLiteStore(path: newer)
        try DatabaseQueue(path: newer).write { database in
            try database.execute(sql: "INSERT INTO grdb_migrations VALUES ('999')")
        }
        let error = #expect(throws: StoreError.self) { try SQLiteStore(path: newer) }
        #expect(error?.explanation.contains("newer version") == true)
    }
}
