import CSodium

/// The one place that reaches libsodium's wipe.
enum SodiumWipe {
    static func wipe(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
        unsafe sodium_memzero(pointer, count)
    }
}
