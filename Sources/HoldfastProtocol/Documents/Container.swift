import HoldfastCrypto
public import HoldfastErrors
import HoldfastTPMWire

/// What a document that crosses between device and server is about.
///
/// docs/spec/formats.md, "Container".
public enum DocumentKind: UInt8, Sendable, Hashable, CaseIterable {
    case enrollmentRequest = 1
    case enrollmentResponse = 2
    case evidence = 3
    case bundle = 4
    case reply = 5
    case approval = 6
    case retirement = 7
    /// What a device keeps of one license.
    case license = 8
    /// What a device kept of what its vendor signed.
    case recollection = 9
    /// What a device keeps of terms that are not in force yet.
    case migrations = 10
    /// A license for machines without a TPM.
    case testLicense = 11
}

extension DocumentKind {
    /// For people, with its article.
    var words: String {
        switch self {
        case .enrollmentRequest: "an enrollment request"
        case .enrollmentResponse: "an enrollment response"
        case .evidence: "evidence"
        case .bundle: "a bundle"
        case .reply: "a reply with licenses"
        case .approval: "an approval of a boot state"
        case .retirement: "a proof of retirement"
        case .license: "a license of a state directory"
        case .recollection: "what a device kept of its vendor's documents"
        case .migrations: "terms to come, of a state directory"
        case .testLicense: "a test license for machines without a TPM"
        }
    }

    /// Where such a file belongs.
    var use: String {
        switch self {
        case .enrollmentRequest: "take it to the vendor: holdfast-server enroll process"
        case .enrollmentResponse: "use `holdfast enroll --response-in`"
        case .evidence, .bundle, .retirement:
            "take it to the vendor: holdfast-server bundle process"
        case .reply: "use `holdfast license install` or `holdfast bundle import`"
        case .approval: "use `holdfast approve`"
        case .license, .migrations:
            "leave it where it is; install what the vendor made for this device"
        case .testLicense: "use `holdfast test install`, on a machine for tests"
        case .recollection: "it travels inside evidence: `holdfast bundle export`"
        }
    }
}

