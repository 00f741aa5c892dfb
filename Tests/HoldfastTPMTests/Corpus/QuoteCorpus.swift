import Crypto
import CryptoExtras
import FoundationEssentials
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire

/// A quote as files, to be judged by every oracle.
struct QuoteCase: Sendable {
    /// How it was made; of a bad one, what was done to it.
    var kind: String
    /// Nothing is wrong with it.
    var isGood: Bool
    /// The key: `TPMT_PUBLIC`.
    var publicArea: [UInt8]
    /// `TPMS_ATTEST`.
    var message: [UInt8]
    /// `TPMT_SIGNATURE`.
    var signature: [UInt8]
    var nonce: [UInt8]
    /// What was asked for, as text.
    var selection: String
    /// As `tpm2_quote -o` writes it.
    var values: [UInt8]
    /// The name of the scheme's hash.
    var hash: String
    var isPSS = false

    /// A copy with something wrong; `nil` when it came out the same.
    func changed(_ kind: String, _ change: (inout QuoteCase) -> Void) -> QuoteCase? {
        var copy = self
        change(&copy)
        let isSame =
            copy.message == message && copy.signature == signature && copy.nonce == nonce
            && copy.values == values && copy.selection == selection
            && copy.publicArea == publicArea
        copy.kind = kind
        copy.isGood = false
        return isSame ? nil : copy
    }
}

/// A key in software that signs what no TPM would.
struct CorpusSigner {
    enum Key {
        case ec(ECPrivateKey)
        case rsa(_RSA.Signing.PrivateKey)
    }

    let key: Key
    var area: PublicArea
    let scheme: AsymmetricScheme

    init(curve: EllipticCurve) {
        let key = ECPrivateKey(curve: curve, random: .system)
        self.key = .ec(key)
        scheme = .ecdsa(curve.naturalHash)
        area = KeyTemplate.attestationKey(vendorID: [])
        area.kind = .ecc(
            symmetric: .none, scheme: scheme, curve: curve, x: key.publicKey.x, y: key.publicKey.y)
    }

    init(_ key: _RSA.Signing.PrivateKey, _ scheme: AsymmetricScheme) throws {
        self.key = .rsa(key)
        self.scheme = scheme
        let modulus = [UInt8](try key.publicKey.getKeyPrimitives().modulus)
        area = KeyTemplate.attestationKey(vendorID: [])
        area.kind = .rsa(
            symmetric: .none, scheme: scheme, bits: UInt16(modulus.count * 8), exponent: 0,
            modulus: modulus)
    }

    var hash: HashAlgorithm {
        switch scheme {
        case .ecdsa(let hash), .rsassa(let hash), .rsapss(let hash): hash
        default: .sha256
        }
    }

    func sign(_ message: [UInt8]) throws -> Signature {
        switch (key, scheme) {
        case (.ec(let key), _):
            let raw = try key.signECDSA(message)
            return .ecdsa(
                hash: hash, r: [UInt8](raw[..<(raw.count / 2)]),
                s: [UInt8](raw[(raw.count / 2)...]))
        case (.rsa(let key), .rsapss):
            return .rsapss(hash: hash, signature: try rsa(key, message, .PSS))
        case (.rsa(let key), _):
            return .rsassa(hash: hash, signature: try rsa(key, message, .insecurePKCS1v1_5))
        }
    }

    private func rsa(
        _ key: _RSA.Signing.PrivateKey, _ message: [UInt8], _ padding: _RSA.Signing.Padding
    ) throws -> [UInt8] {
        let signature =
            switch hash {
            case .sha1:
                try key.signature(for: Insecure.SHA1.hash(data: message), padding: padding)
            case .sha384: try key.signature(for: SHA384.hash(data: message), padding: padding)
            default: try key.signature(for: SHA256.hash(data: message), padding: padding)
            }
        return [UInt8](signature.rawRepresentation)
    }
}

/// Quotes, good and bad.
struct QuoteCorpus {
    private(set) var cases: [QuoteCase] = []
    private var dice: CorpusDice
    private let signers: [CorpusSigner]

    /// Of 24 PCRs in two banks, none as after a reset.
    private let softwareValues: PCRValues

