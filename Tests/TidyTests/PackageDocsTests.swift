import Testing

/// Types and functions that other targets see and that have no doc comment.
///
/// It stands directly above, but for attributes. A function that only fulfills a protocol is
/// described there, in ``requirements``; an initializer and a property say with their type and
/// their labels what they are, or have a comment because they need one.
private func undocumented(in file: SourceFile) -> [String] {
    let declaration =
        /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:\w+\s+)*?(?:public|package|open)\s+(?:(?:private|fileprivate|internal|package)\(set\)\s+|[a-z]+\s+)*?(?:actor|associatedtype|class|enum|func|macro|protocol|struct)\s+(\S+)/
        .wordBoundaryKind(.simple)
    let attribute = /^\s*(?:@\w+(?:\(.*\))?\s*)+$/
    let original = file.contents.split(separator: "\n", omittingEmptySubsequences: false)
    return file.code.compactMap { line -> String? in
        guard let match = line.text.firstMatch(of: declaration),
            !requirements.contains(where: { match.output.1.hasPrefix($0) })
        else { return nil }
        var above = line.number - 2
        while above >= 0, original[above].contains(attribute) { above -= 1 }
        if above >= 0 {
            let text = original[above].drop { $0 == " " }
            if text.hasPrefix("///") || text.hasSuffix("*/") { return nil }
        }
        return "\(file.path):\(line.number): no doc comment: \(line.text.drop { $0 == " " })"
    }
}

/// Functions of protocols of ours and of Swift's.
private let requirements = [
    "encode(into", "encodeParameters(into", "decode(", "==", "<(", "< (", "<", "hash(into", "~=",
    "exchange(_", "endTransaction()", "close()",
]

@Suite("doc comments")
struct PackageDocsTests {
    @Test("public and package declarations have one", arguments: try Package.swiftTargets())
    func targets(target: String) throws {
        for file in try Package.sources(of: target) { #expect(undocumented(in: file) == []) }
    }

    @Test(
        "a missing one is found",
        arguments: [
            "package struct A {}", "public func f() {}", "    package static func a() {}",
            "@safe public struct A {}", "@frozen\npackage enum E {}",
            "nonisolated package func f() {}",
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
