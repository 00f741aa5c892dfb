import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastProtocol
import HoldfastServer
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPM
import HoldfastTPMWire
import Testing

@Suite("evidence that a server must not accept", .timeLimit(.minutes(20)))
struct EvidenceRefusalTests {
    /// Opens, changes and seals again, as anyone can who has the file and the trust file.
    private func changed(
        _ envelope: [UInt8], _ vendor: Vendor, _ change: (inout Evidence) throws -> Void
    ) throws -> [UInt8] {
        var evidence = try Evidence(
            decoding: SealedEnvelope(decoding: envelope).open(with: vendor.keys.sealingKey()))
        try change(&evidence)
        return try SealedEnvelope(
            sealing: evidence.encoded(), to: vendor.keys.sealingKey().publicKey, random: .system
        ).encoded
    }

    private func code(_ error: (any Error)?) -> ServiceError? { error as? ServiceError }

    @Test("evidence that the device's key has not signed leaves a few lines, and hides nothing")
    func unsigned() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let evidence = try device.evidence()
        for count in 1...30 {
            let error = #expect(throws: ServiceError.self) {
                try vendor.service.process(
                    changed(evidence, vendor, { $0.quoteSignature[20] ^= UInt8(count) }))
            }
            guard case .refused = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            let told = try vendor.service.devices(id).first?.audit ?? []
            #expect(told.count { $0.action == "evidence.unsigned" } == min(count, 4))
            #expect(told.first?.detail.contains("signature:") == true)
            #expect(told.contains { $0.action == "device.approve" })
        }
        // The nonce is not used up.
        #expect(try vendor.service.process(evidence).outcome == .accepted)
    }

    @Test("what stands beside the quote is bound to it")
    func bound() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await vendor.enroll(device)
        let other = try FieldDevice()
        let changes: [(inout Evidence) throws -> Void] = [
            { $0.values[.sha256, PCRIndex.all[7]] = [UInt8](repeating: 3, count: 32) },
            { evidence in swap(&evidence.epochCounter, &evidence.ledgerCounter) },
            { $0.quoteSignature[20] ^= 1 },
            { $0.quote[40] ^= 1 },
        ]
        let evidence = try device.evidence()
        for change in changes {
            let error = #expect(throws: ServiceError.self) {
                try vendor.service.process(changed(evidence, vendor, change))
            }
            guard case .refused(let reasons) = error else {
                Issue.record("refused for another reason: \(String(describing: error))")
                continue
            }
            #expect(!reasons.isEmpty)
        }
        #expect(try vendor.service.devices().map(\.state) == [.unproven])
        // What the key has not signed spends no nonce: the device's own evidence still counts.
        #expect(try vendor.service.process(evidence).outcome == .pendingDevice)
        withExtendedLifetime(other) {}
    }

    @Test("whoever reads a device's nonces cannot use them up, nor get others")
    func courier() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let last = try vendor.service.process(device.evidence())
        _ = try device.with { try $0.apply(reply: last.reply ?? []) }
        let evidence = try device.evidence()
        for _ in 0..<6 {
            #expect(throws: ServiceError.self) {
                try vendor.service.process(changed(evidence, vendor) { $0.quoteSignature[20] ^= 1 })
            }
        }
        #expect(try vendor.service.devices(id).first?.evidence?.passed == true)
        #expect(try vendor.service.process(evidence).outcome == .accepted)
    }

    @Test(
        "CVE-2023-38201: what the device's key signed and does not pass is final, spends the nonce")
    func final() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        var ahead = try vendor.store.read { try #require(try $0.lastVerified(of: record.id)) }
        ahead.id = AppraisalID(random: .system)
        ahead.evidenceHash = RandomSource.system.bytes(32)
        ahead.ordinal = 100
        ahead.ledger += 1000
        // Many that failed do not hide the one that counts.
        try vendor.store.write { transaction in
            try transaction.insert(ahead)
            for number in 0..<100 {
                var failed = ahead
                failed.id = AppraisalID(random: .system)
                failed.evidenceHash = RandomSource.system.bytes(32)
                failed.ordinal = 101 + UInt64(number)
                failed.isVerified = false
                try transaction.insert(failed)
            }
            try transaction.insert(
                NonceRecord(
                    nonce: [UInt8](repeating: 7, count: 32), enrollment: record.id, ordinal: 500,
                    expiresAt: vendor.clock.now + 1000, usedBy: nil))
        }
        try Files.write([UInt8](repeating: 7, count: 32), to: device.path + "/nonces", mode: 0o640)
        let evidence = try device.evidence()
        let outcome = try vendor.service.process(evidence)
        #expect(outcome.outcome == .refused)
        #expect(outcome.notes.contains { $0.hasPrefix("ledger-counter-raised") })
        #expect(try vendor.service.process(evidence).reply == outcome.reply)
        let nonce = try vendor.store.read { try $0.nonce([UInt8](repeating: 7, count: 32)) }
        #expect(nonce?.usedBy != nil)
        // The state that passed last still counts for what an operator does.
        _ = try vendor.service.apply(Vendor.terms())
        _ = try vendor.license(id)
    }

    @Test("evidence over a nonce that was never sent is refused, and over a used one it is stale")
    func nonces() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.enroll(device)
        let first = try device.evidence()
        let second = try device.evidence()
        #expect(throws: ServiceError.unknownNonce) {
            try vendor.service.process(
                changed(first, vendor) { $0.subject.nonce = RandomSource.system.bytes(32) })
        }
        #expect(throws: ServiceError.notProven(id)) {
            try vendor.service.approve(device: id, model: nil)
        }
        #expect(try vendor.service.process(second).outcome == .pendingDevice)
        // The older one comes late: it changes nothing and accuses nobody.
        let late = try vendor.service.process(first)
        #expect(late.outcome == .stale)
        #expect(late.reply != nil)
        // Again it is the same answer: nobody draws nonces by repeating what he holds.
        #expect(try vendor.service.process(first).reply == late.reply)
        #expect(try vendor.service.devices().first?.evidence?.passed == true)
        // The nonces of the stale reply lead on.
        _ = try device.with { try $0.apply(reply: late.reply ?? []) }
        #expect(try vendor.service.process(device.evidence()).outcome == .pendingDevice)
    }

    @Test("a device that used its nonces up gets new ones")
    func outOfNonces() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        for _ in 0..<5 { _ = try device.evidence() }
        let last = try device.evidence()
        _ = try vendor.service.process(last)
        let again = try vendor.service.process(device.evidence())
        #expect(again.outcome == .stale)
        _ = try device.with { try $0.apply(reply: again.reply ?? []) }
        #expect(try vendor.service.process(device.evidence()).outcome == .accepted)
        #expect(try vendor.service.devices(id).first?.state == .approved)
    }

    @Test("an expired nonce counts no more")
    func expired() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        _ = try await vendor.enroll(device)
        let evidence = try device.evidence()
        vendor.clock.advance(401 * 86_400)
        #expect(throws: ServiceError.stale) { try vendor.service.process(evidence) }
    }

    @Test("another vendor's server, and a damaged envelope, open nothing")
    func envelopes() async throws {
        let vendor = try Vendor()
        let other = try Vendor()
        let device = try FieldDevice()
        _ = try await vendor.enroll(device)
        let evidence = try device.evidence()
        #expect(throws: ServiceError.sealingKeyUnknown) { try other.service.process(evidence) }
        for bit in stride(from: 0, to: evidence.count * 8, by: 97) {
            var damaged = evidence
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: (any Error).self) { try vendor.service.process(damaged) }
        }
        for length in stride(from: 0, to: evidence.count, by: 101) {
            #expect(throws: (any Error).self) {
                try vendor.service.process(Array(evidence[..<length]))
            }
        }
        #expect(try vendor.service.process(evidence).outcome == .pendingDevice)
    }

    @Test("nothing is issued before everything that must be there is there")
    func order() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.enroll(device)
        #expect(throws: ServiceError.notProven(id)) { try vendor.license(id) }
        _ = try vendor.service.process(device.evidence())
        #expect(throws: ServiceError.notApproved(id)) { try vendor.license(id) }
        _ = try vendor.service.approve(device: id, model: "gateway")
        #expect(throws: ServiceError.unknownTerms("standard")) { try vendor.license(id) }
        _ = try vendor.service.apply(Vendor.terms())
        #expect(throws: ServiceError.bootStateNotApproved(product: "scanner")) {
            try vendor.license(id)
        }
        // Approvals for another product, another model and another device do not count.
        func approve(_ scope: VendorService.ApprovalScope, _ product: String) throws {
            _ = try vendor.service.approve(
                scope, product: product, values: nil, source: id, generation: nil, note: "")
        }
        try approve(.model("gateway"), "other")
        try approve(.model("robot"), "scanner")
        #expect(throws: ServiceError.bootStateNotApproved(product: "scanner")) {
            try vendor.license(id)
        }
        try approve(.model("gateway"), "scanner")
        _ = try vendor.license(id)
        #expect(throws: ServiceError.licenseOver) { try vendor.license(id, endsIn: 0) }
        #expect(throws: TokenError.malformed("entitlements")) { try vendor.license(id, []) }
        vendor.clock.advance(3601)
        #expect(throws: ServiceError.evidenceTooOld(id)) { try vendor.license(id) }
        #expect(try vendor.service.devices(id).first?.licenses.count == 1)
    }

    @Test("a new generation withdraws earlier approvals with the next lease")
    func generations() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        _ = try vendor.service.apply(Vendor.terms())
        _ = try vendor.license(id)
        var values = PCRValues()
        values[.sha256, PCRIndex.all[7]] = [UInt8](repeating: 9, count: 32)
        _ = try vendor.service.approve(
            .device(id), product: "scanner", values: values, source: nil, generation: 2, note: "")
        #expect(throws: ServiceError.bootStateNotApproved(product: "scanner")) {
            try vendor.license(id)
        }
    }

    @Test("the clock and the counters of a restored TPM do not pass")
    func restored() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let record = try vendor.store.read { try #require(try $0.enrollments().first) }
        let evidence = try Evidence(
            decoding: SealedEnvelope(decoding: device.evidence()).open(
                with: vendor.keys.sealingKey()))
        let statement = try DeviceStatement(
            verifying: PASETOToken(parsing: record.statement),
            issuers: [vendor.keys.issuerKey().publicKey],
            attestationKey: record.attestationKey.name)
        func refusals(
            _ change: (inout EvidenceExpectation.Previous) -> Void
        ) throws -> [EvidenceCheck] {
            let clock = try #require(
                try? Attestation(wireBytes: evidence.quote).clockInfo)
            var previous = EvidenceExpectation.Previous(clock: clock, ledger: 0, epoch: 0)
            change(&previous)
            return EvidenceAppraisal(
                evidence,
                expecting: EvidenceExpectation(
                    vendorID: try vendor.keys.trust().vendorID, statement: statement,
                    nonce: evidence.subject.nonce,
                    sealingKey: try vendor.keys.sealingKey().publicKey,
                    selection: PCRSelection(.sha256, [PCRIndex.all[7]]),
                    boot: PCRSelection(.sha256, [PCRIndex.all[7]]), previous: previous)
            ).results.filter { $0.outcome != .passed }.map(\.check)
        }
        #expect(try refusals { _ in } == [])
        #expect(try refusals { $0.clock.clock += 1 } == [.clockOrder])
        #expect(try refusals { $0.clock.resetCount += 1 } == [.clockOrder])
        #expect(try refusals { $0.clock.restartCount += 1 } == [.clockOrder])
        // At more resets a clock may have gone back: a flag, no refusal.
        #expect(
            try refusals {
                $0.clock.resetCount -= 1
                $0.clock.clock += 1_000_000
            } == [])
        #expect(try refusals { $0.ledger = 1000 } == [.counterRaised])
        #expect(try refusals { $0.epoch = 1000 } == [.epochOrder])
        _ = id
    }
}

