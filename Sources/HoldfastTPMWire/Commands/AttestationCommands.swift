import HoldfastCrypto

/// An attestation and the signature over it, as the TPM wrote them.
public struct SignedAttestation: Sendable, Hashable {
    /// `TPMS_ATTEST`, the signed bytes.
    public let attestation: AsReceived<Attestation>
    /// `TPMT_SIGNATURE`.
    public let signature: AsReceived<Signature>

    /// Parses both; this proves nothing yet.
    public init(attestation: [UInt8], signature: [UInt8]) throws(WireError) {
        self.attestation = try AsReceived(bytes: attestation)
        self.signature = try AsReceived(bytes: signature)
    }

    init(from reader: inout WireReader) throws(WireError) {
        let attestation = try reader.sized("attest", maximum: Attestation.maximumSize)
        let start = reader.position
        _ = try Signature(from: &reader)
        self = try SignedAttestation(
            attestation: attestation, signature: reader.consumed(since: start))
    }
}

/// Signs PCR values.
///
/// `TPM2_Quote`, Part 3, "Attestation Commands".
public struct QuoteCommand: TPMCommand {
    public static let code = CommandCode.quote
    public static let authorizationCount = 1
    let key: EntityReference
    let qualifyingData: [UInt8]
    let selection: PCRSelection

    /// - Parameter qualifyingData: at most 32 bytes, so that every TPM takes it.
    public init(key: EntityReference, qualifyingData: [UInt8], selection: PCRSelection) {
        self.key = key
        self.qualifyingData = qualifyingData
        self.selection = selection
    }

    public var handles: [EntityReference] { [key] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(qualifyingData)
        AsymmetricScheme.null.encode(into: &writer)
        selection.encode(into: &writer)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> SignedAttestation {
        try SignedAttestation(from: &reader)
    }
}

/// Signs the Name of an object that is in the same TPM.
///
/// `TPM2_Certify`, Part 3, "Attestation Commands".
public struct CertifyCommand: TPMCommand {
    public static let code = CommandCode.certify
    public static let authorizationCount = 2
    let object: EntityReference
    let key: EntityReference
    let qualifyingData: [UInt8]

    public init(object: EntityReference, key: EntityReference, qualifyingData: [UInt8]) {
        self.object = object
        self.key = key
        self.qualifyingData = qualifyingData
    }

    public var handles: [EntityReference] { [object, key] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(qualifyingData)
        AsymmetricScheme.null.encode(into: &writer)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> SignedAttestation {
        try SignedAttestation(from: &reader)
    }
}

/// Signs the content of an NV index.
///
/// `TPM2_NV_Certify`, Part 3, "Non-volatile Storage".
public struct NVCertifyCommand: TPMCommand {
    public static let code = CommandCode.nvCertify
    public static let authorizationCount = 2
    let key: EntityReference
    let index: EntityReference
    let qualifyingData: [UInt8]
    let size: UInt16
    let offset: UInt16

    public init(
        key: EntityReference, index: EntityReference, qualifyingData: [UInt8], size: UInt16,
        offset: UInt16
    ) {
        self.key = key
        self.index = index
        self.qualifyingData = qualifyingData
        self.size = size
        self.offset = offset
    }

    /// Key, authorization of the index (the index itself), index.
    public var handles: [EntityReference] { [key, index, index] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(qualifyingData)
        AsymmetricScheme.null.encode(into: &writer)
        writer.uint16(size)
        writer.uint16(offset)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> SignedAttestation {
        try SignedAttestation(from: &reader)
    }
}

/// Checks a signature in the TPM and returns a ticket for it.
///
/// `TPM2_VerifySignature`, Part 3, "Signing and Signature Verification".
public struct VerifySignatureCommand: TPMCommand {
    public static let code = CommandCode.verifySignature
    let key: EntityReference
    let digest: [UInt8]
    let signature: Signature

    public init(key: EntityReference, digest: [UInt8], signature: Signature) {
        self.key = key
        self.digest = digest
        self.signature = signature
    }

    public var handles: [EntityReference] { [key] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.sized(digest)
        signature.encode(into: &writer)
    }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> Ticket {
        try Ticket(from: &reader)
    }
}
