import Foundation
import Glibc
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

/// What a program answered.
struct Answer {
    let status: Int32
    /// It ended by itself, not by a signal.
    let isOrderly: Bool
    let output: String
    /// The same, when it is not text.
    let bytes: [UInt8]
    let errors: String

    /// Waits until a program ended.
    init(of process: Process, _ output: Pipe, _ errors: Pipe) throws {
        bytes = [UInt8](try output.fileHandleForReading.readToEnd() ?? Data())
        let said = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        status = process.terminationStatus
        isOrderly = process.terminationReason == .exit
        self.output = String(decoding: bytes, as: UTF8.self)
        self.errors = String(decoding: said, as: UTF8.self)
    }

    /// The stable code of an error.
    var code: String? {
        errors.split(separator: "\n").last { $0.contains("code: ") }?
            .split(separator: " ").last.map(String.init)
    }

    /// What it printed as JSON.
    func json() throws -> [String: Any] {
        try #require(
            try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
    }
}

/// A directory with a vendor, a device and a software TPM, used through the programs alone.
final class Bench {
    let path = "/tmp/hf-bench-" + Hex.encode(RandomSource.system.bytes(8))
    let machine: TransientMachine
    /// Where the programs look for the log of this boot.
    var eventLog: String { file("event-log") }

    init() throws {
        try Files.makePrivateDirectory(path)
        machine = try TransientMachine(.template)
        try machine.machine.powerOn(.documented, ca: nil, random: .system)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Shuts the machine down and boots it along a log.
    func reboot(_ boot: BootFixture, adding more: [SoftwareBoot.Measurement] = []) throws {
        try write(boot.log, "event-log")
        try machine.machine.powerOff(random: .system)
        try machine.machine.powerOn(
            SoftwareBoot(replaying: EventLog(parsing: boot.log)).adding(more), ca: nil,
            random: .system)
    }

    func file(_ name: String) -> String { path + "/" + name }

    func bytes(_ name: String) throws -> [UInt8] {
        try Files.read(file(name), maximum: 1 << 24)
    }

    func write(_ bytes: [UInt8], _ name: String) throws {
        try Files.write(bytes, to: file(name), mode: 0o644)
    }

    /// Where SwiftPM put the programs.
    static func program(_ name: String) throws -> URL {
        let built = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: ".build/debug/" + name)
        try #require(FileManager.default.isExecutableFile(atPath: built.path))
        return built
    }

    /// - Parameter under: a program with its arguments that runs this one.
    func run(
        _ program: String, _ arguments: [String], state: String = "state", tpm: String? = nil,
        under: [String] = [], input: [UInt8]? = nil, more: [String: String] = [:]
    ) throws -> Answer {
        let process = Process()
        process.executableURL =
            try under.isEmpty ? Self.program(program) : URL(filePath: "/usr/bin/env")
        process.arguments =
            try under.isEmpty ? arguments : under + [Self.program(program).path] + arguments
        process.currentDirectoryURL = URL(filePath: path)
        process.environment = [
            "PATH": "/usr/bin:/bin", "HOLDFAST_DATA": file("vendor"),
            "HOLDFAST_STATE": file(state), "HOLDFAST_EVENT_LOG": eventLog,
            "HOLDFAST_TCTI": tpm ?? "unix:" + machine.machine.socketPath,
        ].merging(more) { $1 }
        if let input {
            let pipe = Pipe()
            try pipe.fileHandleForWriting.write(contentsOf: Data(input))
            try pipe.fileHandleForWriting.close()
            process.standardInput = pipe
        }
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        return try Answer(of: process, output, errors)
    }

