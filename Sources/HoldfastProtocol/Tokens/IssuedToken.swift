public import HoldfastCrypto
import HoldfastTPMWire

extension PASETOToken {
    /// Whether a token names a key as the one that signed it; the signature is not looked at.
    public func names(issuer key: Ed25519PublicKey) -> Bool {
        let id = Array(PASERK.identifier(of: key).text.utf8)
        return footer.starts(with: id)
            && (footer.count == id.count || footer[id.count] == UInt8(ascii: "."))
    }
}

/// A token that an issuer key signs, for one device or for everyone.
///
/// For everyone the footer is the PASERK id of the key alone, and nothing is asserted beside it. For
/// one device the footer is the PASERK id of the key, a dot, and the recipient tag in base64url: a device tells a
/// token for somebody else from a damaged one before it checks the signature. The implicit assertion
/// binds the token without naming the device.
///
/// docs/spec/formats.md, "Tokens".
enum IssuedToken {
    /// What a token is bound to.
    struct Recipient {
        /// The license id, or the incarnation as four bytes.
        let about: [UInt8]
        let attestationKey: TPMName
        let assertion: [UInt8]

        /// One enrollment of a device.
        init(incarnation: UInt32, of attestationKey: TPMName) {
            var writer = WireWriter(capacity: 4)
            writer.uint32(incarnation)
            about = writer.bytes
            self.attestationKey = attestationKey
            assertion = DeviceBinding.incarnation(incarnation, of: attestationKey)
        }

        /// One license on one device.
        init(license: LicenseID, of attestationKey: TPMName) {
            about = license.bytes
            self.attestationKey = attestationKey
            assertion = DeviceBinding.license(license.bytes, on: attestationKey)
        }

        var tag: [UInt8] {
            DeviceBinding.recipientTag(about, attestationKey: attestationKey)
        }
    }

    private static func footer(_ key: Ed25519PublicKey, _ recipient: Recipient?) -> [UInt8] {
        let tag = recipient.map { "." + Base64URL.encode($0.tag) } ?? ""
        return Array((PASERK.identifier(of: key).text + tag).utf8)
    }

    static func sign(
        _ claims: CanonicalJSON, for recipient: Recipient?, with key: borrowing Ed25519PrivateKey
    ) throws(TokenError) -> PASETOToken {
        do throws(CryptoError) {
            return try PASETO.sign(
                claims.encoded, footer: footer(key.publicKey, recipient),
                implicitAssertion: recipient?.assertion ?? [], with: key)
        } catch {
            throw .notAuthentic(error)
        }
    }

    /// - Parameter issuers: from the trust statement.
    /// - Throws: `.foreignKey` when no issuer has the id in the footer, `.otherDevice` when the tag is
    ///   not the recipient's, `.notAuthentic` when the signature is wrong.
    static func verify(
        _ token: PASETOToken, for recipient: Recipient?, issuers: [Ed25519PublicKey]
    ) throws(TokenError) -> VerifiedToken {
        guard token.purpose == .v4Public else { throw .notAuthentic(.wrongKind) }
        let issuer = issuers.first { token.names(issuer: $0) }
        guard let issuer else { throw .foreignKey }
        let expected = footer(issuer, recipient)
        guard token.footer == expected else { throw .otherDevice }
        do throws(CryptoError) {
            return try PASETO.verify(
                token, with: issuer, expectedFooter: expected,
                implicitAssertion: recipient?.assertion ?? [])
        } catch {
            throw .notAuthentic(error)
        }
    }

    /// A token as a section.
    static func section(_ token: PASETOToken) -> [UInt8] {
        var writer = WireWriter(capacity: token.body.count + token.footer.count + 2)
        writer.sized(token.footer)
        writer.raw(token.body)
        return writer.bytes
    }

    static func token(
        section bytes: [UInt8], _ type: SectionType, purpose: PASETOPurpose = .v4Public
    ) throws(DocumentError) -> PASETOToken {
        var reader = WireReader(bytes)
        do {
            let footer = try reader.sized("footer", maximum: PASETOToken.maximumFooterSize)
            return try PASETOToken(purpose: purpose, body: reader.rest(), footer: footer)
        } catch {
            throw .malformed(type)
        }
    }
}
