import HoldfastAttestation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("a license by file, from request to retirement", .timeLimit(.minutes(20)))
struct LifeTests {
    private func licensed(
        _ vendor: Vendor, _ device: FieldDevice
    ) async throws -> (id: String, issued: VendorService.Issued) {
        let id = try await vendor.admit(device)
        if (try? vendor.service.terms("standard")) == nil {
            _ = try vendor.service.apply(Vendor.terms())
        }
        let issued = try vendor.license(id)
        let applied = try device.with { try $0.apply(reply: issued.reply) }
        #expect(applied.outcome == .accepted)
        return (id, issued)
    }

    private func decision(_ device: FieldDevice, _ name: String) throws -> Decision {
        try device.with { try $0.decide(name) }
    }

    @Test("the SHA-384 bank decides: what is extended there closes, elsewhere it does not")
    func otherBank() async throws {
        let vendor = try Vendor(selection: "sha384:7")
        let device = try FieldDevice()
        _ = try await licensed(vendor, device)
        #expect(try decision(device, "scan").allowed)
        func extend(_ bank: HashAlgorithm, _ index: PCRIndex) throws {
            try device.tpm.connection.extend(index, banks: [bank], with: [1])
        }
        try extend(.sha256, PCRIndex.all[7])
        #expect(try decision(device, "scan").allowed)
        let renewed = try vendor.service.process(device.evidence())
        #expect(renewed.outcome == .accepted)
        try extend(.sha384, PCRIndex.all[7])
        let locked = try decision(device, "scan")
        #expect(!locked.allowed)
        #expect(locked.state == .active)
        let waiting = try vendor.service.process(device.evidence())
        #expect(waiting.outcome == .pendingBootState)
    }

    @Test("it is issued, opens on its TPM, is renewed in one trip and given up")
    func life() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let (_, issued) = try await licensed(vendor, device)
        let first = try decision(device, "scan")
        #expect(first.allowed)
        #expect(first.state == .active)
        #expect(first.license == issued.license.description)
        #expect(try decision(device, "scan") == first)
        #expect(try !decision(device, "other").allowed)
        #expect(try decision(device, "other").code == "NOT_GRANTED")
        #expect(try decision(device, "core").allowed)

