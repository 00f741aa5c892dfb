import Testing

/// A call that libraries do not make, and what they do instead.
private struct Ban {
    let name: String
    let instead: String
    let pattern: Regex<Substring>

    init(_ name: String, _ pattern: Regex<Substring>, instead: String) {
        self.name = name
        self.instead = instead
        // By default `\b` finds no word boundary within `Foundation.Date`.
        self.pattern = pattern.wordBoundaryKind(.simple)
    }
}

private func bans() -> [Ban] {
    [
        Ban("try!", /\btry!/, instead: "throw"),
        Ban("as!", /\bas!/, instead: "use as? and throw"),
        Ban(
            "print(", /(?:^|[^.\w`]|\bSwift\.)(?:debugPrint|print|dump)\s*\(/,
            instead: "return a value; only HoldfastConsole prints"),
        Ban(
            "Date()", /\bDate\s*(?:(?:\.init\s*)?\(\s*\)|\.now\b)/,
            instead: "take the time as a value"),
        Ban(
            "SystemRandomNumberGenerator()", /\bSystemRandomNumberGenerator\s*\(/,
            instead: "take the random source as a value"),
        Ban(
            "Task.sleep", /\bTask(?:<[^>]*>)?\.sleep\b/,
            instead: "take the clock as a value"),
    ]
}

private func bannedCalls(in file: SourceFile, except exceptions: Set<String> = []) -> [String] {
    let bans = bans()
    return file.code.flatMap { line in
        bans.filter { !exceptions.contains($0.name) && line.text.contains($0.pattern) }
            .map { "\(file.path):\(line.number): \($0.name) is banned in libraries: \($0.instead)" }
    }
}

@Suite("banned calls")
struct BannedCallsTests {
    @Test("libraries make none", arguments: try Package.libraries())
    func libraries(target: String) throws {
        let exceptions: Set<String> = target == "HoldfastConsole" ? ["print("] : []
        for file in try Package.sources(of: target) {
            #expect(bannedCalls(in: file, except: exceptions) == [])
        }
    }

    @Test(
        "a banned call is found",
        arguments: [
            "let a = try! f()", "let b = c as! D", "print(\"x\")", "    print (a)",
            "Swift.print(a)",
            "if x { print(a) }", "debugPrint(a)", "let t = Date()", "let t = Foundation.Date( )",
            "let t = Date.now", "let t = Date.init()", "await Swift.Task.sleep(for: a)",
            "var g = SystemRandomNumberGenerator()",
            "try await Task.sleep(for: .seconds(1))",
            "try await Task<Never, Never>.sleep(nanoseconds: 1)",
        ])
    func found(source: String) {
        #expect(bannedCalls(in: SourceFile(path: "Example.swift", contents: source)).count == 1)
    }

    @Test(
        "what only looks like one is none",
        arguments: [
            "// try! f()", "let a = \"print(x)\"", "console.print(a)", "func fingerprint(a: Int)",
            "let d = Date(timeIntervalSince1970: 0)", "let d = UpDate()", "let t: Date",
            "canvas!.draw()", "/* Task.sleep */",
            "let e = a as? B", "let f = try? g()", "blueprint(a)", "func printer() {}",
        ])
    func harmless(source: String) {
        #expect(bannedCalls(in: SourceFile(path: "Example.swift", contents: source)) == [])
    }
}
