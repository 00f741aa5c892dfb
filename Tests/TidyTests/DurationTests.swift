import Testing

/// R8: every duration that decides about a license stands in signed terms.
///
/// So what decides has no numbers of time in it but these.
private let known: [(file: String, text: String, why: String)] = [
    ("HeldLicenses.swift", ".seconds(10)", "how often a TPM that is away is looked for"),
    ("HeldLicenses.swift", ".milliseconds(50)", "the shortest wait between two looks"),
    ("GuardCore.swift", ".seconds(60)", "a wait is cut into steps of this length"),
    ("GuardCore.swift", ".seconds(180)", "a look that is this late failed"),
    ("GuardCore.swift", ".milliseconds(1)", "the unit of a wait"),
    ("GuardWorld.swift", "86_400", "the unit of the day in a record, a hint"),
    ("VendorService.swift", "400 * 86_400", "nonces of a device that has no terms yet"),
    ("TermsText.swift", "86_400_000", "a unit for people"),
    ("TermsText.swift", "3_600_000", "a unit for people"),
    ("TermsText.swift", "60_000", "a unit for people"),
    ("TermsFile.swift", "86_400", "units of the file, and bounds of the format"),
    ("TermsFile.swift", "86_400_000", "a unit of the file"),
    ("TermsFile.swift", "3_600_000", "a unit of the file"),
    ("TermsFile.swift", "60_000", "a unit of the file"),
]

/// Numbers that look like a duration: with a unit, or products of days and hours.
private func durations(in file: SourceFile) -> [String] {
    let pattern =
        /\.(?:seconds|minutes|hours|milliseconds|microseconds)\(\s*[0-9][0-9_]*\s*\)|\b(?:86_?400(?:_?000)?|3_?600(?:_?000)?|60_000)\b/
    return file.code.flatMap { line in
        line.text.matches(of: pattern).map { match in
            "\(file.path):\(line.number): \(match.output)"
        }
    }
}

@Suite("R8: durations are in the terms")
struct DurationTests {
    @Test(
        "what decides has none of its own",
        arguments: ["HoldfastLicensing", "HoldfastGuard", "HoldfastDevice", "HoldfastServices"])
    func none(target: String) throws {
        for file in try Package.sources(of: target) {
            let exceptions = known.filter { file.path.hasSuffix("/" + $0.file) }
            let found = durations(in: file).filter { finding in
                !exceptions.contains { one in
                    // The last number of an exception is what the pattern finds.
                    one.text.split(separator: " ").last.map { finding.hasSuffix($0) } ?? false
                }
            }
            #expect(found == [])
        }
    }

    @Test("each exception is there")
    func exceptions() throws {
        let files = try ["HoldfastLicensing", "HoldfastGuard", "HoldfastServices"].flatMap {
            try Package.sources(of: $0)
        }
        for one in known {
            let file = files.first { $0.path.hasSuffix("/" + one.file) }
            #expect(file?.code.contains { $0.text.contains(one.text) } == true, "\(one)")
        }
    }

    @Test(
        "a duration is found",
        arguments: [
            "let a = Duration.seconds(30)", "wait(.minutes(5))", "if days * 86_400 > x {",
            "let b = 3600", "let c = 2 * 86400000",
        ])
    func found(source: String) {
        #expect(durations(in: SourceFile(path: "Example.swift", contents: source)).count == 1)
    }

    @Test(
        "what only looks like one is none",
        arguments: [
            "let a = Duration.seconds(terms.absence)", "let b = 4096", "// 86_400",
            "let c = \"3600\"",
        ])
    func harmless(source: String) {
        #expect(durations(in: SourceFile(path: "Example.swift", contents: source)) == [])
    }
}
