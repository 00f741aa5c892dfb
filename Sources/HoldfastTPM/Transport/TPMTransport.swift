/// A way to a TPM: one command there, one response back.
///
/// Not safe for use from two threads; a ``TPMConnection`` owns it.
public protocol TPMTransport: AnyObject {
    /// Sends a command and returns the whole response, at most ``maximumResponseSize`` bytes.
    func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8]
    /// The sequence of commands is over; others may use the TPM.
    func endTransaction()
    /// Gives the TPM up for good.
    func close()
    /// Whether a resource manager keeps the objects of different users apart.
    var hasResourceManager: Bool { get }
}

extension TPMTransport {
    /// Nothing to do between transactions.
    public func endTransaction() {}
}

/// The longest response that is read.
///
/// PC Client Platform TPM Profile: buffers have 4,096 bytes.
public let maximumResponseSize = 4096

/// The size that a response header states, checked.
///
/// - Parameter header: the first ten bytes: tag, size, code.
func responseSize(_ header: [UInt8]) throws(TPMError) -> Int {
    let size = header[2..<6].reduce(0) { $0 << 8 | Int($1) }
    guard (10...maximumResponseSize).contains(size) else {
        throw TPMError(
            .malformedResponse, "the TPM's answer claims to have \(size) bytes")
    }
    return size
}
