import CCurl
import FoundationEssentials
import HoldfastCrypto
public import HoldfastErrors
public import HoldfastProtocol

/// Why a server did not do what it was asked for.
public enum SyncError: Error, Sendable, Hashable, OperatorError {
    /// No connection, or none to the server that the trust file names.
    case unreachable(String)
    /// The server's key is not one that the trust file names.
    case foreignServer
    /// The server says no, with a code of its own.
    case refused(code: String)
    /// The answer makes no sense.
    case malformed(String)
    /// The trust file names no server.
    case noServer
    /// What was given is no address of a server.
    case badURL(String)

    public var explanation: String {
        switch self {
        case .unreachable(let text): "the server cannot be reached: \(text)"
        case .foreignServer: "the server's key is not one that the trust file names"
        case .refused(let code): "the server refuses it: \(code)"
        case .malformed(let text): "the server's answer makes no sense: \(text)"
        case .noServer: "the trust file names no server, or no key of one"
        case .badURL(let text): "`\(text)` is not an address of the form https://…"
        }
    }
    public var remedy: String? {
        switch self {
        case .unreachable: "try again later; everything works offline, or take the file by hand"
        case .foreignServer:
            "check the address; when the vendor's keys changed, take his newest trust file: `holdfast trust install FILE`; until it is explained treat the network as hostile"
        case .refused(SealedEnvelope.unknownKeyCode):
            "take the vendor's newest trust file: `holdfast trust install FILE`"
        case .refused: "ask the vendor, and name the code"
        case .malformed: "try again later"
        case .noServer: "give --server https://…, or take files by hand"
        case .badURL: "give --server https://HOST:PORT"
        }
    }
    public var stableCode: String {
        switch self {
        case .unreachable: "SERVER_UNREACHABLE"
        case .foreignServer: "SERVER_KEY_MISMATCH"
        case .refused(let code): code
        case .malformed: "SERVER_ANSWER_MALFORMED"
        case .noServer, .badURL: "SERVER_UNKNOWN"
        }
    }
    public var exitStatus: ExitStatus {
        switch self {
        case .unreachable, .malformed: .unreachable
        case .foreignServer, .refused, .noServer, .badURL: .refused
        }
    }
}

/// Speaks HTTPS with a vendor's server.
///
/// The server is known by its key, which the trust file names. Names and dates of certificates are
/// not looked at: the wall clock decides nothing.
public struct HTTPSTransport {
    private let url: String
    private let pins: String

    /// The longest answer in bytes.
    private static let maximumAnswer = Container.maximumSize
    private static let connectSeconds = 15
    private static let wholeSeconds = 120

    /// - Parameters:
    ///   - url: `https://…`; the first one of the trust file without it.
    /// - Throws: `.noServer` when there is none, or no key is pinned.
    public init(url: String?, trust: TrustStatement) throws(SyncError) {
        guard let chosen = url ?? trust.urls.first, !trust.tlsKeys.isEmpty else { throw .noServer }
        guard chosen.hasPrefix("https://") else { throw .badURL(chosen) }
        self.url = chosen.hasSuffix("/") ? String(chosen.dropLast()) : chosen
        pins = trust.tlsKeys.map { "sha256//" + Data($0).base64EncodedString() }
            .joined(separator: ";")
    }

    /// Posts a document.
    ///
    /// - Parameter path: for example `/v1/bundle`.
    /// - Returns: the answer; empty when the server has nothing to say.
    public func post(_ body: [UInt8], to path: String) throws(SyncError) -> [UInt8] {
        guard let handle = unsafe curl_easy_init() else {
            throw .unreachable("no memory for a connection")
        }
        defer { unsafe curl_easy_cleanup(handle) }
        let headers = unsafe curl_slist_append(
            /* list: */ nil, "Content-Type: application/octet-stream")
        defer { unsafe curl_slist_free_all(headers) }
        let answer = Answer()
        let options: [(CURLoption, Int)] = [
            // The key decides, and nothing else of a certificate.
            (CURLOPT_SSL_VERIFYPEER, 0), (CURLOPT_SSL_VERIFYHOST, 0),
            (CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2),
            (CURLOPT_NOSIGNAL, 1), (CURLOPT_FOLLOWLOCATION, 0),
            (CURLOPT_CONNECTTIMEOUT, Self.connectSeconds), (CURLOPT_TIMEOUT, Self.wholeSeconds),
        ]
        var code = CURLE_OK
        for (option, value) in options where code == CURLE_OK {
            code = unsafe holdfast_curl_set_long(handle, option, value)
        }
        for (option, value) in [
            (CURLOPT_URL, url + path), (CURLOPT_PINNEDPUBLICKEY, pins),
            (CURLOPT_PROTOCOLS_STR, "https"),
        ] where code == CURLE_OK {
            code = unsafe holdfast_curl_set_text(handle, option, value)
        }
        if code == CURLE_OK { code = unsafe holdfast_curl_set_headers(handle, headers) }
        if code == CURLE_OK {
            code = unsafe body.withUnsafeBytes { bytes in
                unsafe holdfast_curl_set_body(handle, bytes.baseAddress, curl_off_t(bytes.count))
            }
        }
        // Without a pin nothing would be checked at all: an option that is refused ends here.
        guard code == CURLE_OK else { throw Self.failure(code) }
        code = unsafe holdfast_curl_set_writer(
            handle, Self.write, Unmanaged.passUnretained(answer).toOpaque())
        guard code == CURLE_OK else { throw Self.failure(code) }
        code = unsafe curl_easy_perform(handle)
        guard code == CURLE_OK else { throw Self.failure(code) }
        return try Self.judge(unsafe holdfast_curl_status(handle), answer.bytes)
    }

    private static func judge(_ status: Int, _ bytes: [UInt8]) throws(SyncError) -> [UInt8] {
        struct Refusal: Decodable { let code: String }
        switch status {
        case 200, 204: return bytes
        default:
            guard let refusal = try? JSONDecoder().decode(Refusal.self, from: Data(bytes)),
                refusal.code.utf8.count <= 64,
                refusal.code.utf8.allSatisfy({ (0x41...0x5A).contains($0) || $0 == 0x5F })
            else { throw .malformed("status \(status)") }
            // It is not the server's last word.
            guard status < 500, status != 429 else { throw .unreachable(refusal.code) }
            throw .refused(code: refusal.code)
        }
    }

    private static func failure(_ code: CURLcode) -> SyncError {
        guard code != CURLE_SSL_PINNEDPUBKEYNOTMATCH else { return .foreignServer }
        return .unreachable(unsafe String(cString: curl_easy_strerror(code)))
    }

    /// What has come of an answer; used by one call on one thread.
    private final class Answer {
        var bytes: [UInt8] = []
    }

    private static let write: holdfast_curl_writer = { bytes, size, count, context in
        guard let bytes = unsafe bytes, let context = unsafe context else { return 0 }
        let answer = unsafe Unmanaged<Answer>.fromOpaque(context).takeUnretainedValue()
        let length = size * count
        // Another number than was given ends the transfer.
        guard answer.bytes.count + length <= maximumAnswer else { return 0 }
        let buffer = unsafe UnsafeRawBufferPointer(start: bytes, count: length)
        unsafe answer.bytes.append(contentsOf: buffer)
        return length
    }
}
