public import HoldfastCrypto
public import HoldfastDevice
import HoldfastProtocol
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
    public static func enroll(
        trustFile: [UInt8], url: String?, state: StateDirectory, tpm: TPMConnection,
        random: RandomSource
    ) throws -> (device: EnrolledDevice, applied: EnrolledDevice.Applied) {
        let enrollment = Enrollment(state, tpm: tpm, random: random)
        let request = try enrollment.makeRequest(trustFile: trustFile).encoded
        guard let trust = try state.trust() else { throw SyncError.noServer }
        let transport = try HTTPSTransport(url: url, trust: trust)
        _ = try enrollment.activate(response: transport.post(request, to: "/v1/enroll"))
        let device = try EnrolledDevice(state, tpm: tpm, random: random)
        return (device, try exchange(device, transport))
    }

    /// Settles usage and renews licenses.
    public static func sync(_ device: EnrolledDevice, url: String?) throws -> EnrolledDevice.Applied
    {
        try exchange(device, HTTPSTransport(url: url, trust: device.vendor))
    }

    private static func exchange(
        _ device: EnrolledDevice, _ transport: HTTPSTransport
    ) throws -> EnrolledDevice.Applied {
        func once() throws -> EnrolledDevice.Applied {
            try device.apply(
                reply: transport.post(device.makeEvidence().encoded, to: "/v1/bundle"))
        }
        let applied = try once()
        // Evidence over a nonce that was used before is answered with new ones.
        return applied.outcome == .stale ? try once() : applied
    }
}
