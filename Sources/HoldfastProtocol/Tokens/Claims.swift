public import HoldfastCrypto
public import HoldfastErrors
public import HoldfastTPMWire

/// Which document a signed token is; the claim `kind`, checked before any other.
///
/// docs/spec/formats.md, "Tokens".
public enum TokenKind: String, Sendable, Hashable, CaseIterable {
    case trust
    case deviceStatement = "device"
    case terms
    /// That a license goes on under newer terms.
    case termsMigration = "migration"
    case license
    /// For machines without a TPM.
    case testLicense = "test-license"
    case leaseStatement = "lease"
    /// What an opened lease holds; encrypted, not signed.
    case leaseRights = "rights"
    case reply
    case receipt
    /// What a verifier demands of a model of machines.
    case appraisalPolicy = "policy"
}

/// Why a signed document is refused.
public enum TokenError: Error, Sendable, Hashable {
    /// The signature, the footer or the form of the token is not right.
    case notAuthentic(CryptoError)
    /// The payload is not the one encoding of an object.
    case notCanonical
    /// Another kind of document.
    case wrongKind(String)
    /// A claim that this kind of document needs.
    case missing(String)
    /// A claim of the wrong type or out of its range.
    case malformed(String)
    /// A claim of a policy about registers that the policy does not have quoted.
    case unquoted(String)
    /// A claim that no document of this kind has; only names that begin with `x-` are passed over.
    case unknown(String)
    /// Signed by a key that does not count here.
    case foreignKey
    /// For another device, or another enrollment of this one.
    case otherDevice
    /// Older than what was accepted before.
    case superseded
}

extension TokenError: OperatorError {
    public var explanation: String {
        switch self {
        case .notAuthentic: "the document's signature is not valid"
        case .notCanonical: "the document's claims are not in their one form"
        case .wrongKind(let kind): "a document of kind `\(kind)` is not what belongs here"
        case .missing(let claim): "the document lacks the claim `\(claim)`"
        case .malformed(let claim): "the claim `\(claim)` is not what it should be"
        case .unquoted(let claim):
            "`\(claim)` needs registers that are neither in `references` nor in `unchecked`"
        case .unknown(let claim): "the document has the unknown claim `\(claim)`"
        case .foreignKey: "the document is signed by a key that does not count here"
        case .otherDevice: "the document is for another device or another enrollment of this one"
        case .superseded: "the document is older than the one that is in force"
        }
    }
    public var remedy: String? {
        switch self {
        case .unknown: "update Holdfast: the document may be of a newer version"
        case .foreignKey:
            "check that the file comes from the vendor of this license; when the vendor's keys changed, take his newest trust file: `holdfast trust install FILE`"
        case .otherDevice: "use the file that the vendor made for this device"
        case .superseded: "ask the vendor for the present document"
        default: "copy the file again, or have it made again"
        }
    }
    public var stableCode: String {
        switch self {
        case .notAuthentic, .foreignKey: "SIGNATURE_INVALID"
        case .otherDevice: "DEVICE_MISMATCH"
        case .superseded: "DOCUMENT_SUPERSEDED"
        default: "DOCUMENT_INVALID"
        }
    }
    public var exitStatus: ExitStatus { .refused }
}

/// The claims of a token while they are read: each is taken once, and what is left is refused.
///
/// Binary values are base64url without padding. Times are whole numbers.
public struct ClaimsReader {
    private var members: [String: CanonicalJSON]

    /// - Parameter payload: of a token whose signature was verified, or is about to be.
    public init(_ payload: [UInt8], kind: TokenKind) throws(TokenError) {
        let value: CanonicalJSON
        do throws(CanonicalJSON.NotCanonical) {
            value = try CanonicalJSON(decoding: payload)
        } catch {
            throw .notCanonical
        }
        guard case .object(let members) = value else { throw .notCanonical }
        self.members = members
        let found = try text("kind", maximum: 32)
        guard found == kind.rawValue else { throw .wrongKind(found) }
    }

    init(object: CanonicalJSON, of claim: String) throws(TokenError) {
        guard case .object(let members) = object else { throw .malformed(claim) }
        self.members = members
    }

    /// One element of a list, read as if it were a claim.
    init(single value: CanonicalJSON, name: String) { members = [name: value] }

    private mutating func take(_ name: String) throws(TokenError) -> CanonicalJSON {
        guard let value = members.removeValue(forKey: name) else { throw .missing(name) }
        return value
    }

    /// Takes a text of 1 to `maximum` bytes.
    public mutating func text(_ name: String, maximum: Int) throws(TokenError) -> String {
        guard case .string(let text) = try take(name), (1...maximum).contains(text.utf8.count)
        else { throw .malformed(name) }
        return text
    }

