import FoundationEssentials
public import HoldfastErrors

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
            return try JSONDecoder().decode(T.self, from: Data(bytes))
        } catch let error as PolicyFormatError {
            throw error
        } catch let error as DecodingError {
            throw PolicyFormatError("\(what) \(words(for: error))")
        } catch {
            throw PolicyFormatError("\(what) is not JSON that can be read")
        }
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
