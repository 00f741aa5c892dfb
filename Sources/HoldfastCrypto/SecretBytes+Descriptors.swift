import Glibc

/// A secret could not be read or written.
public enum SecretStreamError: Error, Sendable, Hashable {
    /// The number of the system's error.
    case failed(Int32)
    /// More bytes came than are accepted.
    case tooLong(maximum: Int)
}

extension SecretBytes {
    /// Reads a secret up to the end of a file, from the kernel into guarded memory.
    ///
    /// - Parameter maximum: bytes that are accepted.
    public init(reading descriptor: Int32, maximum: Int) throws(SecretStreamError) {
        try self.init(reading: descriptor, maximum: maximum, upToLineEnd: false)
    }

    /// Reads a line of a terminal or of a file, without what ends it.
    public init(readingLine descriptor: Int32, maximum: Int) throws(SecretStreamError) {
        try self.init(reading: descriptor, maximum: maximum, upToLineEnd: true)
    }

    private init(
        reading descriptor: Int32, maximum: Int, upToLineEnd: Bool
    ) throws(SecretStreamError) {
        var count = 0
        let buffer = try SecretBytes(count: maximum + 1) {
            (target: inout MutableSpan<UInt8>) throws(SecretStreamError) in
            while count <= maximum {
                // A line is read byte by byte: what follows it is for somebody else.
                let wanted = upToLineEnd ? 1 : maximum + 1 - count
                let offset = count
                let got = unsafe target.withUnsafeMutableBufferPointer { pointer in
                    unsafe read(descriptor, pointer.baseAddress.map { unsafe $0 + offset }, wanted)
                }
                if got < 0, errno == EINTR { continue }
                guard got >= 0 else { throw SecretStreamError.failed(errno) }
                if got == 0 { break }
                if upToLineEnd, target[count] == 0x0A {
                    target[count] = 0
                    break
                }
                count += got
            }
            guard count <= maximum else { throw SecretStreamError.tooLong(maximum: maximum) }
        }
        self = buffer.prefix(count)
    }

    /// The first bytes, in guarded memory of their own.
    private borrowing func prefix(_ count: Int) -> SecretBytes {
        withBytes { bytes in
            SecretBytes(count: count) { (target: inout MutableSpan<UInt8>) in
                for index in 0..<count { target[index] = bytes[index] }
            }
        }
    }

    /// Writes the secret to a descriptor, from guarded memory to the kernel.
    public borrowing func write(to descriptor: Int32) throws(SecretStreamError) {
        try unsafe withUnsafeBuffer { (buffer) throws(SecretStreamError) in
            var written = 0
            while written < buffer.count {
                let got = unsafe Glibc.write(
                    descriptor, buffer.baseAddress.map { unsafe $0 + written },
                    buffer.count - written)
                if got < 0, errno == EINTR { continue }
                guard got > 0 else { throw SecretStreamError.failed(errno) }
                written += got
            }
        }
    }
}
