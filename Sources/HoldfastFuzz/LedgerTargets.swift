import HoldfastCrypto
import HoldfastProtocol
import HoldfastTPMWire

let ledgerTargets: [FuzzTarget] = [ledger]

/// Checkpoint, genesis, consistency proof or record; the first byte picks one.
private let ledger = FuzzTarget(
    "ledger", accepted: 4,
    seeds: {
        let sample = try Sample.shared.get()
        var before = LedgerRange()
        for _ in 0..<3 { try before.append(sample.record.node) }
        var after = LedgerRange(at: 3)
        for _ in 0..<6 { try after.append(sample.record.node) }
        return [
            [0] + sample.checkpoint.encoded, [1] + LedgerGenesis.first.encoded,
            [2] + LedgerConsistency(before: before, after: after).encoded,
            [3] + sample.record.encoded,
        ]
    },
    check: { bytes in
        guard let number = bytes.first else { return false }
        let body = [UInt8](bytes[1...])
        let again: [UInt8]
        switch number % 4 {
        case 0:
            guard let read = try? Checkpoint(decoding: body) else { return false }
            again = read.encoded
        case 1:
            guard let read = try? LedgerGenesis(decoding: body) else { return false }
            _ = try? read.totals.adding(read.totals)
            again = read.encoded
        case 2:
            guard let read = try? LedgerConsistency(decoding: body) else { return false }
            if let roots = try? read.roots() {
                try demand(
                    roots.before == (try read.before.root()), "the earlier root is another")
            }
            var longer = read.after
            _ = try? longer.append(Sample.shared.get().record.node)
            again = read.encoded
        default:
            guard let read = try? LedgerRecord(decoding: body) else { return false }
            try demand(read.node == read.node(encoded: body), "a record has two leaves")
            again = read.encoded
        }
        try demand(again == body, "what was read is written in other bytes")
        return true
    })
