import Foundation
import HoldfastCrypto
import HoldfastFiles
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// Ours beside what a user would pick instead, each on a software TPM of its own.
///
/// All TPMs are copies of one state, so what one seals each opens. The measurements are taken in
/// turn. A peer that is not installed is named in the row.
public struct PeerBenchmarks {
    /// The names of the rows.
    public static let names = ["unseal", "unseal-process", "quote-tools", "enroll", "cli-start"]

    private let programs: String
    /// Where `make bench` puts peers that it compiles.
    private let peers: String
    private let runs: Int

    /// Runs rows.
    ///
    /// - Parameters:
    ///   - programs: where `holdfast` is.
    ///   - peers: where `esapi-unseal` is.
    ///   - runs: of ours; of a peer, which is slower, one in ten.
    public static func run(
        _ names: [String], programs: String, peers: String, runs: Int
    ) throws -> [BenchmarkRow] {
        let benchmarks = PeerBenchmarks(programs: programs, peers: peers, runs: runs)
        return try names.map { name in
            switch name {
            case "unseal": try benchmarks.unseal()
            case "unseal-process": try benchmarks.unsealProcess()
            case "quote-tools": try benchmarks.quote()
            case "enroll": try benchmarks.enroll()
            default: try benchmarks.start()
            }
        }
    }

    // MARK: Contestants

    /// Somebody who does the work once and says how long it took, in microseconds.
    private struct Contestant {
        let name: String
        /// It takes its turn in one round of this many.
        let every: Int
        let work: () throws -> Double
    }

    /// Medians of rounds in which everybody has a turn, and who goes first changes.
    private func rounds(_ contestants: [Contestant]) throws -> [String: Double] {
        for contestant in contestants { _ = try contestant.work() }
        var times: [String: [Double]] = [:]
        for round in 0..<runs {
            let order = round % 2 == 0 ? contestants : contestants.reversed()
            for contestant in order where round % contestant.every == 0 {
                times[contestant.name, default: []].append(try contestant.work())
            }
        }
        return times.mapValues { $0.sorted()[$0.count / 2] }
    }

    private static func timed(_ work: () throws -> Void) rethrows -> Double {
        let start = monotonicMicroseconds()
        try work()
        return monotonicMicroseconds() - start
    }

    // MARK: Machines and programs

    /// A machine of the common state, switched on, that answers on a socket.
    private static func machine() throws -> TransientMachine {
        let made = try TransientMachine(.template)
        try made.machine.powerOn(.documented, ca: nil, random: .system)
        return made
    }

