import GRDB
import HoldfastErrors
import HoldfastFiles

extension SQLiteStore {
    /// Writes a copy of the records as they are at one moment, while others go on working.
    ///
    /// - Parameter path: of a file that is not there yet; mode 0600.
    public func backUp(to path: String) throws {
        guard !Files.exists(path) else {
            throw StoreError(
                explanation: "`\(path)` is there already, and a backup is not overwritten",
                remedy: "give another name")
        }
        let partial = path + ".partial"
        try Files.remove(partial)
        // Made first for its mode: SQLite fills a file that is empty.
        try Files.write([], to: partial, mode: 0o600)
        do {
            try copy(to: partial)
            try Files.sync(partial)
            try Files.move(partial, to: path)
        } catch {
            try? Files.remove(partial)
            throw error
        }
    }

    /// Puts a backup in the place of the records.
    ///
    /// The records that were there are kept beside it. The caller begins a new incarnation.
    ///
    /// - Parameters:
    ///   - backup: as ``backUp(to:)`` wrote it.
    ///   - path: of the records.
    ///   - kept: where the present records go, if there are any.
    /// - Throws: ``StoreError`` when the backup is damaged or the records are in use; nothing is
    ///   changed then.
    public static func restore(from backup: String, to path: String, keeping kept: String) throws {
        let partial = path + ".partial"
        try Files.remove(partial)
        try Files.write([], to: partial, mode: 0o600)
        do {
            try copyWhole(backup, to: partial)
            try Files.sync(partial)
            if Files.exists(path) {
                try demandUnused(path)
                try Files.move(path, to: kept)
            }
            try Files.move(partial, to: path)
        } catch {
            try? Files.remove(partial)
            throw error
        }
    }

    /// Copies a backup that is whole, through SQLite: one with a log beside it is read with it.
    private static func copyWhole(_ backup: String, to path: String) throws {
        let wrong = "give the file that `holdfast-server backup` wrote"
        guard Files.exists(backup) else {
            throw StoreError(explanation: "there is no backup `\(backup)`", remedy: wrong)
        }
        do {
            var configuration = Configuration()
            configuration.readonly = true
            let queue = try DatabaseQueue(path: backup, configuration: configuration)
            try queue.inDatabase { database in
                guard try database.tableExists("server"), try database.tableExists("enrollment")
                else {
                    throw StoreError(
                        explanation: "`\(backup)` holds no records of a vendor", remedy: wrong)
                }
                let faults = try String.fetchAll(database, sql: "PRAGMA integrity_check(3)")
                guard faults == ["ok"] else {
                    throw StoreError(
                        explanation: "the backup is damaged: \(faults.joined(separator: "; "))",
                        remedy: "use another backup")
                }
                try database.execute(sql: "VACUUM INTO ?", arguments: [path])
            }
        } catch let error as DatabaseError {
            throw failure(error, backup)
        }
    }

    /// Takes the records for itself, which fails while another program has them open, and folds
    /// their log into the file.
    private static func demandUnused(_ path: String) throws {
        do {
            var configuration = Configuration()
            configuration.prepareDatabase { database in
                try database.execute(sql: "PRAGMA locking_mode = EXCLUSIVE")
            }
            let queue = try DatabaseQueue(path: path, configuration: configuration)
            try queue.writeWithoutTransaction { database in
                try database.execute(sql: "BEGIN EXCLUSIVE; COMMIT")
                try database.execute(sql: "PRAGMA journal_mode = DELETE")
            }
            try queue.close()
        } catch let error as DatabaseError where error.resultCode == .SQLITE_BUSY {
            throw StoreError(
                explanation: "another program works with `\(path)`",
                remedy: "stop `holdfast-server serve` first")
        } catch is DatabaseError {
            // What is damaged is put aside as it is.
            return
        }
    }
}
