import Glibc
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTCTI
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// What others left in a raw TPM, and a TPM that does not answer.
@Suite("recovery on a raw TPM", .timeLimit(.minutes(20)))
struct RecoveryTests {
    private func primary() -> CreatePrimaryCommand {
        CreatePrimaryCommand(
            hierarchy: .owner, template: KeyTemplate.leaseParent(unique: [1]))
    }

    private func session(_ kind: StartAuthSessionCommand.Kind) -> StartAuthSessionCommand {
        StartAuthSessionCommand(
            saltKey: EntityReference(.null), nonceCaller: [UInt8](repeating: 1, count: 16),
            encryptedSalt: [], kind: kind, symmetric: .none, hash: .sha256)
    }

    /// A process that is killed flushes nothing: its bytes go past the connection.
    private func leave(_ process: RawProcess, _ count: Int) throws {
        for _ in 0..<count {
            #expect(process.created(try process.run(primary(), [.emptyAuth])))
            #expect(process.created(try process.run(session(.policy), [])))
        }
    }

    @Test("what a killed process left gives way when its room is needed, and not before")
    func killed() throws {
        var raw: (any TPMTransport)?
        let tpm = try TransientTPM(.documented) { inner in
            raw = inner
            return inner
        }
        let process = RawProcess(try #require(raw))
        try leave(process, 2)
        let connection = tpm.connection
        #expect(try connection.handles(from: 0x8000_0000).count == 2)
        // There is room for one more of each: nobody's things are touched.
        try use(connection, objects: 1, sessions: 1)
        #expect(try connection.handles(from: 0x8000_0000).count == 2)
        #expect(try connection.handles(from: 0x0200_0000).count == 2)
        try leave(process, 1)
        try use(connection, objects: 3, sessions: 3)
        connection.endTransaction()
        #expect(try connection.handles(from: 0x8000_0000) == [])
        #expect(try connection.handles(from: 0x0200_0000) == [])
    }

    @Test("an interposer who turns successes into errors costs slots until they are needed")
    func hidden() throws {
        let tpm = try TestTPM()
        let connection = tpm.connection
        tpm.interposer.alter = { code, response in
            code == .createPrimary || code == .startAuthSession
                ? [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01] : response
        }
        for _ in 0..<3 {
            #expect(throws: TPMError.self) { try use(connection, objects: 1, sessions: 0) }
            #expect(throws: TPMError.self) { try use(connection, objects: 0, sessions: 1) }
        }
        tpm.interposer.alter = nil
        connection.endTransaction()
        #expect(try connection.handles(from: 0x8000_0000).count == 3)
        try use(connection, objects: 2, sessions: 2)
        connection.endTransaction()
        #expect(try connection.handles(from: 0x8000_0000) == [])
        #expect(try connection.handles(from: 0x0200_0000) == [])
    }

    @Test("a TPM that says for ever that it is full is refused, not asked for ever")
    func alwaysFull() throws {
        let tpm = try TestTPM()
        var asked = 0
        tpm.interposer.alter = { code, response in
            guard code == .createPrimary else { return response }
            asked += 1
            return [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x02]
        }
        expectRefused(0x902) { () throws(TPMError) in
            try use(tpm.connection, objects: 1, sessions: 0)
        }
        #expect(asked <= 2)
    }

    private func use(
        _ connection: TPMConnection, objects: Int, sessions: Int
    ) throws(TPMError) {
        if objects > 0 {
            try connection.withPrimary(KeyTemplate.leaseParent(unique: [2]), in: .owner) {
                (_) throws(TPMError) in
                try use(connection, objects: objects - 1, sessions: sessions)
            }
        } else if sessions > 0 {
            try connection.withSession(.policy, hash: .sha256, salt: .none) {
                (_) throws(TPMError) in
                try use(connection, objects: 0, sessions: sessions - 1)
            }
        }
    }
}

/// Commands past a connection: nobody keeps account of what they make.
private struct RawProcess {
    private let transport: any TPMTransport
    init(_ transport: any TPMTransport) { self.transport = transport }

    func run<C: TPMCommand>(_ command: C, _ authorizations: [Authorization]) throws -> [UInt8] {
        var writer = WireWriter()
        writer.uint16(authorizations.isEmpty ? 0x8001 : 0x8002)
        writer.uint32(0)
        writer.uint32(C.code.rawValue)
        for handle in command.handles { writer.uint32(handle.handle.rawValue) }
        if !authorizations.isEmpty {
            // One empty password.
            writer.uint32(9)
            writer.uint32(TPMHandle.passwordSession.rawValue)
            writer.raw([0, 0, 0, 0, 0])
        }
        command.encodeParameters(into: &writer)
        writer.patch(UInt32(writer.bytes.count), at: 2)
        return try transport.exchange(writer.bytes)
    }

    func created(_ response: [UInt8]) -> Bool { response.count > 14 && response[8...9] == [0, 0] }
}
