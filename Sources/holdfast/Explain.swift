import ArgumentParser
import HoldfastConsole
import HoldfastErrors

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What a code means: cause, what still works, what to do.",
        discussion: "Without a code it lists them all.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "As a refusal gives it, for example BOOT_CHANGED.") var code: String?
    @Flag(help: "Prints the page of all codes, in Markdown.") var page = false

    func run() throws {
        guard let code else {
            return try console.result(
                Explanation.all,
                text: page
                    ? Explanation.page
                    : Explanation.all.map { "\($0.code)  \($0.cause)" }.joined(separator: "\n"),
                format: common.format)
        }
        guard let found = Explanation.of(code) else {
            throw ValidationError("`\(code)` is no code; `holdfast explain` lists them")
        }
        try console.result(
            found,
            text: """
                \(found.code)
                cause     \(found.cause)
                works     \(found.stillWorks)
                to do     \(found.next)
                """, format: common.format)
    }
}
