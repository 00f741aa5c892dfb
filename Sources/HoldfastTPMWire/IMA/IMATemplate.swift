/// How an entry of a measurement list is put together.
///
/// Linux, Documentation/security/IMA-templates.rst and security/integrity/ima/ima_template.c.
struct IMATemplate: Sendable, Hashable {
    /// One field of a template.
    enum Field: String, Sendable {
        /// A SHA-1 or MD5 digest, 20 bytes.
        case digest = "d"
        /// A name, at most 255 bytes.
        case name = "n"
        /// A digest behind its algorithm: `sha256:` and a zero byte.
        case digestNG = "d-ng"
        /// The same behind what it is of: `ima:` or `verity:`.
        case digestNGv2 = "d-ngv2"
        /// A name that ends with a zero byte.
        case nameNG = "n-ng"
        case signature = "sig"
        case buffer = "buf"
        case moduleDigest = "d-modsig"
        case moduleSignature = "modsig"
        case evmSignature = "evmsig"
        case owner = "iuid"
        case group = "igid"
        case mode = "imode"
        case attributeNames = "xattrnames"
        case attributeLengths = "xattrlengths"
        case attributeValues = "xattrvalues"

        /// The ASCII form has every byte of the field.
        var isWholeInASCII: Bool {
            switch self {
            case .digest, .name, .digestNG, .digestNGv2, .nameNG, .signature, .buffer,
                .moduleDigest, .moduleSignature, .evmSignature:
                true
            case .owner, .group, .mode, .attributeNames, .attributeLengths, .attributeValues: false
            }
        }
    }

    let fields: [Field]
    /// `ima`, the first template: no lengths, and a name that is padded when it is hashed.
    let isOriginal: Bool

    /// The longest name, in bytes: that of a format of the administrator's own.
    static let maximumName = 255

    private static let known: [String: String] = [
        "ima": "d|n", "ima-ng": "d-ng|n-ng", "ima-sig": "d-ng|n-ng|sig",
        "ima-ngv2": "d-ngv2|n-ng", "ima-sigv2": "d-ngv2|n-ng|sig", "ima-buf": "d-ng|n-ng|buf",
        "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
        "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    ]

    /// A template by its name; one that `ima_template_fmt=` sets has its format for a name.
    ///
    /// The template is not hashed: whoever hands out the list chooses it. So digest and name come first,
    /// and once, or an entry could be read with what its signature field holds for a name.
    init?(_ name: String) {
        let format = Self.known[name] ?? name
        var fields: [Field] = []
        for id in format.split(separator: "|", omittingEmptySubsequences: false) {
            guard let field = Field(rawValue: String(id)), fields.count < 15 else { return nil }
            fields.append(field)
        }
        let digests: [Field] = [.digest, .digestNG, .digestNGv2]
        let names: [Field] = [.name, .nameNG]
        guard fields.count >= 2,
            fields[0] == .digest
                ? fields[1] == .name : digests.contains(fields[0]) && fields[1] == .nameNG,
            !fields.dropFirst(2).contains(where: { digests.contains($0) || names.contains($0) })
        else { return nil }
        self.fields = fields
        isOriginal = name == "ima"
    }
}
