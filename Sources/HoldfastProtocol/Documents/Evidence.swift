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

        /// The qualifying data of the certifications of the epoch counter and of the ledger key.
        public var counterData: [UInt8] {
            framedHash(.evidence, vendorID, Self.encoded(incarnation), nonce)
        }

        fileprivate static func encoded(_ number: UInt32) -> [UInt8] {
            var writer = WireWriter(capacity: 4)
            writer.uint32(number)
            return writer.bytes
        }
    }

    /// The ledger beside the quote: its head, and what leads there.
    public struct Ledger: Sendable, Hashable {
        /// The head, as it was hashed for the certification of the ledger counter.
        public var checkpoint: Checkpoint
        /// From every head that the server may know, to this one.
        public var consistency: [LedgerConsistency]
        /// Of the present era.
        public var genesis: LedgerGenesis
        /// What the numbers of the meters stand for; the device's word.
        public var meters: [UInt32: String]
        /// The key that signs checkpoints, with its certification; `nil` without an approval for
        /// it.
        public var key: PublicArea?
        public var keyCertification: SignedAttestation?

        public init(
            checkpoint: Checkpoint, consistency: [LedgerConsistency], genesis: LedgerGenesis,
            meters: [UInt32: String], key: PublicArea?, keyCertification: SignedAttestation?
        ) {
            self.checkpoint = checkpoint
            self.consistency = consistency
            self.genesis = genesis
            self.meters = meters
            self.key = key
            self.keyCertification = keyCertification
        }

        fileprivate var parts: [(type: SectionType, bytes: [UInt8])] {
            var names = WireWriter(capacity: 256)
            names.uint16(UInt16(meters.count))
            for (number, name) in meters.sorted(by: { $0.key < $1.key }) {
                names.uint32(number)
                names.sized(Array(name.utf8))
            }
            var parts: [(type: SectionType, bytes: [UInt8])] = [
                (.checkpoint, checkpoint.encoded), (.genesis, genesis.encoded),
                (.meterNames, names.bytes),
            ]
            parts += consistency.map { (.consistency, $0.encoded) }
            if let key, let keyCertification {
                parts += [
                    (.ledgerKey, key.wireBytes),
                    (.ledgerKeyAttestation, keyCertification.attestation.bytes),
                    (.ledgerKeySignature, keyCertification.signature.bytes),
                ]
            }
            return parts
        }

        fileprivate init(_ container: Container) throws(DocumentError) {
            do throws(WireError) {
                checkpoint = try Checkpoint(decoding: container[.checkpoint] ?? [])
            } catch { throw .malformed(.checkpoint) }
            do throws(WireError) {
                genesis = try LedgerGenesis(decoding: container[.genesis] ?? [])
            } catch { throw .malformed(.genesis) }
            do throws(WireError) {
                consistency = try container.all(.consistency).map { (bytes) throws(WireError) in
                    try LedgerConsistency(decoding: bytes)
                }
            } catch { throw .malformed(.consistency) }
            meters = [:]
            var reader = WireReader(try container.required(.meterNames))
            do throws(WireError) {
                for _ in 0..<(try reader.uint16()) {
                    let number = try reader.uint32()
                    let name = try reader.sized("name", maximum: 64)
                    guard let text = String(validating: name, as: UTF8.self),
                        meters.updateValue(text, forKey: number) == nil
                    else { throw WireError.unknownValue(field: "name", value: UInt64(number)) }
                }
                try reader.finish()
            } catch { throw .malformed(.meterNames) }
            guard container[.ledgerKey] != nil else { return }
            key = try container.structure(.ledgerKey)
            keyCertification = try container.attestation(.ledgerKeyAttestation, .ledgerKeySignature)
        }
    }

    public var subject: Subject
    /// What the vendor signed, for a server that lost it.
    public var recollection: Recollection?
    /// The sequence of the trust statement that the device has; `nil` from one that takes no newer one
    /// from a reply.
    public var trustSequence: UInt64?
    public var epochCounter: SignedAttestation
    /// Over the hash of the checkpoint.
    public var ledgerCounter: SignedAttestation
    public var ledger: Ledger
    /// Of the boot, without the data that no policy asks for; when one was demanded.
    public var eventLog: [UInt8]?
    /// Of the running system; when it was demanded.
    public var measurementList: MeasurementList?
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
        .quotedPCRValues, .quoteAttestation, .quoteSignature, .checkpoint, .consistency, .genesis,
        .meterNames, .ledgerKey, .ledgerKeyAttestation, .ledgerKeySignature, .recollection,
        .eventLog, .measurementList, .trustSequence,
    ]

    public init(
        subject: Subject, recollection: Recollection? = nil, trustSequence: UInt64? = nil,
        epochCounter: SignedAttestation, ledgerCounter: SignedAttestation,
        ledger: Ledger, selection: PCRSelection, values: PCRValues, quote: [UInt8] = [],
        quoteSignature: [UInt8] = []
    ) {
        self.subject = subject
        self.recollection = recollection
        self.trustSequence = trustSequence
        self.epochCounter = epochCounter
        self.ledgerCounter = ledgerCounter
        self.ledger = ledger
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
        var parts = ledger.parts
        if let recollection { parts.append((.recollection, try recollection.encoded())) }
        parts += TrustStatement.parts(sequence: trustSequence)
        if let eventLog { parts.append((.eventLog, eventLog)) }
        if let measurementList { parts.append((.measurementList, measurementList.section)) }
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
            ] + parts)
    }

    /// The document.
    public func encoded() throws(DocumentError) -> [UInt8] { try container().encoded }

    /// Every section with its type, in the document's order.
    public func parts() throws(DocumentError) -> [(type: SectionType, bytes: [UInt8])] {
        try container().contents
    }

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
        if let bytes = container[.recollection] { recollection = try Recollection(decoding: bytes) }
        trustSequence = try container.trustSequence()
        eventLog = container[.eventLog]
        if let section = container[.measurementList] {
            measurementList = try MeasurementList(section: section)
        }
        epochCounter = try container.attestation(.epochCounterAttestation, .epochCounterSignature)
        ledgerCounter = try container.attestation(
            .ledgerCounterAttestation, .ledgerCounterSignature)
        ledger = try Ledger(container)
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
    /// That no session which was satisfied before can still unseal.
    public var eviction: Eviction?

    /// PCR 15 was extended with the certification, which ends every policy session of this boot, and
    /// was quoted then.
    public struct Eviction: Sendable, Hashable {
        /// P: the value before; others use the register as well.
        public var previous: [UInt8]
        /// `TPMS_ATTEST` and `TPMT_SIGNATURE` of a quote over PCR 15.
        public var quote: [UInt8]
        public var quoteSignature: [UInt8]

        public init(previous: [UInt8], quote: [UInt8], quoteSignature: [UInt8]) {
            self.previous = previous
            self.quote = quote
            self.quoteSignature = quoteSignature
        }

        /// The value that PCR 15 must have: SHA-256(P, SHA-256(certification)).
        public func expected(after certification: SignedAttestation) -> [UInt8] {
            HashAlgorithm.sha256.digest(
                previous, HashAlgorithm.sha256.digest(certification.attestation.bytes))
        }

        /// What the quote has as extraData: SHA-256 of the certification.
        public static func nonce(_ certification: SignedAttestation) -> [UInt8] {
            HashAlgorithm.sha256.digest(certification.attestation.bytes)
        }
    }

    private static let sections: Set<SectionType> = [
        .vendorID, .pairwiseID, .incarnation, .epochCounterAttestation, .epochCounterSignature,
        .previousPCR, .quoteAttestation, .quoteSignature,
    ]

    public init(
        vendorID: [UInt8], pairwiseID: [UInt8], incarnation: UInt32,
        epochCounter: SignedAttestation, eviction: Eviction?
    ) {
        self.vendorID = vendorID
        self.pairwiseID = pairwiseID
        self.incarnation = incarnation
        self.epochCounter = epochCounter
        self.eviction = eviction
    }

    /// The qualifying data of the certification.
    public static func qualifyingData(vendorID: [UInt8], incarnation: UInt32) -> [UInt8] {
        framedHash(
            .evidence, vendorID, Evidence.Subject.encoded(incarnation), Array("retirement".utf8))
    }

    /// The document.
    public func encoded() throws(DocumentError) -> [UInt8] {
        var parts: [(type: SectionType, bytes: [UInt8])] = [
            (.vendorID, vendorID), (.pairwiseID, pairwiseID),
            (.incarnation, Evidence.Subject.encoded(incarnation)),
            (.epochCounterAttestation, epochCounter.attestation.bytes),
            (.epochCounterSignature, epochCounter.signature.bytes),
        ]
        if let eviction {
            parts += [
                (.previousPCR, eviction.previous), (.quoteAttestation, eviction.quote),
                (.quoteSignature, eviction.quoteSignature),
            ]
        }
        return try Container(.retirement, parts).encoded
    }

    /// Reads a retirement; nothing in it is checked yet.
    public init(decoding bytes: [UInt8]) throws(DocumentError) {
        let container = try Container(decoding: bytes)
        try container.demand(.retirement, sections: Self.sections)
        vendorID = try container.fixed(.vendorID, 32)
        pairwiseID = try container.fixed(.pairwiseID, 32)
        incarnation = try container.incarnation()
        epochCounter = try container.attestation(.epochCounterAttestation, .epochCounterSignature)
        guard container.contents.count > 5 else { return }
        eviction = Eviction(
            previous: try container.fixed(.previousPCR, 32),
            quote: try container.required(.quoteAttestation),
            quoteSignature: try container.required(.quoteSignature))
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
