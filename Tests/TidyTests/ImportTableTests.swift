import Foundation
import Testing

/// What a target may import, the modules of the toolchain aside.
///
/// The same table stands in `docs/architecture.md`; change both in one commit.
private let allowed: [String: Set<String>] = [
    "HoldfastErrors": [],
    "HoldfastFiles": ["HoldfastErrors"],
    "HoldfastCrypto": ["CSodium", "Crypto", "CryptoExtras"],
    "HoldfastTPMWire": ["HoldfastCrypto"],
    "HoldfastProtocol": ["HoldfastCrypto", "HoldfastErrors", "HoldfastTPMWire"],
    "HoldfastTPM": ["HoldfastCrypto", "HoldfastErrors", "HoldfastTPMWire"],
    "HoldfastLicensing": ["HoldfastCrypto", "HoldfastProtocol", "HoldfastTPMWire"],
    "HoldfastDevice": [
        "GRDB", "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles", "HoldfastLicensing",
        "HoldfastProtocol", "HoldfastTPM", "HoldfastTPMWire",
    ],
    "HoldfastGuard": [
        "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors", "HoldfastLicensing",
        "HoldfastProtocol", "HoldfastTCTI", "HoldfastTPM",
    ],
    "HoldfastLibrary": [
        "CHoldfast", "HoldfastCrypto", "HoldfastErrors", "HoldfastGuard", "HoldfastLicensing",
    ],
    "HoldfastTCTI": ["CTSS2", "HoldfastTPM", "HoldfastTPMWire"],
    "HoldfastHardware": [
        "CUdev", "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles", "HoldfastProtocol",
    ],
    "HoldfastSoftwareTPM": [
        "HoldfastCrypto", "HoldfastErrors", "HoldfastTPM", "HoldfastTPMWire",
    ],
    "HoldfastStage": [
        "Crypto", "CryptoExtras", "GRDB", "GRDBSQLite", "HoldfastAttestation", "HoldfastCrypto",
        "HoldfastDevice", "HoldfastFiles", "HoldfastGuard", "HoldfastLicensing", "HoldfastProtocol",
        "HoldfastServer", "HoldfastServices", "HoldfastSoftwareTPM", "HoldfastSync",
        "HoldfastTPM", "HoldfastTPMWire",
    ],
    "HoldfastFuzz": [
        "Crypto", "HoldfastAttestation", "HoldfastCrypto", "HoldfastProtocol", "HoldfastServices",
        "HoldfastTPM", "HoldfastTPMWire", "SwiftASN1", "X509",
    ],
    "holdfast-fuzz": ["CLibFuzzer", "HoldfastFuzz"],
    "HoldfastConsole": ["ArgumentParser", "HoldfastCrypto", "HoldfastErrors"],
    "holdfast-bench": ["ArgumentParser", "HoldfastConsole", "HoldfastFiles", "HoldfastStage"],
    "holdfast-demo": ["ArgumentParser", "HoldfastConsole", "HoldfastErrors", "HoldfastStage"],
    "holdfast-soak": ["ArgumentParser", "HoldfastConsole", "HoldfastErrors", "HoldfastStage"],
    "holdfast": [
        "ArgumentParser", "HoldfastConsole", "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors",
        "HoldfastFiles", "HoldfastHardware", "HoldfastLicensing", "HoldfastProtocol",
        "HoldfastSync", "HoldfastTCTI", "HoldfastTPM", "HoldfastTPMWire",
    ],
    "HoldfastAttestation": [
        "Crypto", "HoldfastCrypto", "HoldfastErrors", "HoldfastProtocol", "HoldfastTPMWire",
        "SwiftASN1", "X509",
    ],
    "HoldfastServices": [
        "HoldfastAttestation", "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles",
        "HoldfastLicensing", "HoldfastProtocol", "HoldfastTPMWire",
    ],
    "HoldfastServer": [
        "Crypto", "GRDB", "HTTPTypes", "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles",
        "HoldfastProtocol", "HoldfastServices", "HoldfastTPMWire", "Hummingbird",
        "HummingbirdCore", "HummingbirdTLS", "NIOCore", "NIOSSL", "SwiftASN1", "X509",
    ],
    "HoldfastSync": [
        "CCurl", "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors", "HoldfastProtocol",
        "HoldfastTPM",
    ],
    "holdfast-server": [
        "ArgumentParser", "HoldfastAttestation", "HoldfastConsole", "HoldfastCrypto",
        "HoldfastErrors", "HoldfastFiles", "HoldfastLicensing", "HoldfastProtocol",
        "HoldfastServer", "HoldfastServices", "HoldfastTPMWire",
    ],
    "holdfast-sim": [
        "ArgumentParser", "HoldfastConsole", "HoldfastCrypto", "HoldfastFiles",
        "HoldfastSoftwareTPM", "HoldfastTPMWire",
    ],
]

/// Modules that come with the toolchain.
///
/// All targets may use them but those of ``withoutSystem``.
private let systemModules: Set<String> = [
    "Dispatch", "Foundation", "FoundationEssentials", "Glibc", "Synchronization",
]

/// Targets that compute and nothing else.
private let withoutSystem: Set<String> = ["HoldfastProtocol", "HoldfastTPMWire"]

