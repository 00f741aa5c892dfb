import Glibc

/// An absolute path that swtpm's command line and its configuration files can carry.
///
/// With a relative path swtpm 0.7.1 starts in failure mode; a comma ends a value on its command
/// line, and ` #` and a line break do so in the files of `swtpm_setup`. So such paths are refused.
struct PlainPath: Sendable, Hashable {
    /// No empty, `.` or `..` component, and no symbolic link as far as the path exists.
    let text: String

    init(_ path: String) throws(SoftwareTPMError) {
        guard path.hasPrefix("/") else {
            throw SoftwareTPMError(
                .pathNotAccepted, "`\(path)` is not an absolute path",
                hint: "write the path from the root, for example \"$PWD/\(path)\"")
        }
        let refused = path.unicodeScalars.first { scalar in
            scalar.value < 0x20 || scalar.value == 0x7F
                || ",#$%\\\"'".unicodeScalars.contains(scalar)
        }
        guard refused == nil, !path.hasSuffix(" ") else {
            throw SoftwareTPMError(
                .pathNotAccepted, "swtpm cannot use a directory named `\(path)`",
                hint: "use a path without , # $ % \\ \" ' or control characters")
        }
        var missing: [Substring] = []
        var components = path.split(separator: "/")
        while true {
            let existing = "/" + components.joined(separator: "/")
            if let resolved = Self.resolve(existing) {
                text = ([resolved == "/" ? "" : resolved] + missing.map(String.init))
                    .joined(separator: "/")
                return
            }
            guard let last = components.popLast(), last != ".", last != ".." else {
                throw .file("find", path, ENOENT)
            }
            missing.insert(last, at: 0)
        }
    }

    private init(resolved text: String) { self.text = text }

    /// A file in this directory.
    func appending(_ name: String) -> PlainPath { PlainPath(resolved: text + "/" + name) }

    private static func resolve(_ path: String) -> String? {
        guard let resolved = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
