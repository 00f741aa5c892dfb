import Foundation

/// A line of a source file, numbered from 1, with its comments and the text of its strings blanked.
struct CodeLine {
    let number: Int
    let text: Substring
}

/// A Swift file of this package.
struct SourceFile {
    /// The path from the package's root.
    let path: String
    let contents: String

    /// The lines without comments and without what stands between quotation marks.
    var code: [CodeLine] { codeLines(of: contents) }
}

/// The package that this test belongs to.
enum Package {
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static func text(of path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// The folders under Sources that hold Swift, which is to say the targets that are not C modules.
    static func swiftTargets() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: root.appending(path: "Sources").path)
            .filter { try !sources(of: $0).isEmpty }
            .sorted()
    }

    /// The targets that others import; executables have lower-case names.
    static func libraries() throws -> [String] {
        try swiftTargets().filter { $0.first?.isUppercase == true }
    }

    static func sources(of target: String) throws -> [SourceFile] {
        let folder = "Sources/\(target)"
        let files = FileManager.default.enumerator(atPath: root.appending(path: folder).path)
        return try (files?.allObjects as? [String] ?? [])
            .filter { $0.hasSuffix(".swift") }
            .sorted()
            .map { SourceFile(path: "\(folder)/\($0)", contents: try text(of: "\(folder)/\($0)")) }
    }
}

/// Blanks comments (also nested ones) and string literals (also raw and multi-line ones).
///
/// What is interpolated into a string is blanked too.
func codeLines(of source: String) -> [CodeLine] {
    enum State: Equatable {
        case code
        case lineComment
        case blockComment(depth: Int)
        case string(pounds: Int, multiline: Bool, parentheses: Int)
    }
    let characters = Array(source)
    var state = State.code
    var output = ""
    var index = 0

    func starts(_ text: String) -> Bool {
        characters[index...].starts(with: text)
    }
    func pounds(from start: Int) -> Int {
        characters[start...].prefix { $0 == "#" }.count
    }

    while index < characters.count {
        let character = characters[index]
        switch state {
        case .code:
            if starts("//") {
                state = .lineComment
                index += 2
            } else if starts("/*") {
                state = .blockComment(depth: 1)
                index += 2
            } else if character == "\"" || character == "#" {
                let count = pounds(from: index)
                let quote = index + count
                guard quote < characters.count, characters[quote] == "\"" else {
                    output.append(contentsOf: characters[index..<quote])
                    index = quote
                    continue
                }
                let multiline = characters[quote...].starts(with: "\"\"\"")
                state = .string(pounds: count, multiline: multiline, parentheses: 0)
                output.append("\"")
                index = quote + (multiline ? 3 : 1)
            } else {
                output.append(character)
                index += 1
            }
        case .lineComment:
            if character.isNewline {
                output.append("\n")
                state = .code
            }
            index += 1
        case .blockComment(let depth):
            if starts("/*") {
                state = .blockComment(depth: depth + 1)
                index += 2
            } else if starts("*/") {
                state = depth == 1 ? .code : .blockComment(depth: depth - 1)
                index += 2
            } else {
                if character.isNewline { output.append("\n") }
                index += 1
            }
        case .string(let count, let multiline, let parentheses):
            let escape = "\\" + String(repeating: "#", count: count)
            let end = (multiline ? "\"\"\"" : "\"") + String(repeating: "#", count: count)
            if parentheses > 0 {
                // Inside an interpolation only the parentheses matter.
                let change = character == "(" ? 1 : character == ")" ? -1 : 0
                state = .string(
                    pounds: count, multiline: multiline, parentheses: parentheses + change)
                if character.isNewline { output.append("\n") }
                index += 1
            } else if starts(escape + "(") {
                state = .string(pounds: count, multiline: multiline, parentheses: 1)
                index += escape.count + 1
            } else if starts(escape), index + escape.count < characters.count {
                // An escaped line end keeps its place.
                if characters[index + escape.count].isNewline { output.append("\n") }
                index += escape.count + 1
            } else if starts(end) {
                output.append("\"")
                state = .code
                index += end.count
            } else {
                if character.isNewline { output.append("\n") }
                index += 1
            }
        }
    }
    return output.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        .map { CodeLine(number: $0.offset + 1, text: $0.element) }
}
