import CSodium
import Synchronization

/// The seam to libsodium: every call of it stands in this file.
///
/// Lengths are checked by the callers, whose types fix them. Results go into spans, so that the
/// caller decides whether they are secret; a call that can refuse throws.
enum Sodium {
    private static let started: Void = {
        precondition(sodium_init() >= 0, "libsodium does not start")
    }()

    private static func check(_ code: Int32, or refusal: CryptoError) throws(CryptoError) {
        guard code == 0 else { throw refusal }
    }

    /// For calls that fail only when a length is wrong, which is a mistake of ours.
    private static func mustSucceed(_ code: Int32) {
        precondition(code == 0, "libsodium refuses lengths that were checked")
    }

    // MARK: Memory and random bytes

    static func allocate(_ count: Int) -> UnsafeMutableRawPointer? {
        started
        if let kept = unsafe GuardedBlocks.take(count) { return unsafe kept }
        return unsafe sodium_malloc(count)
    }

    /// Wipes and gives back what ``allocate(_:)`` gave for the same count.
    static func release(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
        unsafe wipe(pointer, count)
        guard unsafe !GuardedBlocks.keep(pointer, count) else { return }
        unsafe sodium_free(pointer)
    }

    static func wipe(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
        unsafe sodium_memzero(pointer, count)
    }

    /// Wipes what calls that have returned left below on the stack.
    static func clearStack() { sodium_stackzero(8192) }

    static func fillRandomly(_ target: inout MutableSpan<UInt8>) {
        let count = target.count
        unsafe fill(&target) { target in
            unsafe randombytes_buf(target, count)
        }
    }

    // MARK: Ed25519

    static func makeSigningKey(
        seed: Span<UInt8>, publicKey: inout MutableSpan<UInt8>,
        privateKey: inout MutableSpan<UInt8>
    ) {
        let code = unsafe fill(&publicKey) { publicKey in
            unsafe fill(&privateKey) { privateKey in
                unsafe lend(seed) { seed, _ in
                    unsafe crypto_sign_seed_keypair(publicKey, privateKey, seed)
                }
            }
        }
        mustSucceed(code)
    }

    static func sign(
        _ message: Span<UInt8>, privateKey: Span<UInt8>, into signature: inout MutableSpan<UInt8>
    ) {
        let code = unsafe fill(&signature) { signature in
            unsafe lend(message, privateKey) { message, count, key, _ in
                unsafe crypto_sign_detached(signature, nil /* siglen_p */, message, count, key)
            }
        }
        mustSucceed(code)
    }

    static func verify(
        signature: Span<UInt8>, message: Span<UInt8>, publicKey: Span<UInt8>
    ) throws(CryptoError) {
        started
        let code = unsafe lend(message, signature, publicKey) { message, count, signature, key in
            unsafe crypto_sign_verify_detached(signature, message, count, key)
        }
        try check(code, or: .signatureInvalid)
    }

    // MARK: BLAKE2b

    /// Hashes, without a key when `key` is empty.
    static func blake2b(
        _ message: Span<UInt8>, key: Span<UInt8>, into hash: inout MutableSpan<UInt8>
    ) {
        let size = hash.count
        let code = unsafe fill(&hash) { hash in
            unsafe lend(message, key) { message, count, key, keyCount in
                unsafe crypto_generichash(hash, size, message, count, key, Int(keyCount))
            }
        }
        mustSucceed(code)
    }

    // MARK: XChaCha20 and XChaCha20-Poly1305

    static func xchacha20(
        _ input: Span<UInt8>, nonce: Span<UInt8>, key: Span<UInt8>,
        into output: inout MutableSpan<UInt8>
    ) {
        let code = unsafe fill(&output) { output in
            unsafe lend(input, nonce, key) { input, count, nonce, key in
                unsafe crypto_stream_xchacha20_xor(output, input, count, nonce, key)
            }
        }
        mustSucceed(code)
    }

    static func sealXChaCha20Poly1305(
        _ plaintext: Span<UInt8>, nonce: Span<UInt8>, associatedData: Span<UInt8>,
        key: Span<UInt8>, into sealed: inout MutableSpan<UInt8>
    ) {
        let code = unsafe fill(&sealed) { sealed in
            unsafe lend(associatedData) { data, dataCount in
                unsafe lend(plaintext, nonce, key) { plaintext, count, nonce, key in
                    unsafe crypto_aead_xchacha20poly1305_ietf_encrypt(
                        sealed, nil /* clen_p */, plaintext, count, data, dataCount,
                        nil /* nsec */, nonce, key)
                }
            }
        }
        mustSucceed(code)
    }

    static func openXChaCha20Poly1305(
        _ sealed: Span<UInt8>, nonce: Span<UInt8>, associatedData: Span<UInt8>,
        key: Span<UInt8>, into plaintext: inout MutableSpan<UInt8>
    ) throws(CryptoError) {
        let code = unsafe fill(&plaintext) { plaintext in
            unsafe lend(associatedData) { data, dataCount in
                unsafe lend(sealed, nonce, key) { sealed, count, nonce, key in
                    unsafe crypto_aead_xchacha20poly1305_ietf_decrypt(
                        plaintext, nil /* mlen_p */, nil /* nsec */, sealed, count, data,
                        dataCount, nonce, key)
                }
            }
        }
        try check(code, or: .authenticationFailed)
    }

    // MARK: X25519 and sealed boxes

