import FoundationEssentials
import HoldfastCrypto
import HoldfastErrors
import HoldfastProtocol
import HoldfastServices

/// Who may call a route; there is no route without an answer to that.
package enum Audience: Sendable, CaseIterable {
    /// Anyone: it says nothing of anybody.
    case everyone
    /// A device: what it sends is sealed and signed, and what it gets is of use to nobody else.
    case device
    /// Whoever shows the admin token.
    case administrator
}

/// What a route answers.
struct RouteAnswer: Sendable {
    enum Content: Sendable {
        case bytes([UInt8])
        case json([UInt8])
    }

    let status: Int
    let content: Content

    static func json(_ value: some Encodable, status: Int = 200) throws -> RouteAnswer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return RouteAnswer(status: status, content: .json([UInt8](try encoder.encode(value))))
    }

    /// What a caller is told of an error: the stable code, and the words for administrators alone.
    static func refusal(_ error: any Error, for audience: Audience) -> RouteAnswer {
        struct Told: Encodable {
            let code: String
            let explanation: String?
            let remedy: String?
        }
        let known = error as? any OperatorError
        let told = Told(
            code: known?.stableCode ?? "UNEXPECTED_FAILURE",
            explanation: audience == .administrator ? known?.explanation : nil,
            remedy: audience == .administrator ? known?.remedy : nil)
        let status = known?.exitStatus == .refused ? 409 : 500
        return (try? .json(told, status: status))
            ?? RouteAnswer(status: 500, content: .bytes([]))
    }
}

/// What a route is given.
struct RouteCall: Sendable {
    let body: [UInt8]
    /// What stands in the place of `:id`.
    let id: String
}

/// One entry of the server's interface.
package struct Route: Sendable {
    /// How it is called.
    package enum Method: Sendable {
        case get
        case post
    }

    package let method: Method
    /// With `:id` where something is named.
    package let path: String
    package let audience: Audience
    /// The longest body in bytes.
    package let limit: Int
    let answer: @Sendable (VendorService, RouteCall) async throws -> RouteAnswer

    /// The whole interface: docs/api.md.
    package static let all: [Route] = [
        Route(method: .get, path: "/healthz", audience: .everyone, limit: 0) { service, _ in
            try service.demandStore()
            return try .json(["status": "ok"])
        },
        Route(method: .post, path: "/v1/enroll", audience: .device, limit: 1 << 18) {
            service, call in
            RouteAnswer(
                status: 200, content: .bytes(try await service.enroll(call.body).response))
        },
        Route(method: .post, path: "/v1/bundle", audience: .device, limit: 12 << 20) {
            service, call in
            let outcome = try service.process(call.body)
            return RouteAnswer(
                status: outcome.reply == nil ? 204 : 200, content: .bytes(outcome.reply ?? []))
        },
        Route(method: .get, path: "/v1/admin/devices", audience: .administrator, limit: 0) {
            service, _ in try .json(service.devices())
        },
        Route(method: .get, path: "/v1/admin/devices/:id", audience: .administrator, limit: 0) {
            service, call in try .json(service.devices(call.id))
        },
        Route(
            method: .post, path: "/v1/admin/devices/:id/approve", audience: .administrator,
            limit: 4096
        ) { service, call in
            struct Body: Decodable { let model: String? }
            let body = try decode(Body.self, call)
            _ = try service.approve(device: call.id, model: body.model)
            return try .json(service.devices(call.id))
        },
        Route(
            method: .post, path: "/v1/admin/devices/:id/licenses", audience: .administrator,
            limit: 1 << 16
        ) { service, call in
            struct Entitlement: Decodable {
                let name: String
                let limit: UInt64?
            }
            struct Body: Decodable {
                let product: String
                let entitlements: [Entitlement]
                let terms: String
                let endsAt: UInt64
            }
            let body = try decode(Body.self, call)
            let issued = try service.issue(
                .init(
                    device: call.id, product: body.product,
                    entitlements: body.entitlements.map { .init(name: $0.name, limit: $0.limit) },
                    terms: body.terms, endsAt: body.endsAt))
            return try .json(["device": issued.device, "license": issued.license.description])
        },
        Route(
            method: .post, path: "/v1/admin/licenses/:id/revoke", audience: .administrator,
            limit: 4096
        ) { service, call in
            let revoked = try service.revoke(license: call.id)
            return try .json(["device": revoked.device, "license": call.id])
        },
        Route(method: .get, path: "/v1/admin/usage", audience: .administrator, limit: 0) {
            service, _ in try .json(service.usage())
        },
    ]

    private static func decode<T: Decodable>(_: T.Type, _ call: RouteCall) throws -> T {
        do { return try JSONDecoder().decode(T.self, from: Data(call.body)) } catch {
            throw ServiceError.badArgument("the body is not the JSON that belongs here")
        }
    }
}
