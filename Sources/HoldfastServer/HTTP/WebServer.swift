import HTTPTypes
import HoldfastCrypto
public import HoldfastServices
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import NIOCore

/// The vendor's server over HTTPS.
public struct WebServer: Sendable {
    private let service: VendorService
    private let keys: VendorKeys
    private let tokenHash: [UInt8]

    /// A connection without a request, or with one whose head does not come.
    private static let longestSilence = TimeAmount.seconds(30)
    /// From the head of a request to the end of its answer.
    private static let longestRequest = TimeAmount.seconds(120)
    /// Connections at once; more wait to be accepted.
    private static let mostConnections = 1024
    private let limit: RateLimit?
    /// Bodies of all connections: 256 MiB, and of each connection 256 KiB more.
    private let budget = BodyBudget(total: 256 << 20, free: 256 << 10)
    /// After how many seconds to try again when others have all of it.
    private static let fullWait = 10.0

    /// - Parameters:
    ///   - keys: TLS key and admin token are read from here.
    ///   - rate: calls a second for each address that shows no token; ten times as many at once.
    ///     0 for no limit.
    public init(_ service: VendorService, keys: VendorKeys, rate: Double) throws {
        limit = rate > 0 ? RateLimit(rate: rate) : nil
        self.service = service
        self.keys = keys
        tokenHash = try keys.adminTokenHash()
    }

    /// Listens until the process is told to end.
    ///
    /// - Parameters:
    ///   - host: an address of this machine.
    ///   - port: 0 for any that is free.
    ///   - ready: called with the port once connections are accepted.
    public func run(
        host: String, port: Int, ready: @escaping @Sendable (Int) -> Void
    ) async throws {
        let identity = try ServerIdentity(keys)
        let application = try Application(
            router: router(),
            server: .tls(
                .http1(configuration: .init(idleTimeout: Self.longestSilence)),
                tlsConfiguration: identity.configuration),
            configuration: .init(
                address: .hostname(host, port: port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(Self.mostConnections)),
            onServerRunning: { channel in ready(channel.localAddress?.port ?? port) })
        try await application.runService()
    }

    private func router() -> Router<CallContext> {
        let router = Router(context: CallContext.self)
        router.add(middleware: RequestDeadline(longest: Self.longestRequest))
        for route in Route.all {
            let path = RouterPath(route.path)
            switch route.method {
            case .get: router.get(path) { try await answer(route, $0, $1) }
            case .post: router.post(path) { try await answer(route, $0, $1) }
            }
        }
        return router
    }

    private func answer(
        _ route: Route, _ request: Request, _ context: CallContext
    ) async throws -> Response {
        // Asked here, for every route: none can forget it.
        let isAdministrator = isAdministrator(request.headers)
        if !isAdministrator, let wait = wait(for: context) {
            return try busy(after: wait)
        }
        if route.audience == .administrator, !isAdministrator {
            return try response(.json(["code": "UNAUTHORIZED"], status: 401))
        }
        return try await budget.collecting(request.body, upTo: route.limit) { body in
            switch body {
            case .tooLarge: return try response(.json(["code": "TOO_LARGE"], status: 413))
            case .busy: return try busy(after: Self.fullWait)
            case .whole(let bytes):
                let call = RouteCall(body: bytes, id: context.parameters.get("id") ?? "")
                do {
                    return try response(await route.answer(service.refreshed(), call))
                } catch {
                    return try response(.refusal(error, for: route.audience))
                }
            }
        }
    }

    private func busy(after seconds: Double) throws -> Response {
        var busy = try response(.json(["code": "BUSY"], status: 429))
        busy.headers[.retryAfter] = String(Int(seconds.rounded(.up)))
        return busy
    }

    /// How long this caller has to wait, if it calls too often.
    private func wait(for context: CallContext) -> Double? {
        let now = ContinuousClock().now - Self.start
        return limit?.wait(
            for: RateLimit.key(of: context.channel.remoteAddress),
            now: Double(now.components.seconds) + Double(now.components.attoseconds) * 1e-18)
    }

    private static let start = ContinuousClock().now

    /// The token is compared by its hash, in a time that says nothing of it.
    private func isAdministrator(_ headers: HTTPFields) -> Bool {
        guard let shown = headers[.authorization], shown.hasPrefix("Bearer ") else { return false }
        return constantTimeEqual(
            HashAlgorithm.sha256.digest(Array(shown.dropFirst(7).utf8)), tokenHash)
    }

    private func response(_ answer: RouteAnswer) throws -> Response {
        let type: String
        let bytes: [UInt8]
        switch answer.content {
        case .bytes(let content): (type, bytes) = ("application/octet-stream", content)
        case .json(let content): (type, bytes) = ("application/json", content)
        }
        return Response(
            status: .init(code: answer.status),
            headers: [
                .contentType: type, .cacheControl: "no-store",
                .xContentTypeOptions: "nosniff",
            ], body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
