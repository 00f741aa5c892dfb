public import HoldfastCrypto
public import HoldfastTPMWire

/// What a device shows of its state: a quote over a nonce of the server, and both counters certified
/// in the same run.
///
/// The ledger counter was raised before, so that the clock in the quote is one that the TPM has
/// saved. Nothing in it is believed until it was appraised.
///
/// docs/spec/formats.md, "Evidence".
public struct Evidence: Sendable, Hashable {
    /// What the signatures are about.
    public struct Subject: Sendable, Hashable {
        public var vendorID: [UInt8]
        /// 32 bytes; it says where to look, the signature says whether it is so.
        public var pairwiseID: [UInt8]
        public var incarnation: UInt32
        /// 32 bytes from the server.
        public var nonce: [UInt8]

        public init(vendorID: [UInt8], pairwiseID: [UInt8], incarnation: UInt32, nonce: [UInt8]) {
            self.vendorID = vendorID
            self.pairwiseID = pairwiseID
            self.incarnation = incarnation
            self.nonce = nonce
        }

        /// The qualifying data of the certifications of both counters.
        public var counterData: [UInt8] {
            framedHash(.evidence, vendorID, Self.encoded(incarnation), nonce)
        }

        fileprivate static func encoded(_ number: UInt32) -> [UInt8] {
            var writer = WireWriter(capacity: 4)
            writer.uint32(number)
            return writer.bytes
        }
    }

    public var subject: Subject
    public var epochCounter: SignedAttestation
    public var ledgerCounter: SignedAttestation
    /// What was asked for, and the values that are claimed.
    public var selection: PCRSelection
    public var values: PCRValues
    /// `TPMS_ATTEST` and `TPMT_SIGNATURE`, as the TPM wrote them; empty until it is quoted.
    public var quote: [UInt8]
    public var quoteSignature: [UInt8]

    private static let unsigned: Set<SectionType> = [.quoteAttestation, .quoteSignature]
    private static let sections: Set<SectionType> = [
        .vendorID, .pairwiseID, .incarnation, .nonce, .epochCounterAttestation,
        .epochCounterSignature, .ledgerCounterAttestation, .ledgerCounterSignature, .pcrSelection,
        .quotedPCRValues, .quoteAttestation, .quoteSignature,
    ]

    public init(
        subject: Subject, epochCounter: SignedAttestation, ledgerCounter: SignedAttestation,
        selection: PCRSelection, values: PCRValues, quote: [UInt8] = [],
        quoteSignature: [UInt8] = []
    ) {
        self.subject = subject
        self.epochCounter = epochCounter
        self.ledgerCounter = ledgerCounter
        self.selection = selection
        self.values = values
        self.quote = quote
        self.quoteSignature = quoteSignature
    }

    private func container() throws(DocumentError) -> Container {
        var joined = WireWriter(capacity: 256)
        for bank in selection.banks {
            for index in bank.indexes {
                guard let value = values[bank.hash, index] else {
                    throw .missing(.quotedPCRValues)
                }
                joined.raw(value)
            }
        }
        return try Container(
            .evidence,
            [
                (.vendorID, subject.vendorID), (.pairwiseID, subject.pairwiseID),
                (.incarnation, Subject.encoded(subject.incarnation)), (.nonce, subject.nonce),
                (.epochCounterAttestation, epochCounter.attestation.bytes),
                (.epochCounterSignature, epochCounter.signature.bytes),
                (.ledgerCounterAttestation, ledgerCounter.attestation.bytes),
                (.ledgerCounterSignature, ledgerCounter.signature.bytes),
                (.pcrSelection, selection.wireBytes), (.quotedPCRValues, joined.bytes),
                (.quoteAttestation, quote), (.quoteSignature, quoteSignature),
            ])
    }

    /// The document.
    public func encoded() throws(DocumentError) -> [UInt8] { try container().encoded }