        // Renewal: evidence out, reply in.
        let evidence = try device.evidence()
        let renewed = try vendor.service.process(evidence)
        #expect(renewed.outcome == .accepted)
        #expect(try vendor.service.process(evidence).reply == renewed.reply)
        let applied = try device.with { try $0.apply(reply: renewed.reply ?? []) }
        #expect(applied.standings.map(\.document.statement.serial) == [2])
        #expect(try device.with { try $0.apply(reply: renewed.reply ?? []) }.outcome == .accepted)
        #expect(
            try Files.names(in: device.path + "/licenses").filter { $0.hasSuffix(".license") }
                == ["\(issued.license).2.license"])
        // The one that was installed before does not come back.
        #expect(throws: DeviceError.replyOutdated) {
            try device.with { try $0.apply(reply: issued.reply) }
        }

        // Retirement: no lease opens again, and the proof ends the record.
        let proof = try device.with { try $0.retire().encoded }
        let retired = try decision(device, "scan")
        #expect(!retired.allowed)
        #expect(retired.state == .retired)
        #expect(try vendor.service.process(proof).outcome == .accepted)
        #expect(try vendor.service.process(proof).isRepeated)
        #expect(try vendor.service.devices().map(\.state) == [.retired])
        #expect(throws: DeviceError.retired) { try device.evidence() }
        #expect(throws: DeviceError.retired) {
            try device.with { try $0.apply(reply: renewed.reply ?? []) }
        }
        #expect(try decision(device, "export").allowed)
        #expect(try device.tpm.connection.handles(from: 0x8000_0000).isEmpty)
        #expect(try device.tpm.connection.handles(from: 0x0200_0000).isEmpty)
    }

    @Test(
        "after a restart into a changed boot state the lease is locked, the PCR is named, and an approval opens it"
    )
    func changedBoot() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let (id, _) = try await licensed(vendor, device)
        try device.tpm.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        let locked = try decision(device, "scan")
        #expect(!locked.allowed)
        #expect(locked.mode == .locked)
        #expect(locked.flags == [.bootChanged])
        #expect(locked.state == .active)
        #expect(locked.message.contains("PCR 7 differs"))
        #expect(try decision(device, "preview").allowed)
        #expect(try decision(device, "hint").allowed)

        // Evidence of that state is good and waits for the policy.
        let evidence = try device.evidence()
        let waiting = try vendor.service.process(evidence)
        #expect(waiting.outcome == .pendingBootState)
        let approval = try vendor.service.approve(
            .device(id), product: "scanner", values: nil, source: nil, generation: nil, note: "n")
        _ = try device.with { try $0.install(approval: approval.bytes) }
        #expect(try decision(device, "scan").allowed)
        #expect(try decision(device, "scan").flags == [])
    }

    @Test("more resets than the lease survives lock it, and say so")
    func resets() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try vendor.service.apply(Vendor.terms(resets: 1))
        _ = try await licensed(vendor, device)
        try device.tpm.reboot()
        #expect(try decision(device, "scan").allowed)
        try device.tpm.reboot()
        let locked = try decision(device, "scan")
        #expect(!locked.allowed)
        #expect(locked.flags == [.resetsSpent])
        #expect(locked.code == "RESETS_SPENT")
    }

    @Test("a lease runs out on the TPM's clock, state by state")
    func expiry() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await licensed(vendor, device)
        func set(_ seconds: UInt64) throws {
            let statement = try #require(
                try device.with { try $0.standings() }.first?.document.statement)
            try device.tpm.connection.setClock(statement.issuedTicks + seconds * 1000)
        }
        try set(300)
        #expect(try decision(device, "scan").state == .renewDue)
        #expect(try decision(device, "scan").allowed)
        try set(450)
        #expect(try decision(device, "scan").state == .grace)
        #expect(try decision(device, "scan").allowed)
        try set(601)
        #expect(try decision(device, "scan").state == .degraded)
        #expect(try !decision(device, "scan").allowed)
        #expect(try decision(device, "preview").allowed)
        try set(1201)
        #expect(try decision(device, "scan").state == .expired)
        #expect(try !decision(device, "preview").allowed)
        #expect(try decision(device, "hint").allowed)
        #expect(try decision(device, "read-only").allowed)
        // The way back is open from there.
        let renewed = try vendor.service.process(device.evidence())
        _ = try device.with { try $0.apply(reply: renewed.reply ?? []) }
        #expect(try decision(device, "scan").state == .active)
        #expect(try decision(device, "scan").allowed)
    }

    @Test("a recorded run gives the same decisions again, without TPM, disk and network")
    func replay() async throws {
        var recorded: [(inputs: [(LicenseDocument, LicenseSituation)], Decision)] = []
        do {
            let vendor = try Vendor()
            let device = try FieldDevice()
            func note() throws {
                for name in ["scan", "preview", "hint", "core", "read-only", "other"] {
                    try device.with { enrolled in
                        // The clock goes on between the two; a decision does not see it.
                        recorded.append((try enrolled.situations(), try enrolled.decide(name)))
                    }
                }
            }
            let (_, issued) = try await licensed(vendor, device)
            try note()
            try device.tpm.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
            try note()
            try device.tpm.reboot()
            try note()
            let start = try #require(
                try device.with { try $0.standings() }.first?.document.statement.issuedTicks)
            for seconds in [301, 451, 601, 1201] as [UInt64] {
                try device.tpm.connection.setClock(start + seconds * 1000)
                try note()
            }
            let renewed = try vendor.service.process(device.evidence())
            _ = try device.with { try $0.apply(reply: renewed.reply ?? []) }
            try note()
            _ = try vendor.service.revoke(license: issued.license.description)
            let told = try vendor.service.process(device.evidence())
            _ = try device.with { try $0.apply(reply: told.reply ?? []) }
            try note()
        }
        #expect(Set(recorded.map { $0.1.state }).count >= 6)
        for (inputs, decision) in recorded {
            let again = Decision(
                decision.entitlement,
                standings: inputs.map { LicenseStanding($0.0, in: $0.1) }, isEnrolled: true,
                isRetired: false)
            #expect(again == decision)
        }
    }

    @Test("keylime #1712 and cmc #406: nothing is relayed for another device, or reflected")
    func relay() async throws {
        let first = try TransientMachine(.manufactured)
        let second = try TransientMachine(.manufactured)
        try await withMachine(first) { here in
            try await withMachine(second) { there in
                let vendor = try Vendor(roots: first.roots() + second.roots())
                let directories = [try TemporaryDirectory(), try TemporaryDirectory()]
                for (directory, tpm) in zip(directories, [here, there]) {
                    let state = try StateDirectory(directory.path)
                    let request = try Enrollment(state, tpm: tpm, random: .system)
                        .makeRequest(trustFile: vendor.trustFile).encoded
                    let answer = try await vendor.service.enroll(request)
                    _ = try Enrollment(state, tpm: tpm, random: .system)
                        .activate(response: answer.response)
                }
                func device(_ number: Int) throws -> EnrolledDevice {
                    try EnrolledDevice(
                        StateDirectory(directories[number].path), tpm: [here, there][number],
                        random: .system)
                }
                let sealed = try device(0).makeEvidence(recollecting: false).encoded
                let key = try vendor.keys.sealingKey()
                func opened(_ envelope: [UInt8]) throws -> Evidence {
                    try Evidence(decoding: SealedEnvelope(decoding: envelope).open(with: key))
                }
                let own = try opened(sealed)
                let foreign = try opened(device(1).makeEvidence(recollecting: false).encoded)
                let changes: [(inout Evidence) -> Void] = [
                    { $0.subject = foreign.subject }, { $0.subject.nonce = foreign.subject.nonce },
                    { evidence in
                        evidence.quote = foreign.quote
                        evidence.quoteSignature = foreign.quoteSignature
                        evidence.values = foreign.values
                    },
                ]
                for change in changes {
                    var relayed = own
                    change(&relayed)
                    let envelope = try SealedEnvelope(
                        sealing: relayed.encoded(), to: key.publicKey, random: .system)
                    #expect(throws: (any Error).self) {
                        try vendor.service.process(envelope.encoded)
                    }
                }
                // Nothing but the quote's nonce covers the sections that carry no signature of their own.
                var changed = own
                changed.ledger.meters[9] = "another"
                let envelope = try SealedEnvelope(
                    sealing: changed.encoded(), to: key.publicKey, random: .system)
                let error = #expect(throws: ServiceError.self) {
                    try vendor.service.process(envelope.encoded)
                }
                guard case .refused(let reasons) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                let checks = reasons.compactMap { reason in
                    QuoteCheck(rawValue: String(reason.prefix { $0 != ":" }))
                }
                #expect(checks == [.nonce])
                // Nor was it made for another server, whose sealing key is another.
                let elsewhere = try TemporaryDirectory()
                let other = try VendorKeys(directory: elsewhere.path + "/keys").create(
                    .init(endorsementKeys: [Vendor.swtpm], urls: [], selection: "sha256:7"),
                    random: .system)
                let record = try #require(
                    try vendor.store.read {
                        try $0.enrollments(pairwiseID: own.subject.pairwiseID).first
                    })
                let trust = try vendor.keys.trust()
                for (server, refused) in [(trust, []), (other, [QuoteCheck.nonce])] {
                    let appraisal = EvidenceAppraisal(
                        own,
                        expecting: EvidenceExpectation(
                            vendorID: trust.vendorID,
                            statement: try DeviceStatement(
                                verifying: PASETOToken(parsing: record.statement),
                                issuers: trust.issuerKeys,
                                attestationKey: record.attestationKey.name),
                            nonce: own.subject.nonce, sealingKey: server.sealingKeys[0],
                            selection: own.selection, boot: trust.selection, previous: nil))
                    #expect(
                        appraisal.quote.results.filter { $0.outcome == .failed }.map(\.check)
                            == refused)
                    #expect((appraisal.verified != nil) == refused.isEmpty)
                }
                let reply = try #require(try vendor.service.process(sealed).reply)
                // What one side said is nothing from the other side, and nothing to another device.
                #expect(throws: (any Error).self) { try vendor.service.process(reply) }
                #expect(throws: (any Error).self) { try device(0).apply(reply: sealed) }
                #expect(throws: (any Error).self) { try device(1).apply(reply: reply) }
                _ = try device(0).apply(reply: reply)
            }
        }
    }

    @Test("a copied state directory is nothing on another TPM")
    func copied() async throws {
        let first = try TransientMachine(.manufactured)
        let second = try TransientMachine(.manufactured)
        try await withMachine(first) { here in
            let vendor = try Vendor(roots: first.roots() + second.roots())
            let directory = try TemporaryDirectory()
            func device(_ connection: TPMConnection) throws -> EnrolledDevice {
                try EnrolledDevice(
                    StateDirectory(directory.path), tpm: connection, random: .system)
            }
            let request = try Enrollment(
                StateDirectory(directory.path), tpm: here, random: .system
            ).makeRequest(trustFile: vendor.trustFile).encoded
            let answer = try await vendor.service.enroll(request)
            _ = try Enrollment(StateDirectory(directory.path), tpm: here, random: .system)
                .activate(response: answer.response)
            _ = try vendor.service.process(device(here).makeEvidence(recollecting: false).encoded)
            _ = try vendor.service.approve(device: answer.device, model: nil)
            _ = try vendor.service.approve(
                .device(answer.device), product: "scanner", values: nil, source: nil,
                generation: nil, note: "")
            _ = try vendor.service.apply(Vendor.terms())
            let issued = try vendor.license(answer.device)
            _ = try device(here).apply(reply: issued.reply)
            #expect(try device(here).decide("scan").allowed)
            try await withMachine(second) { there in
                let copied = try device(there).decide("scan")
                #expect(!copied.allowed)
                #expect(copied.flags == [.cleared])
                #expect(copied.state == .degraded)
                #expect(throws: EnrollmentError.keysLost) {
                    try device(there).makeEvidence(recollecting: false)
                }
                #expect(throws: EnrollmentError.keysLost) { try device(there).retire() }
                // A device of its own has its own binding: the file is for somebody else.
                let own = try TemporaryDirectory()
                let state = own.path + "/state"
                let asked = try Enrollment(StateDirectory(state), tpm: there, random: .system)
                    .makeRequest(trustFile: vendor.trustFile).encoded
                let other = try await vendor.service.enroll(asked)
                _ = try Enrollment(StateDirectory(state), tpm: there, random: .system)
                    .activate(response: other.response)
                #expect(other.device != answer.device)
                let stranger = try EnrolledDevice(
                    StateDirectory(state), tpm: there, random: .system)
                #expect(throws: TokenError.otherDevice) {
                    try stranger.apply(reply: issued.reply)
                }
                #expect(TokenError.otherDevice.stableCode == "DEVICE_MISMATCH")
            }
        }
    }

    private func withMachine<R>(
        _ machine: TransientMachine, _ body: (TPMConnection) async throws -> R
    ) async throws -> R {
        try machine.machine.powerOn(.documented, ca: nil, random: .system)
        let connection = machine.machine.connection(random: .system)
        defer { connection.close() }
        return try await body(connection)
    }
}

