import HoldfastCrypto
import HoldfastTPMWire

/// Images that firmware must refuse to start: the least that dbx must hold.
public struct RevokedImages: Sendable, Hashable {
    let hashes: Set<[UInt8]>

    /// Takes SHA-256 of images, each 32 bytes.
    init(hashes: Set<[UInt8]>) { self.hashes = hashes }

    /// The largest file that is accepted, in bytes.
    public static let maximumSize = 4 << 20

    /// Reads the content of dbx, an update for it as the UEFI Forum publishes it, or a hash a line.
    ///
    /// The signature of an update is not verified: it comes from the operator.
    public init(_ bytes: [UInt8]) throws(EvidenceFormatError) {
        let wrong = EvidenceFormatError(
            expected: "the content of dbx, a dbxupdate_*.bin, or a SHA-256 in hexadecimal a line")
        guard bytes.count <= Self.maximumSize else { throw wrong }
        if let text = String(validating: bytes, as: UTF8.self) {
            let lines = text.split(whereSeparator: \.isNewline).filter { !$0.hasPrefix("#") }
            let hashes = lines.compactMap { HoldfastTPMWire.bytes(hexadecimal: String($0)) }
            if !lines.isEmpty, hashes.count == lines.count, hashes.allSatisfy({ $0.count == 32 }) {
                self.hashes = Set(hashes)
                return
            }
        }
        // `EFI_VARIABLE_AUTHENTICATION_2`: a time, and a certificate with its length before it.
        var reader = FirmwareReader(bytes)
        var content = bytes
        if reader.bytes(16) != nil, let length = reader.uint32(), let revision = reader.uint16(),
            let type = reader.uint16(), length >= 8, revision == 0x0200, type == 0x0EF1,
            reader.bytes(length - 8) != nil
        {
            content = reader.all()
        }
        guard let lists = SignatureLists(content), !lists.hashes.isEmpty else { throw wrong }
        hashes = lists.hashes
    }

    /// What the measured dbx lacks.
    func refusal(of facts: EventLogFacts?) -> String? {
        guard let revoked = facts?.revoked else {
            return "the log does not show what dbx held before anything was started"
        }
        let missing = hashes.subtracting(revoked)
        guard let first = missing.map(hexadecimal).min() else { return nil }
        return "dbx lacks \(missing.count) of \(hashes.count) hashes, as \(first); install the "
            + "dbx update on the device"
    }
}
