package import NIOCore
import Synchronization

/// How much of all bodies may be in memory at once.
///
/// A small one is not counted: what most devices send is taken also while somebody holds all of the
/// budget with large ones that do not come to their end.
package final class BodyBudget: Sendable {
    private let left: Mutex<Int>
    private let free: Int

    /// - Parameters:
    ///   - total: bytes of all bodies together.
    ///   - free: bytes of each that are not counted.
    package init(total: Int, free: Int) {
        left = Mutex(total)
        self.free = free
    }

    /// A body, or why there is none.
    package enum Body: Sendable, Hashable {
        case whole([UInt8])
        case tooLarge
        /// Others have the budget.
        case busy
    }

    /// Reads a body and hands it on; what it took is given back afterwards.
    ///
    /// - Parameter limit: the longest one, in bytes.
    package func collecting<Pieces: AsyncSequence, Answer>(
        _ pieces: Pieces, upTo limit: Int, _ use: (Body) async throws -> Answer
    ) async throws -> Answer where Pieces.Element == ByteBuffer {
        var held = 0
        defer { give(held) }
        var bytes: [UInt8] = []
        for try await piece in pieces {
            let size = bytes.count + piece.readableBytes
            guard size <= limit else { return try await use(.tooLarge) }
            let wanted = max(0, size - free)
            guard take(wanted - held) else { return try await use(.busy) }
            held = wanted
            bytes += piece.readableBytesView
        }
        return try await use(.whole(bytes))
    }

    private func take(_ count: Int) -> Bool {
        left.withLock { left in
            guard count <= left else { return false }
            left -= count
            return true
        }
    }

    private func give(_ count: Int) { left.withLock { $0 += count } }
}
