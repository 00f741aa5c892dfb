import HoldfastCrypto
import HoldfastProtocol
import HoldfastServices
import Testing

@Suite("terms as an operator writes them")
struct TermsFileTests {
    private func file(_ changes: [String: String] = [:]) -> [UInt8] {
        var members = [
            "id": #""standard""#, "version": "1", "class": #""production""#, "lease": #""45d""#,
            "renewAfter": #""15d""#, "graceAfter": #""30d""#, "softAfter": #""21d""#,
            "degraded": #""30d""#, "resets": "200", "restarts": "0",
            "evidenceValidity": #""7d""#, "nonceLifetime": #""180d""#,
            "defaultEnforcement": #""strict""#,
        ]
        members.merge(changes) { $1 }
        let lines = members.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }
        return Array("{\(lines.joined(separator: ", "))}".utf8)
    }

    private func refusal(_ changes: [String: String]) -> String? {
        do {
            _ = try TermsFile(file(changes))
            return nil
        } catch { return (error as? ServiceError)?.explanation }
    }

    @Test("good ones are read, and can be signed")
    func good() throws {
        let terms = try TermsFile(file()).terms
        let key = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        _ = try terms.signed(with: key)
    }

    @Test(
        "a rule between members is named in the words of the file",
        arguments: [
            ("graceAfter", "46d", "graceAfter"), ("renewAfter", "31d", "renewAfter"),
            ("softAfter", "46d", "softAfter"), ("nonceLifetime", "74d", "nonceLifetime"),
            ("lease", "401d", "400d"), ("degraded", "90m", "whole hours"),
            ("evidenceValidity", "0s", "evidenceValidity"), ("id", "Standard", "no name"),
        ])
    func broken(member: String, value: String, word: String) {
        #expect(refusal([member: "\"\(value)\""])?.contains(word) == true)
    }

    @Test("what passes here, the token takes, and the other way round")
    func edges() throws {
        let key = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        for (member, value) in [
            ("graceAfter", "45d"), ("renewAfter", "30d"), ("softAfter", "45d"),
            ("nonceLifetime", "75d"), ("renewAfter", "0d"), ("degraded", "0d"),
        ] {
            let terms = try TermsFile(file([member: "\"\(value)\""])).terms
            #expect(throws: Never.self) { try terms.signed(with: key) }
        }
    }
}
