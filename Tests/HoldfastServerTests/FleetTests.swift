import Foundation
import HoldfastStage
import Testing

@Suite("a fleet", .timeLimit(.minutes(20)))
struct FleetTests {
    @Test("many TPMs at once go through the whole life of a lease")
    func life() async throws {
        // HOLDFAST_FLEET=200 for as many as `make bench BENCH=fleet-200` has.
        let count =
            ProcessInfo.processInfo.environment["HOLDFAST_FLEET"].flatMap(Int.init) ?? 6
        // A thread of its own may wait.
        let duration = try await withCheckedThrowingContinuation { continuation in
            Thread {
                continuation.resume(with: Result { try Fleet.live(devices: count, in: "/tmp") })
            }.start()
        }
        #expect(duration.whole > duration.manufacture)
    }
}
