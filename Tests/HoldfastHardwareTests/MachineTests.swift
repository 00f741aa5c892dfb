import Foundation
import Glibc
import HoldfastCrypto
import HoldfastLicensing
import HoldfastProtocol
import Testing

@Suite("machines", .serialized, .timeLimit(.minutes(20)))
struct MachineTests {
    @Test("what is read is what the machine has", arguments: MachineModel.all)
    func facts(model: MachineModel) throws {
        let identity = try model.identity()
        #expect(identity.components.map { "\($0.kind) \($0.value ?? "")" } == model.expected)
        // Every kind is there or absent with a reason, never both.
        let kinds = Set(identity.components.map(\.kind))
        let absent = identity.absent.map(\.kind)
        #expect(kinds.isDisjoint(with: absent))
        #expect(kinds.union(absent) == Set(ComponentKind.allCases.map(\.name)))
        #expect(identity.absent.allSatisfy { !$0.reason.isEmpty })
    }

    @Test("an exchanged part changes its kind and no other", arguments: MachineModel.all)
    func exchanged(model: MachineModel) throws {
        let before = try model.identity()
        #expect(try before.changes(to: model.identity(Unit(disk: "2"))) == model.disk)
        #expect(try before.changes(to: model.identity(Unit(interface: "2"))) == model.interface)
        #expect(try before.changes(to: model.identity(Unit(board: "2"))) == model.board)
        // What a copy of a disk brings along, its mounts, is the same for all units: no fact.
        let all = model.disk.union(model.interface).union(model.board)
        #expect(try before.changes(to: model.identity(.other)) == all)
    }

    @Test("a machine has the same ids each time; no value is shown unasked; vendors share no id")
    func vendors() throws {
        let model = MachineModel.industrialPC
        let player = try Player(model.build(Unit()))
        let again = try player.identity()
        #expect(try again.changes(to: model.identity()) == [])
        #expect(again.components.allSatisfy { $0.value == nil && $0.id.hasPrefix("hw_") })
        let other = try player.identity(trust: Vendor.second.get())
        #expect(again.components.count == other.components.count)
        #expect(Set(again.components.map(\.id)).isDisjoint(with: other.components.map(\.id)))
    }

    @Test("what only root may read is absent with a reason, and nothing weaker takes its place")
    func forRootAlone() throws {
        let player = try Player(MachineModel.industrialPC.build(Unit()))
        // Root without the capability is refused like anybody else.
        let drop =
            geteuid() == 0
            ? "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override" : ""
        let printed = try player.run([
            "/bin/sh", "-c",
            """
            cd "$UMOCKDEV_DIR/sys/devices/virtual/dmi/id"
            chmod 000 product_uuid board_serial chassis_serial
            exec \(drop) "$0" identity --trust "$1" --reveal --format json
            """, try Player.program("holdfast"), try Vendor.first.get(),
        ])
        let identity = try JSONDecoder().decode(Player.Identity.self, from: printed)
        let rest = MachineModel.industrialPC.expected.filter { line in
            !["machine", "board", "chassis"].contains { line.hasPrefix($0 + " ") }
        }
        #expect(identity.components.map { "\($0.kind) \($0.value ?? "")" } == rest)
        #expect(identity.absent.map(\.kind) == ["machine", "board", "chassis"])
        #expect(identity.absent.allSatisfy { $0.reason.contains("cannot be read (") })
        #expect(identity.absent.allSatisfy { $0.reason.hasSuffix("root can") })
    }

    // MARK: Comparison

    /// Facts that are equal when the printed ids are.
    private func facts(_ identity: Player.Identity) throws -> [HardwareFact] {
        try identity.components.map { component in
            let kind = try #require(ComponentKind.allCases.first { $0.name == component.kind })
            let hash = HashAlgorithm.sha256.digest(Array(component.id.utf8))
            return try #require(HardwareFact([kind.rawValue] + hash.dropLast()))
        }
    }

    private func outcome(
        _ model: MachineModel, _ unit: Unit, isSameTPM: Bool = false
    ) throws -> HardwareBaseline.Outcome {
        try HardwareBaseline(facts(model.identity())).judge(
            facts(model.identity(unit)), isSameTPM: isSameTPM, weights: .standard
        ).outcome
    }

    @Test(
        "with another TPM a machine that kept its board is provisional, another unit is new",
        arguments: [MachineModel.industrialPC, .laptop, .server, .workstation])
    func otherTPM(model: MachineModel) throws {
        #expect(try outcome(model, Unit()) == .provisional)
        #expect(try outcome(model, Unit(disk: "2")) == .provisional)
        #expect(try outcome(model, .other) == .newDevice)
        #expect(try outcome(model, .other, isSameTPM: true) == .accepted)
    }

    @Test(
        "with another TPM, board and interface it is another machine, though the disk is there",
        arguments: [MachineModel.industrialPC, .laptop, .workstation])
    func otherBoard(model: MachineModel) throws {
        #expect(try outcome(model, Unit(interface: "2", board: "2")) == .newDevice)
    }

    @Test(
        "machines with few facts are never recognized by them",
        arguments: [
            MachineModel.cloudMachine, .bonded, .usbInterfaces, .junk, .liveStick,
            .nothing,
        ])
    func few(model: MachineModel) throws {
        #expect(try outcome(model, Unit()) == .newDevice)
    }

    @Test("whoever plays another machine gets all its ids, and no further than an operator")
    func spoofed() throws {
        // This is what LD_PRELOAD does, here as on a real device: facts are a second factor.
        let played = try Player(MachineModel.workstation.build(Unit())).identity()
        #expect(try MachineModel.workstation.identity().changes(to: played) == [])
        #expect(try outcome(.workstation, Unit()) == .provisional)
        #expect(try outcome(.laptop, .other) == .newDevice)
    }
}
