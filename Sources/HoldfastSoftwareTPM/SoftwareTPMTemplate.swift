/// One manufactured TPM that a test process copies instead of making its own each time.
///
/// All copies have the same endorsement key. Two machines that must differ need
/// ``SoftwareTPMManufacture``.
package struct SoftwareTPMTemplate: Sendable {
    /// The state as it was after manufacture; the TPM was never started since.
    package let state: SoftwareTPMState
    /// `root.pem` and `intermediate.pem` of the authority, by name.
    package let roots: [String: [UInt8]]

    private static let made = result()
    private static let madeToo = result()

    private static func result() -> Result<SoftwareTPMTemplate, SoftwareTPMError> {
        do throws(SoftwareTPMError) {
            return .success(try make())
        } catch {
            return .failure(error)
        }
    }

    /// The template of this process, made at the first call; it leaves nothing on disk.
    package static func shared() throws(SoftwareTPMError) -> SoftwareTPMTemplate {
        try made.get()
    }

    /// Another TPM of another maker, for a second device.
    package static func second() throws(SoftwareTPMError) -> SoftwareTPMTemplate {
        try madeToo.get()
    }

    /// Another TPM, of an authority that makes several.
    ///
    /// - Parameters:
    ///   - authority: absolute path of the authority's directory.
    ///   - roots: absolute path of a directory that gets its certificates.
    package static func manufactured(
        ca authority: String, roots: String
    ) throws(SoftwareTPMError) -> SoftwareTPMTemplate {
        let scratch = try Files.makeTemporaryDirectory()
        defer {
            try? Files.removeDirectory(scratch + "/state")
            try? Files.removeDirectory(scratch)
        }
        let manufacture = try SoftwareTPMManufacture(ca: authority)
        try manufacture.manufacture(state: scratch + "/state", roots: roots)
        return SoftwareTPMTemplate(
            state: try SoftwareTPMState(reading: scratch + "/state"),
            roots: try manufacture.roots())
    }

    private static func make() throws(SoftwareTPMError) -> SoftwareTPMTemplate {
        let scratch = try Files.makeTemporaryDirectory()
        defer {
            for folder in ["state", "ca", "ek-roots"] {
                try? Files.removeDirectory(scratch + "/" + folder)
            }
            try? Files.removeDirectory(scratch)
        }
        let manufacture = try SoftwareTPMManufacture(ca: scratch + "/ca")
        try manufacture.manufacture(state: scratch + "/state", roots: scratch + "/ek-roots")
        return SoftwareTPMTemplate(
            state: try SoftwareTPMState(reading: scratch + "/state"),
            roots: try manufacture.roots())
    }
}
