import ArgumentParser
import HoldfastConsole
import HoldfastErrors
import HoldfastFiles
import HoldfastServer
import HoldfastServices

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves devices and administrators over HTTPS until it is told to end.",
        discussion: """
            Devices know the server by the key that their trust file names. Administrators show \
            the token that `admin-token` prints.
            """)

    @OptionGroup var data: DataOptions
    @Option(help: "Address and port; port 0 takes any that is free.") var listen = "127.0.0.1:8443"
    @Option(
        help:
            "Calls a second for each address without the token, ten times as many at once; 0 for no limit."
    )
    var rate = 10.0

    mutating func run() async throws {
        let halves = listen.split(separator: ":", omittingEmptySubsequences: false)
        guard halves.count >= 2, let port = halves.last.flatMap({ UInt16($0) }) else {
            throw ValidationError("--listen takes ADDRESS:PORT")
        }
        guard rate >= 0, rate.isFinite else {
            throw ValidationError("--rate takes a number of calls a second, or 0")
        }
        let host = halves.dropLast().joined(separator: ":")
        let server = try WebServer(data.service(), keys: data.keys(), rate: rate)
        do {
            try await server.run(host: host, port: Int(port)) { port in
                console.note("listening on https://\(host):\(port)")
            }
        } catch let error as any OperatorError {
            throw error
        } catch {
            throw ListenError(explanation: "cannot serve on \(listen): \(error)")
        }
    }
}

/// The address cannot be used.
private struct ListenError: OperatorError {
    let explanation: String
    let remedy: String? = "see whether another program listens there, or give another --listen"
    let stableCode = "LISTEN_FAILED"
    let exitStatus = ExitStatus.failure
}

struct AdminToken: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "admin-token", abstract: "Prints what administrators show over the network.")

    @OptionGroup var data: DataOptions

    func run() throws { console.line(try data.keys().adminToken()) }
}
