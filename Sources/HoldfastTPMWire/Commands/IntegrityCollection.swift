public import HoldfastCrypto

/// Reads PCR values; a TPM returns at most eight at once.
///
/// `TPM2_PCR_Read`, Part 3, "Integrity Collection (PCR)".
public struct PCRReadCommand: TPMCommand {
    public static let code = CommandCode.pcrRead
    let selection: PCRSelection
    public init(_ selection: PCRSelection) { self.selection = selection }

    public func encodeParameters(into writer: inout WireWriter) { selection.encode(into: &writer) }

    public static func decode(
        handle: TPMHandle, parameters reader: inout WireReader
    ) throws(WireError) -> PCRReadAnswer {
        let counter = try reader.uint32()
        let selection = try PCRSelection(from: &reader)
        let count = try reader.uint32()
        guard count <= 8 else {
            throw .tooLong(field: "pcrValues", length: Int(count), maximum: 8)
        }
        var digests: [[UInt8]] = []
        for _ in 0..<count { digests.append(try reader.sized("digest", maximum: 64)) }
        var values = PCRValues()
        var next = 0
        for bank in selection.banks {
            for index in bank.indexes {
                guard next < digests.count, digests[next].count == bank.hash.digestSize else {
                    throw .sizeMismatch(field: "pcrValues")
                }
                values[bank.hash, index] = digests[next]
                next += 1
            }
        }
        guard next == digests.count else { throw .sizeMismatch(field: "pcrValues") }
        return PCRReadAnswer(updateCounter: counter, values: values)
    }
}

/// PCR values and the counter that tells whether any PCR changed in between.
public struct PCRReadAnswer: Sendable, Hashable {
    public let updateCounter: UInt32
    public let values: PCRValues
}

/// Extends a PCR in the banks for which a digest is given.
///
/// `TPM2_PCR_Extend`, Part 3, "Integrity Collection (PCR)".
public struct PCRExtendCommand: TPMCommand {
    public typealias Response = Void
    public static let code = CommandCode.pcrExtend
    public static let authorizationCount = 1
    let index: PCRIndex
    let digests: [(HashAlgorithm, [UInt8])]

    public init(_ index: PCRIndex, digests: [(HashAlgorithm, [UInt8])]) {
        self.index = index
        self.digests = digests
    }

    public var handles: [EntityReference] { [EntityReference(.pcr(index))] }
    public func encodeParameters(into writer: inout WireWriter) {
        writer.uint32(UInt32(digests.count))
        for (hash, digest) in digests {
            hash.encode(into: &writer)
            writer.raw(digest)
        }
    }
}
