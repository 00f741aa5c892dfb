import FoundationEssentials
public import HoldfastErrors
import HoldfastTPMWire

/// A file of rules that cannot be read; nothing was judged by it.
public struct PolicyFormatError: OperatorError, Hashable {
    public let explanation: String
    public var remedy: String? { "docs/attestation-policy.md has an example of every member" }
    public var stableCode: String { "POLICY_UNREADABLE" }
    public var exitStatus: ExitStatus { .refused }

    /// Says what is wrong with which file.
    init(_ explanation: String) { self.explanation = explanation }
}

/// JSON that somebody writes by hand: a misspelt rule must not fall away in silence.
enum StrictJSON {
    /// Any JSON value, whose content does not matter here.
    private struct Anything: Decodable {
        init(from decoder: any Decoder) {}
    }

    /// Reads an object that has no other members than those named.
    ///
    /// - Parameters:
    ///   - what: for the error, as `the IMA policy`.
    ///   - members: every name that the object may have.
    static func decode<T: Decodable>(
        _: T.Type, _ bytes: [UInt8], what: String, members: Set<String>
    ) throws(PolicyFormatError) -> T {
        do {
            let all = try JSONDecoder().decode([String: Anything].self, from: Data(bytes))
            if let unknown = all.keys.sorted().first(where: { !members.contains($0) }) {
                throw PolicyFormatError("\(what) has the unknown member `\(unknown)`")
            }
            let value = try JSONDecoder().decode(T.self, from: Data(bytes))
            if let twice = try repeatedMember(in: bytes) {
                throw PolicyFormatError(
                    "\(what) has `\(printable(twice.utf8))` twice in one object, or two names that "
                        + "are written with other characters and are the same text")
            }
            return value
        } catch let error as PolicyFormatError {
            throw error
        } catch let error as DecodingError {
            throw PolicyFormatError("\(what) \(words(for: error))")
        } catch {
            throw PolicyFormatError("\(what) is not JSON that can be read")
        }
    }

    /// The first name that stands twice in one object of a text that was read as JSON before.
    ///
    /// A dictionary keeps one of both in silence. Names are compared as text is, so also two paths
    /// that a file system tells apart, with é as one character and as two.
    private static func repeatedMember(in bytes: [UInt8]) throws -> String? {
        // The decoder takes UTF-16 as well, in which quotes stand elsewhere.
        guard String(validating: bytes, as: UTF8.self) != nil, !bytes.contains(0) else {
            throw DecodingError.dataCorrupted(.init(codingPath: [], debugDescription: "UTF-8"))
        }
        // Of each open bracket: the names so far, `nil` in an array.
        var open: [Set<String>?] = []
        var isName = false
        var place = 0
        while place < bytes.count {
            defer { place += 1 }
            switch bytes[place] {
            case UInt8(ascii: "{"):
                open.append([])
                isName = true
            case UInt8(ascii: "["):
                open.append(nil)
                isName = false
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                _ = open.popLast()
                isName = false
            case UInt8(ascii: ","): isName = open.last.map { $0 != nil } ?? false
            case UInt8(ascii: ":"): isName = false
            case UInt8(ascii: "\""):
                let start = place
                place += 1
                while place < bytes.count, bytes[place] != UInt8(ascii: "\"") {
                    place += bytes[place] == UInt8(ascii: "\\") ? 2 : 1
                }
                guard isName, place < bytes.count else { continue }
                let content = bytes[start + 1..<place]
                let name =
                    content.contains(UInt8(ascii: "\\"))
                    ? try JSONDecoder().decode(String.self, from: Data(bytes[start...place]))
                    : String(decoding: content, as: UTF8.self)
                if open[open.count - 1]?.insert(name).inserted == false { return name }
            default: break
            }
        }
        return nil
    }

    private static func words(for error: DecodingError) -> String {
        switch error {
        case .keyNotFound(let key, _): "lacks `\(key.stringValue)`"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "has a wrong type for `\(context.codingPath.last?.stringValue ?? "the whole")`"
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            "has a wrong value for `\(context.codingPath.last?.stringValue ?? "the whole")`"
        default: "is not JSON that can be read"
        }
    }
}
