import CTSS2
import Glibc
public import HoldfastTPM
import HoldfastTPMWire

/// A TPM reached through tpm2-tss: `device:`, `swtpm:`, `mssim:`, `tabrmd:`.
///
/// The library carries bytes and nothing else; what they mean is decided in Swift.
@safe public final class TCTITransport: TPMTransport {
    private var context: OpaquePointer?
    private let configuration: String
    /// The connection broke in this transaction, not because somebody closed it.
    private var broken = false
    /// How long a command may take.
    private let timeoutSeconds: Int

    /// The slowest command of the slowest TPM takes less.
    public static let commandSeconds = 120

    /// Behind the kernel's or a daemon's resource manager.
    public let hasResourceManager: Bool

    /// Opens a connection.
    ///
    /// - Parameters:
    ///   - configuration: `NAME:CONFIG` as tctildr takes it, for example
    ///     `device:/dev/tpmrm0`.
    ///   - timeoutSeconds: how long a command may take.
    /// - Throws: ``TPMError`` with code `.unreachable`.
    ///
    /// TCG TSS 2.0 TCTI specification; `Tss2_TctiLdr_Initialize`.
    public init(
        configuration: String, timeoutSeconds: Int = TCTITransport.commandSeconds
    ) throws(TPMError) {
        self.configuration = configuration
        self.timeoutSeconds = timeoutSeconds
        unsafe context = try Self.open(configuration)
        hasResourceManager =
            configuration.hasPrefix("tabrmd") || configuration.contains("tpmrm")
    }

    deinit { close() }

    private static func open(_ configuration: String) throws(TPMError) -> OpaquePointer {
        var opened: OpaquePointer?
        let code = unsafe Tss2_TctiLdr_Initialize(configuration, &opened)
        guard code == TSS2_RC_SUCCESS, let context = unsafe opened else {
            throw TPMError(.unreachable, "cannot open `\(configuration)`: \(text(code))")
        }
        return unsafe context
    }

    /// Opens a broken connection again, so that slots of a raw TPM can be given back.
    ///
    /// A resource manager has given them back when the connection broke.
    public func endTransaction() {
        if broken, !hasResourceManager { unsafe context = try? Self.open(configuration) }
        broken = false
    }

    public func close() {
        if unsafe context != nil { unsafe Tss2_TctiLdr_Finalize(&context) }
        unsafe context = nil
    }

    public func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        guard let context = unsafe context else {
            throw TPMError(.unreachable, "the connection to the TPM was closed")
        }
        try check(unsafe holdfast_tcti_transmit(context, command.count, command), "send")
        try unsafe awaitAnswer(context)
        var size = maximumResponseSize
        var response = [UInt8](repeating: 0, count: maximumResponseSize)
        try check(
            unsafe holdfast_tcti_receive(context, &size, &response, /* timeout: for ever */ -1),
            "receive")
        guard size >= 10, size <= response.count else {
            breakOff()
            throw TPMError(.malformedResponse, "the TPM's answer has \(size) bytes")
        }
        response.removeLast(response.count - size)
        let stated = response[2..<6].reduce(0) { $0 << 8 | Int($1) }
        guard stated == size else {
            breakOff()
            throw TPMError(.malformedResponse, "the TPM's answer is not as long as it says")
        }
        return response
    }

    /// Waits for the first byte of an answer.
    ///
    /// The library's own limit is not one: its drivers wait for ever whatever they are told. For a
    /// device the kernel has deadlines of its own, and what gives no descriptor is not waited for.
    private func awaitAnswer(_ context: OpaquePointer) throws(TPMError) {
        let descriptor = unsafe holdfast_tcti_descriptor(context)
        guard descriptor >= 0 else { return }
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let deadline = ContinuousClock.now + .seconds(timeoutSeconds)
        // Signals interrupt it, and a wait that fails is no answer: what follows reads for ever.
        while true {
            let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
            guard left > 0 else { break }
            let ready = unsafe poll(&waiting, 1, Int32(left.rounded(.up)))
            if ready > 0, waiting.revents & Int16(POLLIN) != 0 { return }
            guard ready <= 0 else {
                breakOff()
                throw TPMError(.unreachable, "the connection to the TPM broke")
            }
        }
        breakOff()
        throw TPMError(.timedOut, "the TPM has not answered for \(timeoutSeconds) seconds")
    }

    private func check(_ code: TSS2_RC, _ action: String) throws(TPMError) {
        guard code != TSS2_RC_SUCCESS else { return }
        breakOff()
        throw TPMError(.unreachable, "cannot \(action): \(Self.text(code))")
    }

    /// After a failure nobody knows whether an answer is still to come.
    private func breakOff() {
        close()
        broken = true
    }

    /// The library's text for a return code.
    static func text(_ code: TSS2_RC) -> String {
        guard let text = unsafe Tss2_RC_Decode(code) else { return "0x\(String(code, radix: 16))" }
        return unsafe String(cString: text)
    }
}

/// Opens the way to a TPM that a configuration names.
///
/// - Parameter configuration: `unix:PATH` for a software TPM's socket, otherwise as tctildr takes
///   it.
public func openTransport(_ configuration: String) throws(TPMError) -> any TPMTransport {
    if configuration.hasPrefix("unix:") {
        return UnixSocketTransport(path: String(configuration.dropFirst(5)))
    }
    return try TCTITransport(configuration: configuration)
}