    /// Runs a script of the documentation with the programs on its path.
    func hook(_ name: String, _ arguments: [String], more: [String: String] = [:]) throws -> Int32 {
        let root = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let process = Process()
        process.executableURL = root.appending(path: "docs/hooks/" + name)
        process.arguments = arguments
        process.currentDirectoryURL = URL(filePath: path)
        process.environment = [
            "PATH": root.appending(path: ".build/debug").path + ":/usr/bin:/bin",
            "HOLDFAST_DATA": file("vendor"), "HOLDFAST_STATE": file("state"),
            "HOLDFAST_TCTI": "unix:" + machine.machine.socketPath,
        ].merging(more) { $1 }
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    func device(_ arguments: String..., state: String = "state") throws -> Answer {
        try run("holdfast", arguments, state: state)
    }

    func vendor(_ arguments: String...) throws -> Answer {
        try run("holdfast-server", arguments)
    }

    // MARK: The server

    /// A server that runs until its owner is gone.
    final class Server {
        let url: String
        /// Its number.
        var number: Int32 { process.processIdentifier }
        private let process: Process
        private let errors: FileHandle

        fileprivate init(_ process: Process, _ errors: FileHandle) throws {
            self.process = process
            self.errors = errors
            var said = Data()
            var found: String?
            while found == nil {
                let more = errors.availableData
                try #require(!more.isEmpty, "\(String(decoding: said, as: UTF8.self))")
                said += more
                found = String(decoding: said, as: UTF8.self).split(separator: "\n")
                    .first { $0.contains("listening on https://") && said.last == 0x0A }?
                    .split(separator: " ").last.map(String.init)
            }
            url = try #require(found)
        }

        /// Ends it as an operator does.
        func stop() -> Int32 {
            process.terminate()
            process.waitUntilExit()
            return process.terminationStatus
        }

        /// Ends it as a power cut does.
        func kill() {
            Glibc.kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }

        deinit { if process.isRunning { process.terminate() } }
    }

    /// Starts the server on a free port.
    ///
    /// - Parameters:
    ///   - more: further arguments.
    ///   - environment: further variables.
    func serve(_ more: String..., environment: [String: String] = [:]) throws -> Server {
        let process = Process()
        process.executableURL = try Self.program("holdfast-server")
        process.arguments = ["serve", "--listen", "127.0.0.1:0"] + more
        process.environment = ["PATH": "/usr/bin:/bin", "HOLDFAST_DATA": file("vendor")]
            .merging(environment) { $1 }
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        return try Server(process, errors.fileHandleForReading)
    }

    /// Makes a vendor that trusts the machine's TPM.
    func makeVendor(_ more: String...) throws {
        let made = try makeVendor(more)
        #expect(made.status == 0, "\(made.errors)")
    }

    private func makeVendor(_ more: [String]) throws -> Answer {
        try run(
            "holdfast-server",
            [
                "init", "--data", file("vendor"), "--ek", "id:00001014/swtpm=ecc-p384",
                "--ek-roots", machine.path + "/ek-roots",
            ] + more)
    }

    // MARK: Steps

    /// Everything up to an installed license; every step must succeed.
    ///
    /// - Parameters:
    ///   - more: arguments of `init`.
    ///   - before: what the vendor does before the license is issued.
    func license(
        _ more: String..., entitlement: String = "scan",
        before: (_ vendor: (String...) throws -> Answer) throws -> Void = { _ in }
    ) throws -> String {
        func done(_ answer: Answer) {
            #expect(answer.status == 0, "\(answer.errors)")
        }
        let made = try makeVendor(more)
        done(made)
        done(try device("enroll", "--trust", "vendor/trust", "--request-out", "request"))
        done(try vendor("enroll", "process", "request", "--out", "response"))
        done(try device("enroll", "--response-in", "response", "--evidence-out", "evidence"))
        let processed = try vendor("bundle", "process", "evidence", "reply", "--format", "json")
        done(processed)
        let id = try #require(try processed.json()["device"] as? String)
        done(try vendor("device", "approve", id, "--model", "gateway"))
        done(
            try vendor(
                "pcr", "approve", "--model", "gateway", "--from", id, "--product", "scanner",
                "--out", "approval"))
        try write(Array(Self.terms.utf8), "terms")
        done(try vendor("terms", "apply", "terms"))
        try before { (arguments: String...) in try self.run("holdfast-server", arguments) }
        done(
            try vendor(
                "license", "issue", "--device", id, "--product", "scanner", "--entitlement",
                entitlement, "--terms", "standard", "--until", "2099-12-31", "--out", "license"))
        done(try device("license", "install", "license"))
        return id
    }

    static let terms = """
        {"id": "standard", "version": 1, "class": "production", "lease": "45d",
         "renewAfter": "15d", "graceAfter": "30d", "softAfter": "21d", "degraded": "30d",
         "resets": 200, "restarts": 0, "evidenceValidity": "7d", "nonceLifetime": "180d",
         "defaultEnforcement": "strict", "enforcement": {"preview": "soft"},
         "degradedEntitlements": ["preview"]}
        """
}
