import HoldfastCrypto
import HoldfastTPMWire

/// Which files may have been measured, and which must have been.
///
/// What no rule allows is refused. docs/attestation-policy.md describes the file.
public struct IMAPolicy: Sendable, Hashable {
    /// What to do with something that no rule speaks of.
    enum Choice: String, Sendable, Decodable {
        case refuse, accept
    }

    /// SHA-256 over the file: a state that was made under other rules is not continued.
    public let fingerprint: [UInt8]
    /// By the name of a file or of a buffer: which of both an entry is of, no hash covers.
    private let allowed: [[UInt8]: Set<IMAEntry.Digest>]
    /// Paths that must have been measured, in their order.
    let required: [[UInt8]]
    let denied: Set<IMAEntry.Digest>
    let others: Choice
    let violations: Choice
    /// Registers that hold SHA-1 template hashes, behind which zeros stand.
    let sha1: Choice
    let bootAggregate: Aggregate

    /// Whether the kernel's own account of the boot must be borne out.
    enum Aggregate: String, Sendable, Decodable {
        case require, unchecked
    }

    /// How the file is written.
    private struct Source: Decodable {
        var version: Int
        var files: [String: [String]]?
        var buffers: [String: [String]]?
        var require: [String]?
        var deny: [String]?
        var others: Choice?
        var violations: Choice?
        var sha1: Choice?
        var bootAggregate: Aggregate?
    }

    private static let members: Set<String> = [
        "version", "files", "buffers", "require", "deny", "others", "violations", "sha1",
        "bootAggregate",
    ]

    /// The largest policy that is accepted, in bytes: an allow-list of a whole distribution.
    public static let maximumSize = 64 << 20

    /// Reads a policy.
    public init(_ bytes: [UInt8]) throws(PolicyFormatError) {
        let source = try StrictJSON.decode(
            Source.self, bytes, what: "the IMA policy", members: Self.members)
        guard source.version == 1 else {
            throw PolicyFormatError("the IMA policy is of version \(source.version), not 1")
        }
        fingerprint = HashAlgorithm.sha256.digest(bytes)
        let files = try Self.table(source.files ?? [:])
        let buffers = try Self.table(source.buffers ?? [:])
        if let twice = files.keys.first(where: { buffers[$0] != nil }) {
            throw PolicyFormatError(
                "the IMA policy has `\(printable(twice))` in `files` and in `buffers`, and a list does "
                    + "not prove which of both an entry is")
        }
        allowed = files.merging(buffers) { file, _ in file }
        required = (source.require ?? []).map { Array($0.utf8) }
        for (path, text) in zip(required, source.require ?? []) where files[path] == nil {
            throw PolicyFormatError(
                "the IMA policy requires `\(text)`, and `files` has no digest of it")
        }
        var denied: Set<IMAEntry.Digest> = []
        for text in source.deny ?? [] { denied.insert(try Self.digest(text)) }
        self.denied = denied
        others = source.others ?? .refuse
        violations = source.violations ?? .refuse
        sha1 = source.sha1 ?? .refuse
        bootAggregate = source.bootAggregate ?? .require
    }

    private static func table(
        _ source: [String: [String]]
    ) throws(PolicyFormatError) -> [[UInt8]: Set<IMAEntry.Digest>] {
        var table: [[UInt8]: Set<IMAEntry.Digest>] = [:]
        for (path, texts) in source {
            guard !texts.isEmpty else {
                throw PolicyFormatError("the IMA policy has no digest for `\(path)`")
            }
            var digests: Set<IMAEntry.Digest> = []
            for text in texts { digests.insert(try digest(text)) }
            table[Array(path.utf8)] = digests
        }
        return table
    }

    /// `sha256:0123…`, or `verity:sha256:0123…`.
    private static func digest(_ text: String) throws(PolicyFormatError) -> IMAEntry.Digest {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let isVerity = parts.count == 3 && parts[0] == "verity"
        guard isVerity || parts.count == 2,
            let hash = HashAlgorithm.allCases.first(where: { $0.name == parts[parts.count - 2] }),
            let bytes = bytes(hexadecimal: parts[parts.count - 1]), bytes.count == hash.digestSize
        else {
            throw PolicyFormatError(
                "the IMA policy has `\(text)`; a digest is like sha256:0123… or "
                    + "verity:sha256:0123…")
        }
        guard hash != .sha1 else {
            throw PolicyFormatError(
                "the IMA policy has a SHA-1 digest, which two files can share; boot with "
                    + "`ima_hash=sha256` and list that digest")
        }
        return IMAEntry.Digest(
            kind: isVerity ? "verity" : "ima", algorithm: hash.name, bytes: bytes)
    }

    /// Nothing that the rules do not name passes them, and the list belongs to the quoted boot.
    var isClosed: Bool {
        others == .refuse && violations == .refuse && sha1 == .refuse && bootAggregate == .require
    }

    /// What the rules say of an entry.
    ///
    /// - Returns: why it is refused; `nil` when it is allowed.
    func refusal(of entry: IMAEntry) -> String? {
        if denied.contains(entry.digest) {
            return "`\(entry.printableName)` is denied: \(entry.digest.text)"
        }
        if let known = allowed[entry.name] {
            guard !known.contains(entry.digest) else { return nil }
            return "`\(entry.printableName)` is another than the policy has: \(entry.digest.text)"
        }
        guard others == .refuse else { return nil }
        return "`\(entry.printableName)` is in no rule: \(entry.digest.text)"
    }
}
