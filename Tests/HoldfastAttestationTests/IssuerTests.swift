import Crypto
import CryptoExtras
import Foundation
import HoldfastAttestation
import HoldfastCrypto
import SwiftASN1
import Testing
import X509

@Suite("issuers of endorsement key certificates")
struct IssuerTests {
    private let now = Date(timeIntervalSince1970: 1_800_000_000)

    private func failures(
        _ certificate: [UInt8], roots: [[UInt8]], intermediates: [[UInt8]] = [],
        at date: Date? = nil
    ) async throws -> Set<EndorsementCheck> {
        let verifier = try EndorsementPathVerifier(roots: roots, intermediates: intermediates)
        let appraisal = await verifier.appraise(certificate, at: date ?? now)
        #expect(appraisal.results.map(\.check) == EndorsementCheck.allCases)
        for result in appraisal.results {
            #expect(result.reason.isEmpty == (result.outcome == .passed))
        }
        let failed = Set(appraisal.results.filter { $0.outcome != .passed }.map(\.check))
        #expect((appraisal.verified == nil) == !failed.isEmpty)
        #expect(Verdict(appraisal).verdict == (failed.isEmpty ? "valid" : "refused"))
        return failed
    }

    /// Issues a certificate below a root and an intermediate, with one thing changed.
    private func failures(
        root: TestAuthority.Contents = .init(), intermediate: TestAuthority.Contents = .init(),
        at date: Date? = nil, _ change: (inout TestEndorsement) -> Void = { _ in }
    ) async throws -> Set<EndorsementCheck> {
        let root = try TestAuthority("root", below: nil, root)
        let issuer = try TestAuthority("issuer", below: root, intermediate)
        var endorsement = TestEndorsement()
        change(&endorsement)
        return try await failures(
            testDER(endorsement.issue(by: issuer)), roots: [root.pem],
            intermediates: [issuer.pem], at: date)
    }

    @Test("authorities that a device brings may stand in between, and are trusted by nobody")
    func broughtChain() async throws {
        let root = try TestAuthority("root", below: nil)
        let issuer = try TestAuthority("issuer", below: root)
        let certificate = testDER(try TestEndorsement().issue(by: issuer))
        let der = testDER(issuer.certificate)
        let chain = EndorsementPathVerifier.certificates(
            inChain: der + testDER(root.certificate) + [0xFF, 0xFF, 0, 0])
        #expect(chain == [der, testDER(root.certificate)])
        let verifier = try EndorsementPathVerifier(roots: [root.pem], intermediates: [])
        #expect(await verifier.appraise(certificate, at: now).verified == nil)
        #expect(await verifier.appraise(certificate, chain: chain, at: now).verified != nil)
        // A root that comes along is no root, and what cannot be read is passed over.
        let stranger = try TestAuthority("stranger", below: nil)
        let own = testDER(try TestEndorsement().issue(by: stranger))
        let brought = [testDER(stranger.certificate)]
        #expect(await verifier.appraise(own, chain: brought, at: now).verified == nil)
        #expect(await verifier.appraise(certificate, chain: [[1, 2, 3]], at: now).verified == nil)
        #expect(EndorsementPathVerifier.certificates(inChain: Array(der.dropLast())).isEmpty)
        #expect(EndorsementPathVerifier.certificates(inChain: [0] + der).isEmpty)
        let many = [[UInt8]](repeating: der, count: 20).flatMap { $0 }
        #expect(EndorsementPathVerifier.certificates(inChain: many).count == 8)
    }

