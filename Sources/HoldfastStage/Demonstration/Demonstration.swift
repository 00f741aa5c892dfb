import Glibc
import HoldfastCrypto
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire

/// The story of a lease on two software TPMs, told with what happened and how long it took.
///
/// Every claim is checked as it is made; one that does not hold makes the demonstration fail. It
/// shows what exists: the TPM layer. There is no server and no license in it yet.
public struct Demonstration {
    /// What was claimed and whether it held.
    public struct Claim: Sendable {
        public let text: String
        public let held: Bool
    }

    private let say: (String) -> Void
    private let random = RandomSource.system
    private var claims: [Claim] = []

    /// - Parameter say: prints a line.
    public init(_ say: @escaping (String) -> Void) { self.say = say }

    /// Tells the story in a directory of its own, which is removed afterwards.
    ///
    /// - Returns: the claims; the demonstration succeeded when all of them held.
    public mutating func run() throws -> [Claim] {
        let first = try TransientMachine(.manufactured)
        let second = try TransientMachine(.manufactured)
        try withExtendedLifetime((first, second)) { try tell(first.machine, second.machine) }
        say("")
        for claim in claims { say("\(claim.held ? "shown    " : "NOT SHOWN")  \(claim.text)") }
        return claims
    }

    private mutating func tell(_ first: SoftwareMachine, _ second: SoftwareMachine) throws {
        say("Holdfast on two software TPMs. What the TPM does, a chip does as well; it only")
        say("proves less here: a software TPM is as honest as whoever runs it.")

        chapter("Two machines are switched on")
        for machine in [first, second] {
            try machine.powerOn(.documented, ca: nil, random: random)
        }
        var here = connect(first)
        let there = connect(second)
        let report = try here.connection.report()
        claim(
            "each TPM has an endorsement key certificate in its NV",
            try here.connection.endorsementCertificate(.eccP384) != nil
                && there.connection.endorsementCertificate(.eccP384) != nil)
        say(
            "   \(report.manufacturer) \(report.model), banks \(report.banks.joined(separator: ", "))"
        )
        finish(&here)

        chapter("A secret is sent to one TPM: only it can tell us what it was")
        try activation(here.connection, there.connection)
        finish(&here)

        chapter("The vendor seals a lease to the first machine, without asking it")
        let stage = try LeaseStage(here.connection, random: random)
        let reference = random.bytes(32)
        let selection = PCRSelection(.sha256, [PCRIndex.all[7]])
        let approval = try stage.approvePresent(selection, policyRef: reference)
        let goodBoot = try here.connection.readPCRs(PCRSelection(.sha256, PCRIndex.firmware))
        let key = random.bytes(32)
        let policy = try stage.leasePolicy(
            policyRef: reference, milliseconds: 3_600_000, moreResets: 10
        ).policy
        let lease = try stage.seal(SecretBytes(copying: key), under: policy, random: random)
        finish(&here)
        chapter("It opens: boot state approved, epoch current, time left")
        claim("the lease opens on its own machine", try opens(stage, lease, approval, key))
        finish(&here)

        chapter("The disk is copied to the second machine")
        let copy = try LeaseStage(there.connection, random: random)
        refused("the TPM of another machine refuses the copied lease", .code(.integrity)) {
            () throws(TPMError) in
            _ = try copy.connection.importBlob(lease.blob, below: copy.parent)
        }
        refused("and the form in which the first TPM stored it", .code(.integrity)) {
            () throws(TPMError) in
            try copy.connection.withLoaded(
                privateBlob: lease.privateBlob, publicArea: lease.blob.publicArea,
                below: copy.parent
            ) { (_) throws(TPMError) in }
        }

        chapter("The first machine boots with Secure Boot changed")
        here.connection.close()
        try first.powerOff(random: random)
        let changed = SoftwareBoot.documented.adding([
            .init(Array("secure boot off".utf8), into: PCRIndex.all[7])
        ])
        try first.powerOn(changed, ca: nil, random: random)
        here = connect(first)
        stage.connection = here.connection
        refused("a changed boot state keeps the lease shut", .bootState) { () throws(TPMError) in
            _ = try stage.open(lease, approvals: [approval])
        }
        let nowBoot = try here.connection.readPCRs(PCRSelection(.sha256, PCRIndex.firmware))
        let differing = PCRIndex.firmware.filter {
            goodBoot[.sha256, $0] != nowBoot[.sha256, $0]
        }
        say(
            "   changed since the lease opened: PCR "
                + differing.map { String($0.rawValue) }.joined(separator: ", "))
        claim("the PCR that changed is named", differing == [PCRIndex.all[7]])
        finish(&here)

        chapter("The vendor signs an approval for the new state; the lease itself stays")
        let update = try stage.approvePresent(selection, policyRef: reference)
        claim("a signed approval opens it again", try opens(stage, lease, update, key))
        var forged = update
        forged.signature = approval.signature
        refused("a forged approval does not", .code(.signature)) { () throws(TPMError) in
            _ = try stage.open(lease, approvals: [forged])
        }
        finish(&here)

        chapter("A lease of a third of a second runs out")
        let short = try stage.seal(
            SecretBytes(copying: key),
            under: stage.leasePolicy(
                policyRef: reference, milliseconds: 330, moreResets: 0
            ).policy, random: random)
        claim("the short lease opens at first", try opens(stage, short, update, key))
        usleep(400_000)
        refused("its time is over on the TPM's own clock", .code(.policy)) { () throws(TPMError) in
            _ = try stage.open(short, approvals: [update])
        }

        chapter("The license is surrendered: the epoch is raised")
        try stage.raiseEpoch()
        refused("no lease of the old epoch opens again", .code(.policy)) { () throws(TPMError) in
            _ = try stage.open(lease, approvals: [update])
        }
        here.connection.endTransaction()
        claim(
            "no object and no session is left behind in the TPM",
            try here.connection.handles(from: 0x8000_0000).isEmpty
                && here.connection.handles(from: 0x0200_0000).isEmpty)
        here.connection.close()
        there.connection.close()
    }

