import HoldfastStage
import Testing

@Suite("a fleet", .timeLimit(.minutes(20)))
struct FleetTests {
    @Test("many TPMs at once go through the whole life of a lease")
    func life() throws {
        // `make bench BENCH=fleet-200` has two hundred.
        let duration = try Fleet.live(devices: 6, in: "/tmp")
        #expect(duration.whole > duration.manufacture)
    }
}
