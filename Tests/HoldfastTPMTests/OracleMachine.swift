import Foundation
import HoldfastCrypto
import HoldfastSoftwareTPM

/// A machine that we and tpm2-tools reach, one after the other.
final class OracleMachine {
    private let transient: TransientMachine
    var machine: SoftwareMachine { transient.machine }

    init() throws {
        transient = try TransientMachine(.template)
        try machine.powerOn(.documented, ca: nil, random: .system)
    }

    private func file(_ name: String) -> URL { URL(filePath: machine.path + "/" + name) }

    func write(_ bytes: [UInt8], _ name: String) throws { try Data(bytes).write(to: file(name)) }

    func read(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: file(name))) }

    /// Runs tpm2-tools in the machine's directory.
    ///
    /// - Returns: the exit status of the script.
    func run(_ script: String) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/bash")
        process.arguments = ["-euc", script]
        process.currentDirectoryURL = URL(filePath: machine.path)
        process.environment = [
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": machine.path,
            "TPM2TOOLS_TCTI": "swtpm:path=\(machine.socketPath)",
        ]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }
}
