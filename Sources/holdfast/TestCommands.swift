import ArgumentParser
import Foundation
import HoldfastConsole
import HoldfastCrypto
import HoldfastDevice
import HoldfastErrors
import HoldfastFiles
import HoldfastLicensing
import HoldfastProtocol

struct TestCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test", abstract: "Test licenses, on machines without a TPM.",
        discussion: """
            For whoever writes an application: it is answered as in the state that you choose. Programs \
            for customers do not look at test licenses, and neither does any other command.
            """,
        subcommands: [
            TestInstall.self, TestSet.self, TestStatus.self, TestCheck.self, TestMeter.self,
        ])
}

/// Where the test license is; never the state directory of a device.
struct TestOptions: ParsableArguments {
    @Option(help: "A directory for the test license.", completion: .directory) var state: String
    @OptionGroup var common: CommonOptions

    func open() throws -> TestDirectory { TestDirectory(try Files.absolutePath(state)) }

    func standing() throws -> TestStanding {
        try open().standing(wallClock: UInt64(max(0, Date.now.timeIntervalSince1970)))
    }

    /// Says what the license grants, and in which state.
    func show() throws {
        let printed = PrintedTest(try standing())
        try console.result(printed, text: printed.text, format: common.format)
    }
}

private struct PrintedTest: Encodable {
    let entitlements: [String]
    let license: String
    let limits: [PrintedLimit]
    let mode: LicenseMode
    let product: String
    let state: LicenseState
    let terms: String
    let test = true
    let until: UInt64

    private enum CodingKeys: String, CodingKey {
        case entitlements, license, limits, mode, product, state, terms, test, until
    }

    init(_ standing: TestStanding) {
        let license = standing.document.license
        entitlements = license.entitlements.map(\.name)
        self.license = license.id.description
        limits = standing.allowances.sorted { $0.key < $1.key }.map(PrintedLimit.init)
        mode = standing.mode
        product = license.product
        state = standing.state
        terms = standing.document.terms.id
        until = license.endsAt
    }

    var text: String {
        ([
            "TEST      this license is for tests, without a TPM; nothing holds it",
            "license   \(license), \(product), until \(date(until))",
            "state     \(state.rawValue)" + (mode == .locked ? " (LOCKED)" : ""),
            "grants    " + entitlements.joined(separator: ", "),
        ] + limits.map { "limit     \($0.text)" }).joined(separator: "\n")
    }
}

struct TestInstall: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install", abstract: "Keeps a test license of a vendor.")

    @OptionGroup var test: TestOptions
    @Option(help: "The vendor's trust file.") var trust: String
    @Argument(help: "What `holdfast-server license test` wrote.") var file: String

    func run() throws {
        _ = try test.open().install(
            Files.read(file, maximum: Container.maximumSize),
            trust: Files.read(trust, maximum: 1 << 20))
        try test.show()
    }
}

struct TestSet: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Chooses the state that answers are for.")

    @OptionGroup var test: TestOptions
    @Argument(help: "ACTIVE, GRACE, LOCKED, EXPIRED and so on.") var wanted: String

    func run() throws {
        try test.open().choose(wanted)
        try test.show()
    }
}

struct TestStatus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "What the test license grants, and in which state.")

    @OptionGroup var test: TestOptions

    func run() throws {
        try test.show()
    }
}

struct TestCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Whether an entitlement may be used; exits with 0 or 2.")

    @OptionGroup var test: TestOptions
    @Argument(help: "The entitlement.") var entitlement: String

    func run() throws {
        try show(test.standing().decide(entitlement), test.common.format)
    }
}

struct TestMeter: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "meter", abstract: "Records usage in a test; nobody bills it.")

    @OptionGroup var test: TestOptions
    @Argument(help: "The name of the meter.") var meter: String
    @Option(help: "How much, 1 to 4294967295.") var quantity: UInt32 = 1

    func validate() throws { try demandUsage(meter, quantity) }

    func run() throws {
        let version = try test.standing().document.terms.version
        let store = try test.open().records(random: .system)
        try store.append(
            [.init(meter: meter, termsVersion: version, quantity: quantity)], ticks: 0, day: 0)
        let total = try store.usage()?.totals[meter] ?? 0
        try console.result(
            Printed(meter: meter, quantity: quantity, total: total),
            text: "TEST  \(meter) +\(quantity), \(total) in all", format: test.common.format)
    }

    private struct Printed: Encodable {
        let meter: String
        let quantity: UInt32
        let test = true
        let total: UInt64

        private enum CodingKeys: String, CodingKey { case meter, quantity, test, total }
    }
}