    private mutating func activation(_ here: TPMConnection, _ there: TPMConnection) throws {
        let secret = random.bytes(32)
        let vendorID = random.bytes(32)
        let template = KeyTemplate.attestationKey(vendorID: vendorID)
        let blob = try here.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try here.withPrimary(template, in: .endorsement) { (ak) throws(TPMError) in
                do throws(ProtectionError) {
                    return try CredentialBlob(
                        protecting: SecretBytes(copying: secret), for: ak.name,
                        key: ek.publicArea, random: random)
                } catch {
                    throw TPMError(.invalidRequest, "\(error)")
                }
            }
        }
        claim(
            "the TPM that it was made for opens the credential",
            try Self.activate(blob, on: here, template) == secret)
        refused("another TPM does not", .code(.integrity)) { () throws(TPMError) in
            _ = try Self.activate(blob, on: there, template)
        }
    }

    private static func activate(
        _ blob: CredentialBlob, on tpm: TPMConnection, _ template: PublicArea
    ) throws(TPMError) -> [UInt8] {
        try tpm.withEndorsementKey(.eccP384) { (ek) throws(TPMError) in
            try tpm.withPrimary(template, in: .endorsement) { (ak) throws(TPMError) in
                let opened = try tpm.activateCredential(
                    blob, for: ak, endorsementKey: ek, kind: .eccP384)
                return Self.copy(opened)
            }
        }
    }

    private func opens(
        _ stage: LeaseStage, _ lease: LeaseStage.Lease, _ approval: PCRApproval, _ key: [UInt8]
    ) throws -> Bool {
        Self.copy(try stage.open(lease, approvals: [approval])) == key
    }

    /// The demonstration compares secrets that it made itself; a product has no reason to.
    private static func copy(_ secret: borrowing SecretBytes) -> [UInt8] {
        secret.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }

    // MARK: Telling

    private enum Reason {
        case code(ReturnCode)
        case bootState
    }

    /// A machine with the time that its TPM took.
    private struct Machine {
        let connection: TPMConnection
        let timing: TimingTransport
        var tpmSoFar = 0.0
        var since: Double
    }

    private func connect(_ machine: SoftwareMachine) -> Machine {
        let timing = TimingTransport(UnixSocketTransport(path: machine.socketPath))
        return Machine(
            connection: TPMConnection(timing, random: random), timing: timing,
            since: monotonicMicroseconds())
    }

    private func chapter(_ text: String) { say("\n\(text)") }

    private func finish(_ machine: inout Machine) {
        let tpm = machine.timing.microseconds - machine.tpmSoFar
        let all = monotonicMicroseconds() - machine.since
        say("   TPM \(milliseconds(tpm)) ms, we \(milliseconds(max(0, all - tpm))) ms")
        machine.tpmSoFar = machine.timing.microseconds
        machine.since = monotonicMicroseconds()
    }

    private func milliseconds(_ microseconds: Double) -> String {
        String((microseconds / 10).rounded() / 100)
    }

    private mutating func claim(_ text: String, _ held: Bool) {
        say("   \(held ? "yes" : "NO ")  \(text)")
        claims.append(Claim(text: text, held: held))
    }

    /// A claim that something is refused, for the reason that is expected and no other.
    private mutating func refused(
        _ text: String, _ reason: Reason, _ body: () throws(TPMError) -> Void
    ) {
        do throws(TPMError) {
            try body()
            claim(text, false)
        } catch {
            say("        \(error)")
            switch reason {
            case .code(let code): claim(text, error.returnCode.map { code ~= $0 } ?? false)
            case .bootState: claim(text, error.code == .bootStateNotApproved)
            }
        }
    }
}
