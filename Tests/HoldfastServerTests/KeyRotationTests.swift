import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastDevice
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol
import HoldfastServices
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

@Suite("the vendor's keys change", .timeLimit(.minutes(20)))
struct KeyRotationTests {
    private func ready() async throws -> (vendor: Vendor, device: FieldDevice, id: String) {
        try await Vendor.withLicense()
    }

    private func sequence(_ device: FieldDevice) throws -> UInt64 {
        try device.with { $0.vendor.sequence }
    }

    private func isAllowed(_ device: FieldDevice) throws -> Bool {
        try device.with { try $0.decide("scan") }.allowed
    }

    private func key(_ vendor: Vendor, _ kind: VendorKeyKind, _ use: VendorKeyReport.Use) throws
        -> String
    {
        try #require(try vendor.keys.list().last { $0.kind == kind && $0.use == use }).id
    }

    private func rotate(_ vendor: Vendor, _ kind: VendorKeyKind) throws {
        _ = try vendor.keys.rotate(kind, rootKey: vendor.keys.rootKeyFile, random: .system)
        try vendor.restart()
        if kind == .issuer { _ = try vendor.service.renewSignatures() }
    }

    private func retire(
        _ vendor: Vendor, _ kind: VendorKeyKind, _ id: String, isForced: Bool = false
    ) throws {
        _ = try vendor.service.retire(
            kind, id, isForced: isForced, rootKey: vendor.keys.rootKeyFile)
        try vendor.restart()
    }

    private func changes(_ device: FieldDevice, _ kind: LicenseChange.Kind) throws -> [String] {
        try device.with { try $0.changes(limit: 100) }.filter { $0.kind == kind }.map(\.subject)
    }

    /// Everything that the vendor reads of its own records.
    private func readRecords(_ vendor: Vendor, _ id: String) throws {
        #expect(try vendor.service.devices(id)[0].licenses.count == 1)
        #expect(try vendor.service.termsReports()[0].licenses == ["1": 1])
        #expect(try vendor.service.terms("standard").version == 1)
        #expect(try vendor.service.usage(id).count == 1)
        #expect(try vendor.service.policies().count == 0)
        _ = try vendor.service.apply(Vendor.terms())
    }

    // MARK: Accepted

    @Test("a new issuer key signs at once, and a device learns of it with its next reply")
    func rotated() async throws {
        let (vendor, device, id) = try await ready()
        let first = try vendor.keys.trust().issuerKeys
        try device.meter("scan", 3)
        try rotate(vendor, .issuer)
        let trust = try vendor.keys.trust()
        #expect(trust.issuerKeys.count == 2)
        #expect(trust.issuerKeys.last == first.first)
        let outcome = try vendor.sync(device)
        #expect(outcome.outcome == .accepted)
        #expect(try Container(decoding: outcome.reply ?? [])[.trustStatement] != nil)
        #expect(try sequence(device) == 2)
        #expect(try changes(device, .keysChanged) == ["signing"])
        #expect(try isAllowed(device))
        // Told once.
        let next = try vendor.sync(device)
        #expect(try Container(decoding: next.reply ?? [])[.trustStatement] == nil)
        #expect(try changes(device, .keysChanged) == ["signing"])
        // Nobody needs the earlier key any more: license, terms and receipt were signed anew.
        let earlier = try key(vendor, .issuer, .earlier)
        let needed = try vendor.service.dependents(on: .issuer, earlier).dependents
        #expect(needed.reasons(.issuer) == [])
        #expect(needed.enrollments == 1)
        try retire(vendor, .issuer, earlier)
        #expect(try vendor.keys.trust().retiredIssuerKeys == first)
        #expect(!Files.exists(vendor.directory.path + "/issuer.key"))
        try readRecords(vendor, id)
        try vendor.sync(device)
        #expect(try sequence(device) == 3)
        #expect(try changes(device, .licenseVoid) == [])
        #expect(try isAllowed(device))
        #expect(try vendor.service.usage(id)[0].totals["scan"] == 3)
        _ = try vendor.license(id, ["map"])
    }