    static func x25519PublicKey(
        of privateKey: Span<UInt8>, into publicKey: inout MutableSpan<UInt8>
    ) {
        let code = unsafe fill(&publicKey) { publicKey in
            unsafe lend(privateKey) { key, _ in unsafe crypto_scalarmult_base(publicKey, key) }
        }
        mustSucceed(code)
    }

    static func box(
        _ plaintext: Span<UInt8>, nonce: Span<UInt8>, publicKey: Span<UInt8>,
        privateKey: Span<UInt8>, into boxed: inout MutableSpan<UInt8>
    ) throws(CryptoError) {
        let code = unsafe fill(&boxed) { boxed in
            unsafe lend(nonce) { nonce, _ in
                unsafe lend(plaintext, publicKey, privateKey) { plaintext, count, theirs, ours in
                    unsafe crypto_box_easy(boxed, plaintext, count, nonce, theirs, ours)
                }
            }
        }
        try check(code, or: .publicKeyInvalid)
    }

    static func openSealedBox(
        _ box: Span<UInt8>, publicKey: Span<UInt8>, privateKey: Span<UInt8>,
        into plaintext: inout MutableSpan<UInt8>
    ) throws(CryptoError) {
        let code = unsafe fill(&plaintext) { plaintext in
            unsafe lend(box, publicKey, privateKey) { box, count, publicKey, privateKey in
                unsafe crypto_box_seal_open(plaintext, box, count, publicKey, privateKey)
            }
        }
        try check(code, or: .authenticationFailed)
    }

    // MARK: Argon2id

    static func argon2id(
        _ password: Span<UInt8>, salt: Span<UInt8>, passes: Int, memory: Int,
        into hash: inout MutableSpan<UInt8>
    ) throws(CryptoError) {
        let size = UInt64(hash.count)
        let code = unsafe fill(&hash) { hash in
            unsafe lend(password, salt) { password, count, salt, _ in
                unsafe password.withMemoryRebound(to: CChar.self, capacity: Int(count)) {
                    password in
                    unsafe crypto_pwhash(
                        hash, size, password, count, salt, UInt64(passes), memory,
                        crypto_pwhash_ALG_ARGON2ID13)
                }
            }
        }
        try check(code, or: .outOfMemory)
    }

    // MARK: Lending

    /// Lends room for a result; the pointer is never null, not even for no bytes.
    private static func fill<R>(
        _ target: inout MutableSpan<UInt8>, _ body: (UnsafeMutablePointer<UInt8>) -> R
    ) -> R {
        started
        return unsafe target.withUnsafeMutableBufferPointer { target in
            guard let base = target.baseAddress else {
                var nothing: UInt8 = 0
                return unsafe body(&nothing)
            }
            return unsafe body(base)
        }
    }

    /// Lends a span as pointer and length; the pointer is never null, not even for no bytes.
    private static func lend<R>(
        _ a: Span<UInt8>, _ body: (UnsafePointer<UInt8>, UInt64) -> R
    ) -> R {
        unsafe a.withUnsafeBufferPointer { a in
            guard let base = a.baseAddress else {
                var nothing: UInt8 = 0
                return unsafe body(&nothing, 0)
            }
            return unsafe body(base, UInt64(a.count))
        }
    }

    private static func lend<R>(
        _ a: Span<UInt8>, _ b: Span<UInt8>,
        _ body: (UnsafePointer<UInt8>, UInt64, UnsafePointer<UInt8>, UInt64) -> R
    ) -> R {
        unsafe lend(a) { a, aCount in
            unsafe lend(b) { b, bCount in unsafe body(a, aCount, b, bCount) }
        }
    }

    /// Lends one span of any length and two whose length their types fix.
    private static func lend<R>(
        _ a: Span<UInt8>, _ b: Span<UInt8>, _ c: Span<UInt8>,
        _ body: (UnsafePointer<UInt8>, UInt64, UnsafePointer<UInt8>, UnsafePointer<UInt8>) -> R
    ) -> R {
        unsafe lend(a, b) { a, count, b, _ in
            unsafe lend(c) { c, _ in unsafe body(a, count, b, c) }
        }
    }
}

/// Blocks of guarded memory that were wiped and are used again: each costs eight calls of the kernel, and a
/// command for the TPM needs several.
///
/// Each block has its own fences, and is of one size for good.
private enum GuardedBlocks {
    /// Addresses by size; whoever has set ``isBusy`` may look.
    private nonisolated(unsafe) static var kept: [Int: [UInt]] = [:]
    private static let isBusy = Atomic(false)
    /// Larger ones are few.
    private static let largest = 512
    /// Of each size.
    private static let most = 8

    static func take(_ count: Int) -> UnsafeMutableRawPointer? {
        guard count <= largest else { return nil }
        let address = unlessBusy { unsafe kept[count]?.popLast() } ?? nil
        return unsafe address.flatMap { unsafe UnsafeMutableRawPointer(bitPattern: $0) }
    }

    static func keep(_ pointer: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        guard count <= largest else { return false }
        let address = UInt(bitPattern: pointer)
        return unlessBusy {
            guard unsafe kept[count]?.count ?? 0 < most else { return false }
            unsafe kept[count, default: []].append(address)
            return true
        } ?? false
    }

    /// Never waits, and is no lock of the library's: in the child of a fork it may be held for good by a
    /// thread that is not there.
    private static func unlessBusy<R>(_ body: () -> R) -> R? {
        guard
            isBusy.compareExchange(
                expected: false, desired: true, ordering: .acquiringAndReleasing
            ).exchanged
        else { return nil }
        defer { isBusy.store(false, ordering: .releasing) }
        return body()
    }
}
