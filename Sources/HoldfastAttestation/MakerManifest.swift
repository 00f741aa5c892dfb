import FoundationEssentials
import HoldfastCrypto
import HoldfastTPMWire

/// Where the certificates of TPM makers come from, and which ones they are.
///
/// A file `manifest.json` beside them, so that a certificate which somebody drops into the directory is
/// not trusted for being there. docs/attestation-policy.md describes it.
public struct MakerManifest: Sendable, Hashable {
    /// One certificate.
    public struct Entry: Sendable, Hashable {
        /// For people, for example the maker's name and which authority it is.
        public let name: String
        /// Where it was taken from.
        public let source: String
        /// SHA-256 of the certificate in DER.
        public let fingerprint: [UInt8]
    }

    /// The name of the file.
    public static let fileName = "manifest.json"
    /// The largest file, in bytes.
    public static let maximumSize = 1 << 20

    /// By fingerprint, each once.
    public let entries: [Entry]

    private struct Source: Codable {
        struct Certificate: Codable {
            var name: String
            var source: String
            var sha256: String
        }
        var version: Int
        var certificates: [Certificate]
    }

    /// Reads a manifest.
    public init(_ bytes: [UInt8]) throws(PolicyFormatError) {
        let what = "the manifest"
        let source = try StrictJSON.decode(
            Source.self, bytes, what: what, members: ["version", "certificates"])
        guard source.version == 1 else {
            throw PolicyFormatError("\(what) is of version \(source.version), not 1")
        }
        var entries: [Entry] = []
        for one in source.certificates {
            guard let fingerprint = HoldfastTPMWire.bytes(hexadecimal: one.sha256),
                fingerprint.count == 32
            else {
                throw PolicyFormatError("\(what) has a `sha256` that is not 64 hexadecimal digits")
            }
            guard !one.name.isEmpty, !one.source.isEmpty else {
                throw PolicyFormatError("\(what) has a certificate without `name` or `source`")
            }
            guard !entries.contains(where: { $0.fingerprint == fingerprint }) else {
                throw PolicyFormatError("\(what) has \(one.sha256) twice")
            }
            entries.append(Entry(name: one.name, source: one.source, fingerprint: fingerprint))
        }
        self.entries = entries
    }

    private init(entries: [Entry]) { self.entries = entries }

    /// What either of two manifests names; of what both name, the words of the other.
    public func merging(_ other: MakerManifest) -> MakerManifest {
        let theirs = Set(other.entries.map(\.fingerprint))
        return MakerManifest(
            entries: entries.filter { !theirs.contains($0.fingerprint) } + other.entries)
    }

    /// The file.
    public func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        let source = Source(
            version: 1,
            certificates: entries.map {
                .init(name: $0.name, source: $0.source, sha256: hexadecimal($0.fingerprint))
            })
        return [UInt8](try encoder.encode(source)) + [0x0A]
    }

    /// Refuses certificates that the manifest does not name.
    ///
    /// - Parameter files: each with one certificate in DER or any number in PEM; what cannot be read
    ///   is trusted by nobody, and passed over.
    /// - Throws: ``EndorsementError/notPinned(_:)`` with the fingerprint.
    public func demand(_ files: [[UInt8]]) throws(EndorsementError) {
        let pinned = Set(entries.map(\.fingerprint))
        for file in files {
            for certificate in ReadCertificate.all(in: file) ?? [] {
                let fingerprint = HashAlgorithm.sha256.digest(certificate.loose.bytes)
                guard pinned.contains(fingerprint) else {
                    throw .notPinned(hexadecimal(fingerprint))
                }
            }
        }
    }
}

extension EndorsementPathVerifier {
    /// Splits what stands in NV indexes of a chain: certificates in DER, one behind the other, and
    /// padding.
    ///
    /// Intel's processors of the 11th generation and later certify their TPM's key themselves, and
    /// hold the authorities in between in 0x01C00100 to 0x01C001FF.
    ///
    /// TCG EK Credential Profile 2.5, section 2.2.1.5.
    public static func certificates(inChain bytes: [UInt8]) -> [[UInt8]] {
        var found: [[UInt8]] = []
        var start = 0
        while start + 4 <= bytes.count, found.count < maximumChain {
            // A sequence with a length of two octets, as every certificate has.
            guard bytes[start] == 0x30, bytes[start + 1] == 0x82 else { break }
            let size = 4 + Int(bytes[start + 2]) << 8 + Int(bytes[start + 3])
            guard start + size <= bytes.count else { break }
            found.append(Array(bytes[start..<start + size]))
            start += size
        }
        return found
    }

    /// The most authorities that a device may bring.
    static let maximumChain = 8
}