    @Test("a device cannot bring authorities between which there are as many paths as orders")
    func broughtKnot() async throws {
        let root = try TestAuthority("root", below: nil)
        let key = P256.Signing.PrivateKey()
        let name = try DistinguishedName { CommonName("knot") }
        func authority(_ number: Int) throws -> Certificate {
            try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(bytes: [1]),
                publicKey: Certificate.PublicKey(key.publicKey),
                notValidBefore: Date(timeIntervalSince1970: 1_600_000_000),
                notValidAfter: Date(timeIntervalSince1970: 2_000_000_000), issuer: name,
                subject: name, signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions {
                    BasicConstraints.isCertificateAuthority(maxPathLength: nil)
                    KeyUsage(keyCertSign: true)
                    SubjectAlternativeNames([.dnsName("\(number).example")])
                }, issuerPrivateKey: Certificate.PrivateKey(key))
        }
        let knot = try (0..<8).map { testDER(try authority($0)) }
        let issuer = try TestAuthority("issuer", below: root)
        let certificate = testDER(try TestEndorsement().issue(by: issuer))
        let verifier = try EndorsementPathVerifier(roots: [root.pem], intermediates: [])
        let leaf = testDER(
            try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(bytes: [2]),
                publicKey: Certificate.PublicKey(P384.Signing.PrivateKey().publicKey),
                notValidBefore: Date(timeIntervalSince1970: 1_600_000_000),
                notValidAfter: Date(timeIntervalSince1970: 2_000_000_000), issuer: name,
                subject: name, signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions(),
                issuerPrivateKey: Certificate.PrivateKey(key)))
        let begin = ContinuousClock.now
        #expect(await verifier.appraise(leaf, chain: knot, at: now).verified == nil)
        // All 8! orders take minutes.
        #expect(ContinuousClock.now - begin < .seconds(5))
        // Nor do they stand in the way of one that leads on.
        let chain = [testDER(issuer.certificate)] + knot.prefix(7)
        #expect(await verifier.appraise(certificate, chain: chain, at: now).verified != nil)
        // What a device brings is DER, one certificate each.
        let wrapped = [issuer.pem]
        #expect(await verifier.appraise(certificate, chain: wrapped, at: now).verified == nil)
    }

    @Test("a manifest pins every certificate to trust, and says where each comes from")
    func manifest() throws {
        let root = try TestAuthority("root", below: nil)
        let other = try TestAuthority("other", below: nil)
        func digits(_ authority: TestAuthority) -> String {
            Hex.encode(HashAlgorithm.sha256.digest(testDER(authority.certificate)))
        }
        func manifest(_ text: String) throws -> MakerManifest {
            try MakerManifest(Array(text.utf8))
        }
        func entry(_ sha256: String) -> String {
            #"{"name": "a root", "source": "a letter", "sha256": "\#(sha256)"}"#
        }
        let pinned = try manifest(
            #"{"version": 1, "certificates": [\#(entry(digits(root)))]}"#)
        #expect(pinned.entries.map(\.source) == ["a letter"])
        try pinned.demand([root.pem, testDER(root.certificate)])
        try pinned.demand([])
        #expect(throws: EndorsementError.notPinned(digits(other))) {
            try pinned.demand([root.pem, other.pem])
        }
        // Nor behind one that is pinned, in the same file.
        #expect(throws: EndorsementError.notPinned(digits(other))) {
            try pinned.demand([root.pem + [0x0A] + other.pem])
        }
        let one = entry(digits(root))
        for text in [
            #"{"version": 2, "certificates": [\#(one)]}"#,
            #"{"version": 1, "certificates": [\#(one), \#(one)]}"#,
            #"{"version": 1, "certificates": [\#(entry("00"))]}"#,
            #"{"version": 1, "certificates": [{"name": "", "source": "x", "sha256": "\#(digits(root))"}]}"#,
            #"{"version": 1, "roots": []}"#, "[]",
        ] {
            #expect(throws: PolicyFormatError.self, "\(text)") { try manifest(text) }
        }
    }

    @Test("everything right is accepted, also when the issuer itself is trusted")
    func accepted() async throws {
        #expect(try await failures() == [])
        let root = try TestAuthority("root", below: nil)
        let issuer = try TestAuthority("issuer", below: root)
        let certificate = testDER(try TestEndorsement().issue(by: issuer))
        #expect(try await failures(certificate, roots: [issuer.pem]) == [])
        #expect(
            try await failures(certificate, roots: [root.pem]) == [.issuerSignature, .issuerPath])
        let text = Array("Subject: somebody\n".utf8) + testPEM(certificate)
        #expect(try await failures(text, roots: [root.pem], intermediates: [issuer.pem]) == [])
        let verifier = try EndorsementPathVerifier(roots: [issuer.pem], intermediates: [])
        // The fingerprint is over the certificate, however it was wrapped.
        let expected = HashAlgorithm.sha256.digest(certificate)
        for bytes in [certificate, text, certificate + [0, 0, 0]] {
            #expect(try await verifier.verify(bytes, at: now).fingerprint == expected)
        }
    }

    // MARK: the certificate

    @Test("each word of the certificate is demanded")
    func leaf() async throws {
        #expect(try await failures { $0.usages = [] } == [.extendedKeyUsage])
        #expect(try await failures { $0.usages = [[2, 23, 133, 8, 2]] } == [.extendedKeyUsage])
        #expect(try await failures { $0.usages = [[2, 5, 29, 37, 0]] } == [.extendedKeyUsage])
        #expect(try await failures { $0.usage = KeyUsage(digitalSignature: true) } == [.keyUsage])
        #expect(try await failures { $0.usage = KeyUsage(keyEncipherment: true) } == [.keyUsage])
        let rsa = Certificate.PublicKey(
            try _RSA.Signing.PrivateKey(keySize: .bits2048).publicKey)
        #expect(try await failures { $0.publicKey = rsa } == [.keyUsage])
        #expect(
            try await failures { $0.usage = KeyUsage(keyAgreement: true, keyCertSign: true) }
                == [.keyUsage])
        #expect(
            try await failures { $0.constraints = .isCertificateAuthority(maxPathLength: nil) }
                == [.notAnAuthority])
        #expect(try await failures { $0.constraints = nil } == [])
        #expect(try await failures { $0.names = [] } == [.tpmNames])
        for missing in 0..<3 {
            #expect(try await failures { $0.names.remove(at: missing) } == [.tpmNames])
            #expect(try await failures { $0.names.append($0.names[missing]) } == [.tpmNames])
        }
        #expect(
            try await failures {
                $0.publicKey = Certificate.PublicKey(P521.Signing.PrivateKey().publicKey)
            } == [.keySupported])
        let unknown = Certificate.Extension(oid: [1, 2, 3, 4], critical: true, value: [5, 0])
        #expect(try await failures { $0.more = [unknown] } == [.criticalExtensions])
        let harmless = Certificate.Extension(oid: [1, 2, 3, 4], critical: false, value: [5, 0])
        #expect(try await failures { $0.more = [harmless] } == [])
    }

    @Test("CVE-2017-15361: an endorsement key that can be factored is refused")
    func factorable() async throws {
        let weak = try factorableKey().publicKey
        var modulus = [UInt8](try weak.getKeyPrimitives().modulus)
        let usage = KeyUsage(keyEncipherment: true)
        #expect(
            try await failures {
                $0.publicKey = Certificate.PublicKey(weak)
                $0.usage = usage
            } == [.keyNotFactorable])
        // Another key, which differs in one bit.
        modulus[255] ^= 2
        let other = try _RSA.Signing.PublicKey(n: modulus, e: [1, 0, 1] as [UInt8])
        #expect(
            try await failures {
                $0.publicKey = Certificate.PublicKey(other)
                $0.usage = usage
            } == [])
        for _ in 0..<3 {
            let key = try _RSA.Signing.PrivateKey(keySize: .bits2048).publicKey
            #expect(!(try RSAPublicKey(der: [UInt8](key.derRepresentation))).isFactorable)
        }
    }

    @Test("dates of the certificate and of each issuer are looked at")
    func dates() async throws {
        let early = Date(timeIntervalSince1970: 1_599_999_999)
        let late = Date(timeIntervalSince1970: 2_000_000_001)
        #expect(try await failures(at: early) == [.validity, .issuerPath])
        #expect(try await failures(at: late) == [.validity, .issuerPath])
        #expect(
            try await failures { $0.notAfter = Date(timeIntervalSince1970: 1_700_000_000) } == [
                .validity
            ])
        #expect(
            try await failures { $0.notBefore = Date(timeIntervalSince1970: 1_900_000_000) } == [
                .validity
            ])
        var expired = TestAuthority.Contents()
        expired.notAfter = Date(timeIntervalSince1970: 1_700_000_000)
        #expect(try await failures(intermediate: expired) == [.issuerPath])
        #expect(try await failures(root: expired) == [.issuerPath])
    }

    // MARK: the issuers

    @Test("an issuer that is no authority, may not sign, or is of version 1 is refused")
    func authority() async throws {
        var contents = TestAuthority.Contents()
        contents.isAuthority = false
        #expect(try await failures(intermediate: contents) == [.issuerPath])
        #expect(try await failures(root: contents) == [.issuerPath])
        contents = TestAuthority.Contents()
        contents.usage = KeyUsage(digitalSignature: true)
        #expect(try await failures(intermediate: contents) == [.issuerPath])
        #expect(try await failures(root: contents) == [.issuerPath])
        contents = TestAuthority.Contents()
        contents.version = .v1
        #expect(try await failures(intermediate: contents) == [.issuerPath])
        #expect(try await failures(root: contents) == [], "an old root without extensions")
    }

    @Test("a path that is longer than an issuer allows is refused")
    func pathLength() async throws {
        var zero = TestAuthority.Contents()
        zero.maximumPathLength = 0
        #expect(try await failures(intermediate: zero) == [])
        #expect(try await failures(root: zero) == [.issuerPath])
        var one = TestAuthority.Contents()
        one.maximumPathLength = 1
        #expect(try await failures(root: one) == [])
        let root = try TestAuthority("root", below: nil, one)
        let first = try TestAuthority("first", below: root)
        let second = try TestAuthority("second", below: first)
        #expect(
            try await failures(
                testDER(TestEndorsement().issue(by: second)), roots: [root.pem],
                intermediates: [first.pem, second.pem]) == [.issuerPath])
    }

    @Test("an issuer for other purposes or names is refused; policies are nobody's demand")
    func constraints() async throws {
        var contents = TestAuthority.Contents()
        contents.more = [
            try Certificate.Extension(ExtendedKeyUsage([.serverAuth]), critical: false)
        ]
        #expect(try await failures(intermediate: contents) == [.issuerPath])
        contents.more = [
            try Certificate.Extension(
                ExtendedKeyUsage([ExtendedKeyUsage.Usage(oid: [2, 23, 133, 8, 1])]), critical: true)
        ]
        #expect(try await failures(intermediate: contents) == [])
        contents.more = [
            try Certificate.Extension(
                NameConstraints(excludedSubtrees: [.dnsName("example.com")]), critical: true)
        ]
        #expect(try await failures(intermediate: contents) == [.issuerPath])
        // certificatePolicies with anyPolicy, critical as Infineon and STMicroelectronics have it.
        contents.more = [
            Certificate.Extension(
                oid: [2, 5, 29, 32], critical: true,
                value: [0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1D, 0x20, 0x00])
        ]
        #expect(try await failures(intermediate: contents) == [])
        // policyConstraints: requireExplicitPolicy.
        contents.more = [
            Certificate.Extension(
                oid: [2, 5, 29, 36], critical: true, value: [0x30, 0x03, 0x80, 0x01, 0x00])
        ]
        #expect(try await failures(intermediate: contents) == [.issuerPath])
    }

    @Test(
        "signatures with SHA-1 are refused, of the certificate and of an issuer; a root's is nobody's"
    )
    func sha1() async throws {
        let key = try _RSA.Signing.PrivateKey(keySize: .bits2048)
        let root = try TestAuthority("root", below: nil, rsa: key)
        let right = testDER(try TestEndorsement().issue(by: root))
        #expect(try await failures(right, roots: [root.pem]) == [])
        let weak = testDER(
            try TestEndorsement().issue(by: root, algorithm: .sha1WithRSAEncryption))
        #expect(
            try await failures(weak, roots: [root.pem]) == [.issuerSignature, .issuerPath])
        let issuer = try TestAuthority("issuer", below: root, algorithm: .sha1WithRSAEncryption)
        let below = testDER(try TestEndorsement().issue(by: issuer))
        #expect(
            try await failures(below, roots: [root.pem], intermediates: [issuer.pem])
                == [.issuerPath])
        #expect(try await failures(below, roots: [issuer.pem]) == [])
        let old = try TestAuthority(
            "root", below: nil, rsa: key, algorithm: .sha1WithRSAEncryption)
        #expect(try await failures(right, roots: [old.pem]) == [])
    }

    @Test("an issuer of the same name with another key has not signed it")
    func namesake() async throws {
        let root = try TestAuthority("root", below: nil)
        let issuer = try TestAuthority("issuer", below: root)
        let namesake = try TestAuthority("issuer", below: nil)
        let certificate = testDER(try TestEndorsement().issue(by: issuer))
        #expect(
            try await failures(certificate, roots: [namesake.pem])
                == [.issuerSignature, .issuerPath])
        #expect(
            try await failures(
                certificate, roots: [root.pem], intermediates: [namesake.pem, issuer.pem]) == [])
        // Somebody else's authority, with a certificate of its own for the same name.
        let forged = testDER(try TestEndorsement().issue(by: namesake))
        #expect(
            try await failures(forged, roots: [root.pem], intermediates: [namesake.pem])
                == [.issuerPath])
    }

    // MARK: faults of TPM makers; the signature is over what they wrote

    private func faulty(
        _ prepare: (inout TestEndorsement) -> Void = { _ in }, _ change: (inout [UInt8]) -> Void
    ) async throws -> Set<EndorsementCheck> {
        let root = try TestAuthority("root", below: nil)
        var endorsement = TestEndorsement()
        prepare(&endorsement)
        let made = try endorsement.issue(by: root)
        let right = try root.sign(made) { _ in }
        #expect(try await failures(right, roots: [root.pem]) == [])
        let bytes = try root.sign(made, changing: change)
        #expect(bytes != right)
        let failed = try await failures(bytes, roots: [root.pem])
        let verifier = try EndorsementPathVerifier(roots: [root.pem], intermediates: [])
        let fingerprint = await verifier.appraise(bytes, at: now).verified?.fingerprint
        #expect(fingerprint == HashAlgorithm.sha256.digest(bytes))
        // The signature of the well-formed copy would be another: it must not be what is verified.
        let unsigned = testDER(made)
        var swapped = unsigned
        change(&swapped)
        #expect(
            try await failures(swapped, roots: [root.pem]).contains(.issuerSignature))
        return failed
    }

    @Test("keylime #944: sets out of order, as Nuvoton writes them")
    func sets() async throws {
        let manufacturer = Self.attribute(1, "id:00000001")
        let model = Self.attribute(2, "model-00001")
        #expect(
            try await faulty({ $0.isOneName = true }) { bytes in
                bytes.overwrite(manufacturer + model, with: model + manufacturer)
            } == [])
    }

    private static func attribute(_ number: UInt8, _ text: String) -> [UInt8] {
        let id: [UInt8] = [0x06, 0x05, 0x67, 0x81, 0x05, 0x02, number]
        let value = [0x0C, UInt8(text.utf8.count)] + Array(text.utf8)
        return [0x30, UInt8(id.count + value.count)] + id + value
    }

    @Test("go-tspi #30: an integer with leading zeros, as STMicroelectronics writes it")
    func integers() async throws {
        #expect(
            try await faulty { bytes in
                bytes.overwrite([0x02, 0x02, 0x01, 0x02], with: [0x02, 0x02, 0x00, 0x02])
            } == [])
    }

    @Test("trailing zeros in the key usage and FALSE written out, as Intel writes them")
    func defaults() async throws {
        #expect(
            try await faulty { bytes in
                bytes.overwrite(
                    [0x04, 0x04, 0x03, 0x02, 0x03, 0x08],
                    with: [0x04, 0x04, 0x03, 0x02, 0x00, 0x08])
            } == [])
        #expect(
            try await faulty { bytes in
                bytes.overwrite(
                    [0x55, 0x1D, 0x0F, 0x01, 0x01, 0xFF],
                    with: [0x55, 0x1D, 0x0F, 0x01, 0x01, 0x00])
            } == [])
    }

    @Test("an RSA key marked for OAEP, as Infineon marks it")
    func oaep() async throws {
        let key = try _RSA.Signing.PrivateKey(keySize: .bits2048).publicKey
        #expect(
            try await faulty({
                $0.publicKey = Certificate.PublicKey(key)
                $0.usage = KeyUsage(keyEncipherment: true)
            }) { bytes in
                let start: [UInt8] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01]
                bytes.overwrite(start + [0x01], with: start + [0x07])
            } == [])
    }

    @Test("HIRS: a certificate with the header of TPM 1.2 before it and erased NV behind it")
    func stored() async throws {
        let root = try TestAuthority("root", below: nil)
        let certificate = testDER(try TestEndorsement().issue(by: root))
        let size = [UInt8(certificate.count >> 8), UInt8(certificate.count & 0xFF)]
        let stored = [0x10, 0x01, 0x00] + size + certificate
        #expect(try await failures(stored + [0xFF, 0xFF], roots: [root.pem]) == [])
        #expect(
            try await failures(stored + [0xFF, 0x01], roots: [root.pem])
                == Set(EndorsementCheck.allCases))
    }

    @Test("garbage is refused and does not stop the program")
    func garbage() async throws {
        let root = try TestAuthority("root", below: nil)
        let certificate = testDER(try TestEndorsement().issue(by: root))
        let verifier = try EndorsementPathVerifier(roots: [root.pem], intermediates: [])
        for size in stride(from: 0, to: certificate.count, by: 3) {
            #expect(await verifier.appraise(Array(certificate[..<size]), at: now).verified == nil)
        }
        let deep: [UInt8] = (0..<4000).reduce(into: []) { bytes, _ in bytes += [0x30, 0x80] }
        #expect(await verifier.appraise(deep, at: now).verified == nil)
        for bit in certificate.indices.flatMap({ [$0 * 8, $0 * 8 + 5] }) {
            var changed = certificate
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(await verifier.appraise(changed, at: now).verified == nil, "bit \(bit)")
        }
    }

    @Test("files that are no certificates are left out and counted")
    func unreadable() throws {
        let root = try TestAuthority("root", below: nil)
        let verifier = try EndorsementPathVerifier(
            roots: [root.pem, [1, 2, 3]], intermediates: [[4]])
        #expect(verifier.unreadableFiles == 2)
        #expect(throws: EndorsementError.malformed) {
            try EndorsementPathVerifier(roots: [[1, 2, 3]], intermediates: [])
        }
    }
}
