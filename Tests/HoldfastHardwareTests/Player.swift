import Foundation
import HoldfastCrypto
import Testing

/// Runs the real program on a machine that umockdev plays.
final class Player {
    let folder: URL

    init(_ machine: Machine) throws {
        folder = URL(filePath: "/tmp/hf-machine-" + Hex.encode(RandomSource.system.bytes(8)))
        for (path, content) in machine.files {
            let file = folder.appending(path: "files/" + path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(content.utf8).write(to: file)
        }
        try Data(machine.devices.utf8).write(to: folder.appending(path: "machine.umockdev"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// Where SwiftPM put the programs.
    static func program(_ name: String) throws -> String {
        let built = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: ".build/debug/" + name)
        try #require(FileManager.default.isExecutableFile(atPath: built.path))
        return built.path
    }

    /// A process on the machine, not started yet.
    ///
    /// umockdev plays what stands below /proc and /sys as far as it is in its own directory.
    func process(_ arguments: [String]) -> Process {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/umockdev-run")
        process.currentDirectoryURL = folder
        process.arguments =
            [
                "-d", "machine.umockdev", "--", "/bin/sh", "-c",
                "cp -r files/. \"$UMOCKDEV_DIR\" && exec \"$@\"", "sh",
            ] + arguments
        process.environment = ["PATH": "/usr/bin:/bin"]
        return process
    }

    /// What a command prints; it must end with 0 within its time.
    func run(_ arguments: [String]) throws -> Data {
        try Self.output(of: process(arguments))
    }

    static func output(of process: Process) throws -> Data {
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let printed = try output.fileHandleForReading.readToEnd() ?? Data()
        let said = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(String(decoding: said, as: UTF8.self))")
        return printed
    }

    /// What `holdfast identity` prints as JSON.
    struct Identity: Decodable {
        struct Component: Decodable, Hashable {
            let kind: String
            let id: String
            let value: String?
        }
        struct Absence: Decodable, Hashable {
            let kind: String
            let reason: String
        }
        let components: [Component]
        let absent: [Absence]

        /// The ids of each kind.
        var ids: [String: Set<String>] {
            Dictionary(grouping: components, by: \.kind).mapValues { Set($0.map(\.id)) }
        }

        /// Kinds whose ids are others.
        func changes(to other: Identity) -> Set<String> {
            Set(ids.keys).union(other.ids.keys).filter { ids[$0] != other.ids[$0] }
        }
    }

    func identity(reveal: Bool = false, trust: String? = nil) throws -> Identity {
        let arguments = [
            try Self.program("holdfast"), "identity", "--trust", try trust ?? Vendor.first.get(),
            "--format", "json",
        ]
        let data = try run(arguments + (reveal ? ["--reveal"] : []))
        return try JSONDecoder().decode(Identity.self, from: data)
    }
}

/// Trust files of two vendors, made once.
enum Vendor {
    static let first = Result { try make() }
    static let second = Result { try make() }

    private static func make() throws -> String {
        let folder = "/tmp/hf-vendor-" + Hex.encode(RandomSource.system.bytes(8))
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let process = Process()
        process.executableURL = URL(filePath: try Player.program("holdfast-server"))
        process.arguments = ["init", "--data", folder]
        _ = try Player.output(of: process)
        let trust = folder + ".trust"
        try FileManager.default.copyItem(atPath: folder + "/trust", toPath: trust)
        return trust
    }
}
