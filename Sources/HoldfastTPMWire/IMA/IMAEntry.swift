public import HoldfastCrypto

/// One entry of a list of the Integrity Measurement Architecture (IMA): what the kernel says it
/// measured.
///
/// It is believed only when the list replays to a quoted PCR.
public struct IMAEntry: Sendable, Hashable {
    /// A digest with its algorithm, as an entry and as a policy have it.
    public struct Digest: Sendable, Hashable {
        /// What the digest is of: `ima` for the content, `verity` for the root of a tree over it.
        public let kind: String
        /// The kernel's name, for example `sha256`; empty when the kernel knew none.
        public let algorithm: String
        /// The digest; zeros in a violation.
        public let bytes: [UInt8]

        /// Puts a digest together.
        public init(kind: String, algorithm: String, bytes: [UInt8]) {
            self.kind = kind
            self.algorithm = algorithm
            self.bytes = bytes
        }

        /// As policies have it: `sha256:0123…`, and `verity:sha256:0123…`.
        public var text: String {
            (kind == "ima" ? "" : kind + ":") + algorithm + ":" + hexadecimal(bytes)
        }
    }

    /// The register that the entry extends, 10 unless a policy of the kernel says otherwise.
    public let pcr: UInt32
    /// The hash over the template's data as the list states it; zeros in a violation.
    public let loggedDigest: [UInt8]
    /// The template, for example `ima-ng`; no hash covers it, so nothing may hang on it.
    public let template: String
    /// The name of the file, or of what else was measured: any bytes but zeros.
    public let name: [UInt8]
    /// The digest of the file, or of a buffer.
    public let digest: Digest
    /// What the kernel hashes.
    let hashed: [UInt8]

    /// The kernel could not measure: somebody wrote to the file while it was being read.
    ///
    /// A violation extends ones, so nothing proves what its entry says of file and digest.
    public var isViolation: Bool { loggedDigest.allSatisfy { $0 == 0 } }

    /// The template hash in a bank, computed from what the entry says.
    public func templateDigest(_ bank: HashAlgorithm) -> [UInt8] { bank.digest(hashed) }

    /// The name for a terminal: what is not printable ASCII is written as `\xNN`.
    public var printableName: String { printable(name) }
}

/// Text that no terminal takes for commands: what is not printable ASCII is written as `\xNN`.
package func printable(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    for byte in bytes {
        if byte == 0x5C {
            text += "\\\\"
        } else if (0x20...0x7E).contains(byte) {
            text.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            text += "\\x" + hexadecimal([byte])
        }
    }
    return text
}

extension IMAEntry {
    /// Reads the fields of an entry.
    ///
    /// - Parameters:
    ///   - number: for the error.
    ///   - contents: of the fields, as many as the template has.
    ///   - hashed: what the kernel hashes.
    init(
        number: Int, pcr: UInt32, loggedDigest: [UInt8], template: String, form: IMATemplate,
        contents: [[UInt8]], hashed: [UInt8]
    ) throws(IMAError) {
        var digest: Digest?
        var name: [UInt8]?
        for (field, content) in zip(form.fields, contents) {
            switch field {
            case .digest:
                guard content.count == 20 else {
                    throw .malformed(entry: number, reason: "its digest is not 20 bytes long")
                }
                digest = Digest(kind: "ima", algorithm: "sha1", bytes: content)
            case .digestNG, .digestNGv2:
                guard let read = Self.digest(content, hasKind: field == .digestNGv2) else {
                    throw .malformed(entry: number, reason: "its digest cannot be read")
                }
                digest = read
            case .name, .nameNG:
                var text = content
                if field == .nameNG, text.popLast() != 0 {
                    throw .malformed(entry: number, reason: "its name does not end with zero")
                }
                guard !text.contains(0), field == .nameNG || text.count <= 255 else {
                    throw .malformed(entry: number, reason: "its name cannot be one")
                }
                name = text
            default: break
            }
        }
        guard let digest, let name else {
            throw .malformed(entry: number, reason: "its template has no digest or no name")
        }
        self.pcr = pcr
        self.loggedDigest = loggedDigest
        self.template = template
        self.name = name
        self.digest = digest
        self.hashed = hashed
    }

    /// `sha256:`, zero, digest; with a kind `ima:sha256:`, zero, digest.
    private static func digest(_ content: [UInt8], hasKind: Bool) -> Digest? {
        guard let zero = content.prefix(64).firstIndex(of: 0), zero > 0, content[zero - 1] == 0x3A
        else { return nil }
        let parts = content[..<(zero - 1)].split(
            separator: 0x3A, omittingEmptySubsequences: false)
        guard parts.count == (hasKind ? 2 : 1),
            parts.joined().allSatisfy({
                (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D
            })
        else { return nil }
        let texts = parts.map { String(decoding: $0, as: UTF8.self) }
        let algorithm = texts[texts.count - 1]
        let bytes = [UInt8](content[(zero + 1)...])
        let known = HashAlgorithm.allCases.first { $0.name == algorithm }
        guard bytes.count <= 64, known == nil || bytes.count == known?.digestSize else {
            return nil
        }
        return Digest(kind: hasKind ? texts[0] : "ima", algorithm: algorithm, bytes: bytes)
    }
}
