import HoldfastCrypto
public import HoldfastTPMWire

/// A file with evidence that is not of any form that is known.
public struct EvidenceFormatError: Error, Sendable, Hashable {
    /// What the file should have been.
    public let expected: String

    /// Says what the file should have been.
    public init(expected: String) { self.expected = expected }
}

/// The formats in which `tpm2-tools` write evidence.
public enum EvidenceFiles {
    /// Reads a key: `TPM2B_PUBLIC`, `TPMT_PUBLIC`, or PEM.
    public static func key(_ bytes: [UInt8]) throws(EvidenceFormatError) -> QuoteKey {
        if let area = try? PublicArea(wireBytes: bytes) { return .publicArea(area) }
        if let inner = sized(bytes), let area = try? PublicArea(wireBytes: inner) {
            return .publicArea(area)
        }
        let text = String(decoding: bytes, as: UTF8.self)
        if let key = try? ECPublicKey(pem: text) { return .bare(key) }
        if let key = try? RSAPublicKey(pem: text) { return .bare(key) }
        throw EvidenceFormatError(
            expected: "a key on P-256 or P-384, or an RSA key, as TPM2B_PUBLIC, TPMT_PUBLIC or PEM")
    }

    /// Reads `TPMS_ATTEST`, also when it is wrapped as `TPM2B_ATTEST`; the bytes are not changed.
    public static func attestation(_ bytes: [UInt8]) -> [UInt8] {
        var reader = WireReader(bytes)
        if let magic = try? reader.uint32(), magic == Attestation.magic { return bytes }
        return sized(bytes) ?? bytes
    }

    /// The version of the TPM's firmware in a quote that nobody has verified.
    public static func firmwareVersion(
        _ bytes: [UInt8]
    ) throws(EvidenceFormatError) -> UInt64 {
        guard let quote = try? Attestation(wireBytes: attestation(bytes)),
            case .quote = quote.attested
        else { throw EvidenceFormatError(expected: "a quote, as TPMS_ATTEST or TPM2B_ATTEST") }
        return quote.firmwareVersion
    }

    private static func sized(_ bytes: [UInt8]) -> [UInt8]? {
        var reader = WireReader(bytes)
        guard let inner = try? reader.sized("TPM2B", maximum: 4096), reader.remaining == 0 else {
            return nil
        }
        return inner
    }

    /// Reads PCR values: YAML of `tpm2_pcrread`, or the binary of `tpm2_quote -o`.
    ///
    /// - Parameter selection: what was asked for. `tpm2_quote -F values` writes digests one after
    ///   the other and not of which PCRs they are; that they are of these, the quote shows.
    public static func pcrValues(
        _ bytes: [UInt8], of selection: PCRSelection
    ) throws(EvidenceFormatError) -> PCRValues {
        do throws(EvidenceFormatError) {
            return try pcrValues(bytes)
        } catch {
            guard let values = bareValues(bytes, selection) else { throw error }
            return values
        }
    }

    /// Digests in the order of a selection, and nothing else.
    private static func bareValues(_ bytes: [UInt8], _ selection: PCRSelection) -> PCRValues? {
        var reader = WireReader(bytes)
        var values = PCRValues()
        for bank in selection.banks {
            for index in bank.indexes {
                guard let value = try? reader.bytes(bank.hash.digestSize) else { return nil }
                values[bank.hash, index] = value
            }
        }
        return reader.remaining == 0 && !bytes.isEmpty ? values : nil
    }

    /// Reads PCR values that say themselves of which PCRs they are.
    public static func pcrValues(_ bytes: [UInt8]) throws(EvidenceFormatError) -> PCRValues {
        if let values = serializedValues(bytes) { return values }
        if let text = String(validating: bytes, as: UTF8.self), let values = yamlValues(text) {
            return values
        }
        throw EvidenceFormatError(
            expected: "PCR values as `tpm2_pcrread` prints them or `tpm2_quote -o` writes them")
    }

    /// `sha256:` followed by lines `  7 : 0xABC…`.
    private static func yamlValues(_ text: String) -> PCRValues? {
        var values = PCRValues()
        var bank: HashAlgorithm?
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split { $0 == " " || $0 == ":" || $0 == "\t" }
            switch words.count {
            case 0: continue
            case 1:
                guard let hash = HashAlgorithm.allCases.first(where: { $0.name == words[0] })
                else { return nil }
                bank = hash
            case 2:
                guard let bank, let number = UInt8(words[0]),
                    let index = PCRIndex(rawValue: number), words[1].hasPrefix("0x"),
                    let value = bytes(hexadecimal: String(words[1].dropFirst(2))),
                    value.count == bank.digestSize, values[bank, index] == nil
                else { return nil }
                values[bank, index] = value
            default: return nil
            }
        }
        return values.values.isEmpty ? nil : values
    }

    /// The structures of the C library, little-endian: TPML_PCR_SELECTION with 16 places, a count,
    /// and as many TPML_DIGEST with 8 places.
    private static func serializedValues(_ bytes: [UInt8]) -> PCRValues? {
        func number(_ offset: Int, _ size: Int) -> Int? {
            guard offset + size <= bytes.count else { return nil }
            return bytes[offset..<offset + size].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        guard let banks = number(0, 4), banks <= 16, let lists = number(132, 4), lists <= 64,
            bytes.count == 136 + lists * 532
        else { return nil }
        var digests: [[UInt8]] = []
        for list in 0..<lists {
            let start = 136 + list * 532
            guard let count = number(start, 4), count <= 8 else { return nil }
            for place in 0..<count {
                let offset = start + 4 + place * 66
                guard let size = number(offset, 2), size <= 64 else { return nil }
                digests.append([UInt8](bytes[offset + 2..<offset + 2 + size]))
            }
        }
        var values = PCRValues()
        var next = 0
        for bank in 0..<banks {
            let offset = 4 + bank * 8
            guard let id = number(offset, 2),
                let hash = AlgorithmID(rawValue: UInt16(id)).hash, let size = number(offset + 2, 1),
                size <= 4
            else { return nil }
            for index in PCRIndex.all where Int(index.rawValue / 8) < size {
                guard bytes[offset + 3 + Int(index.rawValue / 8)] >> (index.rawValue % 8) & 1 == 1
                else { continue }
                guard next < digests.count, digests[next].count == hash.digestSize,
                    values[hash, index] == nil
                else { return nil }
                values[hash, index] = digests[next]
                next += 1
            }
        }
        return next == digests.count && next > 0 ? values : nil
    }
}

extension Attestation {
    /// The version of the TPM's firmware, 16 digits in hexadecimal.
    package var firmwareText: String { AppraisalPolicyFile.text(ofVersion: firmwareVersion) }

    /// What the TPM says of itself, a line for each fact.
    package var factsText: String {
        let clock = clockInfo
        return "clock         \(clock.clock) ms, \(clock.resetCount) resets, "
            + "\(clock.restartCount) restarts" + (clock.safe ? "\n" : ", not safe\n")
            + "firmware      \(firmwareText)\n"
    }
}
