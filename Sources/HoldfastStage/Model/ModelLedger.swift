import HoldfastCrypto
import HoldfastDevice
import HoldfastProtocol
import HoldfastTPMWire

/// The part of a TPM in a ledger, in software: a counter that only rises, and a key that certifies it.
struct ModelCounter {
    private let key: ECPrivateKey
    private let attestationKey: PublicArea
    private let area = KeyTemplate.counter(at: VendorSlot.all[0].ledgerCounter).written
    private let pairwiseID: [UInt8]
    var value: UInt64
    let witness: LedgerWitness

    /// A counter with a key of its own.
    init(random: RandomSource) {
        let key = ECPrivateKey(curve: .p256, random: random)
        self.init(key, ModelDevice.attestationKey(key), value: 1)
    }

    init(_ key: ECPrivateKey, _ attestationKey: PublicArea, value: UInt64) {
        self.key = key
        self.attestationKey = attestationKey
        self.value = value
        pairwiseID = PairwiseID(attestationKey: attestationKey.name).bytes
        witness = LedgerWitness(
            pairwiseID: pairwiseID, incarnation: 1, counter: area.name,
            attestationKey: key.publicKey)
    }

    private var clock: ClockInfo {
        ClockInfo(clock: 1_000 + value, resetCount: 1, restartCount: 0, safe: true)
    }

    /// The certification of a checkpoint at the present value.
    func certify(_ checkpoint: Checkpoint) throws -> SignedAttestation {
        try ModelDevice.certify(
            area, value, checkpoint.hash, checkpoint.clock, attestationKey, key)
    }

    /// Writes a checkpoint of the present head down, as before the counter is raised.
    func write(_ store: LedgerStore, _ grade: Checkpoint.Grade) throws -> Checkpoint {
        let zeros = [UInt8](repeating: 0, count: 32)
        return try store.writeCheckpoint(counter: value + 1) { era, size, root, previous in
            Checkpoint(
                pairwiseID: pairwiseID, incarnation: 1, era: era, counter: value + 1,
                previous: previous, size: size, root: root.hash, sums: root.sums,
                receiptHash: zeros, replyHash: zeros,
                clock: clock, grade: grade)
        }
    }

    /// Seals the present head: written down, counter raised, certified, stored.
    mutating func seal(_ store: LedgerStore, _ grade: Checkpoint.Grade = .unapprovedBoot) throws {
        let checkpoint = try write(store, grade)
        value += 1
        try store.store(certify(checkpoint), counter: value)
    }

    /// What a new era begins with.
    var beginning: LedgerStore.Beginning {
        LedgerStore.Beginning(counter: value, ticks: 0) { [witness] in witness.isSealed($0, $1) }
    }

    /// Compares, as each opening of a ledger does, and begins an era when one is due.
    func compare(_ store: LedgerStore) throws -> LedgerGenesis.Cause? {
        let value = value
        return try store.beginEra(beginning) { LedgerWitness.finding($0, value) }
    }
}