    private static func path(of program: String) -> String? {
        ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].map { $0 + "/" + program }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// Runs a program to its end.
    private static func run(
        _ program: String, _ arguments: [String], on machine: TransientMachine
    ) throws {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        process.currentDirectoryURL = URL(filePath: machine.path)
        process.environment = [
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": machine.path,
            "TPM2TOOLS_TCTI": "swtpm:path=" + machine.machine.socketPath, "TSS2_LOG": "all+NONE",
            "HOLDFAST_TCTI": "unix:" + machine.machine.socketPath,
            "HOLDFAST_STATE": machine.path + "/device",
        ]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ProgramMissing(
                description:
                    "`\(program) \(arguments.joined(separator: " "))` failed with \(process.terminationStatus)"
            )
        }
    }

    private static func script(_ text: String, on machine: TransientMachine) throws {
        try run("/bin/bash", ["-euc", text], on: machine)
    }

    /// What a program leaves in a TPM without a resource manager; not in the time of anybody.
    private static func tidy(_ machine: TransientMachine) throws {
        let connection = machine.machine.connection(random: .system)
        defer { connection.close() }
        for first in [0x8000_0000, 0x0200_0000] as [UInt32] {
            for handle in try connection.handles(from: first) {
                try connection.run(FlushContextCommand(handle))
            }
        }
    }

    // MARK: Unsealing

    private static let secret = RandomSource.system.bytes(32)

    private func sealed(_ connection: TPMConnection) throws -> SealedBlob {
        let policy = try connection.policy(
            PolicyText([.pcrs(PCRSelection(.sha256, [PCRIndex.all[7]]))]), keys: [:])
        return try connection.seal(
            SecretBytes(copying: Self.secret), policy: policy, pin: nil)
    }

    private static func write(_ blob: SealedBlob, to machine: TransientMachine) throws {
        func sized(_ bytes: [UInt8]) -> [UInt8] {
            var writer = WireWriter()
            writer.sized(bytes)
            return writer.bytes
        }
        try Files.write(blob.wireBytes, to: machine.path + "/blob", mode: 0o600)
        try Files.write(sized(blob.publicArea), to: machine.path + "/public", mode: 0o600)
        try Files.write(sized(blob.privateBlob), to: machine.path + "/private", mode: 0o600)
    }

    private static let toolsParent = """
        tpm2_createprimary -Q -C o -g sha256 -G ecc256:aes128cfb -c parent.ctx \
        -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt'
        tpm2_flushcontext -t
        """

    private static let toolsUnseal = """
        tpm2_load -Q -C parent.ctx -u public -r private -c object.ctx
        tpm2_flushcontext -t
        tpm2_startauthsession --policy-session -S session.ctx
        tpm2_policypcr -Q -S session.ctx -l sha256:7
        tpm2_unseal -Q -c object.ctx -p session:session.ctx >opened
        tpm2_flushcontext -t
        tpm2_flushcontext session.ctx
        """

    private func tools(_ blob: SealedBlob) throws -> Contestant {
        let machine = try Self.machine()
        try Self.write(blob, to: machine)
        try Self.script(Self.toolsParent, on: machine)
        return Contestant(name: "tpm2-tools", every: 20) {
            try Self.timed { try Self.script(Self.toolsUnseal, on: machine) }
        }
    }

    /// systemd-creds, which seals by itself.
    private func systemdCreds() throws -> Contestant? {
        guard let program = Self.path(of: "systemd-creds") else { return nil }
        let machine = try Self.machine()
        let device = "--tpm2-device=swtpm:path=" + machine.machine.socketPath
        try Files.write(Self.secret, to: machine.path + "/secret", mode: 0o600)
        do {
            try Self.run(
                program,
                [
                    "encrypt", "--with-key=tpm2", device, "--tpm2-pcrs=7", "--name=secret",
                    "secret",
                    "credential",
                ], on: machine)
            try Self.tidy(machine)
        } catch is ProgramMissing { return nil }
        return Contestant(name: "systemd-creds", every: 20) {
            let spent = try Self.timed {
                try Self.run(
                    program, ["decrypt", device, "--name=secret", "credential", "opened"],
                    on: machine)
            }
            // It leaves a session behind.
            try Self.tidy(machine)
            return spent
        }
    }

    private func clevis() throws -> Contestant? {
        guard Self.path(of: "clevis") != nil else { return nil }
        let machine = try Self.machine()
        try Files.write(Self.secret, to: machine.path + "/secret", mode: 0o600)
        do {
            try Self.script(
                "clevis encrypt tpm2 '{\"pcr_bank\":\"sha256\",\"pcr_ids\":\"7\"}' <secret >jwe",
                on: machine)
            try Self.tidy(machine)
        } catch is ProgramMissing { return nil }
        return Contestant(name: "clevis", every: 20) {
            let spent = try Self.timed {
                try Self.script("clevis decrypt <jwe >opened", on: machine)
            }
            try Self.tidy(machine)
            return spent
        }
    }

    /// The C program, which measures itself.
    private func esapi(_ blob: SealedBlob) throws -> Contestant? {
        let program = peers + "/esapi-unseal"
        guard FileManager.default.isExecutableFile(atPath: program) else { return nil }
        let machine = try Self.machine()
        try Self.write(blob, to: machine)
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = [
            "swtpm:path=" + machine.machine.socketPath, machine.path + "/public",
            machine.path + "/private",
        ]
        process.environment = ["TSS2_LOG": "all+NONE"]
        let input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        return Contestant(name: "ESAPI", every: 2) {
            // The machine lives as long as the program that uses it.
            try withExtendedLifetime((machine, process)) {
                try input.fileHandleForWriting.write(contentsOf: Data([0x0A]))
                let line = String(
                    decoding: output.fileHandleForReading.availableData, as: UTF8.self)
                guard let spent = Double(line.filter { $0 != "\n" }) else {
                    throw ProgramMissing(description: "`esapi-unseal` ended: it printed `\(line)`")
                }
                return spent
            }
        }
    }

    private func missing(_ all: [(String, Bool)]) -> [String] {
        all.filter { !$0.1 }.map(\.0)
    }

    private func unseal() throws -> BenchmarkRow {
        var recording: RecordingTransport?
        let tpm = try TransientTPM(.documented) { transport in
            let made = RecordingTransport(transport)
            recording = made
            return made
        }
        guard let recording else { throw TPMError(.invalidRequest, "no transport was made") }
        // Salt and nonce of the recording are known, so that its HMAC can be made again. Its end
        // closes the transport, which is that of both.
        let fixed = RandomSource { count in [UInt8](repeating: 0x42, count: count) }
        let recorder = TPMConnection(recording, random: fixed)
        defer { withExtendedLifetime((recorder, tpm)) {} }
        let blob = try sealed(tpm.connection)
        let esapi = try esapi(blob)
        let creds = try systemdCreds()
        let clevis = try clevis()
        var contestants = [try tools(blob)] + [esapi, creds, clevis].compactMap { $0 }
        let medians = try tpm.connection.withStorageKey(nil) {
            (parent) throws(TPMError) -> [String: Double] in
            do {
                let ours = {
                    let released = try tpm.connection.unseal(
                        blob, below: parent, with: UnsealingMeans())
                    _ = released.count
                }
                let salt = try SharedSeed(
                    for: parent.publicArea, purpose: .session, random: fixed)
                recording.isRecording = true
                _ = try recorder.unseal(blob, below: parent, with: UnsealingMeans())
                let commands = recording.take()
                let session = RecordedSession(
                    salt: salt.seed, nonceCaller: fixed.bytes(16),
                    objectName: try blob.object().name.bytes)
                contestants.insert(
                    Contestant(name: "the same commands sent raw", every: 1) {
                        try Self.timed { try session.replay(commands, on: recording) }
                    }, at: 0)
                contestants.insert(
                    Contestant(name: "ours", every: 1) { try Self.timed(ours) }, at: 0)
                return try rounds(contestants)
            } catch let error as TPMError { throw error } catch {
                throw TPMError(.invalidRequest, "\(error)")
            }
        }
        let ours = medians["ours"] ?? .nan
        let raw = medians["the same commands sent raw"] ?? .nan
        func factor(_ name: String) -> Double { (medians[name] ?? .infinity) / ours }
        return BenchmarkRow(
            name: "unseal", unit: "us", ours: ours,
            anchors: medians.filter { $0.key != "ours" }, ratio: ours / raw,
            goal: "<= 1.5 x raw, ESAPI >= 5 x ours, systemd-creds >= 50 x ours",
            met: ours / raw <= 1.5 && factor("ESAPI") >= 5 && factor("systemd-creds") >= 50,
            runs: runs,
            missing: missing([
                ("ESAPI", esapi != nil), ("systemd-creds", creds != nil), ("clevis", clevis != nil),
            ]))
    }

    private func unsealProcess() throws -> BenchmarkRow {
        let machine = try Self.machine()
        let connection = machine.machine.connection(random: .system)
        let blob = try connection.transaction { (tpm) throws(TPMError) in
            do { return try sealed(tpm) } catch let error as TPMError { throw error } catch {
                throw TPMError(.invalidRequest, "\(error)")
            }
        }
        connection.close()
        try Self.write(blob, to: machine)
        let creds = try systemdCreds()
        let clevis = try clevis()
        let program = programs + "/holdfast"
        let ours = Contestant(name: "ours", every: 20) {
            try Self.timed { try Self.run(program, ["unseal", "blob"], on: machine) }
        }
        let medians = try rounds(
            [ours, try tools(blob)] + [creds, clevis].compactMap { $0 })
        let spent = medians["ours"] ?? .nan
        let other = medians["systemd-creds"] ?? medians["tpm2-tools"] ?? .nan
        return BenchmarkRow(
            name: "unseal-process", unit: "us", ours: spent,
            anchors: medians.filter { $0.key != "ours" }, ratio: spent / other,
            goal: "faster than systemd-creds as a process", met: spent < other,
            runs: runs / 20,
            missing: missing([("systemd-creds", creds != nil), ("clevis", clevis != nil)]))
    }

    // MARK: Quoting, enrolling, starting

    private func quote() throws -> BenchmarkRow {
        let tpm = try TransientTPM(.documented)
        defer { withExtendedLifetime(tpm) {} }
        let machine = try Self.machine()
        try Self.script(
            """
            tpm2_createprimary -Q -C e -g sha256 -G ecc256:ecdsa-sha256:null -c key.ctx \
            -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign'
            tpm2_flushcontext -t
            """, on: machine)
        let selection = PCRSelection(.sha256, PCRIndex.firmware)
        let nonce = RandomSource.system.bytes(32)
        let medians = try tpm.connection.withPrimary(
            KeyTemplate.attestationKey(vendorID: RandomSource.system.bytes(32)), in: .endorsement
        ) { (key) throws(TPMError) -> [String: Double] in
            do {
                return try rounds([
                    Contestant(name: "ours", every: 1) {
                        try Self.timed {
                            _ = try tpm.connection.quote(selection, by: key, nonce: nonce)
                        }
                    },
                    Contestant(name: "tpm2_quote", every: 20) {
                        let spent = try Self.timed {
                            try Self.script(
                                "exec tpm2_quote -Q -c key.ctx -l sha256:0,1,2,3,4,5,6,7 -q \(hexadecimal(nonce)) -m message -s signature",
                                on: machine)
                        }
                        try Self.tidy(machine)
                        return spent
                    },
                ])
            } catch let error as TPMError { throw error } catch {
                throw TPMError(.invalidRequest, "\(error)")
            }
        }
        let ours = medians["ours"] ?? .nan
        let other = medians["tpm2_quote"] ?? .nan
        return BenchmarkRow(
            name: "quote-tools", unit: "us", ours: ours, anchors: ["tpm2_quote": other],
            ratio: ours / other, goal: "faster than tpm2_quote; against raw see `quote`",
            met: ours < other, runs: runs)
    }

    /// Endorsement key, attestation key, lease parent, certification and activation, on curves.
    ///
    /// The anchor is the time that the same commands take in the transport and in the TPM, in the
    /// same runs.
    private func enroll() throws -> BenchmarkRow {
        var timing: TimingTransport?
        let tpm = try TransientTPM(.documented) { transport in
            let made = TimingTransport(transport)
            timing = made
            return made
        }
        guard let timing else { throw TPMError(.invalidRequest, "no transport was made") }
        let connection = tpm.connection
        defer { withExtendedLifetime(tpm) {} }
        let identity = KeyTemplate.attestationKey(vendorID: RandomSource.system.bytes(32))
        let parent = KeyTemplate.leaseParent(unique: RandomSource.system.bytes(32))
        // The server's part is not the device's time.
        let (endorsement, name) = try connection.withEndorsementKey(.eccP384) {
            (key) throws(TPMError) in
            try connection.withPrimary(identity, in: .endorsement) { (own) throws(TPMError) in
                (key.publicArea, own.name)
            }
        }
        var credentials = try (0..<runs + 10).map { _ in
            try CredentialBlob(
                protecting: SecretBytes(copying: Self.secret), for: name, key: endorsement,
                random: .system)
        }
        var ours: [Double] = []
        var inside: [Double] = []
        for run in 0..<runs + 10 {
            let credential = credentials.removeLast()
            let before = timing.microseconds
            let spent = try Self.timed {
                try connection.withEndorsementKey(.eccP384) { (key) throws(TPMError) in
                    try connection.withPrimary(identity, in: .endorsement) {
                        (own) throws(TPMError) in
                        try connection.withPrimary(parent, in: .owner) {
                            (storage) throws(TPMError) in
                            _ = try connection.run(
                                CertifyCommand(
                                    object: storage.reference, key: own.reference,
                                    qualifyingData: [1]), [.emptyAuth, .emptyAuth])
                        }
                        let opened = try connection.activateCredential(
                            credential, for: own, endorsementKey: key, kind: .eccP384)
                        _ = opened.count
                    }
                }
            }
            guard run >= 10 else { continue }
            ours.append(spent)
            inside.append(timing.microseconds - before)
        }
        let whole = ours.sorted()[ours.count / 2]
        let commands = inside.sorted()[inside.count / 2]
        return BenchmarkRow(
            name: "enroll", unit: "us", ours: whole,
            anchors: ["the same commands in transport and TPM": commands], ratio: whole / commands,
            goal: "<= 1.3 x its TPM commands alone", met: whole / commands <= 1.3, runs: runs)
    }

    /// From the start of a program to the first answer that it has from a TPM.
    private func start() throws -> BenchmarkRow {
        let machine = try Self.machine()
        let proxy = try TimingProxy(before: machine.machine.socketPath)
        defer { proxy.close() }
        // tpm2-tss wants the control socket beside it.
        try FileManager.default.createSymbolicLink(
            atPath: proxy.path + ".ctrl", withDestinationPath: machine.machine.controlSocketPath)
        func contestant(_ name: String, _ program: String, _ arguments: [String]) -> Contestant {
            Contestant(name: name, every: 10) {
                let process = Process()
                process.executableURL = URL(filePath: program)
                process.arguments = arguments
                process.environment = [
                    "PATH": "/usr/bin:/bin", "TSS2_LOG": "all+NONE",
                    "TPM2TOOLS_TCTI": "swtpm:path=" + proxy.path,
                    "HOLDFAST_TCTI": "unix:" + proxy.path,
                ]
                process.currentDirectoryURL = URL(filePath: machine.path)
                process.standardOutput = FileHandle.nullDevice
                process.standardError = FileHandle.nullDevice
                _ = proxy.firstAnswer()
                let start = monotonicMicroseconds()
                try process.run()
                process.waitUntilExit()
                guard let answered = proxy.firstAnswer() else {
                    throw ProgramMissing(description: "`\(program)` asked no TPM")
                }
                return answered - start
            }
        }
        guard let tools = Self.path(of: "tpm2_getrandom") else {
            throw ProgramMissing(description: "`tpm2_getrandom` is not installed")
        }
        let quote = [
            "quote", "--nonce", String(repeating: "00", count: 16), "--pcrs", "7", "--message",
            "message", "--signature", "signature", "--public", "public",
        ]
        let medians = try rounds([
            contestant("ours", programs + "/holdfast", quote),
            contestant("tpm2_getrandom", tools, ["8"]),
        ])
        let ours = medians["ours"] ?? .nan
        let other = medians["tpm2_getrandom"] ?? .nan
        return BenchmarkRow(
            name: "cli-start", unit: "us", ours: ours, anchors: ["tpm2_getrandom": other],
            ratio: ours / other, goal: "<= 1.5 x tpm2_getrandom", met: ours / other <= 1.5,
            runs: runs / 10)
    }
}
