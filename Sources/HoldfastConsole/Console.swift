// Results go to standard output, everything else to standard error with the program's name before
// it. Nothing is colored. Every command has `--format text|json`; JSON has sorted keys.
public import ArgumentParser
import FoundationEssentials
import Glibc
import HoldfastErrors

/// How results are printed.
public enum OutputFormat: String, ExpressibleByArgument, CaseIterable, Sendable {
    case text, json
}

/// Options that every command has.
public struct CommonOptions: ParsableArguments {
    @Option(help: "How results are printed: text or json.")
    public var format: OutputFormat = .text

    public init() {}
}

/// The two streams of a program.
public struct Console: Sendable {
    let program: String

    /// What `--version` prints: the next release, as long as there was none.
    public var version: String { "\(program) 0.1.0-unreleased" }

    /// - Parameter program: stands before every line of standard error.
    public init(program: String) { self.program = program }

    /// Prints a result: text as it is, or the value as JSON.
    public func result(_ value: some Encodable, text: String, format: OutputFormat) throws {
        switch format {
        case .text: try deliver(text)
        case .json:
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            try deliver(String(decoding: try encoder.encode(value), as: UTF8.self))
        }
    }

    /// Prints a line of a result.
    public func line(_ text: String) { _ = write(text, to: STDOUT_FILENO) }

    /// Tells the person at the terminal something that is not a result.
    public func note(_ text: String) {
        // Whoever cannot be told of an error cannot be told of this one either.
        _ = write("\(program): \(text)", to: STDERR_FILENO)
    }

    /// Writes a result, and fails when it gets lost.
    private func deliver(_ text: String) throws {
        let number = write(text, to: STDOUT_FILENO)
        // A reader that went away is not our failure.
        guard number == 0 || number == EPIPE else { throw OutputError(number: number) }
    }

    /// Parses the command line, runs the command, and ends the process with the right status.
    public func run<Command: ParsableCommand>(_: Command.Type) -> Never {
        openStreams()
        do {
            var command = try Command.parseAsRoot()
            try command.run()
            exit(ExitStatus.success.rawValue)
        } catch {
            end(Command.self, error)
        }
    }

    /// The same for a program with commands that wait for something.
    public func runAsync<Command: ParsableCommand>(_: Command.Type) async -> Never {
        openStreams()
        do {
            var command = try Command.parseAsRoot()
            if var waiting = command as? any AsyncParsableCommand {
                try await waiting.run()
            } else {
                try command.run()
            }
            exit(ExitStatus.success.rawValue)
        } catch {
            end(Command.self, error)
        }
    }

    private func end<Command: ParsableCommand>(_: Command.Type, _ error: any Error) -> Never {
        guard let error = error as? any OperatorError else {
            // The command line, `--help` and a status without words are ArgumentParser's.
            guard !(error is ExitCode), Command.exitCode(for: error) == .failure else {
                Command.exit(withError: error)
            }
            note("error: \(error)")
            note("code: UNEXPECTED_FAILURE")
            exit(ExitStatus.failure.rawValue)
        }
        note("error: \(error.explanation)")
        if let remedy = error.remedy { note("hint: \(remedy)") }
        note("code: \(error.stableCode)")
        exit(error.exitStatus.rawValue)
    }

    /// - Returns: 0, or the number of the error.
    private func write(_ text: String, to descriptor: Int32) -> Int32 {
        // The signal would end the process; children do not inherit what is restored.
        let before = signal(SIGPIPE, SIG_IGN)
        defer { _ = signal(SIGPIPE, before) }
        var bytes = Array((text + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return errno }
            bytes = bytes.dropFirst(count)
        }
        return 0
    }

    /// Opens what the caller closed of the three standard streams.
    ///
    /// Otherwise the next file or socket gets its number, and what is meant for people goes there.
    private func openStreams() {
        for descriptor in STDIN_FILENO...STDERR_FILENO
        where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
            _ = unsafe open("/dev/null", O_RDWR)
        }
    }
}

/// A result that could not be printed.
struct OutputError: OperatorError {
    let number: Int32
    var explanation: String {
        "cannot write the result: \(unsafe String(cString: strerror(number)))"
    }
    var remedy: String? { "check the space where standard output goes" }
    var stableCode: String { "FILE_UNUSABLE" }
    var exitStatus: ExitStatus { .failure }
}
