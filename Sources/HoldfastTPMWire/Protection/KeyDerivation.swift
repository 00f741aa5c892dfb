public import HoldfastCrypto

/// Key derivation with HMAC in counter mode.
///
/// - Parameters:
///   - label: without the terminating zero, which is added.
///   - bits: 0 or more; surplus bits of the first octet are zero.
///
/// `KDFa()`, Part 1, section 11.4.10.2; NIST SP 800-108.
public func kdfa(
    _ hash: HashAlgorithm, key: SymmetricSecret, label: String, contextU: [UInt8],
    contextV: [UInt8], bits: Int
) -> SymmetricSecret {
    derive(bits) { counter in
        var input = WireWriter(capacity: 64)
        input.uint32(counter)
        input.raw(Array(label.utf8) + [0])
        input.raw(contextU)
        input.raw(contextV)
        input.uint32(UInt32(bits))
        return hash.hmac(key: key, input.bytes)
    }
}

/// Key derivation from an ECDH secret.
///
/// - Parameters:
///   - z: x coordinate of the shared point, padded to the size of the field.
///   - partyU: x coordinate of the ephemeral key.
///   - partyV: x coordinate of the static key.
///
/// `KDFe()`, Part 1, section 11.4.10.3; NIST SP 800-56A.
public func kdfe(
    _ hash: HashAlgorithm, z: SymmetricSecret, label: String, partyU: [UInt8], partyV: [UInt8],
    bits: Int
) -> SymmetricSecret {
    derive(bits) { counter in
        var prefix = WireWriter(capacity: 4)
        prefix.uint32(counter)
        return z.digest(
            hash, prefix: prefix.bytes, suffix: Array(label.utf8) + [0] + partyU + partyV)
    }
}

private func derive(_ bits: Int, _ block: (UInt32) -> [UInt8]) -> SymmetricSecret {
    let size = (bits + 7) / 8
    var output: [UInt8] = []
    defer { wipe(&output) }
    output.reserveCapacity(size + 64)
    var counter: UInt32 = 1
    while output.count < size {
        var more = block(counter)
        output += more
        wipe(&more)
        counter += 1
    }
    output.removeLast(output.count - size)
    // The surplus bits are the highest ones of the first octet.
    if bits % 8 != 0 { output[0] &= 0xFF >> UInt8(8 - bits % 8) }
    return SymmetricSecret(output)
}
