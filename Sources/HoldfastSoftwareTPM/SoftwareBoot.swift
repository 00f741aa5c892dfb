public import HoldfastCrypto
public import HoldfastErrors
public import HoldfastTPM
public import HoldfastTPMWire

/// What firmware does to a TPM after power-on: it measures into PCR 0 to 7.
public struct SoftwareBoot: Sendable {
    /// One extension of a PCR.
    public struct Measurement: Sendable {
        public let index: PCRIndex
        /// What is measured; each bank is extended with its own hash of it, or with a digest that
        /// a log states.
        public let digests: [HashAlgorithm: [UInt8]]

        /// Measures data into all banks.
        public init(_ data: [UInt8], into index: PCRIndex) {
            self.index = index
            digests = Dictionary(
                uniqueKeysWithValues: HashAlgorithm.allCases.map { ($0, $0.digest(data)) })
        }

        /// Extends the digests of a logged event.
        public init(digests: [HashAlgorithm: [UInt8]], into index: PCRIndex) {
            self.index = index
            self.digests = digests
        }
    }

    public let measurements: [Measurement]

    public init(_ measurements: [Measurement]) { self.measurements = measurements }

    /// The boot of a machine without a log: into each PCR from 0 to 7 the text
    /// `holdfast-sim boot N`, N being its number, and then the separator, four zero bytes.
    public static let documented = SoftwareBoot(
        PCRIndex.firmware.flatMap { index in
            [
                Measurement(Array("holdfast-sim boot \(index.rawValue)".utf8), into: index),
                Measurement([0, 0, 0, 0], into: index),
            ]
        })

    /// The boot that a log describes.
    ///
    /// - Throws: when the log starts PCR 0 from another locality, which a software TPM cannot do.
    public init(replaying log: EventLog) throws(SoftwareTPMError) {
        guard log.startupLocality == 0 else {
            throw SoftwareTPMError(
                .logNotPlayable,
                "the log starts at locality \(log.startupLocality), which swtpm cannot play",
                hint: "use the log of a machine whose firmware starts the TPM at locality 0")
        }
        var measurements: [Measurement] = []
        for event in log.events {
            guard let index = event.extendedPCR else { continue }
            var digests: [HashAlgorithm: [UInt8]] = [:]
            for hash in HashAlgorithm.allCases {
                if let digest = event.digest(hash.id) { digests[hash] = [UInt8](digest) }
            }
            measurements.append(Measurement(digests: digests, into: index))
        }
        self.init(measurements)
    }

    /// The same boot with something more at its end.
    public func adding(_ more: [Measurement]) -> SoftwareBoot {
        SoftwareBoot(measurements + more)
    }

    /// Extends the PCRs.
    ///
    /// A bank for which the boot has no digest is left as it is: that is what a firmware does that
    /// does not know the bank.
    public func run(on connection: TPMConnection) throws(TPMError) {
        let banks = try connection.activeBanks()
        for measurement in measurements {
            let digests = banks.compactMap { bank in
                measurement.digests[bank].map { (bank, $0) }
            }
            guard !digests.isEmpty else { continue }
            try connection.run(
                PCRExtendCommand(measurement.index, digests: digests), [.emptyAuth])
        }
    }
}

extension SoftwareMachine {
    /// A connection to the machine's TPM.
    public func connection(random: RandomSource) -> TPMConnection {
        TPMConnection(UnixSocketTransport(path: socketPath), random: random)
    }

    /// Switches the machine on: makes the TPM at the first start, starts it, and measures.
    ///
    /// - Parameter ca: a shared certificate authority for the first start; `nil` for its own.
    public func powerOn(
        _ boot: SoftwareBoot, ca: String?, random: RandomSource
    ) throws {
        if !isManufactured { try manufacture(ca: ca) }
        try launch()
        let connection = connection(random: random)
        defer { connection.close() }
        do {
            try boot.run(on: connection)
        } catch {
            try? kill()
            throw error
        }
    }

    /// Switches the machine off in order: the TPM saves its clock.
    public func powerOff(random: RandomSource) throws {
        guard try isRunning() else { return try terminate() }
        let connection = connection(random: random)
        try connection.shutdown(.clear)
        connection.close()
        try terminate()
    }
}

extension SoftwareTPMError: OperatorError {
    public var explanation: String { message }
    public var remedy: String? { hint }
    public var stableCode: String { "SOFTWARE_TPM" }
    public var exitStatus: ExitStatus {
        switch code {
        case .notRunning, .startFailed, .timedOut: .unreachable
        default: .failure
        }
    }
}