extension TransientMachine {
    /// The certificates of its TPM's maker.
    func roots() throws -> [[UInt8]] {
        try Files.certificates(in: path + "/ek-roots")
    }
}

@Suite("leaving", .timeLimit(.minutes(20)))
struct LeavingTests {
    private func two() async throws -> (Vendor, FieldDevice, String, [LicenseID]) {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        _ = try vendor.service.apply(Vendor.terms())
        let licenses = try [["scan"], ["map"]].map { entitlements in
            let issued = try vendor.license(id, entitlements)
            _ = try device.with { try $0.apply(reply: issued.reply) }
            return issued.license
        }
        return (vendor, device, id, licenses)
    }

    private func allowed(_ device: FieldDevice, _ name: String) throws -> Bool {
        try device.with { try $0.decide(name) }.allowed
    }

    private func seats(_ vendor: Vendor, _ id: String) throws -> [String] {
        try #require(try vendor.service.devices(id).first).licenses.map(\.seat)
    }

    @Test("of two licenses one is revoked: the other's lease opens only after the epoch was raised")
    func revocation() async throws {
        let (vendor, device, id, licenses) = try await two()
        #expect(try allowed(device, "scan") && allowed(device, "map"))
        _ = try vendor.service.revoke(license: licenses[0].description)
        #expect(try seats(vendor, id) == ["held", "held"])
        let reply = try #require(try vendor.service.process(device.evidence()).reply)
        // Nothing has changed on a device that does not take the reply in.
        #expect(try allowed(device, "scan") && allowed(device, "map"))
        let before = try device.with { try $0.standings() }.map(\.document.statement.policy.epoch)
        _ = try device.with { try $0.apply(reply: reply) }
        let standings = try device.with { try $0.standings() }
        #expect(standings.map(\.state).sorted { $0.rawValue < $1.rawValue } == [.active, .revoked])
        #expect(try !allowed(device, "scan"))
        #expect(try allowed(device, "map"))
        let kept = try #require(standings.first { $0.state == .active })
        #expect(kept.document.statement.policy.epoch == before[0] + 1)
        // The TPM refuses what was revoked, whatever the documents say.
        try Files.remove(device.path + "/reply")
        let without = try device.with { try $0.decide("scan") }
        #expect(!without.allowed)
        #expect(without.flags == [.epochRaised])
        // The next evidence shows it; a reset later the seat is free.
        _ = try vendor.service.process(device.evidence())
        #expect(try seats(vendor, id) == ["held", "held"])
        try device.tpm.reboot()
        _ = try vendor.service.process(device.evidence())
        #expect(try seats(vendor, id) == ["free", "held"])
        #expect(throws: ServiceError.self) { try vendor.service.revoke(license: "lic_nothing") }
    }

