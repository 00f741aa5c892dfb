import HoldfastLicensing
import HoldfastProtocol
import Testing

@Suite("hardware baseline")
struct HardwareBaselineTests {
    private func fact(_ kind: ComponentKind, _ number: UInt8 = 1) throws -> HardwareFact {
        try #require(HardwareFact([kind.rawValue] + [UInt8](repeating: number, count: 31)))
    }

    private func facts(_ kinds: [ComponentKind]) throws -> [HardwareFact] {
        try kinds.map { try fact($0) }
    }

    private func judge(
        _ known: [HardwareFact], _ shown: [HardwareFact], isSameTPM: Bool = false
    ) -> HardwareBaseline.Judgement {
        HardwareBaseline(known).judge(shown, isSameTPM: isSameTPM, weights: .standard)
    }

    @Test("the same facts in any order are no drift")
    func same() throws {
        let known = try facts(ComponentKind.allCases)
        let judged = judge(known, known.reversed() + known, isSameTPM: true)
        #expect(judged.outcome == .accepted)
        #expect(!judged.hasDrifted)
        #expect(judged.agreement == 14)
        #expect(judged.baseline == HardwareBaseline(known))
    }

    @Test("the same TPM is accepted whatever changed, drift is told, and the baseline slides")
    func slides() throws {
        let known = try facts(ComponentKind.allCases)
        let shown = try ComponentKind.allCases.map { try fact($0, 2) }
        let first = judge(known, shown, isSameTPM: true)
        #expect(first.outcome == .accepted)
        #expect(first.changed == ComponentKind.allCases)
        #expect(first.hasDrifted && first.missing.isEmpty && first.agreement == 0)
        let second = first.baseline.judge(shown, isSameTPM: true, weights: .standard)
        #expect(!second.hasDrifted && second.agreement == 14)
    }

    @Test("a fact that is not shown is missing, and is not forgotten")
    func hidden() throws {
        let known = try facts(ComponentKind.allCases)
        let shown = known.filter { $0.kind != .machine }
        let judged = judge(known, shown, isSameTPM: true)
        #expect(judged.missing == [.machine])
        #expect(judged.changed.isEmpty && judged.hasDrifted)
        #expect(judged.baseline == HardwareBaseline(known))
        // Showing nothing at all forgets nothing either.
        #expect(judge(known, [], isSameTPM: true).baseline == HardwareBaseline(known))
        // A fact that came is taken in without a flag.
        let grown = judge(shown, known, isSameTPM: true)
        #expect(!grown.hasDrifted && grown.baseline == HardwareBaseline(known))
    }

    @Test("with another TPM nothing slides")
    func otherTPM() throws {
        let known = try facts(ComponentKind.allCases)
        let shown = try known.filter { $0.kind != .rootDisk } + [fact(.rootDisk, 2)]
        let judged = judge(known, shown)
        #expect(judged.outcome == .provisional)
        #expect(judged.changed == [.rootDisk])
        #expect(judged.baseline == HardwareBaseline(known))
    }

    @Test(
        "with another TPM the weight decides, at its boundary",
        arguments: [
            ([ComponentKind.machine, .board, .rootDisk], HardwareBaseline.Outcome.provisional),
            ([.machine, .board, .chassis, .processor], .provisional),
            ([.machine, .board, .chassis], .newDevice),
            ([.network, .rootDisk, .chassis, .processor], .newDevice),
            ([.chassis, .processor, .tpm], .newDevice),
            ([], .newDevice),
        ] as [([ComponentKind], HardwareBaseline.Outcome)])
    func boundary(kinds: [ComponentKind], outcome: HardwareBaseline.Outcome) throws {
        let known = try facts(ComponentKind.allCases)
        let shown = try ComponentKind.allCases.map { try fact($0, kinds.contains($0) ? 1 : 2) }
        #expect(judge(known, shown).outcome == outcome)
        // What a device never had does not count as equal.
        #expect(judge(try facts(kinds), try facts(kinds)).outcome == outcome)
    }

    @Test("of several facts of a kind the greater part must be there")
    func several() throws {
        let known = try (1...4).map { try fact(.network, $0) }
        func agreement(_ numbers: [UInt8]) throws -> Int {
            judge(known, try numbers.map { try fact(.network, $0) }).agreement
        }
        #expect(try agreement([1, 2, 3]) == 3)
        #expect(try agreement([1, 2, 3, 4, 5, 6, 7]) == 3)
        #expect(try agreement([1, 2]) == 0)
        #expect(try agreement([1, 1, 1, 5]) == 0)
    }

    @Test("weights that cannot be reached, or that a whole model would reach, are refused")
    func weights() {
        #expect(FactWeights([.machine: 2], required: 3) == nil)
        #expect(FactWeights([.machine: 2], required: 0) == nil)
        #expect(
            FactWeights([.machine: 1, .chassis: 4, .processor: 4, .tpm: 4], required: 12) == nil)
        #expect(FactWeights([.machine: 3, .chassis: 2], required: 3)?.sum([.machine, .tpm]) == 3)
    }

    @Test(
        "an id of another length or of an unknown kind is refused",
        arguments: [
            [], [1], [UInt8](repeating: 1, count: 31), [UInt8](repeating: 1, count: 33),
            [0] + [UInt8](repeating: 1, count: 31), [8] + [UInt8](repeating: 1, count: 31),
        ])
    func malformed(bytes: [UInt8]) {
        #expect(HardwareFact(bytes) == nil)
    }

    @Test("the vector of the specification, framed apart with Python")
    func vector() throws {
        let fact = try HardwareFact(
            .network, value: Array("001b21aabb01".utf8), salt: Array(0..<16))
        #expect(fact.description == "hw_mpb4vzz7djzuc6lkewxgahwyndutulup")
        #expect(fact.bytes.prefix(4) == [5, 0x63, 0xC3, 0xCA])
        #expect(fact.bytes.suffix(3) == [0xBF, 0x48, 0x5C])
    }

    @Test("an id follows kind, value and salt, and nothing else")
    func ids() throws {
        let salt = [UInt8](repeating: 7, count: 16)
        let one = try HardwareFact(.network, value: [1], salt: salt)
        #expect(one.kind == .network && one.bytes.count == 32 && one.bytes[0] == 5)
        #expect(try HardwareFact(.network, value: [1], salt: salt) == one)
        #expect(try HardwareFact(.rootDisk, value: [1], salt: salt).bytes[1...] != one.bytes[1...])
        #expect(try HardwareFact(.network, value: [2], salt: salt) != one)
        #expect(
            try HardwareFact(.network, value: [1], salt: [UInt8](repeating: 8, count: 16)) != one)
        #expect(throws: (any Error).self) {
            try HardwareFact(.network, value: [1], salt: [1, 2, 3])
        }
    }
}