@Suite("enrollment at the server", .timeLimit(.minutes(20)))
struct EnrollmentServiceTests {
    private func changed(
        _ envelope: [UInt8], _ vendor: Vendor, _ change: (inout EnrollmentRequest.Keys) -> Void,
        _ certifications: (inout EnrollmentRequest.Certifications) -> Void = { _ in }
    ) throws -> [UInt8] {
        let request = try EnrollmentRequest(
            decoding: SealedEnvelope(decoding: envelope).open(with: vendor.keys.sealingKey()))
        var keys = request.keys
        var signed = request.certifications
        change(&keys)
        certifications(&signed)
        return try SealedEnvelope(
            sealing: EnrollmentRequest(keys: keys, certifications: signed).encoded(),
            to: vendor.keys.sealingKey().publicKey, random: .system
        ).encoded
    }

    private func refusal(_ envelope: [UInt8], _ vendor: Vendor) async -> [String] {
        do {
            _ = try await vendor.service.enroll(envelope)
            return []
        } catch {
            guard case ServiceError.refused(let reasons) = error else { return ["\(error)"] }
            return reasons
        }
    }

    @Test("the same request gets the same answer, and any number stand beside each other")
    func idempotent() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let request = try device.request(vendor.trustFile)
        let first = try await vendor.service.enroll(request)
        let second = try await vendor.service.enroll(request)
        #expect(second.response == first.response)
        #expect(second.isRepeated)
        // Sealed anew it is the same request.
        let sealed = try device.request(vendor.trustFile)
        #expect(sealed != request)
        #expect(try await vendor.service.enroll(sealed).response == first.response)
        // A request after the first was proven is the next enrollment.
        try device.activate(first.response)
        _ = try vendor.service.process(device.evidence())
        try Files.remove(device.path + "/request")
        try Files.remove(device.path + "/statement")
        let next = try await vendor.service.enroll(device.request(vendor.trustFile))
        #expect(next.incarnation == 2)
        #expect(next.device == first.device)
    }

    @Test("requests that are refused do not hide what happened to a device")
    func audit() async throws {
        let vendor = try Vendor()
        let id = try await vendor.admit(FieldDevice())
        try vendor.store.write { transaction in
            for _ in 0..<1100 {
                try transaction.insert(
                    AuditRecord(at: 1, action: "enroll.refused", subject: "dev_x", detail: ""))
            }
        }
        let actions = try vendor.service.devices(id).first?.audit.map(\.action) ?? []
        #expect(actions.contains("device.approve"))
        #expect(!actions.contains("enroll.refused"))
    }

    @Test("keylime #1820: who enrolls again replaces the earlier enrollment once he is admitted")
    func again() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        try Files.remove(device.path + "/request")
        try Files.remove(device.path + "/statement")
        #expect(try await vendor.enroll(device) == id)
        #expect(try vendor.service.devices().map(\.state) == [.approved, .unproven])
        _ = try vendor.service.process(device.evidence())
        #expect(try vendor.service.devices().map(\.state) == [.approved, .pending])
        _ = try vendor.service.approve(device: id, model: nil)
        #expect(try vendor.service.devices().map(\.state) == [.superseded, .approved])
    }

    @Test("of one endorsement key 64 unproven enrollments are kept, and every proven one")
    func unproven() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        func request() throws -> [UInt8] {
            try Files.remove(device.path + "/request")
            if Files.exists(device.path + "/statement") {
                try Files.remove(device.path + "/statement")
            }
            return try device.request(vendor.trustFile)
        }
        let old = try request()
        _ = try await vendor.service.enroll(old)
        // More of them, as anybody can make who has the certificate.
        try vendor.store.write { transaction in
            let last = try #require(try transaction.enrollments().last)
            #expect(last.state == .unproven)
            for number in 0..<63 {
                let copy = EnrollmentRecord(
                    id: 0, requestHash: HashAlgorithm.sha256.digest([UInt8(number)]),
                    pairwiseID: last.pairwiseID, incarnation: last.incarnation, state: .unproven,
                    attestationKey: last.attestationKey, statement: last.statement,
                    response: last.response, endorsementHash: last.endorsementHash, model: nil,
                    createdAt: last.createdAt, replySequence: 0, heardIn: last.heardIn)
                let stored = try transaction.insert(copy)
                try transaction.insert(
                    NonceRecord(
                        nonce: HashAlgorithm.sha256.digest([UInt8(number), 1]), enrollment: stored,
                        ordinal: 1, expiresAt: 1, usedBy: nil))
            }
        }
        let newest = try await vendor.service.enroll(request())
        let states = try vendor.store.read { try $0.enrollments().map(\.state) }
        #expect(states.count { $0 == .unproven } == 64)
        #expect(states.first == .approved)
        // The oldest is gone with what it had, and may be asked for again; the newest is proven.
        #expect(try await !vendor.service.enroll(old).isRepeated)
        try device.activate(newest.response)
        #expect(try vendor.service.process(device.evidence()).device == id)
        #expect(
            try vendor.store.read { try $0.enrollments().map(\.state) }.contains(.pending))
    }

    @Test("a device is found by the beginning of its name, and by nothing else")
    func prefixes() async throws {
        let template = try SoftwareTPMTemplate.second()
        let vendor = try Vendor(
            roots: Array(SoftwareTPMTemplate.shared().roots.values) + template.roots.values)
        let first = try await vendor.enroll(FieldDevice())
        let second = try await vendor.enroll(FieldDevice(of: template))
        let shared = zip(first, second).prefix { $0 == $1 }.count
        for id in [first, second] {
            for count in [shared + 1, 20, id.count - 1, id.count] {
                let found = try vendor.service.devices(String(id.prefix(count)))
                #expect(found.map(\.device) == [id])
            }
            for wrong in [
                id + "a", String(id.dropFirst()), id.uppercased(), id.prefix(20) + "1", "dev_é",
            ] {
                #expect(throws: ServiceError.unknownDevice(wrong)) {
                    try vendor.service.devices(wrong)
                }
            }
        }
        #expect(throws: ServiceError.ambiguousDevice("dev_")) {
            try vendor.service.devices("dev_")
        }
    }

    @Test("what anybody can bring about leaves so many entries in the audit, and no more")
    func boundedAudit() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        try vendor.store.write { transaction in
            for number in 0..<1100 {
                try transaction.insert(
                    AuditRecord(
                        at: UInt64(number), action: "enroll.refused", subject: "dev_x", detail: ""))
            }
        }
        let envelope = try changed(
            device.request(vendor.trustFile), vendor, { $0.vendorID[0] ^= 1 })
        #expect(await !refusal(envelope, vendor).isEmpty)
        let all = try vendor.store.read { try $0.audit(limit: 5000) }
        #expect(all.count { $0.action == "enroll.refused" } == 1000)
        #expect(all.first?.detail.contains("vendor:") == true)
        #expect(all.contains { $0.action == "device.approve" && $0.subject == id })
    }

    @Test("one endorsement key has one identity for a vendor, until the other one has ended")
    func endorsementKeyTaken() async throws {
        let template = try SoftwareTPMTemplate.second()
        let vendor = try Vendor(
            roots: Array(SoftwareTPMTemplate.shared().roots.values) + template.roots.values)
        let first = try await vendor.admit(FieldDevice())
        let device = try FieldDevice(of: template)
        let second = try await vendor.enroll(device)
        _ = try vendor.service.process(device.evidence())
        // A TPM makes as many attestation keys as it is asked for.
        try vendor.store.write { transaction in
            let all = try transaction.enrollments()
            let taken = try #require(all.first { $0.device == first })
            var copy = try #require(all.first { $0.device == second })
            copy = EnrollmentRecord(
                id: 0, requestHash: [UInt8](repeating: 1, count: 32), pairwiseID: copy.pairwiseID,
                incarnation: 2, state: .pending, attestationKey: copy.attestationKey,
                statement: copy.statement, response: copy.response,
                endorsementHash: taken.endorsementHash, model: nil, createdAt: copy.createdAt,
                replySequence: 0, heardIn: copy.heardIn)
            copy.id = try transaction.insert(copy)
        }
        #expect(throws: ServiceError.endorsementKeyTaken(by: first)) {
            try vendor.service.approve(device: second, model: nil)
        }
        #expect(try vendor.service.devices(second).allSatisfy { $0.state == .pending })
        try vendor.store.write { transaction in
            var ended = try #require(
                try transaction.enrollments().first { $0.device == first })
            ended.state = .retired
            try transaction.update(ended)
        }
        #expect(try vendor.service.approve(device: second, model: nil).state == .approved)
    }

    @Test("hardware that the trust file does not name needs the inventory")
    func inventory() async throws {
        let vendor = try Vendor(
            rules: [.init(manufacturer: "id:00000000", model: "other", kind: "ecc-p384")])
        let device = try FieldDevice()
        let envelope = try device.request(vendor.trustFile)
        #expect(
            await refusal(envelope, vendor).contains { $0.hasPrefix("hardware-allowed") })
        let request = try EnrollmentRequest(
            decoding: SealedEnvelope(decoding: envelope).open(with: vendor.keys.sealingKey()))
        let digest = Hex.encode(
            HashAlgorithm.sha256.digest(request.keys.endorsementKey.wireBytes))
        #expect(try vendor.service.addToInventory([digest]) == 1)
        #expect(try vendor.service.addToInventory([digest]) == 0)
        let answer = try await vendor.service.enroll(envelope)
        try device.activate(answer.response)
        // Nobody has to admit it.
        #expect(try vendor.service.process(device.evidence()).outcome == .accepted)
        #expect(try vendor.service.devices().map(\.state) == [.approved])
        #expect(throws: ServiceError.self) { try vendor.service.addToInventory(["abc"]) }
    }

    @Test("an RSA endorsement key enrolls; another key of the same TPM under its name does not")
    func rsaEndorsementKey() async throws {
        let vendor = try Vendor(
            rules: [
                .init(
                    manufacturer: "id:00001014", model: "swtpm", kind: "rsa-2048-low-range")
            ])
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        #expect(try vendor.service.devices(id).map(\.state) == [.approved])
        // The certificate of one key does not vouch for the other, in either direction.
        let elliptic = try FieldDevice()
        let envelope = try elliptic.request(vendor.trustFile)
        let tpm = elliptic.tpm.connection
        let other = try tpm.withEndorsementKey(.eccP384) { (key) throws(TPMError) in
            key.publicArea
        }
        let certificate = try #require(try tpm.endorsementCertificate(.eccP384))
        for (key, bytes) in [(other, nil), (nil, certificate), (other, certificate)] {
            let reasons = await refusal(
                try changed(
                    envelope, vendor,
                    {
                        if let key { $0.endorsementKey = key }
                        if let bytes { $0.endorsementCertificate = bytes }
                    }, { _ in }), vendor)
            let check = key != nil && bytes != nil ? "hardware-allowed" : "endorsement-key"
            #expect(reasons.contains { $0.hasPrefix(check + ":") }, "\(reasons)")
        }
    }

    @Test("makers that are not trusted, or none at all, enroll nobody")
    func makers() async throws {
        let device = try FieldDevice()
        let none = try Vendor(roots: [])
        await #expect(throws: ServiceError.noMakers) {
            try await none.service.enroll(device.request(none.trustFile))
        }
        let machine = try TransientMachineRoots.other()
        let stranger = try Vendor(roots: machine)
        let other = try FieldDevice()
        let reasons = await refusal(try other.request(stranger.trustFile), stranger)
        #expect(reasons.contains { $0.hasPrefix("issuer") })
    }

    @Test("issuers that a request brings are read as a chain: DER, one certificate each")
    func broughtIssuers() async throws {
        let roots = try SoftwareTPMTemplate.shared().roots
        let vendor = try Vendor(roots: [#require(roots["root.pem"])])
        let envelope = try FieldDevice().request(vendor.trustFile)
        let pem = try #require(roots["intermediate.pem"])
        let lines = String(decoding: pem, as: UTF8.self).split(separator: "\n")
            .filter { !$0.hasPrefix("-----") }
        let der = [UInt8](try #require(Data(base64Encoded: lines.joined())))
        for (issuer, isFound) in [(der, true), (pem, false)] {
            let reasons = await refusal(
                try changed(envelope, vendor, { $0.endorsementIssuers = [issuer] }), vendor)
            // The certifications are over the request without them.
            #expect(reasons.contains { $0.hasPrefix("lease-parent:") })
            #expect(reasons.contains { $0.hasPrefix("issuer-signature:") } != isFound)
        }
    }

    @Test("CVE-2021-3406: each part of a request that is exchanged is noticed by its own check")
    func substitution() async throws {
        let vendor = try Vendor()
        let device = try FieldDevice()
        let envelope = try device.request(vendor.trustFile)
        func noticed(
            by check: String, _ change: (inout EnrollmentRequest.Keys) -> Void,
            _ certifications: (inout EnrollmentRequest.Certifications) -> Void = { _ in }
        ) async throws {
            let reasons = await refusal(
                try changed(envelope, vendor, change, certifications), vendor)
            #expect(reasons.contains { $0.hasPrefix(check + ":") }, "\(check) in \(reasons)")
        }
        let key = ECPrivateKey(curve: .p256, random: .system).publicKey
        func exchanged(_ area: PublicArea) -> PublicArea {
            var area = area
            guard case .ecc(let symmetric, let scheme, let curve, _, _) = area.kind else {
                return area
            }
            area.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: key.x, y: key.y)
            return area
        }
        try await noticed(by: "vendor", { $0.vendorID[0] ^= 1 })
        try await noticed(by: "endorsement-key", { $0.endorsementKey = exchanged($0.leaseParent) })
        try await noticed(
            by: "attestation-key",
            { $0.attestationKey.attributes = ObjectAttributes(rawValue: 0x50472 & ~0x2) })
        try await noticed(by: "lease-parent", { $0.attestationKey = exchanged($0.attestationKey) })
        try await noticed(by: "lease-parent", { $0.leaseParent = exchanged($0.leaseParent) })
        try await noticed(
            by: "lease-parent-template",
            { $0.leaseParent.attributes = ObjectAttributes(rawValue: 0x0003_0472) })
        try await noticed(by: "lease-parent-template", { $0.leaseParent.authPolicy = [] })
        try await noticed(
            by: "counter-templates",
            { $0.epochCounter.attributes = NVAttributes(rawValue: 0x2204_0004) })
        try await noticed(
            by: "counter-templates", { keys in swap(&keys.epochCounter, &keys.ledgerCounter) })
        try await noticed(
            by: "epoch-counter", { _ in }, { $0.epochCounter = $0.ledgerCounter })
        try await noticed(
            by: "ledger-counter", { _ in }, { $0.ledgerCounter = $0.epochCounter })
        // A fact that was added afterwards is not covered by the certifications.
        try await noticed(
            by: "lease-parent", { $0.hardwareFacts = [[UInt8](repeating: 1, count: 32)] })
        #expect(try vendor.service.devices().isEmpty)
    }
}