/// What a section of a document holds; the list is closed.
///
/// docs/spec/formats.md, "Sections".
public enum SectionType: UInt16, Sendable, Hashable, CaseIterable {
    /// H(vendor, root public key), 32 bytes.
    case vendorID = 0x0001
    /// `TPMT_PUBLIC`.
    case attestationKey = 0x0002
    /// `TPMT_PUBLIC`.
    case endorsementKey = 0x0003
    /// X.509 in DER, as read from NV.
    case endorsementCertificate = 0x0004
    /// `TPMT_PUBLIC`.
    case leaseParent = 0x0005
    /// 16 random bytes that went into the lease parent's unique field.
    case leaseParentSalt = 0x0006
    /// `TPMS_ATTEST` and, next, `TPMT_SIGNATURE`.
    case leaseParentAttestation = 0x0007
    case leaseParentSignature = 0x0008
    /// `TPMS_NV_PUBLIC`, written.
    case epochCounter = 0x0009
    case epochCounterAttestation = 0x000A
    case epochCounterSignature = 0x000B
    case ledgerCounter = 0x000C
    case ledgerCounterAttestation = 0x000D
    case ledgerCounterSignature = 0x000E
    /// Opaque ids of hardware components; may repeat.
    case hardwareFact = 0x000F
    /// `TPML_PCR_SELECTION` of an approval.
    case pcrSelection = 0x0010
    /// Digest over the approved values.
    case approvedPCRDigest = 0x0011
    /// The parts of the policy reference.
    case policyReference = 0x0012
    /// `TPMT_PUBLIC` of the approval key.
    case approvalKey = 0x0013
    /// `TPMT_SIGNATURE` of the approval key.
    case approvalSignature = 0x0014
    /// Register by register what was approved, so that a difference can be named.
    case approvedPCRValues = 0x0015
    /// For people; decides nothing.
    case note = 0x0016
    /// Content of `TPM2B_ID_OBJECT`.
    case credentialIdentity = 0x0017
    /// Content of `TPM2B_ENCRYPTED_SECRET`.
    case credentialSecret = 0x0018
    /// What only the activated TPM can read: nonce and XChaCha20-Poly1305.
    case encryptedResponse = 0x0019
    /// A token: u16 length of the footer, footer, body.
    case deviceStatement = 0x001A
    /// Four nonces of 32 bytes.
    case nonces = 0x001B
    /// The whole pairwise id, 32 bytes.
    case pairwiseID = 0x001C
    /// Which enrollment of the device, u32.
    case incarnation = 0x001D
    /// The nonce that a quote answers, 32 bytes.
    case nonce = 0x001E
    /// `TPMS_ATTEST` and, next, `TPMT_SIGNATURE`.
    case quoteAttestation = 0x001F
    case quoteSignature = 0x0020
    /// Values in the order of the selection, one after the other.
    case quotedPCRValues = 0x0021
    /// A token, bound to the enrollment.
    case replyHeader = 0x0022
    /// A token; may repeat.
    case terms = 0x0023
    /// A token; may repeat.
    case license = 0x0024
    /// A token; may repeat.
    case leaseStatement = 0x0025
    /// An encrypted token; may repeat.
    case sealedLease = 0x0026
    /// `TPMT_PUBLIC`, duplicate and encrypted seed, each with a u16 length; may repeat.
    case importBlob = 0x0027
    /// An approval as a whole document; may repeat.
    case approval = 0x0028
    /// The head of the ledger that the ledger counter's certification is about.
    case checkpoint = 0x0029
    /// What leads from an earlier head to that one; may repeat.
    case consistency = 0x002A
    /// Why the present era of the ledger began.
    case genesis = 0x002B
    /// `TPMT_PUBLIC`, and its certification by the attestation key.
    case ledgerKey = 0x002C
    case ledgerKeyAttestation = 0x002D
    case ledgerKeySignature = 0x002E
    /// A token.
    case receipt = 0x002F
    /// Names of meters: u16 count, then u32 number and name with a u16 length.
    case meterNames = 0x0030
    /// How many approvals stand before, u8: a file that is cut between two of them is noticed.
    case approvalCount = 0x0031
    /// The value of PCR 15 before it was extended, 32 bytes.
    case previousPCR = 0x0032
    /// A recollection as a whole document.
    case recollection = 0x0033
    /// An enrollment request as a whole document.
    case enrollmentRequest = 0x0034
    /// The newest receipt of one era, a token; may repeat.
    case keptReceipt = 0x0035
    /// A boot event log, without the data that no policy asks for.
    case eventLog = 0x0036
    /// Where it begins, u64, and entries of the kernel's measurement list.
    case measurementList = 0x0037
    /// That a license goes on under newer terms, a token; may repeat.
    case termsMigration = 0x0038
    /// A vendor's trust statement, a token that the root key signed.
    case trustStatement = 0x0039
    /// The sequence of the trust statement that the device has, u64.
    case trustSequence = 0x003A
    /// A token, beside its terms.
    case testLicense = 0x003B

    /// X.509 in DER: an issuer of the endorsement key certificate, as the TPM has it; may repeat.
    case endorsementIssuer = 0x0040