    @Test("a device that takes the new leases and skips the revocation has leases that do not open")
    func skipped() async throws {
        let (vendor, device, _, licenses) = try await two()
        _ = try vendor.service.revoke(license: licenses[0].description)
        let reply = try #require(try vendor.service.process(device.evidence()).reply)
        // As if the program had been changed: the sections are taken in, the counter is not raised.
        let container = try Container(decoding: reply)
        let statement = try #require(container.all(.leaseStatement).first)
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let header = try ReplyHeader(
            verifying: Reply.header(in: reply), issuers: [vendor.keys.issuerKey().publicKey],
            incarnation: 1, attestationKey: record.attestationKey.name)
        let read = try LeaseStatement(
            verifying: PASETOToken(section: statement),
            issuers: [vendor.keys.issuerKey().publicKey],
            attestationKey: record.attestationKey.name)
        #expect(header.epochTarget == read.policy.epoch)
        #expect(header.revoked == [licenses[0]])
        let counter = try device.tpm.connection.readCounter(read.policy.epochCounter)
        device.tpm.connection.endTransaction()
        #expect(read.policy.epoch == counter + 1)
        #expect(try allowed(device, "scan") && allowed(device, "map"))
    }

    @Test("nothing that stays goes dark: without an approval for it the device is not told yet")
    func noApproval() async throws {
        let (vendor, device, id, licenses) = try await two()
        _ = try vendor.service.revoke(license: licenses[0].description)
        try device.tpm.connection.extend(PCRIndex.all[7], banks: [.sha256], with: [1])
        let waiting = try vendor.service.process(device.evidence())
        #expect(waiting.outcome == .pendingBootState)
        _ = try device.with { try $0.apply(reply: waiting.reply ?? []) }
        let approval = try vendor.service.approve(
            .device(id), product: "scanner", values: nil, source: nil, generation: nil, note: "")
        _ = try device.with { try $0.install(approval: approval.bytes) }
        // The old lease of what stays still opens.
        #expect(try allowed(device, "map"))
        _ = try device.with {
            try $0.apply(
                reply: try vendor.service.process($0.makeEvidence(recollecting: false).encoded)
                    .reply ?? [])
        }
        #expect(try allowed(device, "map"))
        #expect(try !allowed(device, "scan"))
    }

