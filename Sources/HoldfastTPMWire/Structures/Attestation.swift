public import HoldfastCrypto

/// The clock of a TPM with its counters of resets.
///
/// `TPMS_CLOCK_INFO`, Part 2, section 10.11.1.
public struct ClockInfo: WireStructure, Sendable, Hashable {
    /// Powered-on milliseconds.
    ///
    /// A local user can set it up to 0xFFFF000000000000.
    public var clock: UInt64
    public var resetCount: UInt32
    public var restartCount: UInt32
    /// No value of `clock` higher than this was reported before the last unclean stop.
    public var safe: Bool

    public init(clock: UInt64, resetCount: UInt32, restartCount: UInt32, safe: Bool) {
        self.clock = clock
        self.resetCount = resetCount
        self.restartCount = restartCount
        self.safe = safe
    }

    public func encode(into writer: inout WireWriter) {
        writer.uint64(clock)
        writer.uint32(resetCount)
        writer.uint32(restartCount)
        writer.uint8(safe ? 1 : 0)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        clock = try reader.uint64()
        resetCount = try reader.uint32()
        restartCount = try reader.uint32()
        let flag = try reader.uint8()
        guard flag <= 1 else { throw .unknownValue(field: "safe", value: UInt64(flag)) }
        safe = flag == 1
    }
}

/// What a TPM says and signs with a restricted key.
///
/// `TPMS_ATTEST`, Part 2, section 10.12.12. Keep the received bytes: the signature is over them.
public struct Attestation: WireStructure, Sendable, Hashable {
    /// `TPM_GENERATED_VALUE`: only a TPM signs a structure that begins with it.
    public static let magic: UInt32 = 0xFF54_4347
    /// The longest structure that is read.
    public static let maximumSize = 2048

    /// What it is about.
    public enum Attested: Sendable, Hashable {
        /// `TPMS_QUOTE_INFO`
        case quote(selection: PCRSelection, pcrDigest: [UInt8])
        /// `TPMS_CERTIFY_INFO`
        case certify(name: TPMName, qualifiedName: TPMName)
        /// `TPMS_NV_CERTIFY_INFO`
        case nv(indexName: TPMName, offset: UInt16, contents: [UInt8])
    }

    public var qualifiedSigner: TPMName
    public var extraData: [UInt8]
    public var clockInfo: ClockInfo
    public var firmwareVersion: UInt64
    public var attested: Attested

    public init(
        qualifiedSigner: TPMName, extraData: [UInt8], clockInfo: ClockInfo,
        firmwareVersion: UInt64, attested: Attested
    ) {
        self.qualifiedSigner = qualifiedSigner
        self.extraData = extraData
        self.clockInfo = clockInfo
        self.firmwareVersion = firmwareVersion
        self.attested = attested
    }

    private static let nvType: UInt16 = 0x8014
    private static let certifyType: UInt16 = 0x8017
    private static let quoteType: UInt16 = 0x8018

    public func encode(into writer: inout WireWriter) {
        writer.uint32(Self.magic)
        switch attested {
        case .quote: writer.uint16(Self.quoteType)
        case .certify: writer.uint16(Self.certifyType)
        case .nv: writer.uint16(Self.nvType)
        }
        writer.sized(qualifiedSigner.bytes)
        writer.sized(extraData)
        clockInfo.encode(into: &writer)
        writer.uint64(firmwareVersion)
        switch attested {
        case .quote(let selection, let digest):
            selection.encode(into: &writer)
            writer.sized(digest)
        case .certify(let name, let qualifiedName):
            writer.sized(name.bytes)
            writer.sized(qualifiedName.bytes)
        case .nv(let name, let offset, let contents):
            writer.sized(name.bytes)
            writer.uint16(offset)
            writer.sized(contents)
        }
    }

    /// Reads one; a structure that no TPM generated, or of another type, is refused.
    public init(from reader: inout WireReader) throws(WireError) {
        let magic = try reader.uint32()
        guard magic == Self.magic else {
            throw .unknownValue(field: "magic", value: UInt64(magic))
        }
        let type = try reader.uint16()
        qualifiedSigner = try TPMName(from: &reader, field: "qualifiedSigner")
        extraData = try reader.sized("extraData", maximum: 66)
        clockInfo = try ClockInfo(from: &reader)
        firmwareVersion = try reader.uint64()
        switch type {
        case Self.quoteType:
            let selection = try PCRSelection(from: &reader)
            attested = .quote(
                selection: selection, pcrDigest: try reader.sized("pcrDigest", maximum: 64))
        case Self.certifyType:
            let name = try TPMName(from: &reader, field: "name")
            attested = .certify(
                name: name, qualifiedName: try TPMName(from: &reader, field: "qualifiedName"))
        case Self.nvType:
            let name = try TPMName(from: &reader, field: "indexName")
            let offset = try reader.uint16()
            attested = .nv(
                indexName: name, offset: offset,
                contents: try reader.sized("nvContents", maximum: 1024))
        default: throw .unknownValue(field: "type", value: UInt64(type))
        }
    }
}

