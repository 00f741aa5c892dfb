/// A parser of bytes from outside, with what must hold of everything that it reads.
///
/// docs/fuzzing.md lists them.
public struct FuzzTarget: Sendable, CustomStringConvertible {
    /// Words with hyphens; the name of its folder of inputs as well.
    public let name: String
    /// Longer inputs reach nothing that shorter ones do not.
    public let maximumSize: Int
    /// Inputs to start from, made by our own encoders.
    public let seeds: @Sendable () throws -> [[UInt8]]
    /// How many of the first seeds must be accepted; the others only lead the way.
    public let acceptedSeeds: Int
    private let body: Body

    private enum Body: Sendable {
        case now(@Sendable ([UInt8]) throws -> Bool)
        case later(@Sendable ([UInt8]) async throws -> Bool)
    }

    /// - Parameter check: reads the input and says whether it was accepted; throws
    ///   ``BrokenProperty`` when something does not hold, anything else when it cannot be run.
    init(
        _ name: String, maximumSize: Int = 4096, accepted: Int = 1,
        seeds: @escaping @Sendable () throws -> [[UInt8]],
        check: @escaping @Sendable ([UInt8]) throws -> Bool
    ) {
        self.name = name
        self.maximumSize = maximumSize
        self.seeds = seeds
        acceptedSeeds = accepted
        body = .now(check)
    }

    /// The same for a parser that waits.
    init(
        _ name: String, maximumSize: Int = 4096, accepted: Int = 1,
        seeds: @escaping @Sendable () throws -> [[UInt8]],
        waiting check: @escaping @Sendable ([UInt8]) async throws -> Bool
    ) {
        self.name = name
        self.maximumSize = maximumSize
        self.seeds = seeds
        acceptedSeeds = accepted
        body = .later(check)
    }

    /// Whether ``check(_:)`` is there; otherwise ``checkWaiting(_:)`` must be called.
    public var isImmediate: Bool {
        if case .now = body { return true }
        return false
    }

    /// Reads an input.
    ///
    /// - Returns: whether it was accepted.
    /// - Throws: ``BrokenProperty``.
    public func check(_ bytes: [UInt8]) throws -> Bool {
        guard case .now(let check) = body else { throw BrokenProperty("this target waits") }
        return try check(bytes)
    }

    /// Reads an input, of whichever kind the parser is.
    public func checkWaiting(_ bytes: [UInt8]) async throws -> Bool {
        switch body {
        case .now(let check): try check(bytes)
        case .later(let check): try await check(bytes)
        }
    }

    public var description: String { name }

    /// All of them.
    public static let all: [FuzzTarget] =
        tpmTargets + logTargets + keyTargets + textTargets + documentTargets + tokenTargets
        + ledgerTargets
}

/// Something that should hold of an input does not.
public struct BrokenProperty: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// Demands that something holds of the input.
func demand(_ condition: Bool, _ what: @autoclosure () -> String) throws {
    guard condition else { throw BrokenProperty(what()) }
}
