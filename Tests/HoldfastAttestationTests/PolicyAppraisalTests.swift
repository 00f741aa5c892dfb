import Crypto
import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Testing
import X509

@Suite("a boot against a policy")
struct PolicyAppraisalTests {
    private typealias Bytes = FirmwareBytes

    /// A machine with Secure Boot on, and a certificate that vouched for its boot loader.
    private struct Machine {
        var log = EventLogWriter(algorithms: [.sha256])
        let authority: [UInt8]

        init(secureBoot: UInt8 = 1) throws {
            authority = testDER(try TestAuthority("maker", below: nil).certificate)
            let seven = PCRIndex.all[7]
            log.measure(
                Bytes.variable("SecureBoot", Bytes.global, [secureBoot]),
                as: .efiVariableDriverConfiguration,
                into: seven)
            let revoked = Bytes.hashes([[UInt8](repeating: 1, count: 32)])
            log.measure(
                Bytes.variable("dbx", Bytes.security, revoked), as: .efiVariableDriverConfiguration,
                into: seven)
            for pcr in PCRIndex.firmware { log.measure([0, 0, 0, 0], as: .separator, into: pcr) }
            vouch(authority, as: .efiVariableAuthority)
            for text in ["Invocation", "Returned with Success"] {
                log.measure(
                    Array("Exit Boot Services \(text)".utf8), as: .efiAction,
                    into: PCRIndex.all[5])
            }
        }

        mutating func vouch(_ der: [UInt8], as type: EventType) {
            log.measure(
                Bytes.variable("db", Bytes.security, [UInt8](repeating: 2, count: 16) + der),
                as: type,
                into: PCRIndex.all[7])
        }

        var values: PCRValues {
            get throws {
                var values = PCRValues()
                let replayed = try EventLog(parsing: log.bytes).replay(.sha256)
                for (index, value) in replayed { values[.sha256, index] = value }
                return values
            }
        }

        func appraise(_ values: PCRValues) -> EventLogAppraisal {
            EventLogAppraisal(log.bytes, userspace: nil, explaining: values, revocations: nil)
        }
    }

    /// A genuine quote over values, made in software.
    private static func quote(_ values: PCRValues) throws -> VerifiedQuote {
        let appraisal = try appraised(values)
        return try #require(appraisal.verified, "\(Verdict(appraisal).text)")
    }

