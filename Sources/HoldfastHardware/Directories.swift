import Glibc
import HoldfastFiles

/// The names in a directory of sysfs, in order; none when it is not there.
func directoryEntries(_ path: String) -> [String] {
    (try? Files.names(in: path)) ?? []
}

extension UdevDevice {
    /// Whether there is a link below the device, wherever it leads.
    func hasLink(_ name: String) -> Bool { Files.exists(path + "/" + name) }
}
