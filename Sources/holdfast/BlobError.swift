import HoldfastErrors
import HoldfastTPMWire

/// A file that is not a sealed blob, or not one that was left as it was made.
struct BlobError: OperatorError {
    let what: String
    let error: SealedObjectError
    var explanation: String { "\(what) cannot be used: \(error)" }
    var remedy: String? { "check that it is the right file, and was not changed" }
    var stableCode: String { "BLOB_UNUSABLE" }
    var exitStatus: ExitStatus { .refused }
}
