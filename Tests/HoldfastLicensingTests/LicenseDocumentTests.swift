import HoldfastCrypto
import HoldfastFuzz
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("license documents")
struct LicenseDocumentTests {
    private let fixture = Fixture()

    @Test("what was issued is read, from a file and from the wire")
    func roundTrip() throws {
        let document = try fixture.document()
        #expect(document.license == fixture.license())
        #expect(document.terms == fixture.terms())
        #expect(try LicenseDocument(decoding: document.encoded(), in: fixture.context) == document)
        #expect(document.statement.endTicks == 1_600_000)
    }

    @Test("no bit of a license file can be changed, and nothing is cut or added")
    func bitFlips() throws {
        let bytes = try fixture.document().encoded()
        let context = try fixture.context
        for bit in stride(from: 0, to: bytes.count * 8, by: 11) {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: (any Error).self, "bit \(bit)") {
                try LicenseDocument(decoding: changed, in: context)
            }
        }
        for length in stride(from: 0, to: bytes.count, by: 7) {
            #expect(throws: (any Error).self) {
                try LicenseDocument(decoding: Array(bytes[..<length]), in: context)
            }
        }
        #expect(throws: DocumentError.self) {
            try LicenseDocument(decoding: bytes + [0], in: context)
        }
    }

    @Test("a license for another device is a mismatch, and one of another vendor is foreign")
    func otherDevice() throws {
        let bytes = try fixture.document().encoded()
        var context = try fixture.context
        context.attestationKey = TPMName(hash: .sha256, publicArea: [1])
        #expect(throws: TokenError.otherDevice) {
            try LicenseDocument(decoding: bytes, in: context)
        }
        context = try fixture.context
        context.incarnation = 2
        #expect(throws: TokenError.otherDevice) {
            try LicenseDocument(decoding: bytes, in: context)
        }
        context = try fixture.context
        context.issuers = [Ed25519PrivateKey.generate(random: .system).publicKey]
        #expect(throws: TokenError.foreignKey) {
            try LicenseDocument(decoding: bytes, in: context)
        }
        context = try fixture.context
        context.epochCounter = KeyTemplate.counter(at: TPMHandle(rawValue: 0x0180_0102)).written
        #expect(throws: TokenError.otherDevice) {
            try LicenseDocument(decoding: bytes, in: context)
        }
    }

    @Test("a blob with a policy of its own is refused though it is wrapped to the right parent")
    func wrappedByAnAttacker() throws {
        var changes = Fixture.Changes()
        changes.blobPolicy = [UInt8](repeating: 0, count: 32)
        #expect(throws: SealedObjectError.otherPolicy) { try fixture.document(changes) }
        changes.blobPolicy = []
        #expect(throws: SealedObjectError.otherPolicy) { try fixture.document(changes) }
    }

    @Test("parts that do not belong together are refused though each is signed")
    func mixed() throws {
        func refused(_ change: (inout Fixture.Changes) -> Void) throws {
            var changes = Fixture.Changes()
            change(&changes)
            #expect(throws: (any Error).self) { try fixture.document(changes) }
        }
        try refused { $0.terms = { $0.version = 4 } }
        try refused { $0.terms = { $0.id = "other" } }
        try refused { $0.terms = { $0.licenseClass = .production } }
        try refused { $0.license = { $0.product = "other" } }
        try refused { $0.product = "other" }
        try refused { $0.statement = { $0.incarnation = 2 } }
        try refused { $0.statement = { $0.policy.highestClock += 1 } }
        try refused { $0.statement = { $0.policy.epoch += 1 } }
        try refused { $0.statement = { $0.policy.highestResetCount += 1 } }
        try refused { $0.statement = { $0.importBlobHash[0] ^= 1 } }
        try refused { $0.statement = { $0.sealedLeaseHash[0] ^= 1 } }
        try refused { $0.statement = { $0.termsHash[0] ^= 1 } }
        try refused { $0.statement = { $0.policy.approvalKey = fixture.attestationKey } }
        try refused { $0.statement = { $0.objectName = fixture.attestationKey } }
    }

    @Test("sections of two licenses cannot be exchanged")
    func exchanged() throws {
        let one = try fixture.sections()
        let two = try fixture.sections()
        for index in one.indices where one[index].type != .terms {
            var mixed = one
            mixed[index] = two[index]
            guard mixed.map(\.bytes) != one.map(\.bytes) else { continue }
            // The license itself is the same document in both.
            if one[index].type == .license { continue }
            #expect(throws: (any Error).self, "\(one[index].type)") {
                try LicenseDocument(
                    decoding: Container(.license, mixed).encoded, in: fixture.context)
            }
        }
    }

    @Test("a part that belongs to nothing, or is missing, is refused")
    func completeness() throws {
        let sections = try fixture.sections()
        for index in sections.indices {
            var less = sections
            less.remove(at: index)
            #expect(throws: (any Error).self) {
                try LicenseDocument(
                    decoding: Container(.license, less).encoded, in: fixture.context)
            }
        }
        let other = try Fixture().sections()
        for extra in other {
            #expect(throws: (any Error).self) {
                try LicenseDocument(
                    decoding: Container(.license, sections + [extra]).encoded, in: fixture.context)
            }
        }
    }

    @Test("the lease token opens with its key alone, for its license and device alone")
    func rights() throws {
        let document = try fixture.document()
        func open(_ key: [UInt8], _ name: TPMName) throws -> LeaseRights {
            try LeaseRights(
                opening: document.sealedLease, of: document.statement, attestationKey: name,
                key: SecretBytes(copying: key))
        }
        #expect(
            try open(fixture.leaseKey, fixture.attestationKey).entitlements
                == ["scan", "preview", "hint"])
        var other = fixture.leaseKey
        other[0] ^= 1
        #expect(throws: TokenError.notAuthentic(.authenticationFailed)) {
            try open(other, fixture.attestationKey)
        }
        #expect(throws: TokenError.notAuthentic(.authenticationFailed)) {
            try open(fixture.leaseKey, TPMName(hash: .sha256, publicArea: [1]))
        }
    }

    // MARK: Replies

    private func reply(
        _ contents: [(type: SectionType, bytes: [UInt8])], sequence: UInt64 = 1,
        incarnation: UInt32 = 1, tamper: ((Container) throws -> Container)? = nil
    ) throws -> [UInt8] {
        let key = try fixture.issuerKey()
        return try Reply.encoded(
            contents: contents, nonces: [UInt8](repeating: 9, count: 128)
        ) { container in
            try ReplyHeader(
                answers: [UInt8](repeating: 1, count: 32), outcome: .accepted,
                position: .init(server: 1, sequence: sequence), incarnation: incarnation,
                serverAt: 1_800_000_000,
                noncesExpireAt: 1_900_000_000, contents: tamper?(container) ?? container
            ).signed(for: fixture.attestationKey, with: key)
        }
    }

    @Test("a reply is read whole, and its signed header names everything else")
    func replies() throws {
        let sections = try fixture.sections()
        let read = try Reply(decoding: reply(sections), in: fixture.context)
        #expect(read.documents.map(\.license) == [fixture.license()])
        #expect(read.nonces.count == 4)
        #expect(read.approvals.isEmpty)
        // One that lists less than it holds, or more.
        #expect(throws: DocumentError.malformed(.replyHeader)) {
            try Reply(
                decoding: reply(sections, tamper: { _ in try Container(.reply, []) }),
                in: fixture.context)
        }
        #expect(throws: DocumentError.malformed(.replyHeader)) {
            try Reply(
                decoding: reply([], tamper: { _ in try Container(.reply, sections) }),
                in: fixture.context)
        }
        #expect(throws: TokenError.otherDevice) {
            try Reply(decoding: reply(sections, incarnation: 2), in: fixture.context)
        }
    }

    @Test("a reply announces terms that are in it, and none that are others")
    func announced() throws {
        func announcing(
            _ change: (inout TermsMigration) -> Void = { _ in },
            _ others: (inout Terms) -> Void = { _ in }, without: SectionType? = nil,
            doubled: Bool = false
        ) throws -> Reply {
            var terms = fixture.terms()
            terms.version = 4
            others(&terms)
            let token = try terms.signed(with: fixture.issuerKey())
            var migration = fixture.migration()
            migration.termsHash = HashAlgorithm.sha256.digest(
                LicenseDocument.section(terms: token))
            change(&migration)
            var parts = AnnouncedTerms.parts(
                migration: try migration.signed(
                    for: fixture.attestationKey, with: fixture.issuerKey()), terms: token)
            if doubled {
                var more = fixture.terms()
                more.version = 5
                let token = try more.signed(with: fixture.issuerKey())
                parts.append((.terms, LicenseDocument.section(terms: token)))
            }
            let sections = try fixture.sections() + parts.filter { $0.type != without }
            return try Reply(decoding: reply(sections), in: fixture.context)
        }
        let good = try announcing()
        #expect(good.announced.map(\.terms.version) == [4])
        #expect(good.documents.map(\.terms.version) == [3])
        #expect(throws: DocumentError.missing(.terms)) { try announcing(without: .terms) }
        // Terms that belong to nothing.
        #expect(throws: DocumentError.malformed(.terms)) {
            try announcing(without: .termsMigration)
        }
        #expect(throws: DocumentError.malformed(.terms)) { try announcing(doubled: true) }
        #expect(throws: DocumentError.malformed(.terms)) { try announcing { $0.to = 5 } }
        #expect(throws: DocumentError.malformed(.terms)) { try announcing { $0.terms = "other" } }
        #expect(throws: DocumentError.malformed(.terms)) {
            try announcing({ _ in }) { $0.id = "other" }
        }
        #expect(throws: DocumentError.missing(.terms)) {
            try announcing { $0.termsHash = [UInt8](repeating: 1, count: 32) }
        }
    }

    @Test("no bit of a reply can be changed")
    func replyBits() throws {
        let bytes = try reply(fixture.sections())
        let context = try fixture.context
        for bit in stride(from: 0, to: bytes.count * 8, by: 13) {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: (any Error).self, "bit \(bit)") {
                try Reply(decoding: changed, in: context)
            }
        }
    }
}