    @Test("a retirement with the proof of PCR 15 frees the seats at once")
    func vacated() async throws {
        let (vendor, device, id, _) = try await two()
        let proof = try device.with { try $0.retire().encoded }
        let outcome = try vendor.service.process(proof)
        #expect(outcome.notes.contains { $0.contains("no session of that boot") })
        #expect(try seats(vendor, id) == ["free", "free"])
    }

    private func changed(
        _ proof: [UInt8], _ vendor: Vendor, _ change: (inout Retirement) -> Void
    ) throws -> [UInt8] {
        var retirement = try Retirement(
            decoding: SealedEnvelope(decoding: proof).open(with: vendor.keys.sealingKey()))
        change(&retirement)
        return try SealedEnvelope(
            sealing: retirement.encoded(), to: vendor.keys.sealingKey().publicKey, random: .system
        ).encoded
    }

    @Test("a proof that was changed, cut or taken from elsewhere proves nothing")
    func forgedProofs() async throws {
        let (vendor, device, id, _) = try await two()
        let proof = try device.with { try $0.retire().encoded }
        let changes: [(inout Retirement) -> Void] = [
            { $0.eviction?.previous[0] ^= 1 },
            { $0.eviction?.quote[50] ^= 1 },
            { $0.eviction?.quoteSignature[20] ^= 1 },
            { $0.incarnation = 2 },
            { $0.vendorID[0] ^= 1 },
        ]
        for change in changes {
            #expect(throws: ServiceError.self) {
                try vendor.service.process(changed(proof, vendor, change))
            }
        }
        #expect(try vendor.service.devices(id).first?.state == .approved)
        // Without the second half it retires, and does not free the seat before the lease's end.
        _ = try vendor.service.process(changed(proof, vendor) { $0.eviction = nil })
        #expect(try seats(vendor, id) == ["held", "held"])
        vendor.clock.advance(601)
        #expect(try seats(vendor, id) == ["dormant", "dormant"])
        // The rest may come later.
        _ = try vendor.service.process(proof)
        #expect(try seats(vendor, id) == ["dormant", "dormant"])
    }

    @Test("an epoch that is not above every lease retires nobody")
    func tooLow() async throws {
        let (vendor, device, id, _) = try await two()
        // A certification from before the leases.
        let early = try FieldDevice()
        let vendorTwo = try Vendor()
        _ = try await vendorTwo.admit(early)
        let foreign = try early.with { try $0.retire().encoded }
        let opened = try SealedEnvelope(decoding: foreign).open(with: vendorTwo.keys.sealingKey())
        let envelope = try SealedEnvelope(
            sealing: opened, to: vendor.keys.sealingKey().publicKey, random: .system
        ).encoded
        #expect(throws: ServiceError.self) { try vendor.service.process(envelope) }
        #expect(try vendor.service.devices(id).first?.state == .approved)
        #expect(try allowed(device, "scan"))
    }

    @Test("an interrupted raise is finished by the next run, and never twice")
    func interrupted() async throws {
        let (vendor, device, _, licenses) = try await two()
        _ = try vendor.service.revoke(license: licenses[0].description)
        let counter = try #require(
            try device.with { try $0.standings() }.first?.document.statement.policy)
        func value() throws -> UInt64 {
            defer { device.tpm.connection.endTransaction() }
            return try device.tpm.connection.readCounter(counter.epochCounter)
        }
        let before = try value()
        var writer = WireWriter(capacity: 8)
        writer.uint64(before + 1)
        try Files.write(writer.bytes, to: device.path + "/epoch-intent", mode: 0o600)
        _ = try device.evidence()
        #expect(try value() == before + 1)
        #expect(!Files.exists(device.path + "/epoch-intent"))
        _ = try device.evidence()
        #expect(try value() == before + 1)
        // A damaged file does not use the counter up.
        writer = WireWriter(capacity: 8)
        writer.uint64(before + 4)
        for bytes in [writer.bytes, [UInt8](repeating: 0xFF, count: 8), [1]] {
            try Files.write(bytes, to: device.path + "/epoch-intent", mode: 0o600)
            _ = try device.evidence()
            #expect(try value() == before + 1)
        }
    }
}

