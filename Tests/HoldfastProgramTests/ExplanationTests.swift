import Foundation
import HoldfastErrors
import Testing

@Suite("what a code means")
struct ExplanationTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    private static func sources() throws -> [(name: String, text: String)] {
        let files = FileManager.default.enumerator(atPath: root.path + "/Sources")
        return try (files?.allObjects as? [String] ?? []).filter { $0.hasSuffix(".swift") }.map {
            ($0, try String(contentsOfFile: root.path + "/Sources/" + $0, encoding: .utf8))
        }
    }

    /// Every code that a source gives: of an error, and of a decision.
    private static func codesInSources() throws -> Set<String> {
        var codes: Set<String> = []
        for (name, text) in try sources() {
            let patterns = [
                /case [^:\n]*: "([A-Z][A-Z0-9_]+)"/, /code: [^\n"]*"([A-Z][A-Z0-9_]+)"/,
                /stableCode[^"\n]*"([A-Z][A-Z0-9_]+)"/, /"code": "([A-Z][A-Z0-9_]+)"/,
            ]
            for pattern in patterns {
                codes.formUnion(text.matches(of: pattern).map { String($0.output.1) })
            }
            // The raw values of states, flags and the TPM's errors are codes as well.
            if ["LicenseState.swift", "TPMError.swift"].contains(where: name.hasSuffix) {
                codes.formUnion(
                    text.matches(of: /case \w+ = "([A-Z][A-Z0-9_]+)"/).map {
                        String($0.output.1)
                    })
            }
        }
        // What moves a license, and how: no codes of refusals.
        return codes.subtracting([
            "LEASE_INSTALLED", "RENEWAL_DUE", "GRACE_BEGUN", "LEASE_ENDED", "DEGRADED_ENDED",
            "LOCKED_PAST_SOFT_END", "TPM_CLEARED", "ENROLLED_AGAIN", "NORMAL",
        ])
    }

    @Test("every code of the sources is explained once, and nothing else is")
    func complete() throws {
        let found = try Self.codesInSources()
        let explained = Explanation.all.map(\.code)
        #expect(found.count > 60)
        #expect(Set(explained).count == explained.count)
        #expect(found.subtracting(explained).sorted() == [])
        // And a code that no source has any more is not explained.
        let sources = try Self.sources().filter { !$0.name.hasSuffix("/Explanation.swift") }
        for code in explained {
            #expect(sources.contains { $0.text.contains("\"\(code)\"") }, "\(code)")
        }
    }

    @Test("the page is the one of the documentation")
    func page() throws {
        let page = try String(
            contentsOf: Self.root.appending(path: "docs/codes.md"), encoding: .utf8)
        #expect(page == Explanation.page + "\n" || page == Explanation.page)
    }

    /// The grade of Flesch and Kincaid: years at school.
    private static func grade(_ text: String) -> Double {
        let plain = text.replacing(/`[^`]*`/, with: "this")
        let sentences = max(1, plain.matches(of: /[.!?:](?:\s|$)/).count)
        let words = plain.matches(of: /[A-Za-z']+/).map { String($0.output).lowercased() }
        let syllables = words.reduce(0) { sum, word in
            var count = word.matches(of: /[aeiouy]+/).count
            if word.hasSuffix("e"), !word.hasSuffix("le"), count > 1 { count -= 1 }
            return sum + max(1, count)
        }
        return 0.39 * Double(words.count) / Double(sentences)
            + 11.8 * Double(syllables) / Double(max(1, words.count)) - 15.59
    }

    @Test("nobody needs more than eight years at school to read it")
    func reading() {
        // The measure itself: a hard sentence is hard, and an easy one easy.
        #expect(Self.grade("The cat sat on the mat.") < 2)
        #expect(
            Self.grade(
                "Notwithstanding contractual obligations, administrators invalidate cryptographic authorizations unilaterally."
            ) > 15)
        for entry in Explanation.all {
            let grade = Self.grade("\(entry.cause) \(entry.next)")
            #expect(grade <= 9, "\(entry.code): \(grade)")
        }
        let whole = Explanation.all.map { "\($0.cause) \($0.next)" }.joined(separator: " ")
        #expect(Self.grade(whole) <= 6.5, "\(Self.grade(whole))")
    }

    @Test("the program explains, and refuses what is no code")
    func program() throws {
        let bench = try Bench()
        let told = try bench.device("explain", "boot_changed")
        #expect(told.status == 0)
        #expect(told.output.hasPrefix("BOOT_CHANGED\ncause     "))
        #expect(
            try bench.device("explain", "--format", "json", "STALE").json()["code"] as? String
                == "STALE")
        #expect(try bench.device("explain", "NO_SUCH_CODE").status == 64)
        #expect(try bench.device("explain", "").status == 64)
    }
}
