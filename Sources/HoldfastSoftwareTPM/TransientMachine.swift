import FoundationEssentials

/// A machine in a directory of its own that goes away with its owner: for tests and demonstrations.
package final class TransientMachine {
    /// Where its TPM comes from.
    package enum Origin {
        /// A TPM of its own, which takes a second to make.
        case manufactured
        /// The template of this process: all such machines have the same seeds.
        case template
    }

    package let machine: SoftwareMachine
    /// The machine's directory.
    package var path: String { machine.path }

    /// Makes a machine; it is switched off.
    package init(_ origin: Origin) throws {
        machine = try SoftwareMachine(directory: Files.makeTemporaryDirectory())
        do {
            switch origin {
            case .manufactured: try machine.manufacture(ca: nil)
            case .template:
                let template = try SoftwareTPMTemplate.shared()
                try machine.install(template.state, roots: template.roots)
            }
        } catch {
            try? FileManager.default.removeItem(atPath: machine.path)
            throw error
        }
    }

    deinit {
        try? machine.kill()
        try? FileManager.default.removeItem(atPath: machine.path)
    }
}
