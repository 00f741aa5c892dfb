import Testing

@Suite("reading of sources")
struct SourcesTests {
    @Test("comments and strings are blanked, and lines keep their numbers")
    func blanking() {
        let source = ##"""
            let a = "try! // no" // try!
            /* try! /* nested */ try!
            */ let b = #"a " \(no) try!"#
            let c = """
                try!
                """
            let d = "\(f(")")) try!" + e
            let e = "\\"; g()
            #if DEBUG
            """##
        let lines = codeLines(of: source).map { $0.text.trimmingSuffixSpaces() }
        #expect(
            lines == [
                "let a = \"\"", "", " let b = \"\"", "let c = \"", "", "\"", "let d = \"\" + e",
                "let e = \"\"; g()", "#if DEBUG",
            ])
    }

    @Test("the package is found")
    func package() throws {
        #expect(try Package.swiftTargets().contains("holdfast-sim"))
        #expect(try Package.libraries().contains("HoldfastCrypto"))
        #expect(try !Package.libraries().contains("CSodium"))
    }
}

extension Substring {
    fileprivate func trimmingSuffixSpaces() -> String {
        var text = self
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
