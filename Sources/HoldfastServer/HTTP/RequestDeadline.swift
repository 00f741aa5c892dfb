import Hummingbird
import NIOCore

/// The context of a call, with its connection.
struct CallContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// Closes a connection whose request or answer does not come to its end, however steadily it
/// trickles.
struct RequestDeadline: RouterMiddleware {
    typealias Context = CallContext

    /// From the head of a request to the end of its answer.
    let longest: TimeAmount

    func handle(
        _ request: Request, context: CallContext,
        next: @concurrent (Request, CallContext) async throws -> Response
    ) async throws -> Response {
        let channel = context.channel
        let due = channel.eventLoop.scheduleTask(in: longest) { channel.close(promise: nil) }
        var response = try await next(request, context)
        // Of other refusals the body was not read: it may still be on its way.
        guard response.status.code < 400 || response.status.code == 409 else { return response }
        let body = response.body
        response.body = ResponseBody(contentLength: body.contentLength) { writer in
            try await body.write(writer)
            due.cancel()
        }
        return response
    }
}
