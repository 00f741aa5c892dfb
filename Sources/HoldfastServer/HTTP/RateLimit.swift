package import NIOCore
import Synchronization

/// How often one address may call without a token: so much at once, and so much a second.
///
/// It keeps one caller from using up what all share. It does not tell devices apart behind one
/// address, and says nothing of who they are.
package struct RateLimit: Sendable {
    /// Calls a second, in the long run.
    let rate: Double
    /// Calls at once, after a time of silence.
    let burst: Double
    private let buckets = Buckets()

    /// More addresses than this are not remembered: those that are quiet make room.
    private static let mostAddresses = 65_536

    private final class Buckets: Sendable {
        let all = Mutex<[String: Bucket]>([:])
    }

    private struct Bucket {
        var left: Double
        var at: Double
    }

    /// - Parameter rate: calls a second for each address.
    package init(rate: Double) {
        self.rate = rate
        burst = max(1, rate * 10)
    }

    /// Takes one call off what an address has left.
    ///
    /// - Parameter now: seconds of a clock that only goes forward.
    /// - Returns: how long to wait, in seconds, when there is nothing left.
    package func wait(for address: String, now: Double) -> Double? {
        buckets.all.withLock { all in
            if all.count >= Self.mostAddresses {
                all = all.filter { $0.value.left + (now - $0.value.at) * rate < burst }
                // Nobody is quiet: then all of them begin anew.
                if all.count >= Self.mostAddresses { all = [:] }
            }
            var bucket = all[address] ?? Bucket(left: burst, at: now)
            bucket.left = min(burst, bucket.left + max(0, now - bucket.at) * rate)
            bucket.at = now
            defer { all[address] = bucket }
            guard bucket.left >= 1 else { return (1 - bucket.left) / rate }
            bucket.left -= 1
            return nil
        }
    }

    /// What is counted as one address: of version 6 the network, which is one customer's.
    package static func key(of address: SocketAddress?) -> String {
        guard let address else { return "" }
        switch address {
        case .v4, .unixDomainSocket: return address.ipAddress ?? ""
        case .v6:
            let text = address.ipAddress ?? ""
            // A version 4 address inside of one of version 6 is a customer of its own.
            if text.contains(".") { return text }
            return expanded(text).prefix(4).joined(separator: ":")
        }
    }

    private static func expanded(_ text: String) -> [String] {
        let halves = text.split(separator: "%")[0].split(
            separator: "::", maxSplits: 1, omittingEmptySubsequences: false)
        let sides = halves.map { half in half.split(separator: ":").map(String.init) }
        guard sides.count == 2 else { return sides.first ?? [] }
        let zeros = max(0, 8 - sides[0].count - sides[1].count)
        return sides[0] + Array(repeating: "0", count: zeros) + sides[1]
    }
}
