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

    /// - Parameter program: stands before every line of standard error.
    public init(program: String) { self.program = program }

    /// Prints a result: text as it is, or the value as JSON.
    public func result(_ value: some Encodable, text: String, format: OutputFormat) throws {
        switch format {
        case .text: write(text, to: STDOUT_FILENO)
        case .json:
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
            write(
                String(decoding: try encoder.encode(value), as: UTF8.self), to: STDOUT_FILENO)
        }
    }

    /// Prints a line of a result.
    public func line(_ text: String) { write(text, to: STDOUT_FILENO) }

    /// Tells the person at the terminal something that is not a result.
    public func note(_ text: String) { write("\(program): \(text)", to: STDERR_FILENO) }

    /// Parses the command line, runs the command, and ends the process with the right status.
    public func run<Command: ParsableCommand>(_: Command.Type) -> Never {
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
        guard let error = error as? any OperatorError else { Command.exit(withError: error) }
        note("error: \(error.explanation)")
        if let remedy = error.remedy { note("hint: \(remedy)") }
        note("code: \(error.stableCode)")
        exit(error.exitStatus.rawValue)
    }

    private func write(_ text: String, to descriptor: Int32) {
        var bytes = Array((text + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
            }
            // A reader that went away is not our failure.
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }
}
