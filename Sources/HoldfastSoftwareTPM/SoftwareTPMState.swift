/// What a software TPM keeps on disk, in memory: its seeds, keys, NV and counters.
///
/// A copy is the same TPM, with the same endorsement key. The bytes are secret in principle and
/// worthless in practice: software TPMs are for tests and demonstrations.
public struct SoftwareTPMState: Sendable, CustomStringConvertible {
    /// swtpm's permanent state, without which a directory has no TPM.
    static let permanentFile = "tpm2-00.permall"

    private let files: [String: [UInt8]]

    /// Reads a state directory.
    ///
    /// swtpm replaces its file in one step, so the state of a TPM that runs is a whole one too: as
    /// it was after the last change of NV.
    ///
    /// - Parameter directory: absolute path.
    /// - Throws: code `.notManufactured` when the directory has no TPM.
    public init(reading directory: String) throws(SoftwareTPMError) {
        let directory = try PlainPath(directory)
        var files: [String: [UInt8]] = [:]
        if Files.exists(directory.text) {
            for name in try Files.names(in: directory.text) where name.hasPrefix("tpm2-00.") {
                files[name] = try Files.read(directory.appending(name).text)
            }
        }
        guard files[Self.permanentFile] != nil else {
            throw SoftwareTPMError(
                .notManufactured, "\(directory.text) has no software TPM",
                hint: "make one with `holdfast-sim tpm start`")
        }
        self.files = files
    }

    /// Writes the state into a directory, which is made when it is not there.
    ///
    /// - Parameter directory: absolute path; must not have a TPM.
    /// - Throws: code `.alreadyManufactured` when it has one.
    public func write(to directory: String) throws(SoftwareTPMError) {
        let directory = try PlainPath(directory)
        try Self.requireNone(in: directory)
        try Files.makeDirectory(directory.text)
        for (name, bytes) in files where name != Self.permanentFile {
            try Files.create(directory.appending(name).text, bytes)
        }
        if let permanent = files[Self.permanentFile] {
            try Files.create(directory.appending(Self.permanentFile).text, permanent)
        }
    }

    /// Copies the state of one directory into another.
    ///
    /// - Parameters:
    ///   - source: absolute path of a state directory.
    ///   - destination: absolute path; must not have a TPM.
    /// - Throws: code `.notManufactured` or `.alreadyManufactured`.
    public static func copyState(
        from source: String, to destination: String
    ) throws(SoftwareTPMError) {
        try SoftwareTPMState(reading: source).write(to: destination)
    }

    static func exists(in directory: PlainPath) -> Bool {
        Files.exists(directory.appending(permanentFile).text)
    }

    static func requireNone(in directory: PlainPath) throws(SoftwareTPMError) {
        guard !exists(in: directory) else {
            throw SoftwareTPMError(
                .alreadyManufactured, "\(directory.text) already has a software TPM",
                hint: "choose another directory, or remove this one if its keys are not needed")
        }
    }

    /// How large it is; nothing of the content.
    public var description: String {
        "SoftwareTPMState(\(files.values.reduce(0) { $0 + $1.count }) bytes, not shown)"
    }
}

extension SoftwareTPMState: CustomReflectable {
    /// Empty, so that a dump shows no state.
    public var customMirror: Mirror { Mirror(self, children: []) }
}
