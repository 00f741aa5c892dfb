import HoldfastTPMWire

/// A TPM that is not there: every command fails as opening it did.
public final class AbsentTransport: TPMTransport {
    private let error: TPMError

    /// - Parameter error: why it could not be opened.
    public init(_ error: TPMError) { self.error = error }

    public func exchange(_ command: [UInt8]) throws(TPMError) -> [UInt8] { throw error }
    public func endTransaction() {}
    public func close() {}
    public var hasResourceManager: Bool { false }
}
