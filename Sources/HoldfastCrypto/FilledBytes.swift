extension [UInt8] {
    /// Makes public bytes as ``SecretBytes/init(count:initializingWith:)`` makes secret ones.
    init<E: Error>(
        count: Int, initializingWith body: (inout MutableSpan<UInt8>) throws(E) -> Void
    ) throws(E) {
        self.init(repeating: 0, count: count)
        var target = mutableSpan
        try body(&target)
    }
}
