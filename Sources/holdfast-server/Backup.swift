import ArgumentParser
import Foundation
import HoldfastConsole
import HoldfastServer
import HoldfastServices

struct Backup: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Copies the records to a file; the server may go on.",
        discussion: """
            The keys are not in it: keep a copy of the directory of `init` apart, without \
            records.sqlite.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "The file to write; it must not be there.", completion: .file()) var out: String

    struct Printed: Encodable { let backup: String }

    func run() throws {
        try data.store().backUp(to: out)
        try console.result(
            Printed(backup: out), text: "the records are copied to \(out)", format: common.format)
    }
}

struct Forget: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Forgets what is old and not needed to go on.",
        discussion: """
            Without --yes it counts. Audit, old evidence, leases, replies, settled heads and used \
            nonces go, and what devices showed of their hardware when their enrollment has ended. \
            Totals, licenses and the newest evidence stay. Run it from a timer; backups are yours to \
            delete.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "Age in days; 400 or more, since a device may answer that long.") var olderThan:
        UInt32
    @Flag(help: "Forget, and do not only count.") var yes = false

    func run() throws {
        let day: UInt64 = 86_400
        let forgotten = try data.service().forget(
            olderThan: UInt64(olderThan) * day, isTrial: !yes)
        try console.result(
            forgotten,
            text: (yes ? "forgotten: " : "would be forgotten, with --yes: ") + forgotten.text,
            format: common.format)
    }
}

struct Restore: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Puts a backup in the place of the records.",
        discussion: """
            The server takes a new incarnation, and asks every device once for what it had signed \
            since: replies, receipts, licenses and approvals come back that way. The records that \
            are there now are kept beside them. Stop `serve` first.
            """)

    @OptionGroup var data: DataOptions
    @OptionGroup var common: CommonOptions
    @Option(help: "As `backup` wrote it.", completion: .file()) var from: String
    @Flag(help: "Go on although records are there now.") var yes = false

    struct Printed: Encodable {
        let incarnation: UInt64
        let kept: String?
    }

    func run() throws {
        let path = try data.records()
        let isThere = FileManager.default.fileExists(atPath: path)
        guard !isThere || yes else {
            throw ValidationError(
                "there are records: \(path). They would be kept beside the restored ones, and no longer used; say --yes"
            )
        }
        let kept = path + ".before-" + String(Int(Date().timeIntervalSince1970))
        let known = isThere ? try? data.service().incarnation() : nil
        try SQLiteStore.restore(from: from, to: path, keeping: kept)
        let incarnation = try data.service().beginRestored(above: known ?? 0)
        try console.result(
            Printed(incarnation: incarnation, kept: isThere ? kept : nil),
            text:
                "restored; the server has incarnation \(incarnation), and each device brings what is missing when it is heard next"
                + (isThere ? "\nthe records of before are kept in \(kept)" : ""),
            format: common.format)
    }
}
