public import HoldfastCrypto
import HoldfastFiles
public import HoldfastLicensing
public import HoldfastProtocol

/// What the device knows of its vendor.
extension StateDirectory {
    /// The statement in force.
    ///
    /// - Throws: when the file was changed: its signature is checked each time.
    public func trust() throws -> TrustStatement? {
        guard let text = try read("trust", maximum: Self.maximumTokenSize) else {
            return nil
        }
        return try TrustStatement(verifying: Self.token(text), replacing: nil)
    }

    /// Takes a trust file in, when it may replace the one in force.
    ///
    /// - Parameter text: the token, with white space at its end or without.
    public func install(trust text: [UInt8]) throws -> TrustStatement {
        let token = try Self.token(text)
        let statement = try TrustStatement(verifying: token, replacing: trust())
        // Without the white space of a file: it could be longer than what is read again.
        try Files.write(Array((token.text + "\n").utf8), to: file("trust"), mode: 0o644)
        if (try? comingTrust(after: statement)) == nil {
            try Files.remove(file("trust-next"))
        }
        return statement
    }

    /// A newer statement of which a reply's documents are being taken in.
    ///
    /// Until it is in force, what either of both signed is read: a run that was interrupted leaves some
    /// documents of each.
    ///
    /// - Parameter trust: the statement in force.
    func comingTrust(after trust: TrustStatement) throws -> TrustStatement? {
        guard let text = try read("trust-next", maximum: Self.maximumTokenSize) else { return nil }
        let token = try Self.token(text)
        do throws(TokenError) {
            let coming = try TrustStatement(verifying: token, replacing: trust)
            return coming == trust ? nil : coming
        } catch .superseded {
            return nil
        }
    }

    func store(comingTrust token: PASETOToken) throws {
        try Files.write(Array((token.text + "\n").utf8), to: file("trust-next"), mode: 0o644)
    }

    /// Puts the newer statement in force, now that everything that came with it is here.
    func takeComingTrust() throws { try Files.move(file("trust-next"), to: file("trust")) }

    /// A trust file that is read and not taken in, as a statement that replaces none.
    public static func statement(trustFile text: [UInt8]) throws -> TrustStatement {
        try TrustStatement(verifying: token(text), replacing: nil)
    }

    /// Takes a trust file in by hand, and writes down what becomes different.
    public func install(
        trust text: [UInt8], random: RandomSource
    ) throws -> (statement: TrustStatement, changes: [LicenseChange]) {
        let before = try trust()
        /// Only for what is told: whatever else is wrong here, the file may be what mends it.
        func licenses(_ trust: TrustStatement) -> (at: UInt64, ids: Set<LicenseID>)? {
            guard let device = try? self.statement() else { return nil }
            var context = LicenseDocument.Context(trust: trust, device: device)
            if let coming = try? comingTrust(after: trust) { context.alsoCount(by: coming) }
            guard let held = try? self.licenses(in: context) else { return nil }
            let last = try? lastReply(in: context)?.serverAt
            return (last ?? device.issuedAt, Set(held.joined().map(\.license.id)))
        }
        let held = before.flatMap(licenses)
        let statement = try install(trust: text)
        guard let before, before != statement else { return (statement, []) }
        let at = held?.at ?? licenses(statement)?.at ?? 0
        var changes = [LicenseChange.trust(from: before, to: statement, at: at, cause: "file")]
        if let held, let left = licenses(statement) {
            changes += held.ids.subtracting(left.ids).map {
                LicenseChange(at: at, .licenseVoid, $0.description, cause: "file")
            }
        }
        // As elsewhere: a ledger that cannot be used keeps nobody from it.
        if hasLedger { try? ledger(random: random).append(changes) }
        return (statement, changes)
    }
}
