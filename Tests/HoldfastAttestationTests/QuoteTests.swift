import CryptoExtras
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("quotes")
struct QuoteTests {
    /// A quote made in software with everything right, to be made wrong in one place at a time.
    private struct Maker {
        var key = ECPrivateKey(curve: .p256, random: .system)
        var signer: ECPrivateKey?
        var area: PublicArea
        var nonce = RandomSource.system.bytes(32)
        var asked = PCRSelection(text: "sha256:0,7,14") ?? .empty
        var attestation: Attestation
        var values = PCRValues()
        var minimumNonceSize = 16
        var qualifiedSigner: TPMName?
        var template: PublicArea?
        var boot: PCRSelection?
        /// Changes the signed bytes before they are signed.
        var before: ([UInt8]) -> [UInt8] = { $0 }
        /// Changes them afterwards.
        var after: ([UInt8]) -> [UInt8] = { $0 }
        var changeSignature: ([UInt8]) -> [UInt8] = { $0 }
        var bare = false

        init() {
            area = KeyTemplate.attestationKey(vendorID: [])
            area.kind = .ecc(
                symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256, x: key.publicKey.x,
                y: key.publicKey.y)
            for bank in [HashAlgorithm.sha256, .sha384] {
                for index in PCRIndex.all {
                    values[bank, index] = [UInt8](
                        repeating: index.rawValue + 1, count: bank.digestSize)
                }
            }
            values = Self.only(asked, of: values)
            attestation = Attestation(
                qualifiedSigner: area.name.qualified(
                    below: TPMName(handle: .endorsement), hash: .sha256),
                extraData: nonce,
                clockInfo: ClockInfo(clock: 1, resetCount: 2, restartCount: 0, safe: true),
                firmwareVersion: 1,
                attested: .quote(
                    selection: asked, pcrDigest: values.digest(of: asked, hash: .sha256) ?? []))
        }

        static func only(_ selection: PCRSelection, of values: PCRValues) -> PCRValues {
            var kept = PCRValues()
            for bank in selection.banks {
                for index in bank.indexes { kept[bank.hash, index] = values[bank.hash, index] }
            }
            return kept
        }

        /// Signs again over another selection, with its digest.
        mutating func quote(_ selection: PCRSelection) {
            attestation.attested = .quote(
                selection: selection,
                pcrDigest: values.digest(of: selection, hash: .sha256)
                    ?? [UInt8](repeating: 0, count: 32))
        }

        func appraise() throws -> QuoteAppraisal {
            let signed = before(attestation.wireBytes)
            let raw = try (signer ?? key).signECDSA(signed)
            let signature = Signature.ecdsa(
                hash: .sha256, r: [UInt8](raw[..<32]), s: [UInt8](raw[32...]))
            var expectation = QuoteExpectation(
                key: bare ? .bare(key.publicKey) : .publicArea(area), nonce: nonce,
                minimumNonceSize: minimumNonceSize, selection: asked,
                qualifiedSigner: qualifiedSigner)
            expectation.template = template
            expectation.boot = boot
            return QuoteAppraisal(
                UnverifiedQuote(
                    attestation: after(signed), signature: changeSignature(signature.wireBytes),
                    values: values), expecting: expectation)
        }
    }

    private func failures(_ change: (inout Maker) -> Void) throws -> Set<QuoteCheck> {
        var maker = Maker()
        change(&maker)
        let appraisal = try maker.appraise()
        #expect(appraisal.results.map(\.check) == QuoteCheck.allCases)
        let failed = Set(appraisal.results.filter { $0.outcome == .failed }.map(\.check))
        #expect((appraisal.verified == nil) == !failed.isEmpty)
        for result in appraisal.results {
            #expect(result.reason.isEmpty == (result.outcome == .passed))
        }
        return failed
    }

