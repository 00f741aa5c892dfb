import Foundation
import HoldfastCrypto
import HoldfastSoftwareTPM
import Testing

/// The programs on a played machine with a software TPM.
@Suite("hardware in the programs", .serialized, .timeLimit(.minutes(20)))
struct ProgramTests {
    private struct Doctor: Decodable {
        struct Finding: Decodable {
            let id: String
            let level: String
            let text: String
        }
        let findings: [Finding]
    }

    private struct Device: Decodable {
        let hardware: [Player.Identity.Component]
        let hardwareDrift: [String]
    }

    private func playing(
        _ model: MachineModel, _ body: (Player, (String...) throws -> Data) throws -> Void
    ) throws {
        let machine = try TransientMachine(.template)
        try machine.machine.powerOn(.documented, ca: nil, random: .system)
        let player = try Player(model.build(Unit()))
        func run(_ arguments: String...) throws -> Data {
            let process = player.process([try Player.program(arguments[0])] + arguments.dropFirst())
            process.environment?["HOLDFAST_TCTI"] = "unix:" + machine.machine.socketPath
            process.environment?["HOLDFAST_STATE"] = player.folder.path + "/state"
            process.environment?["HOLDFAST_DATA"] = player.folder.path + "/vendor"
            return try Player.output(of: process)
        }
        _ = try run(
            "holdfast-server", "init", "--data", "vendor", "--ek", "id:00001014/swtpm=ecc-p384",
            "--ek-roots", machine.path + "/ek-roots")
        try body(player, run)
    }

    @Test("doctor names what is there and what is not, without a value")
    func doctor() throws {
        try playing(.raspberryPi) { _, run in
            let printed = try run("holdfast", "doctor", "--format", "json")
            let facts = try JSONDecoder().decode(Doctor.self, from: printed).findings
                .filter { $0.id.hasPrefix("fact-") }
            #expect(
                facts.filter { $0.level == "ok" }.map(\.id).sorted() == [
                    "fact-chassis", "fact-machine", "fact-network", "fact-processor",
                    "fact-root-disk",
                ])
            #expect(facts.filter { $0.level == "warning" }.map(\.id) == ["fact-board", "fact-tpm"])
            let text = String(decoding: printed, as: UTF8.self)
            for value in ["10000000abcdef01", "dca632aabb01", "dc:a6:32", "035344534c"] {
                #expect(!text.contains(value))
            }
        }
    }

    @Test("the vendor sees the ids that the device shows to its owner, and no value")
    func enrolled() throws {
        try playing(.industrialPC) { player, run in
            _ = try run(
                "holdfast", "enroll", "--trust", "vendor/trust", "--request-out", "request")
            let shown = try run("holdfast", "identity", "--format", "json")
            let mine = try JSONDecoder().decode(Player.Identity.self, from: shown)
            #expect(mine.components.count == 8)
            let answer = try run(
                "holdfast-server", "enroll", "process", "request", "--out", "response")
            #expect(!answer.isEmpty)
            let listed = try run("holdfast-server", "device", "list", "--format", "json")
            let devices = try JSONDecoder().decode([Device].self, from: listed)
            let device = try #require(devices.first)
            #expect(Set(device.hardware) == Set(mine.components))
            #expect(device.hardwareDrift == [])
            // Neither in what it says nor in what it keeps.
            let kept = try Data(contentsOf: player.folder.appending(path: "vendor/records.sqlite"))
            for text in [listed, kept].map({ String(decoding: $0, as: UTF8.self) }) {
                #expect(!text.contains("001b21aabb01") && !text.contains("B100-1"))
            }
        }
    }
}
