public import HoldfastCrypto
public import HoldfastErrors
import HoldfastFiles
public import HoldfastLicensing
public import HoldfastProtocol

/// Where a machine without a TPM keeps a test license.
///
/// Nothing here is secret or sealed: whoever can write to it can choose any answer. Only what was made for
/// tests looks at it, and it never is the state directory of an enrolled device.
///
/// docs/sdk.md, "Without a TPM".
public struct TestDirectory: Sendable {
    private let path: String

    /// Names a directory; nothing is read.
    public init(_ path: String) { self.path = path }

    private func file(_ name: String) -> String { path + "/" + name }

    /// Verifies a test license and keeps it with the trust file of its vendor.
    ///
    /// - Throws: ``TestDirectoryError/ofADevice`` in the state directory of a device.
    public func install(_ bytes: [UInt8], trust text: [UInt8]) throws -> TestLicenseDocument {
        let trust = try StateDirectory.statement(trustFile: text)
        let document = try TestLicenseDocument(decoding: bytes, issuers: trust.issuerKeys)
        try Files.makePrivateDirectory(path)
        guard !["request", "statement"].contains(where: { Files.exists(file($0)) }) else {
            throw TestDirectoryError.ofADevice
        }
        try Files.write(text, to: file("trust"), mode: 0o644)
        try Files.write(bytes, to: file("test-license"), mode: 0o644)
        try choose("ACTIVE")
        return document
    }

    /// Chooses the state that answers are for.
    public func choose(_ state: String) throws {
        guard TestStanding.states[state] != nil else { throw TestDirectoryError.noState(state) }
        try Files.write(Array((state + "\n").utf8), to: file("test-state"), mode: 0o644)
    }

    /// Which vendor this is.
    public func vendorID() throws -> VendorID { try trust().vendorID }

    private func trust() throws -> TrustStatement {
        guard
            let text = try Files.readIfPresent(
                file("trust"), maximum: PASETOToken.maximumTextSize + 1)
        else { throw TestDirectoryError.nothing }
        return try StateDirectory.statement(trustFile: text)
    }

    private func document() throws -> TestLicenseDocument {
        guard
            let bytes = try Files.readIfPresent(
                file("test-license"), maximum: Container.maximumSize)
        else { throw TestDirectoryError.nothing }
        return try TestLicenseDocument(decoding: bytes, issuers: trust().issuerKeys)
    }

    /// Where the license stands.
    ///
    /// - Parameter wallClock: UTC seconds.
    public func standing(wallClock: UInt64) throws -> TestStanding {
        let document = try document()
        let chosen = try Files.readIfPresent(file("test-state"), maximum: 64) ?? []
        let usage = file("test-usage/usage.sqlite")
        return TestStanding(
            document,
            chosen: String(decoding: chosen, as: UTF8.self).filter { !$0.isWhitespace },
            wallClock: wallClock,
            used: Files.exists(usage) ? try records(random: .system).usage()?.totals ?? [:] : [:])
    }

    /// Opens the usage that was recorded in tests; it is never sealed and nobody bills it.
    public func records(random: RandomSource) throws -> LedgerStore {
        guard Files.exists(file("test-license")) else { throw TestDirectoryError.nothing }
        try Files.makePrivateDirectory(file("test-usage"))
        let store = try LedgerStore(path: file("test-usage/usage.sqlite"), random: random)
        try store.beginFirstEra(counter: 0, ticks: 0)
        return store
    }

    /// What stands for the secret of an entitlement: the same everywhere, and no secret.
    ///
    /// - Returns: SHA-256 of `holdfast test secret`, a zero byte, the product, a zero byte and the
    ///   entitlement.
    public func secret(of entitlement: String) throws -> [UInt8] {
        HashAlgorithm.sha256.digest(
            Array("holdfast test secret\0\(try document().license.product)\0\(entitlement)".utf8))
    }
}

/// Why a test license is not used.
public enum TestDirectoryError: Error, Sendable, Hashable, OperatorError {
    /// There is no test license.
    case nothing
    /// A device is enrolled here.
    case ofADevice
    case noState(String)

    public var explanation: String {
        switch self {
        case .nothing: "there is no test license in this directory"
        case .ofADevice: "this is the state directory of an enrolled device"
        case .noState(let name): "`\(name)` is no state of a license"
        }
    }
    public var remedy: String? {
        switch self {
        case .nothing: "install one: `holdfast test install FILE --trust TRUST --state DIR`"
        case .ofADevice: "give another directory with --state"
        case .noState:
            "choose one of " + TestStanding.states.keys.sorted().joined(separator: ", ")
        }
    }
    public var stableCode: String {
        switch self {
        case .nothing: "NO_LICENSE"
        case .ofADevice: "ENROLLED"
        case .noState: "ARGUMENT_INVALID"
        }
    }
    public var exitStatus: ExitStatus {
        switch self {
        case .nothing, .ofADevice: .refused
        case .noState: .usage
        }
    }
}
