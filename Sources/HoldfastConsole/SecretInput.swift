public import ArgumentParser
import Glibc
public import HoldfastCrypto
import HoldfastErrors

/// A secret that cannot be read or written.
struct SecretInputError: OperatorError {
    let explanation: String
    let remedy: String?
    let stableCode: String
    let exitStatus: ExitStatus

    init(_ what: String, _ error: SecretStreamError) {
        switch error {
        case .failed(let number):
            explanation = "\(what): \(unsafe String(cString: strerror(number)))"
            remedy = nil
        case .tooLong(let maximum):
            explanation = "\(what): it is longer than \(maximum) bytes"
            remedy = "seal a key of at most \(maximum) bytes, and encrypt the rest with it"
        }
        stableCode = "SECRET_UNUSABLE"
        exitStatus = .failure
    }

    init(_ explanation: String, remedy: String, code: String = "SECRET_UNUSABLE") {
        self.explanation = explanation
        self.remedy = remedy
        stableCode = code
        exitStatus = .refused
    }
}

/// Secrets between a program and the world: never an argument, never in ordinary memory for long.
public enum SecretInput {
    /// Reads all of standard input.
    ///
    /// - Parameter maximum: in bytes.
    public static func standardInput(maximum: Int) throws -> SecretBytes {
        if isatty(STDIN_FILENO) == 1 {
            throw SecretInputError(
                "a secret is not typed where it can be read",
                remedy: "give it on standard input: `holdfast seal … <secret >blob`")
        }
        do throws(SecretStreamError) {
            return try SecretBytes(reading: STDIN_FILENO, maximum: maximum)
        } catch { throw SecretInputError("cannot read the secret", error) }
    }

    /// Writes a secret to standard output, as it is.
    public static func deliver(_ secret: borrowing SecretBytes) throws {
        if isatty(STDOUT_FILENO) == 1 {
            throw SecretInputError(
                "what comes is not text, or is a secret: it is not written to a terminal",
                remedy: "send it where it is needed: `>FILE`")
        }
        do throws(SecretStreamError) { try secret.write(to: STDOUT_FILENO) } catch {
            throw SecretInputError("cannot write the secret", error)
        }
    }
}

/// Where a PIN comes from: a file, a descriptor, or the terminal.
public struct PINOptions: ParsableArguments {
    @Option(help: "A file whose first line is the PIN; keep it where only its user reads.")
    public var pinFile: String?
    @Option(name: .customLong("pin-fd"), help: "An open file descriptor with the PIN in a line.")
    public var pinDescriptor: Int32?

    public init() {}

    /// Whether a place was named.
    public var isGiven: Bool { pinFile != nil || pinDescriptor != nil }

    /// Reads the PIN; asks on the terminal when no place was named.
    ///
    /// - Parameters:
    ///   - isNew: it is asked for twice.
    ///   - sizes: in bytes.
    ///   - what: what it is called.
    public func read(
        isNew: Bool, sizes: ClosedRange<Int>, what: String = "PIN"
    ) throws -> SymmetricSecret {
        let pin = try line(isNew: isNew, maximum: sizes.upperBound, what)
        guard sizes.contains(pin.count) else {
            throw SecretInputError(
                "a \(what) has \(sizes.lowerBound) to \(sizes.upperBound) bytes",
                remedy: "choose another one; what the TPM compares is not longer",
                code: "PIN_UNUSABLE")
        }
        // The TPM takes zeros away from the end of an authorization value.
        guard pin.withBytes({ $0[$0.count - 1] }) != 0 else {
            throw SecretInputError(
                "a \(what) does not end with a zero byte", remedy: "choose another one",
                code: "PIN_UNUSABLE")
        }
        return SymmetricSecret(pin)
    }

    private func line(isNew: Bool, maximum: Int, _ what: String) throws -> SecretBytes {
        do throws(SecretStreamError) {
            if let pinDescriptor {
                return try SecretBytes(readingLine: pinDescriptor, maximum: maximum)
            }
            if let pinFile {
                let descriptor = unsafe open(pinFile, O_RDONLY | O_CLOEXEC)
                guard descriptor >= 0 else { throw SecretStreamError.failed(errno) }
                defer { close(descriptor) }
                return try SecretBytes(readingLine: descriptor, maximum: maximum)
            }
        } catch { throw SecretInputError("cannot read the \(what)", error) }
        return try Terminal().ask(isNew: isNew, maximum: maximum)
    }
}

/// The terminal of this program, whatever its streams are.
private struct Terminal: ~Copyable {
    private let descriptor: Int32

    init() throws {
        let opened = unsafe open("/dev/tty", O_RDWR | O_CLOEXEC)
        guard opened >= 0 else {
            throw SecretInputError(
                "a PIN is needed, and there is no terminal to ask on",
                remedy: "give --pin-file or --pin-fd", code: "PIN_NEEDED")
        }
        descriptor = opened
    }

    deinit { close(descriptor) }

    func ask(isNew: Bool, maximum: Int) throws -> SecretBytes {
        let first = try ask("PIN: ", maximum)
        guard isNew else { return first }
        let second = try ask("PIN once more: ", maximum)
        let isSame = first.withBytes { first in
            second.withBytes { second in
                var difference: UInt8 = first.count == second.count ? 0 : 1
                for index in 0..<min(first.count, second.count) {
                    difference |= first[index] ^ second[index]
                }
                return difference == 0
            }
        }
        guard isSame else {
            throw SecretInputError(
                "the two PINs differ", remedy: "try again", code: "PIN_UNUSABLE")
        }
        return first
    }

    /// Asks without showing what is typed.
    private func ask(_ prompt: String, _ maximum: Int) throws -> SecretBytes {
        var before = termios()
        guard unsafe tcgetattr(descriptor, &before) == 0 else {
            throw SecretInputError("cannot use the terminal", .failed(errno))
        }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO)
        let former = SilentTerminal.begin(descriptor, before)
        unsafe tcsetattr(descriptor, TCSAFLUSH, &silent)
        defer {
            unsafe tcsetattr(descriptor, TCSAFLUSH, &before)
            SilentTerminal.end(former)
            say("\n")
        }
        say(prompt)
        do throws(SecretStreamError) {
            return try SecretBytes(readingLine: descriptor, maximum: maximum)
        } catch { throw SecretInputError("cannot read the PIN", error) }
    }

    private func say(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe bytes.withUnsafeBytes { buffer in
            unsafe write(descriptor, buffer.baseAddress, buffer.count)
        }
    }
}

// The terminal on which a PIN is typed; set before the handlers are, and by one thread.
nonisolated(unsafe) private var silentDescriptor: Int32 = -1
nonisolated(unsafe) private var shownTerminal = termios()

/// A signal while a PIN is typed ends the program at once, and the terminal shows again what is typed.
private enum SilentTerminal {
    private static let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

    /// - Returns: the handlers of before.
    static func begin(_ terminal: Int32, _ shown: termios) -> [sig_t?] {
        unsafe silentDescriptor = terminal
        unsafe shownTerminal = shown
        return signals.map { signal($0, endSilence) }
    }

    static func end(_ former: [sig_t?]) {
        for (number, handler) in zip(signals, former) { _ = signal(number, handler) }
    }
}

private func endSilence(_ number: Int32) {
    unsafe tcsetattr(silentDescriptor, TCSANOW, &shownTerminal)
    _ = signal(number, SIG_DFL)
    // Blocked in its own handler: it comes when this returns.
    raise(number)
}
