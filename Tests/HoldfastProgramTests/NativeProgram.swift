import Foundation
import Glibc
import HoldfastFiles
import Testing

/// Programs in other languages that use `libholdfast`, compiled as a user does it.
enum NativeProgram {
    /// The package.
    static let root = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    /// Where SwiftPM put the programs.
    static let built = root.appending(path: ".build/debug")

    struct Ended {
        /// -1 when a signal ended it.
        let status: Int32
        let output: String
    }

    static func run(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> Ended {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = arguments
        var all = ProcessInfo.processInfo.environment
        for (name, value) in environment { all[name] = value }
        process.environment = all
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let said = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Ended(
            status: process.terminationReason == .exit ? process.terminationStatus : -1,
            output: String(decoding: said, as: UTF8.self))
    }

    /// The library under its names, as `make sdk` lays it down.
    static func lay(_ folder: String) throws {
        try Files.makePrivateDirectory(folder)
        #expect(unsafe chmod(folder, 0o755) == 0)
        for name in ["libholdfast.so", "libholdfast.so.0"] {
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/" + name,
                withDestinationPath: built.path + "/libHoldfastLibrary.so")
        }
    }

    /// Compiles a program that finds the library at run time.
    static func compile(
        _ compiler: [String], _ source: String, to program: String, library: String
    ) throws {
        let compiled = try run(
            compiler + [
                "-Wall", "-Wextra", "-Werror", "-I", root.path + "/Sources/CHoldfast/include",
                source, "-o", program, "-L", library, "-lholdfast", "-Wl,-rpath,\(library)",
                "-Wl,--allow-shlib-undefined",
            ])
        #expect(compiled.status == 0, "\(compiled.output)")
    }
}