    /// - Parameters:
    ///   - good: how many good ones; half are of a software TPM.
    ///   - bad: at least so many bad ones.
    init(good: Int, bad: Int, seed: UInt64, tpm: TPMConnection) throws {
        dice = CorpusDice(seed: seed)
        let rsa = try [_RSA.Signing.KeySize.bits2048, .bits3072].map {
            try _RSA.Signing.PrivateKey(keySize: $0)
        }
        signers =
            [CorpusSigner(curve: .p256), CorpusSigner(curve: .p384)]
            + [
                try CorpusSigner(rsa[0], .rsassa(.sha256)),
                try CorpusSigner(rsa[0], .rsapss(.sha256)),
                try CorpusSigner(rsa[1], .rsassa(.sha384)),
                try CorpusSigner(rsa[1], .rsapss(.sha384)),
            ]
        var values = PCRValues()
        for bank in [HashAlgorithm.sha1, .sha256, .sha384] {
            for index in PCRIndex.all {
                values[bank, index] = bank.digest(dice.bytes(8))
            }
        }
        softwareValues = values
        try quoteWithTPM(good / 2, tpm)
        while cases.count < good {
            let signer = signers[cases.count % signers.count]
            cases.append(try make(signer, "software", isGood: true))
        }
        let sound = cases
        // Every kind of change as often as any other, until there are enough.
        var rest = bad
        while rest > 0 {
            let changed = mutants(of: sound[dice.below(sound.count)], and: sound)
            let signed = try signedLies(by: signers[dice.below(signers.count)])
            cases += changed + signed
            rest -= changed.count + signed.count
        }
    }

    // MARK: good ones

    private mutating func randomSelection(resettable: Bool = true) -> PCRSelection {
        func some(_ limit: Int, _ dice: inout CorpusDice) -> [PCRIndex] {
            let boot = PCRIndex.all[dice.below(16)]
            let more = PCRIndex.all.filter {
                Int($0.rawValue) < limit && dice.below(3) == 0 && $0 != boot
            }
            return (more + [boot]).sorted()
        }
        let limit = resettable ? 24 : 16
        let banks = [[HashAlgorithm.sha256], [.sha384], [.sha256, .sha384], [.sha384, .sha256]]
        let chosen = banks[dice.below(banks.count)]
        return PCRSelection(joining: chosen.map { PCRSelection($0, some(limit, &dice)) })
    }

    private mutating func quoteWithTPM(_ count: Int, _ tpm: TPMConnection) throws {
        for index in PCRIndex.all where ![17, 18, 19, 20, 21, 22].contains(index.rawValue) {
            try tpm.extend(index, banks: [.sha256, .sha384], with: dice.bytes(4))
        }
        var templates: [PublicArea] = []
        for signer in signers.prefix(4) {
            var area = KeyTemplate.attestationKey(vendorID: [])
            switch signer.area.kind {
            case .ecc(let symmetric, let scheme, let curve, _, _):
                area.kind = .ecc(symmetric: symmetric, scheme: scheme, curve: curve, x: [], y: [])
            case .rsa(let symmetric, let scheme, _, _, _):
                area.kind = .rsa(
                    symmetric: symmetric, scheme: scheme, bits: 2048, exponent: 0, modulus: [])
            case .keyedHash: continue
            }
            templates.append(area)
        }
        for (place, template) in templates.enumerated() {
            let share = count / templates.count + (place < count % templates.count ? 1 : 0)
            let wanted = (0..<share).map { _ in
                // PCR 17 to 22 of a machine without a late launch cannot be extended.
                (randomSelection(resettable: false), dice.bytes(16 + dice.below(17)), dice.bytes(4))
            }
            let extended = PCRIndex.all[dice.below(16)]
            var made: [QuoteCase] = []
            try tpm.withPrimary(template, in: .endorsement) { (key) throws(TPMError) in
                for (selection, nonce, measured) in wanted {
                    try tpm.extend(extended, banks: [.sha256, .sha384], with: measured)
                    let signed = try tpm.run(
                        QuoteCommand(
                            key: key.reference, qualifyingData: nonce, selection: selection),
                        [.emptyAuth])
                    let values = try tpm.readPCRs(selection)
                    made.append(
                        QuoteCase(
                            kind: "tpm", isGood: true, publicArea: key.publicArea.wireBytes,
                            message: signed.attestation.bytes, signature: signed.signature.bytes,
                            nonce: nonce, selection: selection.text,
                            values: Self.file(values, selection),
                            hash: signers[place].hash.name,
                            isPSS: signed.signature.value.scheme == .rsapss(.sha256)))
                }
            }
            cases += made
        }
    }