    /// Takes a whole number in a range.
    public mutating func number(
        _ name: String, in range: ClosedRange<UInt64>
    ) throws(TokenError) -> UInt64 {
        guard case .number(let value) = try take(name), range.contains(value) else {
            throw .malformed(name)
        }
        return value
    }

    /// Takes a whole number that may be missing.
    public mutating func optionalNumber(
        _ name: String, in range: ClosedRange<UInt64>
    ) throws(TokenError) -> UInt64? {
        members[name] == nil ? nil : try number(name, in: range)
    }

    /// Takes a truth value.
    public mutating func flag(_ name: String) throws(TokenError) -> Bool {
        guard case .bool(let value) = try take(name) else { throw .malformed(name) }
        return value
    }

    /// Takes the members of an object.
    public mutating func object(_ name: String) throws(TokenError) -> [String: CanonicalJSON] {
        guard case .object(let members) = try take(name) else { throw .malformed(name) }
        return members
    }

    /// Whether a claim is there that was not taken yet.
    func has(_ name: String) -> Bool { members[name] != nil }

    /// Takes the members of an object that may be missing.
    public mutating func optionalObject(
        _ name: String
    ) throws(TokenError) -> [String: CanonicalJSON]? {
        has(name) ? try object(name) : nil
    }

    /// Takes an object that may be missing, to be read claim by claim.
    mutating func optionalReader(_ name: String) throws(TokenError) -> ClaimsReader? {
        try members.removeValue(forKey: name).map { (value) throws(TokenError) in
            try ClaimsReader(object: value, of: name)
        }
    }

    /// Takes bytes of an exact length.
    public mutating func bytes(_ name: String, count: Int) throws(TokenError) -> [UInt8] {
        guard case .string(let text) = try take(name) else { throw .malformed(name) }
        return try Self.bytes(text, name, count)
    }

    /// Takes bytes of a length in a range.
    public mutating func bytes(
        _ name: String, counts: ClosedRange<Int>
    ) throws(TokenError) -> [UInt8] {
        guard case .string(let text) = try take(name) else { throw .malformed(name) }
        let bytes: [UInt8]
        do throws(CryptoError) { bytes = try Base64URL.decode(text) } catch {
            throw .malformed(name)
        }
        guard counts.contains(bytes.count) else { throw .malformed(name) }
        return bytes
    }

    /// Takes a TPM structure in its one encoding.
    public mutating func structure<T: WireStructure>(_ name: String) throws(TokenError) -> T {
        guard case .string(let text) = try take(name) else { throw .malformed(name) }
        let bytes: [UInt8]
        do throws(CryptoError) { bytes = try Base64URL.decode(text) } catch {
            throw .malformed(name)
        }
        guard let value = try? T(wireBytes: bytes), value.wireBytes == bytes else {
            throw .malformed(name)
        }
        return value
    }

    /// Takes a list.
    ///
    /// - Parameter counts: how many elements there may be.
    public mutating func list<T>(
        _ name: String, counts: ClosedRange<Int>,
        _ element: (CanonicalJSON) throws(TokenError) -> T
    ) throws(TokenError) -> [T] {
        guard case .array(let values) = try take(name), counts.contains(values.count) else {
            throw .malformed(name)
        }
        return try values.map(element)
    }

    /// Takes a list that may be missing.
    ///
    /// - Parameter counts: how many elements there may be when it is there.
    public mutating func optionalList<T>(
        _ name: String, counts: ClosedRange<Int>,
        _ element: (CanonicalJSON) throws(TokenError) -> T
    ) throws(TokenError) -> [T]? {
        members[name] == nil ? nil : try list(name, counts: counts, element)
    }

    /// Refuses what was not taken.
    public func finish() throws(TokenError) {
        for name in members.keys.sorted() where !name.hasPrefix("x-") { throw .unknown(name) }
    }

    static func text(_ value: CanonicalJSON, _ name: String, maximum: Int) throws(TokenError)
        -> String
    {
        guard case .string(let text) = value, (1...maximum).contains(text.utf8.count) else {
            throw .malformed(name)
        }
        return text
    }

    static func bytes(_ text: String, _ name: String, _ count: Int) throws(TokenError) -> [UInt8] {
        let bytes: [UInt8]
        do throws(CryptoError) { bytes = try Base64URL.decode(text) } catch {
            throw .malformed(name)
        }
        guard bytes.count == count else { throw .malformed(name) }
        return bytes
    }

    static func key(_ text: String, _ name: String) throws(TokenError) -> Ed25519PublicKey {
        do throws(CryptoError) { return try PASERK.publicKey(parsing: text) } catch {
            throw .malformed(name)
        }
    }
}