@Suite("claims of licenses, terms and leases")
struct LicenseClaimsTests {
    private let fixture = Fixture()

    /// Signs changed claims with the right key and says how they are refused.
    private func refusals(
        _ token: PASETOToken, assertion: [UInt8], _ read: (PASETOToken) throws(TokenError) -> Void
    ) throws {
        let key = try fixture.issuerKey()
        let payload = [UInt8](token.body.dropLast(64))
        guard case .object(let members) = try CanonicalJSON(decoding: payload) else {
            Issue.record("a payload is an object")
            return
        }
        func refusal(_ change: (inout [String: CanonicalJSON]) -> Void) throws -> TokenError? {
            var changed = members
            change(&changed)
            let signed = try PASETO.sign(
                CanonicalJSON.object(changed).encoded, footer: token.footer,
                implicitAssertion: assertion, with: key)
            do throws(TokenError) {
                try read(signed)
                return nil
            } catch {
                return error
            }
        }
        #expect(try refusal { _ in } == nil)
        for name in members.keys {
            #expect(try refusal { $0[name] = nil } == .missing(name))
            #expect(try refusal { $0[name] = .bool(true) } != nil, "\(name)")
        }
        #expect(try refusal { $0["exp"] = .number(1) } == .unknown("exp"))
        #expect(try refusal { $0["x-note"] = .string("a") } == nil)
        #expect(try refusal { $0["kind"] = .string("trust") } == .wrongKind("trust"))
    }

