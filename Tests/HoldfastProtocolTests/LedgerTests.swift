import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire
import Testing

@Suite("the ledger's tree")
struct LedgerTreeTests {
    private func record(
        _ sequence: UInt64, meter: UInt32 = 1, terms: UInt32 = 2, quantity: UInt32,
        kind: LedgerRecord.Kind = .usage
    ) -> LedgerRecord {
        LedgerRecord(
            sequence: sequence, meter: meter, termsVersion: terms, quantity: quantity, ticks: 7,
            day: 20_000, kind: kind, payloadHash: [UInt8](repeating: 0, count: 32),
            salt: [UInt8](repeating: UInt8(truncatingIfNeeded: sequence), count: 16))
    }

    private func leaves(_ count: UInt64) -> [LedgerNode] {
        (0..<count).map {
            record($0, meter: UInt32($0 % 3) + 1, quantity: UInt32($0 % 7) + 1).node
        }
    }

    /// The definition of RFC 6962, section 2.1, written as it stands there.
    private func root(_ leaves: ArraySlice<LedgerNode>) throws -> LedgerNode {
        guard leaves.count > 1 else { return leaves.first ?? .empty }
        var split = 1
        while split * 2 < leaves.count { split *= 2 }
        let middle = leaves.startIndex + split
        return try LedgerNode(
            left: root(leaves[..<middle]), right: root(leaves[middle...]))
    }

    private func range(_ leaves: ArraySlice<LedgerNode>) throws -> LedgerRange {
        var range = LedgerRange(at: UInt64(leaves.startIndex))
        for leaf in leaves { try range.append(leaf) }
        return range
    }

