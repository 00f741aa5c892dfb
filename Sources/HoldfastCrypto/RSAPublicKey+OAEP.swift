extension RSAPublicKey {
    /// Encrypts a secret with RSAES-OAEP and a label.
    ///
    /// swift-crypto knows no labels, and TPMs decrypt nothing without one; so the encoding is done
    /// here. No step takes a time that depends on the secret.
    ///
    /// - Parameters:
    ///   - secret: at most as long as the modulus, less two digests and two bytes.
    ///   - hash: of the label and of MGF1; SHA-1 is refused.
    ///   - label: the bytes that are hashed; a TPM's end with a zero.
    ///   - random: for the seed, as long as a digest.
    /// - Returns: as many bytes as the modulus has.
    /// - Throws: `.hashNotAccepted`, or `.rsaKeyInvalid` when the secret is too long for the key.
    ///
    /// RFC 8017, section 7.1.1; TPM 2.0 Library, Part 1, annex B.4 "RSAES_OAEP".
    public func encryptOAEP(
        _ secret: SymmetricSecret, hash: HashAlgorithm, label: [UInt8], random: RandomSource
    ) throws(KeyError) -> [UInt8] {
        guard hash != .sha1 else { throw .hashNotAccepted }
        let size = modulus.count
        let digest = hash.digestSize
        guard secret.count <= size - 2 * digest - 2 else { throw .rsaKeyInvalid }
        var message = secret.copyBytes()
        var block = hash.digest(label)
        block += [UInt8](repeating: 0, count: size - message.count - 2 * digest - 2)
        block.append(1)
        block += message
        var seed = random.bytes(digest)
        var encoded = [UInt8](repeating: 0, count: size)
        defer {
            wipe(&message)
            wipe(&block)
            wipe(&seed)
            wipe(&encoded)
        }
        mask(&block, hash, from: seed)
        mask(&seed, hash, from: block)
        for index in seed.indices { encoded[1 + index] = seed[index] }
        for index in block.indices { encoded[1 + digest + index] = block[index] }
        return MontgomeryModulus(modulus).power65537(encoded)
    }
}

/// XORs the output of MGF1 onto bytes.
///
/// RFC 8017, appendix B.2.1.
private func mask(_ bytes: inout [UInt8], _ hash: HashAlgorithm, from seed: [UInt8]) {
    for start in stride(from: 0, to: bytes.count, by: hash.digestSize) {
        let counter = UInt32(start / hash.digestSize)
        var output = hash.digest(
            seed, (0..<4).map { UInt8(truncatingIfNeeded: counter >> (24 - 8 * $0)) })
        for index in start..<min(start + hash.digestSize, bytes.count) {
            bytes[index] ^= output[index - start]
        }
        wipe(&output)
    }
}

/// Powers modulo an odd number, in time that depends on its length alone.
///
/// No library of ours has a raw RSA operation. The exponent and the modulus are public; the base is
/// not, so there is no branch and no index that depends on it.
///
/// Koç, Acar, Kaliski: "Analyzing and Comparing Montgomery Multiplication Algorithms", CIOS.
struct MontgomeryModulus {
    /// Least significant first.
    private let modulus: [UInt64]
    /// -1 / modulus, modulo 2^64.
    private let inverse: UInt64
    /// 2^(128 · words), modulo the modulus.
    private let square: [UInt64]

    /// - Parameter bytes: big-endian, a multiple of 8, the highest bit set, odd.
    init(_ bytes: [UInt8]) {
        let words = Self.words(bytes)
        modulus = words
        // Newton's iteration doubles the correct bits: 3, 6, 12, 24, 48, 96.
        var reciprocal = words[0]
        for _ in 0..<5 { reciprocal = reciprocal &* (2 &- words[0] &* reciprocal) }
        inverse = 0 &- reciprocal
        // The highest bit is set, so 2^(64 · words) less the modulus is below the modulus.
        var value = [UInt64](repeating: 0, count: words.count)
        _ = Self.subtract(words, from: &value)
        for _ in 0..<64 * words.count {
            var carry: UInt64 = 0
            for index in value.indices {
                let high = value[index] >> 63
                value[index] = value[index] << 1 | carry
                carry = high
            }
            Self.reduce(&value, carry, words)
        }
        square = value
    }

    /// `base` to the power of 65,537.
    ///
    /// - Parameter base: big-endian, as long as the modulus and below it.
    func power65537(_ base: [UInt8]) -> [UInt8] {
        var plain = Self.words(base)
        var start = product(plain, square)
        var power = start
        for _ in 0..<16 { power = product(power, power) }
        // Out of the Montgomery form with the last multiplication: start and plain are the same.
        power = product(power, plain)
        for index in start.indices {
            start[index] = 0
            plain[index] = 0
        }
        return power.reversed().flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * UInt64($0))) }
        }
    }

    /// The product, divided by 2^(64 · words).
    private func product(_ left: [UInt64], _ right: [UInt64]) -> [UInt64] {
        let count = modulus.count
        var sum = [UInt64](repeating: 0, count: count + 2)
        for index in 0..<count {
            var carry: UInt64 = 0
            for other in 0..<count {
                (carry, sum[other]) = Self.multiplyAdd(left[other], right[index], sum[other], carry)
            }
            (carry, sum[count]) = Self.add(sum[count], carry)
            sum[count + 1] = carry
            let factor = sum[0] &* inverse
            (carry, _) = Self.multiplyAdd(factor, modulus[0], sum[0], 0)
            for other in 1..<count {
                (carry, sum[other - 1]) = Self.multiplyAdd(
                    factor, modulus[other], sum[other], carry)
            }
            (carry, sum[count - 1]) = Self.add(sum[count], carry)
            sum[count] = sum[count + 1] &+ carry
        }
        let carry = sum[count]
        sum.removeLast(2)
        Self.reduce(&sum, carry, modulus)
        return sum
    }

    /// Takes the modulus away once when the value, with its carry, is not below it.
    private static func reduce(_ value: inout [UInt64], _ carry: UInt64, _ modulus: [UInt64]) {
        var less = value
        let borrow = subtract(modulus, from: &less)
        // Keep the value when the subtraction borrowed more than the carry has.
        let keep = 0 &- (borrow & (carry ^ 1))
        for index in value.indices { value[index] = value[index] & keep | less[index] & ~keep }
    }

    private static func subtract(_ right: [UInt64], from left: inout [UInt64]) -> UInt64 {
        var borrow: UInt64 = 0
        for index in left.indices {
            let (first, one) = left[index].subtractingReportingOverflow(right[index])
            let (second, two) = first.subtractingReportingOverflow(borrow)
            left[index] = second
            borrow = (one ? 1 : 0) | (two ? 1 : 0)
        }
        return borrow
    }

    private static func add(_ left: UInt64, _ right: UInt64) -> (carry: UInt64, sum: UInt64) {
        let (sum, overflow) = left.addingReportingOverflow(right)
        return (overflow ? 1 : 0, sum)
    }

    private static func multiplyAdd(
        _ left: UInt64, _ right: UInt64, _ first: UInt64, _ second: UInt64
    ) -> (carry: UInt64, sum: UInt64) {
        let (high, low) = left.multipliedFullWidth(by: right)
        let (one, sum) = add(low, first)
        let (two, total) = add(sum, second)
        return (high &+ one &+ two, total)
    }

    private static func words(_ bytes: [UInt8]) -> [UInt64] {
        stride(from: bytes.count - 8, through: 0, by: -8).map { start in
            bytes[start..<start + 8].reduce(0) { $0 << 8 | UInt64($1) }
        }
    }
}