    @Test("terms")
    func terms() throws {
        let key = try fixture.issuerKey().publicKey
        let token = try fixture.terms().signed(with: fixture.issuerKey())
        try refusals(token, assertion: []) { (token) throws(TokenError) in
            _ = try Terms(verifying: token, issuers: [key])
        }
        func refused(_ change: (inout Terms) -> Void) throws {
            var terms = fixture.terms()
            change(&terms)
            #expect(throws: TokenError.self) { try terms.signed(with: fixture.issuerKey()) }
        }
        try refused { $0.renewAfterTicks = $0.graceAfterTicks + 1 }
        try refused { $0.graceAfterTicks = $0.leaseTicks + 1 }
        try refused { $0.softAfterTicks = $0.leaseTicks + 1 }
        try refused { $0.leaseTicks = 0 }
        try refused { $0.leaseTicks = Terms.maximumTicks + 1 }
        try refused { $0.nonceLifetimeSeconds = 799 }
        try refused { $0.id = "Standard" }
        try refused { $0.id = "" }
        try refused { $0.enforcement = ["a b": .soft] }
        // Seconds are for tests.
        try refused { $0.licenseClass = .production }
    }

    @Test("licenses")
    func licenses() throws {
        let name = fixture.attestationKey
        let key = try fixture.issuerKey().publicKey
        let token = try fixture.license().signed(for: name, with: fixture.issuerKey())
        try refusals(
            token, assertion: DeviceBinding.license(Fixture.licenseID.bytes, on: name)
        ) { (token) throws(TokenError) in
            _ = try License(verifying: token, issuers: [key], attestationKey: name)
        }
        func refused(_ change: (inout License) -> Void) throws {
            var license = fixture.license()
            change(&license)
            #expect(throws: TokenError.self) {
                try license.signed(for: name, with: fixture.issuerKey())
            }
        }
        try refused { $0.entitlements = [] }
        try refused { $0.entitlements.append($0.entitlements[0]) }
        try refused { $0.product = "Scanner" }
        try refused { $0.endsAt = 0 }
        // What was used before says something beside a limit alone.
        try refused { $0.entitlements[0].usedBefore = 5 }
    }

    @Test("lease statements")
    func statements() throws {
        let name = fixture.attestationKey
        let key = try fixture.issuerKey().publicKey
        let statement = try fixture.document().statement
        let token = try statement.signed(for: name, with: fixture.issuerKey())
        try refusals(
            token, assertion: DeviceBinding.license(Fixture.licenseID.bytes, on: name)
        ) { (token) throws(TokenError) in
            _ = try LeaseStatement(verifying: token, issuers: [key], attestationKey: name)
        }
        func refused(_ change: (inout LeaseStatement) -> Void) {
            var changed = statement
            change(&changed)
            #expect(throws: TokenError.self) {
                try changed.signed(for: name, with: fixture.issuerKey())
            }
        }
        refused { $0.renewTicks = $0.graceTicks + 1 }
        refused { $0.graceTicks = $0.endTicks + 1 }
        refused { $0.softEndTicks = $0.endTicks + 1 }
        refused { $0.degradedEndTicks = $0.endTicks - 1 }
        refused { $0.issuedTicks = $0.renewTicks + 1 }
        refused { $0.policy.lowestClock = $0.issuedTicks + 1 }
        refused { $0.serial = 0 }
        refused { $0.allowances = ["a b": 1] }
        refused { $0.era = 1 }
        refused { $0.settled = ["scan": 1] }
        refused { $0.policy.policyRef = [UInt8](repeating: 0, count: 32) }
    }

    @Test("migrations of terms")
    func migrations() throws {
        let name = fixture.attestationKey
        let key = try fixture.issuerKey().publicKey
        let token = try fixture.migration().signed(for: name, with: fixture.issuerKey())
        try refusals(
            token, assertion: DeviceBinding.license(Fixture.licenseID.bytes, on: name)
        ) { (token) throws(TokenError) in
            _ = try TermsMigration(verifying: token, issuers: [key], attestationKey: name)
        }
        #expect(throws: TokenError.otherDevice) {
            try TermsMigration(
                verifying: token, issuers: [key],
                attestationKey: TPMName(hash: .sha256, publicArea: [1]))
        }
        #expect(throws: TokenError.foreignKey) {
            try TermsMigration(
                verifying: token, issuers: [Ed25519PrivateKey.generate(random: .system).publicKey],
                attestationKey: name)
        }
        func refused(_ change: (inout TermsMigration) -> Void) {
            var changed = fixture.migration()
            change(&changed)
            #expect(throws: TokenError.self) {
                try changed.signed(for: name, with: fixture.issuerKey())
            }
        }
        refused { $0.to = $0.from }
        refused { $0.to = $0.from - 1 }
        refused { $0.from = 0 }
        refused { $0.terms = "Standard" }
        refused { $0.termsHash = [1] }
        refused { $0.notBefore = 0 }
    }

    @Test("a token of one kind is refused where another is expected")
    func kinds() throws {
        let name = fixture.attestationKey
        let key = try fixture.issuerKey().publicKey
        let license = try fixture.license().signed(for: name, with: fixture.issuerKey())
        let statement = try fixture.document().statement
            .signed(for: name, with: fixture.issuerKey())
        let terms = try fixture.terms().signed(with: fixture.issuerKey())
        #expect(throws: TokenError.wrongKind("lease")) {
            try License(verifying: statement, issuers: [key], attestationKey: name)
        }
        #expect(throws: TokenError.wrongKind("license")) {
            try LeaseStatement(verifying: license, issuers: [key], attestationKey: name)
        }
        #expect(throws: TokenError.otherDevice) { try Terms(verifying: license, issuers: [key]) }
        #expect(throws: TokenError.wrongKind("terms")) {
            try License(verifying: terms, issuers: [key], attestationKey: name)
        }
    }
}
