import HoldfastCrypto
import HoldfastTPM
import HoldfastTPMWire

/// What it takes to send recorded commands again: the HMAC of the recorded TPM2_Unseal is made anew
/// for the nonce that the TPM chooses.
struct RecordedSession {
    let salt: SymmetricSecret
    let nonceCaller: [UInt8]
    let objectName: [UInt8]

    /// For commands without a session that proves anything.
    static var none: RecordedSession {
        RecordedSession(salt: SymmetricSecret([]), nonceCaller: [], objectName: [])
    }

    /// Sends the commands; handles must be those of the recording.
    func replay(_ commands: [[UInt8]], on transport: any TPMTransport) throws {
        var nonceTPM: [UInt8] = []
        for command in commands {
            var bytes = command
            let code = Array(command[6..<10])
            if code == [0, 0, 1, 0x5E] { sign(&bytes, nonceTPM) }
            let response = try transport.exchange(bytes)
            guard response[6..<10].allSatisfy({ $0 == 0 }) else {
                throw TPMError(.refused, "the recording does not run again")
            }
            // TPM2_StartAuthSession with a salt key: its nonce ends the response.
            if code == [0, 0, 1, 0x76], command[10] & 0x80 != 0 {
                nonceTPM = [UInt8](response.suffix(response.count - 16))
            }
        }
    }

    /// Puts the HMAC for the new nonce at the end of the recorded TPM2_Unseal.
    private func sign(_ command: inout [UInt8], _ nonceTPM: [UInt8]) {
        let key = kdfa(
            .sha256, key: salt, label: "ATH", contextU: nonceTPM, contextV: nonceCaller, bits: 256)
        let attributes = command[command.count - 35]
        let digest = HashAlgorithm.sha256.digest([0, 0, 1, 0x5E], objectName)
        let code = HashAlgorithm.sha256.hmac(
            key: key, digest, nonceCaller, nonceTPM, [attributes])
        command.replaceSubrange(command.count - 32..<command.count, with: code)
    }
}
