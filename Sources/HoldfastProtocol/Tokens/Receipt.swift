public import HoldfastCrypto
public import HoldfastTPMWire

/// What a server settled: the same checkpoint gets the same receipt, byte for byte.
///
/// docs/spec/formats.md, "Receipt".
public struct Receipt: Sendable, Hashable {
    public var incarnation: UInt32
    public var era: UInt64
    /// H(checkpoint, …).
    public var checkpoint: [UInt8]
    /// The head that is settled: that of the checkpoint, or a later one.
    public var root: [UInt8]
    public var size: UInt64
    public var totals: MeterSums
    /// `attested` with a quote beside it, otherwise the checkpoint's grade.
    public var grade: String
    /// The ledger forked: both branches are kept, and the larger totals count.
    public var isForked: Bool
    /// UTC seconds on the server's clock.
    public var serverAt: UInt64
    /// The checkpoint's clock, whose ticks belong to a time before ``serverAt``.
    public var clockTicks: UInt64
    public var resetCount: UInt32
    public var restartCount: UInt32
    /// Rises with each receipt of an enrollment.
    public var sequence: UInt64

    public init(
        incarnation: UInt32, era: UInt64, checkpoint: [UInt8], root: [UInt8], size: UInt64,
        totals: MeterSums, grade: String, isForked: Bool, serverAt: UInt64, clock: ClockInfo,
        sequence: UInt64
    ) {
        self.incarnation = incarnation
        self.era = era
        self.checkpoint = checkpoint
        self.root = root
        self.size = size
        self.totals = totals
        self.grade = grade
        self.isForked = isForked
        self.serverAt = serverAt
        clockTicks = clock.clock
        resetCount = clock.resetCount
        restartCount = clock.restartCount
        self.sequence = sequence
    }

    /// Signs the receipt for an enrollment.
    public func signed(
        for attestationKey: TPMName, with key: borrowing Ed25519PrivateKey
    ) throws(TokenError) -> PASETOToken {
        let token = try IssuedToken.sign(
            claims, for: .init(incarnation: incarnation, of: attestationKey), with: key)
        let read = try Receipt(
            verifying: token, issuers: [key.publicKey], incarnation: incarnation,
            attestationKey: attestationKey)
        guard read == self else { throw .notCanonical }
        return token
    }

    /// Verifies a receipt for an enrollment of a device.
    public init(
        verifying token: PASETOToken, issuers: [Ed25519PublicKey], incarnation: UInt32,
        attestationKey: TPMName
    ) throws(TokenError) {
        let verified = try IssuedToken.verify(
            token, for: .init(incarnation: incarnation, of: attestationKey), issuers: issuers)
        var claims = try ClaimsReader(verified.payload, kind: .receipt)
        let all: ClosedRange<UInt64> = 0...UInt64.max
        self.incarnation = UInt32(try claims.number("incarnation", in: 1...UInt64(UInt32.max)))
        guard self.incarnation == incarnation else { throw .otherDevice }
        era = try claims.number("era", in: all)
        checkpoint = try claims.bytes("checkpoint", count: 32)
        root = try claims.bytes("root", count: 32)
        size = try claims.number("size", in: 0...LedgerRange.maximumSize)
        let bytes = try claims.bytes("totals", counts: 2...8192)
        do throws(WireError) {
            var reader = WireReader(bytes)
            totals = try MeterSums(from: &reader)
            try reader.finish()
        } catch {
            throw .malformed("totals")
        }
        grade = try claims.text("grade", maximum: 32)
        isForked = try claims.flag("forked")
        serverAt = try claims.number("serverAt", in: 1...UInt64(1) << 53)
        clockTicks = try claims.number("clockTicks", in: all)
        resetCount = UInt32(try claims.number("resetCount", in: 0...UInt64(UInt32.max)))
        restartCount = UInt32(try claims.number("restartCount", in: 0...UInt64(UInt32.max)))
        sequence = try claims.number("sequence", in: 1...UInt64(1) << 53)
        try claims.finish()
    }

    private var claims: CanonicalJSON {
        var sums = WireWriter(capacity: 64)
        totals.encode(into: &sums)
        return .object([
            "kind": .string(TokenKind.receipt.rawValue),
            "incarnation": .number(UInt64(incarnation)), "era": .number(era),
            "checkpoint": .string(Base64URL.encode(checkpoint)),
            "root": .string(Base64URL.encode(root)), "size": .number(size),
            "totals": .string(Base64URL.encode(sums.bytes)), "grade": .string(grade),
            "forked": .bool(isForked), "serverAt": .number(serverAt),
            "clockTicks": .number(clockTicks), "resetCount": .number(UInt64(resetCount)),
            "restartCount": .number(UInt64(restartCount)), "sequence": .number(sequence),
        ])
    }
}
