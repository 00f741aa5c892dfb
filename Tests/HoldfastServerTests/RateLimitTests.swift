import HoldfastServer
import NIOCore
import Testing

@Suite("the rate limit")
struct RateLimitTests {
    @Test("so much at once, so much a second, and each address for itself")
    func buckets() throws {
        let limit = RateLimit(rate: 2)
        for _ in 0..<20 { #expect(limit.wait(for: "a", now: 100) == nil) }
        #expect(limit.wait(for: "a", now: 100) == 0.5)
        #expect(limit.wait(for: "b", now: 100) == nil)
        // Half a second later there is one more, and no more than one.
        #expect(limit.wait(for: "a", now: 100.5) == nil)
        #expect(limit.wait(for: "a", now: 100.5) != nil)
        // Silence gives back what there was at first, and not more; a clock that stands gives nothing.
        for _ in 0..<20 { #expect(limit.wait(for: "a", now: 10_000) == nil) }
        #expect(limit.wait(for: "a", now: 9_000) != nil)
    }

    @Test("many addresses do not use the memory up")
    func addresses() {
        let limit = RateLimit(rate: 1)
        for number in 0..<200_000 {
            #expect(limit.wait(for: String(number), now: Double(number) / 1e6) == nil)
        }
    }

    @Test("an address of version 6 stands for its network, one of version 4 for itself")
    func keys() throws {
        func key(_ text: String) throws -> String {
            RateLimit.key(of: try SocketAddress(ipAddress: text, port: 1))
        }
        #expect(try key("192.0.2.1") != key("192.0.2.2"))
        #expect(try key("2001:db8::1") == key("2001:db8:0:0:ffff::2"))
        #expect(try key("2001:db8:0:1::1") != key("2001:db8::1"))
        #expect(try key("::1") == key("::2"))
        #expect(try key("::ffff:192.0.2.1") != key("::ffff:192.0.2.2"))
        #expect(RateLimit.key(of: nil) == "")
    }
}