    @Test("five records have the root that was computed apart, with Python")
    func vector() throws {
        var range = LedgerRange()
        try range.append(record(0, meter: 0, terms: 0, quantity: 0, kind: .genesis).node)
        try range.append(record(1, quantity: 5).node)
        try range.append(record(2, quantity: 6).node)
        try range.append(record(3, meter: 2, quantity: 1).node)
        try range.append(record(4, terms: 3, quantity: 9).node)
        let root = try range.root()
        #expect(
            Hex.encode(root.hash)
                == "296ebb96502637456c23008178dcd6c6a78e5a15988ad71a654ec9d3e3be9fe1")
        #expect(root.sums[1, 2] == 11)
        #expect(root.sums[2, 2] == 1)
        #expect(root.sums[1, 3] == 9)
    }

    @Test("a tree has the shape of RFC 6962, and is read as it was written")
    func shape() throws {
        #expect(Hex.encode(LedgerNode.empty.hash).hasPrefix("e3b0c44298fc1c14"))
        let all = leaves(70)
        for count in 0...all.count {
            let frontier = try range(all[..<count])
            #expect(try frontier.root() == root(all[..<count]), "\(count)")
            var writer = WireWriter()
            frontier.encode(into: &writer)
            var reader = WireReader(writer.bytes)
            #expect(try LedgerRange(from: &reader) == frontier)
            #expect(reader.remaining == 0)
        }
    }

    @Test("every head leads to every later one, and to no other")
    func consistency() throws {
        let all = leaves(34)
        var other = all
        other[3] = record(3, quantity: 1_000).node
        for end in 1...all.count {
            let later = try root(all[..<end])
            for start in 0..<end {
                let proof = LedgerConsistency(
                    before: try range(all[..<start]), after: try range(all[start..<end]))
                let read = try LedgerConsistency(decoding: proof.encoded)
                #expect(read == proof)
                let roots = try read.roots()
                #expect(roots.before == (try root(all[..<start])))
                #expect(roots.after == later)
                guard start > 3 else { continue }
                #expect(roots.before != (try root(other[..<start])))
            }
        }
        #expect(throws: LedgerError.inconsistent) {
            try LedgerConsistency(
                before: self.range(all[..<5]), after: self.range(all[6..<9])
            ).roots()
        }
        #expect(throws: LedgerError.inconsistent) {
            try LedgerConsistency(
                before: self.range(all[2..<5]), after: self.range(all[5..<9])
            ).roots()
        }
    }

    @Test("no bit of a proof can be changed without changing a root")
    func proofBits() throws {
        let all = leaves(21)
        let proof = LedgerConsistency(
            before: try range(all[..<6]), after: try range(all[6...]))
        let bytes = proof.encoded
        let roots = try proof.roots()
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << (bit % 8)
            guard let read = try? LedgerConsistency(decoding: changed),
                let found = try? read.roots()
            else { continue }
            #expect(found.before != roots.before || found.after != roots.after, "bit \(bit)")
        }
    }

    @Test("inner totals that lie change the root, though their sum is right")
    func innerTotals() throws {
        let left = record(0, quantity: 5).node
        let right = record(1, quantity: 6).node
        func lying(_ node: LedgerNode, _ total: UInt64) -> LedgerNode {
            LedgerNode(
                hash: node.hash,
                sums: MeterSums(.init(meter: 1, termsVersion: 2, total: total)))
        }
        let honest = try LedgerNode(left: left, right: right)
        let shifted = try LedgerNode(left: lying(left, 4), right: lying(right, 7))
        #expect(honest.sums == shifted.sums)
        #expect(honest.hash != shifted.hash)
    }

    @Test("a total that does not fit is refused, and nothing is appended")
    func overflow() throws {
        var range = LedgerRange()
        let most = LedgerNode(
            hash: [UInt8](repeating: 1, count: 32),
            sums: MeterSums(.init(meter: 1, termsVersion: 2, total: .max)))
        try range.append(most)
        let before = range
        #expect(throws: LedgerError.sumOverflow) {
            try range.append(self.record(1, quantity: 1).node)
        }
        #expect(range == before)
        var reader = WireReader([0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(throws: WireError.self) { try MeterSums(from: &reader) }
    }

    @Test("a record is read as it was written, and has one encoding")
    func records() throws {
        let made = record(9, quantity: 3)
        #expect(made.encoded.count == LedgerRecord.size)
        #expect(try LedgerRecord(decoding: made.encoded) == made)
        for length in 0..<LedgerRecord.size {
            #expect(throws: WireError.self) {
                try LedgerRecord(decoding: Array(made.encoded[..<length]))
            }
        }
        #expect(throws: WireError.self) { try LedgerRecord(decoding: made.encoded + [0]) }
        var nothing = made
        nothing.quantity = 0
        #expect(throws: WireError.self) { try LedgerRecord(decoding: nothing.encoded) }
        var unknown = made.encoded
        unknown[32] = 9
        #expect(throws: WireError.self) { try LedgerRecord(decoding: unknown) }
    }

    @Test("a checkpoint and a genesis are read as they were written")
    func checkpoints() throws {
        let zeros = [UInt8](repeating: 0, count: 32)
        let made = Checkpoint(
            pairwiseID: [UInt8](repeating: 1, count: 32), incarnation: 1, era: 4, counter: 9,
            previous: zeros, size: 12, root: [UInt8](repeating: 5, count: 32),
            sums: MeterSums(.init(meter: 1, termsVersion: 1, total: 3)), receiptHash: zeros,
            replyHash: zeros,
            clock: ClockInfo(clock: 99, resetCount: 1, restartCount: 0, safe: true),
            grade: .certified)
        #expect(try Checkpoint(decoding: made.encoded) == made)
        for bit in 0..<made.encoded.count * 8 {
            var changed = made.encoded
            changed[bit / 8] ^= 1 << (bit % 8)
            if let read = try? Checkpoint(decoding: changed) { #expect(read.hash != made.hash) }
        }
        var backwards = made
        backwards.era = 10
        #expect(throws: WireError.self) { try Checkpoint(decoding: backwards.encoded) }
        let genesis = LedgerGenesis(
            cause: .rollback, previousEra: 4, previousSize: 12, previousRoot: zeros, distance: 3,
            totals: made.sums)
        #expect(try LedgerGenesis(decoding: genesis.encoded) == genesis)
        #expect(throws: WireError.self) { try LedgerGenesis(decoding: genesis.encoded + [0]) }
        #expect(throws: WireError.self) { try LedgerGenesis(decoding: []) }
    }
}