    /// The most bytes; checked before anything is copied.
    public var maximumSize: Int {
        switch self {
        case .vendorID, .hardwareFact, .pairwiseID, .nonce, .previousPCR: 32
        case .incarnation: 4
        case .approvalCount: 1
        case .trustSequence: 8
        case .trustStatement: 32768
        case .recollection: 4 << 20
        case .eventLog: 1 << 20
        case .measurementList: 8 + MeasurementList.maximumSize
        case .enrollmentRequest: 32768
        case .leaseParentSalt: 16
        case .attestationKey, .endorsementKey, .leaseParent, .approvalKey, .ledgerKey: 1024
        case .checkpoint, .genesis: 8192
        case .consistency: 1 << 20
        case .receipt, .keptReceipt: 16384
        case .termsMigration: 4096
        case .meterNames: 32768
        case .endorsementCertificate, .endorsementIssuer: 4096
        case .leaseParentAttestation, .epochCounterAttestation, .ledgerCounterAttestation,
            .quoteAttestation, .ledgerKeyAttestation:
            2048
        case .leaseParentSignature, .epochCounterSignature, .ledgerCounterSignature,
            .approvalSignature, .quoteSignature, .ledgerKeySignature:
            520
        case .epochCounter, .ledgerCounter, .pcrSelection: 140
        case .approvedPCRDigest: 64
        case .policyReference: 512
        case .approvedPCRValues, .quotedPCRValues: 16384
        case .note: 1024
        case .credentialIdentity, .credentialSecret: 256
        case .encryptedResponse: 65536
        case .deviceStatement: 16384
        case .nonces: 128
        case .replyHeader: 32768
        case .terms, .license, .sealedLease, .leaseStatement, .testLicense: 16384
        case .importBlob: 4096
        case .approval: 20480
        }
    }

    /// Whether a document may have more than one.
    public var mayRepeat: Bool {
        switch self {
        case .hardwareFact, .terms, .license, .leaseStatement, .sealedLease, .importBlob, .approval,
            .consistency, .keptReceipt, .termsMigration:
            true
        default: false
        }
    }
}

/// Why a document is refused.
public enum DocumentError: Error, Sendable, Hashable {
    /// Not a document of ours, or of another version.
    case notADocument
    /// A document of this kind was not expected here.
    case wrongKind(UInt8)
    /// A section that no version 1 document has.
    case unknownSection(UInt16)
    /// Longer than its type allows, or the whole too long.
    case tooLong
    /// The bytes end too early, or there are more behind the end.
    case lengthWrong
    /// Sections that are out of order or repeat.
    case orderWrong(SectionType)
    /// A section that this kind of document needs.
    case missing(SectionType)
    /// The content of a section makes no sense.
    case malformed(SectionType)
}

extension DocumentError: OperatorError {
    public var explanation: String {
        switch self {
        case .notADocument: "the file is not a Holdfast document of version 1"
        case .wrongKind(let number):
            "\(DocumentKind(rawValue: number)?.words ?? "a document of the unknown kind \(number)") is not what belongs here"
        case .unknownSection(let type): "the document has a section of the unknown type \(type)"
        case .tooLong: "the document is longer than it may be"
        case .lengthWrong: "the document is cut short, or has something behind its end"
        case .orderWrong(let type): "the section `\(type)` is out of order or stands twice"
        case .missing(let type): "the document lacks the section `\(type)`"
        case .malformed(let type): "the section `\(type)` makes no sense"
        }
    }
    public var remedy: String? {
        guard case .wrongKind(let number) = self else {
            return "copy the file again, or have it made again"
        }
        return DocumentKind(rawValue: number)?.use ?? "update Holdfast"
    }
    public var stableCode: String { "DOCUMENT_INVALID" }
    public var exitStatus: ExitStatus { .refused }
}

/// A document: a kind and sections in the one order that there is.
///
/// "HFST", u16 version 1, u8 kind, then sections `u16 type, u32 length, bytes`, ascending by type,
/// nothing after the last. Sections of a type that may repeat are ordered by their SHA-256.
///
/// docs/spec/formats.md, "Container".
public struct Container: Sendable, Hashable {
    /// The longest document, 16 MiB.
    public static let maximumSize = 16 << 20
    private static let magic = Array("HFST".utf8)
    private static let version: UInt16 = 1

    public let kind: DocumentKind
    private let sections: [Section]

    private struct Section: Sendable, Hashable {
        let type: SectionType
        let bytes: [UInt8]
        /// Ascending without equals: by type, then by hash.
        let rank: [UInt8]

        init(_ type: SectionType, _ bytes: [UInt8]) {
            self.type = type
            self.bytes = bytes
            let number = [UInt8(type.rawValue >> 8), UInt8(type.rawValue & 0xFF)]
            rank = type.mayRepeat ? number + HashAlgorithm.sha256.digest(bytes) : number
        }
    }