    /// A quote that is signed in software.
    ///
    /// - Parameters:
    ///   - asked: what the verifier asked for, when it is something else than what is quoted.
    ///   - change: of the structure before it is signed.
    ///   - bytes: of the signed bytes.
    private mutating func make(
        _ signer: CorpusSigner, _ kind: String, isGood: Bool = false,
        over chosen: PCRSelection? = nil, nonce: [UInt8]? = nil, values given: PCRValues? = nil,
        digest: HashAlgorithm? = nil, area: PublicArea? = nil,
        change: (inout Attestation) -> Void = { _ in }, bytes: ([UInt8]) -> [UInt8] = { $0 }
    ) throws -> QuoteCase {
        let selection = chosen ?? randomSelection()
        let values = given ?? softwareValues
        let nonce = nonce ?? dice.bytes(16 + dice.below(17))
        let area = area ?? signer.area
        var attestation = Attestation(
            qualifiedSigner: area.name.qualified(
                below: TPMName(handle: .endorsement), hash: .sha256),
            extraData: nonce,
            clockInfo: ClockInfo(
                clock: dice.next() >> 20, resetCount: UInt32(dice.below(1000)),
                restartCount: UInt32(dice.below(9)), safe: dice.below(2) == 0),
            firmwareVersion: dice.next(),
            attested: .quote(
                selection: selection,
                pcrDigest: values.digest(of: selection, hash: digest ?? signer.hash) ?? []))
        change(&attestation)
        let message = bytes(attestation.wireBytes)
        return QuoteCase(
            kind: kind, isGood: isGood, publicArea: area.wireBytes, message: message,
            signature: try signer.sign(message).wireBytes, nonce: nonce, selection: selection.text,
            values: Self.file(values, selection), hash: signer.hash.name,
            isPSS: signer.scheme == .rsapss(signer.hash))
    }

    // MARK: bad ones

    /// Changes that leave the signature as it is.
    private mutating func mutants(of good: QuoteCase, and all: [QuoteCase]) -> [QuoteCase] {
        let other = all[dice.below(all.count)]
        let sameKey = all.first { $0.publicArea == good.publicArea && $0.message != good.message }
        let asked = randomSelection().text
        let digests = Self.digests(in: good.values)
        let made: [QuoteCase?] = [
            good.changed("message-bit") { $0.message = dice.flipped($0.message) },
            good.changed("message-cut") { $0.message = dice.cut($0.message) },
            good.changed("message-longer") { $0.message = dice.longer($0.message) },
            good.changed("message-other") { $0.message = other.message },
            sameKey.flatMap { older in
                // A genuine quote of the same key, with values that fit: an old one.
                good.changed("replay") {
                    $0.message = older.message
                    $0.signature = older.signature
                    $0.values = older.values
                    $0.selection = older.selection
                }
            },
            good.changed("message-field") { bad in
                let size = [2, 4][dice.below(2)]
                let start = dice.below(bad.message.count - size)
                let filler = [0x00, 0xFF, 0x7F][dice.below(3)] as UInt8
                for offset in start..<start + size { bad.message[offset] = filler }
            },
            good.changed("message-empty") { $0.message = [] },
            good.changed("signature-bit") { $0.signature = dice.flipped($0.signature) },
            good.changed("signature-cut") { $0.signature = dice.cut($0.signature) },
            good.changed("signature-longer") { $0.signature = dice.longer($0.signature) },
            good.changed("signature-other") { $0.signature = other.signature },
            good.changed("signature-zero") { bad in
                for offset in 6..<bad.signature.count { bad.signature[offset] = 0 }
            },
            good.changed("signature-scheme") { bad in
                bad.signature[1] = [0x14, 0x16, 0x18, 0x10, 0x1A][dice.below(5)]
            },
            good.changed("signature-hash") { bad in
                bad.signature[3] = [0x04, 0x0B, 0x0C, 0x0D, 0x27][dice.below(5)]
            },
            good.changed("nonce-bit") { $0.nonce = dice.flipped($0.nonce) },
            good.changed("nonce-cut") { $0.nonce = Array($0.nonce.dropLast(1 + dice.below(8))) },
            good.changed("nonce-longer") { $0.nonce = dice.longer($0.nonce) },
            good.changed("nonce-other") { $0.nonce = other.nonce },
            good.changed("values-bit") { bad in
                let place = digests[dice.below(digests.count)]
                bad.values[place.lowerBound + dice.below(place.count)] ^= 1 << UInt8(dice.below(8))
            },
            good.changed("values-cut") { $0.values = dice.cut($0.values) },
            good.changed("values-longer") { $0.values = dice.longer($0.values) },
            good.changed("values-other") { $0.values = other.values },
            good.changed("values-exchanged") { bad in
                guard digests.count > 1 else { return }
                let first = digests[0]
                guard let second = digests.dropFirst().first(where: { $0.count == first.count })
                else { return }
                let kept = Array(bad.values[first])
                bad.values.replaceSubrange(first, with: Array(bad.values[second]))
                bad.values.replaceSubrange(second, with: kept)
            },
            good.changed("key-other") { $0.publicArea = other.publicArea },
            good.changed("asked-other") { $0.selection = asked },
        ]
        return made.compactMap { $0 }
    }

