import Foundation
import Testing

/// Pages that say which test shows something; a test that was renamed or taken out shows nothing.
@Suite("what the documentation says is tested")
struct NamedTestsTests {
    private func names() throws -> Set<String> {
        let folder = Package.root.appending(path: "Tests").path
        let files = FileManager.default.enumerator(atPath: folder)?.allObjects as? [String] ?? []
        var names: Set<String> = []
        for file in files where file.hasSuffix(".swift") {
            let text = try Package.text(of: "Tests/" + file)
            for match in text.matches(of: /@(?:Test|Suite)\(\s*"((?:[^"\\]|\\.)*)"/) {
                names.insert(String(match.output.1))
            }
        }
        return names
    }

    @Test(
        "each quoted test is there, and a page names some",
        arguments: ["docs/requirements.md", "docs/attacks.md"])
    func exist(page: String) throws {
        let names = try names()
        let rows = try Package.text(of: page).split(separator: "\n").filter { $0.hasPrefix("|") }
        let quoted = rows.flatMap { row in
            row.matches(of: /"([^"]+)"/).map { String($0.output.1) }
        }
        #expect(quoted.count > 20)
        #expect(quoted.filter { !names.contains($0) } == [])
        // The search finds names at all, and not everything.
        #expect(names.count > 300)
        #expect(!names.contains("a test that nobody wrote"))
    }
}

@Suite("R37: what a program reads")
struct InputTests {
    @Test("every variable of the environment stands in the list, and is read in one place")
    func variables() throws {
        var read: Set<String> = []
        var places: [String] = []
        for target in try Package.swiftTargets() {
            for file in try Package.sources(of: target) {
                if file.code.contains(where: { $0.text.contains("getenv(") }) {
                    places.append(file.path)
                }
                // Fuzz targets and the bench are built for whoever works on this.
                guard !["holdfast-fuzz", "HoldfastFuzz", "HoldfastStage"].contains(target) else {
                    continue
                }
                #expect(
                    !file.code.contains { $0.text.contains("ProcessInfo.processInfo.environment") },
                    "\(file.path)")
                for match in file.contents.matches(of: /\benvironment\("([A-Za-z0-9_]+)"\)/) {
                    read.insert(String(match.output.1))
                }
            }
        }
        #expect(
            places.sorted() == [
                "Sources/HoldfastConsole/Environment.swift",
                "Sources/HoldfastSoftwareTPM/Process/System.swift",
            ])
        let page = try Package.text(of: "docs/attacks.md")
        #expect(read.isSuperset(of: ["HOLDFAST_TCTI", "HOLDFAST_STATE"]))
        #expect(read.filter { !page.contains("`\($0)`") } == [])
    }
}