    @Test("a quote in which everything is right is proved")
    func accepted() throws {
        let maker = Maker()
        let appraisal = try maker.appraise()
        let verified = try #require(appraisal.verified)
        #expect(verified.values == maker.values)
        #expect(verified.attestation == maker.attestation)
        #expect(try failures { $0.qualifiedSigner = $0.attestation.qualifiedSigner } == [])
        // A bitmap of another length selects the same PCRs.
        #expect(
            try failures { maker in
                let long: [UInt8] = [0, 0, 0, 1, 0, 11, 4, 0x81, 0x40, 0, 0]
                if let selection = try? PCRSelection(wireBytes: long) { maker.quote(selection) }
            } == [])
    }

    @Test("a bare key is accepted, and the verdict says what was not checked")
    func bareKey() throws {
        var maker = Maker()
        maker.bare = true
        let appraisal = try maker.appraise()
        #expect(appraisal.verified != nil)
        let notChecked = appraisal.results.filter { $0.outcome == .notApplicable }.map(\.check)
        #expect(Set(notChecked) == [.keyAttributes, .qualifiedSigner])
    }

    // MARK: each check by itself

    @Test("a signature made over a re-encoded structure is refused, whichever way it was encoded")
    func encodedAgain() throws {
        // The same selection in a bitmap of four octets: the same meaning in other bytes.
        let long = try PCRSelection(wireBytes: [0, 0, 0, 1, 0, 11, 4, 0x81, 0x40, 0, 0])
        let short = Maker().asked
        func encoded(_ bytes: [UInt8], _ selection: PCRSelection) -> [UInt8] {
            guard var attestation = try? Attestation(wireBytes: bytes),
                case .quote(_, let digest) = attestation.attested
            else { return [] }
            attestation.attested = .quote(selection: selection, pcrDigest: digest)
            return attestation.wireBytes
        }
        for (signed, shown) in [(short, long), (long, short)] {
            #expect(try failures { $0.quote(signed) } == [])
            #expect(
                try failures { maker in
                    maker.quote(signed)
                    maker.after = { encoded($0, shown) }
                } == [.signature])
        }
    }

    @Test("CVE-2024-29038 and CVE-2024-29040: another magic is refused though it is signed")
    func magic() throws {
        let failed = try failures { $0.before = { [0xFE] + $0.dropFirst() } }
        #expect(failed.contains(.magic))
        #expect(failed.contains(.wellFormed))
        // The signature is judged over the bytes, whether or not they can be read.
        #expect(!failed.contains(.signature))
    }

    @Test("GHSA-x5j2-26fc-hhc3: an attestation of another type is refused")
    func type() throws {
        let failed = try failures {
            $0.attestation.attested = .certify(
                name: $0.area.name, qualifiedName: $0.attestation.qualifiedSigner)
        }
        #expect(failed.isSuperset(of: [.type, .selection, .pcrDigest]))
        #expect(!failed.contains(.signature))
    }

    @Test("CVE-2025-49707: each attribute of an attestation key is demanded")
    func attributes() throws {
        for attribute: ObjectAttributes in [
            .fixedTPM, .fixedParent, .sensitiveDataOrigin, .restricted, .sign,
        ] {
            #expect(try failures { $0.area.attributes.remove(attribute) } == [.keyAttributes])
        }
        #expect(try failures { $0.area.attributes.insert(.decrypt) } == [.keyAttributes])
        #expect(
            try failures { $0.area.attributes.insert(.encryptedDuplication) } == [.keyAttributes])
        for bit in [0, 3, 12, 15, 20, 31] as [UInt32] {
            let reserved = ObjectAttributes(rawValue: 1 << bit)
            #expect(try failures { $0.area.attributes.insert(reserved) } == [.keyAttributes])
        }
        #expect(
            try failures { maker in
                maker.area.kind = .ecc(
                    symmetric: .aesCFB(bits: 128), scheme: .ecdsa(.sha256), curve: .p256,
                    x: maker.key.publicKey.x, y: maker.key.publicKey.y)
            } == [.keyAttributes], "a cipher is for storage keys")
    }

    @Test("a signature of another scheme, of SHA-1, or by a key without a scheme is refused")
    func scheme() throws {
        func kind(_ maker: Maker, _ scheme: AsymmetricScheme) -> PublicArea.Kind {
            .ecc(
                symmetric: .none, scheme: scheme, curve: .p256, x: maker.key.publicKey.x,
                y: maker.key.publicKey.y)
        }
        #expect(
            try failures { $0.area.kind = kind($0, .ecdsa(.sha384)) } == [.signatureScheme])
        #expect(try failures { $0.area.kind = kind($0, .null) } == [.signatureScheme])
        #expect(try failures { $0.area.kind = kind($0, .ecdsa(.sha1)) } == [.signatureScheme])
        let sha1 = try failures { $0.changeSignature = { [0, 0x18, 0, 4] + $0.dropFirst(4) } }
        #expect(sha1.isSuperset(of: [.signatureScheme, .signature]))
        // Not even when that is the scheme of the key.
        let both = try failures {
            $0.area.kind = kind($0, .ecdsa(.sha1))
            $0.changeSignature = { [0, 0x18, 0, 4] + $0.dropFirst(4) }
        }
        #expect(both.isSuperset(of: [.signatureScheme, .signature]))
    }

    @Test("CVE-2021-3406: a signature by another key is refused")
    func otherKey() throws {
        #expect(
            try failures { $0.signer = ECPrivateKey(curve: .p256, random: .system) }
                == [.signature])
        #expect(
            try failures { maker in
                maker.area.kind = .ecc(
                    symmetric: .none, scheme: .ecdsa(.sha256), curve: .p256,
                    x: [UInt8](repeating: 1, count: 32), y: [UInt8](repeating: 1, count: 32))
            } == [.signature], "a point that is not on the curve")
    }

    @Test("veraison #427, CVE-2026-6420, kairos #4828: a nonce is compared, and never a short one")
    func nonce() throws {
        #expect(try failures { $0.nonce[31] ^= 1 } == [.nonce])
        #expect(try failures { $0.nonce = Array($0.nonce.dropLast()) } == [.nonce])
        #expect(
            try failures {
                $0.nonce = []
                $0.attestation.extraData = []
            } == [.nonceSize, .nonce])
        #expect(
            try failures {
                $0.nonce = [UInt8](repeating: 1, count: 15)
                $0.attestation.extraData = $0.nonce
            } == [.nonceSize])
        #expect(
            try failures {
                $0.nonce = [UInt8](repeating: 1, count: 33)
                $0.attestation.extraData = $0.nonce
            } == [.nonceSize])
        #expect(
            try failures {
                $0.nonce = [1]
                $0.attestation.extraData = [1]
                $0.minimumNonceSize = 0
            } == [])
    }

    @Test("CVE-2022-0317 and CVE-2024-29039: fewer PCRs, more, or none are refused")
    func selection() throws {
        for text in ["sha256:0,7", "sha256:0,7,14,15", "sha384:0,7,14"] {
            let failed = try failures { maker in
                maker.quote(PCRSelection(text: text) ?? .empty)
            }
            #expect(failed.contains(.selection), "\(text)")
        }
        #expect(try failures { $0.quote(.empty) }.contains(.selection))
        #expect(try failures { $0.quote(PCRSelection(.sha256, [])) }.contains(.selection))
        let twice = try failures { maker in
            maker.asked = PCRSelection(joining: [maker.asked, maker.asked])
            maker.quote(maker.asked)
        }
        #expect(twice.contains(.selection))
        let beyond = try failures { maker in
            let bytes: [UInt8] = [0, 0, 0, 1, 0, 11, 4, 0x81, 0x40, 0, 1]
            if let selection = try? PCRSelection(wireBytes: bytes) { maker.quote(selection) }
        }
        #expect(beyond.contains(.selection))
    }

    @Test("a SHA-1 bank and a SHA-1 Name are refused, and so is nothing when nothing was asked for")
    func weak() throws {
        let bank = try failures { maker in
            maker.asked = PCRSelection(text: "sha1:0,7") ?? .empty
            maker.values = PCRValues()
            for index in [PCRIndex.all[0], PCRIndex.all[7]] {
                maker.values[.sha1, index] = [UInt8](repeating: 1, count: 20)
            }
            maker.quote(maker.asked)
        }
        #expect(bank == [.selection])
        #expect(try failures { $0.area.nameAlgorithm = .sha1 } == [.keyAttributes])
        let nothing = try failures { maker in
            maker.asked = .empty
            maker.values = PCRValues()
            maker.attestation.attested = .quote(
                selection: .empty, pcrDigest: HashAlgorithm.sha256.digest([]))
        }
        #expect(nothing == [.selection, .bootPCRs])
    }

    @Test("the digest of the values has the hash of the signature, not of the bank")
    func digestHash() throws {
        let failed = try failures { maker in
            maker.asked = PCRSelection(text: "sha384:0,7") ?? .empty
            maker.values = PCRValues()
            for index in [PCRIndex.all[0], PCRIndex.all[7]] {
                maker.values[.sha384, index] = [UInt8](repeating: 1, count: 48)
            }
            maker.quote(maker.asked)
        }
        #expect(failed == [])
        let bankHash = try failures { maker in
            maker.asked = PCRSelection(text: "sha384:0,7") ?? .empty
            maker.values = PCRValues()
            for index in [PCRIndex.all[0], PCRIndex.all[7]] {
                maker.values[.sha384, index] = [UInt8](repeating: 1, count: 48)
            }
            maker.attestation.attested = .quote(
                selection: maker.asked,
                pcrDigest: maker.values.digest(of: maker.asked, hash: .sha384) ?? [])
        }
        #expect(bankHash == [.pcrDigest])
    }

    @Test("PCRs that anyone can reset are no boot state")
    func resettable() throws {
        let failed = try failures { maker in
            maker.asked = PCRSelection(text: "sha256:16,23") ?? .empty
            maker.values = PCRValues()
            for index in [PCRIndex.all[16], PCRIndex.all[23]] {
                maker.values[.sha256, index] = [UInt8](repeating: 1, count: 32)
            }
            maker.quote(maker.asked)
        }
        #expect(failed == [.bootPCRs])
    }

    @Test("registers that are named as boot state must be quoted, and cannot be those of a reset")
    func namedBootState() throws {
        #expect(try failures { $0.boot = $0.asked } == [])
        #expect(try failures { $0.boot = PCRSelection(text: "sha256:7") } == [])
        #expect(try failures { $0.boot = PCRSelection(text: "sha256:7,8") } == [.bootPCRs])
        #expect(try failures { $0.boot = PCRSelection(text: "sha384:7") } == [.bootPCRs])
        let resettable = try failures { maker in
            maker.asked = PCRSelection(text: "sha256:7,23") ?? .empty
            maker.boot = maker.asked
            maker.values[.sha256, PCRIndex.all[0]] = nil
            maker.values[.sha256, PCRIndex.all[14]] = nil
            maker.values[.sha256, PCRIndex.all[23]] = [UInt8](repeating: 1, count: 32)
            maker.quote(maker.asked)
        }
        #expect(resettable == [.bootPCRs])
    }

    @Test("an enrolled key has its template: who may use it, and by which policy")
    func template() throws {
        let template = KeyTemplate.attestationKey(vendorID: [])
        #expect(try failures { $0.template = template } == [])
        for change in [
            { $0.attributes.remove(.userWithAuth) }, { $0.attributes.insert(.adminWithPolicy) },
            { $0.attributes.remove(.noDA) },
            { $0.authPolicy = [UInt8](repeating: 1, count: 32) },
        ] as [(inout PublicArea) -> Void] {
            #expect(
                try failures { maker in
                    maker.template = template
                    change(&maker.area)
                } == [.keyAttributes])
        }
        // Of a key that others made, it must at least be possible that somebody uses it.
        #expect(try failures { $0.area.attributes.remove(.userWithAuth) } == [.keyAttributes])
        #expect(
            try failures { maker in
                maker.area.attributes.remove(.userWithAuth)
                maker.area.authPolicy = [UInt8](repeating: 1, count: 32)
            } == [])
    }

    @Test("attestation-rs #69: a value outside the selection is refused, and so is a missing one")
    func valuesExact() throws {
        #expect(
            try failures { $0.values[.sha256, PCRIndex.all[1]] = [UInt8](repeating: 1, count: 32) }
                == [.valuesExact])
        #expect(
            try failures { $0.values[.sha384, PCRIndex.all[0]] = [UInt8](repeating: 1, count: 48) }
                == [.valuesExact])
        #expect(
            try failures { $0.values[.sha256, PCRIndex.all[14]] = nil }
                == [.valuesExact, .pcrDigest])
    }

    @Test("a value other than the one that was signed is refused")
    func digest() throws {
        #expect(
            try failures { $0.values[.sha256, PCRIndex.all[7]] = [UInt8](repeating: 9, count: 32) }
                == [.pcrDigest])
        #expect(
            try failures { maker in
                let seven = maker.values[.sha256, PCRIndex.all[7]]
                maker.values[.sha256, PCRIndex.all[7]] = maker.values[.sha256, PCRIndex.all[0]]
                maker.values[.sha256, PCRIndex.all[0]] = seven
            } == [.pcrDigest])
    }

    @Test("CVE-2017-15361: a quote of a key that can be factored is refused, though it is genuine")
    func factorable() throws {
        for (key, failed) in [
            (try factorableKey(), [QuoteCheck.signature]),
            (try _RSA.Signing.PrivateKey(keySize: .bits2048), []),
        ] {
            let maker = Maker()
            let bytes = maker.attestation.wireBytes
            let signature = Signature.rsassa(
                hash: .sha256,
                signature: [UInt8](
                    try key.signature(for: bytes, padding: .insecurePKCS1v1_5).rawRepresentation))
            let appraisal = QuoteAppraisal(
                UnverifiedQuote(
                    attestation: bytes, signature: signature.wireBytes, values: maker.values),
                expecting: QuoteExpectation(
                    key: .bare(try RSAPublicKey(der: [UInt8](key.publicKey.derRepresentation))),
                    nonce: maker.nonce, minimumNonceSize: 16, selection: maker.asked,
                    qualifiedSigner: nil))
            let refused = appraisal.results.filter { $0.outcome == .failed }
            #expect(refused.map(\.check) == failed)
            #expect(refused.allSatisfy { $0.reason.contains("CVE-2017-15361") })
            #expect((appraisal.verified == nil) == !failed.isEmpty)
        }
    }

    @Test("CVE-2021-42299: PCRs that were never extended are refused")
    func unmeasured() throws {
        #expect(
            try failures { maker in
                maker.values[.sha256, PCRIndex.all[7]] = [UInt8](repeating: 0, count: 32)
                maker.quote(maker.asked)
            } == [.measured])
        #expect(
            try failures { maker in
                maker.values[.sha256, PCRIndex.all[14]] = [UInt8](repeating: 0, count: 32)
                maker.quote(maker.asked)
            } == [], "PCR 14 is not the firmware's")
        // TPM2_Startup from locality 3 or 4, and nothing afterwards.
        for (index, last, expected) in [
            (0, UInt8(3), Set<QuoteCheck>([.measured])), (0, 4, [.measured]), (0, 5, []),
            (7, 3, []),
        ] {
            #expect(
                try failures { maker in
                    maker.values[.sha256, PCRIndex.all[index]] =
                        [UInt8](repeating: 0, count: 31) + [last]
                    maker.quote(maker.asked)
                } == expected, "PCR \(index) ends in \(last)")
        }
    }

    @Test("a signer in another hierarchy is refused")
    func qualifiedSigner() throws {
        #expect(
            try failures {
                $0.qualifiedSigner = $0.area.name.qualified(
                    below: TPMName(handle: .owner), hash: .sha256)
            } == [.qualifiedSigner])
        #expect(try failures { $0.qualifiedSigner = $0.area.name } == [.qualifiedSigner])
    }

    // MARK: bytes

    @Test("no bit of message or signature can be changed")
    func bitFlips() throws {
        let size = Maker().attestation.wireBytes.count
        for bit in 0..<size * 8 {
            let failed = try failures { maker in
                maker.after = { bytes in
                    var changed = bytes
                    changed[bit / 8] ^= 1 << (bit % 8)
                    return changed
                }
            }
            #expect(failed.contains(.signature), "bit \(bit)")
        }
        for bit in 0..<72 * 8 {
            let failed = try failures { maker in
                maker.changeSignature = { bytes in
                    var changed = bytes
                    changed[bit / 8] ^= 1 << (bit % 8)
                    return changed
                }
            }
            #expect(!failed.isEmpty, "bit \(bit)")
        }
    }

    @Test("bytes that are cut off or added are refused")
    func lengths() throws {
        #expect(try failures { $0.after = { $0 + [0] } }.isSuperset(of: [.wellFormed, .signature]))
        #expect(try failures { $0.after = { Array($0.dropLast()) } }.contains(.wellFormed))
        #expect(try failures { $0.after = { _ in [] } }.contains(.magic))
        #expect(try failures { $0.changeSignature = { $0 + [0] } }.contains(.wellFormed))
        #expect(try failures { $0.changeSignature = { _ in [] } }.contains(.wellFormed))
        #expect(try failures { $0.before = { $0 + [0] } }.contains(.wellFormed))
        let huge = [UInt8](repeating: 0, count: 5000)
        #expect(try failures { $0.after = { $0 + huge } }.contains(.wellFormed))
    }

    @Test("a signature over a structure that was encoded again is refused")
    func reencoded() throws {
        // The received bytes spell the selection with four octets; the signature is over three.
        let failed = try failures { maker in
            maker.after = { bytes in
                var changed = bytes
                let start = changed.count - 34 - 10
                changed[start + 6] = 4
                changed.insert(0, at: start + 10)
                return changed
            }
        }
        #expect(failed == [.signature])
    }
}
