import Foundation
import Testing

/// Targets of the manifest, each with the names in its list of dependencies.
///
/// Asking SwiftPM would wait for its own lock, which the test run holds; so the calls of the
/// manifest's helpers (`library("Name", [...])`, `executable(...)`, `tests(...)`) are read.
private func targetGraph(of manifest: String) -> [String: Set<String>] {
    let call = /\b(?:library|executable|tests)\(\s*"([\w-]+)"\s*(?:,\s*\[([^\]]*)\])?/
        .wordBoundaryKind(.simple)
    return Dictionary(
        manifest.matches(of: call).map { match in
            let list = match.output.2 ?? ""
            return (
                String(match.output.1),
                Set(list.matches(of: /"([\w-]+)"/).map { String($0.output.1) })
            )
        }, uniquingKeysWith: { $0.union($1) })
}

/// Everything that is reachable from a target.
private func reachable(from target: String, in graph: [String: Set<String>]) -> Set<String> {
    var seen: Set<String> = []
    var open = Array(graph[target] ?? [])
    while let next = open.popLast() {
        if seen.insert(next).inserted { open += graph[next] ?? [] }
    }
    return seen
}

/// Names of the shared libraries that a program loads, as `ldd` prints them.
private func sharedLibraries(of program: URL) throws -> [String] {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/ldd")
    process.arguments = [program.path]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "ldd does not read \(program.path)")
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        .compactMap { $0.split(separator: " ").first.map { $0.drop { $0 == "\t" } } }
        .map(String.init)
}

private func isHardwareLibrary(_ name: String) -> Bool {
    name.hasPrefix("libtss2") || name.hasPrefix("libudev")
}

/// Programs that run where there is no TPM stack.
private let standalone = ["holdfast-server", "holdfast-sim"]

@Suite("target graph")
struct TargetGraphTests {
    static let graph = Result { targetGraph(of: try Package.text(of: "Package.swift")) }

    @Test("the manifest is read whole")
    func complete() throws {
        let graph = try Self.graph.get()
        for target in try Package.swiftTargets() {
            #expect(graph[target] != nil, "\(target) is not found in Package.swift")
        }
        // The one target that knows the TSS is seen to know it.
        #expect(reachable(from: "holdfast", in: graph).contains("CTSS2"))
        #expect(reachable(from: "holdfast-sim", in: graph).contains("CSodium"))
    }

    @Test("neither TSS nor udev lies under the server and the simulator", arguments: standalone)
    func graph(target: String) throws {
        let graph = try Self.graph.get()
        #expect(reachable(from: target, in: graph).isDisjoint(with: ["CTSS2", "CUdev"]))
    }

    @Test("the built server and simulator load neither", arguments: standalone)
    func libraries(target: String) throws {
        guard try Self.graph.get()[target] != nil else { return }
        let libraries = try sharedLibraries(of: builtProduct(target))
        #expect(libraries.contains { $0.hasPrefix("libc.so") })
        #expect(libraries.filter(isHardwareLibrary) == [])
    }

    @Test("a forbidden dependency is found, also behind others")
    func forbidden() {
        let graph = targetGraph(
            of: """
                library("CLike", []), library("Middle", ["CTSS2", crypto]),
                library("Alone"),
                executable(
                    "holdfast-server",
                    [
                        "Alone",
                        "Middle",
                    ]),
                """)
        #expect(graph.keys.sorted() == ["Alone", "CLike", "Middle", "holdfast-server"])
        #expect(reachable(from: "holdfast-server", in: graph) == ["Alone", "Middle", "CTSS2"])
        #expect(reachable(from: "Alone", in: graph) == [])
    }

    @Test(
        "a forbidden library is recognised",
        arguments: [
            "libtss2-tctildr.so.0", "libtss2-rc.so.0", "libudev.so.1",
        ])
    func forbiddenLibrary(name: String) {
        #expect(isHardwareLibrary(name))
    }

    /// The folder of this build is the one that the running test program lies in.
    private func builtProduct(_ name: String) throws -> URL {
        let running = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(filePath: running).deletingLastPathComponent().appending(path: name)
    }
}
