import Testing

/// Declarations that other targets see and that have no doc comment.
///
/// It stands directly above, but for attributes. The linter checks `public` and `open` ones; this
/// checks `package` ones as well. An extension, a `case` and a member of a protocol have no access
/// modifier of their own and are not looked at.
private func undocumented(in file: SourceFile) -> [String] {
    let declaration =
        /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:\w+\s+)*?(?:public|package|open)\s+(?:(?:private|fileprivate|internal|package)\(set\)\s+|[a-z]+\s+)*?(?:actor|associatedtype|class|enum|func|init|let|macro|protocol|struct|subscript|typealias|var)\b/
        .wordBoundaryKind(.simple)
    let attribute = /^\s*(?:@\w+(?:\(.*\))?\s*)+$/
    let original = file.contents.split(separator: "\n", omittingEmptySubsequences: false)
    return file.code.compactMap { line -> String? in
        guard line.text.contains(declaration) else { return nil }
        var above = line.number - 2
        while above >= 0, original[above].contains(attribute) { above -= 1 }
        if above >= 0 {
            let text = original[above].drop { $0 == " " }
            if text.hasPrefix("///") || text.hasSuffix("*/") { return nil }
        }
        return "\(file.path):\(line.number): no doc comment: \(line.text.drop { $0 == " " })"
    }
}

@Suite("doc comments")
struct PackageDocsTests {
    @Test("public and package declarations have one", arguments: try Package.swiftTargets())
    func targets(target: String) throws {
        for file in try Package.sources(of: target) { #expect(undocumented(in: file) == []) }
    }

    @Test(
        "a missing one is found",
        arguments: [
            "package struct A {}", "public func f() {}", "    package static let a = 1",
            "@safe public struct A {}", "/// Words.\n\npackage var a: Int { 1 }",
            "// no doc comment\npackage init() {}", "@frozen\npackage enum E {}",
            "package private(set) var a = 1", "nonisolated package func f() {}",
            "public borrowing func f() {}", "package final class C {}",
        ])
    func found(source: String) {
        #expect(undocumented(in: SourceFile(path: "Example.swift", contents: source)).count == 1)
    }

    @Test(
        "one that is there counts",
        arguments: [
            "/// Words.\npackage struct A {}", "/// Words.\n@frozen\n@safe\npackage enum E {}",
            "/// Words.\n@available(*, deprecated)\npublic func f() {}", "struct A {}",
            "// package struct A {}", "package extension A {}",
            "let package = Package(name: \"a\")",
            "public import Crypto",
        ])
    func harmless(source: String) {
        #expect(undocumented(in: SourceFile(path: "Example.swift", contents: source)) == [])
    }
}