/// Why an attestation does not say what it is taken for.
public enum AttestationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// It is about something else than the content of an NV index.
    case otherKind
    /// It is about another index.
    case otherIndex
    /// It covers a part of the index: `TPM2_NV_Certify` answers for any size and offset.
    case partial

    public var description: String {
        switch self {
        case .otherKind: "the attestation is not about an NV index"
        case .otherIndex: "the attestation is about another NV index"
        case .partial: "the attestation covers a part of the counter only"
        }
    }
}

extension Attestation {
    /// The value of a counter that this attests.
    ///
    /// - Parameter indexName: recomputed from the public area that is demanded, never taken from
    ///   the device.
    /// - Throws: unless it is of type 0x8014, about that index, and covers all eight bytes.
    ///
    /// `TPMS_NV_CERTIFY_INFO`, Part 2, section 10.12.8.
    public func counterValue(of indexName: TPMName) throws(AttestationError) -> UInt64 {
        guard case .nv(let name, let offset, let contents) = attested else { throw .otherKind }
        guard name == indexName else { throw .otherIndex }
        guard offset == 0, contents.count == 8 else { throw .partial }
        return contents.reduce(0) { $0 << 8 | UInt64($1) }
    }
}

/// A signature with the scheme that made it.
///
/// `TPMT_SIGNATURE`, Part 2, section 11.3.4.
public enum Signature: WireStructure, Sendable, Hashable {
    case ecdsa(hash: HashAlgorithm, r: [UInt8], s: [UInt8])
    case rsassa(hash: HashAlgorithm, signature: [UInt8])
    case rsapss(hash: HashAlgorithm, signature: [UInt8])

    /// The longest signature that is read: RSA-4096.
    public static let maximumSize = 520

    /// The scheme.
    public var scheme: AsymmetricScheme {
        switch self {
        case .ecdsa(let hash, _, _): .ecdsa(hash)
        case .rsassa(let hash, _): .rsassa(hash)
        case .rsapss(let hash, _): .rsapss(hash)
        }
    }

    public func encode(into writer: inout WireWriter) {
        scheme.encode(into: &writer)
        switch self {
        case .ecdsa(_, let r, let s):
            writer.sized(r)
            writer.sized(s)
        case .rsassa(_, let signature), .rsapss(_, let signature): writer.sized(signature)
        }
    }

    public init(from reader: inout WireReader) throws(WireError) {
        let scheme = try AsymmetricScheme(from: &reader)
        switch scheme {
        case .ecdsa(let hash):
            let r = try reader.sized("signatureR", maximum: 66)
            self = .ecdsa(hash: hash, r: r, s: try reader.sized("signatureS", maximum: 66))
        case .rsassa(let hash):
            self = .rsassa(hash: hash, signature: try reader.sized("sig", maximum: 512))
        case .rsapss(let hash):
            self = .rsapss(hash: hash, signature: try reader.sized("sig", maximum: 512))
        default: throw .unknownValue(field: "sigAlg", value: 0)
        }
    }
}

/// A ticket: proof of the TPM to itself that it checked something before.
///
/// `TPMT_TK_VERIFIED` and its kin, Part 2, section 10.7.
public struct Ticket: WireStructure, Sendable, Hashable {
    public var tag: UInt16
    public var hierarchy: TPMHandle
    public var digest: [UInt8]

    public func encode(into writer: inout WireWriter) {
        writer.uint16(tag)
        writer.uint32(hierarchy.rawValue)
        writer.sized(digest)
    }

    public init(from reader: inout WireReader) throws(WireError) {
        tag = try reader.uint16()
        guard (0x8021...0x8025).contains(tag) else {
            throw .unknownValue(field: "tag", value: UInt64(tag))
        }
        hierarchy = TPMHandle(rawValue: try reader.uint32())
        digest = try reader.sized("digest", maximum: 64)
    }
}