    @Test("a license that is issued by file brings the newer statement along")
    func issued() async throws {
        let (vendor, device, id) = try await ready()
        try vendor.sync(device)
        try rotate(vendor, .issuer)
        let issued = try vendor.license(id, ["map"])
        let applied = try device.with { try $0.apply(reply: issued.reply) }
        #expect(applied.standings.count == 1)
        #expect(applied.changes.first?.kind == .keysChanged)
        #expect(try sequence(device) == 2)
        #expect(try device.with { try $0.decide("map") }.allowed)
        #expect(try isAllowed(device))
    }

    @Test(
        "a device that slept through several rotations comes back, with one key to seal to that is kept",
        arguments: [false, true])
    func slept(byFile: Bool) async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 5)
        let first = try key(vendor, .issuer, .inUse)
        for kind in [VendorKeyKind.issuer, .sealing, .issuer, .tls, .issuer] {
            try rotate(vendor, kind)
        }
        try retire(vendor, .issuer, first, isForced: true)
        #expect(try sequence(device) == 1)
        let outcome = try vendor.service.process(device.evidence(recollecting: byFile))
        #expect(outcome.outcome == .accepted)
        let applied = try device.with { try $0.apply(reply: outcome.reply ?? []) }
        #expect(applied.changes.first?.subject == "signing, sealing, TLS")
        #expect(try sequence(device) == vendor.keys.trust().sequence)
        #expect(try isAllowed(device))
        #expect(try vendor.service.usage(id)[0].totals["scan"] == 5)
        // Its own statement is by the retired key, and tells what the TPM has all the same.
        try vendor.sync(device)
        #expect(try isAllowed(device))
    }

    @Test("a machine with an old trust file enrolls, and gets the newer one with the response")
    func enrolled() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        try rotate(vendor, .sealing)
        try retire(vendor, .issuer, first)
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        #expect(try sequence(device) == vendor.keys.trust().sequence)
        let issued = try vendor.license(id, ["scan"])
        #expect(try Container(decoding: issued.reply)[.trustStatement] == nil)
        _ = try device.with { try $0.apply(reply: issued.reply) }
        #expect(try isAllowed(device))
    }

    @Test(
        "a trust file by hand that retires the issuer voids its licenses, and the next reply brings them"
    )
    func byHand() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        try retire(vendor, .issuer, first, isForced: true)
        let file = try Files.read(vendor.keys.trustFile, maximum: 1 << 16)
        let installed = try StateDirectory(device.path).install(trust: file, random: .system)
        #expect(installed.changes.map(\.kind) == [.keysChanged, .licenseVoid])
        #expect(try !isAllowed(device))
        #expect(try device.with { try $0.standings() }.isEmpty)
        let again = try StateDirectory(device.path).install(trust: file, random: .system)
        #expect(again.changes == [])
        try vendor.sync(device)
        #expect(try isAllowed(device))
        #expect(try changes(device, .licenseVoid).count == 1)
    }

    @Test(
        "whatever part of a reply is on the disk when the power fails, the device goes on and the reply ends it"
    )
    func powerLoss() async throws {
        let (vendor, device, id) = try await ready()
        try vendor.sync(device)
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        try retire(vendor, .issuer, first, isForced: true)
        _ = try vendor.service.approve(
            .model("gateway"), product: "scanner", values: nil, source: id, generation: nil,
            note: "")
        let evidence = try device.evidence()
        let copy = device.directory.path + "/before"
        let files = FileManager.default
        try files.copyItem(atPath: device.path, toPath: copy)
        let reply = try #require(try vendor.service.process(evidence).reply)
        _ = try device.with { try $0.apply(reply: reply) }
        // A look at the licenses removes the earlier lease, which a power cut would have kept.
        let after = device.directory.path + "/after"
        try files.copyItem(atPath: device.path, toPath: after)
        let before = try contents(copy)
        let written = try contents(after).filter { before[$0.key] != $0.value }.sorted {
            $0.key < $1.key
        }
        try #require(written.count >= 3)
        let newTrust = try Files.read(after + "/trust", maximum: 1 << 16)
        for subset in 0..<(1 << written.count) {
            try files.removeItem(atPath: device.path)
            try files.copyItem(atPath: copy, toPath: device.path)
            try Files.write(newTrust, to: device.path + "/trust-next", mode: 0o644)
            for (number, part) in written.enumerated() where subset >> number & 1 == 1 {
                try files.createDirectory(
                    atPath: (device.path + "/" + part.key as NSString).deletingLastPathComponent,
                    withIntermediateDirectories: true)
                try Files.write(
                    [UInt8](part.value), to: device.path + "/" + part.key, mode: 0o640)
            }
            #expect(try sequence(device) == 1, "subset \(subset)")
            #expect(try isAllowed(device), "subset \(subset)")
            _ = try device.with { try $0.apply(reply: reply) }
            #expect(try sequence(device) == 3, "subset \(subset)")
            #expect(try isAllowed(device), "subset \(subset)")
            #expect(!Files.exists(device.path + "/trust-next"))
        }
        // Or another reply does.
        try files.removeItem(atPath: device.path)
        try files.copyItem(atPath: copy, toPath: device.path)
        try Files.write(newTrust, to: device.path + "/trust-next", mode: 0o644)
        try vendor.sync(device)
        #expect(try sequence(device) == 3)
        #expect(try isAllowed(device))
    }

    @Test("an earlier sealing key still opens, and evidence is bound to the key that opened it")
    func sealing() async throws {
        let (vendor, device, _) = try await ready()
        try rotate(vendor, .sealing)
        let evidence = try device.evidence()
        #expect(
            try SealedEnvelope(decoding: evidence).keyID
                != SealedEnvelope.keyID(of: vendor.keys.trust().sealingKeys[0]))
        let outcome = try vendor.service.process(evidence)
        #expect(outcome.outcome == .accepted)
        _ = try device.with { try $0.apply(reply: outcome.reply ?? []) }
        let next = try device.evidence()
        #expect(
            try SealedEnvelope(decoding: next).keyID
                == SealedEnvelope.keyID(of: vendor.keys.trust().sealingKeys[0]))
        #expect(try vendor.service.process(next).outcome == .accepted)
    }

    @Test(
        "what a device brings after a restoration counts by the listed keys, and its own statement by any"
    )
    func recollected() async throws {
        let (vendor, device, id) = try await ready()
        try device.meter("scan", 4)
        try vendor.sync(device)
        let backup = try vendor.backUp()
        let first = try key(vendor, .issuer, .inUse)
        try device.meter("scan", 2)
        try vendor.sync(device)
        try rotate(vendor, .issuer)
        try retire(vendor, .issuer, first, isForced: true)
        try vendor.restore(backup)
        let outcome = try vendor.sync(device)
        #expect(outcome.outcome == .accepted)
        let notes = try vendor.service.devices(id)[0].audit.filter {
            $0.action == "device.recollected"
        }
        #expect(notes.count == 1)
        #expect(notes.first?.detail.contains("signed by a key that was retired") == true)
        #expect(try vendor.service.usage(id)[0].totals["scan"] == 6)
        #expect(try isAllowed(device))
    }

    @Test("what was answered by a key that was retired since is answered anew")
    func answeredAnew() async throws {
        let (vendor, device, id) = try await ready()
        try vendor.sync(device)
        let evidence = try device.evidence()
        let lost = try #require(try vendor.service.process(evidence).reply)
        let late = try FieldDevice()
        let request = try late.request(vendor.trustFile)
        let response = try await vendor.service.enroll(request).response
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        #expect(try vendor.service.process(evidence).reply == lost)
        try retire(vendor, .issuer, first, isForced: true)
        let again = try vendor.service.process(evidence)
        #expect(again.outcome == .stale)
        _ = try device.with { try $0.apply(reply: again.reply ?? []) }
        #expect(try sequence(device) == 3)
        try vendor.sync(device)
        #expect(try isAllowed(device))
        #expect(try vendor.service.devices(id)[0].licenses.count == 1)
        // The response to a request stays the same, and is good on a device that knows more by now.
        let file = try Files.read(vendor.keys.trustFile, maximum: 1 << 16)
        _ = try StateDirectory(late.path).install(trust: file, random: .system)
        #expect(try await vendor.service.enroll(late.request(file)).response == response)
        try late.activate(response)
        #expect(try sequence(late) == 3)
    }

    @Test("a license that ended, or a device that gave its enrollment up, needs no key")
    func nobody() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        #expect(try vendor.service.dependents(on: .issuer, first).dependents.licenses == 1)
        vendor.clock.advance(86_401)
        let ended = try vendor.service.dependents(on: .issuer, first).dependents
        #expect(ended.reasons(.issuer) == [])
        #expect(ended.behind.count == 1)
        _ = try vendor.service.process(device.with { try $0.retire(discarding: true).encoded })
        let gone = try vendor.service.dependents(on: .issuer, first).dependents
        #expect(gone.behind.isEmpty && gone.enrollments == 0)
        try retire(vendor, .issuer, first)
    }

    @Test(
        "a trust file is taken in whatever else is wrong, and mends what was signed by keys to come"
    )
    func mended() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        let old = try Files.read(device.path + "/trust", maximum: 1 << 16)
        try rotate(vendor, .issuer)
        try vendor.sync(device)
        let file = try Files.read(device.path + "/trust", maximum: 1 << 16)
        // Somebody put the old one back.
        try Files.write(old, to: device.path + "/trust", mode: 0o644)
        #expect(throws: TokenError.foreignKey) { try device.with { try $0.standings() } }
        #expect(throws: TokenError.superseded) {
            try StateDirectory(device.path).install(
                trust: Array(statement(vendor, sequence: 1).signed(with: root(vendor)).text.utf8),
                random: .system)
        }
        let installed = try StateDirectory(device.path).install(trust: file, random: .system)
        #expect(installed.changes.map(\.kind) == [.keysChanged])
        #expect(try isAllowed(device))
        try vendor.sync(device)
    }

    @Test("two rotations that meet an interrupted reply leave the device what it needs")
    func twice() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        try rotate(vendor, .issuer)
        let second = try key(vendor, .issuer, .inUse)
        let reply = try #require(try vendor.service.process(device.evidence()).reply)
        let before = try Files.read(device.path + "/trust", maximum: 1 << 16)
        _ = try device.with { try $0.apply(reply: reply) }
        // As if the power had failed before the statement came into force.
        try Files.move(device.path + "/trust", to: device.path + "/trust-next")
        try Files.write(before, to: device.path + "/trust", mode: 0o644)
        #expect(try isAllowed(device))
        try rotate(vendor, .issuer)
        try retire(vendor, .issuer, second, isForced: true)
        try vendor.sync(device)
        #expect(try sequence(device) == 4)
        #expect(try isAllowed(device))
        #expect(!Files.exists(device.path + "/trust-next"))
    }

    @Test("terms and policies are signed anew by whoever signs, and stay what they are")
    func renewed() async throws {
        let (vendor, device, id) = try await ready()
        let policy = PolicyTests.policy(list: false)
        _ = try vendor.service.apply(policy: policy, imaPolicy: nil, device: nil)
        _ = try vendor.service.apply(Vendor.terms(version: 2, notice: "100s"))
        try vendor.sync(device)
        let first = try key(vendor, .issuer, .inUse)
        _ = try vendor.keys.rotate(
            .issuer, rootKey: vendor.keys.rootKeyFile, random: .system)
        try vendor.restart()
        // The command ended before it signed anew: nothing is locked out, and it is counted.
        var needed = try vendor.service.dependents(on: .issuer, first).dependents
        #expect(needed.terms == 2)
        #expect(needed.policies == 1)
        #expect(try vendor.sync(device).outcome == .accepted)
        let done = try vendor.service.renewSignatures()
        #expect(done.terms == 2 && done.policies == 1)
        let again = try vendor.service.renewSignatures()
        #expect(again.terms == 0 && again.policies == 0)
        needed = try vendor.service.dependents(on: .issuer, first).dependents
        #expect(needed.reasons(.issuer) == [])
        try retire(vendor, .issuer, first)
        #expect(try vendor.sync(device).outcome == .accepted)
        #expect(try vendor.service.policies().map(\.id) == ["engine"])
        // The same file again is the same, and a lower version is refused as before.
        _ = try vendor.service.apply(policy: policy, imaPolicy: nil, device: nil)
        #expect(try vendor.service.terms("standard").version == 2)
        vendor.clock.advance(101)
        try vendor.sync(device)
        #expect(try vendor.service.devices(id)[0].licenses[0].termsVersion == 2)
        #expect(try isAllowed(device))
    }

    @Test("a server whose trust file is older than a device's says so")
    func olderServer() async throws {
        let (vendor, device, _) = try await ready()
        let old = try Files.read(vendor.keys.trustFile, maximum: 1 << 16)
        #expect(try vendor.service.warningOfLaterTrust() == nil)
        try rotate(vendor, .tls)
        try vendor.sync(device)
        #expect(try vendor.service.warningOfLaterTrust() == nil)
        try Files.write(old, to: vendor.keys.trustFile, mode: 0o644)
        #expect(throws: TokenError.superseded) { try vendor.service.refreshed() }
        try vendor.restart()
        let outcome = try vendor.sync(device)
        #expect(outcome.notes.contains { $0.contains("trust statement 2") })
        #expect(try vendor.service.warningOfLaterTrust()?.contains("statement 2") == true)
        #expect(try sequence(device) == 2)
    }

    // MARK: Refused

    private func root(_ vendor: Vendor) throws -> Ed25519PrivateKey {
        try Ed25519PrivateKey(
            seed: SecretBytes(copying: Files.read(vendor.keys.rootKeyFile, maximum: 32)))
    }

    /// The statement in force with something changed.
    private func statement(
        _ vendor: Vendor, sequence: UInt64, issuers: [Ed25519PublicKey]? = nil,
        urls: [String] = [], rootKey: Ed25519PublicKey? = nil
    ) throws -> TrustStatement {
        let trust = try vendor.keys.trust()
        return TrustStatement(
            rootKey: rootKey ?? trust.rootKey, sequence: sequence,
            issuerKeys: issuers ?? trust.issuerKeys, sealingKeys: trust.sealingKeys,
            approvalKey: trust.approvalKey, tlsKeys: trust.tlsKeys,
            endorsementKeys: trust.endorsementKeys, factSalt: trust.factSalt, urls: urls,
            selection: trust.selection)
    }

    /// A reply with another trust statement in it, signed again by an issuer.
    private func remade(
        _ reply: [UInt8], with trust: PASETOToken?, _ vendor: Vendor, _ device: FieldDevice,
        by issuer: Ed25519PublicKey? = nil, key: (() throws -> Ed25519PrivateKey)? = nil
    ) throws -> [UInt8] {
        let name = try device.with { $0.statement.attestationKey.name }
        let header = try ReplyHeader(
            verifying: Reply.header(in: reply), issuers: vendor.keys.trust().everyIssuerKey,
            incarnation: 1, attestationKey: name)
        let container = try Container(decoding: reply)
        var contents = container.contents.filter {
            ![.replyHeader, .nonces, .trustStatement].contains($0.type)
        }
        if let trust { contents += Reply.parts(trust) }
        return try Reply.encoded(contents: contents, nonces: container.required(.nonces)) {
            try ReplyHeader(
                answers: header.answers, outcome: header.outcome, position: header.position,
                incarnation: 1, serverAt: header.serverAt, noncesExpireAt: header.noncesExpireAt,
                epochTarget: header.epochTarget, revoked: header.revoked,
                measurements: header.measurements, contents: $0
            ).signed(for: name, with: key?() ?? vendor.keys.issuerKey())
        }
    }

    /// What is in a state directory, but for the ledger, where nothing is decided.
    private func contents(_ path: String) throws -> [String: Data] {
        let left: Set<String> = ["trust", "good-boot", "lock"]
        let names = try FileManager.default.subpathsOfDirectory(atPath: path).filter {
            !$0.hasPrefix("ledger") && !$0.hasSuffix(".object") && !left.contains($0)
        }
        return Dictionary(
            uniqueKeysWithValues: names.compactMap { name in
                FileManager.default.contents(atPath: path + "/" + name).map { (name, $0) }
            })
    }

    private func snapshot(_ device: FieldDevice) throws -> [String: Data] {
        var all = try contents(device.path)
        all["trust"] = FileManager.default.contents(atPath: device.path + "/trust")
        return all
    }

    @Test(
        "a statement that is forged, of another root or contradicts the present one is refused with its reply"
    )
    func forged() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        let reply = try #require(try vendor.service.process(device.evidence()).reply)
        let before = try snapshot(device)
        let stranger = Ed25519PrivateKey.generate(random: .system)
        func refusal(_ token: PASETOToken) throws -> (any Error)? {
            let changed = try remade(reply, with: token, vendor, device)
            do {
                _ = try device.with { try $0.apply(reply: changed) }
                return nil
            } catch {
                #expect(try snapshot(device) == before)
                return error
            }
        }
        let genuine = try statement(vendor, sequence: 2).signed(with: root(vendor))
        var body = genuine.body
        body[30] ^= 1
        #expect(
            try refusal(
                PASETOToken(purpose: .v4Public, body: body, footer: genuine.footer)) is TokenError)
        // By the issuer, which signs everything else.
        let byIssuer = try PASETO.sign(
            [UInt8](genuine.body.dropLast(64)), footer: genuine.footer, implicitAssertion: [],
            with: vendor.keys.issuerKey())
        #expect(try refusal(byIssuer) as? TokenError == .notAuthentic(.signatureInvalid))
        let foreign = try statement(vendor, sequence: 9, rootKey: stranger.publicKey)
            .signed(with: stranger)
        #expect(try refusal(foreign) as? TokenError == .foreignKey)
        let other = try statement(vendor, sequence: 1, urls: ["https://a.example"])
            .signed(with: root(vendor))
        #expect(try refusal(other) as? TokenError == .superseded)
        // A genuine one that does not list who signed the reply.
        let without = try statement(vendor, sequence: 2, issuers: [stranger.publicKey])
            .signed(with: root(vendor))
        #expect(try refusal(without) as? TokenError == .foreignKey)
        #expect(TokenError.foreignKey.remedy?.contains("holdfast trust install") == true)
        // The reply as it came is good.
        #expect(try device.with { try $0.apply(reply: reply) }.outcome == .accepted)
        #expect(try sequence(device) == 1)
    }

    @Test("an older statement takes no newer one's place, and lends its keys to nobody")
    func rolledBack() async throws {
        let (vendor, device, _) = try await ready()
        let old = try vendor.keys.trustToken()
        let first = try key(vendor, .issuer, .inUse)
        let seed = try Files.read(vendor.directory.path + "/issuer.key", maximum: 32)
        try rotate(vendor, .issuer)
        try vendor.sync(device)
        try retire(vendor, .issuer, first)
        try vendor.sync(device)
        #expect(try sequence(device) == 3)
        let reply = try #require(try vendor.service.process(device.evidence()).reply)
        let before = try snapshot(device)
        // The key leaked, with a statement from when it counted.
        let leaked = try remade(
            reply, with: old, vendor, device,
            key: { try Ed25519PrivateKey(seed: SecretBytes(copying: seed)) })
        #expect(throws: TokenError.foreignKey) {
            try device.with { try $0.apply(reply: leaked) }
        }
        #expect(throws: TokenError.superseded) {
            try StateDirectory(device.path).install(
                trust: Array(old.text.utf8), random: .system)
        }
        #expect(try snapshot(device) == before)
        // A good reply that was long under way carries an old one, and is read by the present keys.
        let late = try remade(reply, with: old, vendor, device)
        #expect(try device.with { try $0.apply(reply: late) }.outcome == .accepted)
        #expect(try sequence(device) == 3)
        #expect(try isAllowed(device))
    }

    @Test("replies of before do not come back after a rotation, nor after the key was retired")
    func replayed() async throws {
        let (vendor, device, id) = try await ready()
        let old = try #require(try vendor.service.process(device.evidence()).reply)
        _ = try device.with { try $0.apply(reply: old) }
        let unapplied = try vendor.license(id, ["map"]).reply
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        try vendor.sync(device)
        #expect(throws: DeviceError.replyOutdated) {
            try device.with { try $0.apply(reply: old) }
        }
        try retire(vendor, .issuer, first, isForced: true)
        try vendor.sync(device)
        for reply in [old, unapplied] {
            #expect(throws: TokenError.foreignKey) {
                try device.with { try $0.apply(reply: reply) }
            }
        }
        #expect(try sequence(device) == 3)
    }

    /// A reply that somebody made with a leaked key: after all others, and taking everything away.
    private func forged(
        _ vendor: Vendor, _ device: FieldDevice, server: UInt64, sequence: UInt64,
        revoked: [LicenseID] = [], serverAt: UInt64
    ) throws -> [UInt8] {
        let key = try vendor.keys.issuerKey()
        let name = try device.with { $0.statement.attestationKey.name }
        return try Reply.encoded(contents: [], nonces: [UInt8](repeating: 5, count: 128)) {
            try ReplyHeader(
                answers: [UInt8](repeating: 1, count: 32), outcome: .accepted,
                position: .init(server: server, sequence: sequence), incarnation: 1,
                serverAt: serverAt, noncesExpireAt: serverAt, revoked: revoked, contents: $0
            ).signed(for: name, with: key)
        }
    }

    @Test("a reply by a leaked key keeps no later one out once the key is retired")
    func leaked() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        let license = try #require(try device.with { try $0.standings() }.first).document.license.id
        let reply = try forged(
            vendor, device, server: vendor.clock.now, sequence: 1 << 30, revoked: [license],
            serverAt: UInt64(1) << 52)
        _ = try device.with { try $0.apply(reply: reply) }
        #expect(try !isAllowed(device))
        let first = try key(vendor, .issuer, .inUse)
        try rotate(vendor, .issuer)
        try retire(vendor, .issuer, first, isForced: true)
        try vendor.sync(device)
        #expect(try sequence(device) == 3)
        #expect(try isAllowed(device))
        #expect(try device.with { try $0.standings() }.map(\.state) == [.active])
        // It goes on as if nothing had been.
        try device.meter("scan", 2)
        try vendor.sync(device)
        #expect(try vendor.service.usage().first?.totals == ["scan": 2])
    }

    @Test("one head by a leaked key uses up the numbers of no server")
    func numbers() async throws {
        let (vendor, device, _) = try await ready()
        let present = try vendor.service.incarnation()
        for (server, sequence) in [
            (UInt64(1) << 53, 1), (1, UInt64(1) << 53),
        ] as [(UInt64, UInt64)] {
            let reply = try forged(
                vendor, device, server: server, sequence: sequence, serverAt: vendor.clock.now)
            _ = try? device.with { try $0.apply(reply: reply) }
            #expect {
                try vendor.sync(device)
            } throws: { error in
                guard case ServiceError.conflict(let text) = error else { return false }
                return text.contains("leaked")
            }
            #expect(try vendor.service.incarnation() == present)
        }
    }

    @Test("a record that was made again knows which statement the device has")
    func remadeRecord() async throws {
        let vendor = try Vendor()
        _ = try vendor.service.apply(Vendor.terms())
        let backup = try vendor.backUp()
        let device = try FieldDevice()
        let id = try await vendor.admit(device)
        let issued = try vendor.license(id, ["scan"])
        _ = try device.with { try $0.apply(reply: issued.reply) }
        try rotate(vendor, .issuer)
        try vendor.restore(backup)
        try vendor.sync(device)
        #expect(try sequence(device) == 2)
        #expect(try isAllowed(device))
    }

    @Test(
        "what a retired or unknown key was sealed to is refused, and the device is told what to do")
    func retiredSealing() async throws {
        let (vendor, device, _) = try await ready()
        try vendor.sync(device)
        let first = try key(vendor, .sealing, .inUse)
        try rotate(vendor, .sealing)
        #expect(throws: ServiceError.self) { try retire(vendor, .sealing, first) }
        // The device was told, and nobody needs the key.
        try vendor.sync(device)
        try vendor.sync(device)
        try retire(vendor, .sealing, first)
        #expect(!Files.exists(vendor.directory.path + "/sealing.key"))
        let sleeper = try FieldDevice()
        let request = try sleeper.request(vendor.trustFile)
        await #expect(throws: ServiceError.sealingKeyUnknown) {
            try await vendor.service.enroll(request)
        }
        #expect(ServiceError.sealingKeyUnknown.remedy?.contains("trust install") == true)
        let file = try Files.read(vendor.keys.trustFile, maximum: 1 << 16)
        _ = try StateDirectory(sleeper.path).install(trust: file, random: .system)
        _ = try await vendor.service.enroll(sleeper.request(file))
    }

    @Test("evidence for one sealing key in an envelope to another one is refused")
    func channel() async throws {
        let (vendor, device, _) = try await ready()
        let first = try vendor.keys.trust().sealingKeys[0]
        try rotate(vendor, .sealing)
        let second = try vendor.keys.trust().sealingKeys[0]
        let plain = try SealedEnvelope(decoding: device.evidence()).open(
            with: SealingPrivateKey(
                scalar: SecretBytes(
                    copying: Files.read(vendor.directory.path + "/sealing.key", maximum: 32))))
        let moved = try SealedEnvelope(sealing: plain, to: second, random: .system).encoded
        #expect(throws: ServiceError.self) { try vendor.service.process(moved) }
        let right = try SealedEnvelope(sealing: plain, to: first, random: .system).encoded
        #expect(try vendor.service.process(right).outcome == .accepted)
    }

    @Test("the sequence in evidence is covered by the quote")
    func sequenceChanged() async throws {
        let (vendor, device, _) = try await ready()
        let key = try vendor.keys.trust().sealingKeys[0]
        var evidence = try Evidence(
            decoding: SealedEnvelope(decoding: device.evidence()).open(
                with: vendor.keys.sealingKey()))
        #expect(evidence.trustSequence == 1)
        for wrong in [UInt64?.none, 2] {
            evidence.trustSequence = wrong
            let changed = try SealedEnvelope(
                sealing: evidence.encoded(), to: key, random: .system
            ).encoded
            #expect(throws: ServiceError.self) { try vendor.service.process(changed) }
        }
        evidence.trustSequence = 0
        #expect(throws: DocumentError.malformed(.trustSequence)) {
            try Evidence(decoding: evidence.encoded())
        }
    }

    @Test("a key that somebody needs is not retired without a word, and is counted")
    func needed() async throws {
        let (vendor, device, id) = try await ready()
        try vendor.sync(device)
        let first = try key(vendor, .issuer, .inUse)
        #expect(throws: VendorKeysError.inUse(first)) { try retire(vendor, .issuer, first) }
        #expect(throws: VendorKeysError.inUse(first)) {
            try retire(vendor, .issuer, first, isForced: true)
        }
        try rotate(vendor, .issuer)
        let found = try vendor.service.dependents(on: .issuer, first).dependents
        #expect(found.licenses == 1)
        #expect(found.receipts == 1)
        #expect(found.terms == 0)
        #expect(found.policies == 0)
        #expect(found.behind == [id: 1])
        let before = try Files.read(vendor.keys.trustFile, maximum: 1 << 16)
        do {
            try retire(vendor, .issuer, first)
            Issue.record("it is needed")
        } catch ServiceError.keyNeeded(let key, let reasons) {
            #expect(key == first)
            #expect(reasons.contains { $0.hasPrefix("1 licenses") })
        }
        #expect(throws: VendorKeysError.unknownKey("ff")) { try retire(vendor, .sealing, "ff") }
        #expect(throws: VendorKeysError.unknownKey("")) { try retire(vendor, .issuer, "") }
        #expect(try Files.read(vendor.keys.trustFile, maximum: 1 << 16) == before)
        try readRecords(vendor, id)
    }

    @Test("a TLS key is pinned before it is used, and is not used before devices know it")
    func tls() async throws {
        let (vendor, device, _) = try await ready()
        func pin() throws -> [UInt8] {
            HashAlgorithm.sha256.digest(try vendor.keys.tlsKey().publicKey.subjectPublicKeyInfo)
        }
        let present = try pin()
        #expect(throws: VendorKeysError.noNext) { try vendor.service.switchTLS(isForced: true) }
        try rotate(vendor, .tls)
        #expect(try pin() == present)
        #expect(throws: VendorKeysError.nextExists) { try rotate(vendor, .tls) }
        #expect(throws: ServiceError.self) { try vendor.service.switchTLS(isForced: false) }
        #expect(try pin() == present)
        try vendor.sync(device)
        #expect(throws: ServiceError.self) { try vendor.service.switchTLS(isForced: false) }
        try vendor.sync(device)
        let next = try key(vendor, .tls, .next)
        #expect(try vendor.service.switchTLS(isForced: false) == next)
        let used = try pin()
        #expect(used != present)
        #expect(try device.with { $0.vendor.tlsKeys.contains(used) })
        let earlier = try key(vendor, .tls, .earlier)
        #expect(throws: VendorKeysError.inUse(next)) { try retire(vendor, .tls, next) }
        try retire(vendor, .tls, earlier)
        #expect(try vendor.keys.trust().tlsKeys == [used])
    }
}
