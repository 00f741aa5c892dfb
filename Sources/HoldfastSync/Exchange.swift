public import HoldfastCrypto
public import HoldfastDevice
public import HoldfastProtocol
public import HoldfastTPM

/// A device and its vendor's server: the bytes that also travel by file, carried by HTTPS.
public enum Exchange {
    /// Enrolls a device: both halves, and evidence over a nonce from inside the response.
    ///
    /// An interrupted run is taken up by the next one.
    ///
    /// - Parameters:
    ///   - trustFile: as it was received.
    ///   - url: `https://…`; the first one of the trust file without it.
    ///   - facts: makes the ids of this machine's components for a vendor's salt.
    public static func enroll(
        trustFile: [UInt8], url: String?, state: StateDirectory, tpm: TPMConnection,
        random: RandomSource, facts: @escaping (_ salt: [UInt8]) throws -> [HardwareFact]
    ) throws -> (device: EnrolledDevice, applied: EnrolledDevice.Applied) {
        let enrollment = Enrollment(state, tpm: tpm, random: random, facts: facts)
        let request = try enrollment.makeRequest(trustFile: trustFile).encoded
        guard let trust = try state.trust() else { throw SyncError.noServer }
        let transport = try HTTPSTransport(url: url, trust: trust)
        _ = try enrollment.activate(response: transport.post(request, to: "/v1/enroll"))
        let device = try EnrolledDevice(state, tpm: tpm, random: random)
        return (device, try exchange(transport) { body in try body(device) })
    }

    /// Settles usage and renews licenses.
    ///
    /// - Parameters:
    ///   - url: `https://…`; the first one of the trust file without it.
    ///   - lend: lends the device. It is called before and after each time that the server is asked,
    ///     so that a slow server keeps neither the state directory nor the TPM.
    public static func sync(
        url: String?, lend: (_ body: (EnrolledDevice) throws -> Void) throws -> Void
    ) throws -> EnrolledDevice.Applied {
        var trust: TrustStatement?
        try lend { trust = $0.vendor }
        guard let trust else { throw SyncError.noServer }
        return try exchange(HTTPSTransport(url: url, trust: trust), lend)
    }

    private static func exchange(
        _ transport: HTTPSTransport,
        _ lend: (_ body: (EnrolledDevice) throws -> Void) throws -> Void
    ) throws -> EnrolledDevice.Applied {
        func post(recollecting: Bool) throws -> [UInt8] {
            var evidence: [UInt8] = []
            try lend { evidence = try $0.makeEvidence(recollecting: recollecting).encoded }
            return try transport.post(evidence, to: "/v1/bundle")
        }
        var isAskedForMore = false
        func once() throws -> EnrolledDevice.Applied {
            let reply: [UInt8]
            do {
                reply = try post(recollecting: false)
            } catch SyncError.refused(Recollection.recallCode) {
                // The server was restored from a backup: what it said before is here.
                reply = try post(recollecting: true)
            }
            var applied: EnrolledDevice.Applied?
            try lend { device in
                let demanded = try device.measurementDemand()
                applied = try device.apply(reply: reply)
                isAskedForMore = try device.measurementDemand() != demanded
            }
            guard let applied else { throw SyncError.noServer }
            return applied
        }
        let applied = try once()
        // Evidence over a nonce that was used before is answered with new ones.
        // So is evidence that shows less than a policy asks for, with what to show.
        let isWorthAnother =
            applied.outcome == .stale || applied.outcome == .pendingPolicy && isAskedForMore
        return isWorthAnother ? try once() : applied
    }
}