    /// Structures that say what is not to be believed, signed by the very key.
    private mutating func signedLies(by signer: CorpusSigner) throws -> [QuoteCase] {
        var made: [QuoteCase] = []
        let selection = randomSelection()
        made.append(
            try make(signer, "signed-magic", bytes: { [0xFE] + $0.dropFirst() }))
        made.append(
            try make(
                signer, "signed-type",
                change: {
                    $0.attested = .certify(
                        name: signer.area.name, qualifiedName: $0.qualifiedSigner)
                }))
        made.append(
            try make(
                signer, "signed-type-number",
                bytes: { Array($0[..<4]) + [0x80, 0x19] + $0.dropFirst(6) }))
        made.append(try make(signer, "signed-longer", bytes: { $0 + [0, 0] }))
        made.append(
            try make(
                signer, "signed-nothing",
                change: {
                    $0.attested = .quote(
                        selection: .empty, pcrDigest: signer.hash.digest([]))
                }))
        let fewer = PCRSelection(.sha256, [PCRIndex.all[dice.below(16)]])
        let digest = softwareValues.digest(of: fewer, hash: signer.hash) ?? []
        made.append(
            try make(
                signer, "signed-fewer", over: selection.text == fewer.text ? nil : selection,
                change: { $0.attested = .quote(selection: fewer, pcrDigest: digest) }))
        made.append(
            try make(
                signer, "signed-sha1-bank",
                over: PCRSelection(.sha1, [PCRIndex.all[dice.below(16)]])))
        made.append(
            try make(
                signer, "signed-resettable",
                over: PCRSelection(.sha256, [PCRIndex.all[16 + dice.below(8)]])))
        var reset = softwareValues
        let index = PCRIndex.all[dice.below(8)]
        reset[.sha256, index] = [UInt8](repeating: 0, count: 32)
        made.append(
            try make(
                signer, "signed-unmeasured", over: PCRSelection(.sha256, [index]), values: reset))
        made.append(try make(signer, "signed-short-nonce", nonce: dice.bytes(1 + dice.below(15))))
        made.append(try make(signer, "signed-long-nonce", nonce: dice.bytes(33 + dice.below(16))))
        let bank: HashAlgorithm = signer.hash == .sha256 ? .sha384 : .sha256
        made.append(
            try make(
                signer, "signed-bank-hash", over: PCRSelection(bank, selection.banks[0].indexes),
                digest: bank))
        let twice = PCRSelection(joining: [
            PCRSelection(.sha256, [PCRIndex.all[1]]), PCRSelection(.sha256, [PCRIndex.all[1]]),
        ])
        made.append(try make(signer, "signed-bank-twice", over: twice))
        var weak = signer.area
        let attributes: [ObjectAttributes] = [
            .fixedTPM, .fixedParent, .sensitiveDataOrigin, .restricted, .sign,
        ]
        weak.attributes.remove(attributes[dice.below(attributes.count)])
        made.append(try make(signer, "key-attribute", area: weak))
        var decrypts = signer.area
        decrypts.attributes.insert(dice.below(2) == 0 ? .decrypt : .encryptedDuplication)
        made.append(try make(signer, "key-attribute", area: decrypts))
        if case .rsa(let key) = signer.key {
            let old = try CorpusSigner(key, .rsassa(.sha1))
            made.append(try make(old, "signed-sha1"))
        }
        return made
    }

    // MARK: files

    /// Where the digests lie in a file.
    private static func digests(in file: [UInt8]) -> [Range<Int>] {
        stride(from: 136, to: file.count, by: 532).flatMap { list in
            (0..<Int(file[list])).map { place in
                let start = list + 4 + place * 66
                return start + 2..<start + 2 + Int(file[start])
            }
        }
    }

    /// The structures of the C library, as `tpm2_quote -o` writes them.
    static func file(_ values: PCRValues, _ selection: PCRSelection) -> [UInt8] {
        var file = little(selection.banks.count, 4)
        for bank in selection.banks {
            file += little(Int(bank.hash.id.rawValue), 2) + [UInt8(bank.bitmap.count)]
            file += bank.bitmap + [UInt8](repeating: 0, count: 5 - bank.bitmap.count)
        }
        file += [UInt8](repeating: 0, count: 132 - file.count)
        var digests: [[UInt8]] = []
        for bank in selection.banks {
            for index in bank.indexes { digests.append(values[bank.hash, index] ?? []) }
        }
        let lists = stride(from: 0, to: digests.count, by: 8).map {
            Array(digests[$0..<min($0 + 8, digests.count)])
        }
        file += little(lists.count, 4)
        for list in lists {
            var bytes = little(list.count, 4)
            for digest in list {
                bytes += little(digest.count, 2) + digest
                bytes += [UInt8](repeating: 0, count: 64 - digest.count)
            }
            file += bytes + [UInt8](repeating: 0, count: 532 - bytes.count)
        }
        return file
    }

    private static func little(_ value: Int, _ size: Int) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
}
