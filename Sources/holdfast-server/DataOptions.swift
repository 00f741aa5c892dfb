import ArgumentParser
import Foundation
import HoldfastConsole
import HoldfastCrypto
import HoldfastFiles
import HoldfastServer
import HoldfastServices

/// Where the vendor's keys and records are.
struct DataOptions: ParsableArguments {
    @Option(
        help: "The directory of `init`. HOLDFAST_DATA is the default.", completion: .directory)
    var data: String?

    private func directory() throws -> String {
        guard let path = data ?? environment("HOLDFAST_DATA") else {
            throw ValidationError("give --data DIR, or set HOLDFAST_DATA")
        }
        return try Files.absolutePath(path)
    }

    func keys() throws -> VendorKeys { VendorKeys(directory: try directory()) }

    /// The file of the records.
    func records() throws -> String { try directory() + "/records.sqlite" }

    func store() throws -> SQLiteStore {
        // Without keys there is no vendor, and no database is made.
        _ = try keys().trust()
        return try SQLiteStore(path: records())
    }

    func service() throws -> VendorService {
        try VendorService(
            keys: keys(), store: store(), random: .system,
            now: { UInt64(max(0, Date().timeIntervalSince1970)) })
    }
}

/// A date for a person.
func date(_ seconds: UInt64) -> String {
    Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
}
