import Glibc

/// Makes software TPMs with endorsement keys and certificates, as a TPM vendor would.
///
/// Each TPM gets both keys of ``EKKind``, their certificates, a platform certificate at NV index
/// 0x01C08000, and active SHA-256 and SHA-384 banks of 24 PCRs; SHA-1 and SHA-512 are off. The
/// hierarchies have empty authorization values.
///
/// One certificate authority, kept in a directory, may serve any number of TPMs, also of several
/// processes at once. Every authority that `swtpm_localca` makes has the same subject names, so
/// nothing may look an issuer up by its name alone.
public struct SoftwareTPMManufacture: Sendable {
    /// The PCR banks that are active, by the names of `swtpm_setup`.
    static let banks = "sha256,sha384"
    /// One takes 0.6 to 1.3 s alone; a busy machine with a queue for the authority, longer.
    static let patience = 120_000

    private let authority: PlainPath

    /// Uses the certificate authority in a directory, and makes both when they are not there.
    ///
    /// - Parameter authority: absolute path; never that of the system, `/var/lib/swtpm-localca`.
    /// - Throws: code `.pathNotAccepted`.
    public init(ca authority: String) throws(SoftwareTPMError) {
        self.authority = try PlainPath(authority)
        guard !self.authority.text.hasPrefix("/var/lib/swtpm-localca") else {
            throw SoftwareTPMError(
                .pathNotAccepted, "the system's certificate authority is left alone",
                hint: "choose another directory")
        }
    }

    /// Makes a TPM.
    ///
    /// - Parameters:
    ///   - state: absolute path of the new state directory; must not have a TPM. After a failure
    ///     it has none either.
    ///   - roots: absolute path of a directory that gets the authority's certificates, see
    ///     ``writeRoots(to:)``.
    /// - Throws: code `.manufactureFailed` with the last words of `swtpm_setup`, `.notInstalled`,
    ///   `.alreadyManufactured`, or `.timedOut` after two minutes.
    /// - Complexity: about one second, mostly an RSA key.
    public func manufacture(
        state: String, roots: String
    ) throws(SoftwareTPMError) {
        let state = try PlainPath(state)
        try SoftwareTPMState.requireNone(in: state)
        try Files.makeDirectory(state.text)
        try Files.makeDirectory(authority.text)
        try Files.withLock(
            authority.appending(".holdfast.lock").text, milliseconds: Self.patience
        ) { () throws(SoftwareTPMError) in
            try setUp(state)
        }
        try writeRoots(to: roots)
    }

    /// Writes the certificates of the authority, `root.pem` and `intermediate.pem`.
    ///
    /// The directory is what `holdfast-server init --ek-roots` reads.
    ///
    /// - Parameter directory: absolute path; made when it is not there.
    /// - Throws: code `.manufactureFailed` before the first TPM was made.
    public func writeRoots(to directory: String) throws(SoftwareTPMError) {
        let directory = try PlainPath(directory)
        try Files.makeDirectory(directory.text)
        for (name, pem) in try roots() {
            try Files.replace(directory.appending(name).text, pem)
        }
    }

    func roots() throws(SoftwareTPMError) -> [String: [UInt8]] {
        var certificates: [String: [UInt8]] = [:]
        let names = [
            ("swtpm-localca-rootca-cert.pem", "root.pem"), ("issuercert.pem", "intermediate.pem"),
        ]
        for (name, target) in names {
            guard let pem = try Files.read(authority.appending(name).text),
                String(decoding: pem, as: UTF8.self).contains("-----BEGIN CERTIFICATE-----")
            else {
                throw SoftwareTPMError(
                    .manufactureFailed, "\(authority.text) has no certificate `\(name)`",
                    hint: "remove the directory, so that a new authority is made")
            }
            certificates[target] = pem
        }
        return certificates
    }

    /// Runs `swtpm_setup` with configuration files of our own in a scratch directory.
    private func setUp(_ state: PlainPath) throws(SoftwareTPMError) {
        let scratch = try PlainPath(try Files.makeTemporaryDirectory())
        do {
            try runSetup(state, scratch: scratch)
        } catch {
            // A TPM that is half made is worse than none.
            try? Files.removeDirectory(state.text)
            try? Files.removeDirectory(scratch.text)
            throw error
        }
        try Files.removeDirectory(scratch.text)
    }

    private func runSetup(
        _ state: PlainPath, scratch: PlainPath
    ) throws(SoftwareTPMError) {
        let configuration = scratch.appending("setup.conf").text
        let localCA = scratch.appending("localca.conf").text
        let options = scratch.appending("localca.options").text
        let log = scratch.appending("setup.log").text
        let ca = authority.text
        try Files.create(
            localCA,
            lines([
                "statedir = \(ca)", "signingkey = \(ca)/signkey.pem",
                "issuercert = \(ca)/issuercert.pem", "certserial = \(ca)/certserial",
            ]))
        try Files.create(
            options,
            lines([
                "--platform-manufacturer Holdfast", "--platform-version 1",
                "--platform-model Software",
            ]))
        try Files.create(
            configuration,
            lines([
                "create_certs_tool = \(try Self.program("swtpm_localca"))",
                "create_certs_tool_config = \(localCA)", "create_certs_tool_options = \(options)",
                "active_pcr_banks = \(Self.banks)",
            ]))
        let process = try ChildProcess.spawn(
            [
                "swtpm_setup", "--tpm2", "--tpmstate", state.text, "--config", configuration,
                "--ecc", "--createek", "--create-ek-cert", "--create-platform-cert",
                "--lock-nvram", "--pcr-banks", Self.banks,
            ], log: log)
        guard let end = ChildProcess.wait(process, milliseconds: Self.patience) else {
            Glibc.kill(process, SIGKILL)
            _ = ChildProcess.wait(process, milliseconds: nil)
            throw SoftwareTPMError(
                .timedOut, "`swtpm_setup` did not end within \(Self.patience / 1000) s",
                hint: "try again when the machine is less busy")
        }
        guard end == .exited(0), SoftwareTPMState.exists(in: state) else {
            throw SoftwareTPMError(
                .manufactureFailed, "`swtpm_setup` failed: \(LogFile.lastWords(log))",
                hint: "apt-get install swtpm swtpm-tools gnutls-bin, and check the free space")
        }
    }

    private func lines(_ lines: [String]) -> [UInt8] {
        [UInt8](lines.map { $0 + "\n" }.joined().utf8)
    }

    /// `swtpm_setup` wants the whole path of the tool that signs.
    private static func program(_ name: String) throws(SoftwareTPMError) -> String {
        let folders = (environment("PATH") ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":")
        for folder in folders where unsafe access("\(folder)/\(name)", X_OK) == 0 {
            return "\(folder)/\(name)"
        }
        throw .notInstalled(name)
    }
}

/// What a program wrote to its log.
enum LogFile {
    /// The last lines that say something, for an error message of one line.
    static func lastWords(_ path: String) -> String {
        guard let bytes = try? Files.read(path) else { return "it left no message" }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            .filter { !$0.hasPrefix("Ending vTPM") && !$0.hasSuffix("client disconnected") }
        guard !lines.isEmpty else { return "it left no message" }
        return lines.suffix(2).map { String($0.prefix(200)) }.joined(separator: "; ")
    }
}
