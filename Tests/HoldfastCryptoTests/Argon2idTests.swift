import HoldfastCrypto
import Testing

@Suite("Argon2id") struct Argon2idTests {
    @Test("hashes as the reference implementation does")
    func knownAnswer() throws {
        // argon2-cffi: t = 2, m = 64 KiB, p = 1, version 1.3.
        let hash = try Argon2id(passes: 2, memory: 64 << 10)
            .hash(utf8("password").span, salt: counting(16), outputSize: 32)
        #expect(
            Hex.encode(hash) == "716882821df77bc6414358b07159fb63ca1c90beaeb9d0ca0e43bd887dcf2ca9")
    }

    @Test("other input, salt or cost gives another hash")
    func differs() throws {
        let cost = try Argon2id(passes: 1, memory: 8 << 10)
        let hashes = Set([
            try cost.hash(Span(), salt: counting(16), outputSize: 32),
            try cost.hash([1].span, salt: counting(16), outputSize: 32),
            try cost.hash([1].span, salt: counting(from: 1, 16), outputSize: 32),
            try Argon2id(passes: 2, memory: 8 << 10)
                .hash([1].span, salt: counting(16), outputSize: 32),
            try Argon2id(passes: 1, memory: 16 << 10)
                .hash([1].span, salt: counting(16), outputSize: 32),
        ])
        #expect(hashes.count == 5)
    }

    @Test("refuses cost outside of its limits")
    func cost() throws {
        for (passes, memory) in [
            (0, 1 << 20), (-1, 1 << 20), (65, 1 << 20), (1, 8191), (1, -1), (1, 1 << 31),
        ] {
            #expect(throws: CryptoError.costNotAccepted) {
                try Argon2id(passes: passes, memory: memory)
            }
        }
    }

    @Test("refuses salts of another length", arguments: [0, 15, 17])
    func salt(count: Int) throws {
        let cost = try Argon2id(passes: 1, memory: 8 << 10)
        #expect(throws: CryptoError.lengthInvalid) {
            try cost.hash([1].span, salt: counting(count), outputSize: 32)
        }
    }
}