private func allowedImports(of target: String) -> Set<String> {
    (allowed[target] ?? []).union(withoutSystem.contains(target) ? [] : systemModules)
}

/// An import line: which module, and whether it is passed on to those who import the target.
struct ImportLine: Equatable {
    let module: String
    let isPublic: Bool

    init(module: String, isPublic: Bool) {
        self.module = module
        self.isPublic = isPublic
    }

    /// - Returns: `nil` when the line is no import.
    init?(_ line: Substring) {
        let pattern =
            /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(public|package|internal|fileprivate|private)\s+)?(?:@\w+(?:\([^)]*\))?\s+)*import\s+(?:(?:typealias|struct|class|enum|protocol|let|var|func|actor)\s+)?`?([A-Za-z_]\w*)/
        guard let match = line.firstMatch(of: pattern) else { return nil }
        self.init(
            module: String(match.output.2),
            isPublic: match.output.1 == "public" || line.contains("@_exported"))
    }
}

/// What is wrong with the imports of a file.
private func importFindings(in file: SourceFile, allowed: Set<String>) -> [String] {
    file.code.filter { $0.text.contains("import") }.flatMap { line in
        // Several statements may stand on one line.
        line.text.split(separator: ";").compactMap { ImportLine($0) }.flatMap { found in
            var findings: [String] = []
            if !allowed.contains(found.module) {
                findings.append("\(file.path):\(line.number): imports \(found.module)")
            }
            // The header of `libholdfast` is ours, and is there to be passed on.
            let isForeign = found.module.wholeMatch(of: /C[A-Z]\w*/) != nil
            if found.isPublic, isForeign, found.module != "CHoldfast" {
                findings.append(
                    "\(file.path):\(line.number): passes the C module \(found.module) on")
            }
            return findings
        }
    }
}

/// The table under the heading "Layers" of `docs/architecture.md`: target to modules.
private func documentedTable(in markdown: String) -> [String: Set<String>] {
    var table: [String: Set<String>] = [:]
    var inLayers = false
    for line in markdown.split(separator: "\n") {
        if line.hasPrefix("#") { inLayers = line.hasPrefix("## Layers") }
        guard inLayers, line.hasPrefix("|") else { continue }
        let cells = line.split(separator: "|", omittingEmptySubsequences: false)
        guard cells.count >= 5, let target = names(in: cells[1]).first else { continue }
        table[target] = Set(names(in: cells[2]) + names(in: cells[3]))
    }
    return table
}

/// The words between backticks.
private func names(in cell: Substring) -> [String] {
    cell.matches(of: /`([^`]+)`/).map { String($0.output.1) }
}

@Suite("imports")
struct ImportTableTests {
    @Test("targets import only what the layer table allows", arguments: allowed.keys.sorted())
    func imports(target: String) throws {
        for file in try Package.sources(of: target) {
            #expect(importFindings(in: file, allowed: allowedImports(of: target)) == [])
        }
    }

    @Test("every target has a row, and every row has a target")
    func rows() throws {
        #expect(try Package.swiftTargets() == allowed.keys.sorted())
    }

    @Test("the table is the one of docs/architecture.md")
    func documentation() throws {
        let documented = documentedTable(in: try Package.text(of: "docs/architecture.md"))
        #expect(documented.keys.sorted() == allowed.keys.sorted())
        for (target, modules) in allowed {
            #expect(documented[target]?.sorted() == modules.sorted(), "\(target)")
        }
    }

    @Test(
        "a forbidden import is found, whatever its form",
        arguments: [
            "import CTSS2",
            "internal import CTSS2",
            "@testable import CTSS2",
            "@_spi(Secret) private import CTSS2",
            "package @preconcurrency import struct CTSS2.TSS2_TCTI_CONTEXT",
            "import func CTSS2.Tss2_RC_Decode",
            "import Crypto; import CTSS2",
            "#if os(Linux)\n    import CTSS2\n#endif",
        ])
    func forbidden(source: String) {
        let file = SourceFile(path: "Example.swift", contents: source)
        #expect(importFindings(in: file, allowed: ["Crypto"]).count == 1)
        #expect(importFindings(in: file, allowed: ["Crypto", "CTSS2"]) == [])
    }

    @Test("the wire codec may not import the system")
    func wire() {
        let file = SourceFile(path: "Example.swift", contents: "import Foundation")
        #expect(importFindings(in: file, allowed: allowedImports(of: "HoldfastTPMWire")).count == 1)
        #expect(importFindings(in: file, allowed: allowedImports(of: "HoldfastTPM")) == [])
    }

    @Test(
        "a C module may not be passed on",
        arguments: [
            "public import CSodium", "@_exported import CSodium",
            "public import struct CSodium.crypto_state",
        ])
    func publicC(source: String) {
        let file = SourceFile(path: "Example.swift", contents: source)
        #expect(importFindings(in: file, allowed: ["CSodium"]).count == 1)
    }

    @Test(
        "what only looks like an import is none",
        arguments: [
            "// import CTSS2", "let text = \"import CTSS2\"", "let important = 1",
            "/*\nimport CTSS2\n*/", "public import Crypto", "public import CryptoExtras",
        ])
    func harmless(source: String) {
        let file = SourceFile(path: "Example.swift", contents: source)
        #expect(importFindings(in: file, allowed: ["Crypto", "CryptoExtras"]) == [])
    }
}
