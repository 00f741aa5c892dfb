import Foundation
import Glibc

/// A program that could not be run at all.
struct ProgramMissing: Error, CustomStringConvertible {
    let description: String
}

/// What a program answered.
struct Answer {
    let status: Int32
    /// It did not end by itself: the status is the number of the signal.
    let isKilled: Bool
    let output: String
    let errors: String

    /// A member of the JSON that it printed, by a path like `licenses.0.state`.
    subscript(path: String) -> String? {
        guard
            var value = try? JSONSerialization.jsonObject(
                with: Data(output.utf8), options: [.fragmentsAllowed])
        else { return nil }
        for step in path.split(separator: ".") {
            if let list = value as? [Any], let index = Int(step), list.indices.contains(index) {
                value = list[index]
            } else if let members = value as? [String: Any], let member = members[String(step)] {
                value = member
            } else {
                return nil
            }
        }
        return (value as? String) ?? "\(value)"
    }

    /// The stable code of an error.
    var code: String? {
        errors.split(separator: "\n").last { $0.contains("code: ") }?
            .split(separator: " ").last.map(String.init)
    }
}

/// Runs the programs of this package as a person would, from their own directory.
struct Programs {
    /// Where the programs are.
    let directory: String
    /// Where the files of the story are.
    let work: String

    /// - Parameters:
    ///   - before: a program that runs the other one, for example faketime.
    func run(
        _ program: String, _ arguments: [String], tpm: String? = nil, state: String? = nil,
        before: [String] = []
    ) throws -> Answer {
        let process = Process()
        let words = before + [directory + "/" + program] + arguments
        process.executableURL = URL(filePath: before.isEmpty ? words[0] : "/usr/bin/env")
        process.arguments = before.isEmpty ? arguments : words
        process.currentDirectoryURL = URL(filePath: work)
        var environment = [
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOLDFAST_DATA": work + "/vendor",
        ]
        if let tpm { environment["HOLDFAST_TCTI"] = "unix:" + tpm }
        if let state { environment["HOLDFAST_STATE"] = work + "/" + state }
        process.environment = environment
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        do { try process.run() } catch {
            throw ProgramMissing(description: "cannot run `\(words[0])`: \(error)")
        }
        let printed = try output.fileHandleForReading.readToEnd() ?? Data()
        let said = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return Answer(
            status: process.terminationStatus,
            isKilled: process.terminationReason == .uncaughtSignal,
            output: String(decoding: printed, as: UTF8.self),
            errors: String(decoding: said, as: UTF8.self))
    }

    /// Starts the vendor's server on a port of its choice.
    ///
    /// - Parameter more: further arguments.
    func serve(port: String = "0", _ more: String...) throws -> RunningServer {
        let process = Process()
        process.executableURL = URL(filePath: directory + "/holdfast-server")
        process.arguments = ["serve", "--listen", "127.0.0.1:" + port] + more
        process.environment = [
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOLDFAST_DATA": work + "/vendor",
        ]
        let errors = Pipe()
        process.standardError = errors
        do { try process.run() } catch {
            throw ProgramMissing(description: "cannot run the server: \(error)")
        }
        var said = Data()
        while process.isRunning || said.isEmpty {
            let more = errors.fileHandleForReading.availableData
            guard !more.isEmpty else { break }
            said += more
            let found = String(decoding: said, as: UTF8.self).split(separator: "\n")
                .first { $0.contains("listening on https://") }
            if let url = found?.split(separator: " ").last, said.last == 0x0A {
                return RunningServer(process: process, url: String(url), errors: errors)
            }
        }
        throw ProgramMissing(
            description: "the server did not start: \(String(decoding: said, as: UTF8.self))")
    }
}

/// A server that runs until it is told to end, or its owner is gone.
final class RunningServer {
    private let process: Process
    let url: String
    private let errors: Pipe

    init(process: Process, url: String, errors: Pipe) {
        self.process = process
        self.url = url
        self.errors = errors
        // A pipe that nobody reads is full one day, and the server waits then.
        errors.fileHandleForReading.readabilityHandler = { _ = $0.availableData }
    }

    func stop() {
        process.terminate()
        process.waitUntilExit()
    }

    /// Ends it without a word, as an empty battery does.
    func kill() {
        _ = Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    deinit { if process.isRunning { process.terminate() } }
}
