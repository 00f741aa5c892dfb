import HoldfastServer
import NIOCore
import Testing

@Suite("the budget of bodies")
struct BodyBudgetTests {
    /// A body in pieces of ten bytes.
    private func pieces(_ count: Int) -> AsyncStream<ByteBuffer> {
        AsyncStream { stream in
            for _ in 0..<count { stream.yield(ByteBuffer(repeating: 7, count: 10)) }
            stream.finish()
        }
    }

    private func read(
        _ count: Int, _ budget: BodyBudget, upTo limit: Int = 1000
    ) async throws -> BodyBudget.Body {
        try await budget.collecting(pieces(count), upTo: limit) { $0 }
    }

    private func whole(_ count: Int) -> BodyBudget.Body {
        .whole([UInt8](repeating: 7, count: 10 * count))
    }

    @Test("bodies share it, small ones are free, and what was taken is given back")
    func shared() async throws {
        let budget = BodyBudget(total: 100, free: 20)
        #expect(try await read(0, budget) == whole(0))
        #expect(try await read(12, budget) == whole(12))
        #expect(try await read(13, budget) == .busy)
        // Nothing is left over of one that did not fit.
        #expect(try await read(12, budget) == whole(12))
        let (inside, between) = try await budget.collecting(pieces(8), upTo: 1000) { first in
            let between = [first, try await read(6, budget), try await read(7, budget)]
            let inside = try await budget.collecting(pieces(6), upTo: 1000) { second in
                [second, try await read(3, budget), try await read(2, budget)]
            }
            return (inside, between)
        }
        #expect(between == [whole(8), whole(6), .busy])
        #expect(inside == [whole(6), .busy, whole(2)])
        #expect(try await read(12, budget) == whole(12))
    }

    @Test("a body that is too long is refused before it is whole, also by an error of its use")
    func limits() async throws {
        let budget = BodyBudget(total: 100, free: 20)
        #expect(try await read(6, budget, upTo: 60) == whole(6))
        #expect(try await read(6, budget, upTo: 59) == .tooLarge)
        #expect(try await read(1, budget, upTo: 0) == .tooLarge)
        await #expect(throws: CancellationError.self) {
            try await budget.collecting(pieces(12), upTo: 1000) { _ in throw CancellationError() }
        }
        #expect(try await read(12, budget) == whole(12))
    }
}