    /// Puts sections into their order.
    ///
    /// - Throws: when one is too long or stands twice.
    public init(
        _ kind: DocumentKind, _ parts: [(type: SectionType, bytes: [UInt8])]
    ) throws(DocumentError) {
        self.kind = kind
        sections = parts.map { Section($0.type, $0.bytes) }.sorted {
            $0.rank.lexicographicallyPrecedes($1.rank)
        }
        try check()
    }

    private func check() throws(DocumentError) {
        var size = 7
        for (number, section) in sections.enumerated() {
            guard section.bytes.count <= section.type.maximumSize else { throw .tooLong }
            size += 6 + section.bytes.count
            guard size <= Self.maximumSize else { throw .tooLong }
            guard number > 0 else { continue }
            guard sections[number - 1].rank.lexicographicallyPrecedes(section.rank) else {
                throw .orderWrong(section.type)
            }
        }
    }

    /// Reads a document; what is not in its one form is refused.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        guard bytes.count <= Self.maximumSize else { throw .tooLong }
        var reader = WireReader(bytes)
        do throws(WireError) {
            guard try reader.bytes(4) == Self.magic, try reader.uint16() == Self.version else {
                throw WireError.unknownValue(field: "magic", value: 0)
            }
        } catch {
            throw .notADocument
        }
        let number: UInt8
        do throws(WireError) { number = try reader.uint8() } catch { throw .lengthWrong }
        guard let kind = DocumentKind(rawValue: number) else { throw .wrongKind(number) }
        var sections: [Section] = []
        while reader.remaining > 0 {
            sections.append(try Self.section(&reader))
        }
        self.kind = kind
        self.sections = sections
        try check()
    }

    private static func section(_ reader: inout WireReader) throws(DocumentError) -> Section {
        let number: UInt16
        let length: UInt32
        do throws(WireError) {
            number = try reader.uint16()
            length = try reader.uint32()
        } catch {
            throw .lengthWrong
        }
        guard let type = SectionType(rawValue: number) else { throw .unknownSection(number) }
        guard length <= type.maximumSize else { throw .tooLong }
        do throws(WireError) {
            return Section(type, try reader.bytes(Int(length)))
        } catch {
            throw .lengthWrong
        }
    }

    /// The bytes.
    public var encoded: [UInt8] {
        var writer = WireWriter(capacity: 1024)
        writer.raw(Self.magic)
        writer.uint16(Self.version)
        writer.uint8(kind.rawValue)
        for section in sections {
            writer.uint16(section.type.rawValue)
            writer.uint32(UInt32(section.bytes.count))
            writer.raw(section.bytes)
        }
        return writer.bytes
    }

    /// The section of a type that stands at most once.
    public subscript(type: SectionType) -> [UInt8]? {
        sections.first { $0.type == type }?.bytes
    }

    /// Every section of a type that may repeat, in the document's order.
    public func all(_ type: SectionType) -> [[UInt8]] {
        sections.filter { $0.type == type }.map(\.bytes)
    }

    /// Every section with its type, in the document's order.
    public var contents: [(type: SectionType, bytes: [UInt8])] {
        sections.map { ($0.type, $0.bytes) }
    }

    /// A section without which the document is refused.
    public func required(_ type: SectionType) throws(DocumentError) -> [UInt8] {
        guard let bytes = self[type] else { throw .missing(type) }
        return bytes
    }

    /// Refuses every section that is not in the list.
    public func demandOnly(_ allowed: Set<SectionType>) throws(DocumentError) {
        for section in sections where !allowed.contains(section.type) {
            throw .unknownSection(section.type.rawValue)
        }
    }

    /// The encoding of the same document without some sections: what a signature in it is about.
    public func encoded(without left: Set<SectionType>) -> [UInt8] {
        Container(kind: kind, sections: sections.filter { !left.contains($0.type) }).encoded
    }

    private init(kind: DocumentKind, sections: [Section]) {
        self.kind = kind
        self.sections = sections
    }
}