    private static func appraised(
        _ values: PCRValues, expecting other: [UInt8]? = nil, isBare: Bool = false
    ) throws -> QuoteAppraisal {
        let key = ECPrivateKey(curve: .p256, random: .system)
        var area = KeyTemplate.attestationKey(vendorID: [])
        area.kind = .ecc(
            symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: key.publicKey.x,
            y: key.publicKey.y)
        var selections: [PCRSelection] = []
        for hash in [HashAlgorithm.sha256, .sha384] {
            let indexes = values.values.keys.filter { $0.hash == hash }.map(\.index).sorted()
            if !indexes.isEmpty { selections.append(PCRSelection(hash, indexes)) }
        }
        let selection = PCRSelection(joining: selections)
        let nonce = RandomSource.system.bytes(32)
        let attestation = Attestation(
            qualifiedSigner: TPMName(handle: .endorsement), extraData: nonce,
            clockInfo: ClockInfo(clock: 1, resetCount: 2, restartCount: 0, safe: true),
            firmwareVersion: 1,
            attested: .quote(
                selection: selection,
                pcrDigest: try #require(values.digest(of: selection, hash: .sha256)))
        ).wireBytes
        let raw = try key.signECDSA(attestation)
        let signature = Signature.ecdsa(
            hash: .sha256, r: [UInt8](raw[..<32]), s: [UInt8](raw[32...]))
        return QuoteAppraisal(
            UnverifiedQuote(
                attestation: attestation, signature: signature.wireBytes, values: values),
            expecting: QuoteExpectation(
                key: isBare ? .bare(key.publicKey) : .publicArea(area), nonce: other ?? nonce,
                minimumNonceSize: 16,
                selection: selection, qualifiedSigner: nil))
    }

    private func learned(_ machine: Machine) throws -> AppraisalPolicy {
        let values = try machine.values
        return try AppraisalPolicy.learned(
            id: "boot", version: 1, model: "gateway", from: values, log: machine.appraise(values),
            unchecked: [], imaPolicy: nil)
    }

    private func failed(
        _ policy: AppraisalPolicy, _ values: PCRValues, _ log: EventLogAppraisal?,
        _ list: PolicyAppraisal.MeasuredList? = nil
    ) throws -> Set<PolicyCheck> {
        let appraisal = PolicyAppraisal(
            .ownFile(policy), of: try Self.quote(values), log: log, list: list)
        #expect(appraisal.results.map(\.check) == PolicyCheck.allCases)
        #expect((Verdict(appraisal).verdict == "valid") == appraisal.refusals.isEmpty)
        return Set(appraisal.refusals.map(\.check))
    }

    @Test("the machine that a policy was learned from meets it, and demands what is good alone")
    func learn() throws {
        let machine = try Machine()
        let policy = try learned(machine)
        #expect(policy.references.count == 8 && policy.revoked.count == 1)
        #expect(
            policy.require == [
                .secureBoot: true, .uefiDebug: false, .dmaProtectionDisabled: false,
                .exitBootServices: true, .separators: true,
            ])
        #expect(policy.authorities == [HashAlgorithm.sha256.digest(machine.authority)])
        let values = try machine.values
        #expect(try failed(policy, values, machine.appraise(values)) == [])
        let file = AppraisalPolicyFile(policy)
        #expect(try AppraisalPolicyFile(file.encoded()) == file)
        #expect(file.plainText.contains("Secure Boot is on"))
        let off = try learned(Machine(secureBoot: 0))
        #expect(off.require[.secureBoot] == nil && off.authorities == nil)
        // A log that explains something else, and none that could be compared.
        var other = values
        other[.sha256, PCRIndex.all[4]]?[0] ^= 1
        for log in [
            machine.appraise(other),
            EventLogAppraisal(
                machine.log.bytes, userspace: nil, explaining: nil, revocations: nil),
        ] {
            #expect(throws: PolicyFormatError.self) {
                try AppraisalPolicy.learned(
                    id: "boot", version: 1, model: "gateway", from: values, log: log,
                    unchecked: [], imaPolicy: nil)
            }
        }
    }

    @Test("a policy counts as signed when a signature was verified, and not otherwise")
    func signed() throws {
        let machine = try Machine()
        let values = try machine.values
        let policy = try learned(machine)
        let issuer = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        let other = try Ed25519PrivateKey(seed: RandomSource.system.secret(32))
        let token = try policy.signed(with: issuer)
        let verified = try VerifiedPolicy(verifying: token, issuers: [issuer.publicKey])
        for (origin, outcome) in [
            (PolicyOrigin.signed(verified), CheckOutcome.passed),
            (.ownFile(policy), .notApplicable),
        ] {
            let appraisal = PolicyAppraisal(
                origin, of: try Self.quote(values), log: machine.appraise(values), list: nil)
            #expect(appraisal.refusals.isEmpty)
            #expect(appraisal.results.first { $0.check == .signed }?.outcome == outcome)
        }
        #expect(throws: TokenError.foreignKey) {
            try VerifiedPolicy(verifying: token, issuers: [other.publicKey])
        }
    }

    @Test("another value is refused, or flagged when the policy says so")
    func drift() throws {
        let machine = try Machine()
        var policy = try learned(machine)
        policy.require = [:]
        policy.revoked = []
        policy.authorities = nil
        var values = try machine.values
        values[.sha256, PCRIndex.all[4]]?[0] ^= 1
        #expect(try failed(policy, values, nil) == [.references])
        policy.onDrift = .flag
        let flagged = PolicyAppraisal(
            .ownFile(policy), of: try Self.quote(values), log: nil, list: nil)
        let result = try #require(flagged.results.first { $0.check == .references })
        #expect(result.outcome == .flagged && result.reason.contains("sha256:4"))
        #expect(Verdict(flagged).verdict == "valid")
        // No quote is never a flag.
        let none = PolicyAppraisal(.ownFile(policy), of: nil, log: nil, list: nil)
        #expect(none.refusals.map(\.check) == [.registers, .references])
        // A second reference value, as after an update.
        policy.onDrift = .refuse
        let four = PCRValues.Register(.sha256, PCRIndex.all[4])
        policy.references[four]?.insert(try #require(values.values[four]))
        #expect(try failed(policy, values, nil) == [])
    }

    @Test("a register that is missing is refused, and one that the policy does not speak of")
    func registers() throws {
        let machine = try Machine()
        var policy = try learned(machine)
        policy.require = [:]
        policy.revoked = []
        policy.authorities = nil
        let values = try machine.values
        var missing = values
        missing[.sha256, PCRIndex.all[4]] = nil
        #expect(try failed(policy, missing, nil) == [.registers])
        var more = values
        more[.sha256, PCRIndex.all[10]] = [UInt8](repeating: 1, count: 32)
        #expect(try failed(policy, more, nil) == [.registers])
        policy.unchecked = [PCRValues.Register(.sha256, PCRIndex.all[10])]
        #expect(try failed(policy, more, nil) == [])
        #expect(try failed(policy, values, nil) == [])
    }

    @Test("CVE-2023-1017 and CVE-2023-1018: firmware that the policy does not name is refused")
    func firmware() throws {
        let machine = try Machine()
        let values = try machine.values
        var policy = try learned(machine)
        for (named, refusals) in [([], []), ([1, 9], []), ([2], [.firmware])]
            as [(Set<UInt64>, Set<PolicyCheck>)]
        {
            policy.firmware = named
            #expect(try failed(policy, values, machine.appraise(values)) == refusals)
        }
        let file = AppraisalPolicyFile(policy)
        #expect(try AppraisalPolicyFile(file.encoded()) == file)
        #expect(file.plainText.contains("0000000000000002"))
        let none = PolicyAppraisal(.ownFile(policy), of: nil, log: nil, list: nil)
        #expect(none.refusals.map(\.check).contains(.firmware))
    }

    @Test("a required fact needs a log that explains the values")
    func facts() throws {
        let machine = try Machine()
        let policy = try learned(machine)
        let values = try machine.values
        let shown: Set<PolicyCheck> = [.facts, .revoked, .authorities]
        #expect(try failed(policy, values, nil) == shown)
        let unproven = EventLogAppraisal(
            machine.log.bytes, userspace: nil, explaining: nil, revocations: nil)
        #expect(try failed(policy, values, unproven) == shown)
        #expect(
            try failed(policy, values, Machine(secureBoot: 0).appraise(values)) == shown,
            "the log of another machine")
        // Secure Boot off, with values that would be accepted.
        let off = try Machine(secureBoot: 0)
        var lenient = policy
        lenient.onDrift = .flag
        lenient.authorities = nil
        let offValues = try off.values
        #expect(try failed(lenient, offValues, off.appraise(offValues)) == [.facts])
        lenient.require = [.secureBoot: false]
        #expect(try failed(lenient, offValues, off.appraise(offValues)) == [])
        lenient.revoked.insert([UInt8](repeating: 9, count: 32))
        #expect(try failed(lenient, offValues, off.appraise(offValues)) == [.revoked])
    }

    @Test("a log shows nothing of registers that nobody quoted, whatever it says of them")
    func unquoted() throws {
        // Secure Boot is off; what the log says of PCR 7 is made up.
        let invented = try Machine()
        var values = try invented.values
        for index in PCRIndex.firmware where index.rawValue != 4 { values[.sha256, index] = nil }
        let log = invented.appraise(values)
        #expect(log.refusals.isEmpty)
        var policy = try learned(invented)
        policy.references = policy.references.filter { $0.key.index.rawValue == 4 }
        for (name, change) in [
            ("secureBoot", { $0.require = [.secureBoot: true] }),
            ("uefiDebug", { $0.require = [.uefiDebug: false] }),
            ("exitBootServices", { $0.require = [.exitBootServices: true] }),
            ("separators", { $0.require = [.separators: true] }),
        ] as [(String, (inout AppraisalPolicy) -> Void)] {
            var one = policy
            one.revoked = []
            one.authorities = nil
            change(&one)
            #expect(try failed(one, values, log) == [.facts], "\(name)")
        }
        policy.require = [:]
        #expect(try failed(policy, values, log) == [.revoked, .authorities])
        // Nor when the log was compared with more than was quoted.
        #expect(
            try failed(policy, values, invented.appraise(invented.values))
                == [.revoked, .authorities])
        // With PCR 7 beside it they are shown.
        let seven = PCRIndex.all[7]
        values[.sha256, seven] = try invented.values[.sha256, seven]
        policy.unchecked = [.init(.sha256, seven)]
        policy.require = [.secureBoot: true]
        #expect(try failed(policy, values, invented.appraise(values)) == [])

        // Nothing is learned of it either, and dbx is not shown.
        values[.sha256, seven] = nil
        let few = try AppraisalPolicy.learned(
            id: "boot", version: 1, model: "gateway", from: values, log: log, unchecked: [],
            imaPolicy: nil)
        #expect(few.require.isEmpty && few.revoked.isEmpty && few.authorities == nil)
        let minimum = try RevokedImages(Array(String(repeating: "01", count: 32).utf8))
        func dbx(_ values: PCRValues?) -> Bool {
            EventLogAppraisal(
                invented.log.bytes, userspace: nil, explaining: values, revocations: minimum
            ).refusals.isEmpty
        }
        #expect(!dbx(values))
        #expect(dbx(try invented.values) && dbx(nil))
    }

    @Test("a certificate that the policy does not name is refused under every event type")
    func authorities() throws {
        let machine = try Machine()
        var policy = try learned(machine)
        policy.onDrift = .flag
        let stranger = testDER(try TestAuthority("stranger", below: nil).certificate)
        for type in [EventType.efiVariableAuthority, .action, .ipl] {
            var other = machine
            other.vouch(stranger, as: type)
            let values = try other.values
            #expect(try failed(policy, values, other.appraise(values)) == [.authorities])
        }
        // An image that is named by hash, and something that the log does not show.
        var byHash = machine
        byHash.vouch([UInt8](repeating: 3, count: 32), as: .efiVariableAuthority)
        var hidden = machine
        hidden.log.append(
            pcr: 7, type: .postCode,
            digests: [.init(.sha256, [UInt8](repeating: 4, count: 32))], data: [1])
        for other in [byHash, hidden] {
            let values = try other.values
            #expect(try failed(policy, values, other.appraise(values)) == [.authorities])
        }
        // An image by a hash of whatever kind, before the separators as well; lists are none of them.
        for (count, content, isAuthority) in [20, 28, 32, 48, 64, 80].map({
            ($0, [UInt8](repeating: 3, count: 16 + $0), true)
        }) + [(0, Bytes.hashes([[UInt8](repeating: 3, count: 32)]), false), (1, [1], false)] {
            var early = EventLogWriter(algorithms: [.sha256])
            early.measure(
                Bytes.variable("db", Bytes.security, content), as: .efiVariableAuthority,
                into: PCRIndex.all[7])
            early.measure([0, 0, 0, 0], as: .separator, into: PCRIndex.all[7])
            let facts = EventLogAppraisal(
                early.bytes, userspace: nil, explaining: nil, revocations: nil
            ).facts
            #expect(facts?.otherAuthorities.count == (isAuthority ? 1 : 0), "\(count)")
        }
        // Only a list of SHA-1 with one entry has the size of an owner and a longer hash.
        let sha1: [UInt8] = [
            0x12, 0xA5, 0x6C, 0x82, 0x10, 0xCF, 0xC9, 0x4A, 0xB1, 0x87, 0xBE, 0x01, 0x49, 0x66,
            0x31, 0xBD,
        ]
        var short = machine
        short.log = EventLogWriter(algorithms: [.sha256])
        short.log.measure(
            Bytes.variable(
                "dbx", Bytes.security,
                sha1 + Bytes.little(64, 4) + Bytes.little(0, 4) + Bytes.little(36, 4)
                    + [UInt8](repeating: 5, count: 36)),
            as: .efiVariableDriverConfiguration, into: PCRIndex.all[7])
        #expect(short.appraise(try short.values).facts?.otherAuthorities.isEmpty == true)
        // What shim measures of its own is known by its name and by shim's identifier.
        let shim: [UInt8] = [
            0x50, 0xAB, 0x5D, 0x60, 0x46, 0xE0, 0x00, 0x43, 0xAB, 0xB6, 0x3D, 0xD8, 0x10, 0xDD,
            0x8B, 0x23,
        ]
        for (name, vendor, refusals) in [
            ("SbatLevel", shim, []), ("MokListTrusted", shim, []),
            ("SbatLevel", Bytes.security, [.authorities]), ("MokList", shim, [.authorities]),
        ] as [(String, [UInt8], Set<PolicyCheck>)] {
            var other = machine
            other.log.measure(
                Bytes.variable(name, vendor, Array("sbat,1,2022052400".utf8)),
                as: .efiVariableAuthority, into: PCRIndex.all[7])
            let values = try other.values
            #expect(try failed(policy, values, other.appraise(values)) == refusals, "\(name)")
        }
        // The known one again.
        var again = machine
        again.vouch(machine.authority, as: .efiVariableAuthority)
        let values = try again.values
        #expect(try failed(policy, values, again.appraise(values)) == [])
    }

    @Test("a measurement list must have passed the very IMA policy")
    func measurements() throws {
        var kernel = IMAAppraisalTests.Kernel()
        kernel.run("/bin/sh", "sh")
        kernel.run("/usr/bin/engine", "engine")
        let rules = try IMAAppraisalTests.policy()
        func list(_ policy: IMAPolicy?, _ values: PCRValues?) -> PolicyAppraisal.MeasuredList {
            var appraiser = IMAAppraiser(
                explaining: values, policy: policy, continuing: nil, boot: nil)
            appraiser.append(kernel.list.bytes)
            return PolicyAppraisal.MeasuredList(appraiser.finish(), policy: policy)
        }
        let policy = try AppraisalPolicy.learned(
            id: "boot", version: 1, model: "gateway", from: kernel.values, log: nil, unchecked: [],
            imaPolicy: rules)
        #expect(try failed(policy, kernel.values, nil, list(rules, kernel.values)) == [])
        #expect(try failed(policy, kernel.values, nil) == [.measurements])
        #expect(
            try failed(policy, kernel.values, nil, list(nil, kernel.values)) == [.measurements])
        #expect(try failed(policy, kernel.values, nil, list(rules, nil)) == [.measurements])
        let other = try IMAAppraisalTests.policy(#", "others": "accept""#)
        #expect(
            try failed(policy, kernel.values, nil, list(other, kernel.values)) == [.measurements])
        let denying = try IMAAppraisalTests.policy(engine: "another")
        let demanding = try AppraisalPolicy.learned(
            id: "boot", version: 1, model: "gateway", from: kernel.values, log: nil, unchecked: [],
            imaPolicy: denying)
        #expect(
            try failed(demanding, kernel.values, nil, list(denying, kernel.values))
                == [.measurements])
    }

    @Test("a file that cannot be meant is refused, and says what is wrong")
    func files() {
        let zeros = String(repeating: "0", count: 64)
        let start = #"{"id": "a", "version": 1, "model": "m", "onDrift": "refuse""#
        let shown = start + #", "unchecked": ["sha256:7"]"#
        let wrong = [
            "", "{}", start + "}", start + #", "allow": {}, "require": {"secureBoot": true}}"#,
            start + #", "require": {"safeBoot": true}}"#,
            start + #", "references": {"7": ["\#(zeros)"]}}"#,
            start + #", "references": {"sha256:7": ["00"]}}"#,
            start + #", "references": {"sha256:7": []}}"#,
            start + #", "references": {"sha256:7": ["\#(zeros)"]}, "unchecked": ["sha256:7"]}"#,
            shown + #", "require": {"secureBoot": true}, "authorities": []}"#,
            shown + #", "require": {"secureBoot": "yes"}}"#,
            start + #", "require": {"secureBoot": true}}"#,
            start + #", "unchecked": ["sha256:5"], "require": {"secureBoot": true}}"#,
            #"{"id": "a", "version": 1, "model": "m", "onDrift": "ignore", "unchecked": ["sha256:5"], "require": {"exitBootServices": true}}"#,
            #"{"id": "A", "version": 1, "model": "m", "onDrift": "flag", "unchecked": ["sha256:5"], "require": {"exitBootServices": true}}"#,
        ]
        for text in wrong {
            #expect(throws: PolicyFormatError.self, "\(text)") {
                try AppraisalPolicyFile(Array(text.utf8))
            }
        }
        let good = shown + #", "require": {"secureBoot": true}}"#
        #expect(throws: Never.self) { try AppraisalPolicyFile(Array(good.utf8)) }
    }

    @Test("two boots differ in the events whose digests differ, register by register")
    func difference() throws {
        let machine = try Machine()
        let bytes = machine.log.bytes
        #expect(try BootDifference(from: bytes, to: bytes).registers.isEmpty)
        var other = machine
        other.log.measure(Array("debug\0".utf8), as: .ipl, into: PCRIndex.all[8])
        let off = try Machine(secureBoot: 0)
        let added = try BootDifference(from: bytes, to: other.log.bytes)
        #expect(added.registers.map(\.pcr) == [8])
        #expect(added.registers[0].changes.map(\.change) == ["added"])
        #expect(added.text.contains("+ 14  boot loader: debug"))
        let removed = try BootDifference(from: other.log.bytes, to: bytes)
        #expect(removed.registers.first?.changes.map(\.change) == ["removed"])
        let changed = try BootDifference(from: bytes, to: off.log.bytes)
        #expect(changed.registers.map(\.pcr) == [7])
        #expect(changed.text.contains("- 1  variable SecureBoot: on"))
        #expect(changed.text.contains("+ 1  variable SecureBoot: off"))
        // What an event says of itself is not compared.
        var first = EventLogWriter(algorithms: [.sha256])
        var second = first
        first.append(
            pcr: 1, type: .ipl, digests: [.init(.sha256, [UInt8](repeating: 1, count: 32))],
            data: [1])
        second.append(
            pcr: 1, type: .action, digests: [.init(.sha256, [UInt8](repeating: 1, count: 32))],
            data: [2])
        #expect(try BootDifference(from: first.bytes, to: second.bytes).registers.isEmpty)
        #expect(throws: EventLogError.self) { try BootDifference(from: [], to: bytes) }
        // Many events do not take long.
        var long = EventLogWriter(algorithms: [.sha256])
        var longer = long
        for number in 0..<5000 {
            long.append(
                pcr: 9, type: .ipl,
                digests: [.init(.sha256, [UInt8](repeating: UInt8(number & 0xFF), count: 32))],
                data: [])
            longer.append(
                pcr: 9, type: .ipl,
                digests: [.init(.sha256, [UInt8](repeating: UInt8(number / 256), count: 32))],
                data: [])
        }
        #expect(!(try BootDifference(from: long.bytes, to: longer.bytes)).registers.isEmpty)
    }

    // MARK: the result for others

    private func result(
        _ policy: AppraisalPolicy?, _ values: PCRValues, _ log: EventLogAppraisal?,
        expecting nonce: [UInt8]? = nil, isBare: Bool = false,
        list: PolicyAppraisal.MeasuredList? = nil
    ) throws -> AttestationResult {
        let quote = try Self.appraised(values, expecting: nonce, isBare: isBare)
        var verdict = Verdict(quote)
        if let log { verdict = verdict.and(Verdict(log)) }
        let demanded = policy.map { policy in
            let appraisal = PolicyAppraisal(
                .ownFile(policy), of: quote.verified, log: log, list: list)
            verdict = verdict.and(Verdict(appraisal))
            return AttestationResult.DemandedPolicy(policy, appraisal)
        }
        return AttestationResult(
            verdict, quote: quote, policy: demanded, nonce: [UInt8](repeating: 6, count: 32))
    }

    @Test("an attestation result affirms what a policy demanded, and nothing without one")
    func vector() throws {
        let machine = try Machine()
        let values = try machine.values
        let log = machine.appraise(values)
        var policy = try learned(machine)
        let good = try result(policy, values, log)
        #expect(good.status == .affirming)
        #expect(good.vector == ["configuration": 2, "executables": 3])
        let none = try result(nil, values, log)
        #expect(none.status == .none && none.vector.isEmpty)
        let forged = try result(policy, values, log, expecting: [UInt8](repeating: 1, count: 32))
        #expect(forged.status == .contraindicated)
        #expect(forged.vector == ["configuration": 99, "executables": 99, "hardware": 99])
        #expect(
            try result(nil, values, log, expecting: [UInt8](repeating: 1, count: 32)).status
                == .contraindicated)
        // Facts that are not shown.
        #expect(try result(policy, values, nil).vector["configuration"] == 96)
        #expect(try result(policy, values, nil).status == .contraindicated)
        // Firmware, and a drift: flagged it is a warning, refused it is more.
        policy.firmware = [7]
        #expect(try result(policy, values, log).vector["hardware"] == 97)
        policy.firmware = []
        policy.require = [:]
        policy.revoked = []
        policy.authorities = nil
        policy.references = policy.references.mapValues { _ in [[UInt8](repeating: 5, count: 32)] }
        policy.onDrift = .flag
        let flagged = try result(policy, values, nil)
        #expect(flagged.status == .warning)
        #expect(flagged.vector == ["configuration": 36, "executables": 33])
        policy.onDrift = .refuse
        #expect(try result(policy, values, nil).status == .contraindicated)
    }

    @Test("an attestation result says no more of executables than was compared")
    func executables() throws {
        var kernel = IMAAppraisalTests.Kernel()
        kernel.run("/bin/sh", "sh")
        kernel.run("/usr/bin/engine", "engine")
        func vector(
            _ rules: IMAPolicy, _ change: (inout AppraisalPolicy) -> Void = { _ in }
        ) throws -> [String: UInt64] {
            var appraiser = IMAAppraiser(
                explaining: kernel.values, policy: rules, continuing: nil, boot: nil)
            appraiser.append(kernel.list.bytes)
            let list = PolicyAppraisal.MeasuredList(appraiser.finish(), policy: rules)
            var policy = try AppraisalPolicy.learned(
                id: "boot", version: 1, model: "gateway", from: kernel.values, log: nil,
                unchecked: [], imaPolicy: rules)
            change(&policy)
            let result = try result(policy, kernel.values, nil, list: list)
            #expect(result.status == .affirming)
            return result.vector
        }
        let closed = try IMAAppraisalTests.policy()
        #expect(try vector(closed) == ["configuration": 2, "executables": 2])
        // Rules that let others pass say nothing of what ran, and the boot is known.
        for open in [
            #", "others": "accept""#, #", "violations": "accept""#, #", "sha1": "accept""#,
            #", "bootAggregate": "unchecked""#,
        ] {
            #expect(
                try vector(IMAAppraisalTests.policy(open))
                    == ["configuration": 2, "executables": 3])
        }
        // A kernel that is not known may lie about what it measured.
        func unchecked(_ indexes: Int...) -> (inout AppraisalPolicy) -> Void {
            { policy in
                for index in indexes {
                    for hash in [HashAlgorithm.sha256, .sha384] {
                        let register = PCRValues.Register(hash, PCRIndex.all[index])
                        policy.references[register] = nil
                        policy.unchecked.insert(register)
                    }
                }
            }
        }
        #expect(try vector(closed, unchecked(4)) == ["configuration": 2])
        #expect(try vector(closed, unchecked(5, 7)) == ["configuration": 2, "executables": 2])

        // Without any reference value nothing was compared.
        let machine = try Machine()
        let values = try machine.values
        var policy = try learned(machine)
        policy.unchecked = Set(policy.references.keys)
        policy.references = [:]
        let log = machine.appraise(values)
        let facts = try result(policy, values, log)
        #expect(facts.status == .affirming && facts.vector == ["configuration": 2])
        let appraisal = PolicyAppraisal(
            .ownFile(policy), of: try Self.quote(values), log: log, list: nil)
        #expect(
            appraisal.results.first { $0.check == .references }?.outcome == .notApplicable)
        // A key that may be in no TPM affirms nothing, and what is wrong stays wrong.
        let learned = try learned(machine)
        let bare = try result(learned, values, log, isBare: true)
        #expect(bare.status == .none && bare.vector.isEmpty)
        let bareWithout = try result(learned, values, nil, isBare: true)
        #expect(bareWithout.status == .contraindicated)
        #expect(bareWithout.vector == ["configuration": 96])
    }

    @Test("an attestation result is signed whole, by a key on P-256")
    func token() throws {
        let machine = try Machine()
        let values = try machine.values
        let result = try result(learned(machine), values, machine.appraise(values))
        let key = ECPrivateKey(curve: .p256, random: .system)
        let token = try result.token(signedBy: key, issuedAt: 1_700_000_000)
        let parts = token.split(separator: ".").map(String.init)
        try #require(parts.count == 3)
        let signed = try P256.Signing.PublicKey(pemRepresentation: key.publicKey.pem)
        let signature = try P256.Signing.ECDSASignature(
            rawRepresentation: Base64URL.decode(parts[2]))
        #expect(signed.isValidSignature(signature, for: Data((parts[0] + "." + parts[1]).utf8)))
        #expect(
            !signed.isValidSignature(signature, for: Data((parts[0] + "." + parts[1] + "A").utf8)))
        let claims = try #require(
            try JSONSerialization.jsonObject(with: Data(Base64URL.decode(parts[1])))
                as? [String: Any])
        #expect(claims["iat"] as? Int == 1_700_000_000)
        #expect(
            claims["eat_nonce"] as? String == Base64URL.encode([UInt8](repeating: 6, count: 32)))
        let gateway = (claims["submods"] as? [String: Any])?["gateway"] as? [String: Any]
        #expect(gateway?["ear.status"] as? String == "affirming")
        #expect(gateway?["ear.appraisal-policy-id"] as? String == "holdfast:boot:1")
        let checks = gateway?["holdfast.checks"] as? [String: String]
        #expect(
            checks?.count
                == QuoteCheck.allCases.count + EventLogCheck.allCases.count
                + PolicyCheck.allCases.count)
        #expect(checks?["nonce"] == "passed")
        #expect(throws: KeyError.self) {
            try result.token(
                signedBy: ECPrivateKey(curve: .p384, random: .system), issuedAt: 1)
        }
    }
}