extension PASETOToken {
    /// A token as it stands in a section.
    fileprivate init(section bytes: [UInt8]) throws {
        var reader = WireReader(bytes)
        let footer = try reader.sized("footer", maximum: 1024)
        try self.init(purpose: .v4Public, body: reader.rest(), footer: footer)
    }
}

@Suite("what a newcomer ran into", .timeLimit(.minutes(20)))
struct NewcomerTests {
    private func admitted() async throws -> (Vendor, FieldDevice, String) {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        _ = try vendor.service.apply(Vendor.terms())
        return (vendor, device, id)
    }

    /// The decision of the same state directory without a TPM.
    private func withoutTPM(_ device: FieldDevice, _ name: String) throws -> Decision {
        let absent = TPMConnection(
            AbsentTransport(TPMError(.unreachable, "there is none")), random: .system)
        return try EnrolledDevice(StateDirectory(device.path), tpm: absent, random: .system)
            .decide(name)
    }

    @Test("without a TPM a license is degraded; revoked and retired ones stay that")
    func absent() async throws {
        let (vendor, device, id) = try await admitted()
        let licenses = try [["preview"], ["scan"]].map { names in
            let issued = try vendor.license(id, names)
            _ = try device.with { try $0.apply(reply: issued.reply) }
            return issued.license
        }
        let degraded = try withoutTPM(device, "preview")
        #expect(degraded.state == .degraded)
        #expect(degraded.allowed)
        #expect(try !withoutTPM(device, "scan").allowed)
        #expect(try withoutTPM(device, "core").allowed)
        _ = try vendor.service.revoke(license: licenses[0].description)
        let reply = try vendor.service.process(device.evidence()).reply ?? []
        _ = try device.with { try $0.apply(reply: reply) }
        let revoked = try withoutTPM(device, "preview")
        #expect(!revoked.allowed)
        #expect(revoked.state == .revoked)
        #expect(revoked.code == "REVOKED")
        _ = try device.with { try $0.retire() }
        #expect(try withoutTPM(device, "scan").state == .retired)
        #expect(try !withoutTPM(device, "scan").allowed)
        #expect(try withoutTPM(device, "export").allowed)
    }