    /// What the quote signs as extraData: H(evidence, vendor id, incarnation, nonce, SHA-256 of
    /// everything but the quote, channel).
    ///
    /// The channel is the server's sealing key on every carrier, so evidence for one server says
    /// nothing to another.
    public func extraData(for sealingKey: SealingPublicKey) throws(DocumentError) -> [UInt8] {
        framedHash(
            .evidence, subject.vendorID, Subject.encoded(subject.incarnation), subject.nonce,
            HashAlgorithm.sha256.digest(try container().encoded(without: Self.unsigned)),
            HashAlgorithm.sha256.digest(sealingKey.bytes))
    }

    /// Reads evidence; nothing of it is believed yet.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        let container = try Container(decoding: bytes)
        try container.demand(.evidence, sections: Self.sections)
        subject = Subject(
            vendorID: try container.fixed(.vendorID, 32),
            pairwiseID: try container.fixed(.pairwiseID, 32),
            incarnation: try container.incarnation(), nonce: try container.fixed(.nonce, 32))
        epochCounter = try container.attestation(.epochCounterAttestation, .epochCounterSignature)
        ledgerCounter = try container.attestation(
            .ledgerCounterAttestation, .ledgerCounterSignature)
        let selection: PCRSelection = try container.structure(.pcrSelection)
        self.selection = selection
        var values = PCRValues()
        var reader = WireReader(try container.required(.quotedPCRValues))
        do throws(WireError) {
            for bank in selection.banks {
                for index in bank.indexes {
                    values[bank.hash, index] = try reader.bytes(bank.hash.digestSize)
                }
            }
            try reader.finish()
        } catch {
            throw .malformed(.quotedPCRValues)
        }
        self.values = values
        quote = try container.required(.quoteAttestation)
        quoteSignature = try container.required(.quoteSignature)
        // Two banks of one hash or the like: what is signed is what was received.
        guard try encoded() == bytes else { throw .malformed(.pcrSelection) }
    }
}

/// Proof that a device gave its enrollment up: its epoch counter above every lease.
///
/// A counter never goes down, so the proof needs no nonce and works by file.
///
/// docs/spec/formats.md, "Retirement".
public struct Retirement: Sendable, Hashable {
    public var vendorID: [UInt8]
    public var pairwiseID: [UInt8]
    public var incarnation: UInt32
    public var epochCounter: SignedAttestation

    private static let sections: Set<SectionType> = [
        .vendorID, .pairwiseID, .incarnation, .epochCounterAttestation, .epochCounterSignature,
    ]

    public init(
        vendorID: [UInt8], pairwiseID: [UInt8], incarnation: UInt32,
        epochCounter: SignedAttestation
    ) {
        self.vendorID = vendorID
        self.pairwiseID = pairwiseID
        self.incarnation = incarnation
        self.epochCounter = epochCounter
    }

    /// The qualifying data of the certification.
    public static func qualifyingData(vendorID: [UInt8], incarnation: UInt32) -> [UInt8] {
        framedHash(
            .evidence, vendorID, Evidence.Subject.encoded(incarnation), Array("retirement".utf8))
    }

    /// The document.
    public func encoded() throws(DocumentError) -> [UInt8] {
        try Container(
            .retirement,
            [
                (.vendorID, vendorID), (.pairwiseID, pairwiseID),
                (.incarnation, Evidence.Subject.encoded(incarnation)),
                (.epochCounterAttestation, epochCounter.attestation.bytes),
                (.epochCounterSignature, epochCounter.signature.bytes),
            ]
        ).encoded
    }

    /// Reads a retirement; the certification is not checked yet.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        let container = try Container(decoding: bytes)
        try container.demand(.retirement, sections: Self.sections)
        vendorID = try container.fixed(.vendorID, 32)
        pairwiseID = try container.fixed(.pairwiseID, 32)
        incarnation = try container.incarnation()
        epochCounter = try container.attestation(.epochCounterAttestation, .epochCounterSignature)
    }
}

extension Container {
    /// A section of exactly so many bytes.
    func fixed(_ type: SectionType, _ count: Int) throws(DocumentError) -> [UInt8] {
        let bytes = try required(type)
        guard bytes.count == count else { throw .malformed(type) }
        return bytes
    }

    func incarnation() throws(DocumentError) -> UInt32 {
        let bytes = try fixed(.incarnation, 4)
        let number = bytes.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard number > 0 else { throw .malformed(.incarnation) }
        return number
    }
}
