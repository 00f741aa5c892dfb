import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// A software TPM of one test: a process at the other end of a socket pair, with a copy of a state
/// that is manufactured once for each run.
///
/// Nothing in the tests may rest on what one implementation happens to do: where the clock is
/// after a power cut, or at which resetCount a TPM begins, is read and not assumed.
final class TestTPM {
    private let tpm: TransientTPM
    private let newest: Newest
    /// What stands between the connection and the TPM; it changes nothing unless told to.
    var interposer: Interposer { newest.interposer }
    var connection: TPMConnection { tpm.connection }

    /// The interposer of the present start.
    private final class Newest {
        var interposer: Interposer
        init(_ interposer: Interposer) { self.interposer = interposer }
    }

    /// What a boot measures into PCR 7; extended after each start, as firmware does.
    static let bootMeasurement: [UInt8] = Array("secure boot: on".utf8)

    /// - Parameter freshSeeds: all copies have the seeds of the manufactured state, so they are one
    ///   TPM to whoever looks at keys; with this one it is another.
    /// - Throws: when no software TPM starts.
    init(freshSeeds: Bool = false) throws(TPMError) {
        var newest: Newest?
        tpm = try Self.translating {
            try TransientTPM(
                SoftwareBoot([.init(Self.bootMeasurement, into: PCRIndex.all[7])]),
                interposing: { transport in
                    let interposer = Interposer(transport)
                    if let newest {
                        newest.interposer = interposer
                    } else {
                        newest = Newest(interposer)
                    }
                    return interposer
                })
        }
        guard let newest else { throw TPMError(.invalidRequest, "no transport was made") }
        self.newest = newest
        if freshSeeds {
            try connection.run(ClearCommand(), [.emptyAuth])
            try connection.run(ChangeEPSCommand(), [.emptyAuth])
        }
    }

    /// The power fails, and comes back.
    func cut() throws(TPMError) { try Self.translating { try tpm.cut() } }

    /// An orderly reboot.
    func reboot() throws(TPMError) { try Self.translating { try tpm.reboot() } }

    private static func translating<R>(_ body: () throws -> R) throws(TPMError) -> R {
        do { return try body() } catch let error as TPMError { throw error } catch {
            throw TPMError(.unreachable, "\(error)")
        }
    }
}

/// A transport with somebody in the middle.
final class Interposer: TPMTransport {
    private let inner: any TPMTransport
    /// Changes a response on its way back.
    var alter: ((CommandCode, [UInt8]) -> [UInt8])?
    /// Does something to the TPM before a command gets there.
    var before: ((CommandCode, any TPMTransport) -> Void)?
    /// The last command, as it went over the bus.
    private(set) var lastCommand: [UInt8] = []

    init(_ inner: any TPMTransport) { self.inner = inner }

    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] {
        let code = CommandCode(rawValue: command[6..<10].reduce(0) { $0 << 8 | UInt32($1) })
        lastCommand = command
        before?(code, inner)
        let response = try inner.exchange(command)
        return alter?(code, response) ?? response
    }

    func endTransaction() { inner.endTransaction() }
    func close() { inner.close() }
    var hasResourceManager: Bool { inner.hasResourceManager }
}
