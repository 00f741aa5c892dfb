/// Secret bytes in guarded memory: locked, fenced by guard pages, wiped when released.
///
/// The value cannot be copied, printed or compared; it is lent to a closure as a span.
///
/// libsodium, `sodium_malloc`.
@safe public struct SecretBytes: ~Copyable {
    private let storage: UnsafeMutableRawPointer

    /// The most bytes that one secret may have.
    public static let maximumCount = 1 << 24

    /// How many bytes there are.
    public let count: Int

    /// Allocates guarded memory and lets `body` fill it.
    ///
    /// - Parameters:
    ///   - count: 0 to 16 MiB.
    ///   - body: receives the zeroed bytes; when it throws, the memory is wiped and released.
    /// - Throws: what `body` throws.
    public init<E: Error>(
        count: Int, initializingWith body: (inout MutableSpan<UInt8>) throws(E) -> Void
    ) throws(E) {
        precondition(count >= 0 && count <= Self.maximumCount, "a secret is at most 16 MiB")
        guard let pointer = unsafe Sodium.allocate(max(count, 1)) else {
            fatalError("no guarded memory left: raise the limit on locked memory (ulimit -l)")
        }
        unsafe Sodium.wipe(pointer, max(count, 1))
        do {
            let typed = unsafe pointer.bindMemory(to: UInt8.self, capacity: max(count, 1))
            var span = unsafe MutableSpan(_unsafeStart: typed, count: count)
            try body(&span)
        } catch {
            unsafe Sodium.release(pointer, max(count, 1))
            throw error
        }
        unsafe self.storage = pointer
        self.count = count
    }

    deinit { unsafe Sodium.release(storage, max(count, 1)) }

    /// Copies bytes that are already in ordinary memory, for example read from a file.
    ///
    /// The source is not wiped: prefer filling the guarded memory directly.
    public init(copying bytes: Span<UInt8>) {
        self.init(count: bytes.count) { (target: inout MutableSpan<UInt8>) in
            for index in bytes.indices { target[index] = bytes[index] }
        }
    }

    /// Copies bytes that are already in ordinary memory.
    public init(copying bytes: [UInt8]) { self.init(copying: bytes.span) }

    /// Lends the bytes for the duration of `body`.
    public borrowing func withBytes<R: ~Copyable, E: Error>(
        _ body: (Span<UInt8>) throws(E) -> R
    ) throws(E) -> R {
        let typed = unsafe storage.assumingMemoryBound(to: UInt8.self)
        let span = unsafe Span(_unsafeStart: UnsafePointer(typed), count: count)
        return try body(span)
    }

    /// Lends the bytes to code that needs a pointer; C libraries, that is.
    borrowing func withUnsafeBuffer<R: ~Copyable, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try unsafe body(UnsafeRawBufferPointer(start: storage, count: count))
    }
}

// Nothing changes the bytes after `init`, and only the one owner's `deinit` releases them.
extension SecretBytes: @unchecked Sendable {}
