/// What is wrong with a list of the Integrity Measurement Architecture.
///
/// `entry` counts from 0.
@nonexhaustive
public enum IMAError: Error, Sendable, Hashable {
    /// The list has no entry.
    case empty
    /// The first bytes are those of no list.
    case notAList
    /// The list ends inside an entry.
    case truncated(entry: Int)
    /// A length, or the number of entries, is above the maximum.
    case tooLarge(entry: Int, field: String, size: Int, maximum: Int)
    /// An entry of a template that is not known.
    case unknownTemplate(entry: Int, name: String)
    /// A template whose ASCII form does not tell what was hashed.
    case binaryNeeded(entry: Int, name: String)
    /// An entry contradicts its template.
    case malformed(entry: Int, reason: String)
}

extension IMAError: CustomStringConvertible {
    /// One line for a person, without the file's name.
    public var description: String {
        switch self {
        case .empty: "the list is empty"
        case .notAList:
            "this is no list of measurements: neither an ASCII list nor a binary one begins so"
        case .truncated(let entry): "the list ends inside entry \(entry)"
        case .tooLarge(let entry, let field, let size, let maximum):
            "entry \(entry): `\(field)` is \(size), at most \(maximum) is accepted"
        case .unknownTemplate(let entry, let name):
            "entry \(entry) has the template `\(name)`, which is not known"
        case .binaryNeeded(let entry, let name):
            "entry \(entry): the ASCII form of the template `\(name)` does not tell what was "
                + "hashed; take binary_runtime_measurements"
        case .malformed(let entry, let reason): "entry \(entry): \(reason)"
        }
    }
}