    @Test("two license files are both there, in whatever order they are installed")
    func order() async throws {
        let (vendor, device, id) = try await admitted()
        let first = try vendor.license(id, ["scan"])
        let second = try vendor.license(id, ["map"])
        _ = try device.with { try $0.apply(reply: second.reply) }
        _ = try device.with { try $0.apply(reply: first.reply) }
        #expect(try device.with { try $0.decide("scan") }.allowed)
        #expect(try device.with { try $0.decide("map") }.allowed)
        // Nothing new in it: it is refused, and nothing is lost.
        #expect(throws: DeviceError.replyOutdated) {
            try device.with { try $0.apply(reply: first.reply) }
        }
        // A late file brings no revoked license back.
        _ = try vendor.service.revoke(license: first.license.description)
        let reply = try vendor.service.process(device.evidence()).reply ?? []
        _ = try device.with { try $0.apply(reply: reply) }
        for name in try Files.names(in: device.path + "/licenses")
        where name.hasPrefix(first.license.description) {
            try Files.remove(device.path + "/licenses/" + name)
        }
        #expect(throws: DeviceError.replyOutdated) {
            try device.with { try $0.apply(reply: first.reply) }
        }
    }

    @Test("evidence that waited is appraised again when the operator has decided")
    func waiting() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.enroll(device)
        let evidence = try device.evidence()
        let first = try vendor.service.process(evidence)
        #expect(first.outcome == .pendingDevice)
        let again = try vendor.service.process(evidence)
        #expect(again.outcome == .pendingDevice)
        #expect(again.isRepeated)
        #expect(again.reply == first.reply)
        _ = try vendor.service.approve(device: id, model: nil)
        let admitted = try vendor.service.process(evidence)
        #expect(admitted.outcome == .accepted)
        #expect(admitted.reply != first.reply)
        #expect(try vendor.service.process(evidence).reply == admitted.reply)
    }

    @Test("usage that nobody has settled is not thrown away by a retirement")
    func unsettled() async throws {
        let (vendor, device, id) = try await admitted()
        _ = try device.with { try $0.apply(reply: try vendor.license(id).reply) }
        func meter() throws {
            try device.with {
                try $0.openLedger().append(
                    [.init(meter: "scan", termsVersion: 1, quantity: 2)], day: 1)
            }
        }
        try meter()
        #expect(throws: DeviceError.unsettled) { try device.with { try $0.retire() } }
        #expect(try device.with { try $0.decide("scan") }.allowed)
        let reply = try vendor.service.process(device.evidence()).reply ?? []
        _ = try device.with { try $0.apply(reply: reply) }
        _ = try device.with { try $0.retire() }
        #expect(throws: DeviceError.retired) { try meter() }
        #expect(try vendor.service.usage(id).first?.totals == ["scan": 2])
    }

    @Test("what cannot be granted is refused in words")
    func grants() async throws {
        let (vendor, _, id) = try await admitted()
        for names in [["core"], ["read-only"], ["scan", "scan"]] {
            let error = #expect(throws: ServiceError.self) { try vendor.license(id, names) }
            #expect(error?.stableCode == "ARGUMENT_INVALID")
        }
        #expect(throws: ServiceError.self) {
            try vendor.service.approve(
                .device(id), product: "scanner", values: nil, source: nil, generation: 1, note: "")
        }
    }
}
