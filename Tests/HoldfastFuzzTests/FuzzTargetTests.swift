import Foundation
import HoldfastFuzz
import HoldfastStage
import Testing

@Suite("fuzz targets", .timeLimit(.minutes(20)))
struct FuzzTargetTests {
    @Test("the inputs to start from are accepted", arguments: FuzzTarget.all)
    func seeds(target: FuzzTarget) async throws {
        for (number, seed) in try target.seeds().enumerated() {
            #expect(seed.count <= target.maximumSize, "seed \(number)")
            let accepted = try await target.checkWaiting(seed)
            #expect(accepted || number >= target.acceptedSeeds, "seed \(number)")
        }
    }

    /// A short walk without a fuzzer: what holds, holds on machines that have none.
    @Test("changed, cut and joined inputs break nothing", arguments: FuzzTarget.all)
    func mutants(target: FuzzTarget) async throws {
        var random = SeededNumbers(UInt64(target.name.utf8.reduce(0) { $0 + Int($1) }))
        let seeds = try target.seeds()
        for round in 0..<(target.isImmediate ? 150 : 30) {
            var bytes = seeds[round % seeds.count]
            for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
                let place = bytes.indices.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<5, using: &random) {
                case 0: bytes.remove(at: place)
                case 1: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
                case 2: bytes = [UInt8](bytes[..<place])
                case 3: bytes[place] = [0, 0xFF, 0x80, 0x7F].randomElement(using: &random) ?? 0
                default: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                }
            }
            _ = try await target.checkWaiting(bytes)
        }
    }

    /// Each was found by the fuzzer once; the folder's name is the target's.
    @Test("inputs that once broke something break nothing")
    func regressions() async throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "Regressions")
        var count = 0
        for folder in try FileManager.default.contentsOfDirectory(atPath: root.path) {
            guard let target = FuzzTarget.all.first(where: { $0.name == folder }) else {
                #expect(folder == "README.md", "\(folder) is no target")
                continue
            }
            let directory = root.appending(path: folder)
            for file in try FileManager.default.contentsOfDirectory(atPath: directory.path) {
                let bytes = try Data(contentsOf: directory.appending(path: file))
                _ = try await target.checkWaiting([UInt8](bytes))
                count += 1
            }
        }
        #expect(count > 0)
    }
}
