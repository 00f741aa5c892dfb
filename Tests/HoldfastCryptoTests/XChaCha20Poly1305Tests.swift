import HoldfastCrypto
import Testing

@Suite("XChaCha20-Poly1305") struct XChaCha20Poly1305Tests {
    // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    static let plaintext = utf8(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
            + "future, sunscreen would be it.")
    static let sealed =
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f"
        + "4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc36948"
        + "8f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    static let data: [UInt8] = [0x50, 0x51, 0x52, 0x53] + counting(from: 0xc0, 8)

    private func key(_ first: UInt8 = 0x80) -> SecretBytes {
        SecretBytes(copying: counting(from: first, 32))
    }

    private func nonce(_ first: UInt8 = 0x40) throws -> XChaCha20Nonce {
        try XChaCha20Nonce(counting(from: first, 24))
    }

    @Test("seals and opens as the draft does")
    func knownAnswer() throws {
        let sealed = try XChaCha20Poly1305.seal(
            Self.plaintext.span, nonce: nonce(), associatedData: Self.data, key: key())
        #expect(Hex.encode(sealed) == Self.sealed)
        let opened = try XChaCha20Poly1305.open(
            sealed, nonce: nonce(), associatedData: Self.data, key: key())
        #expect(opened.revealed() == Self.plaintext)
    }

    @Test("seals and opens nothing at all")
    func empty() throws {
        let sealed = try XChaCha20Poly1305.seal(
            Span(), nonce: nonce(), associatedData: [], key: key())
        #expect(sealed.count == XChaCha20Poly1305.tagSize)
        let opened = try XChaCha20Poly1305.open(
            sealed, nonce: nonce(), associatedData: [], key: key())
        #expect(opened.revealed() == [])
        #expect(throws: CryptoError.authenticationFailed) {
            _ = try XChaCha20Poly1305.open(sealed, nonce: nonce(), associatedData: [0], key: key())
        }
    }

    @Test("refuses every change of ciphertext, associated data, nonce and key")
    func changed() throws {
        let sealed = try hex(Self.sealed)
        for wrong in damaged(sealed) {
            #expect(throws: CryptoError.self) {
                _ = try XChaCha20Poly1305.open(
                    wrong, nonce: nonce(), associatedData: Self.data, key: key())
            }
        }
        for wrong in damaged(Self.data) {
            #expect(throws: CryptoError.authenticationFailed) {
                _ = try XChaCha20Poly1305.open(
                    sealed, nonce: nonce(), associatedData: wrong, key: key())
            }
        }
        #expect(throws: CryptoError.authenticationFailed) {
            _ = try XChaCha20Poly1305.open(
                sealed, nonce: nonce(0x41), associatedData: Self.data, key: key())
        }
        #expect(throws: CryptoError.authenticationFailed) {
            _ = try XChaCha20Poly1305.open(
                sealed, nonce: nonce(), associatedData: Self.data, key: key(0x81))
        }
    }

    @Test("refuses keys and nonces of another length", arguments: [0, 23, 25, 31, 33])
    func lengths(count: Int) throws {
        #expect(throws: CryptoError.lengthInvalid) { try XChaCha20Nonce(counting(count)) }
        let short = SecretBytes(count: count) { _ in }
        #expect(throws: CryptoError.lengthInvalid) {
            try XChaCha20Poly1305.seal(Span(), nonce: nonce(), associatedData: [], key: short)
        }
        #expect(throws: CryptoError.lengthInvalid) {
            _ = try XChaCha20Poly1305.open(
                hex(Self.sealed), nonce: nonce(), associatedData: [], key: short)
        }
    }
}
