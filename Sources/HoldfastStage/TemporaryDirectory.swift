import FoundationEssentials
import Glibc
import HoldfastTPM

/// A directory that goes away with its owner.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/holdfast-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else {
            throw TPMError(.invalidRequest, "no directory below /tmp can be made")
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
